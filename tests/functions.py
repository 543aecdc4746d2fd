"""Functions that people write, and the data that several tests try them on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

CLASSES = 4


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def labels(n: int, low: int = 0, high: int = CLASSES, seed: int = 2) -> Tensor:
    return torch.randint(low, high, (n,), generator=torch.Generator().manual_seed(seed))


def coins(*shape: int, p: float = 0.5, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < p


# ------------------------------------------------------------------ functions that people write


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return torch.sqrt(((pred - real) ** 2).mean())


def r2(pred: Tensor, real: Tensor) -> Tensor:
    return 1 - ((pred - real) ** 2).sum() / ((real - real.mean()) ** 2).sum()


def pearson(a: Tensor, b: Tensor) -> Tensor:
    x, y = a - a.mean(), b - b.mean()
    return (x * y).sum() / (x.norm() * y.norm())


def explained_variance(pred: Tensor, real: Tensor) -> Tensor:
    return 1 - (real - pred).var() / real.var()


def concordance(a: Tensor, b: Tensor) -> Tensor:
    gap = (a.mean() - b.mean()) ** 2
    return 2 * ((a - a.mean()) * (b - b.mean())).mean() / (a.var(unbiased=False) + b.var(unbiased=False) + gap)


def wape(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().sum() / real.abs().sum()


def worst(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().max()


def range_error(pred: Tensor, real: Tensor) -> Tensor:
    return rmse(pred, real) / (real.max() - real.min())


def log_mean_exp(pred: Tensor, real: Tensor) -> Tensor:
    error = pred - real
    return torch.logsumexp(error, 0) - math.log(error.shape[0])


def spread(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).std() + real.var(unbiased=False)


def median_error(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().median()


def macro_f1(scores: Tensor, y: Tensor) -> Tensor:
    p, t = F.one_hot(scores.argmax(1), CLASSES).double(), F.one_hot(y, CLASSES).double()
    return (2 * (p * t).sum(0) / (p.sum(0) + t.sum(0) + 1e-12)).mean()


def balanced_accuracy(scores: Tensor, y: Tensor) -> Tensor:
    hit = scores.argmax(1) == y
    return torch.stack([hit[y == c].double().mean() for c in range(CLASSES) if (y == c).any()]).mean()


def class_means(scores: Tensor, y: Tensor) -> Tensor:
    total = torch.zeros(CLASSES, dtype=scores.dtype).index_add(0, y, scores[:, 0])
    return total / torch.bincount(y, minlength=CLASSES).clamp(min=1)


def balanced_entropy(scores: Tensor, y: Tensor) -> Tensor:
    share = torch.bincount(y, minlength=CLASSES) / y.shape[0]
    return F.cross_entropy(scores, y, weight=1 / (share.to(scores.dtype) + 0.01))


def weights_by_count(scores: Tensor, y: Tensor) -> Tensor:
    count = torch.bincount(y, minlength=CLASSES).to(scores.dtype)
    return F.cross_entropy(scores, y, weight=count + 0.1)


def recall_of_the_rare(scores: Tensor, y: Tensor) -> Tensor:
    rare = y == CLASSES - 1
    return ((scores.argmax(1) == y) & rare).sum() / rare.sum().clamp(min=1)


def classes_seen(scores: Tensor, y: Tensor) -> Tensor:
    return torch.unique(y).numel() * scores.mean()


def width_from_labels(scores: Tensor, y: Tensor) -> Tensor:
    return F.one_hot(y).sum(0)


def width_as_a_number(scores: Tensor, y: Tensor) -> Tensor:
    return torch.zeros(int(y.max()) + 1, dtype=torch.float64).index_add(0, y, scores[:, 0])


REGRESSION = (rmse, r2, pearson, explained_variance, concordance, wape, worst, range_error, log_mean_exp, spread)
COUNTED = (macro_f1, class_means, recall_of_the_rare)


def pair(n: int = 200) -> tuple[Tensor, Tensor]:
    real = normal(n)
    return real + 0.5 * normal(n, seed=5), real


def table(*rows: tuple[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fn", [row[1] for row in rows], ids=[row[0] for row in rows])
