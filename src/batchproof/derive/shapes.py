"""Batches whose samples have different shapes: whether one merged state serves them all.

It does where the sizes of a sample enter nothing but the layout of tensors. A mean over all elements divides by a count
of them, a mean over a padded length by that length: then no single call of the function stands for all the samples
together, and the batches are refused. Operations and their numbers are compared, never values: two wrong means may
agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.cut import ancestors
from batchproof.derive.diverged import Diverged
from batchproof.derive.finish import Finisher
from batchproof.derive.kind import Kind
from batchproof.derive.operators import base_name
from batchproof.derive.plan import StatePlan
from batchproof.derive.program import Program
from batchproof.derive.recording import Free, Op, Ref, Size, leaves

#: Steps that keep the numbers in their order; whether they are copied hangs on how a tensor lies in memory.
_COPIES = ("clone", "alias")
_VIEWS = ("view", "_unsafe_view", "reshape")
#: What they work out along a dimension hangs on how long it is, beyond the sum of what is there.
_COUNTING = frozenset(
    """mean nanmean var std var_mean std_mean median nanmedian mode kthvalue quantile nanquantile flip roll
native_layer_norm native_group_norm linspace logspace""".split()
)
_SIZES = frozenset(
    "view _unsafe_view reshape expand zeros ones full empty new_zeros new_ones new_full new_empty".split()
)


class Unlike(Diverged):
    """Samples of different shapes that no one state serves."""


def check_folds(first: StatePlan, other: StatePlan) -> None:
    """Raise Unlike where a sample's own sizes enter what is folded."""
    ours, others = _steps(first), _steps(other)
    if [_kind(op) for op in ours] != [_kind(op) for op in others] or len(first.lengths) != len(other.lengths):
        raise Unlike(_sentence(first, other, "the function does other things to them"))
    _check_captured(first, other)
    a, b = _origins(first), _origins(other)
    for mine, theirs in zip(ours, others, strict=True):
        wired = [a[index] for index in mine.inputs] == [b[index] for index in theirs.inputs]
        if not wired or not _alike(first, other, mine, theirs):
            raise Unlike(_sentence(first, other, f"that size enters at {mine.site}"))


def _steps(plan: StatePlan) -> list[Op]:
    """The operations that fold a batch, without copies of the same numbers."""
    ops = [op for number, op in enumerate(plan.program.ops) if number not in plan.after]
    return [op for op in ops if plan.folds.intersection(op.outputs) and base_name(op) not in _COPIES]


def _kind(op: Op) -> Any:
    return "view" if base_name(op) in _VIEWS else op.func


def _origins(plan: StatePlan) -> dict[int, Any]:
    """Where each value comes from, in words that do not hang on copies and on how tensors lie in memory."""
    program = plan.program
    found: dict[int, Any] = {index: ("input", place) for place, index in enumerate(program.inputs)}
    found |= {index: ("outside", place) for place, index in enumerate(program.captured)}
    number = 0
    for op in program.ops:
        if base_name(op) in (*_COPIES, *_VIEWS):
            found[op.outputs[0]] = found[op.inputs[0]]
            continue
        number += 1
        found.update((output, (number, place)) for place, output in enumerate(op.outputs))
    return found


def _sentence(first: StatePlan, other: StatePlan, why: str) -> str:
    shapes = " and ".join(_shapes(plan) for plan in (first, other))
    return (
        f"batches came with samples of different shapes, {shapes}, and {why}: the value on all of them together "
        "depends on which shape those have. Pad them to one length, mask what was added, or take over='samples'"
    )


def _shapes(plan: StatePlan) -> str:
    program = plan.program
    values = [program.values[index] for index in program.inputs if program.values[index].from_data]
    return ", ".join(str(tuple(size for size in value.shape if not isinstance(size, Size))) for value in values)


def _check_captured(first: StatePlan, other: StatePlan) -> None:
    """The tensors from outside must be the same."""
    mine, theirs = first.program.captured, other.program.captured
    if len(mine) != len(theirs):
        raise Unlike(_sentence(first, other, "other tensors are taken from outside"))
    for (index, tensor), twin in zip(mine.items(), theirs.values(), strict=True):
        fixed = tensor is twin or (tensor.shape == twin.shape and torch.equal(tensor, twin))
        if index in first.folds and not fixed:
            raise Unlike(_sentence(first, other, f"another tensor is taken from outside ({tuple(tensor.shape)})"))


# ---------------------------------------------------------------------- what is folded


