"""Expected values against sums, integrals and enumerations that share nothing with theory.py; and who is given them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_simulate_question import chi
from torch import Tensor

from batchproof.simulation.distributions import parse
from batchproof.simulation.result import SimulationRow
from batchproof.simulation.theory import Theory
from simulated import Function, near, run

KINDS = ["laplace", "uniform", "lognormal:0.1", "lognormal:1", "lognormal:2", "t:1.5", "t:2", "t:3", "t:4.5", "t:30"]


def rmse(e: Tensor) -> Tensor:
    return e.square().mean().sqrt()


def mae(e: Tensor) -> Tensor:
    return e.abs().mean()


def mse(e: Tensor) -> Tensor:
    return e.square().mean()


def biased(e: Tensor) -> Tensor:
    return e.std(correction=0)


def biased_var(e: Tensor) -> Tensor:
    return e.var(correction=0)


def density(kind: str) -> Callable[[np.ndarray], np.ndarray]:
    """Of a positive error: of ``|e|``."""
    name, _, text = kind.partition(":")
    if name == "laplace":
        return lambda x: np.exp(-x)
    if name == "uniform":
        return lambda x: (x <= 1) * 1.0
    if name == "lognormal":
        s = float(text)
        return lambda x: np.exp(-(np.log(x) ** 2) / (2 * s * s)) / (x * s * math.sqrt(2 * math.pi))
    df = float(text)
    raw = lambda x: (1 + x * x / df) ** (-(df + 1) / 2)  # noqa: E731
    x, w = nodes(1e-14, 1e24, 400_001)
    total = float((raw(x) * w).sum()) + 1e-14
    return lambda x: raw(x) / total


def nodes(low: float, high: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints in the logarithm, and their weights."""
    edges = np.linspace(math.log(low), math.log(high), count + 1)
    x = np.exp((edges[1:] + edges[:-1]) / 2)
    return x, x * (edges[1] - edges[0])


def top(kind: str) -> float:
    return {"laplace": 200.0, "uniform": 1.0}.get(kind, 1e22 if kind.startswith("t") else 1e12)


def expected(fn: Function, errors: object, size: int, scale: float = 100.0) -> float | None:
    return run(fn, errors, [size], 1, scale=scale).rows[0].mean.expected


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_one(kind: str) -> None:
    x, w = nodes(1e-9, top(kind), 200_001)
    mean = 100 * float((x * density(kind)(x) * w).sum())
    for fn in (rmse, mae):
        assert expected(fn, kind, 1) == pytest.approx(mean, rel=3e-8, abs=0)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_two(kind: str) -> None:
    """The integral over the plane."""
    x, w = nodes(1e-7, min(top(kind), 1e12), 3001)
    mass = density(kind)(x) * w
    mass /= mass.sum()
    plane = 100 * sum(float(p * (np.sqrt((a * a + x * x) / 2) * mass).sum()) for a, p in zip(x, mass))
    assert expected(rmse, kind, 2) == pytest.approx(plane, rel=2e-5, abs=0)


def test_mean_distance_in_the_unit_square() -> None:
    exact = (math.sqrt(2) + math.asinh(1)) / 3 / math.sqrt(2)
    assert expected(rmse, "uniform", 2, 1.0) == pytest.approx(exact, rel=1e-12, abs=0)


