"""A chart laid out as strokes, marks and words at places; painted as SVG in a page, by matplotlib in a PNG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from batchproof.report.chart import (
    Axis,
    Chart,
    Line,
    Point,
    size_axis,
    tick_labels,
    value_axis,
    value_ticks,
)
from batchproof.report.numbers import is_drawable, size, size_on_axis
from batchproof.report.page import beginning

#: What a shape stands for: its colour depends on it.
Ink = Literal[
    "measured", "weighted", "pooled", "exact", "theory", "published",
    "mine", "grid", "axis", "text", "muted", "good", "bad", "unsure",
]  # fmt: skip
Form = Literal["circle", "square", "cross", "plus", "ring", "up", "down"]
Anchor = Literal["start", "middle", "end"]
XY = tuple[float, float]

WIDTH, HEIGHT = 760.0, 408.0
#: On a telephone, where a chart of the full width would have letters of half their size.
NARROW = 360.0
INSET = 16.0
#: Of more points, only those whose size the axis names bear a figure.
MOST_TAGS = 20
FONT, FONT_LEADING = 12.0, 17.0
#: The width of a character, as a share of the font's size: a little more than most fonts have.
CHARACTER, BOLD_CHARACTER = 0.58, 0.65
_DASH: dict[str, tuple[float, ...]] = {"weighted": (2, 3), "exact": (8, 5), "theory": (8, 5), "mine": (2, 3)}
_FORM: dict[str, Form] = {"measured": "circle", "weighted": "square", "pooled": "square", "published": "cross"}
RADIUS = {"circle": 3.4, "ring": 8.0}
FILLED = frozenset({"circle", "up", "down"})
#: A line whose points no stroke joins.
_LOOSE = frozenset({"published"})


@dataclass(frozen=True)
class Stroke:
    """A line through points."""

    points: tuple[XY, ...]
    ink: Ink
    width: float = 1.0
    dash: tuple[float, ...] = ()
    opacity: float = 1.0


@dataclass(frozen=True)
class Marker:
    """One point; ``note`` is what it tells who points at it."""

    at: XY
    form: Form
    ink: Ink
    note: str = ""


@dataclass(frozen=True)
class Words:
    """A short text, its baseline at a place."""

    at: XY
    text: str
    ink: Ink = "text"
    anchor: Anchor = "start"
    size: float = FONT
    bold: bool = False
    mono: bool = False


Shape = Stroke | Marker | Words


@dataclass(frozen=True)
class Extent:
    """The room that words take."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Extent) -> bool:
        """Whether two overlap."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def holds(self, point: XY) -> bool:
        """Whether a point lies inside."""
        return self.left < point[0] < self.right and self.top < point[1] < self.bottom


@dataclass(frozen=True)
class ChartFrame:
    """Where the values of a chart are drawn, in a picture of this size."""

    width: float = WIDTH
    height: float = HEIGHT
    left: float = 66.0
    right: float = 744.0
    top: float = 90.0
    bottom: float = 360.0

    def inside(self, box: Extent) -> bool:
        """Whether words stand within it."""
        return box.left > self.left and box.right < self.right and box.top > self.top - 4 and box.bottom < self.bottom


WIDE = ChartFrame()


def narrow(chart: Chart) -> ChartFrame:
    """A frame for a telephone: as high as a wide one, below a legend of as many rows as it takes."""
    frame = ChartFrame(width=NARROW, left=52.0, right=NARROW - 6)
    rows = {y for *_, (_, y) in _legend_places(chart, frame)}
    more = FONT_LEADING * max(0, len(rows) - 2)
    return replace(frame, height=HEIGHT + more, top=WIDE.top + more, bottom=WIDE.bottom + more)


@dataclass(frozen=True)
class Field:
    """From batch sizes and values to places."""

    sizes: Axis
    values: Axis
    frame: ChartFrame = WIDE

    def x(self, size: float) -> float:
        """Across."""
        return self.frame.left + INSET + self.sizes.share(size) * (self.frame.right - self.frame.left - 2 * INSET)

    def y(self, value: float) -> float:
        """Down; what is out of sight lies on the edge."""
        share = self.values.share(value) if not self.values.log or value > 0 else -1.0
        return self.frame.bottom - min(1.0, max(0.0, share)) * (self.frame.bottom - self.frame.top)

    def sees(self, value: float) -> bool:
        """Whether a value is within the chart."""
        return is_drawable(value) and (value > 0 or not self.values.log) and 0 <= self.values.share(value) <= 1

    def at(self, point: Point) -> XY:
        """Where a point lies."""
        return self.x(point.size), self.y(point.value)


def layout(chart: Chart, frame: ChartFrame = WIDE) -> Iterator[Shape]:
    """The shapes of a chart, those behind first."""
    field = Field(size_axis(chart.sizes), value_axis(chart), frame)
    yield from _grid(chart, field)
    yield from _legend(chart, frame)
    if chart.level is not None and field.sees(chart.level[1]):
        yield _level(field.y(chart.level[1]), frame)
    if chart.marked is not None:
        yield from _marked(field.x(chart.marked), chart.marked, frame)
    for line in reversed(chart.lines):
        yield from _line(line, field, chart.marked)
    yield from (Marker((field.x(size), frame.bottom), "plus", "muted", _no_value(size)) for size in chart.missing)
    yield from _tags(chart, field)


def _no_value(count: int) -> str:
    return f"batches of {size(count)}: no value"


def _grid(chart: Chart, field: Field) -> Iterator[Shape]:
    ticks = value_ticks(field.values)
    for value, label in zip(ticks, tick_labels(ticks, chart.in_percent), strict=True):
        y = field.y(value)
        yield Stroke(((field.frame.left, y), (field.frame.right, y)), "grid")
        yield Words((field.frame.left - 8, y + 4), label, "muted", "end")
    yield Stroke(((field.frame.left, field.frame.bottom), (field.frame.right, field.frame.bottom)), "axis")
    for count in _labelled_sizes(chart, field):
        own = count == chart.marked
        yield Stroke(((field.x(count), field.frame.bottom), (field.x(count), field.frame.bottom + 5)), "axis")
        ink: Ink = "mine" if own else "muted"
        text = size_on_axis(count)
        x = min(field.x(count), field.frame.width - len(text) * FONT * CHARACTER / 2)
        yield Words((x, field.frame.bottom + 19), text, ink, "middle", bold=own)
    yield Words(
        ((field.frame.left + field.frame.right) / 2, field.frame.bottom + 40),
        "batch size (samples per batch, logarithmic)",
        "text",
        "middle",
    )
    most = int((field.frame.right - field.frame.left) / (FONT * BOLD_CHARACTER))
    yield Words((field.frame.left, 14), beginning(chart.y_label, most), "text", bold=True)


def _labelled_sizes(chart: Chart, field: Field) -> list[int]:
    """Those whose labels do not touch: the reader's own first, then the ends, then powers of ten, then the others."""

    def weight(count: int) -> tuple[bool, bool, bool, int]:
        ends = count in (chart.sizes[0], chart.sizes[-1])
        return count != chart.marked, not ends, 10 ** round(math.log10(count)) != count, count

    taken: dict[int, Extent] = {}
    for count in sorted(chart.sizes, key=weight):
        box = _box((field.x(count), 0), size_on_axis(count), "middle", FONT, margin=5)
        if not any(box.meets(other) for other in taken.values()):
            taken[count] = box
    return sorted(taken)


