"""Samples that stand side by side in whole groups: each group is taken as one sample, and torn ones are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import batchproof as bp
from batchproof.derive.groups import derive_groups, group_size
from batchproof.derive.samples import TensorBatch

GENERATOR = torch.Generator().manual_seed(0)
REWARD, LOGP = torch.randn(240, generator=GENERATOR).double(), torch.randn(240, generator=GENERATOR).double()


def advantage(reward: Tensor, logp: Tensor) -> Tensor:
    """As in group-relative policy optimisation: eight answers to one question."""
    group = reward.view(-1, 8)
    centred = (group - group.mean(1, keepdim=True)) / (group.std(1, keepdim=True) + 1e-4)
    return -(centred.flatten() * logp).mean()


def preferred(reward: Tensor, logp: Tensor) -> Tensor:
    """A chosen and a rejected one, side by side, and a root over all pairs."""
    chosen, rejected = (reward + logp).reshape(-1, 2).unbind(1)
    return torch.nn.functional.softplus(rejected - chosen).square().mean().sqrt()


def side_by_side(reward: Tensor, logp: Tensor) -> Tensor:
    """On one sample it has no value, and on three it has one by broadcasting."""
    return torch.nn.functional.logsigmoid(reward[0::2] - reward[1::2]).mean()


def best_of_ten(reward: Tensor, logp: Tensor) -> dict[str, Tensor]:
    best = reward.reshape(-1, 10).amax(1)
    return {"best": best.mean(), "spread": best.var(), "all": logp.mean()}


FUNCTIONS = [(advantage, 8), (preferred, 2), (best_of_ten, 10)]


def close(a: Any, b: Any) -> bool:
    pairs = zip(torch.utils._pytree.tree_leaves(a), torch.utils._pytree.tree_leaves(b), strict=True)
    return all(torch.allclose(x, y, rtol=1e-9) for x, y in pairs)


@pytest.mark.parametrize(("fn", "size"), FUNCTIONS)
def test_a_function_of_groups_has_a_state_of_constant_size(fn: Callable[..., Any], size: int) -> None:
    metric, other = bp.exact(fn), bp.exact(fn)
    cuts = [8 * size, size, 3 * size]
    batches = list(zip(REWARD.split([*cuts, 240 - sum(cuts)]), LOGP.split([*cuts, 240 - sum(cuts)]), strict=True))
    for batch in batches[:3]:
        metric.update(*batch)
    assert metric.plan.is_constant_size
    assert f"whole groups of {size} samples" in str(metric.plan)
    assert metric.n_samples == sum(cuts)
    resumed = bp.exact(fn)
    resumed.load_state_dict(copy.deepcopy(metric.state_dict()))
    other.update(*batches[3])
    resumed.merge_state(other)
    assert close(resumed.compute(), fn(REWARD, LOGP))


def test_a_torn_group_is_refused_and_changes_nothing() -> None:
    metric = bp.exact(advantage)
    metric.update(REWARD[:64], LOGP[:64])
    with pytest.raises(bp.BatchproofError, match="does not fit"):
        metric.update(REWARD[64:70], LOGP[64:70])
    assert metric.n_samples == 64
    assert close(metric.compute(), advantage(REWARD[:64], LOGP[:64]))


def test_where_batches_tear_groups_from_the_beginning_samples_are_kept() -> None:
    metric = bp.exact(advantage)
    for reward, logp in zip(REWARD.split(50), LOGP.split(50), strict=True):
        metric.update(reward, logp)
    assert not metric.plan.is_constant_size
    assert "whole groups of 8" in (metric.plan.reason or "")
    assert close(metric.compute(), advantage(REWARD, LOGP))


def test_a_plan_that_is_asked_for_early_says_so_too() -> None:
    metric = bp.exact(preferred)
    for start in (0, 6):
        metric.update(REWARD[start : start + 6], LOGP[start : start + 6])
    assert metric.plan.is_constant_size
    metric.reset()
    for start in (0, 5):
        metric.update(REWARD[start : start + 5], LOGP[start : start + 5])
    assert not metric.plan.is_constant_size
    assert "whole groups of 2" in (metric.plan.reason or "")


def test_pairs_that_are_cut_by_a_step_are_kept_and_right() -> None:
    """Which sample such a slice takes is not read off the groups."""
    metric = bp.exact(side_by_side)
    for batch in zip(REWARD.split(60), LOGP.split(60), strict=True):
        metric.update(*batch)
    assert group_size(side_by_side, TensorBatch([REWARD, LOGP], (0, 0))) == 2
    assert not metric.plan.is_constant_size
    assert close(metric.compute(), side_by_side(REWARD, LOGP))


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, y: (x - y).square().mean(),
        lambda x, y: x.median(),
        lambda x, y: (x - y).var(),
        lambda x, y: x[5:].mean(),
        lambda x, y: x.sum() / int(len(x) in (3, 5, 60)),
        lambda x, y: x.sum() / 0,
    ],
    ids=["of samples", "of all together", "two at least", "all but the first", "now and then", "never"],
)
def test_what_takes_any_number_of_samples_has_no_groups(fn: Callable[..., Any]) -> None:
    assert group_size(fn, TensorBatch([REWARD, LOGP], (0, 0))) is None


def test_groups_that_meet_each_other_have_no_small_state() -> None:
    def paired(x: Tensor, y: Tensor) -> Tensor:
        group = x.view(-1, 4).mean(1)
        return (group[:, None] - group[None]).abs().mean()

    assert group_size(paired, TensorBatch([REWARD, LOGP], (0, 0))) == 4
    assert derive_groups(paired, [REWARD, LOGP], [0, 0]) is None
