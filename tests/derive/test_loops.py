"""Loops over samples: where each turn does the same, the state is that of the function without its loop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import batchproof as bp
from functions import normal, table
from promise import Function, promise

torch.manual_seed(0)
LAYER = nn.Linear(6, 4)


def largest_of_each(x: Tensor, y: Tensor) -> Tensor:
    return sum((a - b).abs().max() for a, b in zip(x, y, strict=True)) / len(x)


def into_a_total(x: Tensor, y: Tensor) -> Tensor:
    total = torch.zeros((), dtype=x.dtype)
    for i in range(x.shape[0]):
        total += F.mse_loss(x[i], y[i])
    return (total / x.shape[0]).sqrt()


def stacked(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([torch.softmax(a, 0) @ b for a, b in zip(x.sigmoid(), y, strict=True)]).std()


def two_sums(x: Tensor, y: Tensor) -> Tensor:
    squares, products = 0.0, 0.0
    for a, b in zip(x, y, strict=True):
        squares = squares + a.square().sum()
        products = products + (a * b).sum()
    return products / squares


def two_loops(x: Tensor, y: Tensor) -> Tensor:
    mean = sum(a.mean() for a in x) * (1 / len(x))
    return sum((a.mean() - mean) ** 2 for a in x) / (len(x) - 1)


def lovasz(x: Tensor, y: Tensor) -> Tensor:
    losses = []
    for scores, wanted in zip(x, y > 0, strict=True):
        errors, order = torch.sort(1 - scores * (2.0 * wanted - 1), descending=True)
        truth = wanted.to(x.dtype)[order]
        jaccard = 1 - (truth.sum() - truth.cumsum(0)) / (truth.sum() + (1 - truth).cumsum(0))
        losses.append(F.relu(errors) @ torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]]))
    return sum(losses) / len(losses)


def through_a_layer(x: Tensor, y: Tensor) -> Tensor:
    return sum(LAYER(a).square().sum() for a in x) / (4.0 * len(x))


@table(
    ("largest of each", largest_of_each),
    ("into a total", into_a_total),
    ("stacked", stacked),
    ("two sums", two_sums),
    ("two loops", two_loops),
    ("Lovász", lovasz),
)
def test_a_loop_over_samples_has_a_state(fn: Function) -> None:
    promise(fn, normal(150, 6), normal(150, 6, seed=2), sizes=(40, 1, 33), constant=True)


def test_a_layer_in_a_loop() -> None:
    x = normal(100, 6, dtype=torch.float32)
    promise(torch.no_grad()(through_a_layer), x, x, sizes=(40, 1, 33), constant=True)


def numbered(x: Tensor) -> Tensor:
    return sum((i + 1) * a.sum() for i, a in enumerate(x)) / len(x)


def neighbours(x: Tensor) -> Tensor:
    return sum((x[i] - x[i - 1]).abs().sum() for i in range(1, len(x))) / len(x)


def the_first_of_all(x: Tensor) -> Tensor:
    return sum((a * x[0]).sum() for a in x) / len(x)


def every_other(x: Tensor) -> Tensor:
    return sum(x[i].max() for i in range(0, len(x), 2)) / len(x)


def largest_turn(x: Tensor) -> Tensor:
    return max(a.sum().item() for a in x)


@table(
    ("numbered", numbered),
    ("neighbours", neighbours),
    ("the first of all", the_first_of_all),
    ("every other", every_other),
    ("largest turn", largest_turn),
)
def test_turns_that_differ_or_meet_keep_the_samples(fn: Function) -> None:
    assert promise(fn, normal(60, 6), sizes=(20, 1, 33)).kind != "constant"


@pytest.mark.parametrize("most", [80, 33])
def test_a_loop_that_does_something_else_on_many_samples(most: int) -> None:
    def fn(x: Tensor) -> Tensor:
        return sum(a.sum() if len(x) < most else a.max() for a in x) / len(x)

    promise(fn, normal(150, 6), sizes=(20, 10, 33))


def test_a_loop_with_a_tensor_from_outside_that_changes() -> None:
    factor = torch.ones(6, dtype=torch.float64)

    def fn(x: Tensor) -> Tensor:
        return sum((a * factor).abs().max() for a in x) / len(x)

    x = normal(60, 6)
    metric = bp.exact(fn)
    metric.update(x[:40])
    assert metric.plan.is_constant_size
    metric.update(x[40:])
    factor = 2 * factor
    try:
        assert metric.compute() == pytest.approx(fn(x).item())
    except bp.BatchproofError as error:
        assert "changed" in str(error) or "something else" in str(error)


def test_explain_names_the_line_after_the_loop() -> None:
    report = bp.explain(into_a_total, normal(16, 6), normal(16, 6, seed=2))
    assert report.verdict == "nonlinear"
    assert "sqrt" in str(report)
