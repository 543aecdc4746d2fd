"""States drawn from their own distribution: batches of the same distribution as those whose samples are drawn."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from simulated import Function, by_loop, near, run, values_of

BATCHES = 2000
#: Of some 200 comparisons with fixed seeds, none should be less likely than this.
RARE = 1e-4


def moments(e: Tensor) -> Tensor:
    """All that a state linear in n, the sum and the sum of squares can show, joint distribution included."""
    mean, square = e.mean(), e.square().mean()
    return torch.stack([mean, square, mean * square, square - mean**2, mean / square.sqrt()])


def several(e: Tensor) -> dict[str, Tensor]:
    return {"bias": e.mean(), "rmse": e.square().mean().sqrt(), "sum": (3 * e + 1).sum(), "n": torch.ones_like(e).sum()}


def signed(pred: Tensor, real: Tensor) -> Tensor:
    return torch.stack([(pred - real).mean(), F.mse_loss(pred, real), (pred - real + 50).square().mean().sqrt()])


def same_distribution(a: Tensor, b: Tensor) -> bool:
    if bool((a == a[0]).all()) and bool((b == b[0]).all()):
        return bool(a[0] == b[0])
    return bool(stats.ks_2samp(a.numpy(), b.numpy()).pvalue > RARE)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 400])
@pytest.mark.parametrize("fn", [moments, several, signed], ids=lambda fn: fn.__name__)
def test_normal_errors(fn: Function, size: int) -> None:
    direct, own = values_of(fn, "normal", size, BATCHES)
    drawn, others = values_of(fn, "normal", size, BATCHES, direct=False)
    assert direct.rows[0].how == "direct" and drawn.rows[0].how == "drawn"
    for a, b in zip(own.T, others.T, strict=True):
        if not (fn is moments and size == 1):  # 0 but for rounding, and +-1
            assert same_distribution(a, b)
    corr = [torch.corrcoef(x[:, :2].T)[0, 1].item() for x in (own, others)]
    assert abs(corr[0] - corr[1]) < (16 if size < 3 else 7) / BATCHES**0.5  # far from normal in short batches


def test_mean_and_spread_of_a_batch_are_independent() -> None:
    """Cochran: of normal errors, and of no others."""
    _, own = values_of(lambda e: torch.stack([e.mean(), e.var()]), "normal", 4, BATCHES)
    assert abs(stats.spearmanr(own[:, 0], own[:, 1]).statistic) < 4 / BATCHES**0.5
    assert stats.kstest((own[:, 0] / 50).numpy(), "norm").pvalue > RARE
    assert stats.kstest((3 * own[:, 1] / 1e4).numpy(), stats.chi2(3).cdf).pvalue > RARE


@pytest.mark.parametrize("size", [10**6, 10**12])
def test_enormous_batches(size: int) -> None:
    _, own = values_of(lambda e: torch.stack([e.mean(), e.square().mean(), e.std()]), "normal", size, BATCHES)
    for column, centre, spread in zip(own.T, (0, 1e4, 100), (100, 1e4 * 2**0.5, 100 / 2**0.5), strict=True):
        assert stats.kstest(((column - centre) * (size**0.5 / spread)).numpy(), "norm").pvalue > RARE


DATA = torch.tensor(
    [[0.5, 1.0, 0.2], [-2.0, 0.0, 3.0], [3.0, 7.0, 0.0], [0.2, -1.0, 1.0], [9.0, 2.0, 4.0], [0.0, 0.0, -1.0]]
).double()
LABELS = torch.tensor([0, 1, 2, 2, 0, 1])


def on_rows(x: Tensor, label: Tensor) -> Tensor:
    hit = (x.argmax(1) == label).double()
    return torch.stack([x[:, 0].mean(), x.square().mean().sqrt(), hit.mean(), F.cross_entropy(x, label), hit.sum()])


def confusion(x: Tensor, label: Tensor) -> Tensor:
    place = 3 * x.argmax(1) + label
    return torch.stack([(place == k).sum() for k in range(9)])


@pytest.mark.parametrize("size", [49, 300])
@pytest.mark.parametrize("fn", [on_rows, confusion], ids=lambda fn: fn.__name__)
def test_resampled_rows(fn: Function, size: int) -> None:
    direct, own = values_of(fn, (DATA, LABELS), size, BATCHES)
    drawn, others = values_of(fn, (DATA, LABELS), size, BATCHES, direct=False)
    assert direct.rows[0].how == "direct" and drawn.rows[0].how == "drawn"
    for a, b in zip(own.T, others.T, strict=True):
        assert same_distribution(a, b)
    if fn is confusion:
        assert bool((own.sum(1) == size).all()) and bool((own == own.round()).all())
    close = torch.corrcoef(own.T).nan_to_num() - torch.corrcoef(others.T).nan_to_num()
    assert float(close.abs().max()) < 6 / BATCHES**0.5


def test_counts_of_rows_in_enormous_batches() -> None:
    def shares(e: Tensor) -> Tensor:
        return torch.stack([(e == k).double().mean() for k in range(4)])

    rows = torch.tensor([0.0, 1.0, 2.0, 3.0, 3.0, 3.0])
    for size in (10**6, 10**12):
        found, own = values_of(shares, rows, size, BATCHES)
        assert found.rows[0].how == "direct"
        assert torch.allclose(own.sum(1), torch.ones(BATCHES, dtype=torch.float64), rtol=1e-12)
        for k, p in enumerate((1 / 6, 1 / 6, 1 / 6, 1 / 2)):
            z = (own[:, k] - p) * (size / (p * (1 - p))) ** 0.5
            assert stats.kstest(z.numpy(), "norm").pvalue > RARE


def test_one_row() -> None:
    for row in run(on_rows, (DATA[:1], LABELS[:1]), [1, 8, 9, 100], 30).rows:
        assert row.mean.standard_error < 1e-9 and row.mean.value == pytest.approx(row.pooled.value)


def test_rows_of_which_one_has_no_logarithm() -> None:
    def geometric(e: Tensor) -> Tensor:
        return e.abs().log().mean().exp()

    rows = torch.tensor([0.0, 1.0, 2.0, 3.0])
    direct, drawn = (run(geometric, rows, [33, 40], 2000, direct=direct) for direct in (True, False))
    for a, b in zip(direct.rows, drawn.rows, strict=True):
        assert a.undefined == b.undefined and near(a.mean, b.mean.value, b.mean.standard_error)


def test_counts_stay_whole_numbers() -> None:
    def length(e: Tensor) -> Tensor:
        return torch.ones_like(e, dtype=torch.int64).sum()

    def also(e: Tensor) -> Tensor:
        return (e == e).sum()

    for fn in (length, also, lambda e: len(e) * torch.ones_like(e).mean()):
        for size in (1, 3, 7, 49, 1000, 10**6 + 1, 10**12 + 1):
            if size > 10**6 + 1 and run(fn, "normal", [3], 2).rows[0].how != "direct":
                continue
            row = run(fn, "normal", [size], 3).rows[0]
            assert row.mean.value == size and row.mean.standard_error == 0


#: Not linear in n, the sum and the sum of squares, however much they look it.
NONLINEAR: dict[str, Function] = {
    "clamp 700": lambda e: e.clamp(max=700).mean(),
    "clamp 250": lambda e: e.clamp(max=250).mean(),
    "huber": lambda e: F.huber_loss(e, torch.zeros_like(e), delta=300.0),
    "huber 5 sigma": lambda e: F.huber_loss(e, torch.zeros_like(e), delta=500.0),
    "mask 5 sigma": lambda e: (e.square() * (e.abs() < 500)).mean(),
    "mask 2.5 sigma": lambda e: (e.square() * (e < 250)).sum() / (e < 250).sum(),
    "window": lambda e: ((e > 95) & (e < 96)).to(e.dtype).mean(),
    "window of squares": lambda e: (e.square() * ((e > 95) & (e < 96))).mean(),
    "near zero": lambda e: ((e.abs() < 0.02) & (e != 0)).to(e.dtype).mean(),
    "bump": lambda e: torch.exp(-(((e - 50) / 0.1) ** 2)).mean(),
    "spike": lambda e: (1 / (1 + ((e - 150) / 0.05).square())).mean(),
    "saturated": lambda e: torch.sigmoid((e - 95) * 1e4).mean() - torch.sigmoid((e - 96) * 1e4).mean(),
    "error function": lambda e: torch.erf((e - 440) * 10).mean(),
    "absolute": lambda e: e.abs().mean(),
    "sine": lambda e: (e + 1e-3 * torch.sin(1e3 * e)).square().mean(),
    "rounded": lambda e: e.round(decimals=1).square().mean(),
    "remainder": lambda e: e.remainder(450).mean(),
    "cube": lambda e: (e + 1e-7 * e**3).mean(),
    "where": lambda e: torch.where(e == e.round(), e + 1, e).square().mean(),
    "relu far out": lambda e: (e.square() + 1e3 * F.relu(e - 420)).mean(),
    "floor": lambda e: (e / 1000).floor().mean(),
    "single": lambda e: e.float().double().square().mean(),
    "bucket": lambda e: torch.bucketize(e, torch.tensor([95.0, 96.0], dtype=e.dtype)).double().mean(),
    "hist": lambda e: torch.histc(e, 5, -1, 1).sum() / len(e),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_other_states_are_drawn_sample_by_sample(name: str) -> None:
    fn = NONLINEAR[name]
    for size in (500,):
        found = run(fn, "normal", [size], 600)
        if found.rows[0].how == "direct":
            loops = by_loop(fn, "normal", size, 600).values[:, 0]
            assert near(found.rows[0].mean, loops.mean().item(), (loops.std() / 600**0.5).item())
            assert found.rows[0].mean.standard_error == pytest.approx((loops.std() / 600**0.5).item(), rel=0.3)
        else:
            assert found.rows[0].mean.value == pytest.approx(
                run(fn, "normal", [size], 600, direct=False).rows[0].mean.value, rel=1e-12
            )


def test_only_normal_errors_have_normal_moments() -> None:
    for errors in ("laplace", "t:30", "uniform", "lognormal:0.01"):
        assert run(None, errors, [3], 20).rows[0].how == "drawn"


def test_a_few_rows_are_drawn_one_by_one() -> None:
    """Up to eight times as many samples as there are rows, that is quicker."""
    assert [row.how for row in run(None, torch.randn(10), [3, 80, 81, 10**9], 20).rows] == [
        "drawn",
        "drawn",
        *["direct"] * 2,
    ]


def test_far_shift_of_normal_errors() -> None:
    """A centred sum around a shift that is large beside the errors keeps its digits."""
    for row in run(lambda e: (e + 1e6).std(), "normal", [2, 30, 10**6], 1000).rows:
        sizes = torch.tensor(float(row.size))
        exact = 100 * math.sqrt(2 / (row.size - 1)) * math.exp(torch.lgamma(sizes / 2) - torch.lgamma((sizes - 1) / 2))
        assert near(row.mean, exact if row.size < 1000 else 100.0)
