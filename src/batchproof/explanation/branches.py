"""Does the function decide per batch?  Run it on batches of the same size: one path for some and another for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from batchproof.derive import CallSite, Recording, record
from batchproof.explanation.cause_texts import finding
from batchproof.explanation.result import Code, Finding
from batchproof.ground.place import place

BATCHES = 8
Dims = Sequence[int | None]


def branches(fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Dims) -> list[Finding[Code]]:
    """A finding for the first decision that batches of one size answer differently."""
    n = next(tensor.shape[dim] for tensor, dim in zip(tensors, dims, strict=True) if dim is not None)
    for size in sorted({max(1, n // 4), min(4, n), 1}, reverse=True):
        runs: list[Recording] = []
        for batch in _batches(tensors, dims, n, size):
            try:
                runs.append(record(fn, batch))
            except Exception:  # noqa: BLE001 - what cannot be recorded shows no branches
                break
            if not runs[0].reads:
                return []
        site = _parting(runs)
        if site is not None:
            return [finding("branch", place(site.file, site.line) if site.line else None)]
    return []


def _batches(tensors: Sequence[torch.Tensor], dims: Dims, n: int, size: int) -> Iterator[list[torch.Tensor]]:
    for lo in range(0, min(n - size + 1, BATCHES * size), size):
        yield [
            tensor if dim is None else tensor.narrow(dim, lo, size) for tensor, dim in zip(tensors, dims, strict=True)
        ]


def _parting(runs: Sequence[Recording]) -> CallSite | None:
    """The line of the first answer that differs between two runs that went on differently."""
    for run in runs[1:]:
        first = runs[0]
        same_operations = [op.func for op in run.ops] == [op.func for op in first.ops]
        if same_operations and _numbers(run) == _numbers(first):
            continue
        for ours, theirs in zip(first.reads, run.reads, strict=False):
            decides = isinstance(ours.seen, bool) or not same_operations
            if ours.seen != theirs.seen and decides:
                return ours.site
    return None


def _numbers(run: Recording) -> list[tuple[Any, ...]]:
    return [tuple(arg for arg in op.args if isinstance(arg, (int, float, bool))) for op in run.ops]
