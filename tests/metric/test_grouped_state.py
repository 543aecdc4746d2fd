"""The merged state of groups of batches: what is held as one vector comes out as it went in, and all of it adds up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from batchproof.derive import StatePlan, derive
from batchproof.errors import BatchproofError
from batchproof.metric.grouped_state import GroupedState, Packing


def correlation(x: Tensor, y: Tensor) -> Tensor:
    a, b = x - x.mean(), y - y.mean()
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


def of_all_kinds(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return x.mean(), y.var(), x.amax(), (x > 0).sum(), (x * y).mean()


def of_one(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean().sqrt()


def plan_of(fn: Callable[..., Any]) -> tuple[StatePlan, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    batch = [torch.randn(32, generator=generator, dtype=torch.float64) for _ in range(2)]
    plan = derive(fn, batch, [0, 0])
    assert isinstance(plan, StatePlan)
    return plan, batch


@pytest.mark.parametrize("fn", [correlation, of_all_kinds, of_one])
def test_a_packed_fold_gives_the_values_of_the_plain_one(fn: Callable[..., Any]) -> None:
    plan, batch = plan_of(fn)
    packing = Packing(plan)
    values, lengths = plan.fold.compile()(batch, plan.captured)
    packed, same_lengths = packing.fold(plan)(batch, plan.captured)
    assert lengths == same_lengths
    assert len(packed) == len(packing.held) == len(packing.pack(values))
    for one, another in zip(values, packing.unpack(packed), strict=True):
        assert torch.equal(one.double(), another.double())
    for one, another in zip(values, packing.unpack(packing.pack(values)), strict=True):
        assert torch.equal(one.double(), another.double())


def test_sums_of_one_number_are_packed_and_others_are_not() -> None:
    plan, _ = plan_of(of_all_kinds)
    packing = Packing(plan)
    together = [plan.leaves[place] for place in packing.vectors]
    assert len(together) > 1
    assert all(leaf.merge.name == "sum" and leaf.dtype is torch.float64 for leaf in together)
    assert {plan.leaves[place].merge.name for place in packing.alone} >= {"max"}


def test_one_sum_is_left_as_it_is() -> None:
    plan, _ = plan_of(of_one)
    assert Packing(plan).vectors == {}


def test_a_value_of_another_shape_is_refused_and_changes_nothing() -> None:
    """One that broadcasts would be added without a word."""
    state = counts_of_classes()
    for group in range(2):  # where there is something already, and where there is nothing yet
        with pytest.raises(BatchproofError, match=r"of shape \(1,\) where the first batches gave \(3,\)"):
            state.add(group, [torch.tensor([4])], [], 1)
    assert state.n == 4
    assert torch.equal(state.merged([0])[0][0], torch.tensor([2, 1, 1]))


def counts_of_classes() -> GroupedState:
    labels = torch.tensor([0, 1, 2, 0])
    plan = derive(lambda labels: labels.bincount(minlength=3), [labels.repeat(8)], [0])
    assert isinstance(plan, StatePlan)
    state = GroupedState.empty(plan, labels.device)
    state.add(0, *plan.fold.compile()([labels], plan.captured), n=4)
    return state


def test_lengths_of_selections_add_up() -> None:
    x = torch.randn(32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan = derive(lambda x: x[x > 0].var(), [x], [0])
    assert isinstance(plan, StatePlan)
    state = GroupedState.empty(plan, x.device)
    for batch in x.split(20):
        values, lengths = plan.fold.compile()([batch], plan.captured)
        state.add(0, state.packing.pack(values), lengths, len(batch))
    assert state.merged([0])[1:] == ([int((x > 0).sum())], 32)


def test_kept_rows_come_out_in_the_order_in_which_they_came() -> None:
    """Whichever groups they went to, and after two states were merged."""
    x = torch.randn(60, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan = derive(lambda x: x.square().mean(1).median(), [x[:32]], [0])
    assert isinstance(plan, StatePlan)
    assert [leaf.merge.name for leaf in plan.leaves] == ["rows"]
    states = [GroupedState.empty(plan, x.device) for _ in range(2)]
    for number, batch in enumerate(x.split(5)):
        values, lengths = plan.fold.compile()([batch], plan.captured)
        states[number // 6].add(-number % 7, values, lengths, len(batch))
    assert torch.equal(states[0].merged(range(7))[0][0], x[:30].square().mean(1))
    states[0].absorb(states[1])
    assert torch.equal(states[0].merged(range(7))[0][0], x.square().mean(1))
