"""Traps in how a function is written: casts, sizes, chance, writes in place, other libraries, state of its own."""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import batchproof as bp
from functions import coins, labels, normal, pair, table
from promise import Function, difference, fresh, promise, split, stream

# ------------------------------------------------------------------ casts


@table(
    ("float", lambda p, y: ((p.float() - y.float()) ** 2).mean()),
    ("float of the error", lambda p, y: (p - y).float().pow(2).mean().sqrt()),
    ("to float32", lambda p, y: 1 - F.mse_loss(p.to(torch.float32), y.float()) / y.float().var(unbiased=False)),
    ("float around a sum", lambda p, y: (p - y).abs().sum().float() / y.shape[0]),
)
def test_cast_to_float_inside(fn: Function) -> None:
    promise(fn, *pair(), rtol=1e-6, constant=True)


@table(
    ("half", lambda p, y: ((p.half() - y.half()) ** 2).mean()),
    ("bfloat16", lambda p, y: (p.bfloat16() - y.bfloat16()).abs().mean()),
)
def test_cast_to_half_inside(fn: Function) -> None:
    promise(fn, *pair(), rtol=2e-2, constant=True)


@table(
    ("long", lambda p, y: p.long().double().mean() + y.sum()),
    ("int of a product", lambda p, y: (10 * p * y).int().sum()),
    ("round", lambda p, y: ((10 * p).round() / 10 - y).abs().mean()),
    ("bool", lambda p, y: (p > 0).long().sum() / y.bool().sum()),
    ("floor division", lambda p, y: (p // 0.25).mean() + y.mean()),
)
def test_cast_to_integer_inside(fn: Function) -> None:
    promise(fn, *pair(), constant=True)


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize("first", [32, 40, 64, 100])
def test_a_literal_that_equals_the_batch_size(first: int) -> None:
    promise(lambda x: x.sum() / first, normal(200), sizes=(first, first), constant=True)
    promise(lambda x: (x / first).clamp(max=first).sum() - first, normal(200) * 100, sizes=(first, 1), constant=True)


def test_a_feature_dimension_that_equals_the_batch_size() -> None:
    promise(lambda x: x.mean(0).pow(2).sum(), normal(200, 50), sizes=(50, 50), constant=True)
    promise(lambda x: x.mean(1).pow(2).sum(), normal(200, 50), sizes=(50, 50), constant=True)
    promise(lambda x: (x.T @ x).diagonal().sum() / x.shape[0], normal(200, 50), sizes=(50, 50), constant=True)
    promise(lambda x: torch.logsumexp(x, dim=0).sum(), normal(96, 32), sizes=(32, 32))


@table(
    ("log n", lambda x: torch.logsumexp(x, 0) - math.log(x.shape[0])),
    ("n (n - 1)", lambda x: (x.sum() ** 2 - (x**2).sum()) / (x.shape[0] * (x.shape[0] - 1) + 1)),
    ("square root of n", lambda x: x.norm() / math.sqrt(len(x))),
    ("n - 1", lambda x: ((x - x.mean()) ** 2).sum() / (x.numel() - 0.5)),
    ("1 / n", lambda x: x.sum() * (1 / x.size(0))),
)
def test_numbers_made_from_n(fn: Function) -> None:
    promise(fn, normal(200), constant=True)


@table(
    ("divided", lambda x: (x / x.shape[0]).sum()),
    ("multiplied", lambda x: (x * x.shape[0]).max()),
    ("added", lambda x: (x + x.shape[0]).abs().sum()),
    ("subtracted", lambda x: (x - x.shape[0] / 100).pow(2).mean()),
    ("a bound", lambda x: x.clamp(max=x.shape[0] / 100).sum()),
    ("a threshold", lambda x: (x > x.shape[0] / 100).sum()),
    ("an exponent", lambda x: x.abs().pow(1 / x.shape[0]).prod()),
    ("a root", lambda x: (x.abs() ** (1 / len(x))).mean()),
    ("an exponential", lambda x: torch.exp(x / math.sqrt(x.shape[0])).mean()),
    ("a wave", lambda x: torch.cos(x * x.shape[0] / 50).mean()),
    ("a logarithm", lambda x: torch.log(x.abs() + x.shape[0]).mean()),
    ("a sigmoid", lambda x: torch.sigmoid(x * math.log(x.shape[0])).mean()),
    ("a tensor of it", lambda x: (x / torch.tensor(float(x.shape[0]))).pow(2).sum()),
    ("ones", lambda x: (torch.ones(x.shape[0], dtype=x.dtype) * x).sum()),
    ("triangle", lambda x: (torch.tril(torch.ones(len(x), len(x), dtype=x.dtype)) @ x).mean()),
    ("identity", lambda x: (torch.eye(len(x), dtype=x.dtype) @ x).norm()),
    ("mean of squares by hand", lambda x: ((x**2) * (1 / x.shape[0])).sum().sqrt()),
)
@pytest.mark.parametrize("sizes", [(40, 1, 60), (64, 1, 7, 33)], ids=str)
def test_the_number_of_samples_within_the_terms(fn: Function, sizes: tuple[int, ...]) -> None:
    promise(fn, normal(300), sizes=sizes, rtol=1e-8)


@table(
    ("min(n, 1000)", lambda x: x.sum() / min(x.shape[0], 1000)),
    ("max(n, 100)", lambda x: x.sum() / max(x.shape[0], 100)),
    ("n // 4", lambda x: x.sum() / (x.shape[0] // 4 + 1)),
    ("n % 2", lambda x: x.sum() * (1 + x.shape[0] % 2)),
    ("if n > 50", lambda x: x.mean() if x.shape[0] > 50 else x.sum()),
    ("if n > 1100", lambda x: x.mean() if x.shape[0] > 1100 else x.sum()),
    ("if n == 1203", lambda x: x.mean() if x.shape[0] == 1203 else x.sum()),
    ("if n < 2", lambda x: x.sum() if len(x) < 2 else x.std()),
    ("first thousand", lambda x: x[:1000].sum()),
    ("all but the first hundred", lambda x: x[100:].sum()),
    ("first quarter", lambda x: x[: x.shape[0] // 4].sum()),
    ("blocks of 16", lambda x: x[: x.shape[0] // 16 * 16].reshape(-1, 16).sum(1).pow(2).sum()),
    ("digits of n", lambda x: x.sum() * len(str(x.shape[0]))),
    ("bits of n", lambda x: x.sum() / x.shape[0].bit_length()),
    ("weights by position", lambda x: (x * torch.linspace(0, 1, x.shape[0], dtype=x.dtype)).sum()),
    ("window", lambda x: F.avg_pool1d(x[None, None], min(5, x.shape[0]), 1).pow(2).sum()),
    ("table by n", lambda x: x.sum() * {200: 2.0, 1203: 3.0}.get(x.shape[0], 1.0)),
)
@pytest.mark.parametrize("sizes", [(10,) * 12, (64, 500, 1), (1000, 1)], ids=["small", "ragged", "large"])
def test_decisions_on_n(fn: Function, sizes: tuple[int, ...]) -> None:
    promise(fn, normal(1203) + 1, sizes=sizes)


# ------------------------------------------------------------------ layers and algebra

LSTM, GRU = nn.LSTM(6, 4, batch_first=True), nn.GRU(6, 4, num_layers=2, bidirectional=True)


@table(
    ("LSTM", lambda x: LSTM(x)[0][:, -1].square().mean().sqrt()),
    ("GRU, samples second", lambda x: GRU(x.transpose(0, 1))[1].square().mean().sqrt()),
)
def test_recurrent_layers(fn: Function) -> None:
    promise(torch.no_grad()(fn), normal(120, 5, 6, dtype=torch.float32), constant=True)


def _positive(factor: Tensor) -> Tensor:
    return factor @ factor.mT + torch.eye(4, dtype=factor.dtype)


def spectral_loss(x: Tensor) -> Tensor:
    frames = torch.stft(x, 8, hop_length=4, window=torch.hann_window(8, dtype=x.dtype), return_complex=True)
    return frames.abs().log1p().mean().sqrt()


def test_spectra_of_each_sample() -> None:
    promise(spectral_loss, normal(120, 32), constant=True)
    promise(spectral_loss, normal(32, 120).T, constant=True)


SPREAD = torch.eye(4, dtype=torch.float64) + 0.2


@table(
    ("solve", lambda e, f: (e * torch.linalg.solve(_positive(f), e)).sum(1).mean().sqrt()),
    ("solve by one matrix", lambda e, f: torch.linalg.solve(SPREAD, e.unsqueeze(-1)).square().mean().sqrt()),
    ("solve by columns", lambda e, f: torch.linalg.solve(SPREAD, e.T).square().mean().sqrt()),
    ("inverse", lambda e, f: torch.linalg.inv(_positive(f)).square().mean().sqrt()),
    ("Cholesky", lambda e, f: torch.linalg.cholesky(_positive(f)).diagonal(dim1=1, dim2=2).log().mean().exp()),
    ("by Cholesky factors", lambda e, f: torch.cholesky_solve(e[..., None], _positive(f)).square().mean().sqrt()),
    ("by LU factors", lambda e, f: torch.linalg.lu_solve(*torch.linalg.lu_factor(f), e[..., None]).abs().mean().log()),
    ("normal of a sample's own covariance",
     lambda e, f: torch.distributions.MultivariateNormal(0 * e, _positive(f)).log_prob(e).mean().exp()),
)  # fmt: skip
def test_linear_algebra_of_each_sample(fn: Function) -> None:
    promise(fn, normal(120, 4), normal(120, 4, 4, seed=2), constant=True)


def test_a_late_matrix_without_inverse_raises_as_in_the_function() -> None:
    def fn(x: Tensor) -> Tensor:
        return torch.linalg.inv(x).abs().mean().log()

    x = normal(60, 3, 3)
    x[50] = 0
    metric = bp.exact(fn)
    for part in x.split(20):
        metric.update(part)
    assert metric.plan.is_constant_size
    with pytest.raises(torch.linalg.LinAlgError):
        fn(x)
    with pytest.raises((torch.linalg.LinAlgError, bp.BatchproofError)):
        metric.compute()


# ------------------------------------------------------------------ random functions


@table(
    ("dropout", lambda x: F.dropout(x, 0.5).mean()),
    ("noise", lambda x: (x + torch.randn_like(x)).pow(2).mean()),
    ("uniform", lambda x: x.mean() * torch.rand(())),
    ("normal", lambda x: x.mean() + torch.randn(1, dtype=x.dtype).squeeze()),
    ("bernoulli", lambda x: (x * torch.bernoulli(torch.full_like(x, 0.5))).sum()),
    ("sample of the batch", lambda x: x[torch.randperm(x.shape[0])][: (x.shape[0] + 1) // 2].mean()),
    ("random index", lambda x: x[torch.randint(0, x.shape[0], (10,))].mean()),
    ("written in place", lambda x: x.clone().uniform_().mean()),
    ("numpy", lambda x: x.mean() * float(np.random.rand())),
    ("python", lambda x: x.mean() + random.random()),
)
def test_random_functions_are_refused(fn: Function) -> None:
    promise(fn, normal(200), refuse=True)


def test_dropout_that_is_off() -> None:
    promise(lambda x: F.dropout(x, 0.5, training=False).mean(), normal(200), constant=True)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_attention_is_random_only_with_dropout(dropout: float) -> None:
    def fn(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=dropout).pow(2).mean().sqrt()

    promise(fn, normal(60, 2, 4, 8), sizes=(40, 1, 7), refuse=dropout > 0)


def test_layers_of_a_model() -> None:
    x = normal(60, 5, 8)
    attend = nn.MultiheadAttention(8, 2, batch_first=True).double().eval()
    promise(lambda x: attend(x, x, x)[0].detach().pow(2).mean().sqrt(), x, sizes=(40, 1, 7), refuse=False)
    recur = nn.LSTM(8, 4, batch_first=True).double()
    promise(lambda x: recur(x)[0].detach().pow(2).mean().sqrt(), x, sizes=(40, 1, 7), refuse=False)
    look = nn.Sequential(nn.Conv1d(5, 3, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(9, 1)).double()
    promise(lambda x: look(x).detach().pow(2).mean().sqrt(), x, sizes=(40, 1, 7), constant=True)


def test_shuffling_that_changes_nothing() -> None:
    promise(lambda x: x[torch.randperm(x.shape[0])].mean(), normal(200))


def test_generators_are_left_as_they_were() -> None:
    """Adding a metric must not change what a seeded training script does next."""
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    expected = torch.rand(3), random.random(), np.random.rand()
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    metric = bp.exact(lambda p, y: F.mse_loss(p, y).sqrt())
    for piece in split(pair(), (64, 1, 40)):
        metric.update(*piece)
    metric.compute()
    got = torch.rand(3), random.random(), np.random.rand()
    assert difference(got, expected, 0.0) is None


# ------------------------------------------------------------------ writes in place, and aliases


def mask_then_sum(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] = 0
    return x.sum()


def index_add(x: Tensor) -> Tensor:
    out = torch.zeros(3, dtype=x.dtype)
    out.index_add_(0, (x > 0).long() + (x > 1).long(), x)
    return (out / x.shape[0]).pow(2).sum()


def scatter_add(x: Tensor) -> Tensor:
    out = torch.zeros(2, dtype=x.dtype)
    out.scatter_add_(0, (x > 0).long(), x**2)
    return out.sqrt().sum()


def scatter_add_to_ones(x: Tensor) -> Tensor:
    out = torch.ones(2, dtype=x.dtype)
    out.scatter_add_(0, (x > 0).long(), x**2)
    return out.sqrt().sum()


def mean_at_each_place(x: Tensor) -> Tensor:
    out = torch.full((2,), 5.0, dtype=x.dtype)
    out.scatter_reduce_(0, (x > 0).long(), x**2, "mean", include_self=False)
    return out.sqrt().sum()


def mean_with_what_was_there(x: Tensor) -> Tensor:
    return torch.ones(2, dtype=x.dtype).scatter_reduce(0, (x > 0).long(), x**2, "mean").sum()


def index_put(x: Tensor) -> Tensor:
    out = torch.zeros(2, dtype=x.dtype)
    out.index_put_(((x > 0).long(),), x, accumulate=True)
    return out[1] - 2 * out[0]


def view_of_a_row(x: Tensor) -> Tensor:
    wide = torch.stack([x, x], 1)
    left = wide[:, 0]
    left.mul_(3)
    return wide.sum(1).pow(2).mean()


def through_a_transpose(x: Tensor) -> Tensor:
    wide = torch.stack([x, x, x], 1)
    wide.t()[1] = x.abs()
    wide.T[2].clamp_(min=0)
    return wide.prod(1).mean()


def through_a_reshape(x: Tensor) -> Tensor:
    flat = x.clone()
    flat.view(-1, 1).add_(1)
    return flat.pow(2).mean().sqrt()


def through_unbind(x: Tensor) -> Tensor:
    wide = torch.stack([x, 2 * x], 1)
    a, b = wide.unbind(1)
    a += b
    return wide.pow(2).sum() / x.shape[0]


def through_detach(x: Tensor) -> Tensor:
    y = x.clone()
    y.detach().mul_(2)
    return y.mean()


def through_data(x: Tensor) -> Tensor:
    y = x.clone()
    y.data[y.data < 0] = 0
    return y.mean()


def running_sum_in_place(x: Tensor) -> Tensor:
    total = torch.zeros((), dtype=x.dtype)
    total += x.sum()
    total /= x.shape[0]
    total.abs_()
    return total


def count_scaled_in_place(x: Tensor) -> Tensor:
    right = (x > 0).float().sum()
    right *= 100 / x.shape[0]
    return right


def count_divided_in_place(x: Tensor) -> Tensor:
    right = (x > 0).view(-1).to(x.dtype).sum(0, keepdim=True)
    return right.div_(x.shape[0]).sqrt_()


def out_argument(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    torch.mul(x, x, out=out)
    return out.mean()


def one_sample_written(x: Tensor) -> Tensor:
    x = x.clone()
    x[0] = 100
    return x.mean()


def counted_slots(x: Tensor) -> Tensor:
    out = torch.zeros(2, dtype=x.dtype)
    out[(x > 0).long()] += x
    return out.sum()


def old_view_of_a_sum(x: Tensor) -> Tensor:
    sums = torch.stack([x.sum(), x.abs().sum()])
    first = sums[0]
    sums.mul_(2)
    return first / x.shape[0]


def masked_scatter(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[x > 0] = x[x > 0] * 2
    y.masked_fill_(x > 1, 0.5)
    return y.mean()


WRITES = (
    mask_then_sum, index_add, scatter_add, mean_at_each_place, mean_with_what_was_there, index_put, view_of_a_row,
    through_a_transpose, through_a_reshape,
    through_unbind, running_sum_in_place, count_scaled_in_place, count_divided_in_place, out_argument,
    old_view_of_a_sum, masked_scatter,
)  # fmt: skip
ODD_WRITES = (scatter_add_to_ones, through_detach, through_data, one_sample_written, counted_slots)


@pytest.mark.parametrize("fn", WRITES + ODD_WRITES, ids=lambda fn: fn.__name__)
def test_writes_in_place(fn: Function) -> None:
    promise(fn, normal(200), constant=True if fn in WRITES else None)


def zero_the_negative(x: Tensor) -> Tensor:
    x[x < 0] = 0
    return x.mean()


def centre_in_place(x: Tensor) -> Tensor:
    x -= x.mean()
    return x.pow(2).mean()


def write_to_one_sample(x: Tensor) -> Tensor:
    x[0] = 7
    return x.sum()


def double_through_data(x: Tensor) -> Tensor:
    x.data.mul_(2)
    return x.norm()


def write_a_column(x: Tensor) -> Tensor:
    x.view(-1, 2)[:, 0] = 0
    return x.sum()


@pytest.mark.parametrize(
    "fn", [zero_the_negative, centre_in_place, write_to_one_sample, double_through_data], ids=lambda fn: fn.__name__
)
def test_the_callers_tensor_changes_no_more_than_the_function_changes_it(fn: Function) -> None:
    promise(fn, normal(200))
    folded, called = bp.exact(fn), bp.exact(fn)
    for (piece,) in split((normal(200),), (64, 1, 60)):
        changed = piece.clone()
        value = fn(changed)
        given = piece.clone()
        try:
            folded.update(given)
            assert torch.equal(given, piece) or torch.equal(given, changed)
            given = piece.clone()
            assert difference(called(given), value) is None
            assert torch.equal(given, changed)
        except bp.BatchproofError:
            return
    for metric in (folded, called):
        assert difference(metric.compute(), fn(normal(200))) is None


def test_over_samples_changes_no_more_than_the_function() -> None:
    x = normal(100, 3)
    changed = x.clone()
    centre_in_place(changed)
    for way in ("update", "__call__"):
        given = x.clone()
        metric = bp.exact(centre_in_place, over="samples")
        with contextlib.suppress(bp.BatchproofError):
            getattr(metric, way)(given)
        assert torch.equal(given, x) or torch.equal(given, changed)


@pytest.mark.parametrize("state", ["auto", "rows"])
@pytest.mark.parametrize("kind", ["tensor", "array", "list"])
def test_one_buffer_filled_again_for_every_batch(kind: str, state: str) -> None:
    """What is kept is a copy: loaders reuse their memory."""
    x = normal(200)
    metric = bp.exact(lambda x: torch.as_tensor(x, dtype=torch.float64).pow(2).mean().sqrt(), state=state)
    buffer: Any = {"tensor": torch.zeros(10).double(), "array": np.zeros(10), "list": [0.0] * 10}[kind]
    for lo in range(0, 200, 10):
        for i in range(10):
            buffer[i] = x[lo + i].item()
        metric.update(buffer)
    assert difference(metric.compute(), x.pow(2).mean().sqrt()) is None


def test_results_are_the_callers_own() -> None:
    for fn in (lambda x: x.sum(0), lambda x: x.max(), lambda x: x, lambda x: x.cumsum(0)):
        metric = bp.exact(fn)
        x = normal(100, 3)
        metric.update(x[:60])
        metric(x[60:].clone()).zero_()
        first = metric.compute()
        expected = fn(x).clone()
        first.zero_()
        assert difference(metric.compute(), expected) is None


def test_the_same_tensor_as_two_arguments() -> None:
    def correlation(a: Tensor, b: Tensor) -> Tensor:
        x, y = a - a.mean(), b - b.mean()
        return (x * y).sum() / (x.norm() * y.norm())

    metric = bp.exact(correlation)
    x, y = pair()
    metric.update(x[:64], x[:64])
    metric.update(x[64:100], y[64:100])
    metric.update(y[100:], y[100:])
    expected = correlation(torch.cat([x[:100], y[100:]]), torch.cat([x[:64], y[64:]]))
    assert difference(metric.compute(), expected) is None


def test_arguments_that_share_memory() -> None:
    def fn(a: Tensor, b: Tensor) -> Tensor:
        a = a.clone()
        a[b > 0] = 0
        return (a * b).mean()

    metric = bp.exact(fn)
    x = normal(200, 2)
    for lo, hi in ((0, 64), (64, 65), (65, 200)):
        metric.update(x[lo:hi, 0], x[lo:hi, 0])
    assert difference(metric.compute(), fn(x[:, 0], x[:, 0])) is None


@table(
    ("expanded", lambda x: x[:, :1].expand(-1, 3)),
    ("transposed", lambda x: x.t().contiguous().t()),
    ("every second column", lambda x: x.repeat_interleave(2, 1)[:, ::2]),
    ("parameter", lambda x: nn.Parameter(x)),
)
def test_memory_layouts_of_the_arguments(fn: Function) -> None:
    def loss(x: Tensor) -> Tensor:
        return (x - x.mean(0)).pow(2).sum(0).sqrt().sum()

    x = normal(200, 3)
    metric = bp.exact(loss)
    for (piece,) in split((x,), (64, 1, 50)):
        metric.update(fn(piece))
    assert difference(metric.compute(), loss(fn(x))) is None
    assert metric.plan.is_constant_size


# ------------------------------------------------------------------ leaving torch


@table(
    ("numpy()", lambda x, y: float(np.sqrt(np.mean((x.numpy() - y.numpy()) ** 2)))),
    ("asarray", lambda x, y: np.mean(np.abs(np.asarray(x) - np.asarray(y)))),
    ("tolist", lambda x, y: float(np.mean(x.tolist())) + y.mean().item()),
    ("tolist beside torch", lambda x, y: y.mean() * float(np.mean(x.tolist()))),
    ("tensor of a list", lambda x, y: torch.tensor(x.tolist(), dtype=x.dtype).std() + y.mean()),
    ("from_numpy", lambda x, y: torch.from_numpy(np.sort(x.numpy())).diff().abs().max() + y.mean()),
    ("as_tensor", lambda x, y: torch.as_tensor(x.numpy()).pow(2).mean().sqrt() + y.max()),
    ("dlpack", lambda x, y: torch.from_dlpack(x).norm() + y.mean()),
    ("sklearn", lambda x, y: sklearn.metrics.r2_score(y, x)),
    ("sklearn on a class", lambda x, y: sklearn.metrics.f1_score(y > 0, x > 0)),
    ("detached", lambda x, y: float((x.detach().cpu().numpy() * y.detach().cpu().numpy()).sum())),
    ("data", lambda x, y: (x.data - y.data).pow(2).mean().sqrt()),
    ("sum over samples", lambda x, y: sum(float(v) for v in x) / len(x) + y.mean()),
    ("python max", lambda x, y: max(x.tolist()) - min(y.tolist())),
    ("sorted", lambda x, y: sorted(x.tolist())[len(x) // 2] + y.mean()),
    ("iteration", lambda x, y: torch.stack([(a - b) ** 2 for a, b in zip(x, y, strict=True)]).mean().sqrt()),
    ("a dictionary of counts", lambda x, y: len({round(v) for v in x.tolist()}) * y.mean()),
    ("item in a loop", lambda x, y: y.sum() / sum(1 for v in x if v.item() > 0)),
    ("truth in a loop", lambda x, y: y.sum() * sum(bool(v > 0) for v in x)),
    ("nonzero", lambda x, y: y[torch.nonzero(x > 0).squeeze(1)].sum() / len(torch.nonzero(x > 0))),
    ("length of a selection", lambda x, y: (x - y)[x > 0].sum() / len(x[x > 0])),
)
def test_leaving_torch(fn: Function) -> None:
    promise(fn, *pair(120), sizes=(50, 1, 33), refuse=False)


@table(
    ("half as many", lambda x, m: x[m].sum() / (len(x[m]) // 2 + 1)),
    ("enough of them", lambda x, m: x[m].mean() if m.sum() > 30 else x[m].sum()),
    ("the first five", lambda x, m: x[m][:5].sum()),
    ("every second", lambda x, m: x[m][::2].sum()),
    ("the last", lambda x, m: x[m][-1] if m.any() else x.sum()),
    ("another shape", lambda x, m: x[m].reshape(1, -1).mean()),
    ("those that are not", lambda x, m: x[m].sum() * (x.shape[0] - len(x[m]))),
    ("centred", lambda x, m: (x[m] - x[m].mean()).pow(2).sum()),
    ("centred on the others", lambda x, m: (x[m] - x[~m].mean()).pow(2).sum()),
    ("two selections", lambda x, m: x[m].sum() * x[~m].mean()),
    ("a selection of a selection", lambda x, m: x[m][x[m] > 1].mean()),
    ("against its own size", lambda x, m: x[m].std() / math.sqrt(len(x[m]))),
    ("both together", lambda x, m: torch.cat([x[m], x[~m]]).mean()),
    ("put back", lambda x, m: torch.zeros_like(x).masked_scatter(m, x[m] * 2).sum()),
    ("put elsewhere", lambda x, m: torch.zeros_like(x).masked_scatter(m, x).sum()),
    ("paired with the first", lambda x, m: (x[m] * x[: int(m.sum())]).sum()),
    ("matched", lambda x, m: (x[m].sum() if len(x[m]) == len(x) else x[m].max()) if m.any() else x.sum()),
    ("by position", lambda x, m: x[m.nonzero().squeeze(1)].mean() + m.nonzero().shape[0]),
    ("stacked", lambda x, m: torch.stack([x[m].sum(), x[~m].sum()]).max()),
)
@pytest.mark.parametrize("first", ["some", "all", "none"])
def test_selections_and_their_lengths(fn: Function, first: str) -> None:
    mask = coins(200, p=0.4)
    if first != "some":
        mask[:120] = first == "all"
    promise(fn, normal(200) + 1, mask)


def test_numpy_arrays_in_and_out() -> None:
    x, y = (a.numpy() for a in pair(120))
    promise(lambda a, b: np.sqrt(np.mean((a - b) ** 2)), x, y, refuse=False)
    promise(lambda a, b: np.corrcoef(a, b), x, y, refuse=False)
    promise(lambda a, b: np.median(np.abs(a - b)), x, y, refuse=False)


def test_masked_arrays_keep_their_mask() -> None:
    values, hidden = normal(120).numpy(), coins(120).numpy()
    metric = bp.exact(lambda a: float(np.ma.mean(a)))
    try:
        for lo, hi in ((0, 50), (50, 51), (51, 120)):
            metric.update(np.ma.masked_array(values[lo:hi], hidden[lo:hi]))
        value = metric.compute()
    except bp.BatchproofError:
        return
    assert value == pytest.approx(float(np.ma.mean(np.ma.masked_array(values, hidden))))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_lists_in_lists(size: int) -> None:
    """Several references for each sample, as many as there are samples in a batch by accident."""

    def found(answers: list[str], references: list[list[str]]) -> float:
        return sum(a in r for a, r in zip(answers, references, strict=True)) / len(answers)

    answers = [f"word {i % 5}" for i in range(60)]
    references = [[f"word {(i + j) % 7}" for j in range(2)] for i in range(60)]
    metric = bp.exact(found)
    try:
        for lo in range(0, 60, size):
            metric.update(answers[lo : lo + size], references[lo : lo + size])
        value = metric.compute()
    except bp.BatchproofError:
        return
    assert value == found(answers, references)


def test_lists_of_strings() -> None:
    answers, truth = ([f"word {i % k}" for i in range(60)] for k in (3, 4))
    promise(lambda a, b: sum(x == y for x, y in zip(a, b, strict=True)) / len(a), answers, truth, refuse=False)


def swallowed(x: Tensor) -> Tensor:
    try:
        extra = float(x.numpy().max())
    except Exception:  # noqa: BLE001 - what users write
        extra = 0.0
    return x.mean() + extra


def swallowed_item(x: Tensor) -> Tensor:
    try:
        return x.mean() * x.max().item()
    except RuntimeError:
        return x.mean()


def swallowed_random(x: Tensor) -> Tensor:
    try:
        return (x * torch.rand_like(x)).sum()
    except Exception:  # noqa: BLE001
        return x.sum()


def swallowed_error_of_small_batches(x: Tensor) -> Tensor:
    try:
        return x.topk(40).values.sum()
    except RuntimeError:
        return x.sum()


def swallowed_everything(x: Tensor) -> Tensor:
    try:
        return torch.as_tensor(sorted(x.numpy().tolist())[3]) + x.sum()
    except BaseException:  # noqa: BLE001
        return x.sum()


@pytest.mark.parametrize("fn", [swallowed, swallowed_item, swallowed_error_of_small_batches, swallowed_everything],
                         ids=lambda fn: fn.__name__)  # fmt: skip
def test_functions_that_catch_every_exception(fn: Function) -> None:
    """What the analysis raises inside the function may never reach it: the function would go on without."""
    promise(fn, normal(200))


def test_a_random_function_that_catches_every_exception() -> None:
    promise(swallowed_random, normal(200), refuse=True)


@table(
    ("no gradients", lambda x: x.mean() if torch.is_grad_enabled() else x.sum()),
    ("inference", lambda x: x.sum() if torch.is_inference_mode_enabled() else x.mean()),
    ("attached", lambda x: x.sum() if x.requires_grad else x.mean()),
    ("contiguous", lambda x: x.sum() if x.is_contiguous() else x.mean()),
    ("a base", lambda x: x.sum() if x._base is not None else x.mean()),
    ("exactly a tensor", lambda x: x.sum() if type(x) is torch.Tensor else x.mean()),
    ("printed", lambda x: x.sum() * len(str(x.shape))),
    ("hash", lambda x: x.sum() + 0 * hash(x)),
    ("identity", lambda x: x.sum() if x is x.contiguous() else x.mean()),
)
def test_functions_that_look_at_how_they_are_called(fn: Function) -> None:
    """All samples at once come as a plain contiguous tensor, with gradients enabled."""
    promise(fn, normal(200))


@table(
    ("pairs", lambda x: x.view(-1, 2).prod(1).sum()),
    ("halves", lambda x: (x.view(2, -1)[0] * x.view(2, -1)[1]).sum()),
    ("padded", lambda x: F.pad(x, (1, 0)).diff().abs().sum()),
    ("doubled", lambda x: torch.cat([x, 2 * x]).std()),
    ("with a constant", lambda x: torch.cat([x, torch.zeros(1, dtype=x.dtype)]).mean()),
    ("with the first again", lambda x: torch.cat([x[:1], x]).mean()),
    ("strided", lambda x: x.as_strided((x.shape[0] // 2,), (2,)).sum()),
    ("unfolded", lambda x: x.unfold(0, 2, 1).prod(1).sum()),
    ("chunks", lambda x: sum(c.mean() for c in x.chunk(2))),
    ("pieces of ten", lambda x: torch.stack([c.mean() for c in x.split(10)]).mean()),
    ("repeated", lambda x: x.repeat(2).mean() + x.repeat_interleave(2).max()),
    ("circulant", lambda x: torch.fft.fft(x).abs().max()),
    ("matrix of all", lambda x: torch.outer(x, x).trace() + torch.outer(x, x).sum()),
    ("diagonal", lambda x: torch.diag(x).sum() / x.shape[0]),
    ("polynomial", lambda x: (x[:, None] ** torch.arange(4)).sum(0).pow(2).sum()),
    ("interpolated", lambda x: F.interpolate(x[None, None], 16, mode="linear").pow(2).sum()),
    ("blocks by size", lambda x: x.reshape(-1, 20 if x.shape[0] % 20 == 0 else x.shape[0]).mean(1).max()),
)
@pytest.mark.parametrize("sizes", [(64, 2, 40), (60, 20, 40), (120, 40)], ids=str)
def test_batches_that_are_reshaped(fn: Function, sizes: tuple[int, ...]) -> None:
    promise(fn, normal(240), sizes=sizes)


@table(
    ("tensor", lambda x: (x / torch.tensor([float(x.abs().max()), 2.0], dtype=x.dtype)[0]).pow(3).sum()),
    ("new tensor", lambda x: (x * x.new_tensor(x.abs().max().item())).mean()),
    ("full", lambda x: torch.minimum(x, torch.full((), float(x.mean()), dtype=x.dtype)).sum()),
    ("full like", lambda x: (x - torch.full_like(x, x.max().item())).pow(2).mean()),
    ("edges of bins", lambda x: torch.bucketize(x, torch.linspace(float(x.min()), float(x.max()), 6)).bincount()),
    ("arange", lambda x: torch.arange(int(x.abs().max()) + 1).sum() * x.mean()),
    ("length of a range", lambda x: torch.zeros(int(x.abs().max()) + 1).numel() + x.sum()),
    ("a list of them", lambda x: sum([float(x.max()), float(x.min())]) * x.mean()),
    ("formatted", lambda x: float(f"{float(x.max()):.1f}") * x.sum()),
    ("a choice", lambda x: x.mean() * [0.1, 5.0][int(x.max() > 8)]),
    ("a key", lambda x: x.mean() * {True: 0.1, False: 5.0}[bool((x > 8).any())]),
    ("a power", lambda x: (x.abs() ** int(x.abs().max())).mean()),
    ("a dimension", lambda x: torch.stack([x, 2 * x]).amax(int(x.max() > 8)).sum()),
    ("a word", lambda x: getattr(x, "mean" if x.max() < 8 else "sum")()),
    ("equal", lambda x: x.mean() if torch.equal(x, x.clamp(max=8)) else x.sum()),
    ("all close", lambda x: x.mean() if torch.allclose(x, x.clamp(max=8)) else x.sum()),
    ("rounded", lambda x: (x - round(float(x.mean()))).pow(2).mean()),
    ("compared", lambda x: max(x.max(), -x.min()) * x.mean()),
)
def test_numbers_that_were_read_go_back_in(fn: Function) -> None:
    x = normal(200)
    x[150:] = 5 * x[150:] + 1
    promise(fn, x)


# ------------------------------------------------------------------ gradients inside


def _slope(critic: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().clone().requires_grad_()
    scores = critic(x)
    (slope,) = torch.autograd.grad(scores, x, torch.ones_like(scores), create_graph=True, retain_graph=True)
    return scores, slope


torch.manual_seed(0)
CRITIC = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))
SMOOTH_CRITIC = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def r1(x: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(CRITIC(x).sum(), x, create_graph=True)
    return slope.square().sum(1).mean()


def gradient_penalty(x: Tensor) -> Tensor:
    return (_slope(CRITIC, x)[1].norm(dim=1) - 1).square().mean()


def physics_residual(x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    u = SMOOTH_CRITIC(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (ddu,) = torch.autograd.grad(du[:, 1].sum(), x, create_graph=True)
    return (du[:, 0] + u[:, 0] * du[:, 1] - 0.1 * ddu[:, 1]).square().mean()


def invariant_risk(x: Tensor) -> Tensor:
    scale = torch.ones((), requires_grad=True)
    (slope,) = torch.autograd.grad(F.cross_entropy(x * scale, x.argmax(1)), scale, create_graph=True)
    return slope.square()


def backward_inside(x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    (x**3).sum().backward()
    assert x.grad is not None
    return x.grad.square().mean().sqrt()


@table(
    ("R1", r1),
    ("gradient penalty", gradient_penalty),
    ("physics residual", physics_residual),
    ("invariant risk", invariant_risk),
    ("backward", backward_inside),
    ("by torch.func", lambda x: torch.func.vmap(torch.func.grad(lambda row: (row**3).sum()))(x).square().mean().sqrt()),
)
def test_a_gradient_taken_inside(fn: Function) -> None:
    promise(fn, normal(120, 3, dtype=torch.float32), sizes=(50, 1, 33), constant=True)


def test_a_gradient_function_of_the_users_own() -> None:
    class Clip(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clamp(-1, 1)

        @staticmethod
        def backward(ctx: Any, *grad: Tensor) -> Any:
            return grad[0]

    promise(lambda x: Clip.apply(x).mean().sqrt(), normal(120).abs(), constant=True)


def test_a_gradient_function_that_saves_what_it_needs() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, *grad: Tensor) -> Any:
            return 2 * grad[0] * ctx.saved_tensors[0]

    def steepness(x: Tensor) -> Tensor:
        x = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(Square.apply(x).sum(), x, create_graph=True)
        return slope.square().mean().sqrt()

    promise(steepness, normal(120), constant=True)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes_inside_and_outside(guard: Any) -> None:
    def fn(x: Tensor) -> Tensor:
        with guard():
            return (x - x.mean()).pow(2).mean().sqrt()

    promise(fn, normal(200), constant=True)
    with guard():
        promise(lambda x: x.pow(2).mean().sqrt(), normal(200), constant=True)


def test_batches_in_and_out_of_inference_mode() -> None:
    metric = bp.exact(lambda x: (x - x.mean()).pow(2).mean())
    x = normal(200)
    with torch.inference_mode():
        metric.update(x[:10].clone())
        metric.update(x[10:100].clone())
    metric.update(x[100:150])
    with torch.inference_mode():
        metric.update(x[150:].clone())
    assert difference(metric.compute(), (x - x.mean()).pow(2).mean()) is None


def test_under_autocast() -> None:
    def fn(x: Tensor, w: Tensor) -> Tensor:
        return (x @ w).pow(2).mean().sqrt()

    x, w = normal(200, 8, dtype=torch.float32), normal(8, 3, dtype=torch.float32)
    metric = bp.exact(fn, batch_dim=(0, None))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for piece in split((x, w), (64, 1, 50), (0, None)):
            metric.update(*piece)
        value = metric.compute()
    assert abs(value.item() - fn(x, w).item()) < 1e-5 * value.item()


@torch.autocast("cpu", dtype=torch.bfloat16)
def rms_of_a_product(x: Tensor, w: Tensor) -> Tensor:
    return (x @ w).float().square().mean().sqrt()


def loss_of_a_layer(x: Tensor, w: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.mse_loss(F.linear(x, w.t()), x[:, :3]).sqrt()


@table(("decorated", rms_of_a_product), ("in a block", loss_of_a_layer))
def test_autocast_inside(fn: Function) -> None:
    """The fold is at least as exact as the function: the value is right up to the rounding of its narrow type."""
    x, w = normal(200, 8, dtype=torch.float32), normal(8, 3, dtype=torch.float32)
    promise(fn, x, w, dims=(0, None), constant=True, rtol=1e-2)


# ------------------------------------------------------------------ compiled and scripted functions


def rms_of_a_pair(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean().sqrt()


def compiled_part() -> Function:
    part = torch.compile(lambda d: d.square(), backend="eager")
    return lambda x, y: part(x - y).mean().sqrt()


def compiled_layer() -> Function:
    layer = torch.compile(nn.Linear(4, 2), backend="eager")
    return torch.no_grad()(lambda x, y: layer(x - y).square().mean().sqrt())


def scripted_layer() -> Function:
    layer = torch.jit.script(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    return torch.no_grad()(lambda x, y: layer(x - y).square().mean().sqrt())


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@table(
    ("compiled", lambda: torch.compile(rms_of_a_pair, backend="eager")),
    ("scripted", lambda: torch.jit.script(rms_of_a_pair)),
    ("traced", lambda: torch.jit.trace(rms_of_a_pair, (torch.zeros(2, 4), torch.ones(2, 4)))),
    ("compiled inside", compiled_part),
    ("a compiled layer", compiled_layer),
    ("a scripted layer", scripted_layer),
)
def test_compiled_and_scripted_functions(fn: Callable[[], Function]) -> None:
    x, y = normal(200, 4, dtype=torch.float32), normal(200, 4, seed=2, dtype=torch.float32)
    promise(fn(), x, y, constant=True)


# ------------------------------------------------------------------ functions with state of their own


class Counting:
    """Each call returns another multiple: the value on all samples is that of a first call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.mean() * self.calls


class Running(nn.Module):
    """Normalises by a running mean that forward moves."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(0.1 * x.mean())
        return ((x - self.mean) ** 2).mean()


class Remembering(nn.Module):
    """The same, with a new tensor instead of a write in place."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(float(x.sum()))
        return x.sum() + sum(self.seen)


class Lazy(nn.Module):
    """Makes a constant when it is first called, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel: Tensor | None = None
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel is None:
            self.kernel = torch.linspace(0.5, 1.5, 3, dtype=x.dtype) + 0 * x.sum()
        self.last = (x * self.kernel).pow(2).mean().sqrt()
        return self.last


@functools.cache
def window(n: int) -> Tensor:
    return torch.hann_window(n, periodic=False, dtype=torch.float64)


@functools.cache
def scale(power: float) -> Tensor:
    return torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64) ** power


def with_a_cached_window(x: Tensor) -> Tensor:
    return (x * window(x.shape[0])[:, None]).sum()


def with_a_cached_scale(x: Tensor) -> Tensor:
    return (x * scale(0.5)).pow(2).mean().sqrt()


@pytest.mark.parametrize("way", ["update", "__call__"])
@pytest.mark.parametrize("make", [Lazy, lambda: with_a_cached_window, lambda: with_a_cached_scale],
                         ids=["module", "by size", "constant"])  # fmt: skip
def test_constants_that_are_made_once_and_kept(make: Any, way: str) -> None:
    """Whatever the analysis ran inside, what stays in the user's hands is good for a plain call."""
    window.cache_clear(), scale.cache_clear()
    x = normal(200, 3)
    expected = make()(x)
    window.cache_clear(), scale.cache_clear()
    fn = make()
    metric = bp.exact(fn)
    try:
        for (piece,) in split((x,), (64, 1, 50)):
            getattr(metric, way)(piece)
        assert difference(metric.compute(), expected) is None
    except bp.BatchproofError:
        pass
    assert difference(fn(x), expected) is None
    for kept in (window(200), scale(0.5), *(v for v in vars(fn).values() if isinstance(v, Tensor))):
        assert type(kept) is Tensor
        assert not torch._is_functional_tensor(kept)
        assert kept.device.type == "cpu"
        kept.clone().add_(1).tolist()


@pytest.mark.parametrize("way", ["update", "__call__"])
def test_what_a_function_leaves_behind(way: str) -> None:
    """self.last = ...: after a call it is that call's; after an update it is some plain tensor."""
    fn = Lazy()
    metric = bp.exact(fn)
    for (piece,) in split((normal(200, 3),), (64, 1, 50)):
        try:
            value = getattr(metric, way)(piece)
        except bp.BatchproofError:
            break
        if way == "__call__":
            assert fn.last is value
        assert fn.last is None or math.isfinite(float(fn.last))


def with_a_mutable_default(x: Tensor, seen: list[Tensor] = []) -> Tensor:  # noqa: B006 - the trap
    seen.append(x.mean())
    return torch.stack(seen).mean()


def test_a_mutable_default() -> None:
    """Every call adds to the list, those of the analysis too."""
    outcome = stream(with_a_mutable_default, split((normal(200),), (64, 1, 50)))
    assert outcome.kind == "refused" or difference(outcome.value, normal(200).mean()) is None


def test_a_log_on_the_side() -> None:
    """What a function writes elsewhere does not matter, so long as it reads none of it."""
    average, log = torch.zeros(()).double(), []

    def fn(x: Tensor) -> Tensor:
        average.mul_(0.9).add_(0.1 * x.mean())
        log.append(float(x.max()))
        return x.pow(2).mean().sqrt()

    promise(fn, normal(200))


@pytest.mark.parametrize("make", [Counting, Running, Remembering])
@pytest.mark.parametrize("state", ["auto", "rows"])
def test_functions_with_state(make: Any, state: str) -> None:
    """Right would be what an unused one gives on all samples; in doubt, refuse."""
    x = normal(200) + 2
    metric = None
    try:
        metric = bp.exact(make(), state=state)
        for (piece,) in split((x,), (64, 1, 50)):
            metric.update(piece)
        value = metric.compute()
    except bp.BatchproofError:
        return
    assert difference(value, make()(x)) is None


def test_a_function_that_alternates() -> None:
    turns = iter(range(10**9))
    promise(lambda x: x.mean() if next(turns) % 2 else x.sum(), normal(200), refuse=True)


def test_batch_normalisation_in_training() -> None:
    layer = nn.BatchNorm1d(3).double()
    plain = nn.BatchNorm1d(3, track_running_stats=False).double()
    promise(lambda x: layer(x).pow(3).mean(), normal(200, 3).exp(), sizes=(64, 2, 50))
    promise(lambda x: plain(x).pow(3).mean(), normal(200, 3).exp(), sizes=(64, 2, 50))


class Holder:
    """A plain object with a layer in it."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer(x).pow(3).mean()

    def method(self, x: Tensor) -> Tensor:
        return self.layer(x).pow(3).mean()


def nested(layer: nn.Module) -> Function:
    def inner(x: Tensor) -> Tensor:
        return layer(x).pow(3).mean()

    def outer(x: Tensor) -> Tensor:
        return inner(x) + 0 * x.sum()

    return outer


def inside(container: Any, key: Any) -> Function:
    return lambda x: container[key](x).pow(3).mean()


HOLDERS: dict[str, Function] = {
    "closure": lambda layer: lambda x: layer(x).pow(3).mean(),
    "object": Holder,
    "method": lambda layer: Holder(layer).method,
    "closure of a closure": nested,
    "list": lambda layer: inside([layer], 0),
    "dictionary": lambda layer: inside({"a": layer}, "a"),
    "partial": lambda layer: functools.partial(lambda layer, x: layer(x).pow(3).mean(), layer),
    "default": lambda layer: lambda x, layer=layer: layer(x).pow(3).mean(),
    "forward": lambda layer: lambda x, call=layer.forward: call(x).pow(3).mean(),
    "object in an object": lambda layer: Holder(nn.Sequential(layer)),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_analysis_leaves_a_modules_buffers_alone(hold: Function) -> None:
    """One update moves running statistics once, as a call would, or not at all; never by hidden runs."""
    layer = nn.BatchNorm1d(3).double()
    metric = bp.exact(hold(layer))
    for (piece,) in split((normal(200, 3),), (64, 10, 50)):
        before, called = fresh(layer.state_dict()), nn.BatchNorm1d(3).double()
        called.load_state_dict(before)
        called(piece)
        with contextlib.suppress(bp.BatchproofError):
            metric.update(piece)
        now = layer.state_dict()
        assert difference(now, before) is None or difference(now, called.state_dict()) is None


def test_evaluation_mode_is_a_plain_function() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1)).double().eval()
    promise(lambda x, y: F.mse_loss(model(x).squeeze(1), y).sqrt().detach(), normal(200, 3), normal(200), constant=True)


# ------------------------------------------------------------------ closures that change


def closure_ends_well(metric: Any, fn: Function, change: Any, undo: Any) -> None:
    """Old samples or new, all under one value of the closure: a mixture is a number of neither."""
    x = normal(200) + 2
    before = fn(x)
    try:
        for (piece,) in split((x[:120],), (64, 1)):
            metric.update(piece)
        change()
        metric.update(x[120:])
        value = metric.compute()
    except bp.BatchproofError:
        return
    finally:
        after = fn(x)
        undo()
    assert difference(value, before) is None or difference(value, after) is None


@pytest.mark.parametrize("state", ["auto", "rows"])
def test_closure_over_a_tensor_that_changes(state: str) -> None:
    weight = torch.tensor(2.0, dtype=torch.float64)

    def fn(x: Tensor) -> Tensor:
        return ((x * weight) ** 3).mean()

    closure_ends_well(bp.exact(fn, state=state), fn, lambda: weight.mul_(3), lambda: None)


@pytest.mark.parametrize("state", ["auto", "rows"])
def test_closure_over_a_number_that_changes(state: str) -> None:
    beta = 2.0

    def fn(x: Tensor) -> Tensor:
        return (x.abs() ** beta).mean()

    def change() -> None:
        nonlocal beta
        beta = 3.0

    closure_ends_well(bp.exact(fn, state=state), fn, change, lambda: None)


@pytest.mark.parametrize("state", ["auto", "rows"])
def test_closure_that_changes_and_changes_back(state: str) -> None:
    """At the end all is as it was at first, and yet one batch was folded by another function."""
    weight = torch.tensor(2.0, dtype=torch.float64)

    def fn(x: Tensor) -> Tensor:
        return ((x * weight) ** 3).mean() + (x > weight).double().mean()

    x = normal(200) + 2
    metric = bp.exact(fn, state=state)
    try:
        metric.update(x[:100])
        weight.mul_(3)
        metric.update(x[100:150])
        weight.div_(3)
        metric.update(x[150:])
        value = metric.compute()
    except bp.BatchproofError:
        return
    assert difference(value, fn(x)) is None


@pytest.mark.parametrize("state", ["auto", "rows"])
@pytest.mark.parametrize("kind", ["tensor", "array", "list", "dictionary"])
def test_a_shared_argument_that_is_changed_in_place(kind: str, state: str) -> None:
    """The same object, and not the same numbers: no value on all samples has both."""

    def fn(x: Tensor, weight: Any) -> Tensor:
        held = weight["w"] if isinstance(weight, dict) else weight
        return (x * torch.as_tensor(held, dtype=torch.float64)).pow(2).sum(1).mean().sqrt()

    x = normal(200, 3)
    numbers = [1.0, 2.0, 3.0]
    weight: Any = {
        "tensor": torch.tensor(numbers, dtype=torch.float64),
        "array": np.array(numbers),
        "list": list(numbers),
        "dictionary": {"w": torch.tensor(numbers, dtype=torch.float64)},
    }[kind]
    metric = bp.exact(fn, batch_dim=(0, None), state=state)
    before = fn(x, weight)
    try:
        metric.update(x[:100], weight)
        metric.update(x[100:101], weight)
        (weight["w"] if kind == "dictionary" else weight)[0] = 50.0
        metric.update(x[101:], weight)
        value = metric.compute()
    except bp.BatchproofError:
        return
    assert difference(value, before) is None or difference(value, fn(x, weight)) is None


def test_a_parameter_that_learns() -> None:
    loss = nn.Sequential(nn.Linear(1, 1)).double()

    def fn(x: Tensor) -> Tensor:
        return loss(x[:, None]).pow(2).mean().detach()

    def step() -> None:
        with torch.no_grad():
            loss[0].weight.add_(1.5)  # type: ignore[operator, union-attr]

    closure_ends_well(bp.exact(fn), fn, step, lambda: None)


def test_a_parameter_that_is_replaced() -> None:
    holder = {"scale": torch.tensor(2.0).double()}

    def fn(x: Tensor) -> Tensor:
        return (x * holder["scale"]).pow(2).mean().sqrt()

    closure_ends_well(bp.exact(fn), fn, lambda: holder.update(scale=torch.tensor(7.0).double()), lambda: None)


# ------------------------------------------------------------------ what functions return


@table(
    ("tuple", lambda p, y: ((p - y).abs().mean(), (p - y).pow(2).mean().sqrt())),
    ("dict", lambda p, y: {"mae": (p - y).abs().mean(), "rmse": (p - y).pow(2).mean().sqrt(), "n": (p > y).sum()}),
    ("list", lambda p, y: [(p - y).max(), y.sum()]),
    ("nested", lambda p, y: {"a": (p.sum(), {"b": y.mean()}), "c": [p.max()]}),
    ("int tensor", lambda p, y: (p > y).sum()),
    ("bool tensor", lambda p, y: (p > y + 2).any()),
    ("vector", lambda p, y: torch.stack([p.sum(), y.sum(), (p * y).mean()])),
    ("one element", lambda p, y: (p - y).pow(2).mean().sqrt().reshape(1)),
    ("same twice", lambda p, y: (p.sum(),) * 2),
)
def test_what_functions_return(fn: Function) -> None:
    promise(fn, *pair(), constant=True)


@table(
    ("float", lambda p, y: (p - y).abs().mean().item()),
    ("int", lambda p, y: int((p > y).sum())),
    ("bool", lambda p, y: bool((p > y + 2).any())),
    ("a constant", lambda p, y: 1.5),
    ("a constant tensor", lambda p, y: torch.ones(2)),
    ("n", lambda p, y: p.shape[0]),
    ("tensor beside a constant", lambda p, y: (p.mean(), 2, "mae", None)),
    ("float beside a tensor", lambda p, y: {"mae": float((p - y).abs().mean()), "rmse": (p - y).pow(2).mean().sqrt()}),
    ("numpy scalar", lambda p, y: np.float32((p - y).abs().mean().item())),
    ("its argument", lambda p, y: p),
    ("None", lambda p, y: None),
)
def test_what_functions_return_in_python(fn: Function) -> None:
    promise(fn, *pair())


@table(
    ("per sample", lambda p, y: (p - y).pow(2)),
    ("per sample, centred", lambda p, y: (p - p.mean()) * y),
    ("per sample beside the mean", lambda p, y: ((p - y).abs(), (p - y).abs().mean())),
    ("per sample, a matrix", lambda p, y: torch.stack([p, y], 1)),
    ("per sample, last", lambda p, y: torch.stack([p, y])),
    ("sorted", lambda p, y: p.sort()),
    ("selected samples", lambda p, y: p[y > 0]),
    ("per pair", lambda p, y: p[:, None] - y),
)
def test_no_reduction(fn: Function) -> None:
    """As many numbers as samples: the samples are kept, or it is refused."""
    promise(fn, *pair(120), sizes=(50, 1, 33))


def test_half_of_the_samples_have_no_label() -> None:
    y = torch.where(coins(200), labels(200), torch.full((200,), -100))
    promise(lambda s, y: F.cross_entropy(s, y, ignore_index=-100), normal(200, 4), y, constant=True)
