"""Which part of a tensor belongs to a sample, in calls with other rows and other positions.

The same model is called with one row fewer and with one position more: a dimension that shrinks with the rows counts
rows, one that grows with the positions counts positions, and one that does both counts all positions of all rows.  So
it is told for inner tensors as well, whatever order a model keeps its dimensions in.  A third call with far more
positions tells what counts every second or every 320th of them: pooled tokens, frames of sound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from batchproof.explanation.rows.sequences import RowsCall, Spot

Shape = Sequence[int]
#: Wide enough for attention over heads and two dimensions of positions; more orders than this are not tried.
MOST_ORDERS = 16


@dataclass(frozen=True)
class CountedAxis:
    """What a dimension counts: ``rows`` for each row, ``positions`` for each position, both, or a fixed number.

    Attributes:
        rows: Entries for each row, and for each position of each row if ``has_positions``.
        has_positions: Whether it counts positions.
        extra: Entries beside those of positions: a class token, a prefix.
        is_opaque: Whether it counts positions in a way of its own: every second one, or pieces of several.
        stride: Positions to an entry, where it counts frames; None elsewhere.
    """

    rows: int = 0
    has_positions: bool = False
    extra: int = 0
    is_opaque: bool = False
    stride: Fraction | None = None

    def size(self, rows: int, width: int) -> int | None:
        """Its length in a call with so many rows and positions; None where any will do."""
        if self.stride is not None or not (self.rows or self.has_positions):
            return None
        return max(self.rows * rows, 1 if self.has_positions else 0) * (width if self.has_positions else 1) + self.extra

    def frames(self, spot: Spot, size: int, width: int) -> tuple[int, int]:
        """Where the frames begin that hold nothing but a sample's positions, and how many they are, or one fewer."""
        assert self.stride is not None
        assert spot.length is not None
        first = spot.start / self.stride
        behind = width - spot.start - spot.length
        inside = min(math.floor(spot.length / self.stride), size - math.ceil(behind / self.stride) - math.ceil(first))
        return int(first), max(inside, 0) if first.denominator == 1 else 0

    def picks(self, spot: Spot, rows: int, width: int, frames: tuple[int, int] = (0, 0)) -> Iterator[Tensor | None]:
        """Where a sample's entries are along it, in each order that the dimension may have; None for all of it."""
        if self.stride is not None:
            yield torch.arange(frames[0], sum(frames))
            return
        if not self.rows and not self.has_positions:
            yield None
            return
        inside = (
            torch.arange(spot.start, spot.start + (spot.length or 0)) if self.has_positions else torch.zeros(1).long()
        )
        if not self.rows:
            yield inside + self.extra
            if self.extra:
                yield inside
            return
        steps = width if self.has_positions else 1
        copies = torch.arange(self.rows)
        # rows first, then their copies (heads), then positions
        yield ((spot.row * self.rows + copies)[:, None] * steps + inside).flatten()
        if self.has_positions:  # positions first: (T, B) flattened
            yield (inside[None, :] * rows * self.rows + spot.row * self.rows + copies[:, None]).flatten()
        if self.rows > 1:  # copies of the whole batch behind each other
            yield ((copies * rows + spot.row)[:, None] * steps + inside).flatten()


Axes = tuple[CountedAxis, ...]


def axes_of(
    base: Shape,
    fewer: Shape,
    longer: Shape | None,
    rows: int,
    width: int,
    far: tuple[Shape, int] | None = None,
) -> Axes | None:
    """What each dimension counts, from the shapes in several calls; None where it cannot be said.

    Args:
        base: the shape in a call of ``rows`` rows and ``width`` positions.
        fewer: that with one row fewer.
        longer: that with one position more; None where samples have no positions.
        rows: how many rows.
        width: how many positions, 0 where there are none.
        far: that with many positions more, and how many; None where the model does not take them.
    """
    longer = base if longer is None else longer
    reach = 0 if far is None else far[1]
    there = base if far is None else far[0]
    if not len(base) == len(fewer) == len(longer) == len(there):
        return None
    found = []
    for whole, less, more, most in zip(base, fewer, longer, there, strict=True):
        axis = _axis_of_frames(whole, whole - less, more - whole, most - whole, reach)
        axis = axis or _axis(whole, whole - less, more - whole, rows, width)
        if axis is None:
            return None
        grows = axis == CountedAxis() and most != whole
        found.append(CountedAxis(is_opaque=True) if grows else axis)
    return tuple(found)


def _axis_of_frames(size: int, by_row: int, by_position: int, by_reach: int, reach: int) -> CountedAxis | None:
    """One that grows with the positions, but not by one for each."""
    if by_row or not 0 < by_reach <= reach or (by_position == 1 and by_reach == reach):
        return None
    return CountedAxis(stride=Fraction(reach, by_reach))


