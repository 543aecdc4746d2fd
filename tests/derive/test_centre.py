"""Centre: a sum around a statistic, kept at a few fixed centres and moved to the statistic of the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from batchproof.derive.centred_sum import CentredSum, Extremes
from batchproof.derive.find_centres import find_extremes
from batchproof.derive.kind import Kind
from batchproof.derive.summand import Centre, SummandRows, conditional_slice
from stages import centred_sum, classified, made_by, names_of, normal


def squares(x: Tensor) -> Tensor:
    return (x - x.mean()).square().sum()


def cubes(x: Tensor) -> Tensor:
    return (x - x.mean()).pow(3).sum()


def exponentials(x: Tensor) -> Tensor:
    return (x - x.mean()).exp().sum()


def sines(x: Tensor) -> Tensor:
    return (x - x.mean()).sin().sum()


def sigmoids(x: Tensor) -> Tensor:
    return (x - x.mean()).sigmoid().sum()


def found(fn: Callable[..., Tensor], powers: bool = True) -> CentredSum:
    centred = centred_sum(fn, powers)
    assert centred is not None
    return centred


def test_the_summand_is_what_lies_between_the_samples_and_the_sum() -> None:
    program = classified(squares)
    summand = conditional_slice(program, made_by(program, "sum").index)
    assert names_of(summand.ops) == ["sub", "pow", "sum"]
    assert summand.rows == program.inputs
    assert summand.stats == (made_by(program, "div").index,)


@pytest.mark.parametrize("powers", [True, False])
@pytest.mark.parametrize(("fn", "rank"), [(squares, 3), (cubes, 4), (exponentials, 1), (sines, 2)])
def test_as_many_centres_are_kept_as_the_summand_has_rank(fn: Callable[..., Tensor], rank: int, powers: bool) -> None:
    assert len(found(fn, powers).centres) == rank


def test_a_polynomial_is_kept_as_power_sums_where_they_will_do() -> None:
    assert [at.powers for at in found(squares).centres] == [(0,), (1,), (2,)]
    assert [at.powers for at in found(squares, powers=False).centres] == [(), (), ()]


def test_no_few_centres_do_for_a_summand_of_infinite_rank() -> None:
    assert centred_sum(sigmoids) is None


@pytest.mark.parametrize("powers", [True, False])
@pytest.mark.parametrize(
    ("fn", "at_five"),
    [(squares, lambda x: (x - 5).square().sum()), (sines, lambda x: (x - 5).sin().sum())],
)
def test_the_sum_around_another_statistic_is_made_of_those_that_were_kept(
    fn: Callable[..., Tensor], at_five: Callable[..., Tensor], powers: bool
) -> None:
    centred, x = found(fn, powers), normal(1000)
    (row,), (stat,) = centred.summand.rows, centred.summand.stats
    kept = centred.summand.sums(centred.centres, SummandRows({row: x}, len(x), {}), {}).reshape(-1)
    moved = centred.combine(Centre({stat: torch.tensor(5.0, dtype=torch.float64)}, {}), kept, {})
    torch.testing.assert_close(moved.total, at_five(x))
    assert not moved.overflows


def test_how_much_of_a_sum_cancels_is_told_with_it() -> None:
    """Samples at a million, a statistic there and a state around zero: of the squares, nearly nothing is left."""
    centred, x = found(squares), normal(1000) + 1e6
    (row,), (stat,) = centred.summand.rows, centred.summand.stats
    kept = centred.summand.sums(centred.centres, SummandRows({row: x}, len(x), {}), {}).reshape(-1)
    near, far = (centred.combine(Centre({stat: mean}, {}), kept, {}).cancels for mean in (x.mean() * 0, x.mean()))
    assert near < 10
    assert far > 1e11


def test_of_a_distance_to_a_statistic_the_smallest_and_the_largest_sample_are_kept() -> None:
    program = classified(lambda x: (x - x.mean()).abs().amax())
    largest = made_by(program, "amax")
    assert largest.kind is Kind.MAX
    extremes = find_extremes(program, largest.index)
    assert isinstance(extremes, Extremes)
    kept = torch.tensor([7.0, 2.0], dtype=torch.float64)[:, None]  # the samples lay from -7 to 2
    (stat,) = extremes.summand.stats
    assert extremes.at(kept, Centre({stat: torch.tensor(1.0, dtype=torch.float64)}, {}), {}) == 8
