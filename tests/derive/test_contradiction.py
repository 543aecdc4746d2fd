"""A plan is held against its function on samples that came later: a difference counts, and rounding does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from batchproof.derive import contradiction
from batchproof.derive.contradiction import find_contradiction
from batchproof.derive.pipeline import derive
from batchproof.derive.plan import StatePlan
from batchproof.derive.samples import TensorBatch

X = torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def plan_of(fn: Callable[..., Any]) -> StatePlan:
    plan = derive(fn, [X], [0])
    assert isinstance(plan, StatePlan)
    return plan


def found(plan: StatePlan, x: Tensor) -> tuple[float, float] | None:
    return find_contradiction(plan, TensorBatch([x], (0,)), torch.Generator().manual_seed(1))


def test_a_right_plan_is_not_contradicted() -> None:
    assert found(plan_of(lambda x: x.square().mean().sqrt()), 5 * X + 1) is None


def test_a_wrong_plan_is_contradicted_by_both_numbers() -> None:
    plan = plan_of(lambda x: x.square().mean())
    plan.wide = replace(plan.wide, lines=("x = [x[0].clamp(max=1.0)]", *plan.wide.lines))
    both = found(plan, 5 * X)
    assert both is not None
    mine, theirs = both
    assert theirs == pytest.approx(float((5 * X).square().mean()))
    assert mine == pytest.approx(float((5 * X).clamp(max=1.0).square().mean()))


def test_what_rounding_the_inputs_does_too_is_no_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variance by the textbook's formula, far from zero, has no digits left."""
    plan, far = plan_of(lambda x: x.square().mean() - x.mean().square()), X + 1e7
    assert found(plan, far) is None
    monkeypatch.setattr(contradiction, "TIMES", 0)
    assert found(plan, far) is not None, "otherwise this shows nothing"
