"""Record: one run of a function on a batch, as a straight line of torch operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from batchproof.derive.record import record
from batchproof.derive.recording import RandomFunction, Ref
from stages import names_of, normal


def rmse(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def test_each_operation_is_written_down_with_its_line() -> None:
    run = record(rmse, [normal(4)])
    assert names_of(run.ops) == ["pow", "sum", "div", "sqrt"]
    assert {op.site.text for op in run.ops} == {"return x.square().mean().sqrt()"}


def test_operations_pass_values_on_by_number() -> None:
    run = record(rmse, [normal(4)])
    assert [(op.inputs, op.outputs) for op in run.ops] == [((0,), (1,)), ((1,), (2,)), ((2,), (3,)), ((3,), (4,))]
    assert run.inputs == (0,)
    assert run.result == [Ref(4)]


def test_every_tensor_that_was_seen_is_kept_to_be_compared() -> None:
    run = record(rmse, [normal(4)], batched={0})
    torch.testing.assert_close(run.tensors[3], normal(4).square().mean())


def test_a_mean_is_written_as_a_sum_and_a_division() -> None:
    """A mean over samples does not merge; a sum does."""
    run = record(lambda x: x.mean(), [normal(4)])
    assert names_of(run.ops) == ["sum", "div"]
    assert run.ops[0].step == run.ops[1].step  # of the function's own operations it is one


def test_other_steps_are_written_out_where_they_are_named() -> None:
    """Classifying names those that mix samples; within a sample an operation is better left whole."""
    whole = record(lambda x: x.norm(), [normal(4)])
    assert names_of(whole.ops) == ["linalg_vector_norm"]
    assert names_of(record(lambda x: x.norm(), [normal(4)], split=frozenset({0})).ops)[-2:] == ["sum", "sqrt"]


def test_what_python_reads_is_noted_with_what_it_saw() -> None:
    def fn(x: Tensor) -> Tensor:
        return x.sum() if x.max() > 100 else x.mean()

    (read,) = record(fn, [normal(4)]).reads
    assert read.seen is False
    assert read.site.text == "return x.sum() if x.max() > 100 else x.mean()"


def test_python_can_be_told_something_else_which_is_another_way_through_the_function() -> None:
    def fn(x: Tensor) -> Tensor:
        return x.sum() if x.max() > 100 else x.mean()

    run = record(fn, [normal(4)], ways=[(), (True,)])
    assert names_of(run.ops[: run.first]) == ["max", "gt", "_local_scalar_dense", "sum", "div"]
    assert names_of(run.ops[run.first :]) == ["max", "gt", "_local_scalar_dense", "sum"]
    assert len(run.others) == 1


def test_a_tensor_from_outside_the_arguments_is_a_capture() -> None:
    weight = torch.tensor([2.0])
    run = record(lambda x: (x * weight).sum(), [normal(4)])
    assert [tensor is weight for tensor in run.captured.values()] == [True]


def test_numbers_are_float64_although_the_function_sees_its_own_type() -> None:
    seen = []

    def fn(x: Tensor) -> Tensor:
        seen.append(x.dtype)
        return x.half().sum()

    run = record(fn, [normal(4).float()], shown=torch.float32)
    assert seen == [torch.float32]
    assert {tensor.dtype for tensor in run.tensors} == {torch.float64}


def test_writing_in_place_makes_a_new_value_and_leaves_the_input_as_it_was() -> None:
    x = normal(4)
    run = record(lambda x: x.clamp_(min=0).sum(), [x])
    assert names_of(run.ops) == ["clamp", "sum"]
    assert torch.equal(x, normal(4))


def test_a_function_that_draws_is_refused() -> None:
    with pytest.raises(RandomFunction, match="random numbers are drawn at"):
        record(lambda x: x + torch.rand(()), [normal(4)])
