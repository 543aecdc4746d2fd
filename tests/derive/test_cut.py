"""Cut: the cheapest values to keep, through which every path from the samples to the result passes."""

from __future__ import annotations

import pytest
from torch import Tensor

from batchproof.derive.cut import additive_stats, nbytes
from stages import classified, frontier_of, made_by, names_of


def kept(fn: object, centres: int = 0) -> list[str]:
    """The operations whose outputs are kept; ``samples`` for an input."""
    frontier, program = frontier_of(fn, centres)  # type: ignore[arg-type]
    makers = [program.values[leaf].op for leaf in frontier.leaves]
    return ["samples" if op is None else names_of([program.ops[op]])[0] for op in makers]


def test_a_sum_is_kept_instead_of_what_it_is_made_of() -> None:
    frontier, program = frontier_of(lambda x: x.square().sum().sqrt())
    assert frontier.leaves == (made_by(program, "sum").index,)


def test_what_comes_after_runs_at_the_end() -> None:
    frontier, program = frontier_of(lambda x: x.square().sum().sqrt().exp())
    assert names_of(program.ops[number] for number in sorted(frontier.after)) == ["sqrt", "exp"]


def test_samples_are_kept_where_nothing_merges() -> None:
    assert kept(lambda x: x.median()) == ["samples"]


def test_two_sums_that_are_added_are_kept_as_one() -> None:
    program = classified(lambda x: x.exp().sum() + x.sum())
    assert additive_stats(program) == {made_by(program, "add").index}
    assert kept(lambda x: x.exp().sum() + x.sum()) == ["add"]
    assert kept(lambda x: x.exp().sum() * x.sum()) == ["sum", "sum"]


def test_what_python_reads_must_be_right_at_the_end_as_well() -> None:
    assert kept(lambda x: x.sum() if x.max() > 100 else -x.sum()) == ["max", "sum"]


def variance(x: Tensor) -> Tensor:
    mean = x.sum() / len(x)
    return (x - mean).square().sum()


@pytest.mark.parametrize(("centres", "leaves"), [(3, ["sum", "sum"]), (0, ["samples"])])
def test_a_sum_around_a_statistic_is_kept_where_a_few_centres_do(centres: int, leaves: list[str]) -> None:
    assert kept(variance, centres) == leaves


def test_a_value_costs_its_bytes_and_rows_cost_those_of_a_sample() -> None:
    program = classified(lambda x: (x[:, None] * x.new_ones(3)).sum(0))
    assert nbytes(made_by(program, "sum")) == 3 * 8
    assert nbytes(made_by(program, "mul")) == 3 * 8
    assert nbytes(made_by(classified(lambda x: (x > 0).any()), "any")) == 1
