"""Merge: how values become one, each way by itself."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from batchproof.derive.merge import ALL, ANY, MAX, MERGES, MIN, ROWS, SUM, Merge

CPU = torch.device("cpu")
EXAMPLES = [
    (SUM, [1.0, 2.0, -4.0], -1.0),
    (SUM, [1 + 1j, 2.0, 1j], 3 + 2j),
    (MAX, [1.0, 2.0, -4.0], 2.0),
    (MIN, [1.0, 2.0, -4.0], -4.0),
    (MAX, [1, 2, -4], 2),
    (ANY, [False, True, False], True),
    (ALL, [True, True, False], False),
]


@pytest.mark.parametrize(("merge", "values", "merged"), EXAMPLES)
def test_two_at_a_time_or_all_at_once(merge: Merge, values: list[complex], merged: complex) -> None:
    a, b, c = parts = [torch.tensor(value) for value in values]
    a, b, c = parts = [part.to(torch.complex64) for part in parts] if isinstance(merged, complex) else parts
    combine = merge.combiner(a.dtype)
    assert combine is not None
    assert combine(combine(a, b), c) == merge.join(parts) == merge.reduce(torch.stack(parts)) == merged


@pytest.mark.parametrize(("merge", "values", "merged"), EXAMPLES)
def test_the_identity_changes_nothing(merge: Merge, values: list[complex], merged: complex) -> None:
    value = torch.tensor(values)
    combine = merge.combiner(value.dtype)
    assert combine is not None
    assert torch.equal(combine(merge.identity(value.shape, value.dtype, CPU), value), value)


def test_rows_are_collected_and_joined_at_the_end() -> None:
    parts = [torch.ones(2, 1), torch.ones(2, 3)]
    assert ROWS.combiner(torch.float32) is None
    assert ROWS.join([*parts, ROWS.identity((2,), torch.float32, CPU)], 1).shape == (2, 4)


@pytest.mark.parametrize(("merge", "values", "merged"), [*EXAMPLES, (MAX, [1.0, float("nan"), 3.0], float("nan"))])
def test_over_processes_by_sums_and_extremes_alone(merge: Merge, values: list[complex], merged: complex) -> None:
    """As a backend does it: each wire reduced by its own operation, in a type that every backend knows."""
    reduce = {"SUM": torch.sum, "MAX": torch.amax, "MIN": torch.amin}
    ranks = [torch.tensor(value, dtype=torch.tensor(values).dtype) for value in values]
    wires = [merge.to_wires(value) for value in ranks]

    def reduced(number: int) -> Tensor:
        stacked = torch.stack([sent[number][1] for sent in wires])
        width = torch.float64 if stacked.is_floating_point() else torch.int64
        return reduce[wires[0][number][0]](stacked.to(width), 0)

    received = merge.from_wires(ranks[0], iter([reduced(number) for number in range(len(wires[0]))]))
    torch.testing.assert_close(received, torch.tensor(merged, dtype=ranks[0].dtype), equal_nan=True)


def test_infinity_beside_nan_stays_infinity_in_a_complex_sum() -> None:
    combine = SUM.combiner(torch.complex64)
    assert combine is not None
    value = torch.complex(torch.full((8,), float("inf")), torch.full((8,), float("nan")))
    assert torch.view_as_real(combine(torch.zeros_like(value), value))[:, 0].tolist() == [float("inf")] * 8


@pytest.mark.parametrize("merge", MERGES.values())
def test_there_is_one_of_each(merge: Merge) -> None:
    assert pickle.loads(pickle.dumps(merge)) is copy.deepcopy(merge) is merge is MERGES[str(merge)]
    assert repr(merge) == repr(merge.name)
