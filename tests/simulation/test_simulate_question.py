"""The question's own tables, and the closed form of its loss."""

from __future__ import annotations

import math

import numpy as np
import pytest

import batchproof as bp
from batchproof.simulation import Simulation, published
from simulated import near


@pytest.fixture(scope="module")
def direct() -> Simulation:
    return bp.simulate()


@pytest.fixture(scope="module")
def drawn() -> Simulation:
    return bp.simulate(batch_sizes=[1, 2, 3, 5, 9, 10, 100, 1000], direct=False)


@pytest.fixture(params=["direct", "drawn"])
def table(request: pytest.FixtureRequest) -> Simulation:
    found: Simulation = request.getfixturevalue(request.param)
    return found


def chi(b: int) -> float:
    """E sqrt(mean of b squares) of standard normal numbers, by Wallis' products: no gamma function."""
    value = math.sqrt(2 / math.pi) if b % 2 else math.sqrt(math.pi) / 2
    for k in range(1 if b % 2 else 2, b, 2):
        value *= (k + 1) / k * math.sqrt(k / (k + 2))
    return value


def test_every_published_figure_is_single_precision() -> None:
    for figure in (*published.POOLED.values(), *published.MEAN.values()):
        assert float(np.float32(figure)) == figure


def test_sizes_and_ways(direct: Simulation, drawn: Simulation) -> None:
    assert [row.size for row in direct.rows] == [1, 2, 3, 5, 9, 10, 100, 1000, 10_000, 100_000]
    assert {row.how for row in direct.rows} == {"direct"}
    assert {row.how for row in drawn.rows} == {"drawn"}
    for found in (direct, drawn):
        assert found.published == published.SOURCE
        assert all(row.batches == 10_000 and not row.undefined for row in found.rows)
        assert all(row.pooled_samples == 10_000 * row.size for row in found.rows)
        assert found.depends is True and found.exit_status == 1 and not found.interrupted


def test_published_tables(table: Simulation) -> None:
    """Both runs are random: the difference of two such numbers has twice the variance of one."""
    for row in table.rows:
        assert row.mean.published == published.MEAN[row.size]
        assert row.pooled.published == published.POOLED.get(row.size)
        assert near(row.mean, row.mean.published, row.mean.standard_error)
        if row.pooled.published is not None:
            theirs = 100 / math.sqrt(2 * 10_000 * row.size)  # of a root mean square of normal numbers
            assert near(row.pooled, row.pooled.published, theirs)


def test_closed_form(table: Simulation) -> None:
    assert table.expected_by == "closed form"
    for row in table.rows:
        assert row.mean.expected == pytest.approx(100 * chi(row.size), rel=1e-11)
        assert row.pooled.expected == pytest.approx(100, rel=1e-4)
        assert row.ratio.expected == pytest.approx(chi(row.size), rel=1e-4)
        for estimate in (row.mean, row.pooled, row.ratio):
            assert estimate.expected is not None and near(estimate, estimate.expected)
            assert estimate.deviations == (estimate.value - estimate.expected) / estimate.standard_error


def test_standard_errors_are_those_of_theory(table: Simulation) -> None:
    for row in table.rows:
        variance = 1 - chi(row.size) ** 2
        assert row.mean.standard_error == pytest.approx(100 * math.sqrt(variance / 10_000), rel=0.05)
        assert row.pooled.standard_error == pytest.approx(100 / math.sqrt(2e4 * row.size), rel=0.6)  # of 20 groups
        assert row.ratio.standard_error < row.mean.standard_error / 100


def test_what_the_headline_says(direct: Simulation) -> None:
    assert direct.headline == "averaged over batches, rmse is 1.5% too low at batch size 16, 0.2% at 128 (20.2% at 1)"
    assert direct.rows[0].shortfall == pytest.approx(1 - math.sqrt(2 / math.pi), rel=1e-4)


def test_published_figures_stand_only_beside_what_was_published() -> None:
    for options in ({"batches": 100}, {"scale": 1.0}, {"errors": "laplace"}, {"fn": lambda errors: errors.std()}):
        found = bp.simulate(**{"batch_sizes": [2, 10], "batches": 10_000, **options})
        assert not found.published
        assert all(row.mean.published is None and row.pooled.published is None for row in found.rows)


def test_any_size_costs_the_same_where_states_are_drawn() -> None:
    sizes = [10**6, 10**9, 10**12, 10**15]
    for row in bp.simulate(batch_sizes=sizes, batches=400).rows:
        assert row.how == "direct"
        assert row.mean.expected == pytest.approx(100 * (1 - 1 / (4 * row.size)), rel=1e-12)
        assert near(row.mean, row.mean.expected) and near(row.pooled, 100)
        assert row.mean.standard_error == pytest.approx(100 / math.sqrt(2 * row.size * 400), rel=0.2)
