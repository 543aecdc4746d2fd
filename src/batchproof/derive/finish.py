"""Finish: the user's own function runs again, at the true number of samples, on the merged state.

Work on samples is skipped: their place is taken by stand-ins of the right shape that hold no memory. Where the
function reaches a value that was kept, the merged value goes in, and from there on everything is real. So sizes,
branches and Python numbers are the function's own at that size.

As long as it does what was recorded on its first way, operations are known by their number. From where it strays, they
are known by what they do to what. What it does to merged values needs no recording; where it does something else to
samples than what was folded, it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from batchproof.derive.centred_sum import CentredSum, Extremes
from batchproof.derive.decompose import at_once
from batchproof.derive.diverged import Diverged
from batchproof.derive.kind import Kind
from batchproof.derive.program import Program
from batchproof.derive.record import Tape, Way
from batchproof.derive.recording import Free, Op, Ref, Size, call, equal, leaves, outputs_of, replace, widen
from batchproof.derive.site import CallSite, call_site
from batchproof.derive.stand_in import Shapes, StandIn, stand_in
from batchproof.derive.summand import Centre
from batchproof.ground.place import Statement


@dataclass
class State:
    """Merged leaves, the lengths of selections, and the number of samples."""

    leaves: list[torch.Tensor]
    lengths: list[int]
    n: int


@dataclass(frozen=True)
class FinishStep:
    """An operation as it was run for real, with the Python numbers of this number of samples.

    It works on merged values, or, where it is ``shared``, on what no sample reaches.
    """

    op: Op
    args: Any
    kwargs: Any
    shared: bool


class Finisher(Tape):  # type: ignore[no-untyped-call]
    """Runs the operations after the frontier; hands out stand-ins before it."""

    def __init__(
        self,
        program: Program,
        after: frozenset[int],
        folds: frozenset[int],
        kept: dict[int, torch.Tensor],
        lengths: dict[tuple[int, int], int],
        centred: dict[int, CentredSum | Extremes],
        n: int,
        nudge: float,
        way: Way,
    ) -> None:
        super().__init__(program.split)
        self.ahead = list(way)
        self.reads = 0
        self.strayed: Diverged | None = None  # from the way that was recorded first: how
        self.by_content: dict[Any, list[int]] = {}
        self.alike: dict[int, list[int]] = {}  # values of the same content
        self.made: dict[int, Kind] = {}  # the kinds of values that were not recorded
        self.outside: set[int] = set()  # those that no operation made
        self.program = program
        self.after = after
        self.folds = folds
        self.kept = kept
        self.lengths = lengths
        self.centred = centred
        self.n = n
        self.shapes = Shapes(program, n, lengths)
        self.nudge = nudge
        self.number = 0
        self.index: dict[int, int] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.real: set[int] = set()
        self.free: dict[int, Any] = {}
        self.device = next(iter(kept.values())).device if kept else torch.device("cpu")
        self.alive: list[torch.Tensor] = []
        self.lost = 0.0  # the worst share of a centred sum that cancels
        self.script: list[FinishStep] = []
        self.reads_data = False
        self.asks_size = False

    def asked(self, tensor: torch.Tensor) -> None:
        self.asks_size = True

    def hold(self, index: int, tensor: torch.Tensor, real: bool) -> torch.Tensor:
        if id(tensor) in self.index and self.index[id(tensor)] != index:
            tensor = tensor.detach() if real else stand_in(tensor, tensor.device)
        self.values[index] = tensor
        self.index[id(tensor)] = index
        if real:
            self.real.add(index)
        if self.strayed:
            self.share(index)
        return tensor

    def share(self, index: int) -> None:
        """Put a value in the place of all of its content: a sum's statistics are named by one of them."""
        if index in self.real and index < len(self.program.same):
            for twin in self.alike.get(self.program.same[index], ()):
                self.values[twin] = self.values[index]
                self.real.add(twin)

    def overwrite(self, old: torch.Tensor, new: torch.Tensor) -> None:
        index = self.index[id(new)]
        if index in self.real and type(old) is not StandIn:
            old.copy_(new)
        self.index[id(old)] = index
        self.alive.append(old)

    def ref(self, tensor: torch.Tensor) -> Any:
        tensor = self.origin(tensor)
        index = self.index.get(id(tensor))
        return tensor if index is None else Ref(index)

    def splits(self, func: Any, args: Any, kwargs: Any) -> bool:
        if self.strayed is None or at_once(func, args, kwargs):
            return super().splits(func, args, kwargs)
        template = replace((args, kwargs), torch.Tensor, self.ref)
        return not self.all_real(template) and self.content(func, template) not in self.by_content

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        template = replace((args, kwargs), torch.Tensor, self.ref)
        op = self.recorded(func, template)
        template = replace(template, torch.Tensor, self.ref)  # captures are known now
        if op is None:
            op = self.unrecorded(func, template)
            template = op.args, op.kwargs
        elif not self.runs(op, template):
            return self.stand_in(op, template)
        result = call(func, template[0], template[1], self.lookup)
        self.reads_data |= self.python_sees(op, result)
        if isinstance(result, (bool, int, float, complex)):
            result = self.answer(result)
        if not op.outputs and op.step < 0:
            op.outputs = tuple(self.new(self.kind_of(op)) for leaf in leaves(result) if isinstance(leaf, torch.Tensor))
        self.script.append(FinishStep(op, template[0], template[1], self.shared(op)))
        held = [self.hold(output, leaf, True) for output, leaf in outputs_of(op, result).items()]
        return _rebuild(result, held)

    def runs(self, op: Op, template: Any) -> bool:
        """Whether a recorded operation is run for real."""
        if self.strayed is None and (self.number - 1 in self.after or not op.outputs or self.shared(op)):
            return True
        computed = all(self.kind(output) in (Kind.SHARED, Kind.STAT) for output in op.outputs)
        return (computed or bool(self.strayed and op.inputs)) and self.all_real(template)

    def may_differ(self, op: Op, template: Any) -> bool:
        """Whether an operation may be done with other numbers: it is run for real, and the fold knew nothing of it."""
        return self.runs(op, template) and not (self.shared(op) and op.outputs and self.folds.issuperset(op.outputs))

    def all_real(self, template: Any) -> bool:
        return all(leaf.index in self.real for leaf in leaves(template) if isinstance(leaf, Ref))

    def recorded(self, func: Any, template: Any) -> Op | None:
        """The recorded operation that this is; None where it works on merged values, and was not recorded."""
        ops = self.program.ops
        if self.strayed is None:
            number, self.number = self.number, self.number + 1
            if number < self.program.first and ops[number].func is func:
                try:
                    self.match(ops[number], template, self.may_differ(ops[number], template))
                    return ops[number]
                except Diverged as how:
                    self.stray(how)
            else:
                self.stray(self.astray())
        kept = self.kept.keys() | self.centred.keys()
        candidates = [ops[number] for number in self.by_content.get(self.content(func, template), ())]
        for op in sorted(candidates, key=lambda op: kept.isdisjoint(op.outputs)):
            try:
                self.match(op, template, False)
            except Diverged:
                continue
            return op
        if not self.all_real(template):
            self.refuse(self.strayed or self.astray())
        return None

    def stray(self, how: Diverged) -> None:
        """From here on, know operations by their content."""
        self.strayed = how
        for number, op in enumerate(self.program.ops):
            self.by_content.setdefault(self.content(op.func, (op.args, op.kwargs)), []).append(number)
        for index, named in enumerate(self.program.same):
            self.alike.setdefault(named, []).append(index)
        for index in list(self.real):
            self.share(index)

    def content(self, func: Any, template: Any) -> Any:
        """What an operation does to which values; its numbers, and what it takes from outside, are left open."""
        captured = self.program.captured

        def name(leaf: Any) -> Any:
            known = isinstance(leaf, Ref) and leaf.index not in captured and leaf.index not in self.outside
            return self.name(leaf.index) if known else None

        tensors = [leaf for leaf in leaves(template) if isinstance(leaf, (Ref, torch.Tensor))]
        return func, tuple(name(leaf) for leaf in tensors)

    def unrecorded(self, func: Any, template: Any) -> Op:
        """An operation on merged values that no recording has."""

        def known(tensor: torch.Tensor) -> Ref:
            index = self.new(Kind.SHARED)
            self.outside.add(index)
            self.keep_outside(index, tensor)
            return Ref(index)

        args, kwargs = replace(template, torch.Tensor, known)
        inputs = tuple(leaf.index for leaf in leaves((args, kwargs)) if isinstance(leaf, Ref))
        return Op(func, args, kwargs, inputs, (), call_site(), -1)

    def new(self, kind: Kind) -> int:
        index = len(self.program.values) + len(self.made)
        self.made[index] = kind
        return index

    def kind(self, index: int) -> Kind:
        return self.made[index] if index in self.made else self.program.values[index].kind

    def kind_of(self, op: Op) -> Kind:
        return Kind.SHARED if all(self.kind(index) is Kind.SHARED for index in op.inputs) else Kind.STAT

    def given(self, index: int) -> bool:
        """Whether a value that no sample reaches was made by no operation."""
        if index in self.made:
            return index in self.outside
        return self.program.values[index].op is None and self.unreached(index)

    def unreached(self, index: int) -> bool:
        """Whether a value is the same for all states: taken from outside the function, or made of such alone."""
        return index in self.program.captured or self.kind(index) is Kind.SHARED

    def answer(self, seen: Any) -> Any:
        """What Python is told where it reads a value, and whether that leads away from the first way."""
        number, self.reads = self.reads, self.reads + 1
        told = self.ahead[number] if number < len(self.ahead) and self.ahead[number] is not None else seen
        first = self.program.ways[0]
        expected = first[number] if number < len(first) else None
        if self.strayed is None and isinstance(expected, bool) and told != expected:
            self.stray(self.astray())
        return told

    def shared(self, op: Op) -> bool:
        """Whether no sample reaches the operation: then it costs nothing to run it."""
        return all(self.kind(output) is Kind.SHARED for output in op.outputs)

    def python_sees(self, op: Op, result: Any) -> bool:
        """Whether a number that comes from samples leaves torch."""
        numbers = any(isinstance(leaf, (bool, int, float, complex)) for leaf in leaves(result))
        return numbers and any(self.kind(index) is not Kind.SHARED for index in op.inputs)

    def lookup(self, leaf: Any) -> Any:
        if leaf.index not in self.real:
            self.refuse(Diverged(Statement("a value that was not kept is needed", f" at {call_site()}")))
        return self.values[leaf.index]

    def astray(self) -> Diverged:
        """That the function does not do what was recorded as the latest operation."""
        number = min(self.number, self.program.first) - 1
        site = self.program.ops[number].site if self.program.ops else CallSite()
        return Diverged(
            Statement(
                f"on all {self.n} samples the function goes another way than on the first batch",
                f", near {call_site()} (there: {site}); use state='rows' to keep the samples",
            )
        )

    def match(self, op: Op, template: Any, free: bool) -> None:
        """The arguments must be the recorded ones, at this number of samples.

        Args:
            op: recorded.
            template: the arguments.
            free: whether numbers may be others: it runs for real, with its real numbers.

        Raises:
            Diverged: they are others.
        """
        recorded, actual = list(leaves((op.args, op.kwargs))), list(leaves(template))
        if len(recorded) != len(actual):
            raise self.astray()
        numbers: dict[int, Any] = {}
        outside: dict[int, torch.Tensor] = {}
        for expected, given in zip(recorded, actual, strict=False):
            if isinstance(given, torch.Tensor):
                outside[self.captured(expected, given, free)] = given
            elif isinstance(expected, Free):
                if self.strayed and self.free.get(expected.position, given) != given:
                    raise self.astray()  # another number than the one that it was
                numbers[expected.position] = given
            elif not free or not isinstance(given, (int, float)) or isinstance(expected, Ref):
                self.match_leaf(op, expected, given)
        self.free.update(numbers)
        for index, tensor in outside.items():
            self.keep_outside(index, tensor)

    def match_leaf(self, op: Op, expected: Any, given: Any) -> None:
        """An argument must be the recorded one, at this number of samples.

        Raises:
            Diverged: it is another.
        """
        if isinstance(expected, Size):
            if expected.of is not None and expected.of not in self.lengths:
                raise self.astray()
            expected = expected.at(self.n, self.lengths)
        if self.alike_leaves(expected, given):
            return
        if not isinstance(given, (int, float)):
            raise self.astray()
        raise Diverged(
            Statement(
                f"on all {self.n} samples the function uses {given} where the batches had it use {expected}",
                f", at {op.site}; use state='rows' to keep the samples",
            )
        )

    def alike_leaves(self, expected: Any, given: Any) -> bool:
        if self.strayed and isinstance(expected, Ref) and isinstance(given, Ref):
            return self.name(expected.index) == self.name(given.index)
        if self.strayed and type(expected) is not type(given):
            return False  # 1 and 1.0 make different tensors
        return bool(given == expected) or (given != given and expected != expected)

    def name(self, index: int) -> int:
        return self.program.same[index] if index < len(self.program.same) else index

    def captured(self, expected: Any, given: torch.Tensor, free: bool) -> int:
        """A tensor that no operation made: the one recorded, or a constant of the same value."""
        if not isinstance(expected, Ref) or expected.index not in self.program.captured:
            raise self.astray()
        known = self.program.captured[expected.index]
        fixed = self.program.values[expected.index].kind is Kind.SHARED or self.strayed
        if known is not given and fixed and not free and not equal(known, given):
            raise Diverged(
                Statement(
                    "a tensor that the function takes from outside its arguments has changed",
                    f", at {call_site()}; pass it as an argument, or use state='rows'",
                )
            )
        return expected.index

    def is_blank(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor stands for a value that was not kept."""
        return id(tensor) in self.index and self.index[id(tensor)] not in self.real

    def keep_outside(self, index: int, tensor: torch.Tensor) -> None:
        self.values[index] = widen(tensor.detach())
        self.real.add(index)
        self.index[id(tensor)] = index
        self.kept.setdefault(-1 - index, tensor)  # keeps the object, and so its identity, alive

    def stand_in(self, op: Op, template: Any) -> Any:
        result: Any = self.shapes.known(op)
        if result is None:
            device = {key: "meta" for key in template[1] if key == "device"}
            try:
                result = call(op.func, template[0], {**template[1], **device}, self.meta)
            except (NotImplementedError, RuntimeError):  # the operation has no kernel for shapes alone
                result = self.shapes.outputs(op)
        held = [self.hold(output, *self.kept_or_blank(output, leaf)) for output, leaf in outputs_of(op, result).items()]
        return _rebuild(result, held)

    def meta(self, leaf: Any) -> torch.Tensor:
        value = self.values[leaf.index]
        made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        return made.conj() if value.is_conj() else made

    def kept_or_blank(self, output: int, meta: torch.Tensor) -> tuple[torch.Tensor, bool]:
        if output in self.centred:
            return self.moved(output), True
        if output in self.kept:
            return self.kept[output].clone(), True  # torch marks what a view operation returns: each run its own
        return stand_in(meta, self.device), False

    def moved(self, leaf: int) -> torch.Tensor:
        """A sum kept at fixed centres, at the centre that the function arrives at."""
        parts = self.centred[leaf]
        at = Centre({index: self.values[index] for index in parts.summand.stats}, self.free)
        shared = {index: value for index, value in self.values.items() if index in self.real}
        kept = self.kept[leaf]
        if isinstance(parts, Extremes):
            return parts.at(kept, at, shared)
        found = parts.combine(at, kept, shared, self.nudge)
        plain = [leaf for index, leaf in self.kept.items() if index >= 0 and index not in self.centred]
        finite = all(bool(torch.isfinite(x).all()) for x in [*at.stats.values(), *plain])
        if finite and bool(found.overflows):
            self.refuse(
                Diverged(
                    Statement(
                        "a sum left the range of float64",
                        f" at {self.program.site(leaf)}: the batches lie too far from the first; use state='rows' to "
                        "keep the samples",
                    )
                )
            )
        self.lost = max(self.lost, float(found.cancels))
        return found.total


def _rebuild(result: Any, held: list[torch.Tensor]) -> Any:
    remaining = iter(held)
    return replace(result, torch.Tensor, lambda leaf: next(remaining, leaf))
