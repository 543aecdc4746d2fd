"""A strip: batch sizes as columns, as many as fit, under a plot whose axis they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from rich.text import Text

from batchproof.report.document import Strip, StripCurve, StripRow
from batchproof.report.grid import STYLE
from batchproof.report.numbers import is_drawable, number, within_sight
from batchproof.report.plot import Grid, Scale, plot

LABEL = 9
HEIGHT = 4


def strip_lines(strip: Strip, room: int) -> Iterator[Text]:
    """The plot, and the rows below it; nothing where it has no sizes."""
    if not strip.sizes:
        return
    sizes = tuple(("▸" if size == strip.marked else "") + f"{size:,}" for size in strip.sizes)
    rows = [StripRow("batch", sizes), *_telling(strip.rows)]
    width = max(6, *(len(cell) for row in rows for cell in row.cells)) + 1
    columns = _thinned(strip.sizes, max(3, (room - LABEL) // width), strip.marked)
    if strip.trace is not None:
        yield from _plotted(strip, strip.trace, columns, width)
    shown: list[list[str]] = []
    for row in rows:
        cells = [row.cells[column] for column in columns]
        if not row.is_optional or (any(cells) and cells not in shown):
            style = STYLE[row.tone] if shown else "bold"
            styles = ["bold cyan" if strip.sizes[column] == strip.marked else style for column in columns]
            texts = ((cell.rjust(width), look) for cell, look in zip(cells, styles, strict=True))
            yield Text.assemble((row.label.ljust(LABEL), "dim"), *texts)
        shown.append(cells)


def _telling(rows: Sequence[StripRow]) -> Iterator[StripRow]:
    """The rows that say something: an optional one is left out where it is empty or repeats another."""
    seen: list[tuple[str, ...]] = []
    for row in rows:
        if not row.is_optional or (any(row.cells) and row.cells not in seen):
            yield row
        seen.append(row.cells)


def _thinned(sizes: Sequence[int], most: int, marked: int | None) -> list[int]:
    """Which sizes are shown: the first, the last and the reader's own always among them."""
    if len(sizes) <= most:
        return list(range(len(sizes)))
    picks = sorted({round(index * (len(sizes) - 1) / (most - 1)) for index in range(most)})
    own = sizes.index(marked) if marked in sizes else None
    if own is not None and own not in picks:
        nearest = min(picks[1:-1], key=lambda pick: abs(pick - own))
        picks = sorted({*picks, own} - {nearest})
    return picks


def _plotted(strip: Strip, trace: StripCurve, columns: Sequence[int], width: int) -> Iterator[Text]:
    ends = [((index + 1) * width - 1.5, strip.sizes[column]) for index, column in enumerate(columns)]
    points = [
        (_across(size, ends), value)
        for size, value in zip(strip.sizes, trace.values, strict=True)
        if not math.isnan(value)
    ]
    seen = within_sight([value for _, value in points], trace.level, trace.floor)
    near = [point for point, is_seen in zip(points, seen, strict=True) if is_seen]
    drawn = plot(near, trace.level, width * len(columns), HEIGHT)
    if drawn is None:
        return
    grid, scale = drawn
    for index, row in enumerate(grid.rows()):
        label, style = _axis(index, grid, scale, trace)
        yield Text.assemble(
            (label.rjust(LABEL - 1) + " ", style),
            *((mark, {"curve": "bold magenta", "line": "green", "": ""}[layer]) for mark, layer in row),
        )


def _across(size: int, ends: Sequence[tuple[float, int]]) -> float:
    """Where a batch size lies, in characters after the label: between the columns on a logarithmic scale."""
    for (left, small), (right, large) in itertools.pairwise(ends):
        if small <= size <= large:
            return left + (right - left) * math.log(size / small) / math.log(large / small)
    return ends[-1][0]


def _axis(index: int, grid: Grid, scale: Scale, trace: StripCurve) -> tuple[str, str]:
    """The level beside its line, the far end of the curve beside its own."""
    if is_drawable(trace.level) and scale.row(trace.level) // 4 == index:
        return trace.level_label or _written(trace.level, trace), "green"
    if index == 0:
        return _written(scale.high, trace), "dim"
    return (_written(scale.low, trace), "dim") if index == grid.height - 1 else ("", "")


def _written(value: float, trace: StripCurve) -> str:
    return f"{value:.0%}" if trace.decimals is None else number(value, trace.decimals)