@pytest.mark.parametrize("kind", ["laplace", "uniform", "lognormal:0.5", "t:3", "t:12", "t:30"])
def test_batches_of_many(kind: str) -> None:
    name, _, text = kind.partition(":")
    rng, shape = np.random.default_rng(3), (20_000, 33)
    e = {
        "laplace": lambda: rng.laplace(0, 1, shape),
        "uniform": lambda: rng.uniform(-1, 1, shape),
        "lognormal": lambda: np.exp(float(text) * rng.standard_normal(shape)),
        "t": lambda: rng.standard_t(float(text), shape),
    }[name]()
    for size in (3, 5, 33):
        values = np.sqrt((e.reshape(-1, size) ** 2).mean(1)) if 33 % size == 0 else np.sqrt((e[:, :size] ** 2).mean(1))
        known = Theory("rmse", parse(kind, 1.0)).expected(size)
        assert known is not None and abs(values.mean() - known) < 4.5 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize(
    ("kind", "square", "fourth"),
    [("laplace", 2, 24), ("uniform", 1 / 3, 1 / 5), ("lognormal:0.5", math.exp(0.5), math.exp(2)), ("t:12", 1.2, 5.4)],
)
def test_long_batches(kind: str, square: float, fourth: float) -> None:
    """sqrt of the mean square, less what its variance costs: the first term of the series in 1/b."""
    theory = Theory("rmse", parse(kind, 100.0))
    for size in (10**4, 10**6, 10**9, 10**12, 10**15):
        series = 1 - (fourth / square**2 - 1) / (8 * size)
        assert theory.expected(size) == pytest.approx(
            100 * math.sqrt(square) * series, rel=max(30 / size**1.5, 1e-11), abs=0
        )


def test_growth_without_end() -> None:
    """Without a variance the pooled value grows; without a mean there is nothing to expect."""
    values = [Theory("rmse", parse("t:1.5", 1.0)).expected(10**power) for power in (0, 1, 2, 4, 8)]
    assert all(a is not None and b is not None and a < b for a, b in itertools.pairwise(values))
    for kind in ("t:1", "t:0.7"):
        assert expected(rmse, kind, 1) is None and expected(rmse, kind, 50) is None and expected(mae, kind, 3) is None
    assert expected(mse, "t:2", 4) is None and expected(torch.var, "t:1.9", 4) is None


@pytest.mark.parametrize(
    ("kind", "square", "variance"),
    [
        ("normal", 1, 1),
        ("laplace", 2, 2),
        ("uniform", 1 / 3, 1 / 3),
        ("t:30", 30 / 28, 30 / 28),
        ("t:2.5", 5, 5),
        ("lognormal:0.5", math.exp(0.5), math.exp(0.25) * (math.exp(0.25) - 1)),
        ("lognormal:1e-8", 1.0, 1e-16),
        ("lognormal:1e-5", 1.0, 1e-10),
    ],
)
def test_squares_and_variances(kind: str, square: float, variance: float) -> None:
    for size in (5,):
        assert expected(mse, kind, size) == pytest.approx(1e4 * square, rel=1e-9, abs=0)
        for fn, exact in ((torch.var, variance), (biased_var, variance * (size - 1) / size)):
            found = expected(fn, kind, size)
            assert found == pytest.approx(1e4 * exact, rel=1e-9, abs=0) or (found is None and variance < 1e-12)
    assert expected(torch.var, kind, 1) is None
    assert not expected(biased_var, kind, 1)


def test_deviations_of_normal_errors() -> None:
    for size in (2, 3, 17, 1001):
        assert expected(torch.std, "normal", size) == pytest.approx(100 * chi(size - 1), rel=1e-9, abs=0)
        assert expected(biased, "normal", size) == pytest.approx(
            100 * chi(size - 1) * math.sqrt((size - 1) / size), rel=1e-9, abs=0
        )
    assert expected(torch.std, "normal", 1) is None
    assert expected(torch.std, "laplace", 5) is None


def test_t_of_many_degrees_of_freedom_is_normal() -> None:
    for df in ("1e6", "1e10", "1e15", "1e100", "1e300"):
        for size in (1, 7):
            found = expected(rmse, f"t:{df}", size)
            assert found is None or found == pytest.approx(100 * chi(size), rel=1e-5, abs=0)


