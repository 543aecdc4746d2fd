"""The sizes: a plot over a table whose columns are the plot's axis."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from batchproof.explanation.result import Quantity
from batchproof.explanation.wording import is_same_everywhere, measured, same_everywhere, sampled
from batchproof.report.numbers import decimals_for, is_drawable, number, percent, within_sight
from batchproof.report.plot import Grid, Scale, plot

if TYPE_CHECKING:
    from batchproof.explanation.result import Curve, Explanation, Reading

LABEL = 9
HEIGHT = 4
_LABELS: dict[Quantity, str] = {"mean of batches": "mean", "compute()": "compute", "change of the output": "change"}


def size_lines(explanation: Explanation, room: int) -> Iterator[Text]:
    """A line on what was measured, the plot, and the table."""
    curve = explanation.curve
    assert curve is not None
    yield from map(Text, textwrap.wrap(measured(curve), room))
    if is_same_everywhere(explanation):
        yield Text(same_everywhere(curve))
        return
    changes = curve.measures_change
    cells = _Cells(curve, room, in_percent=changes, marked=explanation.marked)
    if explanation.is_safe is not True:
        yield from _plotted(curve, cells)
    yield cells.row("batch", [cells.size(reading) for reading in cells.readings], "bold")
    yield cells.row(_LABELS[curve.quantity], [cells.value(reading, reading.mean) for reading in cells.readings])
    if not changes:
        yield cells.row("error", [cells.error(reading, reading.mean) for reading in cells.readings], "dim")
    if curve.quantity == "mean of batches" and _differ(cells):
        yield cells.row("weighted", [cells.value(reading, reading.weighted) for reading in cells.readings])
    if any(reading.standard_error for reading in cells.readings):
        yield cells.row("±", [cells.noise(reading) for reading in cells.readings], "dim")
    yield from (Text(part, style="dim") for part in textwrap.wrap(sampled(curve), room))


class _Cells:
    """Equal columns: as many of the batch sizes as fit, the first and the last always among them."""

    def __init__(self, curve: Curve, room: int, in_percent: bool, marked: int | None = None) -> None:
        self.curve = curve
        self.marked = marked
        self.in_percent = in_percent
        values = [curve.exact, *(reading.mean for reading in curve.readings)]
        usual = [
            value for value in values if math.isfinite(value) and abs(value) <= 1e4 * max(abs(curve.exact), curve.scale)
        ]
        self.decimals = min(6, decimals_for([curve.exact] if curve.exact else usual))
        texts = [self.size(reading) for reading in curve.readings]
        texts += [self.value(reading, reading.mean) for reading in curve.readings]
        texts += [self.error(reading, reading.mean) for reading in curve.readings]
        self.width = max(6, *(len(text) for text in texts)) + 1
        self.readings = _thinned(curve.readings, max(3, (room - LABEL) // self.width), marked)

    def size(self, reading: Reading) -> str:
        """A batch size; the reader's own has a pointer."""
        return ("▸" if reading.size == self.marked else "") + f"{reading.size:,}"

    def value(self, reading: Reading, value: float) -> str:
        """A value, or why there is none."""
        if reading.raised is not None:
            return "fails"
        if self.in_percent:
            return f"{value:.0%}" if value >= 0.1 or value == 0 else f"{value:.1%}"
        return number(value, self.decimals)

    def error(self, reading: Reading, value: float) -> str:
        """The relative error; nothing where it is only rounding."""
        if self.curve.is_exact(value):
            return "0" if not self.in_percent else ""
        return percent(self.curve.error(value))

    def noise(self, reading: Reading) -> str:
        """One standard error, where only some of the batches were tried."""
        return number(reading.standard_error, self.decimals) if reading.standard_error else ""

    def row(self, label: str, texts: Sequence[str], style: str = "") -> Text:
        """A row of the table; the column of the marked size stands out."""
        styles = ["bold cyan" if reading.size == self.marked else style for reading in self.readings]
        cells = ((text.rjust(self.width), look) for text, look in zip(texts, styles, strict=True))
        return Text.assemble((label.ljust(LABEL), "dim"), *cells)

    def column(self, size: int) -> float:
        """Where a batch size lies, in characters after the label: between the columns on a logarithmic scale."""
        ends = [(LABEL + (index + 1) * self.width - 1.5, reading.size) for index, reading in enumerate(self.readings)]
        for (left, small), (right, large) in itertools.pairwise(ends):
            if small <= size <= large:
                return left + (right - left) * math.log(size / small) / math.log(large / small) - LABEL
        return ends[-1][0] - LABEL


def _thinned(readings: Sequence[Reading], most: int, marked: int | None) -> list[Reading]:
    if len(readings) <= most:
        return list(readings)
    picks = sorted({round(index * (len(readings) - 1) / (most - 1)) for index in range(most)})
    own = next((index for index, reading in enumerate(readings) if reading.size == marked), None)
    if own is not None and own not in picks:
        nearest = min(picks[1:-1], key=lambda pick: abs(pick - own))
        picks = sorted({*picks, own} - {nearest})
    return [readings[pick] for pick in picks]


def _differ(cells: _Cells) -> bool:
    """Whether weighting by size changes a figure that is shown."""
    return any(
        cells.value(reading, reading.mean) != cells.value(reading, reading.weighted) for reading in cells.readings
    )


def _plotted(curve: Curve, cells: _Cells) -> Iterator[Text]:
    points = [(cells.column(reading.size), reading.mean) for reading in curve.readings if not reading.undefined]
    seen = within_sight([value for _, value in points], curve.exact, curve.tolerance * curve.scale)
    near = [point for point, is_seen in zip(points, seen, strict=True) if is_seen]
    drawn = plot(near, curve.exact, cells.width * len(cells.readings), HEIGHT)
    if drawn is None:
        return
    grid, scale = drawn
    for index, row in enumerate(grid.rows()):
        label, style = _axis(index, grid, scale, curve, cells)
        yield Text.assemble(
            (label.rjust(LABEL - 1) + " ", style),
            *((mark, {"curve": "bold magenta", "line": "green", "": ""}[layer]) for mark, layer in row),
        )


def _axis(index: int, grid: Grid, scale: Scale, curve: Curve, cells: _Cells) -> tuple[str, str]:
    """The exact value beside its line, the far end of the curve beside its own."""
    write: Callable[[float], str] = (
        (lambda v: f"{v:.0%}") if cells.in_percent else (lambda v: number(v, cells.decimals))
    )
    if is_drawable(curve.exact) and scale.row(curve.exact) // 4 == index:
        return ("exact" if not cells.in_percent else write(curve.exact)), "green"
    if index == 0:
        return write(scale.high), "dim"
    return (write(scale.low), "dim") if index == grid.height - 1 else ("", "")
