"""Samples of many groups, folded at once: each group's state is that of its samples alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from batchproof.derive import State, StatePlan, StatesByGroup, derive, group_fold
from batchproof.derive import fold_groups as module

GROUPS = 7


def rmse(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean().sqrt()


def r2(x: Tensor, y: Tensor) -> Tensor:
    return 1 - (y - x).square().sum() / (y - y.mean()).square().sum()


def pearson(x: Tensor, y: Tensor) -> Tensor:
    a, b = x - x.mean(), y - y.mean()
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


def accuracy(x: Tensor, y: Tensor) -> Tensor:
    return ((x > 0) == (y > 0)).double().mean()


def extremes(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {"max": x.amax(), "min": y.amin(), "any": (x > 1).any(), "all": (y > -2).all()}


def rows_of_vectors(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x, y, x * y], 1).mean(0).norm()


def wave(x: Tensor, y: Tensor) -> Tensor:
    return torch.complex(x, y).mean().abs()


def chosen(x: Tensor, y: Tensor) -> Tensor:
    return x[y > -9].mean()


def table(x: Tensor, y: Tensor) -> Tensor:
    cells = torch.bincount(30 * (x > 0).long() + (y > 0).long(), minlength=900).double()
    return cells.square().sum() / cells.sum()


def whole_numbers(x: Tensor, y: Tensor) -> Tensor:
    return (x.round().long() * 3 + (y > 0)).sum()


FUNCTIONS = [rmse, r2, pearson, accuracy, extremes, rows_of_vectors, wave, chosen, table, whole_numbers]


def samples(n: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(2)]


def plan_of(fn: Callable[..., Any], some: list[Tensor]) -> StatePlan:
    plan = derive(fn, some, [0, 0])
    assert isinstance(plan, StatePlan)
    return plan


def finished(states: StatesByGroup, group: int) -> Any:
    leaves = [leaf[0] for leaf in states.stacked(torch.tensor([group]))]
    n = int(states.counts[group])
    blank = [torch.zeros(1, dtype=torch.float64)] * 2
    return states.plan.finish(State(leaves, states.lengths[:, group].tolist(), n), blank, (0, 0), n)


def close(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, check_dtype=False, equal_nan=True)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_each_group_has_the_value_of_its_samples(fn, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 64)
    x, y = samples(500)
    fold = group_fold(plan_of(fn, [x[:64], y[:64]]), [x[:64], y[:64]], (0, 0))
    groups = torch.randint(GROUPS, (500,), generator=torch.Generator().manual_seed(1))
    states = StatesByGroup.empty(fold.plan, GROUPS)
    for start in range(0, 500, 190):  # neither a multiple of what is folded at once
        stop = min(start + 190, 500)
        fold.fold(states, [x[start:stop], y[start:stop]], groups[start:stop])
    assert states.counts.tolist() == torch.bincount(groups, minlength=GROUPS).tolist()
    for group in range(GROUPS):
        close(finished(states, group), fn(x[groups == group], y[groups == group]))


@pytest.mark.parametrize("fn", [rmse, r2, table, chosen])
def test_states_of_other_blocks_are_absorbed_into_their_own_slots(fn):
    x, y = samples(300)
    fold = group_fold(plan_of(fn, [x[:64], y[:64]]), [x[:64], y[:64]], (0, 0))
    groups = torch.arange(300) % 3
    here, there = StatesByGroup.empty(fold.plan, 1), StatesByGroup.empty(fold.plan, 3)
    fold.fold(here, [x[:100], y[:100]], torch.zeros(100, dtype=torch.int64))
    fold.fold(there, [x[100:], y[100:]], groups[100:])
    here.grow(4)
    here.absorb(there, torch.tensor([3, 1, 1]))  # two of them are one group here
    close(finished(here, 0), fn(x[:100], y[:100]))
    third, rest = groups[100:] == 0, groups[100:] > 0
    close(finished(here, 3), fn(x[100:][third], y[100:][third]))
    close(finished(here, 1), fn(x[100:][rest], y[100:][rest]))


def test_small_states_are_made_for_each_sample_and_large_ones_for_each_group():
    some = samples(64)
    assert group_fold(plan_of(rmse, some), some, (0, 0)).by_sample
    assert not group_fold(plan_of(table, some), some, (0, 0)).by_sample
    assert not group_fold(plan_of(chosen, some), some, (0, 0)).by_sample, "what is selected differs"


@pytest.mark.parametrize("strange", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("fn", [rmse, extremes, r2])
def test_a_strange_number_stays_in_its_own_group(fn, strange):
    x, y = samples(200)
    groups = torch.arange(200) % GROUPS
    fold = group_fold(plan_of(fn, [x[:64], y[:64]]), [x[:64], y[:64]], (0, 0))
    x[50] = strange  # of the group 1
    states = StatesByGroup.empty(fold.plan, GROUPS)
    fold.fold(states, [x, y], groups)
    for group in range(GROUPS):
        close(finished(states, group), fn(x[groups == group], y[groups == group]))


def test_rows_of_any_width_and_whole_numbers():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(400, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (400,), generator=generator)

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(scores, labels, weight=torch.arange(1.0, 6.0, dtype=torch.float64))

    plan = derive(loss, [scores[:64], labels[:64]], [0, 0])
    assert isinstance(plan, StatePlan)
    fold = group_fold(plan, [scores[:64], labels[:64]], (0, 0))
    groups = torch.randint(GROUPS, (400,), generator=generator)
    states = StatesByGroup.empty(plan, GROUPS)
    fold.fold(states, [scores, labels], groups)
    for group in range(GROUPS):
        own = groups == group
        leaves = [leaf[0] for leaf in states.stacked(torch.tensor([group]))]
        n = int(own.sum())
        found = plan.finish(State(leaves, [], n), [scores[:1], labels[:1]], (0, 0), n)
        close(found, loss(scores[own], labels[own]))
