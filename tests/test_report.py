"""What a reader sees: widths, colours, numbers, the plot, JSON and HTML."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from rich.console import Console
from torch import Tensor

from batchproof import Explanation, explain
from batchproof.explain import Curve, Finding, Given, Place, Reading
from batchproof.report.numbers import decimals_for, number, percent
from batchproof.report.plot import plot
from batchproof.report.terminal import render, show


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    root = torch.sqrt(((pred - real) ** 2).mean())
    return root


@pytest.fixture(scope="module")
def found() -> Explanation:
    generator = torch.Generator().manual_seed(1)
    real = torch.randn(442, generator=generator)
    return explain(rmse, real + torch.randn(442, generator=generator), real)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(found: Explanation, width: int) -> None:
    lines = render(found, width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("rmse(pred, real)")
    assert lines[0].endswith(".py:24")
    assert len(lines[0]) == width
    assert not any(line != line.rstrip() for line in lines)


def test_the_parts_of_the_report(found: Explanation) -> None:
    text = render(found, 100)
    labels = re.findall(r"^  (\w+)  ", text, re.MULTILINE)
    assert labels == ["why", "size", "last", "keep", "use"]
    assert "root = torch.sqrt(((pred - real) ** 2).mean())" in text
    assert "→ average its argument over all samples; apply it once, at the end" in text
    assert re.search(r"batch +1 +2 +4 .* 442\n", text)
    assert re.search(r"error +-\d+\.\d%", text)
    assert "drop_last" in text
    assert "16 bytes at any size; verified on 64 partitions" in " ".join(text.split())
    assert str(found).splitlines()[0].startswith("rmse(pred, real)")


def test_the_print_is_as_wide_as_the_terminal(found: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("80", 80), ("500", 120), ("10", 60)):
        monkeypatch.setenv("COLUMNS", columns)
        assert len(str(found).splitlines()[0]) == width


def test_colour_only_where_somebody_looks(found: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, coloured = io.StringIO(), io.StringIO()
    show(found, Console(file=plain, width=80))
    show(found, Console(file=coloured, width=80, force_terminal=True, color_system="standard"))
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[1;31m" in coloured.getvalue()
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured.getvalue()).split() == plain.getvalue().split()


def test_a_terminal_without_unicode(found: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = render(found, 80)
    assert text.isascii()
    assert "-> average" in text


def test_a_line_of_code_is_shown_once_and_cut_to_fit(found: Explanation) -> None:
    place = Place("somewhere/very/deep/in/a/tree/of/folders/loss.py", 7, "x = " + "y + " * 60)
    twice = tuple(replace(finding, place=place) for finding in (found.findings[0], Finding("ratio", "a ratio", "so")))
    text = render(replace(found, findings=twice), 80)
    assert text.count("loss.py:7") == 1
    assert "…" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "  also " in text


def test_a_safe_value_needs_no_table() -> None:
    safe = explain(lambda pred, real: ((pred - real) ** 2).mean(), torch.randn(64), torch.randn(64))
    text = str(safe)
    assert "the same at every batch size from 1 to 64" in text
    assert "⠁" not in text
    assert "total +=" in text


def test_sizes_that_fail_are_marked() -> None:
    def at_least_two(x: Tensor) -> Tensor:
        if len(x) < 2:
            raise ValueError("no")
        return x.mean()

    text = str(explain(at_least_two, torch.randn(64)))
    assert re.search(r"mean +fails", text)


def curve(*values: float, exact: float = 1.0) -> Curve:
    sizes = [2**power for power in range(len(values))]
    readings = tuple(Reading(size, 4, 4, 0, value, value, value) for size, value in zip(sizes, values, strict=True))
    return Curve(exact, readings, 64, 64)


@pytest.mark.parametrize(
    "values", [(1.0, 1.0), (math.nan, math.nan, math.nan), (-math.inf, 0.5, 1.0), (1e9, 1e-9, 1.0), (0.0, 0.0, 0.0)]
)
def test_any_curve_can_be_drawn(found: Explanation, values: tuple[float, ...]) -> None:
    for exact in (1.0, 0.0, math.nan, 1e12):
        strange = replace(found, curve=curve(*values, exact=exact))
        assert render(strange, 80)
        assert strange._repr_html_()
        json.dumps(strange.to_dict(), allow_nan=False)


def test_the_plot_joins_its_points_and_marks_the_exact_value() -> None:
    drawn = plot([(0, 0.0), (9, 1.0)], 1.0, width=10, height=2)
    assert drawn is not None
    top, bottom = drawn[0].rows()
    assert [layer for _, layer in top].count("line") > 0
    assert bottom[0][1] == "curve"
    assert top[9][1] == "curve"
    assert plot([(0, 1.0), (9, 1.0)], 1.0, 10, 2) is None
    assert plot([(0, math.nan), (9, 1.0)], 1.0, 10, 2) is None


def test_numbers_for_readers() -> None:
    assert decimals_for([53.5]) == 2
    assert decimals_for([0.00123]) == 6
    assert decimals_for([12345.0]) == 0
    assert decimals_for([0.0, math.nan]) == 3
    assert [number(value, 2) for value in (1.234, math.nan, -math.inf, 2.5e7)] == ["1.23", "nan", "-inf", "2.500e+07"]
    assert [percent(value) for value in (-0.176, 0.002, 0.0003, 0.00001, 0.0, 25.0, math.inf)] == [
        "-17.6%", "+0.2%", "+0.03%", "+0.001%", "0", "+25x", "",
    ]  # fmt: skip


def test_json_has_stable_keys_and_no_nan(found: Explanation) -> None:
    data = found.to_dict()
    assert list(data) == [
        "target", "kind", "is_safe", "verdict", "headline", "place", "curve", "keep", "findings", "use", "inputs",
        "notes", "exit_status",
    ]  # fmt: skip
    strange = replace(found, curve=curve(math.nan, math.inf, 1.0)).to_dict()
    text = json.dumps(strange, allow_nan=False)
    assert json.loads(text)["curve"]["readings"][0]["mean"] is None


class Balance(HTMLParser):
    """Every tag that opens closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("line", "polyline", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_stands_alone_and_is_escaped(found: Explanation) -> None:
    unsafe = replace(found, headline="<script>", inputs=(Given("<x>", "float32 (3,)", True),))
    page = unsafe._repr_html_()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "<script>" not in page
    assert "http" not in page
    assert "<svg" in page
    assert page.count("<circle") == len(found.curve.readings if found.curve else ())
