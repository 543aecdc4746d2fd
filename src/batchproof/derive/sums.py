"""How a sum is written: in float64 over samples, two factors as one product, truths as a count."""

from __future__ import annotations

from collections.abc import Callable

import torch

from batchproof.derive.program import Program, Value
from batchproof.derive.recording import Op, Ref

aten = torch.ops.aten
SUMS = (aten.sum.default, aten.sum.dim_IntList)


def summed(
    program: Program,
    op: Op,
    names: dict[int, str],
    assign: Callable[[str], str],
    merges: bool,
    last: bool,
    widened: bool,
) -> str | None:
    """A sum as Python; None where it is no sum, or nothing is gained.

    Args:
        program: that the operation is in.
        op: any operation.
        names: of the values so far.
        assign: gives a name to an expression.
        merges: it sums over samples, so in float64; else it stays in its own dtype.
        last: the sum is kept and not computed with, so a count may stay a whole number.
        widened: everything is float64 already.
    """
    if op.func not in SUMS:
        return None
    values = program.values
    source, result = values[op.args[0].index], values[op.outputs[0]].dtype
    rank = len(source.shape)
    dims, keep = (*op.args[1:], None, False)[:2] if len(op.args) < 3 else op.args[1:3]
    everything = not keep and (not dims or len(dims) == rank)
    over = "" if everything else ", ".join([str(dims[0] if len(dims) == 1 else dims), *(["True"] if keep else [])])
    truths = _truths(program, source)
    if truths is not None or not source.dtype.is_floating_point:
        name = names[source.index if truths is None else truths]
        if merges and result.is_floating_point and truths is None and source.dtype is torch.int64:
            return f"{name}.double().sum({over})"  # as a whole number it might wrap around
        whole = f"{name}.count_nonzero()" if everything and truths is not None else f"{name}.sum({over})"
        if result.is_floating_point and merges:
            return whole if last else f"{whole}.double()"
        return whole if result is torch.int64 else None
    if not result.is_floating_point:
        return None
    factors = _factors(program, source)
    if not merges and (op.kwargs or everything or factors is None):
        return None

    def wide(index: int) -> str:
        return assign(f"{names[index]}.double()") if merges and not widened else names[index]

    if factors is None:
        return f"{wide(source.index)}.sum({over})"
    left, right = (wide(index) for index in factors)
    if everything and rank != 1:
        left, right = assign(f"{left}.reshape(-1)"), assign(f"{right}.reshape(-1)")
    if everything:
        return f"dot({left}, {right})"
    if len(dims) == 1 and not keep:
        along = "" if dims[0] in (-1, rank - 1) else f", dim={dims[0]}"
        return f"vecdot({left}, {right}{along})"
    return f"{wide(source.index)}.sum({over})" if merges else None


def _maker(program: Program, value: Value) -> Op | None:
    return None if value.op is None else program.ops[value.op]


def _truths(program: Program, value: Value) -> int | None:
    """The truths that a value is, or was cast from."""
    if value.dtype is torch.bool:
        return value.index
    made = _maker(program, value)
    if made is None or made.func is not aten._to_copy.default or not made.inputs:
        return None
    return made.inputs[0] if program.values[made.inputs[0]].dtype is torch.bool else None


def _factors(program: Program, value: Value) -> tuple[int, int] | None:
    """Two floating values of one shape whose product a value is."""
    made = _maker(program, value)
    if made is None:
        return None
    if made.func is aten.square.default or (made.func is aten.pow.Tensor_Scalar and made.args[1] == 2):
        return made.inputs[0], made.inputs[0]
    if made.func is not aten.mul.Tensor or not all(isinstance(arg, Ref) for arg in made.args):
        return None
    left, right = (program.values[arg.index] for arg in made.args)
    alike = left.shape == right.shape and left.dtype.is_floating_point and right.dtype.is_floating_point
    return (left.index, right.index) if alike else None