def _level(y: float, frame: ChartFrame) -> Stroke:
    return Stroke(((frame.left, y), (frame.right, y)), "exact", 1.6, _DASH["exact"])


def _marked(x: float, count: int, frame: ChartFrame) -> Iterator[Shape]:
    yield Stroke(((x, frame.top - 12), (x, frame.bottom)), "mine", 1.4, _DASH["mine"])
    text = f"your batch size: {size(count)}"
    half = len(text) * FONT * CHARACTER / 2
    yield Words((min(max(x, frame.left + half), frame.right - half), frame.top - 17), text, "mine", "middle", bold=True)


def _line(line: Line, field: Field, marked: int | None) -> Iterator[Shape]:
    seen = [point for point in line.points if is_drawable(point.value)]
    if line.look not in _LOOSE:
        # a size without a value between two others breaks the line
        for run in _runs(line.points):
            if len(run) > 1:
                width = 2.0 if line.look == "measured" else 1.4
                yield Stroke(tuple(map(field.at, run)), line.look, width, _DASH.get(line.look, ()))
    for point in seen:
        if point.error > 0 and field.sees(point.value):
            yield from _error_bar(point, field, line.look)
    form = _FORM.get(line.look)
    for point in seen:
        if not field.sees(point.value):
            above = field.y(point.value) <= (field.frame.top + field.frame.bottom) / 2
            yield Marker(field.at(point), "up" if above else "down", line.look, point.note)
        elif form is not None:
            if point.size == marked and line.look == "measured":
                yield Marker(field.at(point), "ring", "mine")
            yield Marker(field.at(point), form, line.look, point.note)


def _runs(points: Iterable[Point]) -> Iterator[list[Point]]:
    run: list[Point] = []
    for point in points:
        if is_drawable(point.value):
            run.append(point)
        else:
            yield run
            run = []
    yield run


def _error_bar(point: Point, field: Field, ink: Ink) -> Iterator[Shape]:
    x, low, high = field.x(point.size), field.y(point.value - point.error), field.y(point.value + point.error)
    if low - high > 1:
        yield Stroke(((x, low), (x, high)), ink, 1.2)
        yield from (Stroke(((x - 4, y), (x + 4, y)), ink, 1.2) for y in (low, high))


