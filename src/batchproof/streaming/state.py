"""The state that `exact` holds: one slot of merged leaves for each of a few groups of batches.

Groups cost little and buy an error bar: leaving one out at a time is a jackknife with no samples kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from batchproof.derive.plan import Leaf, Plan
from batchproof.derive.verify import join

GROUPS = 20
#: A larger state is held once: then there is no error bar.
MOST_GROUPED_BYTES = 1 << 18


@dataclass
class Slots:
    """Leaves for every group, stacked along a first dimension, and what was counted."""

    plan: Plan
    groups: int
    leaves: list[Any] = field(default_factory=list)  # tensors (groups, ...); for kept rows (group, rows) in order
    counts: list[int] = field(default_factory=list)
    lengths: list[list[int]] = field(default_factory=list)
    _takers: dict[int, list[Callable[[torch.Tensor], object]]] = field(default_factory=dict, repr=False)

    @classmethod
    def empty(cls, plan: Plan, device: torch.device, groups: int = GROUPS) -> Slots:
        groups = groups if plan.nbytes <= MOST_GROUPED_BYTES else 1
        leaves: list[Any] = [[] if leaf.merge == "rows" else identity(leaf, groups, device) for leaf in plan.leaves]
        return cls(plan, groups, leaves, [0] * groups, [[0] * len(plan.lengths) for _ in range(groups)])

    def views(self, group: int) -> list[Any]:
        return [leaf[group] for leaf in self.leaves]

    def add(self, group: int, values: Sequence[torch.Tensor], lengths: Sequence[int], n: int) -> None:
        """Merge one folded batch into a group."""
        takers = self._takers.get(group)
        if takers is None:
            takers = self._takers[group] = [
                _taker(leaf, kept, group) for leaf, kept in zip(self.plan.leaves, self.leaves, strict=True)
            ]
        for take, value in zip(takers, values, strict=True):
            take(value)
        if lengths:
            self.lengths[group] = [a + b for a, b in zip(self.lengths[group], lengths, strict=True)]
        self.counts[group] += n

    def absorb(self, other: Slots) -> None:
        """Merge another state, group by group; its plan is ours."""
        for group in range(other.groups):
            mine = group % self.groups
            if other.counts[group]:
                for leaf, kept, theirs in zip(self.plan.leaves, self.leaves, other.leaves, strict=True):
                    if leaf.merge != "rows":
                        merge_into(leaf, kept[mine], theirs[group])
                self.lengths[mine] = [a + b for a, b in zip(self.lengths[mine], other.lengths[group], strict=True)]
                self.counts[mine] += other.counts[group]
        for leaf, kept, theirs in zip(self.plan.leaves, self.leaves, other.leaves, strict=True):
            if leaf.merge == "rows":
                kept.extend((group % self.groups, chunk) for group, chunk in theirs)

    def filled(self) -> list[int]:
        return [group for group, count in enumerate(self.counts) if count]

    def merged(self, groups: Sequence[int]) -> tuple[list[torch.Tensor], list[int], int]:
        """Leaves, lengths and number of samples of some groups together."""
        index = list(groups)
        leaves = []
        for leaf, kept in zip(self.plan.leaves, self.leaves, strict=True):
            if leaf.merge == "rows":
                leaves.append(torch.cat([chunk for group, chunk in kept if group in index], leaf.dim))
            else:
                leaves.append(join(leaf.merge, 0, list(kept[index].unbind(0))))
        lengths = [sum(column) for column in zip(*(self.lengths[group] for group in index), strict=True)]
        return leaves, lengths, sum(self.counts[group] for group in index)

    def clone(self) -> Slots:
        leaves = [list(kept) if isinstance(kept, list) else kept.clone() for kept in self.leaves]
        return Slots(self.plan, self.groups, leaves, list(self.counts), [list(row) for row in self.lengths])


def _taker(leaf: Leaf, kept: Any, group: int) -> Callable[[torch.Tensor], object]:
    """What merges a value into one group of a leaf."""
    if leaf.merge == "rows":
        return lambda value: kept.append((group, value.detach().clone()))
    view = kept[group]
    return view.add_ if leaf.merge == "sum" else partial(merge_into, leaf, view)


def identity(leaf: Leaf, groups: int, device: torch.device) -> torch.Tensor:
    """What merges with anything to that thing."""
    shape = (groups, *([leaf.points] if _stacked(leaf) else []), *leaf.shape)
    if leaf.merge == "sum":
        return torch.zeros(shape, dtype=leaf.dtype, device=device)
    if leaf.merge in ("any", "all"):
        return torch.full(shape, leaf.merge == "all", dtype=torch.bool, device=device)
    if leaf.dtype.is_floating_point:
        worst = float("-inf") if leaf.merge == "max" else float("inf")
        return torch.full(shape, worst, dtype=leaf.dtype, device=device)
    info = torch.iinfo(leaf.dtype) if leaf.dtype is not torch.bool else torch.iinfo(torch.uint8)
    return torch.full(shape, info.min if leaf.merge == "max" else info.max, dtype=leaf.dtype, device=device)


def _stacked(leaf: Leaf) -> bool:
    return leaf.centred


def merge_into(leaf: Leaf, kept: Any, value: torch.Tensor) -> None:
    if leaf.merge == "sum":
        kept.add_(value)
    elif leaf.merge == "max":
        torch.maximum(kept, value.to(kept.dtype), out=kept)
    elif leaf.merge == "min":
        torch.minimum(kept, value.to(kept.dtype), out=kept)
    elif leaf.merge == "any":
        kept.logical_or_(value)
    else:
        kept.logical_and_(value)
