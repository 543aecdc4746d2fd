"""Every number against a plain loop: on the very same samples to rounding, on other samples to noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from scipy import stats
from torch import Tensor

import batchproof as bp
from batchproof.simulation.distributions import CHUNK
from programs import Program, moved, programs
from promise import fresh
from simulated import Function, check, equal, loop, near, run, value, watched


def rmse(e: Tensor) -> Tensor:
    return e.square().mean().sqrt()


def r2(pred: Tensor, real: Tensor) -> Tensor:
    return 1 - (pred - real).square().sum() / (real - real.mean()).square().sum()


def pearson(pred: Tensor, real: Tensor) -> Tensor:
    a, b = pred - pred.mean(), real - real.mean()
    return (a * b).sum() / (a.norm() * b.norm())


def positive_mean(e: Tensor) -> Tensor:
    return e[e > 0].mean()


def masked_mean(e: Tensor) -> Tensor:
    m = (e > -30).to(e.dtype)
    return (e * m).sum() / m.sum()


def branch(e: Tensor) -> Tensor:
    return e.abs().mean() if e.mean() > 0 else e.square().mean().sqrt()


def item(e: Tensor) -> float:
    return math.log(e.square().mean().item() + 1)


def by_size(e: Tensor) -> Tensor:
    return e.abs().max() if len(e) > 4 else e.std(correction=0)


def several(e: Tensor) -> dict[str, Any]:
    return {"mae": e.abs().mean(), "more": (e.square().mean().sqrt(), e.max()), "n": len(e)}


def vector(e: Tensor) -> Tensor:
    return torch.stack([e.mean(), e.square().mean().sqrt(), e.min()])


def count(e: Tensor) -> Tensor:
    return (e > 50).sum()


def largest(e: Tensor) -> int:
    return int(e.abs().max())


def whether(e: Tensor) -> Tensor:
    return e.mean() > 10


def median(e: Tensor) -> Tensor:
    return e.median()


def two_best(e: Tensor) -> Tensor:
    return e.topk(2).values.mean()


def refuses_short(e: Tensor) -> Tensor:
    if len(e) < 3:
        raise ValueError("too few")
    return e.std()


def numpy_rmse(e: Any) -> Any:
    return np.sqrt(np.mean(np.asarray(e) ** 2))


def single(e: Tensor) -> Tensor:
    return e.float().square().mean().sqrt()


def in_place(e: Tensor) -> Tensor:
    e = e.clone()
    e[e > 100] = 100
    e.mul_(0.5)
    return e.norm() / len(e) ** 0.5


def geometric(e: Tensor) -> Tensor:
    return e.abs().log().mean().exp()


def logsumexp(e: Tensor) -> Tensor:
    return (e / 100).logsumexp(0)


def trimmed(e: Tensor) -> Tensor:
    return e[e.abs() < 2 * e.std(correction=0) + 1].square().mean().sqrt()


ONE = [
    rmse, positive_mean, masked_mean, branch, item, by_size, several, vector, count, largest, whether, median,
    two_best, refuses_short, numpy_rmse, single, in_place, geometric, logsumexp, trimmed, torch.std, torch.var,
]  # fmt: skip
KINDS = ["normal", "laplace", "t:5", "uniform", "lognormal:0.5"]


@pytest.mark.parametrize("fn", ONE, ids=lambda fn: fn.__name__)
def test_same_samples_same_numbers(fn: Function) -> None:
    errors = KINDS[ONE.index(fn) % len(KINDS)]
    for size in (1, 7):
        seen = watched(fn, errors, size, 41, seed=size, direct=False)
        check(seen, fn, 1e-5 if fn is single else 1e-9)


@pytest.mark.parametrize("fn", [r2, pearson, F.mse_loss, F.smooth_l1_loss], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("errors", ["normal", "t:5"])
def test_same_samples_same_numbers_of_two_arguments(fn: Function, errors: str) -> None:
    for size in (1, 20):
        check(watched(fn, errors, size, 41, direct=False), fn)


def test_batches_longer_than_what_is_drawn_at_once() -> None:
    for fn in (rmse, by_size, several, branch, count):
        check(watched(fn, "normal", 2 * CHUNK + 1, 2, direct=False), fn)


def classes(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 4, (n,), generator=generator)
    return torch.randn(n, 4, generator=generator) + F.one_hot(label, 4), label


def macro_f1(logits: Tensor, label: Tensor) -> Tensor:
    guess = F.one_hot(logits.argmax(1), 4)
    true = F.one_hot(label, 4)
    both = (guess * true).sum(0)
    return (2 * both / (guess.sum(0) + true.sum(0)).clamp(min=1)).mean()


def balanced(logits: Tensor, label: Tensor) -> Tensor:
    right = (logits.argmax(1) == label).double()
    return torch.stack([right[label == k].mean() for k in range(4)]).nanmean()


def python_f1(logits: Tensor, label: Tensor) -> float:
    hits = sum(int(a == b == 0) for a, b in zip(logits.argmax(1).tolist(), label.tolist()))
    seen = sum(map(int, logits.argmax(1) == 0)) + sum(map(int, label == 0))
    return 2 * hits / seen if seen else 0.0


def weighted_ce(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(logits, label, weight=torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=logits.dtype))


@pytest.mark.parametrize("fn", [macro_f1, balanced, python_f1, weighted_ce], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("direct", [False, True])
def test_own_data(fn: Function, direct: bool) -> None:
    """Sizes above eight times the number of rows are drawn as counts of rows, where a state is a sum over rows."""
    data = classes(20)
    for size in (5, 170):
        seen = watched(fn, data, size, 45, direct=direct)
        if seen.row.how != "direct":
            check(seen, fn, 1e-6 if fn is macro_f1 else 1e-9)  # whole numbers divided are float32


def test_own_data_in_single_precision_is_taken_for_what_it_is() -> None:
    pred, real = torch.randn(300), torch.randn(300)
    for size in (1, 10):
        seen = watched(r2, (pred, real), size, 50, direct=False)
        check(seen, lambda p, y: r2(p.double(), y.double()), 1e-5)


def test_which_number_is_shown() -> None:
    """The one that is farthest off, of those that are clearly off."""
    for direct in (True, False):
        found = run(lambda e: {"mse": e.square().mean(), "rmse": rmse(e), "n": 1}, "normal", [1, 4], 300, direct=direct)
        assert found.component == "['rmse']" and found.components == 3
        assert near(found.rows[0].mean, 79.79) and near(found.rows[0].pooled, 100)
    none = run(lambda e: (e.abs().mean(), e.square().mean()), "normal", [1, 4], 300)
    assert none.component == "[0]" and none.depends is False


def test_batches_whose_centred_sums_cancel() -> None:
    """Rows that are all alike in a batch: the function has a value there, but no digits of it are left in the state."""
    rows = torch.tensor([1e6, 1e6, 1e6 + 1e-3, 1e6 + 1, -3.0, 1e3], dtype=torch.float64)
    for fn in (lambda e: e.std(correction=0), lambda e: (e - e.mean()).square().mean()):
        for size in (2, 3):
            seen = watched(fn, rows, size, 200, direct=False)
            expected = loop(fn, seen.batches()).values
            assert seen.row.undefined == 0
            assert bool(((seen.values - expected).abs() <= 1e-5 * expected.abs()).all())


@pytest.mark.parametrize(
    ("errors", "cdf"),
    [
        ("normal", stats.norm(0, 100).cdf),
        ("laplace", stats.laplace(0, 100).cdf),
        ("uniform", stats.uniform(-100, 200).cdf),
        ("t:0.8", stats.t(0.8, 0, 100).cdf),
        ("t:3", stats.t(3, 0, 100).cdf),
        ("t:30", stats.t(30, 0, 100).cdf),
        ("lognormal:0.5", stats.lognorm(0.5, 0, 100).cdf),
        ("lognormal:3", stats.lognorm(3, 0, 100).cdf),
    ],
)
def test_what_is_drawn(errors: str, cdf: Callable[[Any], Any]) -> None:
    """The sum over a batch of one is the sample."""
    for options in ({"direct": False}, {"direct": True, "seed": 1}):
        values = watched(lambda e: e.sum(), errors, 1, 20_000, **options).values[:, 0]
        assert stats.kstest(values.numpy(), cdf).pvalue > 1e-3
        lags = stats.spearmanr(values[:-1].numpy(), values[1:].numpy())
        assert abs(lags.statistic) < 4 / 20_000**0.5


def test_lists_arrays_and_what_all_batches_share() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 40))

    def numpy_mae(pred: Any, real: Any, factor: float = 1.0) -> float:
        return float(np.mean(np.abs(np.asarray(pred) - np.asarray(real)))) * factor

    plain = run(numpy_mae, (a, b), [1, 6], 30)
    lists = run(numpy_mae, (a.tolist(), b.tolist()), [1, 6], 30)
    doubled = run(numpy_mae, (a, b, 2.0), [1, 6], 30)
    for x, y, z in zip(plain.rows, lists.rows, doubled.rows, strict=True):
        assert x.mean.value == pytest.approx(y.mean.value, rel=1e-6)
        assert 2 * x.mean.value == pytest.approx(z.mean.value, rel=1e-6)


# ------------------------------------------------------------------ other samples, drawn with numpy

RNG = np.random.default_rng(7)
DRAWN: dict[str, Callable[[tuple[int, int]], np.ndarray]] = {
    "normal": lambda shape: 100 * RNG.standard_normal(shape),
    "laplace": lambda shape: RNG.laplace(0, 100, shape),
    "t:5": lambda shape: 100 * RNG.standard_t(5, shape),
    "uniform": lambda shape: RNG.uniform(-100, 100, shape),
    "lognormal:0.5": lambda shape: 100 * RNG.lognormal(0, 0.5, shape),
}
BY_NUMPY: dict[Function, Callable[[np.ndarray], np.ndarray]] = {
    rmse: lambda e: np.sqrt((e**2).mean(1)),
    torch.std: lambda e: e.std(1, ddof=1),
    median: lambda e: np.sort(e, 1)[:, (e.shape[1] - 1) // 2],
    masked_mean: lambda e: np.ma.masked_where(e <= -30, e).mean(1).filled(math.nan),
    item: lambda e: np.log((e**2).mean(1) + 1),
    branch: lambda e: np.where(e.mean(1) > 0, np.abs(e).mean(1), np.sqrt((e**2).mean(1))),
    count: lambda e: (e > 50).sum(1),
    logsumexp: lambda e: np.log(np.exp(e / 100).sum(1)),
}


@pytest.mark.parametrize("fn", BY_NUMPY, ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.filterwarnings("ignore:.*encountered")
def test_other_samples_same_numbers_but_for_noise(fn: Function, direct: bool) -> None:
    for errors in [list(DRAWN)[(2 * list(BY_NUMPY).index(fn) + direct) % 5]]:
        for row in run(fn, errors, [2, 30], 800, direct=direct).rows:
            own = BY_NUMPY[fn](DRAWN[errors]((6000, row.size)))
            own = own[np.isfinite(own)]
            assert near(row.mean, own.mean(), own.std() / len(own) ** 0.5, 4.5)
            if row.pooled_samples == row.size * 800 and fn not in (count, logsumexp, branch):
                # of as many samples as one group's: biased by nothing beside the noise
                groups = np.array([BY_NUMPY[fn](DRAWN[errors]((1, 40 * row.size)))[0] for _ in range(40)])
                assert near(row.pooled, groups.mean(), groups.std() / 40**0.5, 5)


def test_r2_around_targets_twice_as_far_spread() -> None:
    for row in run(r2, "laplace", [2, 5, 30], 1500).rows:
        real = 200 * RNG.standard_normal((9000, row.size))
        pred = real + RNG.laplace(0, 100, real.shape)
        own = 1 - ((pred - real) ** 2).sum(1) / ((real - real.mean(1, keepdims=True)) ** 2).sum(1)
        if row.size > 2:
            assert near(row.mean, own.mean(), own.std() / 9000**0.5)
        assert near(row.pooled, 1 - 2e4 / 4e4)


def test_standard_errors_cover_what_happens() -> None:
    """Over many seeds, the numbers lie about as far from their mean as the standard errors say."""
    for fn, errors, options in ((rmse, "normal", {}), (r2, "normal", {})):
        found = [run(fn, errors, [6], **{"batches": 60, "seed": seed, **options}).rows[0] for seed in range(40)]
        for part in ("mean", "pooled", "ratio"):
            numbers = np.array([getattr(row, part).value for row in found])
            errors_said = np.array([getattr(row, part).standard_error for row in found])
            assert numbers.std() == pytest.approx(np.sqrt((errors_said**2).mean()), rel=0.45), (fn, part)


# ------------------------------------------------------------------ functions that nobody wrote


@settings(max_examples=max(1, settings.default.max_examples // 25))  # type: ignore[union-attr]
@given(programs())
def test_random_programs(program: Program) -> None:
    fn = program.function()
    data = tuple(arg.double() if arg.is_floating_point() else arg for arg in program.samples())
    assume(len(data[0]) > 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fn(*fresh(data))
        except Exception:  # noqa: BLE001 - whatever a random program may raise
            assume(False)
        for size in (1, 5):
            try:
                seen = watched(fn, data, size, 21, direct=False, threads=1)
            except bp.BatchproofError as error:
                assert str(error).strip()
                continue
            batches, values, row = seen.batches(), seen.values, seen.row
            for number, batch in enumerate(batches):
                assert as_called(fn, batch, values[number]), f"{row.how}, batch {number} of size {size}"
            if row.pooled_samples == 21 * size:
                whole = [torch.cat(leaf) for leaf in zip(*batches, strict=True)]
                column = loop(fn, batches).column(seen.found)
                pooled = torch.full((len(values[0]),), math.nan, dtype=torch.float64)
                pooled[column] = row.pooled.value
                assert as_called(fn, whole, pooled, column), f"{row.how}, pooled over size {size}"


def as_called(fn: Function, batch: list[Any], got: Tensor, column: int | None = None) -> bool:
    """Whether it is the function's value on a batch, or one on samples that differ by rounding."""
    pick = slice(None) if column is None else slice(column, column + 1)
    expected = value(fn, batch, len(got))[pick]
    if equal(got[pick], expected, 1e-7):
        return True
    others = [value(fn, moved(tuple(batch), 1e-14, seed), len(got))[pick] for seed in range(16)]
    terms = sum(float(arg.double().abs().nan_to_num().sum()) for arg in batch)
    room = 100 * max(float((other - expected).abs().nan_to_num().max()) for other in others) + 1e-13 * terms
    return any(
        bool(((got[pick] == x) | (got[pick].isnan() & x.isnan()) | ((got[pick] - x).abs() <= room)).all())
        for x in [expected, *others]
    )
