"""Groups that must stay whole: found where a batch that tears one apart fails, and explained as samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from batchproof import BatchproofError, explain
from batchproof.explanation.groups import find_groups
from batchproof.explanation.samples import Grouping, gather
from commands import command, inside, refusal


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


def test_groups_of_three_are_measured_at_sizes_that_hold_them() -> None:
    """None of 1, 2, 4, ... is a multiple of three: nothing was measured, and a mean was called unsafe."""

    def of_three(score: Tensor) -> Tensor:
        return score.view(-1, 3).amax(1).mean()

    found = explain(of_three, PAIR[0][:36])
    assert found.is_safe is True, found
    assert found.curve is not None
    assert [reading.size for reading in found.curve.readings] == [3, 6, 12, 24, 36]
    assert explain(of_three, PAIR[0][:36], batch_sizes=[4, 16]).is_safe is True


# ------------------------------------------------------------------ groups that the caller names

PROMPTS = torch.arange(320) // 8
MIXED = torch.randperm(320, generator=torch.Generator().manual_seed(3))


def against_its_prompt(score: Tensor, prompt: Tensor) -> Tensor:
    same = (prompt[:, None] == prompt).to(score.dtype)
    return (score - same @ score / same.sum(1)).square().mean()


@pytest.mark.parametrize("rows", [torch.arange(320), MIXED])
def test_a_function_that_needs_groups_is_safe_with_them(rows: Tensor) -> None:
    score, prompt = PAIR[0][rows], PROMPTS[rows]
    assert explain(against_its_prompt, score, prompt).is_safe is False
    for groups in (prompt, prompt.tolist(), [f"prompt {number}" for number in prompt.tolist()]):
        found = explain(against_its_prompt, score, prompt, groups=groups)
        assert found.is_safe is True, found
        assert "batches that split one give another value, or none" in found.findings[-1].what
    assert found.curve is not None
    assert all(reading.size % 8 == 0 for reading in found.curve.readings)


def test_a_function_that_does_not_need_groups() -> None:
    found = explain(alone, *PAIR, groups=PROMPTS)
    assert found.is_safe is True
    assert "it does not need whole ones" in found.findings[-1].what


def test_halves_that_the_caller_names() -> None:
    found = explain(halves, *PAIR, groups=list(range(160)) * 2)
    assert found.is_safe is True, found
    assert "in whole pairs (in two halves of the batch)" in found.headline


def test_groups_that_cannot_be() -> None:
    with pytest.raises(BatchproofError, match="groups have from 1 to 319 samples"):
        explain(alone, *PAIR, groups=[0] + [1] * 319)
    with pytest.raises(BatchproofError, match="expected 320 of them, and there are 3"):
        explain(alone, *PAIR, groups=[0, 1, 2])
    with pytest.raises(BatchproofError, match="at least two"):
        explain(alone, *PAIR, groups=[0] * 320)
    with pytest.raises(BatchproofError, match="not for a metric or a model"):
        explain(torch.nn.Linear(1, 1), torch.randn(4, 1), groups=[0, 0, 1, 1])


def test_groups_in_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "def spread(score, prompt):\n    same = (prompt[:, None] == prompt).double()\n"
    source += "    return (score - same @ score / same.sum(1)).square().mean()\n"
    prompts = "\n".join(f"{float(score)},{number % 12}" for number, score in enumerate(PAIR[0][:96]))
    with inside(tmp_path, monkeypatch, {"loss.py": source, "a.csv": f"score,prompt\n{prompts}\n"}, columns=80):
        assert command(capsys, "explain", "loss.py:spread", "--data", "a.csv")[0] == 1
        status, out, _ = command(capsys, "explain", "loss.py:spread", "--data", "a.csv", "--groups", "prompt")
        assert status == 0
        assert "in whole groups of 8" in " ".join(out.split())
        assert "no session" in refusal(capsys, "explain", "loss.py:spread", "--data", "a.csv", "--groups", "session")
        assert "give both" in refusal(capsys, "explain", "loss.py:spread", "--groups", "prompt")
