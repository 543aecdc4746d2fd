"""The sizes: a plot over a table whose columns are the plot's axis."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from batchproof.report.numbers import decimals_for, number, percent
from batchproof.report.plot import Grid, Scale, plot

if TYPE_CHECKING:
    from batchproof.explain.explanation import Curve, Explanation, Reading

LABEL = 9
HEIGHT = 4
_LABELS = {"mean of batches": "mean", "compute()": "compute", "change of the output": "change"}


def size_lines(explanation: Explanation, room: int) -> Iterator[Text]:
    """A line on what was measured, the plot, and the table."""
    curve = explanation.curve
    assert curve is not None
    yield from map(Text, textwrap.wrap(_about(curve), room))
    if explanation.is_safe and all(curve.is_exact(reading.mean) for reading in curve.readings):
        yield Text(f"the same at every batch size from {curve.readings[0].size:,} to {curve.readings[-1].size:,}")
        return
    changes = curve.quantity == "change of the output"
    cells = _Cells(curve, room, in_percent=changes)
    if explanation.is_safe is not True:
        yield from _plotted(curve, cells)
    yield cells.row("batch", [f"{reading.size:,}" for reading in cells.readings], "bold")
    yield cells.row(_LABELS[curve.quantity], [cells.value(reading, reading.mean) for reading in cells.readings])
    if not changes:
        yield cells.row("error", [cells.error(reading, reading.mean) for reading in cells.readings], "dim")
    if curve.quantity == "mean of batches" and _differ(cells):
        yield cells.row("weighted", [cells.value(reading, reading.weighted) for reading in cells.readings])
    if any(reading.standard_error for reading in cells.readings):
        yield cells.row("±", [cells.noise(reading) for reading in cells.readings], "dim")
    yield from _footnotes(curve)


def _about(curve: Curve) -> str:
    some = (
        f"{curve.samples:,} of {curve.of_samples:,} samples"
        if curve.samples < curve.of_samples
        else f"{curve.samples:,} samples"
    )
    order = "shuffled" if curve.shuffled else "in their order"
    text = f"{some}, {order}"
    if curve.quantity == "change of the output":
        return f"{text}: how far outputs are from those of one batch of all, in standard deviations"
    exact = number(curve.exact, decimals_for([curve.exact], 5))
    if curve.components > 1:
        text += f"; component {curve.component} of {curve.components}, which moves most"
    return f"{text}: exact {exact}"


def _footnotes(curve: Curve) -> Iterator[Text]:
    sampled = [reading for reading in curve.readings if reading.is_sampled]
    if sampled:
        first = sampled[0]
        yield Text(
            f"sampled: {first.batches:,} of {first.of:,} batches at size {first.size:,}, ± one standard error",
            style="dim",
        )


class _Cells:
    """Equal columns: as many of the batch sizes as fit, the first and the last always among them."""

    def __init__(self, curve: Curve, room: int, in_percent: bool) -> None:
        self.curve = curve
        self.in_percent = in_percent
        values = [curve.exact, *(reading.mean for reading in curve.readings)]
        usual = [
            value for value in values if math.isfinite(value) and abs(value) <= 1e4 * max(abs(curve.exact), curve.scale)
        ]
        self.decimals = min(6, decimals_for([curve.exact] if curve.exact else usual))
        texts = [f"{reading.size:,}" for reading in curve.readings]
        texts += [self.value(reading, reading.mean) for reading in curve.readings]
        texts += [self.error(reading, reading.mean) for reading in curve.readings]
        self.width = max(6, *(len(text) for text in texts)) + 1
        self.readings = _thinned(curve.readings, max(2, (room - LABEL) // self.width))

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
        """A row of the table."""
        return Text.assemble((label.ljust(LABEL), "dim"), ("".join(text.rjust(self.width) for text in texts), style))

    def column(self, size: int) -> float:
        """Where a batch size lies, in characters after the label: between the columns on a logarithmic scale."""
        ends = [(LABEL + (index + 1) * self.width - 1.5, reading.size) for index, reading in enumerate(self.readings)]
        for (left, small), (right, large) in itertools.pairwise(ends):
            if small <= size <= large:
                return left + (right - left) * math.log(size / small) / math.log(large / small) - LABEL
        return ends[-1][0] - LABEL


def _thinned(readings: Sequence[Reading], most: int) -> list[Reading]:
    if len(readings) <= most:
        return list(readings)
    picks = sorted({round(index * (len(readings) - 1) / (most - 1)) for index in range(most)})
    return [readings[pick] for pick in picks]


def _differ(cells: _Cells) -> bool:
    """Whether weighting by size changes a figure that is shown."""
    return any(
        cells.value(reading, reading.mean) != cells.value(reading, reading.weighted) for reading in cells.readings
    )


def _within_sight(points: list[tuple[float, float]], exact: float) -> list[tuple[float, float]]:
    """Without a few points so far off that the others would lie on one line."""
    gaps = sorted(abs(y - exact) for _, y in points)
    usual = gaps[len(gaps) // 2] if gaps else 0.0
    near = [(x, y) for x, y in points if not usual or abs(y - exact) <= 500 * usual]
    return near if len(near) > 2 else points


def _plotted(curve: Curve, cells: _Cells) -> Iterator[Text]:
    points = [(cells.column(reading.size), reading.mean) for reading in curve.readings if not reading.undefined]
    drawn = plot(_within_sight(points, curve.exact), curve.exact, cells.width * len(cells.readings), HEIGHT)
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
    if math.isfinite(curve.exact) and scale.row(curve.exact) // 4 == index:
        return ("exact" if not cells.in_percent else write(curve.exact)), "green"
    if index == 0:
        return write(scale.high), "dim"
    return (write(scale.low), "dim") if index == grid.height - 1 else ("", "")
