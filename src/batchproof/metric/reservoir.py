"""A few samples drawn evenly from the whole stream, to try the plan on once more at the end.

Drawn by Li's Algorithm L ("Reservoir-sampling algorithms of time complexity O(n (1 + log(N/n)))", ACM Transactions on
Mathematical Software 20 (1994) 481-493): it says in advance which sample is the next to be taken, so that a batch
without one costs a comparison. It draws from a generator of its own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from batchproof.derive import FEWEST_ROWS, MOST_BYTES, MOST_ROWS
from batchproof.ground.batch import Batch, by_shape, join

#: Where a few samples take more than this, none are kept: trying the plan on them would cost as much as a batch.
TOO_MANY_BYTES = 1 << 23


class Sample(NamedTuple):
    """Single samples, and how many they were drawn from."""

    rows: list[Batch]
    n: int


NOTHING = Sample([], 0)


class Reservoir:
    """What has been drawn so far."""

    def __init__(self) -> None:
        self.rows: list[Batch] = []
        self.seen = 0
        self.due = 1  # the number of the next sample to take
        self.room = 0  # samples to hold; known once one was seen
        self.changes = 0
        self._draw = random.Random(0)
        self._weight = 1.0

    @property
    def sample(self) -> Sample:
        """What is held now, and what it was drawn from."""
        return Sample(list(self.rows), self.seen)

    def copied(self) -> Reservoir:
        """One that goes on in the same way, apart from this one."""
        other = Reservoir()
        other.__dict__.update(self.__dict__)
        other.rows, other._draw = list(self.rows), random.Random()
        other._draw.setstate(self._draw.getstate())
        return other

    def mark(self) -> dict[str, Any]:
        """What it holds now, for `back`."""
        return {**self.__dict__, "rows": list(self.rows)}

    def back(self, mark: dict[str, Any]) -> None:
        """Hold again what it held then; what it draws from now on may be other samples."""
        self.__dict__.update(mark)

    def take(self, call: Batch) -> None:
        """Look at a batch; some of its samples may be kept."""
        start = self.seen
        if not self.room:
            self.room = _room(call)
        while self.due <= start + call.n:
            if not self.room:
                self.due = 1 << 62
                break
            row = _row(call, self.due - start - 1)
            if len(self.rows) < self.room:
                self.rows.append(row)
                self.due += 1 if len(self.rows) < self.room else self._skip()
            else:
                self.rows[self._draw.randrange(self.room)] = row
                self.due += self._skip()
            self.changes += 1
        self.seen = start + call.n

    def _skip(self) -> int:
        self._weight = min(self._weight * self._uniform() ** (1 / self.room), 1 - 1e-12)
        return 1 + int(math.log(self._uniform()) / math.log1p(-self._weight))

    def _uniform(self) -> float:
        return 1.0 - self._draw.random()  # in (0, 1]


def _room(call: Batch) -> int:
    """How many samples to hold of such size."""
    nbytes = sum(leaf.nbytes for leaf in call.columns if isinstance(leaf, torch.Tensor)) // call.n
    if nbytes * FEWEST_ROWS > TOO_MANY_BYTES:
        return 0
    return min(MOST_ROWS, max(FEWEST_ROWS, MOST_BYTES // max(nbytes, 1)))


def _row(call: Batch, position: int) -> Batch:
    """One sample of a batch, copied. The position is a Python number: nothing waits for a device."""
    leaves: list[Any] = []
    for leaf, dim in zip(call.leaves, call.layout.dims, strict=True):
        if dim is None or not isinstance(leaf, torch.Tensor):
            leaves.append(leaf)
            continue
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):
                leaves.append(leaf.detach().narrow(dim, position, 1).clone())
        else:
            leaves.append(leaf.detach().narrow(dim, position, 1).clone())
    return Batch(call.layout, leaves, 1)


def mixed(samples: Sequence[Sample]) -> Sample:
    """A sample of what several samples were drawn from, all together: from each as many as its share."""
    left = [list(sample.rows) for sample in samples]
    counts = [sample.n if sample.rows else 0 for sample in samples]
    total = sum(sample.n for sample in samples)
    room = max((len(rows) for rows in left), default=0)
    draw = random.Random(total)
    found: list[Batch] = []
    while len(found) < room and any(left):
        weights = [n if rows else 0 for n, rows in zip(counts, left, strict=True)]
        if not sum(weights):
            break
        which = draw.choices(range(len(left)), weights)[0]
        found.append(left[which].pop(draw.randrange(len(left[which]))))
        counts[which] -= 1
    return Sample(found, total)


def packed(sample: Sample) -> list[Batch]:
    """The samples as few batches, one for each shape."""
    return [join(group) for group in by_shape(sample.rows)]


def unpacked(calls: Sequence[Batch], n: int) -> Sample:
    """A sample from its batches, and the number of samples that it was drawn from."""
    return Sample([_row(call, i) for call in calls for i in range(call.n)], n)
