"""Samples of many groups in one batch, folded at once: each sample as a batch of its own, added to its group's state.

That costs a scatter for each number of the state, however many groups there are. Where the state is large, or what is
selected differs from sample to sample, the samples are sorted by group instead, and each group's are folded as a batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from batchproof.derive.finish_many import OneByOne
from batchproof.derive.fold_many import fold_many
from batchproof.derive.plan import StatePlan, check_shapes
from batchproof.ground.batch import samples_in

#: Samples that are folded at once: what lies between them and their groups' states then stays in a core's own cache.
AT_ONCE = 1 << 16
#: A state of more numbers costs more to make for each sample than the samples cost to sort.
MOST_NUMBERS = 64


@dataclass
class StatesByGroup:
    """The states of many groups, side by side in slots.

    Attributes:
        plan: of one group's state.
        leaves: for each leaf of the plan a tensor of shape (numbers, slots).
        lengths: of the selections, (selections, slots).
        counts: of samples, for each slot.
    """

    plan: StatePlan
    leaves: list[Tensor]
    lengths: Tensor
    counts: Tensor

    @classmethod
    def empty(cls, plan: StatePlan, slots: int) -> StatesByGroup:
        """So many groups that have no samples."""
        leaves = [leaf.merge.identity((_numbers(leaf.state_shape), slots), leaf.dtype, CPU) for leaf in plan.leaves]
        lengths = torch.zeros(len(plan.lengths), slots, dtype=torch.int64)
        return cls(plan, leaves, lengths, torch.zeros(slots, dtype=torch.int64))

    @property
    def slots(self) -> int:
        """How many groups there is room for."""
        return len(self.counts)

    def grow(self, slots: int) -> None:
        """Make room for more groups."""
        if slots > self.slots:
            more = StatesByGroup.empty(self.plan, max(slots, 2 * self.slots) - self.slots)
            self.leaves = [torch.cat(pair, 1) for pair in zip(self.leaves, more.leaves, strict=True)]
            self.lengths = torch.cat([self.lengths, more.lengths], 1)
            self.counts = torch.cat([self.counts, more.counts])

    def absorb(self, other: StatesByGroup, slots: Tensor) -> None:
        """Merge the groups of other states into ours, each into the slot that is given for it."""
        for leaf, kept, theirs in zip(self.plan.leaves, self.leaves, other.leaves, strict=True):
            for row, values in zip(kept, theirs, strict=True):
                leaf.merge.scatter(row, slots, values[: len(slots)])
        for row, values in zip(self.lengths, other.lengths, strict=True):
            row.scatter_add_(0, slots, values[: len(slots)])
        self.counts.scatter_add_(0, slots, other.counts[: len(slots)])

    def stacked(self, slots: Tensor) -> list[Tensor]:
        """The leaves of some groups, for each leaf of the plan with the groups along the first dimension."""
        return [
            kept.index_select(1, slots).t().reshape(-1, *leaf.state_shape)
            for leaf, kept in zip(self.plan.leaves, self.leaves, strict=True)
        ]


CPU = torch.device("cpu")


def _numbers(shape: Sequence[int]) -> int:
    return math.prod(shape)


class GroupFold(ABC):
    """What folds batches of many groups by one plan.

    Attributes:
        plan: of a group's state.
        by_sample: whether each sample is a batch of its own; each group's samples of a batch are one otherwise.
    """

    plan: StatePlan
    by_sample: bool

    @abstractmethod
    def fold(self, states: StatesByGroup, tensors: Sequence[Tensor], slots: Tensor) -> None:
        """Fold a batch into the states.

        Args:
            states: changed in place; there is a slot for each group.
            tensors: the batch.
            slots: for each of its samples that of its group, int64.
        """


def group_fold(plan: StatePlan, example: Sequence[Tensor], dims: Sequence[int | None]) -> GroupFold:
    """What folds batches of samples like those of an example, by a plan that keeps no rows."""
    small = sum(_numbers(leaf.state_shape) for leaf in plan.leaves) <= MOST_NUMBERS
    if small and plan.group == 1:
        try:
            return _BySample(plan, example, dims)
        except OneByOne:
            pass
    return _ByGroup(plan, dims)


class _BySample(GroupFold):
    by_sample = True

    def __init__(self, plan: StatePlan, example: Sequence[Tensor], dims: Sequence[int | None]) -> None:
        self.plan, self.dims = plan, dims
        # as many as are likely to stay below a few megabytes
        widest = max(t.nbytes // t.shape[d] for t, d in zip(example, dims, strict=True) if d is not None)
        self.at_once = max(AT_ONCE * 8 // max(widest, 8), 64)
        self.batch = fold_many(plan, self._padded(example, 0, samples_in(example, dims)), dims, self.at_once, 1)

    def fold(self, states: StatesByGroup, tensors: Sequence[Tensor], slots: Tensor) -> None:
        n = len(slots)
        for start in range(0, n, self.at_once):
            stop = min(start + self.at_once, n)
            rows = self.batch(self._padded(tensors, start, stop))
            here = slots[start:stop]
            for leaf, kept, values in zip(states.plan.leaves, states.leaves, rows, strict=True):
                columns = values.reshape(self.at_once, -1).t()[:, : stop - start]
                for own, column in zip(kept, columns, strict=True):
                    leaf.merge.scatter(own, here, column)
        states.counts.add_(torch.bincount(slots, minlength=states.slots))

    def _padded(self, tensors: Sequence[Tensor], start: int, stop: int) -> list[Tensor]:
        """A part of a batch, its last sample repeated up to the number of samples that are folded at once."""
        found = []
        for tensor, dim in zip(tensors, self.dims, strict=True):
            if dim is None:
                found.append(tensor)
                continue
            part = tensor.narrow(dim, start, stop - start)
            missing = self.at_once - (stop - start)
            if missing:
                last = tensor.narrow(dim, stop - 1, 1)
                part = torch.cat([part, last.repeat_interleave(missing, dim)], dim)
            found.append(part)
        return found


class _ByGroup(GroupFold):
    by_sample = False

    def __init__(self, plan: StatePlan, dims: Sequence[int | None]) -> None:
        self.plan, self.dims = plan, dims
        self.batch = plan.fold.compile()

    def fold(self, states: StatesByGroup, tensors: Sequence[Tensor], slots: Tensor) -> None:
        counts = torch.bincount(slots, minlength=states.slots)
        filled = counts.nonzero().flatten()
        parts = self._sorted(tensors, slots, counts[filled].tolist())
        for slot, part in zip(filled.tolist(), parts, strict=True):
            values, lengths = self.batch(part, self.plan.captured)
            check_shapes(self.plan, values)
            for leaf, kept, value in zip(self.plan.leaves, states.leaves, values, strict=True):
                combine = leaf.merge.combiner(leaf.dtype)
                assert combine is not None
                kept[:, slot] = combine(kept[:, slot], value.reshape(-1))
            for row, length in zip(states.lengths, lengths, strict=True):
                row[slot] += length
        states.counts.add_(counts)

    def _sorted(self, tensors: Sequence[Tensor], slots: Tensor, sizes: Sequence[int]) -> Sequence[Sequence[Tensor]]:
        """The batch in parts, one for each group that has samples in it."""
        if len(sizes) == 1:
            return [list(tensors)]
        order = torch.from_numpy(slots.to(_narrowest(int(slots.max()))).numpy().argsort(kind="stable"))
        columns = [
            [t] * len(sizes) if d is None else torch.split(t.index_select(d, order), list(sizes), d)
            for t, d in zip(tensors, self.dims, strict=True)
        ]
        return list(zip(*columns, strict=True))


def _narrowest(largest: int) -> torch.dtype:
    """Numpy sorts numbers of two bytes by their digits, an order faster than others."""
    return torch.int16 if largest < 1 << 15 else torch.int64
