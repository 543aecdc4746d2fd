"""Traps in the numbers and the shapes: NaN and infinity, overflow, narrow types, padding, tiny and huge batches."""

from __future__ import annotations

import copy
import math
import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import batchproof as bp
from functions import explained_variance, labels, normal, pair, pearson, r2, rmse, table
from promise import RAGGED, Function, difference, promise, split

# ------------------------------------------------------------------ NaN and infinity

REDUCTIONS = (
    ("sum", lambda x: x.sum()),
    ("mean", lambda x: x.mean()),
    ("deviation", lambda x: (x - x.mean()).pow(2).mean()),
    ("maximum", lambda x: x.max()),
    ("minimum", lambda x: x.amin()),
    ("log-sum-exp", lambda x: torch.logsumexp(x, 0)),
    ("count above", lambda x: (x > 0.5).sum()),
    ("share not below", lambda x: (~(x < 0.5)).double().mean()),
    ("mean without NaN", lambda x: torch.nanmean(x)),
    ("replaced", lambda x: torch.nan_to_num(x, posinf=9, neginf=-9).sum()),
    ("clamped", lambda x: x.clamp(-1, 1).mean()),
    ("sigmoid", lambda x: x.sigmoid().mean().log()),
    ("any", lambda x: (x > 0).any()),
    ("finite", lambda x: x.isfinite().all()),
    ("where", lambda x: torch.where(x.isfinite(), x, 0).mean()),
    ("times zero", lambda x: (0 * x).sum() + 1),
)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("late", [(math.nan,), (math.inf,), (-math.inf,), (math.inf, -math.inf), (math.nan, math.inf)],
                         ids=["nan", "inf", "-inf", "inf-inf", "nan-inf"])  # fmt: skip
@table(*REDUCTIONS)
def test_nan_and_infinity_in_a_late_batch(fn: Function, late: tuple[float, ...]) -> None:
    x = normal(200)
    for i, value in enumerate(late):
        x[150 + 30 * i] = value
    promise(fn, x, refuse=False)


@table(*REDUCTIONS)
def test_nan_in_the_first_batch(fn: Function) -> None:
    x = normal(200)
    x[3] = math.nan
    promise(fn, x, refuse=False)


def test_a_tensor_made_of_the_number_of_samples() -> None:
    promise(lambda x: (x * torch.tensor(1 / len(x), dtype=x.dtype)).square().sum().sqrt(), normal(200), constant=True)


@table(
    ("product with itself", lambda c: torch.vdot(c, c).real),
    ("sum", lambda c: c.sum().imag),
    ("of each column", lambda c: torch.stack([c, c * 1j], 1).sum(0).abs()),
)
def test_infinity_in_a_part_of_a_complex_sum(fn: Function) -> None:
    c = torch.complex(normal(200, seed=3), normal(200, seed=4))
    c[150] = complex(-math.inf, 1.0)
    promise(fn, c, sizes=[1] * 200)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("late", [math.inf, -math.inf])
