"""The report on a simulation in a terminal: the question's two tables, at every width."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from tests.reports import row, simulation

import batchproof
from batchproof.ground.place import Place
from batchproof.report.forms import document_of, render, show
from batchproof.report.numbers import aligned, error_bar, known_to, size, size_on_axis, within_sight
from batchproof.simulation import Estimate, Simulation


@pytest.mark.parametrize("is_verbose", [False, True])
@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize(
    "found",
    [
        simulation(marked=10),
        simulation((1, 16), known=False, compared=False),
        simulation((7,), compared=False),
        simulation((1, 16, 10**12), marked=10**12),
        simulation((1, 2_345_678_901), compared=False),
    ],
    ids=["all", "nothing known", "one size", "huge", "a long size"],
)
def test_no_line_is_wider_than_the_terminal(found: Simulation, width: int, is_verbose: bool) -> None:
    lines = render(found, width, is_verbose=is_verbose).splitlines()
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)


def test_the_screen() -> None:
    found = replace(simulation((1, 16, 128), marked=16), place=Place("loss.py", 2))
    assert render(found, 80).splitlines() == [
        "✗ averaged over batches, rmse is 1.5% too low at batch size 16 (20.2% at 1)",
        "                                                                       loss.py:2",
        "  at your batch size, 16, it is 1.5% too low",
        "",
        "  batch size  all samples  averaged over batches     off",
        "           1       100.25                 80.04   -20.2%  " + "█" * 22,
        "        ▸ 16       100.06                 98.51    -1.5%  █▋",
        "         128       100.02                 99.827   -0.2%  ▎",
        "",
        "  Fix   metric = batchproof.exact(rmse)",
        "        metric(errors)    # on each batch, in place of rmse(errors)",
        "        metric.compute()  # after the last batch: the value on all samples",
        "",
        "  normal errors of scale 100; 10,000 batches of each size, seed 0",
    ]


def test_the_two_tables_stand_beside_each_other_where_there_is_room() -> None:
    wide, narrow = (render(simulation(), width, is_verbose=True).splitlines() for width in (100, 80))
    one, two = "all samples pooled (Example 1)", "mean of per-batch values (Example 2)"
    assert any(one in line and two in line for line in wide)
    assert not any(one in line and two in line for line in narrow)
    titles = [line.strip() for line in narrow if line.strip() in (one, two, "mean / pooled")]
    assert titles == [one, two, "mean / pooled"]


def test_a_row_has_value_error_expected_and_published() -> None:
    text = render(simulation(), 100, is_verbose=True)
    first = next(line for line in text.splitlines() if line.strip().startswith("1 ") and "±" in line)
    assert first.split() == "1 100.25 ± 0.71 100.00 99.95 80.04 ± 0.71 79.79 80.96".split()
    # the first table that was published has no row for 100,000
    last = next(line for line in text.splitlines() if line.strip().startswith("100,000 ") and "±" in line)
    assert last.split() == "100,000 100.0008 ± 0.0022 100.0000 100.0005 ± 0.0022 99.9997 100.0008".split()
    assert re.search(r"^ +1 +0\.7979 +± 0\.0035 +0\.7979 +-20\.2% +█{20,}$", text, re.MULTILINE)


def test_a_bar_is_long_enough_to_be_read_or_not_there() -> None:
    for width in range(60, 121):
        lines = render(simulation((1, 2)), width, is_verbose=True).splitlines()
        bars = [line.count("█") for line in lines if "%" in line and line.split()[0] == "1"]
        assert max(map(len, lines)) <= width
        assert all(bar == 0 or bar >= 8 for bar in bars)


def test_columns_that_say_nothing_are_left_out() -> None:
    text = render(simulation(known=False, compared=False), 100, is_verbose=True)
    assert "expected" not in text
    assert "published" not in text
    assert "Example" not in text
    assert "theory" not in text


def test_the_bars_show_how_far_the_mean_is_off() -> None:
    lines = render(simulation((1, 2, 5, 1000), compared=False), 100).splitlines()
    bars = [line.count("█") for line in lines if "%" in line and line.strip()[0].isdigit()]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > 5
    assert bars[-1] == 0
    level = simulation((1, 2), compared=False)
    same = tuple(replace(each, ratio=Estimate(1.0, 0.0, 1.0)) for each in level.rows)
    assert "█" not in render(replace(level, rows=same), 100)


def test_what_a_reader_should_know() -> None:
    text = " ".join(render(simulation(), 100, is_verbose=True).split())
    assert "drawn normal errors of scale 100; 10,000 batches of each size, seed 0; ± one standard error" in text
    assert "check the figures are within 0.4 standard errors of what is expected" in text
    assert "direct from size 100 on: the state of each batch was drawn from its own distribution" in text
    assert "theory the mean of per-batch values, in closed form: scale · √(2/b)" in text
    assert 'source published: the answer to "Larger batch size' in text


def test_rows_that_were_called_interrupted_or_undefined_are_named() -> None:
    rows = (row(1, undefined=34, how="called"), row(2, undefined=1, how="called"), row(3, batches=120))
    text = " ".join(render(simulation(rows=rows, interrupted=True), 120, is_verbose=True).split())
    assert "Batches without a value are left out of the mean: 34 of 10,000 at size 1, 1 of 10,000 at size 2" in text
    assert "called up to size 2: the function was called on each batch" in text
    assert "interrupted at size 3, after 120 of its 10,000 batches" in text
    done = " ".join(render(simulation(rows=rows[:2], interrupted=True), 120, is_verbose=True).split())
    assert "interrupted after size 2" in done
    assert "called every size" in done


def test_expected_values_from_an_integral() -> None:
    text = " ".join(render(simulation(formula="", expected_by="integral"), 120, is_verbose=True).split())
    assert "theory expected values come from an integral over the distribution of the errors" in text


def test_no_advice_where_nothing_is_wrong_or_the_function_has_no_name() -> None:
    assert "batchproof.exact" not in render(simulation(depends=False), 100)
    assert "batchproof.exact" not in render(simulation(target="lambda(errors)"), 100)


def test_the_fix_can_be_pasted() -> None:
    names = {
        "batchproof": batchproof,
        "rmse": lambda errors: errors.square().mean().sqrt(),
        "errors": torch.arange(9.0),
    }
    for line in document_of(replace(simulation(), place=Place("loss.py", 2))).use:
        exec(line, names)
    assert torch.equal(names["metric"].compute(), names["rmse"](names["errors"]))  # type: ignore[attr-defined, operator]


def test_a_cell_or_a_debugger_shows_one_line() -> None:
    assert repr(simulation()) == f"<Simulation: {simulation().headline}>"
    assert simulation().details() == render(simulation(), is_verbose=True)


def test_the_readers_own_size() -> None:
    known = render(simulation(marked=10), 100, is_verbose=True)
    assert "  at your batch size, 10, it is 2.5% too low\n" in known
    assert re.search(r"^ +▸ 10 ", known, re.MULTILINE)
    drawn = simulation((10,), rows=(row(10, known=False, ratio=Estimate(0.975, 0.002)),), marked=10)
    assert "at your batch size, 10, it is 2.5% too low, ± 0.2%" in render(drawn, 100)
    assert "your batch size, 16, was not reached" in render(simulation(marked=16), 100)
    above = simulation((16,), rows=(row(16, known=False, ratio=Estimate(1.02, 0.001)),), marked=16)
    assert "it is 2.0% too high" in render(above, 100)
    noise = simulation((16,), rows=(row(16, known=False, ratio=Estimate(1.001, 0.001)),), marked=16)
    assert "is within its noise of the value on all samples: +0.10% ± 0.1%" in " ".join(render(noise, 100).split())
    same = simulation((16,), rows=(row(16, known=False, ratio=Estimate(1.0, 0.0)),), marked=16)
    assert "at your batch size, 16, it is the value on all samples" in render(same, 100)
    none = simulation((16,), rows=(row(16, known=False, ratio=Estimate(math.nan, math.nan)),), marked=16)
    assert "at your batch size, 16, there is no value" in render(none, 100)


def test_values_that_are_not_numbers_can_be_shown() -> None:
    nothing = Estimate(math.nan, math.nan)
    strange = simulation(rows=(row(1, mean=nothing, ratio=nothing), row(2, pooled=Estimate(math.inf, 0.0))))
    for width in (60, 120):
        text = render(strange, width)
        assert "nan" in text
        assert "inf" in text


def test_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = render(simulation(marked=10), 100, is_verbose=True)
    assert text.isascii()
    assert "?" not in text
    assert "+- 0.71" in text
    assert "###" in text
    assert "> 10" in text
    assert "sqrt(2/b)" in text


def test_colour_only_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, coloured = io.StringIO(), io.StringIO()
    show(simulation(), Console(file=plain, width=80))
    show(simulation(), Console(file=coloured, width=80, force_terminal=True, color_system="standard"))
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[1;31m✗ averaged" in coloured.getvalue()
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured.getvalue()).split() == plain.getvalue().split()
    assert str(simulation()).splitlines()[0].startswith("✗ averaged over batches, rmse is")


def test_numbers_to_the_second_digit_of_their_error() -> None:
    assert [known_to(100.3456, error) for error in (0.71, 0.0022, 12.0, 0.0, math.nan)] == [
        "100.35", "100.3456", "100", "100.35", "100.35",
    ]  # fmt: skip
    assert known_to(0.1234567891234, 1e-12) == "0.12345679"
    assert known_to(0.1234567891234, 1e-12, 6) == "0.123457"
    assert known_to(1.23456789e8, 1234.0) == "1.234568e+08"
    assert known_to(math.inf, 0.1) == "inf"
    assert [error_bar(100.0, error) for error in (0.71, 7.1e-7, 0.0, math.nan)] == [" ± 0.71", " ± 7.1e-07", "", ""]
    assert [size(count) for count in (442, 100_000, 10**6, 10**12, 2_500_000, 1_234_567)] == [
        "442", "100,000", "1e6", "1e12", "2.5e6", "1,234,567",
    ]  # fmt: skip
    assert [size_on_axis(count) for count in (442, 10**6, 2_500_000)] == ["442", "10⁶", "2.5·10⁶"]


def test_decimal_points_stand_below_each_other() -> None:
    assert aligned(["1.25", "10", "fails", ""]) == [" 1.25", "10   ", "fails", "     "]
    assert aligned(["-20.2%", "0", "+25x"]) == ["-20.2%", "  0   ", "  +25x"]
    assert aligned([]) == []


def test_a_value_out_of_sight() -> None:
    assert within_sight([1.0, 2.0, 3.0, 1e6], 0.0) == [True, True, True, False]
    # beside gaps that are rounding everything would be out of sight
    assert within_sight([0.0, 1e-16, 1e-16, 1.0], 0.0) == [True, True, True, False]
    assert within_sight([0.0, 1e-16, 1e-16, 1.0], 0.0, floor=1e-9) == [True] * 4
    assert within_sight([1.0, 2.0, 1e9], 0.0) == [True] * 3  # two points make no curve
