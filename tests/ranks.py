"""Run a job in several processes that can reach each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def worker(rank: int, job: Callable[[int, int], Any], world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/rendezvous", rank=rank, world_size=world, timeout=timedelta(seconds=30)
    )
    try:
        torch.save(job(rank, world), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def spawned(job: Callable[[int, int], Any], world: int, folder: Path) -> list[Any]:
    torch.multiprocessing.spawn(worker, (job, world, str(folder)), nprocs=world)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def as_torchrun(rank: int, world: int) -> None:
    """The environment that torchrun gives a process, which accelerate reads; the group is there already."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "localhost", "MASTER_PORT": "0", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
