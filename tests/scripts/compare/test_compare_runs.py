"""compare on real scripts: each planted cause is found in what the runs give, with its size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.commands import inside
from tests.comparisons import shared_slots
from tests.planted_runs import BROADCAST, DATA, FROZEN, MSE, NORMED, RMSE, SUM, evaluated, trained

from batchproof.scripts.compare import scheduler
from batchproof.scripts.compare.compare import compare
from batchproof.scripts.compare.comparison import ComparedNumber, Comparison
from batchproof.scripts.compare.split import DifferenceCause


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(scheduler, "slots", shared_slots)
    with inside(tmp_path, monkeypatch, {}, 100) as path:
        yield path


def compared(script: str, *sizes: int, **changes: Any) -> Comparison:
    Path("train.py").write_text(script)
    return compare("train.py", sizes or (16, 64), **{"seeds": 1, "jobs": 1, "cache": False, **changes})


def number(found: Comparison, name: str) -> ComparedNumber:
    [one] = [number for number in found.numbers if number.name == name]
    return one


def amounts(found: Comparison, name: str) -> dict[DifferenceCause, float]:
    """The parts at the last size that are more than float32's rounding."""
    row = number(found, name).rows[-1]
    return {part.cause: part.mean.value for part in row.parts if abs(part.mean.value) > 3e-6}


def frozen_residuals() -> torch.Tensor:
    names: dict[str, Any] = {}
    exec(DATA + FROZEN, names)
    with torch.no_grad():
        return (names["model"](names["x"]) - names["y"])[:, 0]


def test_a_root_in_each_batch() -> None:
    found = compared(DATA + FROZEN + evaluated(RMSE), 10, 100)  # no batch is short
    residuals = frozen_residuals()
    means = [residuals.reshape(-1, size).square().mean(1).sqrt().mean().item() for size in (10, 100)]
    assert amounts(found, "test_loss") == {DifferenceCause.ARITHMETIC: pytest.approx(means[1] - means[0], abs=1e-6)}
    assert found.headline.startswith("test_loss rises by ")
    assert found.headline.endswith(", none of it real: it comes from averaging over batches")
    assert found.exit_status == 1
    [advice] = [advice for advice in found.advice if advice.title == "averaged over batches"]
    assert advice.place is not None
    assert "sqrt" in advice.place.text


def test_a_short_last_batch() -> None:
    found = compared(DATA + FROZEN + evaluated(MSE), 100, 64)
    squares = frozen_residuals().square()
    ragged = torch.stack([part.mean() for part in squares.split(64)]).mean()
    assert amounts(found, "test_loss") == {
        DifferenceCause.SHORT_BATCH: pytest.approx(float(ragged - squares.mean()), abs=1e-6)
    }
    assert any(advice.title == "short last batch" for advice in found.advice)


def test_an_evaluation_that_drops_its_tail() -> None:
    found = compared(DATA + FROZEN + evaluated(MSE, drop_last=True), 100, 64)
    squares = frozen_residuals().square()
    assert amounts(found, "test_loss") == {
        DifferenceCause.LEFT_OUT: pytest.approx(float(squares[:192].mean() - squares.mean()), abs=1e-6)
    }
    [advice] = [advice for advice in found.advice if advice.title == "samples left out"]
    assert "of 200 samples the evaluation scores 192 with batches of 64" in advice.text


def test_batch_norm_in_training_mode_in_evaluation() -> None:
    found = compared(DATA + NORMED + evaluated(MSE), 100, 10)
    names: dict[str, Any] = {}
    exec(DATA + NORMED, names)
    own = {}
    with torch.no_grad():
        for size in (100, 10):
            parts = zip(names["x"].split(size), names["y"].split(size))
            scores = [(names["model"](x) - y).square().mean() for x, y in parts]
            own[size] = torch.stack(scores).mean().item()
    parts = amounts(found, "test_loss")
    assert parts[DifferenceCause.STATISTICS] == pytest.approx(own[10] - own[100], abs=2e-5)
    assert set(parts) == {DifferenceCause.STATISTICS}
    assert any("BatchNorm" in advice.title and advice.is_mistake for advice in found.advice)


def test_a_broadcast() -> None:
    found = compared(trained(BROADCAST))
    assert number(found, "train_loss").verdict == "wrong"
    assert any(advice.title == "shapes that do not match" and advice.is_mistake for advice in found.advice)
    assert found.headline.startswith("something is wrong: shapes that do not match; train_loss ")


def test_a_sum() -> None:
    found = compared(trained(SUM, rate="0.0005"), 10, 100)
    parts = amounts(found, "train_loss")
    assert abs(parts[DifferenceCause.ARITHMETIC]) > abs(parts.get(DifferenceCause.SHORT_BATCH, 0.0))
    assert DifferenceCause.RATE in parts
    assert any(advice.title == "the loss is a sum" for advice in found.advice)


