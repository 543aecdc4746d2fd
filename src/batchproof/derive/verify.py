"""Try a plan before it is used: random ragged partitions, pieces of one included, against the function itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from batchproof.derive.merge import SUM
from batchproof.derive.plan import StatePlan, Verified
from batchproof.derive.samples import TensorBatch, ragged
from batchproof.ground.place import Statement
from batchproof.ground.tensors import gap

PARTITIONS = 64
#: Bytes of samples that are folded in all these partitions together.
MOST_BYTES = 1 << 26
FEWEST_PARTITIONS = 4
ROUNDING = 1e-9


class Refuted(Exception):
    """The plan does not give the function's value; the message says where."""


Fold = Callable[[Sequence[torch.Tensor], dict[int, torch.Tensor]], tuple[list[torch.Tensor], list[int]]]


def verify(plan: StatePlan, fold: Fold, captured: dict[int, torch.Tensor], batch: TensorBatch, seed: int) -> Verified:
    """Fold many partitions and hold their merged state against the state of the whole.

    Raises:
        Refuted: a partition gives another state.
    """
    generator = torch.Generator().manual_seed(seed)
    whole, lengths = fold(batch.tensors, captured)
    carried = sum(t.nbytes for t, d in zip(batch.tensors, batch.dims, strict=True) if d is not None)
    count = min(PARTITIONS // 2, max(FEWEST_PARTITIONS, MOST_BYTES // max(carried, 1)))
    partitions = _partitions(batch.n, count, generator)
    worst = 0.0
    for sizes in partitions:
        parts = [fold(piece.tensors, captured) for piece in batch.split(sizes)]
        merged = plan.merge([part[0] for part in parts])
        for leaf, mine, all_at_once in zip(plan.leaves, merged, whole, strict=True):
            error = gap(mine, all_at_once)
            if error > ROUNDING:  # the pieces may cancel: then their own size is the measure
                scale = max((float(p.abs().max()) for p in _column(plan, parts, leaf) if p.numel()), default=0.0)
                error = gap(mine, all_at_once, scale if scale == scale and scale != float("inf") else 0.0)
            if not error <= ROUNDING:
                raise Refuted(Statement(f"pieces of sizes {sizes[:6]} do not add up", f" at {leaf.site}"))
            worst = max(worst, error)
        if [sum(column) for column in zip(*(part[1] for part in parts), strict=False)] != lengths:
            raise Refuted("the lengths of a selection do not add up")
    return Verified(len(partitions), worst)


def _partitions(n: int, count: int, generator: torch.Generator) -> list[list[int]]:
    """So many ways of cutting samples, each another one and none the whole, as far as there are so many."""
    found = [[1] * n]
    while len(found) < min(count, 2 ** (n - 1) - 1):
        sizes = ragged(n, generator)
        if sizes not in [*found, [n]]:
            found.append(sizes)
    return found


def _column(plan: StatePlan, parts: Any, leaf: Any) -> list[torch.Tensor]:
    if leaf.merge is not SUM or not leaf.dtype.is_floating_point:
        return []
    position = plan.leaves.index(leaf)
    return [part[0][position] for part in parts]
