"""A waterfall laid out as strokes and words: from the first value down to the last, a bar for each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from batchproof.report.chart_layout import CHARACTER, FONT, WIDTH, Ink, Shape, Stroke, Words
from batchproof.report.document import Tone, Waterfall

TOP, ROW, BAR = 30.0, 27.0, 15.0
#: Room between a bar and its figure.
GAP = 6.0
#: The labels take no more of the width than this.
LABELS = 0.4
_INK: dict[Tone, Ink] = {"wrong": "bad", "faint": "weighted"}


@dataclass(frozen=True)
class _Row:
    """A bar from one value to another, between its label and its figure."""

    label: str
    figure: str
    begin: float
    end: float
    ink: Ink


def waterfall_height(waterfall: Waterfall, width: float = WIDTH) -> float:
    """How high it is."""
    return TOP + _row_height(width) * (len(waterfall.parts) + 2)


def waterfall_layout(waterfall: Waterfall, width: float = WIDTH) -> Iterator[Shape]:
    """The shapes, those behind first: each bar begins where the one above it ends."""
    rows = list(_rows(waterfall))
    above = _label_height(width)
    left = min(LABELS * width, 24 + FONT * CHARACTER * max(len(row.label) for row in rows)) if not above else 0.0
    figures = 12 + FONT * CHARACTER * max(len(row.figure) for row in rows)
    x = _scale(rows, left, width - figures)
    step = _row_height(width)
    yield Words((0, 14), waterfall.title, bold=True)
    for index, row in enumerate(rows):
        y = TOP + step * index + above + ROW / 2
        low, high = sorted((x(row.begin), x(row.end)))
        if index:
            before = x(rows[index - 1].end)
            yield Stroke(((before, y - step), (before, y)), "grid", 1.2)
        yield Stroke(((low, y), (max(high, low + 1.5), y)), row.ink, BAR)
        yield Words((0, y + 4 - above * 1.2), row.label, row.ink if row.ink == "bad" else "text")
        is_end = index in (0, len(rows) - 1)
        has_room = low - GAP - FONT * CHARACTER * len(row.figure) > left
        if row.end >= row.begin or not has_room:
            yield Words((high + GAP, y + 4), row.figure, bold=is_end)
        else:
            yield Words((low - GAP, y + 4), row.figure, anchor="end", bold=is_end)


def _label_height(width: float) -> float:
    """Where there is no room for labels beside the bars, they stand above them."""
    return 15.0 if width < WIDTH else 0.0


def _row_height(width: float) -> float:
    return ROW + _label_height(width)


def _rows(waterfall: Waterfall) -> Iterator[_Row]:
    """The first value, the parts, the last value; the ends begin at the axis of the lowest value."""
    values = [waterfall.start[1]]
    for part in waterfall.parts:
        values.append(values[-1] + part.value)
    base = _base([*values, waterfall.end[1]])
    decimals = len(waterfall.total.partition(".")[2])
    yield _Row(waterfall.start[0], f"{waterfall.start[1]:.{decimals}f}", base, waterfall.start[1], "axis")
    for part, begin, end in zip(waterfall.parts, values, values[1:], strict=False):
        error = f" ± {part.error}" if part.error else ""
        yield _Row(f"{part.kind}: {part.label}", part.amount + error, begin, end, _INK.get(part.tone, "measured"))
    yield _Row(waterfall.end[0], f"{waterfall.end[1]:.{decimals}f}", base, waterfall.end[1], "axis")


def _base(values: Sequence[float]) -> float:
    """Zero, where the steps are large enough beside the values to be seen from there."""
    low, high = min(values), max(values)
    if low >= 0 and high - low > 0.1 * high:
        return 0.0
    return low - 0.15 * (high - low)


def _scale(rows: Sequence[_Row], left: float, right: float) -> Callable[[float], float]:
    ends = [end for row in rows for end in (row.begin, row.end)]
    low, high = min(ends), max(ends)
    width = (high - low) or 1.0
    return lambda value: left + (value - low) / width * (right - left)
