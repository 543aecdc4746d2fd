"""A heat strip laid out as strokes and words, and what stands over its columns in every form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from batchproof.report.chart_layout import CHARACTER, FONT, WIDTH, Ink, Shape, Stroke, Words
from batchproof.report.document import HeatStrip, Tone

#: Headings over the cells: not more than this, or they have no room for a name, or for the number of a layer.
MOST_HEADINGS, MOST_NUMBERS = 12, 40
#: The title, a level of headings, a row, and the cells in it.
TITLE, LEVEL, ROW, CELL = 24.0, 16.0, 19.0, 17.0
WIDEST_CELL = 28.0
_INK: dict[Tone, Ink] = {"wrong": "bad", "expected": "measured", "notable": "mine"}
Heading = tuple[str, int]


def heat_height(strip: HeatStrip) -> float:
    """How high it is."""
    return TITLE + LEVEL * len(headings(strip.columns)) + ROW * len(strip.rows)


def heat_layout(strip: HeatStrip) -> Iterator[Shape]:
    """The shapes, those behind first: a row of cells for each change, each as opaque as it is deep."""
    left = 12 + FONT * CHARACTER * max(len(row.label) for row in strip.rows)
    wide = min(WIDEST_CELL, (WIDTH - left) / len(strip.columns))
    yield Words((0, 12), f"{strip.title[:1].upper()}{strip.title[1:]} ({strip.unit})", "muted")
    y = TITLE
    for level in headings(strip.columns):
        yield from _over(level, left, y, wide)
        y += LEVEL
    for row in strip.rows:
        middle = y + ROW / 2
        yield Words((0, middle + 4), row.label)
        for column, size in enumerate(row.cells):
            ends = (left + wide * column, middle), (left + wide * (column + 1), middle)
            if size is None:
                yield Stroke(ends, "axis", 1.0)
                continue
            yield Stroke(ends, "grid", CELL)
            if depth := strip.depth(size):
                yield Stroke(ends, _INK.get(row.tone, "muted"), CELL, opacity=depth)
        y += ROW


def _over(level: Sequence[Heading], left: float, top: float, wide: float) -> Iterator[Shape]:
    """One level of headings: a line where each begins, and its name where that has room."""
    x = left
    for name, count in level:
        yield Stroke(((x, top), (x, top + LEVEL)), "axis", 1.0)
        if FONT * CHARACTER * len(name) + 4 <= wide * count:
            yield Words((x + 3, top + 12), name, "muted")
        x += wide * count


def headings(columns: Sequence[str]) -> list[list[Heading]]:
    """What columns side by side have in common, as deep as names have room; below it the numbers of layers."""
    deepest = max(name.count(".") + 1 for name in columns)
    by_depth = [list(_grouped(columns, depth)) for depth in range(1, deepest + 1)]
    fitting = max((depth for depth, found in enumerate(by_depth) if len(found) <= MOST_HEADINGS), default=-1)
    if fitting < 0:
        return []
    below = by_depth[fitting + 1] if fitting + 1 < deepest else []
    if not 0 < len(below) <= MOST_NUMBERS:
        return [by_depth[fitting]]
    return [by_depth[fitting], [(_last(name, fitting + 2), count) for name, count in below]]


def _grouped(columns: Sequence[str], depth: int) -> Iterator[Heading]:
    for name, group in groupby(".".join(name.split(".")[:depth]) for name in columns):
        yield name, len(list(group))


def _last(name: str, depth: int) -> str:
    """The part of a name that the heading above does not have."""
    parts = name.split(".")
    return parts[-1] if len(parts) == depth else ""
