"""A small line plot in braille: a curve over batch sizes, and the exact value as a dotted line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from batchproof.report.numbers import is_drawable

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800


@dataclass
class Grid:
    """A canvas of characters, each two dots wide and four high; two layers, the curve above the line."""

    width: int
    height: int
    curve: set[tuple[int, int]] = field(default_factory=set)
    line: set[tuple[int, int]] = field(default_factory=set)

    def rows(self) -> list[list[tuple[str, str]]]:
        """Rows of (character, layer); layer is "curve", "line" or ""."""
        return [[self._cell(x, y) for x in range(self.width)] for y in range(self.height)]

    def _cell(self, x: int, y: int) -> tuple[str, str]:
        bits, layer = 0, ""
        for dots, name in ((self.line, "line"), (self.curve, "curve")):
            for dy in range(4):
                for dx in range(2):
                    if (2 * x + dx, 4 * y + dy) in dots:
                        bits |= _DOTS[dy][dx]
                        layer = name
        return (chr(_BLANK + bits) if bits else " "), layer


@dataclass(frozen=True)
class Scale:
    """Values to dot rows, the largest on top."""

    low: float
    high: float
    dots: int

    def row(self, value: float) -> int:
        """The dot row of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round((1 - share) * (self.dots - 1))


def plot(points: Sequence[tuple[float, float]], exact: float, width: int, height: int) -> tuple[Grid, Scale] | None:
    """Draw points (character column, value), joined, and the exact value across; None where there is nothing to see."""
    finite = [(x, y) for x, y in points if is_drawable(y)]
    values = [y for _, y in finite] + ([exact] if is_drawable(exact) else [])
    if len(finite) < 2 or max(values) - min(values) <= 0:
        return None
    scale = Scale(min(values), max(values), 4 * height)
    grid = Grid(width, height)
    if is_drawable(exact):
        grid.line = {(x, scale.row(exact)) for x in range(0, 2 * width, 2)}
    for (x0, y0), (x1, y1) in itertools.pairwise(finite):
        grid.curve |= _segment(2 * x0, scale.row(y0), 2 * x1, scale.row(y1))
    return grid, scale


def _segment(x0: float, y0: float, x1: float, y1: float) -> set[tuple[int, int]]:
    steps = max(1, math.ceil(max(abs(x1 - x0), abs(y1 - y0))))
    return {(round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps)) for step in range(steps + 1)}