@pytest.mark.parametrize("first", range(3))
@table(
    ("scaled by a mean", lambda x, y: (x * y.mean()).sum()),
    ("around another's mean", lambda x, y: (x - y.mean()).square().mean()),
    ("scaled and squared", lambda x, y: (y * y.mean()).square().mean()),
    ("over another's norm", lambda x, y: (x / y.norm()).sum()),
    ("scaled, each column", lambda x, y: (torch.stack([x, y], 1) * (x @ torch.stack([x, y], 1))).sum(0)),
)
def test_an_infinite_statistic(fn: Function, first: int, late: float) -> None:
    """Infinity less infinity among the samples is no number; one infinity times a sum of theirs is another thing."""
    x, y = normal(200, seed=first), normal(200, seed=first + 10)
    y[150] = late
    promise(fn, x, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_column_overflows_and_the_others_lie_far_away(dtype: torch.dtype) -> None:
    """The statistic of one column is infinite; the sums of the others overflow, since the first samples were small."""
    x = torch.cat([normal(80, seed=5), 1e30 * normal(120, seed=6) * (1e130 if dtype is torch.float64 else 1)]).to(dtype)
    promise(lambda x: torch.stack([x, 0.5 * x, x * x], 1).log_softmax(0).mean(0), x)
    promise(lambda x: torch.stack([x, 0.5 * x, x * x], 1).logsumexp(0), x)


def test_a_sum_that_overflowed_is_not_moved() -> None:
    """It is infinite around any centre; those that it was kept at give no number for it."""
    parts = [(normal(100, seed=7), normal(100, seed=8)), (normal(100, seed=9) + 50, normal(100, seed=10))]
    parts[0][0][90], parts[0][1][90] = -torch.finfo(torch.float64).max, math.inf
    metrics = [bp.exact(lambda x, y: torch.stack([x.std(), y.sum()])) for _ in parts]
    for metric, part in zip(metrics, parts, strict=True):
        for piece in zip(*(column.split(20) for column in part), strict=True):
            metric.update(*piece)

    def together(first: bp.Exact, second: bp.Exact) -> Any:
        merged = copy.deepcopy(first)
        merged.merge_state(second)
        return merged.compute()

    for first, second in (metrics, metrics[::-1]):
        with pytest.raises(bp.BatchproofError, match=r"range|digits"):
            together(first, second)


def test_infinity_in_masked_scores() -> None:
    scores = normal(200, 4)
    scores[100:, 3] = -math.inf
    promise(lambda s: (s.softmax(1) ** 2).sum(1).mean(), scores, constant=True)
    promise(lambda s, y: F.cross_entropy(s, y), scores, labels(200, high=3), constant=True)


def test_logarithm_of_zero_late() -> None:
    p = torch.cat([torch.rand(120), torch.zeros(1), torch.rand(79)]).double()
    promise(lambda p: -p.log().mean(), p)
    promise(lambda p: -(p * p.log()).sum(), p)
    promise(lambda p: torch.xlogy(p, p).sum(), p)


def test_undefined_on_small_batches_defined_on_all() -> None:
    """0 / 0 in a batch is not 0 / 0 on all samples."""
    x, rare = normal(200), torch.arange(200) % 97 == 96
    promise(lambda x, m: x[m].mean(), x, rare, constant=True)
    promise(lambda x, m: (x * m).sum() / m.sum(), x, rare, constant=True)
    promise(lambda x: x.std() + x.var(), x, sizes=(1,) * 60, constant=True)


# ------------------------------------------------------------------ integers

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def test_overflow_of_int32() -> None:
    x = torch.randint(0, 2**30, (200,), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    promise(lambda x: (x * 7).sum(), x, refuse=False)
    promise(lambda x: x.sum(dtype=torch.int32), x)
    promise(lambda x: x.sum(), x, refuse=False)
    promise(lambda x: (x + x).max(), x, refuse=False)
    promise(lambda x: x.cumsum(0, dtype=torch.int32).max(), x)


def test_wrap_around_of_uint8() -> None:
    a, b = (labels(200, 0, 256, seed).to(torch.uint8) for seed in (1, 2))
    promise(lambda a, b: (a - b).double().mean(), a, b, refuse=False)
    promise(lambda a, b: (a.float() - b.float()).pow(2).mean().sqrt(), a, b, constant=True)
    promise(lambda a, b: (a == b).sum(), a, b, constant=True)


def test_sums_beyond_two_to_the_53() -> None:
    x = torch.full((200,), 2**53 + 1, dtype=torch.int64)
    promise(lambda x: (x % 1000).sum() + (x - 2**53).sum(), x)
    promise(lambda x: x.sum() - 200 * 2**53, x)
    promise(lambda x: x.max(), x)
    promise(lambda x: x.float().mean(), x)


@pytest.mark.one_in(3)
@table(
    ("sum", lambda x: x.sum()),
    ("mean", lambda x: x.double().mean()),
    ("float mean", lambda x: x.float().mean()),
    ("maximum", lambda x: x.max()),
    ("minimum of rows", lambda x: x.reshape(-1, 2).amin(1).sum()),
    ("doubled", lambda x: (x + x).double().mean()),
    ("squared", lambda x: (x * x).max()),
    ("negated", lambda x: (-x).sum()),
    ("absolute", lambda x: x.abs().sum()),
    ("zero or not", lambda x: (x != 0).sum()),
    ("any", lambda x: x.any()),
    ("all", lambda x: x.all()),
    ("its own type", lambda x: x.sum(dtype=x.dtype)),
    ("distinct", lambda x: torch.unique(x).numel()),
    ("shifted", lambda x: (x >> 1).sum()),
    ("divided", lambda x: (x / 3).sum()),
    ("divided down", lambda x: (x // 3).sum()),
    ("remainder", lambda x: (x % 3).sum()),
    ("centred", lambda x: (x - x.double().mean()).pow(2).mean()),
    ("centred on the largest", lambda x: (x.max() - x).sum()),
    ("product", lambda x: x.prod()),
    ("deviation", lambda x: x.double().std()),
)
@pytest.mark.parametrize("dtype", WHOLE, ids=str)
def test_integers_of_every_width(fn: Function, dtype: torch.dtype) -> None:
    bits = torch.iinfo(dtype)
    x = torch.randint(max(bits.min, -(2**40)), min(bits.max, 2**40), (200,), generator=torch.Generator().manual_seed(1))
    promise(fn, x.to(dtype), sizes=(64, 2, 8, 40), rtol=1e-4)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("late", [False, True], ids=["large from the start", "small at first"])
@pytest.mark.parametrize("dtype", WHOLE, ids=str)
@table(
    ("used as another type", lambda x, y: x[:, 0].sum(dtype=x.dtype).double() / 7),
    ("divided", lambda x, y: x.sum(0, dtype=x.dtype) / 3),
    ("summed again", lambda x, y: x.sum(0, dtype=x.dtype).sum()),
    ("summed again as float", lambda x, y: x.sum(0, dtype=x.dtype).sum(dtype=torch.float64)),
    ("beside a wider sum", lambda x, y: torch.cat([x.sum(0, dtype=x.dtype), x.sum(0)])),
    ("plus a wider sum", lambda x, y: x.sum(0, dtype=x.dtype) + x.sum(0, dtype=torch.float64)),
    ("less a sum", lambda x, y: (x.sum(0, dtype=x.dtype) - x.sum(0, dtype=x.dtype).flip(0)).double()),
    ("mean", lambda x, y: x[:, 0].sum(dtype=torch.float64) / len(x)),
    ("count", lambda x, y: (x > 0).sum(dtype=x.dtype).double()),
    ("count into a buffer", lambda x, y: torch.zeros(2, dtype=x.dtype).add_((x > 0).sum()).double()),
    ("matrix product", lambda x, y: (x.T @ x).double()),
    ("dot product", lambda x, y: torch.dot(x[:, 0], x[:, 1]).double()),
    ("added at places", lambda x, y: torch.zeros(6, 3, dtype=x.dtype).index_add(0, y, x).double()),
    ("scattered", lambda x, y: torch.ones(6, dtype=x.dtype).scatter_add(0, y, x[:, 0]).double()),
    ("put at places", lambda x, y: torch.zeros(6, 3, dtype=x.dtype).index_put((y,), x, accumulate=True).double()),
    ("read in Python", lambda x, y: torch.tensor(float(x.sum(dtype=x.dtype).item()))),
)
def test_sums_of_whole_numbers_wrap_around(fn: Function, dtype: torch.dtype, late: bool) -> None:
    """As the function's own do: in their type, and as nothing wider before all samples are in."""
    bits = torch.iinfo(dtype)
    x = torch.randint(
        max(bits.min, -(2**62)), min(bits.max, 2**62), (200, 3), generator=torch.Generator().manual_seed(1)
    )
    if late:
        x[:100] %= 2
    promise(fn, x.to(dtype), labels(200, high=6), constant=True, rtol=1e-6)


@table(
    ("correct", lambda a, b: (a == b).sum()),
    ("matrix", lambda a, b: torch.bincount(a * 4 + b, minlength=16).reshape(4, 4)),
    ("largest", lambda a, b: (a + b).max()),
    ("floor of the mean", lambda a, b: (a + b).sum() // a.shape[0]),
    ("parity", lambda a, b: (a + b).sum() % 2),
    ("rounded", lambda a, b: (a == b).float().mean().mul(100).round().long()),
)
def test_integer_results(fn: Function) -> None:
    promise(fn, labels(200, seed=1), labels(200, seed=2))


# ------------------------------------------------------------------ narrow types


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fn", [rmse, r2, pearson], ids=lambda fn: fn.__name__)
def test_half_precision_inputs(fn: Function, dtype: torch.dtype) -> None:
    pred, real = pair()
    promise(fn, (pred + 1).to(dtype), (real + 1).to(dtype), constant=True)


@pytest.mark.parametrize("fn", [r2, pearson, explained_variance, rmse], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_float32_at_an_offset(fn: Function, offset: float) -> None:
    """The function itself is wrong in float32 there; what is asked for is the value of these samples."""
    pred, real = ((x + offset).float() for x in pair(4000))
    metric = bp.exact(fn)
    for piece in split((pred, real), (256,) * 20):
        metric.update(*piece)
    assert metric.plan.is_constant_size
    truth = fn(pred.double(), real.double()).item()
    assert abs(metric.compute().item() - truth) <= 1e-6 * abs(truth)


def test_float32_sums_of_many() -> None:
    x = torch.rand(400_000)
    metric = bp.exact(lambda x: x.sum() / x.shape[0])
    for (piece,) in split((x,), (1000,) * 400):
        metric.update(piece)
    assert abs(metric.compute().item() - x.double().mean().item()) < 1e-7


def saturated(n: int = 200) -> Tensor:
    p = torch.rand(n)
    p[::7], p[::11] = 0.0, 1.0
    return p


@table(
    (
        "eps of the type",
        lambda p, y: -(p.clamp(torch.finfo(p.dtype).eps, 1 - torch.finfo(p.dtype).eps).log() * y).mean(),
    ),
    ("smallest of the type", lambda p, y: p.clamp_min(torch.finfo(p.dtype).tiny).log().mean() + y.mean()),
    ("1 - p", lambda p, y: -(y * (p + 1e-8).log() + (1 - y) * (1 - p + 1e-8).log()).mean()),
    ("clamp close to one", lambda p, y: (1 - p.clamp(1e-9, 1 - 1e-9) + 1e-12).log().mean() * y.mean()),
    ("entropy of two", lambda p, y: F.binary_cross_entropy(p, y)),
    ("logarithm of sigmoid", lambda p, y: (1 - torch.sigmoid(60 * p)).clamp_min(1e-30).log().mean() + y.mean()),
    ("equal in the type", lambda p, y: (p + 1e-9 == p).float().mean() + y.mean()),
    ("largest of the type", lambda p, y: (p / 1e-38).clamp(max=torch.finfo(p.dtype).max).max() * y.max()),
)
def test_saturated_probabilities_in_float32(fn: Function) -> None:
    y = labels(200, high=2).float()
    promise(fn, saturated(), y, own_type=True)


@table(
    ("above a threshold", lambda p, y: ((p > 0.3) == (y > 0)).float().mean()),
    ("at or above", lambda p, y: (p >= 0.7).sum()),
    ("equal", lambda p, y: (p == 0.6).sum() + (y == 1).sum()),
    ("buckets", lambda p, y: torch.bincount(torch.bucketize(p, torch.linspace(0, 1, 11)), minlength=12)),
    ("calibration", lambda p, y: torch.histc(p, 10, 0, 1)),
    ("tenths", lambda p, y: (p * 10).long().sum()),
    ("floor", lambda p, y: (p / 0.1).floor().mean()),
    ("remainder", lambda p, y: (p % 0.1).sum()),
    ("product above", lambda p, y: (p * 3 > 0.9).sum()),
    ("sum of two", lambda p, y: (p + 0.1 > 0.3).sum()),
)
def test_float32_numbers_on_an_edge(fn: Function) -> None:
    """0.3 in float32 is more than 0.3 in float64: probabilities with few digits lie on every threshold."""
    p = labels(200, high=11).float() / 10
    promise(fn, p, labels(200, high=2, seed=5).float(), own_type=True)


@table(
    ("half", lambda x: (x - x.half().to(x.dtype)).pow(2).mean().sqrt()),
    ("bfloat16", lambda x: (x - x.bfloat16().to(x.dtype)).abs().max()),
    ("float", lambda x: (x.double() - x.float().double()).abs().sum()),
    ("exactly", lambda x: (x.half().to(x.dtype) == x).sum()),
    ("half counts", lambda x: (x.half() > 0.1).sum()),
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_rounding_that_is_measured(fn: Function, dtype: torch.dtype) -> None:
    """A quantisation error: the cast inside is the point of the function."""
    promise(fn, normal(200, dtype=dtype), own_type=True)


@table(
    ("element size", lambda x: x.sum() * x.element_size()),
    ("bytes", lambda x: x.sum() / x.nbytes),
    ("bits", lambda x: (x.view(torch.int32) & 1).sum()),
    ("type", lambda x: x.sum() if x.type() == "torch.FloatTensor" else x.max()),
    ("class", lambda x: x.sum() if isinstance(x, torch.FloatTensor) else x.max()),
    ("dtype", lambda x: x.sum() if x.dtype is torch.float32 else x.max()),
    ("dtype of a result", lambda x: x.sum() if (x * 2).dtype == torch.float32 else x.max()),
    ("item size of the dtype", lambda x: x.sum() * x.dtype.itemsize),
    ("promotion", lambda x: x.sum() * torch.finfo(torch.result_type(x, 1.0)).bits),
    ("promotion to a common type", lambda x: x.to(torch.promote_types(x.dtype, torch.int64)).sum() * x.itemsize),
    ("next after", lambda x: (torch.nextafter(x, x + 1) - x).max()),
    ("unit of rounding", lambda x: (x + torch.finfo(x.dtype).eps * x - x).abs().mean()),
    ("stride", lambda x: x.sum() / x.reshape(1, -1).stride(0)),
    ("tensor of the same kind", lambda x: x.new_tensor([0.1]).double().sum() + x.sum()),
    ("in float64", lambda x: (x.double() * 3).sum()),
)
def test_functions_that_ask_for_the_type(fn: Function) -> None:
    promise(fn, normal(200, dtype=torch.float32), own_type=True)


@table(
    ("element size", lambda x: (x.square().sum() * x.element_size()).sqrt()),
    ("type", lambda x: (x if x.type() == "torch.FloatTensor" else 0 * x).square().mean()),
    ("result type", lambda x: x.to(torch.result_type(x, x.sum())).square().mean()),
    ("common type", lambda x: x.to(torch.promote_types(x.dtype, torch.int64)).square().mean().sqrt()),
    ("smallest number", lambda x: (x / (x.abs() + torch.finfo(x.dtype).eps)).abs().mean()),
)
def test_what_a_dtype_says_needs_no_samples(fn: Function) -> None:
    promise(fn, normal(200, dtype=torch.float32), constant=True)


def test_two_types_of_float_together() -> None:
    p, y = saturated(), labels(200, high=2).double()
    promise(lambda p, y: -(p.clamp_min(torch.finfo(p.dtype).eps).log() * y).mean(), p, y, own_type=True)
    promise(lambda p, y: (p - y).pow(2).mean().sqrt(), p, y, own_type=True)
    promise(lambda p, y: (p * y).sum(), p.half(), y.float())


# ------------------------------------------------------------------ shapes and sizes of batches


def token_loss(scores: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), y.flatten(), ignore_index=-100)


def test_sequences_padded_to_another_length_later() -> None:
    scores, y = normal(200, 9, 5), labels(200 * 9, high=5).reshape(200, 9)
    lengths = torch.cat([labels(64, 1, 5), labels(136, 1, 10)])
    y[torch.arange(9) >= lengths[:, None]] = -100
    metric = bp.exact(token_loss)
    lo = 0
    try:
        for size in (64, 1, 35, 100):
            longest = int(lengths[lo : lo + size].max())
            metric.update(scores[lo : lo + size, :longest], y[lo : lo + size, :longest])
            lo += size
        value = metric.compute()
    except bp.BatchproofError:
        return
    assert difference(value, token_loss(scores, y)) is None


def test_images_of_another_size_later() -> None:
    """Pixels pooled, or a refusal; the larger image must not count as one small one."""

    def fn(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).pow(2).mean().sqrt()

    small, large = (normal(50, 3, 3), normal(50, 3, 3, seed=4)), (5 * normal(50, 6, 6), normal(50, 6, 6, seed=4))
    metric = bp.exact(fn)
    try:
        metric.update(*small)
        metric.update(*large)
        value = metric.compute()
    except bp.BatchproofError:
        return
    pooled = fn(
        torch.cat([small[0].flatten(), large[0].flatten()]), torch.cat([small[1].flatten(), large[1].flatten()])
    )
    assert difference(value, pooled) is None


@pytest.mark.parametrize("fn", [rmse, r2, pearson], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize(
    "sizes",
    [(1,) * 120, (1,), (2,) * 60, (31, 1), (32,), (33,), (199,), (5,) * 24, RAGGED],
    ids=lambda s: f"{s[0]}x{len(s)}",
)
def test_sizes_of_batches(fn: Function, sizes: tuple[int, ...]) -> None:
    promise(fn, *pair(200), sizes=sizes, constant=True)


@pytest.mark.parametrize("warmup", [1, 2, 7, 64, 199, 200, 1000])
def test_warmup(warmup: int) -> None:
    promise(r2, *pair(200), warmup=warmup, sizes=(1, 2, 30, 1, 64), refuse=False)
    promise(rmse, *pair(200), warmup=warmup, sizes=(5, 64, 1), refuse=False)


@pytest.mark.parametrize("n", [1, 2, 3, 31, 32, 33])
def test_few_samples_in_all(n: int) -> None:
    promise(rmse, *pair(n), sizes=(1, 1), refuse=False)
    promise(lambda p, y: ((p - y).abs().max(), y.sum()), *pair(n), sizes=(2,), refuse=False)


def test_last_batch_of_size_1() -> None:
    """squeeze() drops the batch dimension there, and std() of one sample is NaN."""
    promise(lambda x: x.squeeze().pow(2).mean().sqrt(), normal(129, 1), sizes=(64, 64))
    promise(lambda p, y: (p.squeeze() - y).pow(2).mean(), normal(129, 1), normal(129), sizes=(64, 64))
    promise(lambda x: x.squeeze().sum(0).pow(2).sum(), normal(129, 3), sizes=(64, 64))
    promise(lambda x: (x - x.mean(0)).div(x.std(0)).pow(4).mean(), normal(129, 3), sizes=(64, 64))


def test_large_rows() -> None:
    """Logits of a language model: the analysis looks at a few rows, not at dozens of copies of all."""
    scores, y = normal(48, 60_000, dtype=torch.float32), labels(48, high=60_000)
    started = time.perf_counter()
    promise(lambda s, y: F.cross_entropy(s, y).exp(), scores, y, sizes=(40, 1, 3), constant=True)
    assert time.perf_counter() - started < 20


def test_large_rows_from_small_batches() -> None:
    scores, y = normal(24, 4, 10_000, dtype=torch.float32), labels(96, high=10_000).reshape(24, 4)
    promise(lambda s, y: F.cross_entropy(s.flatten(0, 1), y.flatten()), scores, y, sizes=(2,) * 12, refuse=False)


def test_complex_numbers() -> None:
    x = torch.complex(normal(200), normal(200, seed=6))
    promise(lambda x: x.abs().pow(2).mean().sqrt(), x)
    promise(lambda x: (x.mean().abs(), x.sum().real), x)


def test_analysis_is_silent() -> None:
    """Warnings are errors here: hidden runs on one sample must not show the user `std(): degrees of freedom`."""
    promise(lambda x: x.std(), normal(200), sizes=(64, 1, 1), constant=True)
    promise(lambda x: x.var(0).sum(), normal(200, 2), sizes=(1, 1, 64), constant=True)