@pytest.mark.parametrize("kind", ["t:1.01", "t:1.05", "t:1.1", "t:1.3", "lognormal:6", "lognormal:8", "lognormal:10"])
def test_tails_beyond_the_grid_are_right_or_not_given(kind: str) -> None:
    df = float(kind.partition(":")[2])
    if kind.startswith("t"):
        exact = 2 * math.sqrt(df / math.pi) * math.gamma((df + 1) / 2) / math.gamma(df / 2) / (df - 1)
    else:
        exact = math.exp(df * df / 2)
    for fn in (rmse, mae):
        found = expected(fn, kind, 1)
        assert found is None or found == pytest.approx(100 * exact, rel=1e-6, abs=0)
    pair = Theory("rmse", parse(kind, 1.0)).expected(2)
    assert pair is None or exact <= pair * (1 + 1e-6) <= exact * math.sqrt(2) * (1 + 1e-6)


# ------------------------------------------------------------------ the user's own errors

OWN = torch.tensor([0.5, -2.0, 3.0, 0.25], dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize(("rows", "size"), [(4, 3), (3, 5), (4, 1)])
@pytest.mark.parametrize("fn", [rmse, mae, mse, torch.var, biased_var], ids=lambda fn: fn.__name__)
def test_every_batch_there_is(fn: Function, rows: int, size: int) -> None:
    own = OWN[:rows]
    values = torch.stack([fn(own[list(picks)]) for picks in itertools.product(range(rows), repeat=size)])
    found = run(fn, own, [size], 1500)
    if fn is torch.var and size == 1:
        assert found.rows[0].mean.expected is None and found.rows[0].undefined == 1500
        return
    if rows == 1 and found.rows[0].how == "called":  # the variance of one number, repeated
        assert found.rows[0].mean.expected is None and found.rows[0].mean.value == 0
        return
    assert found.rows[0].mean.expected == pytest.approx(values.mean().item(), rel=1e-10, abs=1e-15)
    if rows > 1 and not (fn is biased_var and size == 1):
        assert near(found.rows[0].mean, values.mean().item())
        assert found.rows[0].mean.standard_error == pytest.approx(
            (values.std(correction=0) / 1500**0.5).item(), rel=0.1, abs=0
        )


def test_zeros_among_the_errors() -> None:
    own = torch.tensor([0.0, 0.0, 0.0, 5.0], dtype=torch.float64)
    values = torch.stack([rmse(own[list(picks)]) for picks in itertools.product(range(4), repeat=4)])
    assert expected(rmse, own, 4) == pytest.approx(values.mean().item(), rel=1e-10, abs=0)
    assert not expected(rmse, torch.zeros(9, dtype=torch.float64), 4)


def test_many_rows() -> None:
    """Their integral is over 40,000 rows: against 4 rows that stand for 10,000 each."""
    assert expected(rmse, OWN.repeat(10_000), 3) == pytest.approx(expected(rmse, OWN, 3), rel=1e-10, abs=0)
    own = torch.randn(30_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for size in (1, 4):
        assert expected(rmse, own, size) == pytest.approx(
            chi(size) * own.square().mean().sqrt().item(), rel=0.01, abs=0
        )
    assert expected(rmse, own, 1) == pytest.approx(own.abs().mean().item(), rel=1e-7, abs=0)
    e = own[torch.randint(len(own), (200_000, 4), generator=torch.Generator().manual_seed(1))]
    values = e.square().mean(1).sqrt()
    assert abs(expected(rmse, own, 4) - values.mean()) < 4 * values.std() / 200_000**0.5


def test_pairs_of_predictions_and_targets() -> None:
    real = 3 * torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def fn(pred: Tensor, real: Tensor) -> Tensor:
        return F.mse_loss(pred, real).sqrt()

    def flipped(real: Tensor, pred: Tensor) -> Tensor:
        return fn(pred, real)

    for data, one in (((real + OWN, real), fn), ((real, real + OWN), flipped)):
        assert expected(one, data, 3) == pytest.approx(expected(rmse, OWN, 3), rel=1e-9, abs=0)


# ------------------------------------------------------------------ who must not be given an expected value


def agrees(row: SimulationRow) -> bool:
    """Whether what is expected, if anything is, is what was simulated: up to noise, or up to rounding."""
    return all(
        part.expected is None
        or math.isnan(part.standard_error)
        or abs(part.value - part.expected) <= 5.5 * part.standard_error + 1e-9 * abs(part.expected)
        for part in (row.mean, row.pooled)
    )


LOOKALIKES: dict[str, Function] = {
    "eps 1e-12": lambda e: (e.square().mean() + 1e-12).sqrt(),
    "eps 1e-8": lambda e: (e.square().mean() + 1e-8).sqrt(),
    "eps 1e-3": lambda e: (e.square().mean() + 1e-3).sqrt(),
    "eps 1e4": lambda e: (e.square().mean() + 1e4).sqrt(),
    "eps outside": lambda e: e.square().mean().sqrt() + 1e-8,
    "mse eps 1e-12": lambda e: e.square().mean() + 1e-12,
    "mse eps 1e-8": lambda e: e.square().mean() + 1e-8,
    "mae eps": lambda e: e.abs().mean() + 1e-9,
    "clamp(min=1e-12)": lambda e: e.square().mean().clamp(min=1e-12).sqrt(),
    "clamp(min=1e-30)": lambda e: e.square().mean().clamp(min=1e-30).sqrt(),
    "clamp 700": lambda e: e.clamp(-700, 700).square().mean().sqrt(),
    "clamp 1e8": lambda e: e.clamp(-1e8, 1e8).square().mean().sqrt(),
    "below 1e7": lambda e: (e.square() * (e.abs() < 1e7)).mean().sqrt(),
    "above 1e-7": lambda e: (e.square() * (e.abs() > 1e-7)).mean().sqrt(),
    "huber 1e6": lambda e: F.huber_loss(e, torch.zeros_like(e), delta=1e6),
    "smooth l1": lambda e: F.smooth_l1_loss(e, torch.zeros_like(e), beta=1e-6),
    "log cosh": lambda e: (e.abs() + F.softplus(-2 * e.abs()) - math.log(2)).mean(),
    "nan to num": lambda e: e.nan_to_num(0.0).square().nan_to_num(posinf=1e8).mean().sqrt(),
    "the first 100": lambda e: e[:100].square().mean().sqrt(),
    "but the last": lambda e: e[: max(1, len(e) - 1)].square().mean().sqrt() if len(e) > 40 else rmse(e),
    "n > 40": lambda e: mae(e) if len(e) > 40 else rmse(e),
    "n > 1": lambda e: rmse(e) if len(e) > 1 else 2 * mae(e),
    "n > 5000": lambda e: mae(e) if len(e) > 5000 else rmse(e),
    "n of 30000": lambda e: mae(e) if len(e) == 30_000 else rmse(e),
    "n of 4": lambda e: 2 * rmse(e) if len(e) == 4 else rmse(e),
    "half of it": lambda e: e[len(e) // 2 :].square().mean().sqrt(),
    "n - 1": lambda e: (e.square().sum() / max(1, len(e) - 1)).sqrt(),
    "median square": lambda e: e.square().median().sqrt(),
    "positive": lambda e: e.relu().square().mean().sqrt() * 2**0.5,
    "single": lambda e: e.float().square().mean().sqrt(),
    "half": lambda e: e.half().float().square().mean().sqrt(),
    "rounded": lambda e: (e * 1e3).round().div(1e3).square().mean().sqrt(),
    "weighted by place": lambda e: (e.square() * torch.linspace(0.5, 1.5, len(e), dtype=e.dtype)).mean().sqrt(),
    "clipped gradient": lambda e: e.square().mean().sqrt().clamp(max=1e6),
    "remainder": lambda e: e.remainder(1e9).square().mean().sqrt(),
    "item": lambda e: rmse(e) if e.abs().max().item() < 250 else mae(e),
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_lookalikes(name: str) -> None:
    far = (
        (1e8,)
        if any(bound in name for bound in ("1e6", "1e7", "1e8", "to num", "gradient", "remainder"))
        else (1e-4, 1e-8)
    )
    for scale in (100.0, *far) if "1e" in name or "eps" in name else (100.0, far[0]):
        for row in run(LOOKALIKES[name], "normal", [1 if name == "n > 1" else 4, 300], 100, scale=scale).rows:
            assert agrees(row), (scale, row)


@pytest.mark.parametrize("fn", [rmse, mae, mse, torch.std, biased, torch.var, biased_var], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_formulas_themselves_are_known_at_any_scale(fn: Function, scale: float) -> None:
    found = run(fn, "normal", [2, 50], 100, scale=scale)
    assert found.expected_by == "closed form"
    assert all(row.mean.expected is not None and agrees(row) for row in found.rows)


def test_missing_values_marked_in_the_targets() -> None:
    def fn(pred: Tensor, real: Tensor) -> Tensor:
        known = real > -100
        return (pred - real)[known].square().mean().sqrt()

    def weighted(pred: Tensor, real: Tensor) -> Tensor:
        known = (real > -100).to(real.dtype)
        return ((pred - real).square() * known).sum() / known.sum()

    real = torch.randn(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pred = real + 0.3
    for marked in (
        real.index_fill(0, torch.arange(0, 300, 5), -9999.0),
        real.index_fill(0, torch.tensor([299]), -9999.0),
    ):
        for one in (fn, weighted):
            for row in run(one, (pred, marked), [4, 3000], 200).rows:
                assert agrees(row)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_whole_numbers_that_wrap_around(dtype: torch.dtype) -> None:
    high = torch.iinfo(dtype).max
    a, b = torch.randint(0, high, (2, 200), generator=torch.Generator().manual_seed(0)).to(dtype)
    for row in run(lambda pred, real: (pred - real).double().square().mean().sqrt(), (a, b), [2, 2000], 200).rows:
        assert agrees(row)
    for row in run(lambda e: e.square().double().mean().sqrt(), a, [2, 2000], 200).rows:
        assert agrees(row)


def test_targets_that_weigh() -> None:
    """Of zero targets it is the root mean square."""

    def fn(pred: Tensor, real: Tensor) -> Tensor:
        return ((pred - real) / (1 + real.square())).square().mean().sqrt()

    real = torch.linspace(-2, 2, 40, dtype=torch.float64)
    assert not run(fn, (real + OWN.repeat(10), real), [3], 50).expected_by
    assert not run(fn, "normal", [3], 50).expected_by


@pytest.mark.parametrize(
    "fn",
    [
        lambda e: torch.where((e > 95) & (e < 95.01), 1e6, e).square().mean().sqrt(),
        lambda e: (e.square() * (e != 1.5)).mean().sqrt(),
        lambda e: e.masked_fill(e == 3, 0).square().mean().sqrt(),
        lambda e: e.clamp(-1e60, 1e60).square().mean(),
        lambda e: e.square().mean() if e.max().item() < 1e30 else e.mean(),
        lambda e: e[torch.arange(len(e))].abs().mean(),
        lambda e: e.square().mean().sqrt() if bool(e.mean() < 1e9) else e.mean(),
    ],
)
def test_what_values_cannot_prove(fn: Function) -> None:
    assert not run(fn, "normal", [4, 30], 20).expected_by


def test_a_target_that_counts_only_sometimes() -> None:
    def fn(pred: Tensor, real: Tensor) -> Tensor:
        return ((pred - real) / real.abs().clamp(min=50)).square().mean().sqrt() * 50

    real = torch.linspace(-200, 200, 100, dtype=torch.float64)
    for row in run(fn, (real + OWN.repeat(25), real), [2, 1000], 200).rows:
        assert agrees(row)
