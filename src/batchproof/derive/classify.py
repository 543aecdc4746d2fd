"""What each value of a Program does when batches are joined.

A kind is a consequence of the operator, of its arguments, and of the kinds of its inputs (`rules`); the values that
the user's first batch happens to hold decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from batchproof.derive.kind import MERGEABLE, ORDERED, Kind
from batchproof.derive.operators import ADDS, ANALYTIC, EXACT_ARITHMETIC, SHAPE_ONLY, VIEWS, base_name
from batchproof.derive.placement import OPAQUE, Application, Placement, ValueFacts
from batchproof.derive.program import Program, ProgramValue
from batchproof.derive.recording import Free, Op, Recording, Ref, Size, leaves
from batchproof.derive.rules import arguments_follow, mask_of, place
from batchproof.derive.trial import tried

#: Filled with zeros, whatever the arguments; and moved about, zeros stay zeros.
_ZEROS = frozenset({"zeros", "zeros_like", "new_zeros", "zero"})
_FILLED = frozenset({"full", "full_like", "new_full", "fill"})


class Classifier:
    """Writes each value's kind into a Program.

    Args:
        program: aligned.
        runs: the recordings that it was made of.
        batched: the positions of the inputs that carry samples; along which dimension is written in the values.
    """

    def __init__(self, program: Program, runs: Sequence[Recording], batched: set[int]) -> None:
        self.program = program
        self.runs = runs
        self.convex: set[int] = set()
        self.known = ValueFacts()
        for position, index in enumerate(program.inputs):
            value = program.values[index]
            value.from_data = position in batched
            value.kind = Kind.ROWS if position in batched else Kind.SHARED
        for index in program.captured:
            program.values[index].kind = Kind.SHARED if self._constant(index) else Kind.STAT

    def _constant(self, index: int) -> bool:
        """Whether a tensor from outside is the same in all recordings."""
        first = self.runs[0].tensors[index]
        return all(_equal(run.tensors[index], first) for run in self.runs)

    def run(self) -> None:
        for op in self.program.ops:
            self._classify(op)

    def _classify(self, op: Op) -> None:
        values = self.program.values
        app = Application(op, values, self.known)
        free = [leaf for leaf in leaves((op.args, op.kwargs)) if isinstance(leaf, Free)]
        from_data = any(value.from_data for value in app.tensors)
        name = base_name(op)
        self._name_lengths(app)
        self.known.zeros.update(op.outputs if self._gives_zeros(op, name) else ())
        for output in app.outputs:
            output.from_data = from_data
        if not app.rowlike and not arguments_follow(op):
            plain = all(value.kind is Kind.SHARED for value in app.tensors) and not free
            for output in app.outputs:
                output.kind = Kind.SHARED if plain else Kind.STAT
            return
        given = frozenset() if name in SHAPE_ONLY else self._given(app, free)
        placed = place(app)
        if placed is None:
            placed = app.all(OPAQUE) if free else tried(app, lambda index: self.runs[0].tensors[index])
        for position, (output, placement) in enumerate(zip(app.outputs, placed, strict=True)):
            output.given = given
            found = self._conditional(app, name, output, placement, position) if given else placement
            output.kind, output.dim, output.blocks = found.kind, found.dim, found.blocks

    def _name_lengths(self, app: Application) -> None:
        """Give selections by one mask one length."""
        mask = mask_of(app)
        if mask is not None:
            sizes = [size for output in app.outputs for size in output.shape if isinstance(size, Size)]
            named = ("where", self.program.same[mask])
            self.known.lengths.update({size.of: named for size in sizes if size.of is not None})

    def _given(self, app: Application, free: list[Free]) -> frozenset[Any]:
        """The batch statistics that the outputs depend on. Zeros depend on nothing."""
        given: frozenset[Any] = frozenset().union(*(value.given for value in app.rowlike))
        steering = {v.index for v in app.tensors if v.kind in (Kind.STAT, *MERGEABLE)} - self.known.zeros
        return given | steering | set(free)

    def _gives_zeros(self, op: Op, name: str) -> bool:
        if name in _ZEROS:
            return True
        if name in _FILLED:
            fill = op.args[-1]
            return isinstance(fill, (int, float)) and fill == 0
        moves = name in VIEWS or name in ("reshape", "contiguous", "lift_fresh_copy")
        return moves and bool(op.inputs) and all(index in self.known.zeros for index in op.inputs)

    def _conditional(
        self, app: Application, name: str, value: ProgramValue, placement: Placement, position: int
    ) -> Placement:
        """The placement of a value that depends on batch statistics: these must enter analytically."""
        op = app.op
        if (kind := self._extreme(op, name, value)) is not None:
            return placement if placement.kind == kind else OPAQUE
        if any(index in self.convex for index in op.inputs):
            return OPAQUE
        smooth = value.dtype.is_floating_point or value.dtype.is_complex or (name in VIEWS and name != "_to_copy")
        smooth = smooth or (value.dtype is torch.int64 and name in EXACT_ARITHMETIC and self._all_whole(op))
        if not (smooth and self._analytic(op, name)):
            return OPAQUE
        adds = placement.kind is Kind.SUM and name in ADDS
        adds = adds and (value.dtype.is_floating_point or value.dtype.is_complex)
        return placement if placement.kind in ORDERED or adds else OPAQUE

    def _all_whole(self, op: Op) -> bool:
        return all(self.program.values[i].dtype in (torch.int64, torch.bool) for i in op.inputs)

    def _extreme(self, op: Op, name: str, value: ProgramValue) -> Kind | None:
        """The kind of a step of ``max(|x - s|)``: x moved by a statistic, perhaps its size, and the extreme of that.

        Such a function of x is convex, so over a batch it is largest at the batch's smallest or largest x.
        """
        if not op.inputs or not self.program.values[op.inputs[0]].dtype.is_floating_point:
            return None
        moved = self._moved(op.inputs[0])
        if name == "abs" and moved:
            self.convex.add(op.outputs[0])
            return Kind.ROWS
        if name == "amax" or (name == "max" and value.index == op.outputs[0] and len(op.outputs) == 2):
            return Kind.MAX if moved or op.inputs[0] in self.convex else None
        return None

    def _moved(self, index: int) -> bool:
        """Whether a value is unconditional rows plus or minus a statistic."""
        number = self.program.values[index].op
        if number is None:
            return False
        op, values = self.program.ops[number], self.program.values
        if base_name(op) not in ("add", "sub") or op.kwargs or len(op.inputs) != 2:
            return False
        kinds = [(values[i].kind, bool(values[i].given)) for i in op.inputs]
        return (Kind.ROWS, False) in kinds and any(kind in (Kind.STAT, *MERGEABLE) for kind, _ in kinds)

    def _analytic(self, op: Op, name: str) -> bool:
        """Whether the statistics that the operation uses enter it analytically."""
        values = self.program.values
        if name not in ANALYTIC or op.kwargs.get("rounding_mode") is not None:
            return False

        def steered(leaf: Any) -> bool:
            return isinstance(leaf, Ref) and (
                bool(values[leaf.index].given) or values[leaf.index].kind in (Kind.STAT, *MERGEABLE)
            )

        if name in ("where", "masked_fill", "index", "gather", "index_select"):
            steering = op.args[0] if name == "where" else op.args[1:] if name == "index" else op.args[1:-1]
            if name in ("gather", "index_select"):
                steering = op.args[2]
            if any(steered(leaf) for leaf in leaves(steering)):
                return False
        return all(
            values[leaf.index].dtype.is_floating_point or values[leaf.index].dtype is not torch.bool
            for leaf in leaves((op.args, op.kwargs))
            if steered(leaf)
        )


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    floating = a.dtype.is_floating_point or a.dtype.is_complex
    return bool(((a == b) | (a != a) & (b != b)).all()) if floating else torch.equal(a, b)
