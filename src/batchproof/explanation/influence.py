"""Which samples does a recorded value come from?  One row is replaced at a time, and what moves is looked at.

No operator is known by its name here: a cross-entropy of each pixel, a sort within a row and attention within a
sentence leave the other samples alone, and the same operators along another dimension do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from batchproof.derive import Free, Program, Recording, TensorBatch, few, leaves, record, shown_dtype
from batchproof.ground.tensors import same

#: Rows that are looked at, each of them replaced once; a sort of fewer rows may not notice.
ROWS = 12
Dims = Sequence[int | None]


class Influence:
    """Answers from runs on a few rows, and on the same with one row replaced; they are made when first asked for."""

    def __init__(self, program: Program, fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Dims) -> None:
        self.program = program
        self.fn = fn
        self.all = TensorBatch(list(tensors), tuple(dims))

    def mixes(self, index: int) -> bool:
        """Whether some number of a value moves with more than one sample; True where no run can tell."""
        masks = [_moved(self._base, run, index) for run in self._replaced]
        known = [mask for mask in masks if mask is not None]
        if not known or any(mask.shape != known[0].shape for mask in known):
            return True
        return bool((torch.stack([mask.int() for mask in known]).sum(0) > 1).any())

    def reads_data(self, operation: int) -> bool:
        """Whether a number that Python hands to an operation moves with the samples, where they stay as many."""
        if self._base is None:
            return True
        ours = self._numbers(self._base, operation)
        return ours is None or any(self._numbers(run, operation) != ours for run in self._replaced)

    def _numbers(self, run: Recording, operation: int) -> list[Any] | None:
        """The numbers of this run where the program has none that it knows."""
        if operation >= len(run.ops):
            return None
        known, seen = self.program.ops[operation], run.ops[operation]
        pairs = zip(leaves((known.args, known.kwargs)), leaves((seen.args, seen.kwargs)), strict=False)
        return [number for leaf, number in pairs if isinstance(leaf, Free)]

    @cached_property
    def _base(self) -> Recording | None:
        return self._run(self._rows)

    @cached_property
    def _replaced(self) -> list[Recording]:
        """The runs with a row replaced, as far as they take the path of the first."""
        n, total = self._rows.n, self.all.n
        found = []
        for row in range(min(n, ROWS)):
            order = torch.arange(n)
            order[row] = (n + row) % total if total > n else (row + 1) % n
            run = self._run(self.all.take(order))
            if run is not None:
                found.append(run)
        return found

    @cached_property
    def _rows(self) -> TensorBatch:
        """A few rows, or as many as it takes to run the function at all (the hardest 64 of a batch)."""
        for count in (ROWS, few(self.all).n):
            rows = self.all.take(torch.arange(min(count, self.all.n)))
            if self._run(rows) is not None:
                break
        return rows

    def _run(self, batch: TensorBatch) -> Recording | None:
        try:
            run = record(self.fn, batch.tensors, self.program.split, shown_dtype(batch.tensors))
        except Exception:  # noqa: BLE001 - what fails on these rows says nothing of the others
            return None
        return run if [op.func for op in run.ops] == [op.func for op in self.program.ops] else None


def _moved(base: Recording | None, run: Recording, index: int) -> torch.Tensor | None:
    """Which numbers of a value differ between two runs; None where they cannot be laid side by side."""
    if base is None:
        return None
    ours, theirs = base.tensors[index], run.tensors[index]
    if ours.shape != theirs.shape or same(ours, theirs):
        return torch.zeros(ours.shape, dtype=torch.bool) if ours.shape == theirs.shape else None
    return (ours != theirs) & ~((ours != ours) & (theirs != theirs))