def _legend(chart: Chart, frame: ChartFrame) -> Iterator[Shape]:
    """A key per line, side by side, on a further row where one is full."""
    for label, ink, form, (x, y) in _legend_places(chart, frame):
        loose = ink in _LOOSE or ink == "muted"
        if not loose:
            yield Stroke(((x, y - 4), (x + 22, y - 4)), ink, 2.0 if ink == "measured" else 1.5, _DASH.get(ink, ()))
        if form is not None:
            yield Marker((x + 11, y - 4), form, ink)
        yield Words((x + 28, y), label, "muted")


def _legend_places(chart: Chart, frame: ChartFrame) -> Iterator[tuple[str, Ink, Form | None, XY]]:
    x, y = frame.left, 34.0
    for label, ink, form in _keys(chart):
        wide = 30 + len(label) * FONT * CHARACTER
        if x > frame.left and x + wide > frame.right:
            x, y = frame.left, y + FONT_LEADING
        yield label, ink, form, (x, y)
        x += wide + 18


def _keys(chart: Chart) -> Iterator[tuple[str, Ink, Form | None]]:
    if chart.level is not None:
        yield chart.level[0], "exact", None
    yield from ((line.label, line.look, _FORM.get(line.look)) for line in chart.lines)
    if chart.missing:
        yield "no value: NaN, or it fails", "muted", "plus"
    values = value_axis(chart)
    points = [point for line in chart.lines for point in line.points if is_drawable(point.value)]
    if not all(Field(size_axis(chart.sizes), values).sees(point.value) for point in points):
        yield "beyond this scale", "muted", "up"


def _tags(chart: Chart, field: Field) -> Iterator[Words]:
    """Figures beside their points, where they hide nothing: the reader's own first, then the ends, then others."""
    named = chart.sizes if len(chart.sizes) <= MOST_TAGS else _labelled_sizes(chart, field)
    tagged = [
        point
        for line in chart.lines
        for point in line.points
        if point.tag and point.size in named and field.sees(point.value)
    ]
    order = sorted(
        tagged,
        key=lambda point: (point.size != chart.marked, point.size not in (chart.sizes[0], chart.sizes[-1]), point.size),
    )
    in_the_way = list(_obstacles(chart, field))
    taken: list[Extent] = []
    for point in order:
        own = point.size == chart.marked
        for at, anchor in _beside(field.at(point), up=_is_above(point, chart)):
            box = _box(at, point.tag, anchor, FONT)
            if field.frame.inside(box) and not any(map(box.meets, taken)) and not any(map(box.holds, in_the_way)):
                taken.append(box)
                yield Words(at, point.tag, "mine" if own else "text", anchor, bold=own)
                break


def _is_above(point: Point, chart: Chart) -> bool:
    return chart.level is not None and point.value > chart.level[1]


def _beside(at: XY, up: bool) -> Iterator[tuple[XY, Anchor]]:
    x, y = at
    above, below = (y - 9, y + 18)
    for height in (above, below) if up else (below, above):
        yield (x, height), "middle"
        yield (x + 7, height), "start"
        yield (x - 7, height), "end"
    for height in (y + 4, y + 11):
        yield (x + 10, height), "start"
        yield (x - 10, height), "end"


def _obstacles(chart: Chart, field: Field) -> Iterator[XY]:
    """Points along everything that a figure must not hide."""
    for line in chart.lines:
        places = [field.at(point) for point in line.points if field.sees(point.value)]
        yield from places
        if line.look not in _LOOSE:
            for start, end in pairwise(places):
                yield from _along(start, end)
    if chart.level is not None and field.sees(chart.level[1]):
        y = field.y(chart.level[1])
        yield from _along((field.frame.left, y), (field.frame.right, y))
    if chart.marked is not None:
        x = field.x(chart.marked)
        yield from _along((x, field.frame.top), (x, field.frame.bottom))


def _along(start: XY, end: XY, step: float = 3.0) -> Iterator[XY]:
    count = max(1, math.ceil(math.dist(start, end) / step))
    for index in range(count + 1):
        share = index / count
        yield start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _box(at: XY, text: str, anchor: Anchor, font: float, margin: float = 2) -> Extent:
    width = len(text) * font * CHARACTER
    left = at[0] - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return Extent(left - margin, at[1] - 0.8 * font - margin, left + width + margin, at[1] + 0.2 * font + margin)


def corners(form: Form) -> list[list[tuple[float, float]]]:
    """The strokes of a mark, around its middle."""
    r = 4.0
    if form == "square":
        return [[(-r, -r), (r, -r), (r, r), (-r, r), (-r, -r)]]
    if form == "up":
        return [[(-r, r), (0, -r), (r, r), (-r, r)]]
    if form == "down":
        return [[(-r, -r), (0, r), (r, -r), (-r, -r)]]
    if form == "plus":
        return [[(-r, 0), (r, 0)], [(0, -r), (0, r)]]
    return [[(-r, -r), (r, r)], [(-r, r), (r, -r)]]
