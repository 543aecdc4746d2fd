"""Run a job in several processes that can reach each other."""

from __future__ import annotations

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
