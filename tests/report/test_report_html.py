"""The report as HTML: well formed, complete, and in need of nothing else."""

from __future__ import annotations

import linecache
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.reports import STRANGE, curve, row, simulation
from torch import Tensor

from batchproof import Explanation, Simulation, explain
from batchproof.explanation import Finding, Given, Place
from batchproof.report import palette
from batchproof.report.chart import Axis, Chart, Line, Point, tick_labels, value_axis, value_ticks
from batchproof.report.chart_layout import CHARACTER, ChartFrame, Extent, Marker, Stroke, Words, layout, narrow
from batchproof.report.forms import document_of
from batchproof.report.html import page, render
from batchproof.report.source import around

VOID = {"meta", "br", "hr", "img", "link", "input"}


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    squared = (pred - real) ** 2
    return torch.sqrt(squared.mean())


@pytest.fixture(scope="module")
def found() -> Explanation:
    generator = torch.Generator().manual_seed(1)
    real = torch.randn(442, generator=generator)
    return explain(rmse, real + torch.randn(442, generator=generator), real, mark=16)


@pytest.fixture(params=["explain", "simulate"])
def report(request: pytest.FixtureRequest, found: Explanation) -> Explanation | Simulation:
    return found if request.param == "explain" else simulation(marked=10)


class Reader(HTMLParser):
    """Every tag that opens closes; the text and the attributes are kept."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def svg_of(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])


def test_it_is_well_formed_and_loads_nothing(report: Explanation | Simulation) -> None:
    for text in (page(report), render(report), report._repr_html_()):
        read = Reader(text)
        assert read.open == []
        assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in read.tags}
        assert not re.search(r"https?:|//|url\(|@import|<use\b|xlink|\bon\w+=", text)
        assert not [value for _, attributes in read.tags for key, value in attributes.items() if key in ("src", "href")]
        assert svg_of(text).tag == "svg"
    assert page(report).startswith("<!DOCTYPE html>\n<html lang=")
    assert "default-src 'none'" in page(report)
    assert "<html" not in render(report)


def test_the_page_of_an_explanation_has_every_part(found: Explanation) -> None:
    text = page(found)
    words = Reader(text).text
    assert "rmse(pred, real)" in words
    assert found.headline in words
    assert "a nonlinear function of a mean: the square root is taken in each batch" in words
    assert "average over all samples first, and apply the function once, at the end" in words
    assert "442 samples, shuffled: the value on all of them is" in words
    assert "metric = batchproof.exact(rmse) metric(pred, real) # on each batch" in words
    assert "state sum of squared and the count: 16 bytes at any size; verified on 64 partitions" in words
    marked = re.findall(r"<mark>(.*?)</mark>", text)
    assert len(marked) == 1
    assert "return torch.sqrt(squared.mean())" in marked[0]
    assert "squared = (pred - real) ** 2" in words  # a line around it
    assert "</head>" in text
    title = re.search(r"<title>(.*?)</title>", text)
    assert title is not None
    assert title[1].startswith("rmse(pred, real): rmse depends on the batch size")


def test_the_page_of_a_simulation_has_both_tables() -> None:
    words = Reader(page(simulation(marked=10))).text
    for part in (
        "all samples pooled (Example 1)", "mean of per-batch values (Example 2)", "mean / pooled",
        "value ± s.e. expected published", "At your batch size, 10, it is 2.5% too low",
        "100.25 ± 0.71 100.00 99.95", "normal errors of scale 100; 10,000 batches of each size, seed 0",
        "the figures are within 0.4 standard errors", "scale · √(2/b)",
    ):  # fmt: skip
        assert part in words, part


def test_a_table_can_be_read_aloud(report: Explanation | Simulation) -> None:
    read = Reader(page(report))
    document = document_of(report)
    assert document.sheet is not None
    sheets = [*document.brief.tables, document.sheet]
    scopes = [attributes.get("scope") for attributes in read.all("th")]
    widths = [sum(len(group.columns) for group in sheet.groups) for sheet in sheets]
    assert scopes.count("row") == sum(len(sheet.sizes) for sheet in sheets)
    assert scopes.count("col") == sum(widths) + len(sheets)
    assert len(read.all("td")) - scopes.count("colgroup") // 3 == sum(
        width * len(sheet.sizes) for width, sheet in zip(widths, sheets, strict=True)
    )
    assert [attributes for attributes in read.all("tr") if attributes.get("class") == "own"] == [
        {"class": "own"}
    ] * sum(sheet.marked is not None for sheet in sheets)
    assert read.all("html") == [{"lang": "en"}]


def test_a_chart_says_what_it_shows(report: Explanation | Simulation) -> None:
    svg = svg_of(page(report))
    assert svg.get("role") == "img"
    named = (svg.get("aria-labelledby") or "").split()
    told = {element.get("id"): element.text or "" for element in svg.iter() if element.tag in ("title", "desc")}
    assert [bool(told[name]) for name in named] == [True, True]
    assert report.headline in told[named[1]]
    notes = [path.findtext("title") for path in svg.iter("path") if path.find("title") is not None]
    assert any(note and note.startswith("batches of 16: " if isinstance(report, Explanation) else "batches of 10: ")
               for note in notes)  # fmt: skip


def test_a_chart_has_axis_ticks_legend_marker_and_error_bars(found: Explanation) -> None:
    svg = svg_of(page(simulation(marked=10)))
    words = [element.text for element in svg.iter("text")]
    for word in (
        "value of rmse(errors)", "batch size (samples per batch, logarithmic)", "your batch size: 10",
        "mean of per-batch values", "all samples pooled", "expected", "published", "80", "90", "100", "1", "100,000",
        "-20.2%",
    ):  # fmt: skip
        assert word in words, word
    kinds = [element.get("class") or "" for element in svg.iter("path")]
    assert kinds.count("published") == 10 + 1  # one in the legend
    assert kinds.count("measured filled") == 10 + 1
    exact = [element.text for element in svg_of(page(found)).iter("text") if (element.text or "").startswith("all sam")]
    assert exact == [f"all samples at once: {found.curve.exact:.5f}" if found.curve else ""]


def test_lines_differ_in_more_than_colour() -> None:
    shapes = list(layout(document_of(simulation(marked=10)).chart or pytest.fail("no chart")))
    looks = {(shape.ink, shape.dash) for shape in shapes if isinstance(shape, Stroke) and len(shape.points) > 2}
    forms = {shape.ink: shape.form for shape in shapes if isinstance(shape, Marker) and shape.form != "ring"}
    assert len({dash for _, dash in looks}) == len(looks) - 1  # two are solid: they have other markers
    assert forms["measured"] != forms["pooled"] != forms["published"]


@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK])
def test_colours_stand_out_from_the_paper(colours: dict[str, str]) -> None:
    def light(colour: str) -> float:
        parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name, colour in colours.items():
        if name not in ("paper", "soft", "line"):
            high, low = sorted((light(colours["paper"]), light(colour)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, name


def test_every_colour_has_a_value_in_every_palette() -> None:
    assert palette.LIGHT.keys() == palette.DARK.keys() == palette.EITHER.keys()
    text = page(simulation())
    used = set(re.findall(r"var\(--(\w+)\)", text)) - {"mono", "state", "heat", "g", "n", "room", "least", "cell"}
    assert used <= palette.LIGHT.keys()
    assert "prefers-color-scheme: dark" in text


def test_what_comes_from_the_user_is_escaped(found: Explanation) -> None:
    evil = "<script>alert(1)</script>&\"'"
    place = Place(f"{evil}.py", 3, evil)
    unsafe = replace(
        found, target=evil, headline=evil, place=place, use=(evil,), notes=(evil,), inputs=(Given(evil, evil, True),),
        findings=(Finding("ratio", evil, evil, evil, place), Finding("limit", evil, evil, place=place, harmless=True)),
    )  # fmt: skip
    odd = simulation(target=evil, headline=evil, errors=evil, notes=(evil,), formula=evil, published=evil, place=place)
    for text in (page(unsafe), page(odd)):
        assert "<script" not in text
        assert Reader(text).open == []
        assert evil in "".join(Reader(text).words)
        svg_of(text)


@pytest.mark.parametrize("values", STRANGE)
@pytest.mark.parametrize("exact", [1.0, 0.0, -5.0, 1e12, math.nan, math.inf])
def test_any_curve_can_be_drawn(found: Explanation, values: tuple[float, ...], exact: float) -> None:
    text = page(replace(found, curve=curve(*values, exact=exact), marked=2))
    assert Reader(text).open == []
    if "<svg" in text:
        places = re.findall(r'(?:x|y|points|d)="([^"]*)"', text[text.index("<svg") : text.index("</svg>")])
        assert not [place for place in places if re.search(r"nan|inf", place)]


def test_without_a_value_there_is_no_chart(found: Explanation) -> None:
    nothing = replace(found, curve=curve(math.nan, math.nan, exact=math.nan))
    assert "<svg" not in page(nothing)
    assert "<table" in page(nothing)
    assert "<table" not in page(replace(found, curve=None))
    empty = simulation(rows=(row(1, pooled=row(1).pooled, mean=replace(row(1).mean, value=math.nan)),))
    assert "<svg" in page(empty)
    assert "no value: NaN, or it fails" in page(empty)


def shapes(*values: float, **changes: Any) -> list[Any]:
    points = tuple(Point(2**power, value, tag=f"{value:+.1f}%") for power, value in enumerate(values))
    given = {"about": "", "y_label": "y", "lines": (Line("line", "measured", points),), "level": ("exact", 1.0)}
    return list(layout(Chart(**{**given, **changes})))


@pytest.mark.parametrize("is_narrow", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 60])
def test_words_do_not_overlap_and_stay_inside(count: int, is_narrow: bool) -> None:
    sizes = [1 + 7 * index for index in range(count)]
    points = tuple(Point(size, math.sin(size), tag=f"{math.sin(size):+.1%}") for size in sizes)
    chart = Chart("", "y", (Line("line", "measured", points),), ("exact", 0.3), marked=sizes[-1])
    frame = narrow(chart) if is_narrow else ChartFrame()
    boxes = []
    for words in layout(chart, frame):
        if isinstance(words, Words):
            wide = len(words.text) * words.size * CHARACTER
            left = words.at[0] - {"start": 0, "middle": wide / 2, "end": wide}[words.anchor]
            boxes.append(Extent(left, words.at[1] - 0.75 * words.size, left + wide, words.at[1] + 2))
            assert left >= 0
            assert left + wide <= frame.width
            assert words.at[1] <= frame.height
    assert not [(one, two) for one, two in combinations(boxes, 2) if one.meets(two)]


def test_a_narrow_chart_begins_below_its_legend() -> None:
    lines = tuple(
        Line(f"a line with a long name, {name}", "measured", (Point(1, 1.0), Point(10**5, 2.0))) for name in "abcd"
    )
    chart = Chart("", "y", lines, ("all samples together", 1.5), marked=1)
    frame = narrow(chart)
    assert max(words.at[1] for words in _words(chart, frame) if "long name" in words.text) < frame.top - 17
    last = next(words for words in _words(chart, frame) if words.text == "100,000")
    assert last.at[0] + len(last.text) * last.size * CHARACTER / 2 <= frame.width


def _words(chart: Chart, frame: ChartFrame) -> list[Words]:
    return [shape for shape in layout(chart, frame) if isinstance(shape, Words)]


def test_a_phone_has_a_chart_of_its_own(found: Explanation) -> None:
    text = page(found)
    assert re.findall(r'<svg class="(\w+)" viewBox="0 0 (\d+)', text) == [("broad", "760"), ("narrow", "360")]
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    wide, _, small = text.partition("@media (max-width: 560px) {\n  .batchproof svg.narrow")
    assert ".batchproof svg.narrow { display: none; }" in wide
    assert ".batchproof svg.broad { display: none; }" in small


def test_a_value_far_off_is_pointed_at_and_does_not_flatten_the_others() -> None:
    drawn = shapes(1e9, 0.8, 0.9, 0.95, -1.0)
    assert [shape.form for shape in drawn if isinstance(shape, Marker) and shape.ink == "measured"].count("up") == 1
    assert "beyond this scale" in [shape.text for shape in drawn if isinstance(shape, Words)]
    near = [shape.at[1] for shape in drawn if isinstance(shape, Marker) and shape.form == "circle"]
    assert max(near) - min(near) > 100


def test_a_size_without_a_value_breaks_the_line() -> None:
    runs = [
        len(shape.points)
        for shape in shapes(0.5, 0.6, math.nan, 0.8, 0.9, 0.95)
        if isinstance(shape, Stroke) and shape.ink == "measured" and shape.width == 2 and shape.points[0][1] > 80
    ]
    assert runs == [2, 3]


def test_values_over_many_orders_of_magnitude_have_a_logarithmic_scale() -> None:
    points = tuple(Point(10**power, 10.0**power) for power in range(6))
    axis = value_axis(Chart("", "y", (Line("sum", "measured", points),)))
    assert axis.log
    assert [axis.share(10.0**power) for power in range(6)] == sorted(axis.share(10.0**power) for power in range(6))
    assert tick_labels(value_ticks(axis)) == ["1", "10", "100", "1000", "10000", "100000"]


def test_rounding_is_no_curve(found: Explanation) -> None:
    same = replace(found, is_safe=True, curve=curve(1.0, 1.0 + 1e-13, 1.0 - 1e-13), marked=None)
    chart = document_of(same).chart
    assert chart is not None
    axis = value_axis(chart)
    assert axis.high - axis.low > 0.1


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (79.0, 101.0, ["80", "85", "90", "95", "100"]),
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.3, 0.31, ["-0.2", "0.0", "0.2"]),
        (8e11, 9.9e11, ["8.00e+11", "8.50e+11", "9.00e+11", "9.50e+11"]),
        (1e-7, 2e-7, ["1.0e-07", "1.2e-07", "1.4e-07", "1.6e-07", "1.8e-07", "2.0e-07"]),
        (0.0, 12_000.0, ["0", "2,500", "5,000", "7,500", "10,000"]),
    ],
)
def test_ticks_are_round_and_told_apart(low: float, high: float, labels: list[str]) -> None:
    ticks = value_ticks(Axis(low, high))
    assert tick_labels(ticks) == labels
    assert all(low <= tick <= high for tick in ticks)
    assert all(abs((b - a) - (ticks[1] - ticks[0])) < 1e-9 * abs(high) for a, b in pairwise(ticks))


def test_a_few_lines_around_the_one_that_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "loss.py"
    file.write_text(
        "import torch\n\n\ndef f(x):\n    a = 1\n    if a:\n        b = 2\n    return x\n\ny = 2\ndef g():\n    pass\n"
    )
    meant = Place(str(file), 8, "return x")
    assert [(line.number, line.text, line.is_meant) for line in around(meant)] == [
        (5, "a = 1", False), (6, "if a:", False), (7, "    b = 2", False), (8, "return x", True),
    ]  # fmt: skip
    assert [line.number for line in around(Place(str(file), 5, "a = 1"))] == [4, 5, 6, 7]
    assert [line.number for line in around(Place(str(file), 12, "pass"))] == [11, 12]
    linecache.clearcache()
    file.write_text("it has changed since\n" * 20)
    assert [line.text for line in around(meant)] == ["return x"]
    assert [line.text for line in around(Place("<string>", 3, "return y"))] == ["return y"]
    assert around(Place("<string>", 3)) == []


def test_a_line_to_blame_is_shown_once(found: Explanation) -> None:
    first = found.findings[0]
    twice = replace(found, findings=(first, Finding("ratio", "a ratio", "so", place=first.place)))
    assert page(twice).count("<mark>") == 1
    assert "<strong>a ratio:</strong>" in page(twice)
