"""Functions that decide by their samples: the promise holds, and nothing is refused when the samples are gone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

import batchproof as bp
from branching import FIRST, function_of, samples_of
from promise import difference, fresh, stream

SIZES = (FIRST, 7, 1, 60, 52)


def ended(seed: int) -> str:
    """How a stream through one function ended, and that it ended well."""
    function, source = function_of(seed)
    columns = samples_of(seed)
    try:
        expected = function(*fresh(columns))
    except (RuntimeError, ZeroDivisionError):  # the largest of none
        return "no value"
    outcome = stream(function, list(zip(*(column.split(SIZES) for column in columns), strict=True)))
    if outcome.kind == "refused":
        late = outcome.metric.n_samples == sum(SIZES)
        return "refused at the end" if late else "refused"
    problem = difference(outcome.value, expected, 1e-7)
    assert problem is None, f"{seed}: {problem}\n{source}\n{outcome.metric.plan}"
    return outcome.kind


def tally(first: int) -> Counter[str]:
    return Counter(ended(seed) for seed in range(first, first + 30))


#: The 76th has ways that are found at random only.
FEW = 60


def test_functions_that_decide_by_their_samples() -> None:
    ends = tally(FEW)
    assert ends["constant"] > 15
    assert ends["refused at the end"] == ends["refused"] == 0, ends


@pytest.mark.long
@pytest.mark.parametrize("first", [first for first in range(0, 6000, 30) if first != FEW])
def test_many_functions_that_decide_by_their_samples(first: int) -> None:
    ends = tally(first)
    assert ends["refused at the end"] <= 1, ends


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.long) for first in range(10, 40, 10))])
def test_ranks_that_see_other_samples_first_find_the_same_ways(first: int) -> None:
    merged = 0
    for seed in range(first, first + 10):
        function, source = function_of(seed)
        parts = [samples_of(seed), samples_of(seed + 1)]
        try:
            expected = function(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
            metrics = [stream(function, [part]).metric for part in parts]
            metrics[0].merge_state(metrics[1])
        except (RuntimeError, ZeroDivisionError, bp.BatchproofError):
            continue
        problem = difference(metrics[0].compute(), expected, 1e-7)
        assert problem is None, f"{seed}: {problem}\n{source}"
        merged += 1
    assert merged > 4
