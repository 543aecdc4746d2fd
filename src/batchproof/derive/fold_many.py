"""Many batches of one size, folded at once: the fold under `vmap`, written out as straight-line code.

`vmap` costs more than the operations it maps where batches are short, so it is gone through once for each shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import vmap

from batchproof.derive.codegen import SUMS, CodeWriter, FoldCode
from batchproof.derive.finish_many import OneByOne, no_fallback_warning
from batchproof.derive.plan import StatePlan
from batchproof.derive.program import Program, align
from batchproof.derive.record import record
from batchproof.derive.recording import Op, widen
from batchproof.ground.text import first_line

#: A call of the fold costs little beside so many samples: then batches are folded one after the other.
LONG = 1 << 13

FoldMany = Callable[[Sequence[Tensor]], list[Tensor]]


def fold_many(
    plan: StatePlan, example: Sequence[Tensor], dims: Sequence[int | None], batches: int, size: int
) -> FoldMany:
    """What folds so many batches of one size, which lie one after another in the tensors.

    Args:
        plan: of a state without kept rows.
        example: such tensors.
        dims: their batch dimensions, None for what all batches share.
        batches: how many.
        size: samples in each.

    Returns:
        A function of such tensors; it gives the states, for each leaf of the plan with the batches first.

    Raises:
        OneByOne: the batches cannot be folded at once: what is selected differs from one to the other.
    """
    if plan.lengths:
        raise OneByOne("how many samples it selects differs from batch to batch")
    captured = plan.captured
    if size >= LONG or batches == 1:
        fold = plan.fold.compile()

        def one_by_one(tensors: Sequence[Tensor]) -> list[Tensor]:
            cut = _cut(tensors, dims, batches, size)
            parts = [
                [t if d is None else t.select(d, i) for t, d in zip(cut, dims, strict=True)] for i in range(batches)
            ]
            states = [torch.stack(leaf) for leaf in zip(*(fold(part, captured)[0] for part in parts), strict=True)]
            return as_kept(plan, states)

        return one_by_one
    fold = plan.fold.compile(dot=lambda a, b: (a * b).sum())

    def together(*tensors: Tensor) -> list[Tensor]:
        cut = _cut(tensors, dims, batches, size)
        with no_fallback_warning():
            states: list[Tensor] = vmap(lambda *x: fold(x, captured)[0], in_dims=tuple(dims))(*cut)
        return states

    straight = _straight(together, example, size)
    return lambda tensors: as_kept(plan, straight(tensors))


def as_kept(plan: StatePlan, states: Sequence[Tensor]) -> list[Tensor]:
    """In the types that states are kept in: a count comes as a whole number, and would be divided as one."""
    return [state.to(leaf.dtype) for leaf, state in zip(plan.leaves, states, strict=True)]


def _cut(tensors: Sequence[Tensor], dims: Sequence[int | None], batches: int, size: int) -> list[Tensor]:
    return [t if d is None else torch.unflatten(t, d, (batches, size)) for t, d in zip(tensors, dims, strict=True)]


def _straight(fn: Callable[..., list[Tensor]], example: Sequence[Tensor], size: int) -> FoldMany:
    """The operations of a function on tensors of these very shapes, without the function."""
    try:
        program = align([record(fn, example, pure=True)], [size])
        fold = _written_out(program)
        fold(example)
    except Exception as error:
        raise OneByOne(f"it cannot be folded at once ({first_line(error)})") from error
    return fold


def _written_out(program: Program) -> FoldMany:
    code = CodeWriter()
    names = {index: _input(code, program, index, place) for place, index in enumerate(program.inputs)}
    names |= {index: code.constant(widen(tensor)) for index, tensor in program.captured.items()}
    for op in program.ops:
        shorter = _shorter(code, program, op, names)
        if shorter is None:
            code.emit(program, op, names, widened=True)
        else:
            names[op.outputs[0]] = code.assign(shorter)
    returned = tuple(names[leaf.index] for leaf in program.result)
    fold = FoldCode(tuple(code.lines), returned, (), code.space).compile()
    return lambda tensors: fold(tensors, {})[0]


def _shorter(code: CodeWriter, program: Program, op: Op, names: dict[int, str]) -> str | None:
    """An operation that takes less time than torch's own, and gives the same; None where there is none.

    A sum of one term, of which batches of one sample have many, is that term. Values stacked along their last dimension
    are copied one after the other, if the memory is laid out for it.
    """
    if op.func is torch.ops.aten.stack.default:
        parts = code.render(op.args[0], names, True)
        return f"stack({parts}, 0).movedim(0, {op.args[1] if len(op.args) > 1 else 0})"
    if op.func not in SUMS:
        return None
    before, after = (program.values[index] for index in (op.inputs[0], op.outputs[0]))
    if math.prod(map(int, before.shape)) != math.prod(map(int, after.shape)):
        return None
    cast = "double()" if after.dtype.is_floating_point else f"to({code.constant(after.dtype)})"
    return f"{names[op.inputs[0]]}.reshape({list(after.shape)}).{cast}"


def _input(code: CodeWriter, program: Program, index: int, place: int) -> str:
    return code.assign(f"x[{place}].double()" if program.values[index].dtype.is_floating_point else f"x[{place}]")
