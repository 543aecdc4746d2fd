"""Traps where the data mislead: every one gives the right number, or a refusal.

What the function looks like on the first batches is not what it is on all of them.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from functions import (
    CLASSES,
    COUNTED,
    REGRESSION,
    balanced_accuracy,
    balanced_entropy,
    classes_seen,
    coins,
    concordance,
    explained_variance,
    labels,
    normal,
    pair,
    pearson,
    r2,
    range_error,
    spread,
    table,
    weights_by_count,
    width_as_a_number,
    width_from_labels,
)
from promise import Function, promise


def named(functions: tuple[Function, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fn", functions, ids=lambda fn: fn.__name__)


# ------------------------------------------------------------------ shared is structural


def test_shared_is_structural_a_minimum_that_did_not_change() -> None:
    x = torch.cat([1 + normal(100).abs(), normal(100)])
    promise(lambda x: x.clamp(max=1.0).min() * x.mean(), x, constant=True)


def test_shared_is_structural_a_flag_that_did_not_change() -> None:
    flag = torch.cat([torch.ones(120, dtype=torch.bool), coins(80)])
    promise(lambda x, flag: x.mean() * flag.all() + x.sum() * flag.any(), normal(200), flag, constant=True)


def test_shared_is_structural_a_constant_of_the_function_is_shared() -> None:
    edges = torch.linspace(-2, 2, 5, dtype=torch.float64)

    def histogram(x: Tensor) -> Tensor:
        return torch.bincount(torch.bucketize(x, edges), minlength=6) / x.shape[0]

    promise(histogram, normal(200), constant=True)


@named((width_from_labels, width_as_a_number, classes_seen))
def test_shared_is_structural_the_number_of_classes_seen(fn: Function) -> None:
    y = torch.cat([labels(100, high=2), labels(100)])
    promise(fn, normal(200, CLASSES), y)


# ------------------------------------------------------------------ first batches mislead


@named((*COUNTED, balanced_accuracy, balanced_entropy))
def test_class_absent_in_the_first_batch(fn: Function) -> None:
    y = torch.cat([labels(100, high=CLASSES - 1), labels(100)])
    promise(fn, normal(200, CLASSES), y, constant=True if fn in COUNTED else None)


@named((*COUNTED, balanced_accuracy, balanced_entropy, weights_by_count))
def test_first_batch_of_one_class(fn: Function) -> None:
    y = torch.cat([torch.zeros(100, dtype=torch.long), labels(100)])
    promise(fn, normal(200, CLASSES), y, constant=True if fn in COUNTED else None)


def selected(x: Tensor, mask: Tensor) -> Tensor:
    return x[mask].mean()


def weighted(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask).sum() / mask.sum()


def replaced(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, torch.zeros_like(x)).sum() / mask.sum()


def written(x: Tensor, mask: Tensor) -> Tensor:
    x = x.clone()
    x[~mask] = 0
    return x.sum() / mask.sum()


def shortcut(x: Tensor, mask: Tensor) -> Tensor:
    return x.mean() if mask.all() else (x * mask).sum() / mask.sum()


def two_masks(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask).sum(1).mean() / mask.double().mean()


@named((selected, weighted, replaced, written, shortcut))
def test_mask_all_ones_first(fn: Function) -> None:
    mask = torch.cat([torch.ones(130, dtype=torch.bool), coins(70)])
    promise(fn, normal(200) + 1, mask, constant=None if fn is shortcut else True)


@named((selected, weighted, replaced, written, shortcut))
def test_mask_all_zeros_first(fn: Function) -> None:
    mask = torch.cat([torch.zeros(130, dtype=torch.bool), coins(70)])
    promise(fn, normal(200) + 1, mask, constant=None if fn is shortcut else True)


@named((selected, two_masks))
def test_mask_over_two_dimensions_all_ones_first(fn: Function) -> None:
    mask = torch.cat([torch.ones(100, 5, dtype=torch.bool), coins(100, 5)])
    promise(fn, normal(200, 5) + 1, mask, constant=True)


def nan_mean(x: Tensor) -> Tensor:
    return x.nanmean()


def without_nan(x: Tensor) -> Tensor:
    return x[~x.isnan()].mean()


def nan_to_zero(x: Tensor) -> Tensor:
    return torch.nan_to_num(x).pow(2).mean()


def zero_if_nan(x: Tensor) -> Tensor:
    loss = x.pow(2).mean()
    return torch.zeros_like(loss) if torch.isnan(loss) else loss


@named((nan_mean, without_nan, nan_to_zero, zero_if_nan))
def test_no_nan_yet(fn: Function) -> None:
    x = normal(200)
    x[170] = math.nan
    promise(fn, x, constant=None if fn is zero_if_nan else True)


@named(REGRESSION)
def test_zeros_first(fn: Function) -> None:
    zeros = torch.zeros(120, dtype=torch.float64)
    pred, real = pair(80)
    promise(fn, torch.cat([zeros, pred]), torch.cat([zeros, real]), constant=True)


@named(REGRESSION)
def test_errors_of_zero_first(fn: Function) -> None:
    pred, real = pair()
    pred[:120] = real[:120]
    promise(fn, pred, real, constant=True)


@named(REGRESSION)
def test_constant_data_first(fn: Function) -> None:
    pred, real = pair()
    pred[:120], real[:120] = 3.7, 2.1
    promise(fn, pred, real, constant=True)


@named(REGRESSION)
def test_sorted_data_first(fn: Function) -> None:
    real = (1000 * normal(200)).sort().values
    promise(fn, real + normal(200, seed=8), real, constant=True, rtol=1e-7)


@named((r2, pearson, explained_variance, concordance, spread))
def test_means_that_drift_by_a_thousand_standard_deviations(fn: Function) -> None:
    pred, real = pair()
    drift = torch.arange(200, dtype=torch.float64).div(20).floor() * 1000
    promise(fn, pred + drift, real + drift, constant=True, rtol=1e-7)


def test_extremes_grow_with_every_batch() -> None:
    pred, real = pair()
    promise(range_error, pred, real * 1.05 ** torch.arange(200, dtype=torch.float64), constant=True)


def test_statistics_that_are_alike_first() -> None:
    """Three statistics, all zero on the first batch, weigh three classes."""
    scores, y = normal(200, 3), labels(200, high=3)
    x = torch.cat([torch.zeros(120, dtype=torch.float64), normal(80)])

    def fn(x: Tensor, scores: Tensor, y: Tensor) -> Tensor:
        weight = torch.stack([x.sum(), x.abs().sum(), x.max()])
        return F.cross_entropy(scores, y, weight=weight.abs() + 0.1)

    promise(fn, x, scores, y)
    promise(lambda x, y: x.max() * (y == 1).sum(), x, y, constant=True)
    promise(lambda x, y: x.sum() * y.sum() + x.max() * x.min(), x, y, constant=True)


def test_a_mask_that_picks_as_many_as_there_are() -> None:
    mask = torch.cat([torch.ones(130, dtype=torch.bool), coins(70)])
    promise(lambda x, m: x[: int(m.sum())].sum(), normal(200), mask)
    promise(lambda x, m: x[: m.sum().item()].max(), normal(200), mask)
    promise(lambda x, m: x.sum() / len(x[m]), normal(200), mask)
    promise(lambda x, m: x.reshape(int(m.sum()), -1).sum(1).pow(2).sum() if m.all() else x.sum(), normal(200), mask)


@pytest.mark.parametrize("first", ["some", "none", "all"])
def test_a_selection_that_is_empty_on_some_batches(first: str) -> None:
    mask = coins(200, p=0.05)
    mask[:110] = {"some": coins(110), "none": False, "all": True}[first]
    x = normal(200) + 3
    promise(lambda x, m: x[m].max(), x, mask)
    promise(lambda x, m: x[m].min() + x[~m].max(), x, mask)
    promise(lambda x, m: x[m].std() / x[m].mean(), x, mask)
    promise(lambda x, m: torch.logsumexp(x[m], 0), x, mask)
    promise(lambda x, m: (x[m] - x[m].mean()).abs().max(), x, mask)
    promise(lambda x, m: x[m].sort().values[0], x, mask)
    promise(lambda x, m: x.masked_fill(~m, float("-inf")).max() + x.masked_fill(m, 0).sum(), x, mask, constant=True)


def test_sums_change_sign_late() -> None:
    x = torch.cat([normal(120).abs(), -5 * normal(80).abs()])
    promise(lambda x: x.sum().abs(), x, constant=True)
    promise(lambda x: F.relu(x.mean()) + x.mean().sign(), x, constant=True)


def test_positive_data_first() -> None:
    x = torch.cat([normal(120).abs() + 1, normal(80)])
    promise(lambda x: (x.abs() - x).clamp(min=0).mean() + x.sign().min(), x, constant=True)


def test_the_same_sample_first() -> None:
    x = torch.cat([normal(1, 3).expand(120, 3), normal(80, 3)])
    promise(lambda x: (x - x.mean(0)).pow(2).sum(0).sqrt().mean(), x, constant=True)
    promise(lambda x: (x == x[0]).all(), x)


def test_a_first_batch_that_two_kinds_fit() -> None:
    """Zeros and ones add like they combine by maximum as long as only one of them is not zero."""
    x = torch.zeros(200, dtype=torch.float64)
    x[[10, 130, 131, 132]] = 1
    promise(lambda x: x.sum(), x, constant=True)
    promise(lambda x: x.max(), x, constant=True)
    promise(lambda x: (x > 0).any() + 0.5 * (x > 0).sum(), x, constant=True)


# ------------------------------------------------------------------ branches


def test_a_branch_on_item_that_flips_later() -> None:
    def fn(x: Tensor) -> Tensor:
        if x.max().item() > 10:
            return x.mean()
        return (x**2).mean()

    x = normal(200)
    x[190] = 11
    promise(fn, x)


def test_a_branch_on_item_that_does_not_flip() -> None:
    promise(lambda x: x.mean() if x.max().item() > 10 else (x**2).mean(), normal(200), constant=True)


def test_a_branch_that_all_samples_take_but_no_batch() -> None:
    promise(lambda x: x.sum() * 2 if x.sum() > 150 else x.sum(), normal(200).abs() + 1, sizes=(50, 50, 50))


def test_a_branch_that_flips_and_flips_back() -> None:
    x = torch.cat([normal(64) + 1, normal(64) - 5, normal(72) + 9])
    promise(lambda x: x.pow(2).mean() if x.sum() > 0 else x.abs().mean(), x, sizes=(64, 64, 72))


def test_a_branch_on_the_last_sample_alone() -> None:
    promise(lambda x: x.sum() if x[-1] > 0 else x.max(), torch.cat([normal(199).abs(), -torch.ones(1).double()]))


def automatic_sigmoid(p: Tensor, y: Tensor) -> Tensor:
    if not torch.all((p >= 0) & (p <= 1)):
        p = p.sigmoid()
    return ((p > 0.5) == y).double().mean()


def test_automatic_sigmoid() -> None:
    p = torch.cat([torch.rand(150).double(), 4 * normal(50)])
    promise(automatic_sigmoid, p, labels(200, high=2))
    promise(automatic_sigmoid, p.sort().values, labels(200, high=2))


def automatic_scale(a: Tensor, b: Tensor) -> Tensor:
    peak = 255.0 if b.max() > 1 else 1.0
    return 10 * torch.log10(peak**2 / ((a - b) ** 2).mean())


def test_data_range_guessed_from_the_batch() -> None:
    a, b = torch.rand(200, 4).double(), torch.rand(200, 4).double()
    b[180] *= 200
    promise(automatic_scale, a, b)


def range_of_the_batch(a: Tensor, b: Tensor) -> Tensor:
    return 20 * torch.log10((b.max() - b.min()) / ((a - b) ** 2).mean().sqrt())


def test_data_range_taken_from_the_batch() -> None:
    b = normal(200, 4)
    b[180] *= 200
    promise(range_of_the_batch, b + normal(200, 4, seed=9), b, constant=True)


def loop_over_present_classes(x: Tensor, y: Tensor) -> Tensor:
    total, seen = torch.zeros((), dtype=x.dtype), 0
    for c in range(CLASSES):
        if (y == c).any():
            total = total + x[y == c].mean()
            seen += 1
    return total / seen


def test_loop_over_the_classes_that_are_present() -> None:
    promise(loop_over_present_classes, normal(200), torch.cat([labels(140, high=2), labels(60)]))
    promise(loop_over_present_classes, normal(200), labels(200))


def test_where_with_a_condition_that_comes_true_late() -> None:
    x = normal(200)
    x[177] = 2e6
    promise(lambda x: torch.where(x > 1e6, x.mean(), x).sum(), x)


def test_validation_that_fails_late() -> None:
    """The function gives no number on these samples, so neither does its exact form."""

    def fn(x: Tensor) -> Tensor:
        if (x < 0).any():
            raise ValueError("negative")
        return x.mean()

    x = normal(200).abs()
    x[150] = -1
    with pytest.raises(ValueError, match="negative"):
        fn(x)
    try:
        promise(fn, x, refuse=True)
    except ValueError as error:
        assert str(error) == "negative"


def test_a_value_read_in_python_is_used_as_a_number() -> None:
    promise(lambda x: ((x / x.abs().max().item()) ** 2).mean(), normal(200).cumsum(0))
    promise(lambda x: float(x.max()) - float(x.min()), normal(200).cumsum(0))
    promise(lambda x, m: x.sum() / m.sum().item(), normal(200), coins(200))


def test_a_loop_as_long_as_the_data_say() -> None:
    def fn(x: Tensor) -> Tensor:
        scale = 1.0
        while (x / scale).abs().max() > 1:
            scale *= 2
        return (x / scale).mean()

    promise(fn, torch.cat([normal(100), 50 * normal(100)]))


# ------------------------------------------------------------------ weak dependence


@pytest.mark.parametrize("weight", [1e-6, 1e-9])
def test_automatic_range_enters_a_constant_of_tiny_size(weight: float) -> None:
    def fn(a: Tensor, b: Tensor) -> Tensor:
        steady = weight * (b.max() - b.min())
        return ((2 * a * b + steady) / (a**2 + b**2 + steady)).mean()

    a, b = normal(200) + 3, normal(200) + 3
    b[180] = 500
    promise(fn, a, b, rtol=1e-12)


def test_automatic_range_of_structural_similarity() -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure as similarity

    target = torch.rand(40, 1, 12, 12, dtype=torch.float64)
    target[35] *= 40
    pred = target + 0.1 * normal(40, 1, 12, 12)
    promise(lambda a, b: similarity(a, b, kernel_size=5, sigma=0.8), pred, target, sizes=(16, 1, 18), warmup=16)


# ------------------------------------------------------------------ order and rank, in each way that they matter

SHAKEN: dict[str, Function] = {
    "cumulative sum": lambda x: x.cumsum(0).mean(),
    "cumulative maximum": lambda x: x.cummax(0).values.mean(),
    "cumulative product": lambda x: (x + 1).cumprod(0).mean(),
    "argmax over the batch": lambda x: x.argmax(),
    "argmin over the batch": lambda x: x.argmin().double() / x.shape[0],
    "sample at the maximum": lambda x: x[x.argmax()] * 2,
    "product": lambda x: (1 + 0.01 * x).prod(),
    "median": lambda x: x.median(),
    "quantile": lambda x: torch.quantile(x, 0.9),
    "kth value": lambda x: x.kthvalue(max(1, x.shape[0] // 3)).values,
    "mode": lambda x: x.round().mode().values,
    "sorted differences": lambda x: x.sort().values.diff().mean() if x.shape[0] > 1 else x.sum(),
    "differences": lambda x: (x[1:] - x[:-1]).abs().sum(),
    "first sample": lambda x: x[0] + 0 * x.sum(),
    "last sample": lambda x: x[-1] + 0 * x.sum(),
    "every second sample": lambda x: x[::2].sum(),
    "first half": lambda x: x[: (x.shape[0] + 1) // 2].mean(),
    "reversed": lambda x: (x * x.flip(0)).mean(),
    "rolled": lambda x: (x * x.roll(1)).mean(),
    "positions": lambda x: (x * torch.arange(x.shape[0])).sum(),
    "rank": lambda x: (x.argsort().argsort() * x).mean(),
    "worst quarter": lambda x: x.topk(max(1, x.shape[0] // 4)).values.mean(),
    "distances": lambda x: (x[:, None] - x).abs().mean(),
    "distinct values": lambda x: torch.unique(x.round()).numel(),
    "running trace": lambda x: torch.trapezoid(x),
}


@pytest.mark.parametrize("first", ["noise", "zeros", "constant", "ones"])
@pytest.mark.parametrize("fn", SHAKEN.values(), ids=SHAKEN)
def test_order_and_rank(fn: Function, first: str) -> None:
    x = normal(120)
    x[:70] = {"noise": x[:70], "zeros": 0.0, "constant": 0.3, "ones": 1.0}[first]
    promise(fn, x, sizes=(50, 1, 7, 33), refuse=False)


WIDE: dict[str, Function] = {
    "cumulative sum": lambda x: x.sum(1).cumsum(0).mean(),
    "differences": lambda x: x.mean(1).diff().abs().sum(),
    "first and last": lambda x: x.norm(dim=1)[0] - x.norm(dim=1)[-1],
    "sorted": lambda x: x.amax(1).sort().values[:3].sum(),
    "positions": lambda x: (x.sum(1) * torch.arange(x.shape[0])).sum(),
    "two of them": lambda x: (x.sum(1).cumsum(0) * x.amax(1)).mean(),
    "per sample": lambda x: x.pow(2).mean(1),
}


@pytest.mark.parametrize("fn", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("sizes", [(4,) * 50, (64, 1, 7, 33)], ids=["many", "few"])
def test_order_where_less_than_the_samples_is_kept(fn: Function, sizes: tuple[int, ...]) -> None:
    promise(fn, normal(200, 40), sizes=sizes, refuse=False)


def test_any_and_all_over_the_batch() -> None:
    x = normal(200)
    x[150] = 9
    promise(lambda x: (x > 8).any(), x, constant=True)
    promise(lambda x: (x < 8).all() * x.mean(), x, constant=True)
    promise(lambda x: {"any": bool((x > 8).any())}, x)


def test_cumulative_sum_on_zeros() -> None:
    promise(lambda x: x.cumsum(0)[-1], torch.zeros(200))
    promise(lambda x: (x + 1).cumsum(0).sum(), torch.zeros(200))


@table(
    ("column against row", lambda p, y: ((p[:, None] - y) ** 2).mean()),
    ("contrastive", lambda p, y: F.cross_entropy(p[:, None] * y, torch.arange(p.shape[0]))),
    ("softmax over the batch", lambda p, y: (torch.softmax(p, 0) * y).sum()),
    ("normalised by the batch", lambda p, y: F.mse_loss((p - p.mean()) / p.std(), (y - y.mean()) / y.std())),
    ("deviation from the batch mean", lambda p, y: (p - p.mean()).abs().mean() + y.sum()),
    ("above the batch mean", lambda p, y: y[p >= p.mean()].mean()),
    ("share of the largest", lambda p, y: (p / p.abs().max()).pow(3).mean() + y.sum()),
)
def test_samples_that_see_each_other(fn: Function) -> None:
    p, y = pair(150)
    drift = torch.arange(150) / 30
    promise(fn, p + drift, y, sizes=(40, 1, 7, 50), refuse=False)
