"""Groups that must stay whole: found where a batch that tears one apart fails, and explained as samples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from batchproof import explain
from batchproof.explanation.groups import find_groups
from batchproof.explanation.samples import Grouping, gather


def advantage(reward: Tensor, logp: Tensor) -> Tensor:
    group = reward.view(-1, 8)
    centred = (group - group.mean(1, keepdim=True)) / (group.std(1, keepdim=True) + 1e-4)
    return -(centred.flatten() * logp).mean()


def best_of_four(reward: Tensor, logp: Tensor) -> Tensor:
    return (reward.view(-1, 4).amax(1) * logp.view(-1, 4)[:, 0]).square().mean().sqrt()


def halves(score: Tensor, weight: Tensor) -> Tensor:
    chosen, rejected = score.chunk(2)
    return -F.logsigmoid(chosen - rejected).mean()


def side_by_side(score: Tensor, weight: Tensor) -> Tensor:
    return -F.logsigmoid(score[0::2] - score[1::2]).mean()


def alone(score: Tensor, weight: Tensor) -> Tensor:
    return (score * weight).mean()


def of_two_at_least(score: Tensor, weight: Tensor) -> Tensor:
    return score.std() * weight.mean()


PAIR = torch.randn(2, 320, dtype=torch.float64).unbind(0)
CASES: list[tuple[Callable[..., Tensor], Grouping | None]] = [
    (advantage, Grouping(8)),
    (best_of_four, Grouping(4)),
    (halves, Grouping(2, in_blocks=True)),
    (side_by_side, Grouping(2)),
    (alone, None),
    (of_two_at_least, None),
]


@pytest.mark.parametrize(("fn", "grouping"), CASES, ids=[case[0].__name__ for case in CASES])
def test_groups_are_found(fn: Callable[..., Tensor], grouping: Grouping | None) -> None:
    samples = gather(fn, PAIR, {}, 0)
    assert find_groups(fn, samples, 0, 1e-6) == grouping
    if grouping is not None:
        args, _ = samples.grouped(grouping).all()
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(args, PAIR, strict=True))


@pytest.mark.parametrize("fn", [advantage, halves, side_by_side])
def test_a_mean_over_groups_is_safe(fn: Callable[..., Tensor]) -> None:
    found = explain(fn, *PAIR)
    assert found.is_safe is True
    assert "in whole" in found.headline
    assert any(finding.code == "groups" for finding in found.findings)
    assert found.keep is None, "what exact keeps of groups is its own to say"
    assert found.curve is not None
    assert found.curve.samples == 320
    assert all(reading.size % 2 == 0 for reading in found.curve.readings)
    assert explain(fn, *PAIR, batch_sizes=[8, 16, 64]).is_safe is True


def test_a_root_over_groups_is_not() -> None:
    found = explain(best_of_four, *PAIR)
    assert (found.is_safe, found.verdict) == (False, "nonlinear")
    assert found.curve is not None
    assert found.curve.readings[0].size == 4
    each = [float(best_of_four(*(part[lo : lo + 8] for part in PAIR))) for lo in range(0, 320, 8)]
    assert found.curve.readings[1].size == 8
    assert found.curve.readings[1].mean == pytest.approx(sum(each) / 40, rel=0.3)
