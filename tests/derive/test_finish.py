"""Finish: the function itself runs once more, on the merged state and at the true number of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from batchproof.derive import State, StatePlan, derive
from batchproof.derive.diverged import DigitsLost, Diverged
from batchproof.derive.plan import agree
from batchproof.derive.samples import TensorBatch
from stages import names_of, normal


def plan_of(fn: Callable[..., Any], x: Tensor) -> StatePlan:
    plan = derive(fn, [x], [0])
    assert isinstance(plan, StatePlan), plan.reason
    return plan


def state_of(plan: StatePlan, x: Tensor, sizes: list[int]) -> State:
    """Batches of these sizes, folded and merged."""
    fold = plan.wide.compile()
    states = [fold(piece.tensors, plan.captured) for piece in TensorBatch([x], (0,)).split(sizes)]
    lengths = [sum(column) for column in zip(*(counted for _, counted in states), strict=True)]
    return State(plan.merge([values for values, _ in states]), lengths, len(x))


def rmse(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def variance(x: Tensor) -> Tensor:
    return x.var()


def positives(x: Tensor) -> Tensor:
    return x[x > 0].mean()


@pytest.mark.parametrize("fn", [rmse, variance, positives])
@pytest.mark.parametrize("sizes", [[100], [1, 9, 90], [1] * 100])
def test_however_the_samples_were_cut_the_result_is_that_of_all_of_them(
    fn: Callable[..., Tensor], sizes: list[int]
) -> None:
    x = normal(100)
    plan = plan_of(fn, x[:20])
    result = plan.finish(state_of(plan, x, sizes), [x[:20]], [0], 100)
    torch.testing.assert_close(result, fn(x), rtol=1e-12, atol=0)


def test_python_numbers_are_those_of_all_samples() -> None:
    def fn(x: Tensor) -> tuple[Tensor, int, str]:
        return x.sum() / max(len(x), 50), len(x), "a word"

    x = normal(100)
    plan = plan_of(fn, x[:20])
    assert plan.finish(state_of(plan, x, [60, 40]), [x[:20]], [0], 100)[1:] == (100, "a word")


def test_only_what_comes_after_the_state_is_done_for_real() -> None:
    x = normal(100)
    plan = plan_of(rmse, x[:20])
    _, run = plan.finished(state_of(plan, x, [100]), [x[:20]], [0], 100)
    assert names_of(step.op for step in run.script) == ["div", "sqrt"]


def test_the_samples_of_a_finish_hold_no_memory() -> None:
    def fn(x: Tensor) -> Tensor:
        shapes.append((tuple(x.shape), x.device.type))
        return x.mean()

    shapes: list[Any] = []
    x = normal(20)
    plan = plan_of(fn, x)
    plan.finish(State([torch.tensor(3.0, dtype=torch.float64)], [], 10**12), [x], [0], 10**12)
    assert shapes[-1] == ((10**12,), "cpu")


def test_a_function_that_does_something_else_to_more_samples_is_refused() -> None:
    def fn(x: Tensor) -> Tensor:
        return x.sum() if len(x) < 90 else x.exp().sum()

    x = normal(100)
    plan = plan_of(fn, x[:20])
    assert plan.finish(state_of(plan, x[:80], [80]), [x[:20]], [0], 80) == pytest.approx(float(x[:80].sum()))
    with pytest.raises(Diverged, match="on all 100 samples the function goes another way than on the first batch"):
        plan.finish(state_of(plan, x, [100]), [x[:20]], [0], 100)


def test_what_it_does_to_merged_values_alone_may_be_something_new() -> None:
    def fn(x: Tensor) -> Tensor:
        total = x.sum()
        return total if len(x) < 90 else total.tanh().exp()

    x = normal(100)
    plan = plan_of(fn, x[:20])
    result = plan.finish(state_of(plan, x, [100]), [x[:20]], [0], 100)
    torch.testing.assert_close(result, fn(x))


def test_states_of_plans_from_other_samples_merge_at_the_centres_of_one() -> None:
    def cubes(x: Tensor) -> Tensor:
        return (x - x.mean()).pow(3).sum()

    here, there = normal(100), normal(200) + 1
    ours, theirs = plan_of(cubes, here[:20]), plan_of(cubes, there[:20])
    states = [state_of(ours, here, [100]), state_of(theirs, there, [200])]
    moved = ours.recentre([leaf[None] for leaf in states[1].leaves], theirs)
    merged = State(ours.merge([states[0].leaves, [leaf[0] for leaf in moved]]), [], 300)
    result = ours.finish(merged, [here[:20]], [0], 300)
    torch.testing.assert_close(result, cubes(torch.cat([here, there])))


def test_a_result_that_rests_on_lost_digits_is_refused() -> None:
    x = normal(100)
    plan = plan_of(variance, x[:20])
    far = x * 1e-3 + 1e9
    with pytest.raises(DigitsLost):
        plan.finish(state_of(plan, far, [100]), [x[:20]], [0], 100)


@pytest.mark.parametrize(("other", "same"), [(1 + 1e-9, True), (1 + 1e-5, False), (1.2, False), (float("nan"), False)])
def test_results_agree_in_seven_digits(other: float, same: bool) -> None:
    one = torch.tensor(1.0, dtype=torch.float64)
    assert bool(agree(one, torch.tensor(other, dtype=torch.float64))) is same
