"""Counts that say all: of samples that come in few kinds, how many there are of each is enough for any sum over them.

``bincount(labels * 10 + logits.argmax(1), minlength=100)`` says how often each pair of a label and a guess came.
Whatever adds over samples and looks at nothing but the two is then known as well: what one sample of each pair would
add, times their number. So are extremes, over the pairs that came.

That the counts tell the pairs apart is never read off the first samples. A guess of ``argmax`` lies below the size of
its dimension. Of other numbers a `guard` is kept, their own counts: these have another shape where one is out of range,
and no fold lets that pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from batchproof.derive.merge import SUM, Merge
from batchproof.derive.operators import base_name
from batchproof.derive.program import Program, ProgramValue
from batchproof.derive.recording import Op, Ref, Size

aten = torch.ops.aten

#: One sample of each kind is folded once: so many kinds cost little.
MOST_KINDS = 1024

_SAME_VALUE = frozenset("detach alias clone lift_fresh _to_copy".split())


@dataclass(frozen=True)
class CountTable:
    """How often samples of each kind came, and what a kind is.

    Attributes:
        value: the counts, by their number in the program.
        roots: the values, one number for each sample, that tell the kinds apart.
        limits: each root is a whole number from 0 on, and below its limit.
        guarded: whether that has to be watched, of each root.
        dtypes: of the roots.
        factors: the place of a kind in the counts is the sum of its roots times these.
        size: of the counts.
    """

    value: int
    roots: tuple[int, ...]
    limits: tuple[int, ...]
    guarded: tuple[bool, ...]
    dtypes: tuple[torch.dtype, ...]
    factors: tuple[int, ...]
    size: int

    def kinds(self) -> list[tuple[tuple[int, ...], int]]:
        """Each kind by its roots, and its place in the counts."""
        found = []
        for roots in product(*map(range, self.limits)):
            place = sum(root * factor for root, factor in zip(roots, self.factors, strict=True))
            if place < self.size:
                found.append((roots, place))
        return found


def guard(root: str, limit: int) -> str:
    """The counts of one root, of which there are as many as its limit unless one is beyond it."""
    return f"{root}.bincount(None, {limit})"


def find_table(program: Program, index: int) -> CountTable | None:
    """The table that a kept value is; None where it counts something else, or too many kinds."""
    op = _maker(program, index)
    if op is None or op.func is not aten.bincount.default or _argument(op, "weights") is not None:
        return None
    size = _argument(op, "minlength")
    counted = _root(program, op.inputs[0])
    if type(size) is not int or not 0 < size <= MOST_KINDS or not _is_column(program.values[counted]):
        return None
    alone = CountTable(index, (counted,), (size,), (False,), (program.values[counted].dtype,), (1,), size)
    return _pair(program, index, counted, size) or alone


def _pair(program: Program, index: int, counted: int, size: int) -> CountTable | None:
    """A table of pairs: what is counted is one number times a factor, plus another number below that factor."""
    total = _maker(program, counted)
    if total is None or total.func is not aten.add.Tensor or total.kwargs or not _two_values(total):
        return None
    for outer, inner in (total.inputs, total.inputs[::-1]):
        scaled = _maker(program, _root(program, outer))
        if scaled is None or scaled.func is not aten.mul.Tensor or len(scaled.inputs) != 1:
            continue
        factor = next((leaf for leaf in scaled.args if type(leaf) is int), 0)
        roots = _root(program, scaled.inputs[0]), _root(program, inner)
        values = [program.values[root] for root in roots]
        if factor < 1 or roots[0] == roots[1] or not all(map(_is_column, values)) or not _is_wide(program, total):
            continue
        most = -(-size // factor), factor
        known = [_limit(program, root) for root in roots]
        if known[1] is not None and known[1] > factor:
            continue
        limits = tuple(min(most[i], known[i] or most[i]) for i in (0, 1))
        guarded = tuple(limit is None for limit in known)
        return CountTable(index, roots, limits, guarded, (values[0].dtype, values[1].dtype), (factor, 1), size)
    return None


def _two_values(op: Op) -> bool:
    return len(op.args) == 2 and all(isinstance(arg, Ref) for arg in op.args)


def _is_wide(program: Program, total: Op) -> bool:
    """Whether numbers up to any number of kinds fit into the types of a sum and of what is added."""
    wide = (torch.int64, torch.int32)
    made = all(program.values[i].dtype in wide for i in total.outputs)
    return made and all(program.values[i].dtype in (*wide, torch.bool) for i in total.inputs)


def _limit(program: Program, index: int) -> int | None:
    """Below which a value lies, at no less than 0, by its operator; None where that is not known."""
    value = program.values[_root(program, index)]
    if value.dtype is torch.bool:
        return 2
    op = _maker(program, value.index)
    if op is None or op.func is not aten.argmax.default:
        return None
    dim, shape = _argument(op, "dim"), program.values[op.inputs[0]].shape
    size = shape[dim] if type(dim) is int else None
    return size if type(size) is int else None


def _root(program: Program, index: int) -> int:
    """The value that another one is a copy of, perhaps in a wider type of whole numbers."""
    while True:
        op = _maker(program, index)
        if op is None or base_name(op) not in _SAME_VALUE or len(op.inputs) != 1:
            return index
        source, made = program.values[op.inputs[0]].dtype, program.values[index].dtype
        if source != made and not (_whole(source) and _whole(made) and made.itemsize >= source.itemsize):
            return index
        index = op.inputs[0]


def _whole(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex) and dtype is not torch.uint8


def _is_column(value: ProgramValue) -> bool:
    """Whether a value is one number for each sample."""
    return value.shape == (Size(1, 0),) and not (value.dtype.is_floating_point or value.dtype.is_complex)


def _maker(program: Program, index: int) -> Op | None:
    number = program.values[index].op
    return None if number is None else program.ops[number]


def _argument(op: Op, name: str) -> Any:
    """An argument of an operation by its name, as given or by default."""
    for place, argument in enumerate(op.func._schema.arguments):
        if argument.name == name:
            return op.args[place] if place < len(op.args) else op.kwargs.get(name, argument.default_value)
    return None


def expand(counts: Tensor, each: Tensor, merge: Merge) -> Tensor:
    """The value of samples of which so many came of each kind.

    Args:
        counts: of one table.
        each: what one sample of each kind gives, the kinds in front, in the order of the counts.
        merge: how values become one.
    """
    came = counts > 0
    each = each[came]
    if merge is SUM:  # a kind that did not come may be infinite: it adds nothing
        return (each * counts[came].to(each.dtype).reshape(-1, *[1] * (each.ndim - 1))).sum(0, dtype=each.dtype)
    return merge.reduce(each)


def sample_of(table: CountTable, roots: Sequence[int], device: torch.device) -> list[Tensor]:
    """The roots of one sample of a kind."""
    return [torch.tensor([root], device=device).to(dtype) for root, dtype in zip(roots, table.dtypes, strict=True)]
