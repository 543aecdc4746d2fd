"""Several recordings of one function, on different numbers of samples, become one Program.

Each Python number in an operation's arguments is fixed, follows the number of samples or the length of a selection, or
is free: known only when the function itself runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from batchproof.derive.kind import Kind
from batchproof.derive.recording import AnotherPath, Free, Op, Read, Recording, Ref, Size, Unrecordable, leaves
from batchproof.derive.site import CallSite
from batchproof.ground.place import Statement

#: Operations whose output is as long as the data says.
_SELECTIONS = {"aten::nonzero", "aten::masked_select", "aten::unique_dim", "aten::_unique2", "aten::unique_consecutive"}
_SELECTIONS |= {"aten::repeat_interleave", "aten::unique_dim_consecutive", "aten::_unique"}
_FACTORIES = {"aten::arange", "aten::linspace", "aten::logspace"}


@dataclass
class ProgramValue:
    """What one recorded value is; `classify` fills in kind and given."""

    index: int
    op: int | None
    shape: tuple[Any, ...]  # of int or Size
    dtype: torch.dtype
    kind: Kind = Kind.OPAQUE
    given: frozenset[Any] = frozenset()
    dim: int = 0  # along which rows concatenate
    blocks: int = 1  # how many times the samples stand one after another
    from_data: bool = False
    sizes: tuple[int, ...] = ()  # as first recorded
    strides: tuple[int, ...] = ()

    @property
    def varying(self) -> tuple[int, ...]:
        return tuple(d for d, size in enumerate(self.shape) if isinstance(size, Size))


@dataclass
class Program:
    """What a function does to a batch of any size, as a straight line of operations."""

    ops: list[Op]
    values: list[ProgramValue]
    inputs: tuple[int, ...]
    captured: dict[int, torch.Tensor]
    reads: list[Read]
    result: list[Any]
    spec: Any
    split: frozenset[int] = frozenset()
    free: list[tuple[Any, ...]] = field(default_factory=list)  # the recorded values of each Free number
    asked: set[int] = field(default_factory=set)  # values whose size Python looked at
    rounds: bool = False  # whether the function works under autocast
    lengths: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)  # of selections, in each run
    sizes: tuple[int, ...] = ()  # numbers of samples of the recordings
    others: list[list[Any]] = field(default_factory=list)  # the results of other ways
    first: int = 0  # how many of the operations are those of the first way
    ways: Sequence[Any] = ((),)  # what Python is told on each way
    same: list[int] = field(default_factory=list)  # for each value, the first one of the same content
    doubles: dict[int, set[int]] = field(default_factory=dict)  # by value, the steps of other ways that make it again

    def last_uses(self) -> dict[int, list[int]]:
        """For each operation, by number, the values that no later one takes."""
        last = {index: number for number, op in enumerate(self.ops) for index in (*op.outputs, *op.inputs)}
        found: dict[int, list[int]] = {}
        for index, number in last.items():
            found.setdefault(number, []).append(index)
        return found

    def site(self, value: int) -> CallSite:
        op = self.values[value].op
        return CallSite() if op is None else self.ops[op].site


def align(runs: Sequence[Recording], sizes: Sequence[int]) -> Program:
    """Lay recordings side by side; `content` then names values that are the same.

    Raises:
        Unrecordable: the function does different things on different numbers of samples.
    """
    first = runs[0]
    program = Program([], [], first.inputs, first.captured, first.reads, first.result, first.spec)
    program.asked = set().union(*(run.asked for run in runs))
    program.rounds = first.rounds
    program.sizes = tuple(sizes)
    program.others, program.first = first.others, first.first
    lengths = program.lengths
    for index in (*first.inputs, *first.captured):
        _value(program, runs, sizes, index, None, lengths, ())
    program.values.sort(key=lambda value: value.index)
    known = {value.index for value in program.values}
    ordered: dict[int, ProgramValue] = {value.index: value for value in program.values}
    for number, op in enumerate(first.ops):
        others = [run.ops[number] if number < len(run.ops) else None for run in runs]
        same = all(other is not None and _shape_of(other) == _shape_of(op) for other in others)
        if not same:
            raise AnotherPath(Statement("it takes another path on another number of samples", f" at {op.site}"))
        merged = _merge_numbers(program, [other for other in others if other is not None], sizes, lengths, ordered)
        program.ops.append(merged)
        for output in op.outputs:
            if output in known:
                continue
            ordered[output] = _value(program, runs, sizes, output, number, lengths, op.inputs, ordered)
            known.add(output)
    if any(len(run.ops) != len(first.ops) for run in runs):
        raise AnotherPath("it takes another path on another number of samples")
    if any(_result_shape(run) != _result_shape(first) for run in runs):
        raise Unrecordable("it returns results of another structure on another number of samples")
    program.values = [ordered[index] for index in sorted(ordered)]
    return program


def _result_shape(run: Recording) -> list[Any]:
    return [leaf if isinstance(leaf, Ref) else type(leaf) for end in (run.result, *run.others) for leaf in end]


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (int, float)) and not isinstance(leaf, bool)


def _shape_of(op: Op) -> tuple[Any, ...]:
    """All of an operation but its numbers."""

    def blank(leaf: Any) -> Any:
        return float if _is_number(leaf) else str(leaf) if isinstance(leaf, torch.dtype) else leaf

    parts = tuple(blank(leaf) for leaf in leaves((op.args, op.kwargs)))
    return (op.func, op.outputs, tuple(op.kwargs), parts)


def _merge_numbers(
    program: Program,
    ops: Sequence[Op],
    sizes: Sequence[int],
    lengths: dict[tuple[int, int], tuple[int, ...]],
    ordered: dict[int, ProgramValue],
) -> Op:
    op = ops[0]
    near = _sources(op.inputs, ordered)
    counts = _constant_counts(program, op, lengths, ordered)

    def settle(trees: Sequence[Any], by_value: bool) -> Any:
        tree = trees[0]
        if isinstance(tree, (tuple, list)):
            return type(tree)(settle([other[i] for other in trees], by_value) for i in range(len(tree)))
        counted = by_value and type(tree) is int and tree in counts
        if not _is_number(tree) or (all(_same(other, tree) for other in trees) and not counted):
            return tree
        if not by_value:
            size = _follow(trees, sizes, lengths, near)
            if size is not None:
                return size
        program.free.append(tuple(trees))
        return Free(len(program.free) - 1)

    schema = op.func._schema.arguments
    args = tuple(
        settle([other.args[i] for other in ops], _by_value(op.func, schema[i].type)) for i in range(len(op.args))
    )
    types = {argument.name: argument.type for argument in schema}
    kwargs = {key: settle([other.kwargs[key] for other in ops], _by_value(op.func, types[key])) for key in op.kwargs}
    return Op(op.func, args, kwargs, op.inputs, op.outputs, op.site, op.step, op.result)


def _constant_counts(
    program: Program, op: Op, lengths: dict[tuple[int, int], tuple[int, ...]], ordered: dict[int, ProgramValue]
) -> set[int]:
    """Numbers by which a mean or a variance divides, of a selection as long in each recording.

    The rows of a rare class are as many in each, and those of a class to come none: a number that is constant by
    accident.
    """
    constant = {of: seen[0] for (of, _), seen in lengths.items() if len(set(seen)) == 1}
    if not constant or op.func._schema.name not in ("aten::div", "aten::mul"):
        return set()
    found: set[int] = set()
    todo, met = list(op.inputs), set[int]()
    while todo:
        index = todo.pop()
        if index in met:
            continue
        met.add(index)
        if index in constant:
            found |= {constant[index], constant[index] - 1}
        number = ordered[index].op
        todo.extend(() if number is None else program.ops[number].inputs)
    return found


def _sources(inputs: Sequence[int], values: dict[int, ProgramValue]) -> list[tuple[int, int]]:
    """The selections whose lengths are among the inputs' sizes."""
    sizes = [size for index in inputs if index in values for size in values[index].shape if isinstance(size, Size)]
    return list(dict.fromkeys(size.of for size in sizes if size.of is not None))