def _axis(size: int, by_row: int, by_position: int, rows: int, width: int) -> CountedAxis | None:
    if by_row == 0 and by_position == 0:
        return CountedAxis()
    if by_position == 0:
        return CountedAxis(by_row) if by_row > 0 and by_row * rows == size else None
    if by_row == 0:
        return CountedAxis(0, True, size - width) if by_position == 1 and size >= width else CountedAxis(is_opaque=True)
    copies, left = divmod(by_position, rows)
    return (
        CountedAxis(copies, True) if left == 0 and copies * width == by_row and copies * width * rows == size else None
    )


def selections(
    tensor: Tensor, axes: Axes, spot: Spot, rows: int, width: int, frames: Sequence[tuple[int, int]] | None = None
) -> Iterator[Tensor]:
    """The part of a tensor that belongs to a sample, in each order of its dimensions; none where it does not fit."""
    if len(axes) != tensor.ndim or any(
        axis.size(rows, width) not in (None, length) for axis, length in zip(axes, tensor.shape, strict=True)
    ):
        return
    frames = frames or frames_of(tensor, axes, spot, width)
    ways = [list(axis.picks(spot, rows, width, own)) for axis, own in zip(axes, frames, strict=True)]
    for picks in itertools.islice(itertools.product(*ways), MOST_ORDERS):
        part = tensor
        for dim, pick in enumerate(picks):
            part = part if pick is None else part.index_select(dim, pick.to(tensor.device))
        yield part


def frames_of(tensor: Tensor, axes: Axes, spot: Spot, width: int) -> list[tuple[int, int]]:
    """For each dimension where a sample's frames begin and how many there are; nothing where it counts none."""
    return [
        (0, 0) if axis.stride is None else axis.frames(spot, size, width)
        for axis, size in zip(axes, tensor.shape, strict=False)
    ]


def distance(a: Tensor, b: Tensor, axes: Axes, one: RowsCall, other: RowsCall) -> float | None:
    """The largest difference between a sample's numbers in two calls, over the samples; None where it cannot be had.

    What has rows and no positions belongs to no sample of a packed row.  Of the orders that a dimension may have, the
    one in which the calls are nearest is the true one.
    """
    is_packed = one.is_packed or other.is_packed
    if is_packed and any(axis.rows for axis in axes) and not any(axis.has_positions for axis in axes):
        return None
    if any(axis.is_opaque for axis in axes) and not _same_positions(one, other):
        return None
    found = [_nearest(a, b, axes, one, other, index) for index in range(len(one.spots))]
    known = [size for size in found if size is not None]
    return max(known) if len(known) == len(found) and found else None


def _same_positions(one: RowsCall, other: RowsCall) -> bool:
    """Whether samples have the same positions in two calls, and the same padding."""
    places = [[(spot.start, spot.length) for spot in call.spots] for call in (one, other)]
    return one.width == other.width and places[0] == places[1] and not (one.is_refilled or other.is_refilled)


def _nearest(a: Tensor, b: Tensor, axes: Axes, one: RowsCall, other: RowsCall, index: int) -> float | None:
    ours, theirs = one.spots[index], other.spots[index]
    # what a call knows of its frames is less in a wider one: as many as both know of are compared
    both = zip(
        frames_of(a, axes, ours, one.width or 0), frames_of(b, axes, theirs, other.width or 0), strict=True
    )  # fmt: skip
    shared = [(x, y, min(count, less)) for (x, count), (y, less) in both]
    if any(axis.stride is not None and not count for axis, (_, _, count) in zip(axes, shared, strict=False)):
        return None
    pairs = zip(
        selections(a, axes, ours, one.rows, one.width or 0, [(start, count) for start, _, count in shared]),
        selections(b, axes, theirs, other.rows, other.width or 0, [(start, count) for _, start, count in shared]),
        strict=False,
    )
    sizes = [largest_difference(left, right) for left, right in pairs if left.shape == right.shape]
    return min(sizes) if sizes else None


def largest_difference(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors of one shape; 0 where both are NaN or infinite alike."""
    if a.numel() == 0:
        return 0.0
    if not (a.is_floating_point() or a.is_complex()):
        return float((a.double() - b.double()).abs().max())
    gap = (a.to(torch.complex128 if a.is_complex() else torch.float64) - b).abs()
    alike = (a == b) | (a.isnan() & b.isnan())
    gap = torch.where(alike, torch.zeros_like(gap), gap).nan_to_num(nan=torch.inf)
    return float(gap.max())
