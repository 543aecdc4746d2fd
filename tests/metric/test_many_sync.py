"""Many metrics at once over processes: each rank then has the values of all samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from bench.classification import CLASSES, FUNCTIONS
from torch import Tensor

import batchproof as bp
from functions import normal, r2, rmse
from ranks import spawned

FEW = {name: FUNCTIONS[name] for name in ("accuracy", "confusion matrix", "kappa")}
SIZES = (40, 17, 1, 64)


def batches(seed: int, sizes: tuple[int, ...] = SIZES) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, CLASSES, generator=generator), torch.randint(CLASSES, (n,), generator=generator)) for n in sizes
    ]


def joined(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def fed(functions: Any, parts: list[tuple[Tensor, ...]]) -> bp.ExactMany:
    metric = bp.exact(functions)
    for part in parts:
        metric.update(*part)
    return metric


def median(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.median()


def synced(rank: int, world: int) -> dict[str, Any]:
    metric = fed({**FEW, "median": median}, batches(rank)[: 4 if rank == 0 else 1])
    metric.sync()
    once = metric.compute()
    metric.sync()  # nothing is counted twice
    metric.update(*batches(9, (11,))[0])
    metric.sync()
    return {"once": once, "again": metric.compute(), "n": metric.n_samples}


def test_two_processes(tmp_path: Path) -> None:
    found = spawned(synced, 2, tmp_path)
    parts = [*batches(0), batches(1)[0]]
    later = joined([*parts, *batches(9, (11,)) * 2])
    for rank in found:
        assert rank["n"] == len(later[1])
        torch.testing.assert_close(rank["once"]["median"], median(*joined(parts)), rtol=0, atol=0)
        for name, fn in FEW.items():
            torch.testing.assert_close(rank["once"][name], fn(*joined(parts)), msg=name)
            torch.testing.assert_close(rank["again"][name], fn(*later), msg=name)


def other_functions(rank: int, world: int) -> str:
    pred, real = normal(50), normal(50, seed=3)
    metric = fed({"rmse": rmse} if rank else {"r2": r2}, [(pred, real)])
    try:
        metric.sync()
    except bp.BatchproofError as error:
        return f"{metric.n_samples} {error}"
    return "not refused"


def test_ranks_of_other_functions_are_refused(tmp_path: Path) -> None:
    found = spawned(other_functions, 2, tmp_path)
    assert found[0].startswith("50 mismatched states")
    assert found[1].startswith("50 mismatched states")
