"""Numbers that Python computes: the line and the cause are found as in torch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from batchproof import explain

BETA = 0.5


def rms(pred: Tensor, real: Tensor) -> float:
    return math.sqrt((pred - real).square().mean().item())


def in_steps(pred: Tensor, real: Tensor) -> float:
    mse = (pred - real).square().mean().item()
    bias = (pred - real).mean().item()
    print(bias**2, end="")
    error = sqrt(mse)
    return error


def with_a_helper(pred: Tensor, real: Tensor) -> float:
    def root(x: float) -> float:
        return sqrt(x)

    mse = (pred - real).square().mean().item()
    return BETA * root(mse)


def f1(pred: Tensor, real: Tensor) -> float:
    hits = int(((pred > 0) & (real > 0)).sum())
    guessed = int((pred > 0).sum())
    positive = int((real > 0).sum())
    return 2 * hits / (guessed + positive)


def mean_so_far(pred: Tensor, real: Tensor) -> float:
    total = 0.0
    for a, b in zip(pred, real, strict=True):
        total += (a - b).abs().item()
    return math.log(total / len(pred))


def perplexity(scores: Tensor, labels: Tensor) -> float:
    loss = F.cross_entropy(scores, labels)
    return math.exp(loss.item())


def psnr(pred: np.ndarray, real: np.ndarray) -> float:
    error = np.mean((pred - real) ** 2)
    return 100.0 if error == 0 else -10 * math.log10(error)


def bound(pred: Tensor, real: Tensor) -> float:
    return math.log(len(pred)) - (pred - real).abs().mean().item()


def both(pred: Tensor, real: Tensor) -> float:
    mae = (pred - real).abs().mean().item()
    total = (pred - real).square().sum().item()
    return mae + BETA * total


def clipped(pred: Tensor, real: Tensor) -> float:
    bias = (pred - real).mean().item()
    return max(bias, 0.0)


def several(pred: Tensor, real: Tensor) -> dict[str, float]:
    mse = (pred - real).square().mean().item()
    return {"mse": mse, "rmse": mse**0.5}


class Loss(nn.Module):
    def forward(self, pred: Tensor, real: Tensor) -> float:
        mse = (pred - real).square().mean().item()
        return mse**0.5


def line_of(fn: Any, code: str) -> int:
    lines, first = inspect.getsourcelines(fn)
    return first + next(index for index, line in enumerate(lines) if code in line)


DRAWS = torch.Generator().manual_seed(0)
PAIR = (torch.randn(300, generator=DRAWS), torch.randn(300, generator=DRAWS))
SCORED = (torch.randn(300, 4, generator=DRAWS), torch.randint(0, 4, (300,), generator=DRAWS))


@pytest.mark.parametrize(
    ("fn", "example", "verdict", "code"),
    [
        (rms, PAIR, "nonlinear", "math.sqrt"),
        (in_steps, PAIR, "nonlinear", "error = sqrt"),
        (with_a_helper, PAIR, "nonlinear", "return sqrt"),
        (f1, PAIR, "ratio", "2 * hits /"),
        (mean_so_far, PAIR, "nonlinear", "math.log"),
        (perplexity, SCORED, "nonlinear", "math.exp"),
        (psnr, (PAIR[0].numpy(), PAIR[1].numpy()), "nonlinear", "math.log10"),
        (bound, PAIR, "size", "math.log(len"),
        (both, PAIR, "mean-and-sum", "mae + BETA"),
        (clipped, PAIR, "limit", "max(bias"),
        (clipped, (PAIR[0] - 0.1, PAIR[1]), "limit", "max(bias"),  # no quarter of the samples comes to the limit
        (several, PAIR, "nonlinear", "rmse"),
        (Loss(), PAIR, "nonlinear", "mse**0.5"),
    ],
)
def test_the_line_and_the_cause(fn: Callable[..., Any], example: tuple[Any, ...], verdict: str, code: str) -> None:
    found = explain(fn, *example)
    assert (found.is_safe, found.verdict) == (False, verdict)
    first = next(finding for finding in found.findings if finding.code == verdict)
    assert first.place is not None
    assert first.place.line == line_of(fn.forward if isinstance(fn, nn.Module) else fn, code)


def test_the_words_are_those_of_torch() -> None:
    def in_torch(pred: Tensor, real: Tensor) -> Tensor:
        return (pred - real).square().mean().sqrt()

    ours, theirs = explain(rms, *PAIR).findings[0], explain(in_torch, *PAIR).findings[0]
    assert (ours.what, ours.title, ours.remedy, ours.direction) == (
        theirs.what, theirs.title, theirs.remedy, theirs.direction,
    )  # fmt: skip


def test_a_mean_of_python_numbers_is_safe() -> None:
    def accuracy(scores: Tensor, labels: Tensor) -> float:
        right = (scores.argmax(1) == labels).sum().item()
        return right / len(labels)

    assert explain(accuracy, *SCORED).is_safe is True


def test_a_tracer_is_put_back() -> None:
    import sys

    before = sys.gettrace()
    explain(rms, *PAIR)
    assert sys.gettrace() is before


def test_a_reciprocal_of_a_fixed_number_is_no_ratio() -> None:
    def decibel(pred: np.ndarray, real: np.ndarray) -> float:
        return 20 * np.log10(1.0 / np.sqrt(np.mean((pred - real) ** 2)))

    assert explain(decibel, PAIR[0].numpy(), PAIR[1].numpy()).verdict == "nonlinear"


def test_what_is_done_inside_of_a_mean_is_done_to_samples() -> None:
    def wrapped(pred: Tensor, real: Tensor) -> float:
        return (pred - real).square().mean().item() % 0.5

    (first,) = (finding for finding in explain(wrapped, *PAIR).findings if not finding.harmless)
    assert (first.code, first.place and first.place.line) == ("unexplained", line_of(wrapped, "% 0.5"))
