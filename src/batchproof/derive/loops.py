"""Loops over samples: where each turn does the same, all turns are done at once.

``sum(loss(x, y) for x, y in zip(xs, ys)) / len(xs)`` takes another number of operations on another number of samples.
What one turn does is found by the operations alone: every turn must do the same to its own sample, with the same
numbers, and turns may meet in a sum of all of them, or be stacked. Then `Loop` is the same function without the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any

import torch
from torch.func import vmap
from torch.utils import _pytree as pytree

from batchproof.derive.diverged import Diverged
from batchproof.derive.operators import base_name
from batchproof.derive.record import record
from batchproof.derive.recording import Recording, Ref, Unrecordable, equal, leaves, replace
from batchproof.derive.samples import TensorBatch
from batchproof.derive.site import CallSite, standing_at
from batchproof.ground.place import Statement

#: Numbers of samples at which a loop is looked at: primes, so that no other size is one of them by accident.
SIZES = (5, 7, 11)


@dataclass(frozen=True)
class Following:
    """A Python number that follows the number of samples: ``scale * n + offset``, or its reciprocal."""

    scale: int
    offset: int
    inverse: bool
    kind: type[int | float]

    def at(self, n: int) -> float:
        number = self.scale * n + self.offset
        return self.kind(1 / number if self.inverse else number)


@dataclass(frozen=True)
class LoopStep:
    """One operation outside of the turns, or in one of them; values are named by labels."""

    func: Any
    args: Any
    outputs: tuple[Any, ...]
    site: CallSite

    def run(self, env: dict[Any, Any], n: int) -> None:
        args, kwargs = replace(
            self.args, (Ref, Following), lambda leaf: env[leaf.index] if isinstance(leaf, Ref) else leaf.at(n)
        )
        with standing_at(self.site):
            made = [leaf for leaf in leaves(self.func(*args, **kwargs)) if isinstance(leaf, torch.Tensor)]
        env.update(zip(self.outputs, made, strict=True))


@dataclass(frozen=True)
class Meeting:
    """Where all turns meet.

    Attributes:
        rows: the labels of what each turn takes its own part of, along which dimension, and of that part.
        body: what a turn does.
        ends: the labels of what it contributes.
        others: of what is added beside.
        along: the dimension along which contributions are stacked; None where they are added.
        outputs: the label of the result.
        site: the line of it.
    """

    rows: tuple[tuple[Any, int, Any], ...]
    body: tuple[LoopStep, ...]
    ends: tuple[Any, ...]
    others: tuple[Any, ...]
    along: int | None
    outputs: tuple[Any, ...]
    site: CallSite

    def run(self, env: dict[Any, Any], n: int) -> None:
        def turn(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
            own = {**env, **{label: part for (_, _, label), part in zip(self.rows, parts, strict=True)}}
            for step in self.body:
                step.run(own, n)
            return tuple(own[end] for end in self.ends)

        ends = vmap(turn, in_dims=tuple(d for _, d, _ in self.rows))(*(env[source] for source, _, _ in self.rows))
        with standing_at(self.site):
            if self.along is not None:
                env[self.outputs[0]] = ends[0].movedim(0, self.along)
                return
            total = ends[0].sum(0)
            for more in [*(end.sum(0) for end in ends[1:]), *(env[other] for other in self.others)]:
                total = total + more
            env[self.outputs[0]] = total


@dataclass(frozen=True)
class Loop:
    """A function without its loop over samples.

    Attributes:
        fn: the function as it is written.
        dims: the inputs' batch dimensions.
        shown: the floating dtype that it believes in.
        steps: what it does.
        captured: the tensors that it takes from outside, by label.
        result: what it returns.
        spec: in which structure.
    """

    fn: Callable[..., Any]
    dims: tuple[int | None, ...]
    shown: torch.dtype | None
    steps: tuple[LoopStep | Meeting, ...]
    captured: dict[Any, torch.Tensor]
    result: tuple[Any, ...]
    spec: Any

    def __call__(self, *tensors: torch.Tensor) -> Any:
        n = next(t.shape[d] for t, d in zip(tensors, self.dims, strict=True) if d is not None)
        env: dict[Any, Any] = {**self.captured, **{("input", k): t for k, t in enumerate(tensors)}}
        for step in self.steps:
            step.run(env, n)
        return pytree.tree_unflatten([env[x.index] if isinstance(x, Ref) else x for x in self.result], self.spec)

    def check(self, tensors: Sequence[torch.Tensor], n: int) -> None:
        """Raise Diverged where the function does anything else on so many samples; what they are does not matter.

        It runs on zeros, once through its loop: a millisecond or so for each sample.
        """
        if n < 2:
            return
        blank = [t if d is None else _zeros(t, d, n) for t, d in zip(tensors, self.dims, strict=True)]
        try:
            found = _Turns(record(self.fn, blank, shown=self.shown), n, self.dims).skeleton()
        except Unrecordable as error:
            raise Diverged(f"on all {n} samples: {error}") from None
        if not _fits(self, found, n):
            raise Diverged(
                Statement(
                    f"on all {n} samples the function does something else in its loop than on the first batch",
                    "; use state='rows' to keep the samples",
                )
            )


def _zeros(like: torch.Tensor, d: int, n: int) -> torch.Tensor:
    """So many samples, all of them one."""
    shape = list(like.shape)
    shape[d] = 1
    one: torch.Tensor = like.new_zeros(shape)
    shape[d] = n
    return one.expand(shape)


def without_loop(fn: Callable[..., Any], batch: TensorBatch, shown: torch.dtype | None) -> Loop:
    """The function with all turns of its loop at once.

    Raises:
        Unrecordable: its turns differ, or depend on each other.
    """
    found = []
    for n in SIZES:
        few = batch.take(torch.arange(n) % batch.n)
        found.append(_Turns(record(fn, few.tensors, shown=shown), n, batch.dims).skeleton())
    first = found[0]
    if any(not _alike(first, other) for other in found[1:]):
        raise Unrecordable("its loop does other things on another number of samples")
    settled = _settled([skeleton.steps for skeleton in found])
    return Loop(fn, batch.dims, shown, settled, first.captured, first.result, first.spec)


# ---------------------------------------------------------------------- what the turns do


@dataclass
class Skeleton:
    """What one recording comes to: each step once, values named by what they are made of."""

    steps: list[LoopStep | Meeting]
    captured: dict[Any, torch.Tensor]
    result: tuple[Any, ...]
    spec: Any


@dataclass(frozen=True)
class _Sum:
    """A sum of two values that turns contribute to, or of one and what was there before."""

    values: tuple[int, ...]
    site: CallSite


class _Turns:
    """Which turn of the loop each value of a recording belongs to, and what it is made of.

    Values are known by their content: the operation and the contents of what it takes. What a turn takes of the
    samples is content of its own, the same for every turn. So turns do the same where contents are the same.
    """

    def __init__(self, run: Recording, n: int, dims: Sequence[int | None]) -> None:
        if run.reads:
            raise Unrecordable(Statement("Python reads values in a loop", f", at {run.reads[0].site}"))
        self.run = run
        self.n = n
        self.label: dict[int, Any] = {}
        self.turn: dict[int, int] = {}
        self.sums: dict[int, _Sum] = {}
        self.names: dict[Any, int] = {}
        self.makers: dict[Any, LoopStep] = {}  # by label, in turns and outside
        self.rows: dict[Any, tuple[Any, int, Any]] = {}
        self.captured: dict[Any, torch.Tensor] = {}
        self.steps: list[LoopStep | Meeting] = []
        self.sampled: set[int] = set()
        for position, index in enumerate(run.inputs):
            self.label[index] = ("input", position)
            self.sampled.update([index] if dims[position] is not None else [])
        for index, tensor in run.captured.items():
            self.label[index] = self._captured(tensor)
        for op in run.ops:
            self._read(op)

    def skeleton(self) -> Skeleton:
        result = tuple(Ref(self._outside(leaf.index)) if isinstance(leaf, Ref) else leaf for leaf in self.run.result)
        return Skeleton(self.steps, self.captured, result, self.run.spec)

    def _captured(self, tensor: torch.Tensor) -> Any:
        for label, other in self.captured.items():
            if other is tensor or equal(other, tensor):
                return label
        label = ("outside", len(self.captured))
        self.captured[label] = tensor
        return label

    def _read(self, op: Any) -> None:
        if self._starts_turns(op):
            return
        turns = {self.turn[index] for index in op.inputs if index in self.turn}
        name = base_name(op)
        meet = len(turns) > 1 or any(index in self.sums and index not in self.turn for index in op.inputs)
        if meet and name == "stack":
            self._stack(op)
        elif meet and name == "add" and not op.kwargs and all(isinstance(leaf, Ref) for leaf in op.args):
            self.sums[op.outputs[0]] = _Sum(op.inputs, op.site)
        elif len(turns) > 1:
            raise Unrecordable(Statement("turns of a loop over samples depend on each other", f", at {op.site}"))
        else:
            self._alone(op, name, turns.pop() if turns else None)

    def _starts_turns(self, op: Any) -> bool:
        """Whether an operation gives each turn its sample."""
        name = base_name(op)
        if name not in ("unbind", "select") or op.inputs[0] not in self.sampled or op.inputs[0] in self.turn:
            return False
        source, d = op.inputs[0], op.args[1] if len(op.args) > 1 else 0
        shape = self.run.tensors[source].shape
        d %= len(shape)
        if shape[d] != self.n:
            return False
        row = (self._outside(source), d, ("part", self._outside(source), d))
        self.rows[row[2]] = row
        first = 0 if name == "unbind" else op.args[2] % self.n
        for turn, output in enumerate(op.outputs, first):
            self.label[output], self.turn[output] = row[2], turn
        return True

    def _alone(self, op: Any, name: str, turn: int | None) -> None:
        """An operation within one turn, or outside of them."""
        if name == "add" and not op.kwargs and turn is not None and len(op.args) == 2:
            if len(self._split(op.inputs)[0]) == 1:
                self.sums[op.outputs[0]] = _Sum(op.inputs, op.site)
            if op.args[1] == 0 and not isinstance(op.args[1], Ref):  # as in sum(…), which starts from 0
                self.label[op.outputs[0]], self.turn[op.outputs[0]] = self.label[op.inputs[0]], turn
                return
        args = replace((op.args, op.kwargs), Ref, lambda leaf: Ref(self._named(leaf.index, turn)))
        key = (op.func, repr(args))
        number = self.names.setdefault(key, len(self.names))
        labels = tuple(("value", number, place) for place in range(len(op.outputs)))
        step = LoopStep(op.func, args, labels, op.site)
        if turn is None and number == len(self.names) - 1 and labels not in self.makers:
            self.steps.append(step)
        self.makers[labels] = step
        for label, output in zip(labels, op.outputs, strict=True):
            self.makers.setdefault(label, step)
            self.label[output] = label
            if turn is not None:
                self.turn[output] = turn
            if not self.sampled.isdisjoint(op.inputs):
                self.sampled.add(output)

    def _named(self, index: int, turn: int | None) -> Any:
        return self.label[index] if turn is not None and index in self.turn else self._outside(index)

    def _outside(self, index: int) -> Any:
        """The label of a value outside of the turns; a sum of all turns is taken where it is first used."""
        if index in self.label and index not in self.turn:
            return self.label[index]
        if index not in self.sums or index in self.turn:
            raise Unrecordable("one turn of a loop over samples is used alone")
        parts, others = self._summed(index)
        ends = [[self.label[value] for value in parts.get(turn, ())] for turn in range(self.n)]
        if ends[0] != ends[-1] and ends[0] and parts[0][0] in self.sums:  # the first turn adds to what was there
            ((own,), before) = self._split(self.sums[parts[0][0]].values)
            ends[0][0] = self.label[own]
            others = [*before, *others]
        return self._meet(index, ends, tuple(map(self._outside, others)), None, self.sums[index].site)

    def _summed(self, index: int) -> tuple[dict[int, list[int]], list[int]]:
        """What each turn contributes to a sum, in order, and what else is in it."""
        parts: dict[int, list[int]] = {}
        others: list[int] = []
        todo = [index]
        while todo:
            value = todo.pop()
            if value in self.turn:
                parts.setdefault(self.turn[value], []).append(value)
            elif value in self.sums and value not in self.label:
                todo.extend(reversed(self.sums[value].values))
            else:
                others.append(value)
        return parts, others

    def _split(self, values: Sequence[int]) -> tuple[list[int], list[int]]:
        own = [value for value in values if value in self.turn]
        return own, [value for value in values if value not in self.turn]

    def _stack(self, op: Any) -> None:
        parts = list(leaves(op.args[0]))
        d = op.args[1] if len(op.args) > 1 else 0
        in_order = all(isinstance(x, Ref) and self.turn.get(x.index) == k for k, x in enumerate(parts))
        if not in_order or len(parts) != self.n:
            raise Unrecordable(Statement("turns of a loop over samples are joined in parts", f", at {op.site}"))
        rank = self.run.tensors[op.outputs[0]].ndim
        self._meet(op.outputs[0], [[self.label[x.index]] for x in parts], (), d % rank, op.site)
        self.sampled.add(op.outputs[0])

    def _meet(
        self, index: int, ends: list[list[Any]], others: tuple[Any, ...], along: int | None, site: CallSite
    ) -> Any:
        if any(own != ends[0] for own in ends) or not ends[0]:
            raise Unrecordable("the turns of a loop over samples do different things")
        body, rows = self._slice(ends[0])
        key = ("meeting", tuple(ends[0]), others, along)
        label = ("value", self.names.setdefault(key, len(self.names)), 0)
        self.steps.append(Meeting(tuple(rows), tuple(body), tuple(ends[0]), others, along, (label,), site))
        self.label[index] = label
        return label

    def _slice(self, ends: Sequence[Any]) -> tuple[list[LoopStep], list[tuple[Any, int, Any]]]:
        """What a turn does for what it contributes, and what it takes of the samples."""
        outside = {label for step in self.steps for label in step.outputs} | self.captured.keys()
        body: dict[tuple[Any, ...], LoopStep] = {}
        rows: dict[Any, tuple[Any, int, Any]] = {}

        def visit(label: Any) -> None:
            if label in self.rows:
                rows[label] = self.rows[label]
            if label in self.rows or label in outside or label not in self.makers:
                return
            step = self.makers[label]
            if step.outputs in body:
                return
            for leaf in leaves(step.args):
                if isinstance(leaf, Ref):
                    visit(leaf.index)
            body[step.outputs] = step

        for end in ends:
            visit(end)
        return list(body.values()), list(rows.values())


# ---------------------------------------------------------------------- on several numbers of samples


def _shape(step: LoopStep | Meeting) -> Any:
    """All of a step but its numbers."""
    if isinstance(step, Meeting):
        return (step.rows, tuple(map(_shape, step.body)), step.ends, step.others, step.along, step.outputs)
    parts = tuple(float if _is_number(leaf) else repr(leaf) for leaf in leaves(step.args))
    return (step.func, parts, step.outputs)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (int, float)) and not isinstance(leaf, bool)


def _alike(a: Skeleton, b: Skeleton) -> bool:
    same = list(map(_shape, a.steps)) == list(map(_shape, b.steps)) and a.spec == b.spec
    same = same and a.captured.keys() == b.captured.keys() and list(map(repr, a.result)) == list(map(repr, b.result))
    return same and all(equal(tensor, b.captured[label]) for label, tensor in a.captured.items())


def _settled(found: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """The steps with every number fixed, or following the number of samples."""
    return tuple(_settled_step(steps) for steps in zip(*found, strict=True))


def _settled_step(steps: Sequence[Any]) -> Any:
    first = steps[0]
    if isinstance(first, Meeting):
        body = _settled([step.body for step in steps])
        return replaced(first, body=body)
    return replaced(first, args=_settled_tree([step.args for step in steps]))


def _settled_tree(trees: Sequence[Any]) -> Any:
    tree = trees[0]
    if isinstance(tree, (tuple, list)):
        return type(tree)(_settled_tree([other[k] for other in trees]) for k in range(len(tree)))
    if isinstance(tree, dict):
        return {key: _settled_tree([other[key] for other in trees]) for key in tree}
    if not _is_number(tree) or all(other == tree for other in trees):
        return tree
    for inverse in (False, True):
        numbers = [1 / number if inverse and number else number for number in trees]
        scale = (numbers[-1] - numbers[0]) / (SIZES[-1] - SIZES[0])
        count = Following(round(scale), round(numbers[0] - round(scale) * SIZES[0]), inverse, type(tree))
        if all(count.at(n) == number for n, number in zip(SIZES, trees, strict=True)):
            return count
    raise Unrecordable("a number in its loop follows the number of samples in a way of its own")


def _fits(loop: Loop, found: Skeleton, n: int) -> bool:
    """Whether a skeleton on n samples is that of the loop."""

    def at(step: Any) -> Any:
        if isinstance(step, Meeting):
            return replaced(step, body=tuple(map(at, step.body)))
        return replaced(step, args=replace(step.args, Following, lambda count: count.at(n)))

    mine = Skeleton([at(step) for step in loop.steps], loop.captured, loop.result, loop.spec)
    return _alike(mine, found) and repr(mine.steps) == repr(found.steps)
