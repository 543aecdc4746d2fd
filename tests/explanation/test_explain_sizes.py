"""The measurement by itself: averages over batches, the short last batch, sampling, and what counts as rounding."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from batchproof import BatchproofError, explain
from batchproof.explanation import measure
from batchproof.explanation.result import Curve, Reading
from batchproof.ground.components import names, values


def scorer(data: Tensor):  # type: ignore[no-untyped-def]
    return lambda lo, hi: data[lo:hi].pow(2).mean().sqrt().reshape(1)


def test_the_sizes_that_are_tried() -> None:
    assert measure.default_sizes(1) == [1]
    assert measure.default_sizes(2) == [1, 2]
    assert measure.default_sizes(442) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 442]
    assert measure.default_sizes(64) == [1, 2, 4, 8, 16, 32, 64]


def test_averages_agree_with_averages_made_by_hand() -> None:
    data = torch.randn(10, dtype=torch.float64)
    exact, (row,) = measure.measure(scorer(data), 10, [4])
    pieces = [data[:4], data[4:8], data[8:]]
    batches = [float(piece.pow(2).mean().sqrt()) for piece in pieces]
    assert exact.item() == pytest.approx(float(data.pow(2).mean().sqrt()))
    assert row.mean.item() == pytest.approx(sum(batches) / 3)
    assert row.dropped.item() == pytest.approx(sum(batches[:2]) / 2)
    assert row.weighted.item() == pytest.approx((4 * batches[0] + 4 * batches[1] + 2 * batches[2]) / 10)
    assert (row.batches, row.of, row.last) == (3, 3, 2)


def test_one_short_last_batch_moves_the_mean_of_a_mean_and_not_the_weighted_one() -> None:
    data = torch.arange(10, dtype=torch.float64)
    exact, (row,) = measure.measure(lambda lo, hi: data[lo:hi].mean().reshape(1), 10, [4])
    assert row.mean.item() == pytest.approx((1.5 + 5.5 + 8.5) / 3)
    assert row.weighted.item() == pytest.approx(exact.item()) == pytest.approx(4.5)


def test_many_batches_are_sampled_and_a_mean_has_no_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "CALLS", 64)
    monkeypatch.setattr(measure, "FEWEST_CALLS", 64)
    data = torch.randn(2000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact, (row,) = measure.measure(scorer(data), 2000, [2])
    assert (row.batches, row.of) == (64, 1000)
    assert row.standard_error is not None
    everything = data.reshape(-1, 2).pow(2).mean(1).sqrt().mean()
    assert abs(row.mean.item() - everything.item()) < 4 * row.standard_error.item() < 0.3
    _, (means,) = measure.measure(lambda lo, hi: data[lo:hi].mean().reshape(1), 2000, [2])
    assert means.mean.item() == pytest.approx(data.mean().item()), "a mean has no luck left"
    assert exact.shape == (1,)


def root(data: Tensor) -> Tensor:
    return data.square().mean().sqrt()


def climb(data: Tensor) -> Tensor:
    """It depends on the order of the samples."""
    return (data.abs().cumsum(0) * torch.linspace(1, 2, len(data), dtype=data.dtype)).mean()


def above(data: Tensor) -> Tensor:
    return (data > data.mean()).double().mean()


def sampled(fn: Callable[[Tensor], Tensor], data: Tensor, size: int, shuffled: bool) -> tuple[float, float, float]:
    """The mean of all batches, what is said of it from some of them, and the error that is said to have."""

    def score(lo: int, hi: int) -> Tensor:
        return fn(data[lo:hi]).reshape(1)

    _, (row,) = measure.measure(score, len(data), [size], shuffled=shuffled)
    assert row.standard_error is not None
    every = torch.stack([fn(batch) for batch in data.split(size)])
    return float(every.mean()), row.mean.item(), row.standard_error.item()


@pytest.mark.parametrize(
    ("fn", "size", "calls", "shuffled"),
    [
        (root, 1, 64, True),
        (root, 1, 512, True),
        (root, 4, 512, True),
        (Tensor.sum, 4, 512, True),
        (Tensor.max, 4, 512, True),
        (root, 2, 64, False),
        (climb, 1, 64, False),
    ],
    ids=["few", "root of 1", "root of 4", "sum", "maximum", "root in order", "climb in order"],
)
def test_an_error_covers_the_mean_of_all_batches(
    fn: Callable[[Tensor], Tensor], size: int, calls: int, shuffled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In about 95 of 100 trials two standard errors reach the truth."""
    monkeypatch.setattr(measure, "_allowed", lambda score, size, batches, n: calls)
    covered, trials = 0, 40
    for seed in range(trials):
        n = (3 * calls + 4 * seed) * size
        data = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        if not shuffled:
            data *= (torch.arange(n) * 3 // n) ** 2  # nothing at first, then more and more
        true, mean, error = sampled(fn, data, size, shuffled)
        covered += abs(mean - true) <= 2 * error
    assert covered >= 33  # of 40; with a chance of 0.95 each, fewer come once in 1,000 such tests


def test_an_error_says_what_is_known_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_allowed", lambda score, size, batches, n: 512)
    data = torch.randn(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert sampled(above, data, 1, shuffled=True)[:2] == (0.0, 0.0)
    _, mean, error = sampled(Tensor.mean, data, 8, shuffled=True)
    assert mean == pytest.approx(float(data.mean()))
    assert error < 1e-12


def bent(data: Tensor) -> Tensor:
    return data.mean().clamp(max=3)


@pytest.mark.parametrize("fn", [root, bent, lambda data: data.square().mean().square()])
@pytest.mark.parametrize("outliers", [1, 8])
def test_samples_that_outweigh_all_others_and_were_not_tried_are_in_the_error(
    fn: Callable[[Tensor], Tensor], outliers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_allowed", lambda score, size, batches, n: 512)
    data = torch.randn(8000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data[torch.arange(7000, 7000 + outliers)] = 1e4
    for size in (1, 4):
        true, mean, error = sampled(fn, data, size, shuffled=True)
        assert abs(mean - true) <= 4 * error


def test_a_mean_of_samples_in_their_order_has_no_luck_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_allowed", lambda score, size, batches, n: 64)

    def pairs(data: Tensor) -> Tensor:
        return (data[0::2] - data[1::2]).abs().mean()

    data = torch.randn(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.arange(4000)
    assert sampled(pairs, data, 4, shuffled=False)[1:] == (float(pairs(data)), 0.0)
    for length in (2000, 1000, 400, 80):  # neighbours are alike, and a root looks like a mean
        steps = torch.arange(4000.0, dtype=torch.float64) // length % 2
        true, mean, error = sampled(root, steps, 4, shuffled=False)
        assert abs(mean - true) < 4 * error


def test_batches_of_samples_in_their_order_are_drawn_from_all_of_them() -> None:
    data = torch.cat([torch.zeros(2100), torch.rand(1900, generator=torch.Generator().manual_seed(0))]).double()
    found = explain(climb, data, batch_sizes=[1])
    assert found.curve is not None
    (first,) = found.curve.readings
    assert first.is_sampled
    assert first.standard_error is not None
    assert abs(first.mean - float(data.mean())) < 4 * first.standard_error


def test_batches_that_fail_or_are_infinite_are_counted() -> None:
    data = torch.randn(12, dtype=torch.float64)

    def score(lo: int, hi: int) -> Tensor:
        if hi - lo == 1:
            raise RuntimeError("one is too few\nand more")
        return (1 / (data[lo:hi] * 0).sum() if hi - lo == 2 else data[lo:hi].mean()).reshape(1)

    _, rows = measure.measure(score, 12, [1, 2, 3, 12])
    assert [int(row.undefined) for row in rows] == [12, 6, 0, 0]
    assert rows[0].raised == "RuntimeError: one is too few"
    assert math.isnan(rows[0].mean.item())


def test_work_that_grows_like_the_square_gets_fewer_samples() -> None:
    calls = []

    def score(lo: int, hi: int) -> Tensor:
        calls.append(hi)
        return torch.zeros(1)

    assert measure.workable(score, 1000) == 1000
    assert calls == [], "few samples need no trial"
    assert measure.workable(score, 5000, seconds=-1) == 2048
    assert measure.workable(score, 5000) == 5000


def test_large_data_is_still_quick_and_says_what_was_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "CALLS", 32)
    found = explain(lambda x: x.square().mean().sqrt(), torch.randn(3000), batch_sizes=[1, 1000])
    assert "sampled: 32 of 3,000 batches of 1" in str(found)
    assert found.is_safe is False


def reading(size: int, mean: float) -> Reading:
    return Reading(size, 1, 1, 0, mean, mean, mean)


def test_errors_are_relative_to_the_value_unless_it_is_next_to_nothing() -> None:
    about = Curve(exact=2.0, readings=(reading(1, 1.0),), samples=8, of_samples=8)
    assert about.error(1.0) == -0.5
    small = Curve(exact=1e-9, readings=(reading(1, 1.0),), samples=8, of_samples=8, scale=1.0)
    assert small.error(0.5) == pytest.approx(0.5)
    assert small.is_exact(2e-9)
    zero = Curve(exact=0.0, readings=(), samples=8, of_samples=8)
    assert zero.error(0.0) == 0.0
    assert zero.error(1.0) == math.inf


def test_numbers_of_a_result_have_names() -> None:
    result = {"a": torch.ones(2), "b": (1.5, torch.ones(()))}
    assert names(result) == ["['a'][0]", "['a'][1]", "['b'][0]", "['b'][1]"]
    assert values(result).tolist() == [1.0, 1.0, 1.5, 1.0]
    assert names(torch.ones(())) == [""]
    assert len(values(torch.ones(1000))) == len(names(torch.ones(1000))) == 64
    with pytest.raises(BatchproofError):
        values("text")
