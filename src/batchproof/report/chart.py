"""What a chart shows, as plain data: values over batch sizes.  How it is laid out is `chart_layout`'s to say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from batchproof.report.numbers import is_drawable, within_sight

#: What a line stands for; each look has its own colour, marker and dash.
Look = Literal["measured", "weighted", "pooled", "exact", "theory", "published"]


@dataclass(frozen=True)
class Point:
    """A value at a batch size; ``error`` is one standard error, ``tag`` a few characters to stand beside it."""

    size: int
    value: float
    error: float = 0.0
    tag: str = ""
    note: str = ""


@dataclass(frozen=True)
class Line:
    """Points that belong together."""

    label: str
    look: Look
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """Values over batch sizes.

    ``about`` is what a reader is told who cannot see it.  ``level`` is a value at every size.  ``missing`` are the
    sizes that have no value.  ``span`` is the smallest range of values worth showing: below it lies rounding.
    """

    about: str
    y_label: str
    lines: tuple[Line, ...]
    level: tuple[str, float] | None = None
    marked: int | None = None
    missing: tuple[int, ...] = ()
    span: float = 0.0
    in_percent: bool = False
    sizes: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        sizes = {point.size for line in self.lines for point in line.points} | set(self.missing)
        object.__setattr__(self, "sizes", tuple(sorted(sizes | ({self.marked} if self.marked else set()))))

    @property
    def is_empty(self) -> bool:
        """Whether there is no value to show."""
        return not any(is_drawable(point.value) for line in self.lines for point in line.points)


@dataclass(frozen=True)
class Axis:
    """Values to shares of a length: 0 at the low end, 1 at the high one; on a logarithmic scale where ``log``."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies; outside 0 to 1 it is out of sight."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))


def size_axis(sizes: Sequence[int]) -> Axis:
    """The logarithm of the batch size; a single one in the middle."""
    low, high = min(sizes), max(sizes)
    return Axis(low, high, log=True) if low < high else Axis(low / 2, high * 2, log=True)


def value_axis(chart: Chart) -> Axis:
    """Room for all values that are within sight; logarithmic where they spread over two orders of magnitude."""
    points = [point for line in chart.lines for point in line.points if is_drawable(point.value)]
    level = [chart.level[1]] if chart.level is not None and is_drawable(chart.level[1]) else []
    values = [point.value for point in points] + level
    if min(values) > 0 and max(values) > 100 * min(values):
        return Axis(min(values) / 1.3, max(values) * 1.3, log=True)
    centre = level[0] if level else sorted(values)[len(values) // 2]
    seen = within_sight([point.value for point in points], centre, chart.span)
    near = [point for point, is_seen in zip(points, seen, strict=True) if is_seen]
    ends = [
        point.value + side * (point.error if is_drawable(point.error) else 0.0) for point in near for side in (-1, 1)
    ] + level
    return _padded(min(ends), max(ends), chart.span)


def _padded(low: float, high: float, span: float) -> Axis:
    span = max(high - low, span if is_drawable(span) else 0.0, 1e-12 * max(abs(low), abs(high)), 1e-300)
    middle = (low + high) / 2
    return Axis(middle - 0.58 * span, middle + 0.58 * span)


def value_ticks(axis: Axis, most: int = 6) -> list[float]:
    """Round values, a handful."""
    if axis.log:
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        step = max(1, len(powers) // most)
        return [10.0**power for power in powers[::step] if axis.low <= 10.0**power <= axis.high]
    rough = (axis.high - axis.low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step_size = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(axis.low / step_size), math.floor(axis.high / step_size)
    return [index * step_size for index in range(first, last + 1)]


def tick_labels(ticks: Sequence[float], in_percent: bool = False) -> list[str]:
    """All with the same number of decimals: as many as tell neighbours apart."""
    if not ticks:
        return []
    gaps = [abs(b - a) for a, b in pairwise(ticks)] or [abs(ticks[0]) or 1.0]
    largest, gap = max(abs(tick) for tick in ticks), min(gaps)
    if in_percent:
        largest, gap = 100 * largest, 100 * gap
        ticks = [100 * tick for tick in ticks]
    if max(gaps) > 5 * min(gaps):  # powers of ten
        return [f"{tick:g}{'%' if in_percent else ''}" for tick in ticks]
    decimals = next((places for places in range(9) if _is_whole(gap * 10**places)), 9)
    if largest >= 1e6 or decimals > 6:
        digits = max(1, math.ceil(math.log10(largest / gap))) if largest else 1
        return [f"{tick:.{digits}e}" for tick in ticks]
    return [f"{tick:,.{decimals}f}{'%' if in_percent else ''}" for tick in ticks]


def _is_whole(value: float) -> bool:
    return value > 0.5 and abs(value - round(value)) < 1e-6
