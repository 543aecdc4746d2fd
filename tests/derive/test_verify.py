"""What a plan is tried by before it is used: planted faults in the fold, the finish and the lengths are refuted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import batchproof as bp
from batchproof.derive import assemble, decompose
from batchproof.derive.centred_sum import weigh_sums
from batchproof.derive.merge import MERGES
from batchproof.derive.pipeline import derive
from batchproof.derive.plan import StatePlan
from batchproof.derive.samples import TensorBatch
from batchproof.derive.summand import Centre
from batchproof.derive.verify import Refuted, verify
from batchproof.metric.fast_path import fold_by

X = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def selected(x: Tensor) -> Tensor:
    return x[x > 0].sum() / x[x > 0].numel()


@pytest.fixture(scope="module")
def plan() -> StatePlan:
    found = derive(selected, [X], [0])
    assert isinstance(found, StatePlan)
    return found


Change = Callable[[list[Tensor], list[int], int], tuple[list[Tensor], list[int]]]


def tried(plan: StatePlan, change: Change) -> None:
    """Verify the plan with a fold that something was done to."""
    fold = plan.wide.compile()

    def changed(tensors: Any, captured: Any) -> Any:
        values, lengths = fold(tensors, captured)
        return change(values, lengths, len(tensors[0]))

    verify(plan, changed, dict(plan.captured), TensorBatch([X], (0,)), 0)


def test_the_plan_itself(plan: StatePlan) -> None:
    assert plan.is_constant_size
    tried(plan, lambda values, lengths, n: (values, lengths))


@pytest.mark.parametrize(
    "change",
    [
        lambda values, lengths, n: ([v + (n == 1) * 1e-3 for v in values], lengths),
        lambda values, lengths, n: ([v * (1 + 1e-6 * (n < 20)) for v in values], lengths),
        lambda values, lengths, n: ([v + (n < 20) * float("inf") if n < 20 else v for v in values], lengths),
        lambda values, lengths, n: ([v * float("nan") if n < 3 else v for v in values], lengths),
        lambda values, lengths, n: (values, [k + 1 for k in lengths]),
        lambda values, lengths, n: (values, [k + (n == 1) for k in lengths]),
    ],
    ids=["of one sample", "of pieces, a little", "infinite", "none of few", "a length too long", "a length of one"],
)
def test_a_fold_that_is_wrong_on_pieces_is_refuted(plan: StatePlan, change: Change) -> None:
    with pytest.raises(Refuted):
        tried(plan, change)


def test_a_finish_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = StatePlan.finish
    monkeypatch.setattr(StatePlan, "finish", lambda self, *args: right(self, *args) * 1.001)
    assert not derive(selected, [X], [0]).is_constant_size


def test_a_finish_is_held_against_the_function_before_the_fold_is_narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, where a small difference shows; the samples' own type is tried with more room."""
    right = StatePlan.finish
    monkeypatch.setattr(StatePlan, "finish", lambda self, *args: right(self, *args) * (1 + 1e-5))
    monkeypatch.setattr(assemble, "_serves", lambda *args: True)
    plan = derive(selected, [X], [0])
    assert not plan.is_constant_size
    assert "another value than the function" in (plan.reason or "")


def test_a_fold_in_the_samples_own_type_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "_serves", lambda *args: False)
    assert not derive(selected, [X], [0]).is_constant_size


def test_a_folded_value_of_another_shape_is_refused(plan: StatePlan) -> None:
    fold = plan.wide.compile()

    def changed(tensors: Any, captured: Any) -> Any:
        values, lengths = fold(tensors, captured)
        return [torch.stack([v, v]) for v in values], lengths

    with pytest.raises(bp.BatchproofError, match="shape"):
        fold_by(plan, changed, [X], dict(plan.captured))


@pytest.mark.parametrize(("kind", "value"), [("sum", 3.0), ("max", 4.0), ("min", -1.0), ("any", True), ("all", False)])
def test_how_leaves_merge(kind: str, value: float | bool) -> None:
    parts = torch.tensor([True, False]) if isinstance(value, bool) else torch.tensor([4.0, 0.0, -1.0])
    assert MERGES[kind].reduce(parts).item() == value


@pytest.mark.parametrize("order", [0, 1, 2, 3, float("inf"), float("-inf")])
def test_a_norm_written_out(order: float) -> None:
    for keep in (False, True):
        torch.testing.assert_close(
            decompose.vector_norm(X.view(4, 5), order, 1, keep), torch.linalg.vector_norm(X.view(4, 5), order, 1, keep)
        )


@pytest.mark.parametrize("share", [1e-2, 1e-5, 1e-9])
def test_a_small_total_is_no_zero(share: float) -> None:
    """Only where it is as small as the rounding of its terms nothing is known of it."""
    weights, kept = (
        torch.tensor([[1.0, -1.0]], dtype=torch.float64),
        torch.tensor([1 + share, 1.0], dtype=torch.float64),
    )
    found = weigh_sums(weights, kept, torch.zeros(1, dtype=torch.float64), 0.0, Centre({}, {}), False)
    assert found.total.item() == pytest.approx(share, rel=1e-6)
    assert found.cancels.item() == pytest.approx(2 / share, rel=1e-2)


def test_samples_are_folded_one_by_one_too(plan: StatePlan) -> None:
    """A partition into pieces of one is among those that are tried, however few are."""
    folded: list[int] = []

    def noted(values: list[Tensor], lengths: list[int], n: int) -> tuple[list[Tensor], list[int]]:
        folded.append(n)
        return values, lengths

    tried(plan, noted)
    assert folded[1 : 1 + len(X)] == [1] * len(X)
