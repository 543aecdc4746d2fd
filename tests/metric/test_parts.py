"""The small parts of a stream, by the formulas: the jackknife, whose samples are whose, the reservoir, cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import batchproof as bp
from batchproof.ground.batch import read
from batchproof.metric.jackknife import standard_error
from batchproof.metric.order import depends_on_order
from batchproof.metric.origin import Origin, shares
from batchproof.metric.per_sample import per_sample
from batchproof.metric.reservoir import Reservoir, Sample, mixed

D = torch.float64


def call(*args: Any) -> Any:
    return read(lambda *a: a, args, {}, 0, None)


@pytest.mark.parametrize("statistic", [torch.mean, torch.std, torch.amax])
def test_the_jackknife_of_unequal_groups(statistic: Callable[[Tensor], Tensor]) -> None:
    groups = [torch.tensor(values, dtype=D) for values in ([1.0, 2.0, 4.0], [3.0], [0.0, 5.0], [2.0, 2.0, 8.0, 1.0])]
    n, whole = 10, statistic(torch.cat(groups))
    error = standard_error(lambda some: statistic(torch.cat([groups[g] for g in some])), [3, 1, 2, 4])
    left_out = [statistic(torch.cat([x for x in groups if x is not group])) for group in groups]
    centre = 4 * whole - sum((1 - len(x) / n) * out for x, out in zip(groups, left_out))
    pseudo = [n / len(x) * whole - (n / len(x) - 1) * out for x, out in zip(groups, left_out)]
    squares = [(value - centre) ** 2 / (n / len(x) - 1) for x, value in zip(groups, pseudo)]
    torch.testing.assert_close(error, torch.stack(squares).mean().sqrt())


def test_the_jackknife_of_equal_groups_is_the_error_of_their_means() -> None:
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=D)
    error = standard_error(lambda some: x[list(some)].mean(), [5] * 8)
    torch.testing.assert_close(error, x.mean(1).std() / 8**0.5)


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ([Origin({}, {}, frozenset(), "a", 0, 3), Origin({}, {}, frozenset(), "b", 0, 2)], ["own", "own"]),
        ([Origin({"a": 3, "b": 2}, {"a": 3}), Origin({"a": 3, "b": 2}, {"b": 2})], ["own", "own"]),
        ([Origin({"a": 3}, {"a": 3}), Origin({"a": 3}, {"a": 3}, frozenset(), "b", 0, 2)], ["held", "since"]),
        ([Origin({"a": 3}, {"a": 3}), Origin({"a": 3}, {"a": 3})], ["held", "none"]),
        ([Origin({"a": 3, "c": 1}, {"a": 3}), Origin({"a": 3, "c": 1}, {})], ["held", "none"]),
        ([Origin({"a": 3, "c": 1}, {"a": 3}), Origin({}, {}, frozenset({"c"}), "b", 0, 2)], ["own", "own"]),
    ],
    ids=[
        "new samples",
        "after a sync",
        "one checkpoint, then more",
        "one checkpoint",
        "fewer ranks",
        "reset elsewhere",
    ],
)
def test_what_each_rank_gives(ranks: list[Origin], expected: list[str]) -> None:
    assert shares(ranks) == expected


def test_ranks_that_share_some_samples_are_refused() -> None:
    with pytest.raises(bp.BatchproofError, match="share some"):
        shares([Origin({"a": 3, "b": 1}, {"a": 3}), Origin({"a": 3, "c": 1}, {"a": 3})])


def test_a_reservoir_of_two_streams_is_of_both() -> None:
    few, many = (
        Sample([call(torch.tensor([float(k + base)])) for k in range(64)], n) for base, n in ((0, 100), (1000, 900))
    )
    found = mixed([few, many])
    from_many = sum(row.leaves[0].item() >= 1000 for row in found.rows)
    assert found.n == 1000
    assert len(found.rows) == 64
    assert 48 <= from_many <= 63  # 57.6 expected, with a standard deviation of 2.4


def test_a_reservoir_moves_on() -> None:
    reservoir = Reservoir()
    reservoir.take(call(torch.arange(10_000, dtype=D)))
    places = sorted(row.leaves[0].item() for row in reservoir.rows)
    assert places[32] > 63  # more than those of the beginning
    assert places[0] < 5_000 < places[-1]
    assert places[32] < 9_000  # and more than those of the end


def test_whether_order_matters() -> None:
    x = call(torch.randn(30, dtype=D))
    assert depends_on_order(lambda x: x.diff().abs().sum(), x)
    assert not depends_on_order(lambda x: x.std(), x)


def test_a_function_that_draws_has_no_value_on_samples() -> None:
    with pytest.raises(bp.BatchproofError, match="random"):
        per_sample(lambda x: (x * torch.rand(x.shape)).sum(), call(torch.ones(5)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64])
def test_extremes_of_numbers_on_one_side_of_zero(dtype: torch.dtype) -> None:
    """A group without samples has nothing to say about the largest number, zero neither."""

    def ends(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.amax(), x.amin()

    for shift in (-1000, 1000):
        metric, again = bp.exact(ends), bp.exact(ends)
        x = (torch.arange(100) + shift).to(dtype)
        metric.update(x)
        again.load_state_dict(metric.state_dict())
        assert again.compute() == ends(x)


@pytest.mark.parametrize("before", [0, 1, 30])
def test_a_state_that_was_merged_goes_its_own_way(before: int) -> None:
    """A state so large that it is added into: two buffers take turns, and a copy has its own."""

    def outer(x: Tensor) -> Tensor:
        return x.t() @ x

    metric, other, third = (bp.exact(outer) for _ in range(3))
    x = torch.randn(150, 20, 100, generator=torch.Generator().manual_seed(0), dtype=D)
    y = torch.randn(30, 20, 100, generator=torch.Generator().manual_seed(1), dtype=D)[:before]
    for part in y:
        other.update(part)
    if before:
        third.update(y[0])
        metric.merge_state(third)
    for part in x[:60]:  # three to a group
        metric.update(part)
    other.merge_state(metric)
    for part in x[60:]:
        metric.update(part)
    torch.testing.assert_close(other.compute(), outer(torch.cat([y, y[: min(before, 1)], x[:60]]).flatten(0, 1)))
    torch.testing.assert_close(metric.compute(), outer(torch.cat([y[: min(before, 1)], x]).flatten(0, 1)))


def test_what_a_fold_returns_is_copied() -> None:
    """A fold may return what it was given, and the caller may write into that afterwards."""

    def middle(x: Tensor) -> Tensor:
        return x[:, 0].median()

    metric = bp.exact(middle)
    x = torch.randn(100, 50, generator=torch.Generator().manual_seed(0), dtype=D)
    for part in x.split(20):
        given = part.clone()
        metric.update(given)
        given.zero_()
    assert metric.plan.row_nbytes == 8  # of a view of what was given
    assert metric.compute() == middle(x)
