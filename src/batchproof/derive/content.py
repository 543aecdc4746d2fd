"""Content: which operations of a program compute the same, because they do the same to the same.

A function that goes several ways does most of it on each of them, and often twice on one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from batchproof.derive.program import Program
from batchproof.derive.recording import Free, Op, Recording, Ref, Size, equal, leaves, replace


def key_of(op: Op, named: Callable[[int], int], free: Callable[[int], int] = lambda position: position) -> Hashable:
    """What an operation does, and to which values.

    Args:
        op: aligned.
        named: the name of each value.
        free: of each Free number.
    """

    def part(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return Ref(named(leaf.index))
        if isinstance(leaf, Size):
            return renamed_size(leaf, named)
        if isinstance(leaf, Free):
            return Free(free(leaf.position))
        return repr(leaf) if isinstance(leaf, (bool, int, float, complex)) else str(leaf)  # 1, 1.0 and True differ

    layout = repr([_layout(op.args), sorted((name, _layout(leaf)) for name, leaf in op.kwargs.items())])
    return op.func, layout, tuple(part(leaf) for leaf in leaves((op.args, [op.kwargs[k] for k in sorted(op.kwargs)])))


def _layout(tree: Any) -> Any:
    return [_layout(leaf) for leaf in tree] if isinstance(tree, (tuple, list)) else None


def name_values(program: Program, runs: Sequence[Recording]) -> None:
    """Name each value after the first of the same content, and drop what other ways do again.

    Within one way two numbers that Python made are two, although they may be alike on these samples; from one way to
    the next, they are one where all recordings agree.
    """
    same = list(range(len(program.values)))
    _name_captured(program, runs, same)
    places: dict[tuple[Any, ...], list[int]] = {}
    for position, seen in enumerate(program.free):
        places.setdefault(seen, []).append(position)
    known: dict[tuple[Hashable, int], int] = {}
    ops: list[Op] = []
    program.doubles = {}
    for number, op in enumerate(program.ops):
        other_way = number >= program.first
        keys = [key_of(op, same.__getitem__)]
        if other_way:
            keys = _keys(program, op, same, places)
        key = next((key for key in keys if (key, 0) in known), keys[0])
        for place, output in enumerate(op.outputs):
            same[output] = known.setdefault((key, place), output)
        again = other_way and bool(op.outputs) and same[op.outputs[0]] != op.outputs[0]
        if again:
            program.doubles.setdefault(same[op.outputs[0]], set()).add(op.step)
        else:
            ops.append(_renamed(op, same.__getitem__) if other_way else op)
    program.same = same
    _keep(program, ops)


def _keys(program: Program, op: Op, same: Sequence[int], places: dict[tuple[Any, ...], list[int]]) -> list[Hashable]:
    """The operation's names with each Free number of the same recorded values in place of its own."""
    positions = {leaf.position for leaf in leaves((op.args, op.kwargs)) if isinstance(leaf, Free)}
    choices: list[dict[int, int]] = [{}]
    for position in positions:
        alike = places[program.free[position]]
        choices = [{**choice, position: other} for choice in choices for other in alike][:MOST_CHOICES]
    return [key_of(op, same.__getitem__, choice.__getitem__) for choice in choices]


#: So many ways of pairing Free numbers are looked at.
MOST_CHOICES = 64


def renamed_size(size: Size, named: Callable[[int], int]) -> Size:
    """A length, the selection that it follows under another name."""
    return size if size.of is None else Size(size.scale, size.offset, (named(size.of[0]), size.of[1]))


def _renamed(op: Op, named: Callable[[int], int]) -> Op:
    arguments = replace((op.args, op.kwargs), Ref, lambda ref: Ref(named(ref.index)))
    args, kwargs = replace(arguments, Size, lambda size: renamed_size(size, named))
    return Op(op.func, args, kwargs, tuple(map(named, op.inputs)), op.outputs, op.site, op.step, op.result)


def _name_captured(program: Program, runs: Sequence[Recording], same: list[int]) -> None:
    """A tensor that each way takes from outside is one; so is a constant that each way makes anew."""
    own = max((index for op in program.ops[: program.first] for index in op.outputs), default=0)
    for index, tensor in program.captured.items():
        for other, known in program.captured.items():
            if index <= own or other >= index:
                break
            if known is tensor or all(equal(run.tensors[index], run.tensors[other]) for run in runs):
                same[index] = same[other]
                break


def _keep(program: Program, ops: list[Op]) -> None:
    """Leave these operations, and say anew where values come from."""
    if len(ops) == len(program.ops):
        return
    named = program.same.__getitem__
    program.ops = ops
    makers = {output: number for number, op in enumerate(ops) for output in op.outputs}
    for value in program.values:
        value.op = makers.get(value.index)
        value.shape = tuple(renamed_size(size, named) if isinstance(size, Size) else size for size in value.shape)
    for read in program.reads:
        read.value = named(read.value)
    program.others = [replace(end, Ref, lambda ref: Ref(named(ref.index))) for end in program.others]
    program.asked = {named(index) for index in program.asked}
    program.lengths = {(of, d): seen for (of, d), seen in program.lengths.items() if named(of) == of}
