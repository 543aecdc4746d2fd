"""The question, run anew: its numbers rise with the batch size, and what makes them rise is fewer updates."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from batchproof.scripts.compare.compare import compare
from batchproof.scripts.compare.comparison import ComparedNumber, Comparison
from batchproof.scripts.compare.split import DifferenceCause

EXAMPLE = Path(__file__).parents[3] / "examples" / "larger_batch_larger_loss.py"


def compared(*arguments: str, **changes: Any) -> Comparison:
    return compare(str(EXAMPLE), (16, 64, 128), arguments, **{"seeds": 1, "jobs": 2, "cache": False, **changes})


def reported(number: ComparedNumber) -> list[float]:
    return [row.reported.value for row in number.rows]


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compared()


def test_the_pattern_of_the_question(found: Comparison) -> None:
    train, test = found.numbers
    assert (train.name, test.name) == ("train_loss", "test_loss")
    assert reported(train) == pytest.approx([0.6, 0.8, 1.0], abs=0.15)
    assert reported(test) == pytest.approx([0.6, 0.8, 1.0], abs=0.15)
    for number in found.numbers:
        assert reported(number) == sorted(reported(number))
        assert [row.steps for row in number.rows] == [20, 5, 3]


def test_averaging_is_a_hundredth_or_two_and_the_rest_is_fewer_updates(found: Comparison) -> None:
    for number in found.numbers:
        row = number.rows[-1]
        assert row.difference is not None
        parts = {part.cause: part.mean.value for part in row.parts}
        assert math.fsum(parts.values()) == pytest.approx(row.difference.value, abs=1e-12)
        assert 0.005 < parts[DifferenceCause.ARITHMETIC] + parts[DifferenceCause.SHORT_BATCH] < 0.035
        assert parts[DifferenceCause.UPDATES] > 0.9 * row.difference.value
        assert abs(parts[DifferenceCause.REST]) < 0.03
        assert parts[DifferenceCause.RATE] == 0


def test_the_answer_in_words(found: Comparison) -> None:
    assert re.fullmatch(
        r"train_loss rises by 0\.3\d+ from batch 16 to 128: 9\d% real, \d% averaging bug", found.headline
    )
    assert found.fix == (f"batchproof lint --fix {EXAMPLE.relative_to(Path.cwd())}",)
    assert found.exit_status == 1  # the averaging is a mistake, if a small one
    averaged = found.advice[0]
    assert averaged.place is not None
    assert averaged.place.text == "return torch.sqrt(mean)"
    assert "train_loss" in averaged.text
    assert "test_loss" in averaged.text


def test_a_learning_rate_that_follows_takes_most_of_it_away(found: Comparison) -> None:
    gone = {(scaled.size, scaled.rule): scaled.gone for number in found.numbers[1:] for scaled in number.rescaled}
    for size in (64, 128):
        linear, root = gone[size, "linear"], gone[size, "square root"]
        assert linear is not None
        assert root is not None
        assert linear.value > 0.85
        assert 0.4 < root.value < linear.value


def test_the_batch_size_as_an_argument_gives_the_same(found: Comparison) -> None:
    told = compared("--batch-size", "{batch_size}", controls=False)
    assert [reported(number) for number in told.numbers] == [reported(number) for number in found.numbers]
