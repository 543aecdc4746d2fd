"""Many small sums are held as one vector: what comes out is what went in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from batchproof.derive import StatePlan, derive
from batchproof.metric.grouped_state import Packing


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
