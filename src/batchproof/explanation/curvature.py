"""Whether the whole function bends up or down, from the sums of a batch to the result.

A state of sums is a point, and the function's value is the height of a surface over such points.  The point of all
samples is the mean of those of its batches.  Where the surface bends up along the straight lines between batches (it is
convex there), the average of the batches' heights lies above the height at the mean, and where it bends down, below:
Jensen's inequality.  The function itself gives the heights, so a minus, a reciprocal in a logarithm, or whatever else
stands between a mean and the result, is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from batchproof.derive import SUM, Plan, State, StatePlan
from batchproof.ground import components
from batchproof.ground.tensors import close

Bend = Literal["up", "down"]
#: The batch sizes whose batches lines are drawn between: an average of larger ones lies between those of smaller ones.
SIZES = (1, 4, 16)
#: Lines for each size, and the steps on each. A single sum has one line, from the smallest to the largest.
LINES, STEPS = 6, 5
STEPS_OF_ONE = 32
#: Batches of a size in which the ends of lines are looked for.
MOST_BATCHES = 1024
#: The function as it is called, perhaps in single precision, has the height of the surface up to this.
SAME = 1e-4
#: A second difference that is smaller than this, of the heights, is rounding.
FLAT = 1e-9


def bend(
    plan: Plan, fn: Callable[..., Any], tensors: Sequence[Tensor], dims: Sequence[int | None], which: int
) -> Bend | None:
    """How one number of the result bends as a function of the batch's means; None where no single answer holds.

    Args:
        plan: of the function.
        fn: the function.
        tensors: the samples.
        dims: the batch dimensions, None for what all batches share.
        which: the number, among all of the result.
    """
    if not isinstance(plan, StatePlan) or any(leaf.merge is not SUM for leaf in plan.leaves):
        return None
    try:
        return _Surface(plan, fn, tensors, dims, which).bend()
    except Exception:  # noqa: BLE001 - between two batches the function need not have a value: then nothing is known
        return None


class _Surface:
    """The value of a function over the points that its batches are."""

    def __init__(
        self,
        plan: StatePlan,
        fn: Callable[..., Any],
        tensors: Sequence[Tensor],
        dims: Sequence[int | None],
        which: int,
    ) -> None:
        self.plan, self.fn, self.tensors, self.dims, self.which = plan, fn, tensors, dims, which
        self.n = next(t.shape[d] for t, d in zip(tensors, dims, strict=True) if d is not None)
        self.fold = plan.wide.compile()
        self.lines = 0
        self.like = self.fold(tensors, plan.captured)[0]

    def bend(self) -> Bend | None:
        whole = self.called(self.tensors)
        if not self.agree(self.at(self.point(self.tensors), self.n), whole):
            return None
        found: set[Bend] = set()
        for size in (size for size in SIZES if 2 * size <= self.n):
            for one in self.bends(size):
                found.add(one)
                if len(found) > 1:
                    return None
            if found and self.lines == 1:
                break  # means of larger batches lie between those of smaller ones
        return next(iter(found), None)

    def bends(self, size: int) -> Iterator[Bend]:
        """On the lines between batches of a size; nothing where some have no value.

        Raises:
            ValueError: the value follows the batch size besides the means: there is no one surface.
        """
        batches = self.batches(size)
        points = torch.stack([self.point(batch) for batch in batches])
        lines = _lines(points)
        self.lines = len(lines)
        steps = STEPS_OF_ONE if len(lines) == 1 else STEPS
        n = size * self.n * steps  # a sum of whole numbers is one at every step
        for a, b in lines:
            ends = self.called(batches[a]), self.called(batches[b])
            if not all(end.isfinite() for end in ends):
                return
            line = [(points[a] * (steps - step) + points[b] * step) * self.n for step in range(steps + 1)]
            heights = torch.stack([self.at(point, n) for point in line])
            scale = float(heights.abs().amax())
            if not all(self.agree(height, end, scale) for height, end in zip(heights[[0, -1]], ends, strict=True)):
                raise ValueError
            second = heights.diff().diff()
            if bool((second > FLAT * scale).any()):
                yield "up"
            if bool((second < -FLAT * scale).any()):
                yield "down"

    def batches(self, size: int) -> list[list[Tensor]]:
        """Whole batches, spread over all samples where there are many."""
        count = self.n // size
        return [self.cut(number * size, size) for number in range(0, count, -(-count // MOST_BATCHES))]

    def cut(self, lo: int, size: int) -> list[Tensor]:
        return [t if d is None else t.narrow(d, lo, size) for t, d in zip(self.tensors, self.dims, strict=True)]

    def point(self, batch: Sequence[Tensor]) -> Tensor:
        """The sums of some samples, laid end to end."""
        sums, lengths = self.fold(batch, self.plan.captured)
        return torch.cat([*(leaf.flatten().double() for leaf in sums), torch.tensor(lengths, dtype=torch.float64)])

    def called(self, batch: Sequence[Tensor]) -> Tensor:
        return components.values(self.fn(*batch))[self.which]

    def at(self, point: Tensor, n: int) -> Tensor:
        """The value at the sums of ``n`` samples; of a variance near 0 the digits do not matter."""
        sums, place = [], 0
        for like in self.like:
            part = point[place : place + like.numel()].reshape(like.shape)
            sums.append((part if like.is_floating_point() else part.round()).to(like.dtype))
            place += like.numel()
        lengths = [round(length) for length in point[place:].tolist()]
        result, _ = self.plan.run(State(sums, lengths, n), self.tensors, self.dims, n)
        return components.values(result)[self.which]

    def agree(self, height: Tensor, value: Tensor, scale: float = 0.0) -> bool:
        return close(height, value.to(height.dtype), SAME, SAME * scale)


def _lines(points: Tensor) -> list[tuple[int, int]]:
    """Pairs of batches: those that lie farthest out in each direction, and others from all over."""
    moving = (points.amax(0) > points.amin(0)).nonzero().flatten().tolist()
    apart = [(int(points[:, place].argmin()), int(points[:, place].argmax())) for place in moving]
    if len(moving) < 2:
        return apart
    half = len(points) // 2
    across = [(number, number + half) for number in range(0, half, max(1, half // LINES))]
    return [*dict.fromkeys(apart[: LINES // 2]), *across][:LINES]