def _alike(first: StatePlan, other: StatePlan, mine: Op, theirs: Op) -> bool:
    """Whether an operation does the same to samples of both shapes."""
    a, b = first.program, other.program
    name = base_name(mine)
    if name in _COUNTING and _counts_along(mine, a, theirs, b):
        return False
    if name in ("select", "slice") and _from_the_end(mine, a, theirs, b):
        return False
    names = [argument.name for argument in mine.func._schema.arguments]
    given = [*zip(names, mine.args, theirs.args, strict=False)]
    given += [(key, value, theirs.kwargs.get(key)) for key, value in mine.kwargs.items()]
    return all(
        _same_numbers(x, y) or _is_layout(name, argument, x, y, (mine, a), (theirs, b)) for argument, x, y in given
    )


def _same_numbers(x: Any, y: Any) -> bool:
    mine, theirs = list(leaves(x)), list(leaves(y))
    return len(mine) == len(theirs) and all(_same_number(p, q) for p, q in zip(mine, theirs, strict=True))


def _same_number(p: Any, q: Any) -> bool:
    if isinstance(p, Ref) or isinstance(q, Ref):
        return isinstance(p, Ref) and isinstance(q, Ref)
    if isinstance(p, Free) or isinstance(q, Free):  # what it is at the end is compared there
        return isinstance(p, Free) and isinstance(q, Free)
    return bool(p == q or (p != p and q != q))


def _is_layout(name: str, argument: str, x: Any, y: Any, a: tuple[Op, Program], b: tuple[Op, Program]) -> bool:
    """Whether a number that differs only says where things lie."""
    if name in _VIEWS:
        return argument in ("size", "shape") and _splits_nothing(a, b)
    if name in _SIZES:
        return argument in ("size", "shape")
    if name == "arange":
        return argument == "end" and _follows_an_input(x, y, a[1], b[1])
    if name == "slice":
        return argument == "end" and _ends_alike(x, y, a, b)
    return False


def _splits_nothing(a: tuple[Op, Program], b: tuple[Op, Program]) -> bool:
    """Whether a view cuts no dimension whose length differs, but for samples that were laid end to end."""
    before, after = (
        _dimensions(a[1].values[mine].shape, b[1].values[theirs].shape)
        for mine, theirs in ((a[0].inputs[0], b[0].inputs[0]), (a[0].outputs[0], b[0].outputs[0]))
    )
    i = j = 0
    while i < len(before) and j < len(after):
        k, m = i + 1, j + 1
        while True:
            left, right = _product(before[i:k]), _product(after[j:m])
            if left == right:
                break
            short = any(p < q for p, q in zip(left, right, strict=True))
            k, m = (k + 1, m) if short else (k, m + 1)
            if k > len(before) or m > len(after):
                return False
        made = after[j:m]
        is_batch = len(made) == 2 and made[0].numbers == (_MANY, _MANY)
        if len(made) > 1 and any(one.differs for one in made) and not is_batch:
            return False
        i, j = k, m
    return i == len(before) and j == len(after)


@dataclass(frozen=True)
class _Dimension:
    """How long one dimension is for samples of either shape."""

    numbers: tuple[int, int]

    @property
    def differs(self) -> bool:
        return self.numbers[0] != self.numbers[1]


#: A number of samples that no other size is a multiple of.
_MANY = 1_000_003


def _dimensions(mine: Sequence[Any], theirs: Sequence[Any]) -> list[_Dimension]:
    pairs = [(_at_many(p), _at_many(q)) for p, q in zip(mine, theirs, strict=False)]
    return [_Dimension(pair) for pair in pairs if pair != (1, 1)]


def _at_many(size: Any) -> int:
    return size.at(_MANY, {size.of: _MANY} if size.of else {}) if isinstance(size, Size) else int(size)


def _product(dims: Sequence[_Dimension]) -> tuple[int, int]:
    return prod(one.numbers[0] for one in dims), prod(one.numbers[1] for one in dims)


def _follows_an_input(x: Any, y: Any, a: Program, b: Program) -> bool:
    """Whether a number is the length of one input, or by the same number off it."""
    if not isinstance(x, int) or not isinstance(y, int):
        return False
    return any(
        x - p == y - q
        for mine, theirs in zip(a.inputs, b.inputs, strict=True)
        for p, q in zip(a.values[mine].shape, b.values[theirs].shape, strict=True)
        if isinstance(p, int) and isinstance(q, int) and p != q
    )


def _ends_alike(x: Any, y: Any, a: tuple[Op, Program], b: tuple[Op, Program]) -> bool:
    """Whether a slice leaves off as much at the end; of a table that is the same for all, any length may be taken."""
    (mine, first), (theirs, other) = a, b
    d = mine.args[1] if len(mine.args) > 1 else 0
    p, q = first.values[mine.inputs[0]].shape[d], other.values[theirs.inputs[0]].shape[d]
    if p == q:
        return _follows_an_input(x, y, first, other)
    return isinstance(p, int) and isinstance(q, int) and x - p == y - q