def losses(updates: int, rate: float, size: int) -> tuple[list[float], float]:
    """The loss of each batch on the way, in order, and that of all samples at the end."""
    names: dict[str, Any] = {}
    exec(DATA, names)
    x, y = names["x"], names["y"]
    weight, bias = torch.zeros(4, 1), torch.zeros(1)
    on_the_way = []
    for step in range(updates):
        here = slice(step * size % 200, step * size % 200 + size)
        residuals = x[here] @ weight + bias - y[here]
        on_the_way.append(residuals.square().mean().item())
        weight = weight - rate * 2 * x[here].T @ residuals / len(residuals)
        bias = bias - rate * 2 * residuals.mean(0)
    return on_the_way, (x @ weight + bias - y).square().mean().item()


def test_fewer_updates_and_measured_while_training() -> None:
    found = compared(trained(MSE), 10, 100)
    parts = amounts(found, "train_loss")
    many, end_of_many = losses(20, 0.01, 10)
    few, end_of_few = losses(2, 0.01, 100)
    _, controlled = losses(20, 0.01, 100)
    assert parts[DifferenceCause.TRAINING] == pytest.approx(
        (sum(few) / 2 - end_of_few) - (sum(many) / 20 - end_of_many), abs=1e-5
    )
    assert parts[DifferenceCause.UPDATES] == pytest.approx(end_of_few - controlled, abs=1e-5)
    assert parts[DifferenceCause.REST] == pytest.approx(controlled - end_of_many, abs=1e-5)
    assert set(parts) == {DifferenceCause.TRAINING, DifferenceCause.UPDATES, DifferenceCause.REST}
    assert found.headline.startswith("train_loss rises by ")
    assert ", all of it real" in found.headline
    assert found.exit_status == 0


def test_more_updates() -> None:
    found = compared(trained(MSE), 100, 10)
    parts = amounts(found, "train_loss")
    _, end = losses(20, 0.01, 10)
    _, early = losses(2, 0.01, 10)
    assert parts[DifferenceCause.UPDATES] == pytest.approx(end - early, abs=1e-5)
    assert "more updates in an epoch (20 instead of 2)" in found.headline


def test_another_learning_rate() -> None:
    size = "int(__import__('sys').argv[1])"
    script = trained(MSE, rate=f"0.001 * {size}").replace("batch_size=32", f"batch_size={size}")
    found = compared(script, 10, 100, arguments=("{batch_size}",))
    parts = amounts(found, "train_loss")
    _, own = losses(20, 0.1, 100)
    _, same = losses(20, 0.01, 100)
    assert parts[DifferenceCause.RATE] == pytest.approx(own - same, abs=1e-5)
    assert [row.learning_rate for row in number(found, "train_loss").rows] == pytest.approx([0.01, 0.1])


def test_scaling_the_learning_rate() -> None:
    found = compared(trained(MSE), 10, 40)
    rules = {scaled.rule: scaled for scaled in number(found, "train_loss").rescaled}
    low, high = (sum(losses(200 // size, 0.01, size)[0]) / (200 // size) for size in (10, 40))
    for rule, factor in (("linear", 4.0), ("square root", 2.0)):
        then = sum(losses(5, 0.01 * factor, 40)[0]) / 5
        assert rules[rule].reported.value == pytest.approx(then, abs=1e-5)
        assert rules[rule].gone is not None
        assert rules[rule].gone.value == pytest.approx(1 - (then - low) / (high - low), abs=1e-4)


def test_seeds_have_an_error_bar() -> None:
    found = compared(trained(MSE, shuffle=True), 10, 100, seeds=2, controls=False)
    row = number(found, "train_loss").rows[-1]
    assert found.seeds == 2
    assert row.difference is not None
    assert row.difference.standard_error is not None
    assert 0 < row.difference.standard_error < abs(row.difference.value)


def test_epochs() -> None:
    script = trained(MSE, epochs=2)
    second, first = compared(script, 10, 100), compared(script, 10, 100, epoch=1)
    assert (number(first, "train_loss").epoch, number(second, "train_loss").epoch) == (1, 2)
    row = number(second, "train_loss").rows[-1]
    assert (row.updates, row.steps) == (4, 2)
    many, _ = losses(20, 0.01, 10)
    assert number(first, "train_loss").rows[0].reported.value == pytest.approx(sum(many) / 20, abs=1e-5)
    assert abs(math.fsum(part.mean.value for part in row.parts) - row.difference.value) < 1e-12
