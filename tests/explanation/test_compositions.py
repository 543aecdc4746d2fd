"""Compositions of a function and a mean: on which side the average over batches lies, and the reason that is given.

Each expectation was worked out by hand, in the comment above the function: m is the mean of a batch, and f(m) the
result. f'' > 0 is convex, and averages lie above (Jensen); f'' < 0 is concave, and they lie below. Where f is of
several means and neither convex nor concave in them, or follows the batch size too, nothing is to be said of the bend,
and only what was measured gives the side.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from batchproof import Explanation, explain
from batchproof.derive import derive
from batchproof.explanation.curvature import Bend, bend
from batchproof.explanation.result import Direction

CLAIMS = {
    "up": "The result is convex in the batch's means (it bends up), so the average over batches lies above the value",
    "down": "The result is concave in the batch's means (it bends down), so the average over batches lies below the",
}


@dataclass(frozen=True)
class Case:
    target: Callable[..., Any]
    reads: Direction | None
    bends: Bend | None


CASES: dict[str, Case] = {}


def case(reads: Direction | None, bends: Bend | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(target: Callable[..., Any]) -> Callable[..., Any]:
        CASES[target.__name__] = Case(target, reads, bends)
        return target

    return enter


def mse(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean()


# f = √m, f'' = -1/4 m^-3/2 < 0
@case("low", "down")
def rmse(pred, real):
    return mse(pred, real).sqrt()


# f = -√m, f'' = 1/4 m^-3/2 > 0
@case("high", "up")
def negative_rmse(pred, real):
    return -torch.sqrt(mse(pred, real))


# f = 1 - √m, f'' as above
@case("high", "up")
def one_minus_rmse(pred, real):
    return 1 - mse(pred, real).sqrt()


# f = -10 log10 m, f'' = 10 / (m² ln 10) > 0
@case("high", "up")
def psnr(pred, real):
    return -10 * torch.log10(mse(pred, real))


# the same in Python's floats: 20 log10(1 / √m) = -10 log10 m
@case("high", "up")
def psnr_in_python(pred, real):
    root = math.sqrt(mse(pred, real).item())
    return 20 * math.log10(1.0 / root)


# f = 10 log10 m, f'' = -10 / (m² ln 10) < 0
@case("low", "down")
def decibels(pred, real):
    return 10 * torch.log10(mse(pred, real))


# f = m^-1/2, f'' = 3/4 m^-5/2 > 0
@case("high", "up")
def inverse_rmse(pred, real):
    return 1 / mse(pred, real).sqrt()


# f = -m^-1/2, f'' = -3/4 m^-5/2 < 0
@case("low", "down")
def negative_inverse(pred, real):
    return -torch.rsqrt(mse(pred, real))


# f = log(1/m) = -log m, f'' = 1/m² > 0
@case("high", "up")
def log_of_inverse(pred, real):
    return torch.log(1 / mse(pred, real))


# f = e^-m, f'' = e^-m > 0
@case("high", "up")
def exp_of_minus_mean(pred, real):
    return torch.exp(-mse(pred, real))


# f = 1 - e^-m, f'' = -e^-m < 0
@case("low", "down")
def one_minus_exp(pred, real):
    return 1 - torch.exp(-mse(pred, real))


# perplexity, f = e^m, f'' = e^m > 0
@case("high", "up")
def perplexity(pred, real):
    return (-real.log()).mean().exp()


# f = log2(e^√m) = √m / ln 2, f'' < 0, whatever the exponential inside does alone
@case("low", "down")
def log_of_exp_of_root(pred, real):
    return torch.log2(torch.exp(mse(pred, real).sqrt()))


# f = 1/m of m = mean(1/x), f'' = 2/m³ > 0
@case("high", "up")
def harmonic_mean(pred, real):
    return len(real) / (1 / real).sum()


# f = e^m of m = mean(log x), f'' = e^m > 0
@case("high", "up")
def geometric_mean(pred, real):
    return real.log().mean().exp()


# f = m², f'' = 2 > 0
@case("high", "up")
def squared_bias(pred, real):
    return (pred - real).mean().square()


# f = |m|, convex with a bend at 0, which batches lie on both sides of
@case("high", "up")
def absolute_bias(pred, real):
    return (pred - real).mean().abs()


# two means: f(a, b) = a - b², concave
@case("low", "down")
def variance(pred, real):
    return real.var(unbiased=False)


# two means: f(a, b) = √a + √b, concave as a sum of concave functions
@case("low", "down")
def sum_of_roots(pred, real):
    return mse(pred, real).sqrt() + real.mean().sqrt()


# two means: f(a, b) = √(a b) is the geometric mean of two numbers, concave
@case("low", "down")
def root_of_product(pred, real):
    return (pred.mean() * real.mean()).sqrt()


# one leaf with three means: the norm of a mean vector, convex
@case("high", "up")
def norm_of_mean(pred, real):
    return torch.stack([pred - real, pred - 0.5, real - 0.5], 1).mean(0).norm()


# a over b is neither convex nor concave: its matrix of second derivatives has the determinant -1/b⁴ < 0. The average
# is off by f var(b)/b² - cov(a, b)/b², and with predictions near the truth the two are about the same.
@case(None, None)
def ratio_of_means(pred, real):
    return pred.mean() / real.mean()


# F1 = 2 a / (b + c), a ratio again. To second order E - f ≈ f var(d)/d² - 2 cov(a, d)/d² with d = b + c: here a hit
# raises both, and which term is larger is up to the data.
@case("low", None)
def f1(pred, real):
    hits = ((pred > 0.5) & (real > 0.5)).sum()
    return 2 * hits / ((pred > 0.5).sum() + (real > 0.5).sum()).clamp(min=1)


# A square root of that ratio bends it, and nothing more is known.
@case("low", None)
def root_of_f1(pred, real):
    return f1(pred, real).double().sqrt()


# 1 - A/B with B around the batch's mean: a ratio, without a value on single samples. B of small batches is too small.
@case("low", None)
def r2(pred, real):
    return 1 - (real - pred).square().sum() / (real - real.mean()).square().sum()


# a quotient of centred sums: no bend. Its side is measured.
@case("low", None)
def correlation(pred, real):
    a, b = pred - pred.mean(), real - real.mean()
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


# σ bends up below 0 and down above, and batches lie on both sides; its own symmetry leaves the side to the data
@case(None, None)
def sigmoid_of_bias(pred, real):
    return torch.sigmoid(20 * (pred - real).mean())


# n - 1 follows the batch size too: the values of batches lie on another curve than that of all
@case("low", None)
def unbiased_deviation(pred, real):
    return real.std()


# leaves torch: there is no program and no state to follow
@case("high", None)
def psnr_in_numpy(pred, real):
    return float(-10 * np.log10(np.mean((pred.numpy() - real.numpy()) ** 2)))


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    real = 0.2 + 0.8 * torch.rand(442, generator=generator)
    return (real + 0.1 * torch.randn(442, generator=generator)).clamp(min=0.05), real


def explained(name: str) -> Explanation:
    return explain(CASES[name].target, *samples())


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize("name", CASES)
def test_direction_and_reason(name):
    expected, found = CASES[name], explained(name)
    first = found.findings[0]
    assert found.is_safe is False
    if expected.reads is not None:
        assert first.direction == expected.reads
    for side, claim in CLAIMS.items():
        assert (claim in first.what) == (side == expected.bends), first.what


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].bends])
def test_claim_is_true_of_values(name):
    """By the values alone: the average over batches of one size against the value on all their samples."""
    target, side = CASES[name].target, {"up": 1, "down": -1}[CASES[name].bends or ""]
    pred, real = (x[:384].double() for x in samples())
    for size in (2, 8, 32):
        values = [float(target(p, r)) for p, r in zip(pred.split(size), real.split(size), strict=True)]
        assert side * (sum(values) / len(values) - float(target(pred, real))) > 0


def test_a_bend_that_contradicts_what_was_measured_is_not_told(monkeypatch):
    from batchproof.explanation import structure

    monkeypatch.setattr(structure, "bend", lambda *of: "down")
    found = explained("psnr").findings[0]
    assert found.direction == "high"
    assert "concave" not in found.what
    assert found.what.endswith("the average of its values is not its value at the average")


def test_a_bend_is_that_of_the_number_that_is_asked_for():
    pred, real = samples()
    plan = derive(both := lambda p, r: (rmse(p, r), psnr(p, r)), [pred, real], [0, 0])
    assert [bend(plan, both, [pred, real], [0, 0], which) for which in (0, 1)] == ["down", "up"]


LIGHT = torch.linspace(0.2, 1, 24).reshape(24, 1, 1, 1)
IMAGES = [LIGHT**k * torch.rand(24, 3, 12, 12, generator=torch.Generator().manual_seed(k)) for k in (1, 2)]


def dice(pred, real):
    return 2 * (pred * real).sum() / (pred.sum() + real.sum())


@pytest.mark.parametrize("target", [psnr, dice])
def test_averaged_over_images_it_is_another_quantity(target):
    found = explain(target, *IMAGES)
    alone = sum(float(target(p, r)) for p, r in zip(*(x.double().split(1) for x in IMAGES), strict=True)) / 24
    note = next(note for note in found.notes if "image" in note)
    assert "each sample has the shape of an image (3×12×12)" in note
    told = re.search(r"The average over images, (\S+), is another quantity", note)
    assert told is not None
    assert float(told[1]) == pytest.approx(alone, rel=1e-3)


def test_images_are_told_by_their_shape():
    table = [x.reshape(24, -1) for x in IMAGES]
    sequences = [x.reshape(24, 2, 36, 6)[:, :1, :, :3] for x in IMAGES]
    for given in (table, sequences):
        assert not any("image" in note for note in explain(psnr, *given).notes)
    assert not any("image" in note for note in explain(mse, *IMAGES).notes)
