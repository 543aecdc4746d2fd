"""Classify: what each value of a program does when batches are joined. One operator at a time is in test_rules."""

from __future__ import annotations

import torch
from torch import Tensor

from batchproof.derive.classify import Classifier
from batchproof.derive.content import name_values
from batchproof.derive.kind import MERGEABLE, ROWLIKE, Kind, merge_of
from batchproof.derive.merge import MERGES
from batchproof.derive.program import align
from batchproof.derive.record import record
from stages import SIZES, classified, made_by, normal


def variance(x: Tensor) -> Tensor:
    mean = x.sum() / len(x)
    return (x - mean).square().sum()


def test_rows_then_a_sum_then_a_function_of_sums() -> None:
    program = classified(lambda x: x.square().sum().sqrt())
    assert [value.kind for value in program.values] == [Kind.ROWS, Kind.ROWS, Kind.SUM, Kind.STAT]


def test_what_no_sample_reaches_is_shared() -> None:
    weight = torch.tensor(2.0)
    program = classified(lambda x: (x * weight.exp()).sum())
    assert made_by(program, "exp").kind is Kind.SHARED


def test_what_comes_from_outside_and_changes_is_not_shared() -> None:
    calls: list[float] = []

    def fn(x: Tensor) -> Tensor:
        calls.append(0.0)
        return x.sum() * torch.tensor(float(len(x)))

    runs = [record(fn, [normal(n)]) for n in SIZES]
    program = align(runs, SIZES)
    name_values(program, runs)
    Classifier(program, runs, {0}).run()
    assert [program.values[index].kind for index in program.captured] == [Kind.STAT]


def test_a_sum_around_a_statistic_is_a_sum_given_that_statistic() -> None:
    program = classified(variance)
    mean, total = made_by(program, "div"), made_by(program, "sum")
    assert (total.kind, total.given) == (Kind.SUM, {mean.index})


def test_a_dependence_is_a_fact_of_the_dataflow_never_of_the_values() -> None:
    """All of the samples are below 100: the mean is never taken, and the sum depends on it all the same."""
    program = classified(lambda x: torch.where(x < 100, x, x.sum()).sum())
    total = made_by(program, "sum")
    assert total.kind is Kind.SUM
    assert total.given


def test_a_statistic_that_steers_a_comparison_makes_a_sum_opaque() -> None:
    program = classified(lambda x: (x > x.sum()).double().sum())
    assert made_by(program, "sum").kind is Kind.OPAQUE


def test_what_mixes_samples_is_opaque_and_so_is_all_that_is_made_of_it() -> None:
    program = classified(lambda x: x.median().exp())
    assert [made_by(program, name).kind for name in ("median", "exp")] == [Kind.OPAQUE, Kind.OPAQUE]


def test_every_kind_that_merges_has_a_merge() -> None:
    assert {merge_of(kind).name for kind in MERGEABLE} | {"rows"} == set(MERGES)
    assert merge_of(Kind.ROWS).name == "rows"
    assert not set(MERGEABLE) & set(ROWLIKE)