def _same(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))


def _by_value(func: Any, kind: Any) -> bool:
    """Whether a number there enters the arithmetic (a divisor), not the shapes."""
    name = str(kind)
    return func._schema.name not in _FACTORIES and any(word in name for word in ("Tensor", "number", "Scalar", "float"))


def _follow(
    seen: Sequence[int],
    sizes: Sequence[int],
    lengths: dict[tuple[int, int], tuple[int, ...]],
    near: Sequence[tuple[int, int]],
) -> Size | None:
    """The length that a number follows: a selection among the inputs first, then the number of samples, then any."""
    for source in (*near, None, *lengths):
        base = sizes if source is None else lengths[source]
        fit = _affine(seen, base)
        if fit is not None:
            return Size(*fit, source)
    return None


def _affine(seen: Sequence[int], base: Sequence[int]) -> tuple[int, int] | None:
    pairs = sorted({*zip(base, seen, strict=False)})
    if any(not isinstance(value, int) for value in seen):
        return None
    (x0, y0), (x1, y1) = pairs[0], pairs[-1]
    if x1 == x0 or (y1 - y0) % (x1 - x0):
        return None
    scale = (y1 - y0) // (x1 - x0)
    offset = y0 - scale * x0
    return (scale, offset) if all(scale * x + offset == y for x, y in pairs) else None


def _value(
    program: Program,
    runs: Sequence[Recording],
    sizes: Sequence[int],
    index: int,
    op: int | None,
    lengths: dict[tuple[int, int], tuple[int, ...]],
    inputs: Sequence[int],
    ordered: dict[int, ProgramValue] | None = None,
) -> ProgramValue:
    tensors = [run.tensors[index] for run in runs]
    shape: list[Any] = []
    selects = op is not None and _selects(program.ops[op], ordered or {})
    near = _sources(inputs, ordered or {})
    if any(tensor.ndim != tensors[0].ndim for tensor in tensors):
        raise AnotherPath("a value has another rank on another number of samples")
    for d in range(tensors[0].ndim):
        seen = tuple(tensor.shape[d] for tensor in tensors)
        if selects and (d == 0 or len(set(seen)) > 1):
            lengths[index, d] = seen
            shape.append(Size(1, 0, (index, d)))
        elif any(lengths[key] == seen for key in near):
            shape.append(Size(1, 0, next(key for key in near if lengths[key] == seen)))
        elif len(set(seen)) == 1:
            shape.append(seen[0])
        else:
            size = _follow(seen, sizes, lengths, near)
            if size is None:
                lengths[index, d] = seen
                size = Size(1, 0, (index, d))
            shape.append(size)
    value = ProgramValue(
        index, op, tuple(shape), tensors[0].dtype, sizes=tuple(tensors[0].shape), strides=tensors[0].stride()
    )
    if op is None:
        program.values.append(value)
    return value


def _selects(op: Op, values: dict[int, ProgramValue]) -> bool:
    """Whether the data decides how long the output is."""
    name = op.func._schema.name
    if name in _SELECTIONS:
        return True
    if name == "aten::index":
        return any(
            isinstance(leaf, Ref) and values[leaf.index].dtype in (torch.bool, torch.uint8)
            for leaf in leaves(op.args[1])
        )
    return False
