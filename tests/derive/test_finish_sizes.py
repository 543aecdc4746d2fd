"""States of many sizes are finished at once to what each gives alone, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from batchproof.derive import OneByOne, Size, StatePlan, StatesByGroup, derive, finish_sizes, group_fold

finish_sizes_module = import_module("batchproof.derive.finish_sizes")

SIZES = [2, 3, 5, 9, 30, 31, 200, 720]


def r2(x: Tensor, y: Tensor) -> Tensor:
    return 1 - (y - x).square().sum() / (y - y.mean()).square().sum()


def pearson(x: Tensor, y: Tensor) -> Tensor:
    a, b = x - x.mean(), y - y.mean()
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


def several(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {"mse": (x - y).square().mean(), "bias": (x - y).mean(), "span": x.amax() - y.amin()}


def weighted(x: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.mse_loss(x, y) / y.var(correction=0)


FOLLOWED: list[Callable[..., Any]] = [
    lambda x, y: (x - y).square().mean().sqrt(),
    lambda x, y: (x - y).std(),
    lambda x, y: (x - y).var(correction=0),
    lambda x, y: (x.mean() + 1) / (y.sum() + 2),
    r2,
    pearson,
    several,
    weighted,
]


def by_sizes(fn: Callable[..., Any], sizes: list[int]) -> tuple[Any, list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(sizes), generator=generator, dtype=torch.float64)
    y = x + torch.randn(sum(sizes), generator=generator, dtype=torch.float64) + 1
    plan = derive(fn, [x[-64:], y[-64:]], [0, 0])
    assert isinstance(plan, StatePlan)
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    states = StatesByGroup.empty(plan, len(sizes))
    group_fold(plan, [x[:64], y[:64]], (0, 0)).fold(states, [x, y], groups)
    return states, [x, y], groups


@pytest.mark.parametrize("fn", FOLLOWED)
def test_each_state_has_its_own_value(fn: Callable[..., Any]) -> None:
    states, (x, y), groups = by_sizes(fn, SIZES)
    every = torch.arange(len(SIZES))
    found = finish_sizes(states.plan, states.stacked(every), [x[:1], y[:1]], (0, 0), states.counts)
    assert bool(found.sound.all())
    for group in every:
        own = fn(x[groups == group], y[groups == group])
        expected = list(own.values()) if isinstance(own, dict) else [own]
        torch.testing.assert_close([leaf[group] for leaf in found.leaves], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, y: (x - y).square().sum() / len(x),
        lambda x, y: (x - y).square().sum() / x.shape[0],
        lambda x, y: (x - y).square().sum() / x.numel(),
        lambda x, y: (x - y).mean() * (2.0 if x.size(0) == 100 else 1.0),  # a branch that no few sizes show
    ],
)
def test_a_function_that_asks_how_many_there_are_is_left_to_be_finished_alone(fn: Callable[..., Any]) -> None:
    states, (x, y), _ = by_sizes(fn, SIZES)
    with pytest.raises(OneByOne, match="a size, in Python"):
        finish_sizes(states.plan, states.stacked(torch.arange(3)), [x[:1], y[:1]], (0, 0), states.counts[:3])


def test_a_function_that_branches_on_its_own_number_is_left_too() -> None:
    states, (x, y), _ = by_sizes(lambda x, y: x.mean() if (x - y).mean() > -1 else y.mean(), SIZES)
    with pytest.raises(OneByOne):
        finish_sizes(states.plan, states.stacked(torch.arange(3)), [x[:1], y[:1]], (0, 0), states.counts[:3])


def test_one_size_for_all_and_a_value_that_is_not_finite() -> None:
    states, (x, y), _ = by_sizes(lambda x, y: (x - y).std(), [1, 1, 1])
    found = finish_sizes(states.plan, states.stacked(torch.arange(3)), [x[:1], y[:1]], (0, 0), states.counts)
    assert bool(found.leaves[0].isnan().all())


def test_numbers_follow_the_size_in_a_straight_line_or_not_at_all() -> None:
    assert finish_sizes_module._leaf([4, 9, 19], [2, 7, 17]) == Size(1, 2)
    assert finish_sizes_module._leaf([1.5, 6.5, 16.5], [2, 7, 17]) == Size(1, -0.5)
    assert finish_sizes_module._leaf([3, 3, 3], [2, 7, 17]) == 3
    for strange in ([4, 49, 289], [1, 1, 2], [0.5, 1 / 7, 1 / 17], [True, False, True], ["a", "b", "c"]):
        with pytest.raises(OneByOne):
            finish_sizes_module._leaf(strange, [2, 7, 17])
