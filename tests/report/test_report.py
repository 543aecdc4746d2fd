"""What a reader sees: widths, colours, numbers and JSON."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.reports import STRANGE, curve
from torch import Tensor

from batchproof import BatchproofError, Explanation, explain
from batchproof.explanation import Finding, Place, Reading
from batchproof.explanation import wording as about
from batchproof.report.forms import render, show
from batchproof.report.numbers import decimals_for, number, percent


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
    assert " ".join(lines[:2]).startswith("✗ rmse depends on the batch size: averaged over batches, it")
    placed = next(line for line in lines if line.endswith(f".py:{rmse.__code__.co_firstlineno}"))
    assert len(placed) == width
    assert not any(line != line.rstrip() for line in lines)


def test_the_parts_of_the_report(found: Explanation) -> None:
    text = render(found, 100)
    labels = re.findall(r"^  (Why|Fix|Use|batch size|average|off|±)  ", text, re.MULTILINE)
    assert labels == ["batch size", "average", "off", "Why", "Fix"]
    assert "root = torch.sqrt(((pred - real) ** 2).mean())" in text
    assert re.search(r"batch size +1 +4 +16 +64 +256 +all 442\n", text)
    assert re.search(r"off +-\d+\.\d%", text)
    assert "drop_last" not in text


def test_the_whole_report(found: Explanation) -> None:
    text = found.details()
    assert re.search(r"^ +256 .* 2$", text, re.MULTILINE)
    assert "drop_last" in text
    assert "average over all samples first, and apply the function once, at the end" in " ".join(text.split())
    assert "16 bytes at any size; verified on 64 partitions" in " ".join(text.split())


def test_the_print_is_as_wide_as_the_terminal(found: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("80", 80), ("500", 120), ("10", 60)):
        monkeypatch.setenv("COLUMNS", columns)
        assert max(map(len, str(found).splitlines())) == width


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
    assert text.startswith("x rmse depends on the batch size")


def test_a_line_of_code_is_shown_once_and_cut_to_fit(found: Explanation) -> None:
    place = Place("somewhere/very/deep/in/a/tree/of/folders/loss.py", 7, "x = " + "y + " * 60)
    twice = tuple(replace(finding, place=place) for finding in (found.findings[0], Finding("ratio", "a ratio", "so")))
    text = render(replace(found, findings=twice), 80)
    assert text.count("loss.py:7") == 1
    assert "…" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "a ratio: so" in text


def test_a_safe_value_needs_no_table() -> None:
    safe = explain(lambda pred, real: ((pred - real) ** 2).mean(), torch.randn(64), torch.randn(64))
    text = str(safe)
    assert "The same at every batch size from 1 to 64." in text
    assert "average" not in text.split("from 1 to 64")[1]
    assert "total +=" in text


def test_sizes_that_fail_are_marked() -> None:
    def at_least_two(x: Tensor) -> Tensor:
        if len(x) < 2:
            raise ValueError("no")
        return x.mean()

    text = str(explain(at_least_two, torch.randn(64)))
    assert re.search(r"average +fails", text)


@pytest.mark.parametrize("values", STRANGE)
@pytest.mark.parametrize("exact", [1.0, 0.0, -5.0, 1e12, math.nan, math.inf])
def test_any_curve_can_be_shown(found: Explanation, values: tuple[float, ...], exact: float) -> None:
    strange = replace(found, curve=curve(*values, exact=exact), marked=2)
    assert max(map(len, render(strange, 80).splitlines())) <= 80
    json.dumps(strange.to_dict(), allow_nan=False)


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
        "schema", "target", "kind", "is_safe", "verdict", "headline", "place", "curve", "keep", "findings", "use",
        "inputs", "notes", "asked", "marked", "calls", "aggregation", "trials", "one_ulp", "exit_status",
    ]  # fmt: skip
    strange = replace(found, curve=curve(math.nan, math.inf, 1.0)).to_dict()
    text = json.dumps(strange, allow_nan=False)
    assert json.loads(text)["curve"]["readings"][0]["mean"] is None


def two_or_more(x: Tensor) -> Tensor:
    if len(x) < 2:
        raise ValueError("two at least")
    return x.std()


def test_the_readers_own_size(found: Explanation) -> None:
    marked = explain(rmse, torch.randn(100), torch.randn(100), mark=10)
    assert marked.curve is not None
    assert 10 in [reading.size for reading in marked.curve.readings]
    for width in (60, 120):
        text = render(marked, width)
        assert re.search(r"it is [\d.]+% too (low|high) at batch size 10 ", " ".join(text.split()))
        assert re.search(r"^  batch size .* ▸10 ", text, re.MULTILINE)
    assert "your batch size" not in render(found, 80)


def test_no_size_that_was_asked_for_is_dropped() -> None:
    sizes = [4, 8, 12, 16, 20, 24, 28, 32, 48, 64, 100, 128]
    found = explain(rmse, torch.randn(120), torch.randn(120), batch_sizes=sizes)
    for width in (60, 80, 120):
        heads = re.findall(r"^  batch size( +[\d ]+)(?: all 120)?$", render(found, width), re.MULTILINE)
        assert [int(word) for line in heads for word in line.split()] == sizes[:-1]
    assert "batch size 128 is larger than the 120 samples: left out" in found.notes


def own(fn: Callable[..., Tensor], *data: Tensor, mark: int, **options: Any) -> str:
    return about.at_marked_size(explain(fn, *data, mark=mark, **options))


def test_what_it_says_of_the_readers_own_size() -> None:
    x = torch.randn(100)
    assert own(rmse, x, torch.zeros(100), mark=100) == "at your batch size, 100, it is the value on all samples"
    assert own(two_or_more, x, mark=1).startswith(
        "at your batch size, 1, 32 of 32 batches have no value: ValueError: two"
    )
    assert own(torch.sum, x.abs(), mark=50) == "at your batch size, 50, it is 50.0% too low"
    ragged = own(lambda x: x.mean(), torch.arange(100.0), mark=99)
    assert re.fullmatch(
        r"at your batch size, 99, it is [\d.]+% too (low|high), because its last batch of 1 counts like a full one; "
        "weighted by batch size, it is exact",
        ragged,
    )
    larger = "your batch size, 512, is more than the 100 samples: one batch holds them all"
    assert own(rmse, x, torch.zeros(100), mark=512, batch_sizes=[1]) == larger
    norm = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    assert re.fullmatch(
        r"at your batch size, 8, outputs are \d+% of a standard deviation from those of one batch of all",
        own(norm, torch.randn(64, 3), mark=8),
    )
    assert own(torch.nn.Dropout(), torch.randn(64, 3), mark=8) == "at your batch size, 8, nothing was measured"


def test_values_within_their_noise(found: Explanation) -> None:
    def reads(value: float, error: float | None, exact: float = 1.0) -> str:
        reading = Reading(1, 4, 9, 0, value, value, value, error)
        return about.at_marked_size(
            replace(found, curve=replace(curve(1.0, exact=exact), readings=(reading,)), marked=1)
        )

    assert reads(1.01, 0.002) == "at your batch size, 1, it is 1.0% too high, ± 0.2%"
    assert reads(1.01, None) == "at your batch size, 1, it is 1.0% too high"
    assert reads(1.01, 0.02).startswith(
        "at your batch size, 1, it is within its noise of the value on all samples: +1.00%"
    )
    assert reads(30.0, None) == "at your batch size, 1, it is 29 times its size too high"
    assert reads(0.5, None, exact=math.nan).endswith("it is 0.5000, and there is no value on all samples")


def test_a_batch_size_to_mark_is_a_whole_number() -> None:
    for wrong in (0, -1, 1.5):
        with pytest.raises(BatchproofError, match="a batch size is a whole number from 1 on"):
            explain(rmse, torch.randn(9), torch.randn(9), mark=wrong)
