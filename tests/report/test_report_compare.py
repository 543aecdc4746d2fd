"""The report of a comparison: as text at every width, as a page, as a picture, as data."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from tests.comparisons import World, comparison, made

from batchproof.report.forms import document_of, render
from batchproof.report.html import page
from batchproof.scripts.compare.comparison import Comparison
from batchproof.scripts.compare.conclude import conclude
from batchproof.scripts.compare.plan import Question
from batchproof.scripts.compare.scheduler import CompletedRuns, ScriptCommand

FALLS = World(noise=lambda size, seed: 0.001 * math.sin(size + seed), averaging=lambda size: -0.3 / size)
EVALUATED = World(phase="evaluation", training=False, scored=lambda size: 320 // size * size, tail=0.001)


def two_numbers() -> Comparison:
    first, second = comparison(FALLS, seeds=3), comparison(EVALUATED, seeds=3)
    return replace(first, numbers=(*first.numbers, *second.numbers), advice=(*first.advice, *second.advice))


EVERY = {
    "one seed": comparison(FALLS),
    "seeds": comparison(FALLS, seeds=3),
    "two numbers": two_numbers(),
    "no controls": comparison(FALLS, controls=False),
    "many sizes": comparison(FALLS, *(2**power for power in range(9)), seeds=2),
    "a size fails": comparison(replace(FALLS, fails=lambda size: "OutOfMemoryError: 8 GiB" if size == 128 else "")),
    "the first fails": comparison(replace(FALLS, fails=lambda size: "ValueError: too small" if size == 16 else "")),
    "all fail": comparison(replace(FALLS, fails=lambda size: "ValueError: no")),
    "nothing differs": comparison(World(phase="evaluation", training=False, rate=lambda size: 0.0)),
    "not a number": comparison(replace(FALLS, averaging=lambda size: math.nan if size == 128 else 0.0)),
    "infinite": comparison(replace(FALLS, averaging=lambda size: math.inf if size == 128 else 0.0)),
    "huge": comparison(replace(FALLS, averaging=lambda size: 1e12 * size)),
    "interrupted": replace(comparison(FALLS), interrupted=True),
}


@pytest.mark.parametrize("found", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("is_verbose", [False, True])
def test_every_line_fits(found: Comparison, width: int, is_verbose: bool) -> None:
    lines = render(found, width, is_verbose=is_verbose).splitlines()
    for line in lines:
        assert len(line) <= width
        assert line == line.rstrip()
    assert lines[0].startswith(f"{'✓✗?'[found.exit_status]} ")


@pytest.mark.parametrize("found", EVERY.values(), ids=EVERY)
def test_headline_colour_and_exit_status_say_one_thing(found: Comparison) -> None:
    assert document_of(found).state is {0: True, 1: False, 2: None}[found.exit_status]
    says_so = any(word in found.headline for word in ("bug", "wrong", "none of it real", "a total"))
    assert says_so is (found.exit_status == 1)


@pytest.mark.parametrize("found", EVERY.values(), ids=EVERY)
def test_no_batch_size_is_left_out(found: Comparison) -> None:
    printed = [row.size for number in found.numbers for row in number.rows]
    for width in (60, 120):
        heads = [line for line in render(found, width).splitlines() if line.startswith("  batch size  ")]
        assert {word for line in heads for word in line.split()[2:]} == {f"{size:,}" for size in printed}


@pytest.mark.parametrize("found", EVERY.values(), ids=EVERY)
def test_page_and_data(found: Comparison) -> None:
    text = page(found)
    assert text.count("<table") == (2 if found.numbers else 0)
    assert found.headline in text.replace("&#x27;", "'")
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["headline"] == found.headline
    assert [number["name"] for number in data["numbers"]] == [number.name for number in found.numbers]
    assert data["exit_status"] == found.exit_status


def test_parts_are_drawn_to_their_side_of_one_axis() -> None:
    lines = [line for line in render(EVERY["one seed"], 80).splitlines() if "│" in line]
    assert [line.split("│")[1].strip() != "" for line in lines] == [True, False, True, True]
    assert [line.split("│")[0].rstrip()[-1] == "█" for line in lines] == [False, True, False, False]
    assert len({line.index("│") for line in lines}) == 1
    assert "change from 16 to 128" in page(EVERY["one seed"])


def test_a_page_has_the_headings_of_a_terminal() -> None:
    found = EVERY["one seed"]
    text = render(found, 80)
    for heading in ("Why", "Try"):
        assert f"\n  {heading}   " in text
        assert f"<h2>{heading}</h2>" in page(found)


def test_rows_of_a_page_are_named_once_for_each_number() -> None:
    sheet = document_of(two_numbers()).sheet
    assert sheet is not None
    assert len(set(sheet.sizes)) == len(sheet.sizes)
    assert [group.full_title for group in sheet.groups] == ["loss (training)", "loss (evaluation)"]


def test_one_seed_has_no_error_bar() -> None:
    text = render(EVERY["one seed"], 100)
    assert "±" not in text
    assert "One seed: there is no error bar; --seeds 3 gives one." in text


def test_seeds_that_change_nothing_have_none_either() -> None:
    found = comparison(World(), seeds=3)
    assert "the script sets its own" in " ".join(found.notes)


def test_a_size_that_fails_is_said_and_the_others_compared() -> None:
    found = EVERY["a size fails"]
    assert [row.size for row in found.numbers[0].rows] == [16, 64]
    [failure] = found.failures
    assert (failure.size, failure.error) == (128, "OutOfMemoryError: 8 GiB")
    assert "batch size 128 failed: OutOfMemoryError: 8 GiB" in render(found, 100)


def test_where_the_first_size_fails_the_next_one_is_the_base() -> None:
    found = EVERY["the first fails"]
    assert [row.size for row in found.numbers[0].rows] == [64, 128]
    assert found.numbers[0].rows[0].difference is None
    assert any("compared with batch size 64" in note for note in found.notes)


def test_where_all_fail_there_is_no_answer() -> None:
    found = EVERY["all fail"]
    assert found.exit_status == 2
    assert found.headline == "could not tell: the script fails at every batch size: ValueError: no"
    assert len(found.failures) == 3


def test_no_difference_is_no_mistake() -> None:
    found = EVERY["nothing differs"]
    assert found.headline.startswith("the same at every batch size: loss is 1.5")
    assert found.exit_status == 0


def test_after_an_interrupt_seeds_that_are_whole_are_compared() -> None:
    question = Question((16, 128), 2)
    done = made(World(noise=lambda size, seed: 0.01 * seed), question).done
    some = {setting: outcome for setting, outcome in done.items() if setting.seed == 0 or not setting.updates}
    found = conclude(ScriptCommand("train.py"), question, CompletedRuns(some, interrupted=True), None, 1.0)
    assert found.seeds == 1
    assert found.numbers[0].rows[1].part is not None
    assert "interrupted: these are the runs that were done by then" in render(found, 100)


def test_after_an_early_interrupt_there_is_no_answer() -> None:
    done = made(World(), Question((16, 128), 1)).done
    some = {setting: outcome for setting, outcome in done.items() if setting.batch_size == 16}
    found = conclude(
        ScriptCommand("train.py"), Question((16, 128), 1), CompletedRuns(some, interrupted=True), None, 1.0
    )
    assert found.exit_status == 2
    assert "could not tell" in found.headline
