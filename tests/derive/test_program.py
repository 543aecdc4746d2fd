"""Align: recordings on several numbers of samples become one program, its numbers explained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from batchproof.derive.recording import Free, Size, Unrecordable
from stages import SIZES, aligned, made_by, names_of


def test_a_size_that_grows_with_the_samples_follows_them() -> None:
    program = aligned(lambda x: x.new_ones(2 * len(x) + 1).sum())
    assert program.ops[0].args[1] == [Size(scale=2, offset=1)]
    assert made_by(program, "new_ones").shape == (Size(2, 1),)
    assert Size(2, 1).at(10, {}) == 21


def test_a_number_that_is_the_same_each_time_is_fixed() -> None:
    program = aligned(lambda x: x.new_ones(3) / 8)
    assert program.ops[0].args[1] == [3]
    assert program.ops[1].args[1] == 8


def test_a_number_that_enters_the_arithmetic_is_free() -> None:
    """A divisor may follow the samples today and be clamped tomorrow: the function itself will say what it is."""
    program = aligned(lambda x: x.sum() / len(x))
    assert program.ops[-1].args[1] == Free(0)
    assert program.free == [SIZES]


def test_the_length_of_a_selection_is_a_length_of_its_own() -> None:
    program = aligned(lambda x: x[x > 0].exp())
    selected = made_by(program, "index")
    length = (selected.index, 0)
    assert selected.shape == (Size(1, 0, of=length),)
    assert made_by(program, "exp").shape == selected.shape
    assert len(program.lengths[length]) == len(SIZES)


def test_the_operation_that_made_a_value_says_where() -> None:
    program = aligned(lambda x: x.exp().sum())
    assert program.site(made_by(program, "exp").index).text.startswith("program = aligned(lambda x: x.exp()")
    assert not program.site(program.inputs[0]).text


def test_the_last_use_of_a_value_is_where_its_memory_can_be_freed() -> None:
    program = aligned(lambda x: (x.exp() + x).sum())
    assert names_of(program.ops) == ["exp", "add", "sum"]
    assert program.last_uses()[1] == [1, 0]  # exp's output and the input


def test_a_selection_has_a_length_of_its_own_although_it_is_as_long_in_every_recording() -> None:
    program = aligned(lambda x: x[x >= x.topk(2).values.min()])
    selected = made_by(program, "index")
    assert selected.shape == (Size(1, 0, of=(selected.index, 0)),)


def other_operations(x: Tensor) -> Tensor:
    return x.exp() if len(x) < 6 else x.sin()


def more_operations(x: Tensor) -> Tensor:
    total = x.sum()
    if len(x) > 6:
        total.exp()
    return total


def other_results(x: Tensor) -> object:
    return x if len(x) < 6 else None


def other_ranks(x: Tensor) -> Tensor:
    return x.reshape([1] * len(x) + [-1])


@pytest.mark.parametrize("fn", [other_operations, more_operations, other_results, other_ranks])
def test_a_function_that_does_other_things_at_another_size_is_no_program(fn: object) -> None:
    with pytest.raises(Unrecordable, match="on another number of samples"):
        aligned(fn)  # type: ignore[arg-type]


def test_a_constant_is_captured_once() -> None:
    weight = torch.ones(())
    assert len(aligned(lambda x: x * weight + weight).captured) == 1