def _from_the_end(mine: Op, a: Program, theirs: Op, b: Program) -> bool:
    """Whether a place is counted from the end of a dimension whose length differs."""
    d = mine.args[1] if len(mine.args) > 1 else 0
    start = mine.args[2] if len(mine.args) > 2 else 0
    differs = a.values[mine.inputs[0]].shape[d] != b.values[theirs.inputs[0]].shape[d]
    return differs and isinstance(start, int) and start < 0


def _counts_along(mine: Op, a: Program, theirs: Op, b: Program) -> bool:
    """Whether a dimension that is worked on has another length."""
    if not mine.inputs:
        return False
    p, q = a.values[mine.inputs[0]].shape, b.values[theirs.inputs[0]].shape
    names = [argument.name for argument in mine.func._schema.arguments]
    given = {**dict(zip(names, mine.args, strict=False)), **mine.kwargs}
    chosen = given.get("dim", given.get("dims"))
    places = range(len(p)) if chosen is None or chosen == [] else list(leaves(chosen))
    return any(p[d] != q[d] and not (isinstance(p[d], Size) and isinstance(q[d], Size)) for d in places)


# ---------------------------------------------------------------------- what comes after


def check_finishes(plans: Sequence[StatePlan], runs: Sequence[Finisher], results: Sequence[Any]) -> None:
    """Raise Unlike where a sample's own sizes enter what is computed from the merged state.

    Args:
        plans: one for each shape of samples.
        runs: how each came to its result, on the same state.
        results: these.
    """
    first = _story(plans[0], runs[0], results[0])
    for plan, run, result in zip(plans[1:], runs[1:], results[1:], strict=True):
        story = _story(plan, run, result)
        sites = [site for (mine, site), (other, _) in zip(first, story, strict=False) if mine != other]
        if sites or len(story) != len(first) or runs[0].free != run.free:
            where = next((f" at {site}" for site in sites if site is not None), "")
            raise Unlike(_sentence(plans[0], plan, f"that size enters{where}"))


def _story(plan: StatePlan, run: Finisher, result: Any) -> list[tuple[Any, Any]]:
    """The operations from the state to the result, with every number in them, in names that any plan shares."""
    program = plan.program
    names: dict[int, Any] = {index: ("leaf", place) for place, index in enumerate(plan.kept)}
    names |= {index: ("input", place) for place, index in enumerate(program.inputs) if index not in names}
    names |= {index: ("outside", place) for place, index in enumerate(program.captured) if index not in names}
    needed = _needed(plan)
    told: list[tuple[Any, Any]] = []
    for step in run.script:
        if not needed.intersection(step.op.outputs) and step.op.outputs and run.made.keys().isdisjoint(step.op.outputs):
            continue
        if base_name(step.op) in (*_COPIES, *_VIEWS):
            names[step.op.outputs[0]] = names[step.op.inputs[0]]
            continue
        told.append((_told(step, names, run), step.op.site))
        names.update((output, ("step", len(told), place)) for place, output in enumerate(step.op.outputs))
    for leaf in pytree.tree_leaves(result):
        known = isinstance(leaf, torch.Tensor) and id(leaf) in run.index
        told.append((names.get(run.index[id(leaf)]) if known else _number(leaf), None))
    return told


def _needed(plan: StatePlan) -> set[int]:
    """The values that are computed after the state, and those that no sample reaches which they take."""
    program = plan.program
    after = {index for number in plan.after for index in program.ops[number].outputs}
    taken = {i for number in plan.after for i in program.ops[number].inputs if program.values[i].kind is Kind.SHARED}
    return after | ancestors(program, taken)


def _told(step: Any, names: dict[int, Any], run: Finisher) -> Any:
    parts: list[Any] = []
    for leaf in leaves((step.args, list(step.kwargs.items()))):
        if isinstance(leaf, Ref):
            parts.append((names.get(leaf.index), tuple(run.values[leaf.index].shape)))
        elif isinstance(leaf, torch.Tensor):
            parts.append(("tensor", tuple(leaf.shape), _number(leaf)))
        else:
            parts.append(_number(leaf))
    return step.op.func, tuple(parts)


def _number(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        leaf = leaf.tolist()
    return "nan" if isinstance(leaf, float) and leaf != leaf else repr(leaf) if isinstance(leaf, list) else leaf


def nudge_state(leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A merged state near a given one: two results that agree there, too, do not agree by accident."""
    generator = torch.Generator().manual_seed(0)
    return [_moved(leaf, generator) if leaf.dtype.is_floating_point else leaf for leaf in leaves]


def _moved(leaf: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    by = 1 + 1e-3 * torch.rand(leaf.shape, generator=generator, dtype=torch.float64)
    return leaf * by.to(leaf.device, leaf.dtype)
