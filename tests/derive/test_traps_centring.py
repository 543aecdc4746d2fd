"""Traps around batch statistics: what looks like a sum of few terms near the first batch, and is none far from it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_traps import SHAKEN, named
from torch import Tensor

from functions import (
    COUNTED,
    REGRESSION,
    balanced_accuracy,
    balanced_entropy,
    coins,
    concordance,
    explained_variance,
    labels,
    normal,
    pair,
    pearson,
    r2,
    spread,
    table,
    weights_by_count,
)
from promise import Function, promise

# ------------------------------------------------------------------ smooth, and of no finite rank

SMOOTH = (
    ("sigmoid", lambda d: torch.sigmoid(d).mean()),
    ("tanh", lambda d: torch.tanh(d).pow(2).sum()),
    ("softplus", lambda d: F.softplus(d).mean()),
    ("bell", lambda d: torch.exp(-(d**2)).mean()),
    ("logarithm", lambda d: torch.log1p(d**2).mean()),
    ("root", lambda d: torch.sqrt(d**2 + 1).mean()),
    ("inverse", lambda d: (1 / (1 + d**2)).sum()),
    ("absolute", lambda d: d.abs().mean()),
    ("rectified", lambda d: F.relu(d).mean()),
    ("huber", lambda d: F.huber_loss(d, torch.zeros_like(d))),
    ("sign", lambda d: (d > 0).double().mean()),
    ("power", lambda d: ((d**2 + 1) ** 0.3).mean()),
    ("arc", lambda d: torch.atan(d).pow(2).mean()),
    ("error function", lambda d: torch.erf(d).abs().mean()),
    ("gelu", lambda d: F.gelu(d).mean()),
)
FINITE_RANK = (
    ("square", lambda d: (d**2).mean()),
    ("fourth power", lambda d: (d**4).mean()),
    ("cube", lambda d: (d**3).sum()),
    ("waves", lambda d: torch.cos(d).mean() + torch.sin(2 * d).mean()),
    ("exponential", lambda d: torch.exp(0.1 * d).mean()),
)


def first_batch(width: float) -> Tensor:
    """Narrow at first, so that every smooth function is a polynomial there; then wide, and elsewhere."""
    return torch.cat([width * normal(120), 1 + 2 * normal(80)])


@pytest.mark.parametrize("width", [1e-4, 1.0])
@table(*SMOOTH, *FINITE_RANK)
def test_a_function_of_the_deviation_from_the_mean(fn: Function, width: float) -> None:
    promise(lambda x: fn(x - x.mean()), first_batch(width), rtol=1e-7)


@table(*SMOOTH)
def test_a_function_of_the_deviation_on_a_scale(fn: Function) -> None:
    promise(lambda x: fn((x - x.mean()) / (x.std() + 0.1)), first_batch(1e-2), rtol=1e-7)
    promise(lambda x: fn(x / x.abs().max()), first_batch(1e-2), rtol=1e-7)


@table(*FINITE_RANK)
def test_a_function_of_finite_rank(fn: Function) -> None:
    promise(lambda x: fn(x - x.mean()), normal(200), constant=True, rtol=1e-7)


@table(
    ("added", lambda a, s: (a**2 / (a**2 + s)).mean()),
    ("a power", lambda a, s: (a.abs() + 1).pow(1 / (1 + s)).mean()),
    ("a threshold", lambda a, s: (a.abs() > s).double().mean()),
    ("a clamp", lambda a, s: a.clamp(max=s).mean()),
    ("a minimum", lambda a, s: torch.minimum(a, s).mean()),
    ("a smoothed step", lambda a, s: torch.sigmoid((a - s) * 10).mean()),
    ("a temperature", lambda a, s: (a / (1 + s)).exp().mean().log()),
    ("a distance", lambda a, s: torch.hypot(a, s).mean()),
    ("a remainder", lambda a, s: torch.remainder(a, s + 0.5).mean()),
)
@pytest.mark.parametrize("statistic", ["mean", "range", "standard deviation", "count"])
def test_a_statistic_enters_by_another_way(fn: Function, statistic: str) -> None:
    def whole(a: Tensor, b: Tensor) -> Tensor:
        s = {
            "mean": b.mean().abs(),
            "range": b.max() - b.min(),
            "standard deviation": b.std(),
            "count": (b > 1).sum().to(a.dtype),
        }[statistic]
        return fn(a, s)

    b = torch.cat([0.01 * normal(120, seed=4), 1 + 30 * normal(80, seed=5)])
    promise(whole, normal(200), b, rtol=1e-7)


# ------------------------------------------------------------------ far from the first batch


@pytest.mark.one_in(3)
@named((r2, pearson, explained_variance, concordance, spread))
@pytest.mark.parametrize("drift", [1e4, 1e6, 1e9])
@pytest.mark.parametrize("direction", ["offset", "scale", "towards zero"])
def test_a_later_batch_that_lies_far_away(fn: Function, drift: float, direction: str) -> None:
    """Digits run out at some distance: then it is refused, or samples are kept; never a number with few digits."""
    pred, real = pair(200)
    far = torch.arange(200) >= 120
    move = {
        "offset": lambda x: x + drift * far,
        "scale": lambda x: torch.where(far, drift * x, x),
        "towards zero": lambda x: torch.where(far, x, x + drift),
    }[direction]
    promise(fn, move(pred), move(real), rtol=1e-6)


@pytest.mark.one_in(2)
@table(
    ("log-sum-exp", lambda x, y: torch.logsumexp(x, 0)),
    ("log-mean-exp", lambda x, y: torch.logsumexp(x, 0) - math.log(x.shape[0])),
    ("softmax weights", lambda x, y: (torch.softmax(x, 0) * y).sum()),
    ("sum of squared softmax", lambda x, y: torch.softmax(x, 0).pow(2).sum()),
    ("mean of softmax", lambda x, y: torch.softmax(x, 0).mean()),
    ("entropy of softmax", lambda x, y: -(torch.softmax(x, 0) * torch.log_softmax(x, 0)).sum()),
    ("log-softmax", lambda x, y: torch.log_softmax(x, 0).mean()),
    ("exponential of a deviation", lambda x, y: torch.exp(x - x.max()).sum()),
    ("exponential by hand", lambda x, y: (torch.exp(x - x.mean()) * y).sum() / torch.exp(x - x.mean()).sum()),
)
@pytest.mark.parametrize("scale", [3, 30, 3000])
@pytest.mark.parametrize("offset", [0, 1])
def test_exponentials_far_from_the_first_batch(fn: Function, scale: float, offset: float) -> None:
    later = scale * (0.3 * normal(80) + offset)
    promise(fn, torch.cat([normal(120), later]), normal(200, seed=4) + 3, rtol=1e-7)


# ------------------------------------------------------------------ hardly anything to learn from


@pytest.mark.one_in(2)
@pytest.mark.parametrize("warmup", [1, 2, 3])
@named((*REGRESSION, *COUNTED, balanced_accuracy, balanced_entropy, weights_by_count))
def test_derived_from_one_sample(fn: Function, warmup: int) -> None:
    arguments = pair(100) if fn in REGRESSION else (normal(100, 4), labels(100))
    promise(fn, *arguments, sizes=(1, 1, 1, 40), warmup=warmup)


@pytest.mark.parametrize("fn", SHAKEN.values(), ids=SHAKEN)
def test_order_and_rank_derived_from_one_sample(fn: Function) -> None:
    promise(fn, normal(100), sizes=(1, 1, 1, 40), warmup=1)


@table(
    ("mean", lambda x: x.nanmean()),
    ("selected", lambda x: x[~x.isnan()].mean()),
    ("replaced", lambda x: torch.nan_to_num(x).pow(2).mean()),
    ("where", lambda x: torch.where(x.isnan(), 0.0, x).sum() / x.isfinite().sum()),
    ("centred", lambda x: (x - x.nanmean()).nan_to_num().pow(2).sum()),
    ("maximum", lambda x: x.nan_to_num(-9.0).max()),
    ("first that is there", lambda x: x[~x.isnan()][0]),
    ("median", lambda x: x.nanmedian()),
    ("share", lambda x: x.isnan().double().mean()),
    ("any", lambda x: x.isnan().any() * 1.0 + x.isnan().all()),
)
@pytest.mark.parametrize("first", [math.nan, math.inf], ids=["nan", "inf"])
def test_nothing_but_nan_or_infinity_first(fn: Function, first: float) -> None:
    x = normal(200)
    x[:130] = first
    promise(fn, x)
    x[100:130] = normal(30)
    promise(fn, x)


# ------------------------------------------------------------------ sums by class, with a class that is absent first


@pytest.mark.one_in(3)
@table(
    ("largest", lambda x, y: torch.zeros(4, dtype=x.dtype).scatter_reduce(0, y, x, "amax")),
    ("largest alone", lambda x, y: torch.zeros(4, dtype=x.dtype).scatter_reduce(0, y, x, "amax", include_self=False)),
    ("smallest", lambda x, y: torch.full((4,), math.inf, dtype=x.dtype).scatter_reduce(0, y, x, "amin")),
    ("mean", lambda x, y: torch.zeros(4, dtype=x.dtype).scatter_reduce(0, y, x, "mean", include_self=False)),
    ("mean with itself", lambda x, y: torch.zeros(4, dtype=x.dtype).scatter_reduce(0, y, x, "mean")),
    ("product", lambda x, y: torch.ones(4, dtype=x.dtype).scatter_reduce(0, y, 1 + x / 9, "prod")),
    ("sum", lambda x, y: torch.zeros(4, dtype=x.dtype).scatter_reduce(0, y, x, "sum")),
    ("weighted counts", lambda x, y: torch.bincount(y, weights=x, minlength=4)),
    ("by product", lambda x, y: F.one_hot(y, 4).to(x.dtype).T @ x),
    ("set", lambda x, y: torch.zeros(4, dtype=x.dtype).index_put((y,), x)),
    ("filled", lambda x, y: torch.zeros(4, dtype=x.dtype).index_fill(0, y, 1.0).sum()),
    ("flags", lambda x, y: torch.stack([(y == c).any() for c in range(4)]).sum()),
    ("first of each", lambda x, y: torch.stack([x[y == c][:1].sum() for c in range(4)])),
    ("largest of each", lambda x, y: torch.stack([x[y == c].max() if (y == c).any() else x.sum() for c in range(4)])),
    ("standard deviations", lambda x, y: torch.stack([x[y == c].std(unbiased=False) for c in range(3)]).nan_to_num()),
    ("labels pick samples", lambda x, y: x[y].sum()),
    ("labels pick samples too", lambda x, y: x.gather(0, y).pow(2).mean()),
    ("positions of a class", lambda x, y: torch.nonzero(y == 1).double().mean()),
    ("last position", lambda x, y: torch.arange(y.shape[0])[y > 0].sum()),
    ("samples by position", lambda x, y: x[torch.nonzero(y > 0).squeeze(1)].sum()),
    ("histogram on its own range", lambda x, y: torch.histc(x, 5)),
    ("largest count", lambda x, y: torch.unique(y, return_counts=True)[1].max()),
    ("sum of what is distinct", lambda x, y: torch.unique(x.round()).sum()),
    ("sorted and summed", lambda x, y: x.sort().values.sum() + x[y.argsort(stable=True)].mean()),
    ("centred by class", lambda x, y: (x - torch.bincount(y, weights=x, minlength=4)[y]).pow(2).mean()),
)  # fmt: skip
@pytest.mark.parametrize("first", ["one class", "two classes", "zeros"])
def test_by_class(fn: Function, first: str) -> None:
    x, y = normal(200), labels(200)
    if first == "zeros":
        x[:120] = 0
    else:
        y[:120] %= {"one class": 1, "two classes": 2}[first]
    promise(fn, x, y)


def test_more_classes_than_were_declared() -> None:
    y = torch.cat([labels(120, high=3), labels(80, high=6)])
    promise(lambda x, y: torch.bincount(y, minlength=3), normal(200), y)
    promise(lambda x, y: torch.bincount(y, weights=x, minlength=3).pow(2).sum(), normal(200), y)
    promise(lambda x, y: (torch.bincount(y, minlength=3) > 0).sum(), normal(200), y)
    promise(
        lambda x, y: torch.stack([x[y == c].sum() for c in range(3)]).sum() + y.max(), normal(200), y, constant=True
    )


@pytest.mark.one_in(3)
@table(
    ("covariance", lambda x: torch.cov(x.T).pow(2).sum()),
    ("correlation", lambda x: torch.corrcoef(x.T)[0, 1]),
    ("singular values", lambda x: torch.linalg.svdvals(x)),
    ("eigenvalues", lambda x: torch.linalg.eigvalsh(x.T @ x / x.shape[0])),
    ("least squares", lambda x: torch.linalg.lstsq(x[:, :2], x[:, 2:]).solution),
    ("normal equations", lambda x: torch.linalg.solve(x[:, :2].T @ x[:, :2], x[:, :2].T @ x[:, 2])),
    ("residuals", lambda x: (x[:, 2] - x[:, :2] @ torch.linalg.pinv(x[:, :2]) @ x[:, 2]).pow(2).mean()),
    ("whitened", lambda x: ((x - x.mean(0)) @ torch.linalg.inv(torch.cov(x.T) + torch.eye(3))).pow(2).mean()),
    ("log determinant", lambda x: torch.logdet(x.T @ x + torch.eye(3))),
    ("batch norm", lambda x: F.batch_norm(x, None, None, training=True).pow(3).mean()),
    ("norms", lambda x: torch.linalg.matrix_norm(x) + torch.linalg.matrix_norm(x, 1) + torch.linalg.norm(x, 2)),
    ("skewness", lambda x: (((x - x.mean(0)) / x.std(0)) ** 3).mean()),
    ("kurtosis", lambda x: (((x - x.mean(0)) / x.std(0)) ** 4).mean()),
    ("distances to the centre", lambda x: (x - x.mean(0)).norm(dim=1).mean()),
    ("cosine to the centre", lambda x: F.cosine_similarity(x, x.mean(0, keepdim=True)).mean()),
    ("vmap", lambda x: torch.func.vmap(lambda row: row @ row)(x).mean().sqrt()),
    ("gradient of each", lambda x: torch.func.vmap(torch.func.grad(lambda row: (row**3).sum()))(x).norm(dim=1).mean()),
    ("sparse", lambda x: x.to_sparse().sum()),
)
@pytest.mark.parametrize("first", ["noise", "zeros", "rank one"])
def test_linear_algebra(fn: Function, first: str) -> None:
    x = normal(150, 3) + torch.tensor([0.5, 0.0, -1.0])
    if first == "rank one":
        x[:80] = x[:80, :1] * torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype)
    elif first == "zeros":
        x[:80] = 0
    try:
        promise(fn, x, sizes=(40, 7, 40, 1), rtol=1e-7)
    except torch.linalg.LinAlgError:
        assert first != "noise", "an error of the function itself, which is defined on all samples"


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool], ids=str)
@pytest.mark.parametrize("first", ["one value", "two values", "zeros"])
def test_whole_numbers_around_a_statistic(dtype: torch.dtype, first: str) -> None:
    y = labels(200, high=9)
    y[:120] = {"one value": 3, "two values": 3 + y[:120] % 2, "zeros": 0}[first]
    y, x = y.to(dtype), normal(200)
    promise(lambda x, y: (y - y.double().mean()).pow(2).sum() if y.dtype != torch.bool else y.sum(), x, y, rtol=1e-5)
    promise(lambda x, y: ((x - x.mean()) * (y * 1.0 - y.double().mean())).mean(), x, y, rtol=1e-5)
    promise(lambda x, y: (x * y - (x * y).mean()).pow(2).mean().sqrt(), x, y, rtol=1e-5)
    promise(lambda x, y: (x - x.max()).mul(y).sum() / y.sum(), x, y, rtol=1e-5)
    promise(lambda x, y: 1 - ((x - y * 1.0) ** 2).sum() / ((y * 1.0 - y.double().mean()) ** 2).sum(), x, y, rtol=1e-5)


@pytest.mark.parametrize("first", ["noise", "constant", "zeros", "real"])
def test_complex_numbers_around_a_statistic(first: str) -> None:
    z = torch.complex(normal(200), normal(200, seed=6))
    z[:120] = {"noise": z[:120], "constant": 1 + 2j, "zeros": 0, "real": z[:120].real + 0j}[first]
    promise(lambda z: ((z - z.mean()) * (z - z.mean()).conj()).real.sum(), z)
    promise(lambda z: (z - z.mean()).abs().pow(2).mean(), z)
    promise(lambda z: ((z - z.mean()) ** 2).mean().abs(), z)
    promise(lambda z: (z / z.abs().max()).sum(), z)


def test_masks_that_never_matter_at_first() -> None:
    x, mask = normal(200), torch.cat([torch.ones(120, dtype=torch.bool), coins(80)])
    promise(lambda x, m: (x - x[m].mean()).pow(2)[m].mean(), x, mask)
    promise(lambda x, m: ((x - (x * m).sum() / m.sum()) * m).abs().max(), x, mask)
    promise(lambda x, m: torch.where(m, x, x.mean()).pow(2).sum(), x, mask)
    promise(lambda x, m: x.masked_fill(~m, x.max().item()).mean(), x, mask)


# ------------------------------------------------------------------ weights of classes, from the batch


def _balanced(scores: Tensor, target: Tensor, **options: Any) -> Tensor:
    counts = torch.bincount(target, minlength=scores.shape[1])
    return F.cross_entropy(scores, target, weight=len(target) / counts.to(scores.dtype), **options)


def _balanced_pixels(scores: Tensor, target: Tensor) -> Tensor:
    pixels = scores[:, :, None] * torch.arange(1.0, 4.0, dtype=scores.dtype)
    weight = 1 / torch.bincount(target, minlength=scores.shape[1]).clamp(min=1).to(scores.dtype)
    return F.cross_entropy(pixels, target[:, None].expand(-1, 3), weight=weight, ignore_index=2)


@table(
    ("mean", _balanced),
    ("sum", lambda scores, target: _balanced(scores, target, reduction="sum")),
    ("ignored class", lambda scores, target: _balanced(scores, target, ignore_index=1)),
    ("pixels", _balanced_pixels),
)
def test_class_weights_that_the_batch_decides(fn: Function) -> None:
    """One sum and one count for each class serve any weights, an infinite one of a class that never occurs too."""
    scores, target = normal(200, 12), labels(200, high=10)
    target[:64] %= 3
    promise(fn, scores, target, constant=True)


def test_class_weights_of_the_batch_without_a_reduction() -> None:
    promise(lambda s, t: _balanced(s, t, reduction="none").mean(), normal(200, 4), labels(200, high=4), constant=True)
