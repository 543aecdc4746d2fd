"""Plan: the exact streaming form of a function. fold a batch, merge states, finish.

`derive` makes one: record, classify, cut, centre, verify.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.centred_sum import CentredSum, Extremes
from batchproof.derive.codegen import FoldCode
from batchproof.derive.cut import ancestors, nbytes
from batchproof.derive.diverged import DigitsLost, Diverged
from batchproof.derive.finish import Finisher, State
from batchproof.derive.fold import SumsAtOnce, fold_code
from batchproof.derive.kind import Kind, merge_of
from batchproof.derive.loops import Loop
from batchproof.derive.merge import ROWS, Merge
from batchproof.derive.program import Program, ProgramValue
from batchproof.derive.record import Way, run_under
from batchproof.derive.recording import WIDE, leaves, widen
from batchproof.derive.samples import TensorBatch
from batchproof.derive.site import CallSite
from batchproof.derive.stand_in import stand_in
from batchproof.derive.summand import Centre
from batchproof.errors import BatchproofError

#: A result may rest on centred sums that cancel to this many digits; below, it is refused.
FEWEST_DIGITS = 1e-7
#: Put on every centred sum, a relative change of the last digits shows whether a result rests on them.
NUDGE = 4e-16


def cancels(lost: Any) -> Any:
    """Whether so much of a centred sum cancels that its digits have to be looked at; of a number or a tensor."""
    return lost * 1e-16 > FEWEST_DIGITS * 1e-4


@dataclass(frozen=True)
class Leaf:
    """One kept value.

    Attributes:
        merge: How two states' values become one: ``sum``, ``max``, ``min``, ``any``, ``all``, or ``rows`` where they
            are joined.
        shape: Of one state; of rows, for one sample.
        dtype: In which it is kept.
        nbytes: Bytes of one state; of rows, for one sample.
        points: Centres that a sum is kept around; 1 for a plain sum.
        site: The line that it comes from.
        what: What is kept, in words.
        dim: The dimension along which rows are joined.
        centred: Whether it is kept around centres, which are stacked in front.
    """

    merge: Merge
    shape: tuple[int, ...]
    dtype: torch.dtype
    nbytes: int
    points: int
    site: CallSite
    what: str
    dim: int = 0
    centred: bool = False

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Of the kept value: one number, or vector, for each centre where it is kept around centres."""
        return (self.points, *self.shape) if self.centred else self.shape

    def computed_with(self, kept: torch.Tensor) -> torch.Tensor:
        """What is kept as the function computes with it: wide, and a count of truths as the float it was cast to."""
        narrow = kept.dtype is torch.float32 or not (kept.dtype.is_floating_point or kept.dtype.is_complex)
        return kept.to(self.dtype) if narrow and self.dtype.is_floating_point else kept


class Folding(Protocol):
    """What a state needs to know of what folds its batches: a `StatePlan`, or several of them together."""

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """What is kept."""
        ...

    @property
    def lengths(self) -> tuple[Any, ...]:
        """The selections whose total length is counted."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of one state."""
        ...

    @property
    def fold(self) -> FoldCode:
        """The code that folds a batch."""
        ...


@dataclass(frozen=True)
class Verified:
    """What the plan was tried on before use.

    Attributes:
        partitions: How many ways of cutting the samples were tried.
        error: The largest relative difference from the function itself.
    """

    partitions: int
    error: float


@dataclass(repr=False, eq=False)
class Plan(ABC):
    """How a function of a batch is computed over many batches: by a state (`StatePlan`), or by keeping the samples.

    Attributes:
        leaves: what is kept.
        reason: why samples are kept, None where the state has constant size.
        program: the recorded function, None where it could not be recorded.
        verified: partitions tried, and the largest relative difference.
        group: how many samples stay together.
    """

    group = 1

    leaves: tuple[Leaf, ...]
    reason: str | None
    program: Program | None
    verified: Verified

    @property
    def is_constant_size(self) -> bool:
        """Whether the state has the same size after any number of samples."""
        return self.reason is None

    @property
    def nbytes(self) -> int:
        """Bytes of one merged state, the count of samples included; kept rows are not counted."""
        return 8 + sum(leaf.nbytes for leaf in self.leaves if leaf.merge is not ROWS)

    @property
    def row_nbytes(self) -> int:
        """Bytes kept per sample."""
        return sum(leaf.nbytes for leaf in self.leaves if leaf.merge is ROWS)

    @property
    @abstractmethod
    def keeps_inputs(self) -> bool:
        """Whether the samples themselves are kept, and the function is simply called on all of them."""

    def __repr__(self) -> str:
        """The first line of the report: a cell of a notebook, or a line of a debugger, has no room for the program."""
        return f"<{type(self).__name__}: {str(self).partition(chr(10))[0]}>"

    def __str__(self) -> str:
        from batchproof.derive.plan_text import plan_text

        return plan_text(self)


@dataclass(repr=False, eq=False)
class SamplesPlan(Plan):
    """The samples are kept, and the function is called on all of them; its program is known where it was recorded."""

    @property
    def keeps_inputs(self) -> bool:
        return True


@dataclass(repr=False, eq=False)
class StatePlan(Plan):
    """Batches are folded to a state, the states of batches merge, and the function finishes on the merged state.

    Attributes:
        program: the recorded function.
        fn: the function of the input tensors.
        kept: the values of the program that are kept, one for each leaf.
        lengths: the selections whose total length is counted.
        after: the operations that run on the merged state.
        folds: the values that the fold reads or makes.
        centred: how sums kept at fixed centres are moved.
        at_once: these sums at all of their centres, as a fold computes them.
        dims: the inputs' batch dimensions.
        inputs: their dtypes.
        constants: the values that no sample reaches.
        shown: the floating dtype that the function believes in.
        dtypes: what the function returns, by type.
        narrow: whether terms of single samples are folded in the batch's own dtype, and only sums in float64.
        group: how many samples stay together; each group of them is one sample to the program and to ``fn``.
    """

    program: Program
    fn: Callable[..., Any]
    kept: tuple[int, ...]
    lengths: tuple[tuple[int, int], ...]
    after: frozenset[int]
    folds: frozenset[int]
    centred: dict[int, CentredSum | Extremes]
    at_once: dict[int, SumsAtOnce]
    dims: tuple[int | None, ...]
    inputs: tuple[torch.dtype, ...]
    constants: dict[int, torch.Tensor]
    shown: torch.dtype | None
    dtypes: tuple[Any, ...]
    narrow: bool
    group: int = 1

    @cached_property
    def fold(self) -> FoldCode:
        """The code that folds a batch."""
        return self._written(widened=not self.narrow)

    @cached_property
    def wide(self) -> FoldCode:
        """That code in float64, for trying the plan."""
        return self._written(widened=True)

    def _written(self, *, widened: bool) -> FoldCode:
        code = fold_code(
            self.program, self.kept, self.lengths, self.centred, self.at_once, self.dims, self.inputs, widened
        )
        if self.group == 1:
            return code
        parts = ", ".join(
            f"x[{place}]" if d is None else f"x[{place}].unflatten({d}, (-1, {self.group}))"
            for place, d in enumerate(self.dims)
        )
        return replace(code, lines=(f"x = [{parts}]", *code.lines))

    @property
    def keeps_inputs(self) -> bool:
        return False

    @property
    def nbytes(self) -> int:
        return super().nbytes + 8 * len(self.lengths)

    @property
    def captured(self) -> dict[int, torch.Tensor]:
        """The tensors that the function takes from outside its arguments."""
        return self.program.captured

    def merge(self, states: Sequence[list[torch.Tensor]]) -> list[torch.Tensor]:
        """The leaves of several states as those of all their samples."""
        columns = zip(*states, strict=True)
        return [leaf.merge.join(parts, leaf.dim) for leaf, parts in zip(self.leaves, columns, strict=True)]

    def finish(self, state: State, shared: Sequence[torch.Tensor], dims: Sequence[int | None], n: int) -> Any:
        """What the function returns on all the samples of a merged state.

        Args:
            state: merged.
            shared: the input tensors of any batch; only those with no batch dimension are read.
            dims: the inputs' batch dimensions.
            n: the number of samples.

        Raises:
            Diverged: on all samples the function goes another way than on the first batch.
        """
        return self.finished(state, shared, dims, n)[0]

    def finished(
        self, state: State, shared: Sequence[torch.Tensor], dims: Sequence[int | None], n: int, way: Way = ()
    ) -> tuple[Any, Finisher]:
        """What `finish` gives, and the run that gave it; Python is told what it reads where `way` says so."""
        result, run = self.run(state, shared, dims, n, way=way)
        if cancels(run.lost):
            nudged, _ = self.run(state, shared, dims, n, nudge=NUDGE, way=way)
            if not _near(result, nudged):
                raise DigitsLost
        return result, run

    def run(
        self,
        state: State,
        shared: Sequence[torch.Tensor],
        dims: Sequence[int | None],
        n: int,
        nudge: float = 0.0,
        way: Way = (),
    ) -> tuple[Any, Finisher]:
        """What `finished` gives, where lost digits do not matter or are looked for by the caller."""
        if self.group > 1:
            groups = State(state.leaves, state.lengths, state.n // self.group)
            one = [_repeated(t, d, self.group) for t, d in zip(shared, dims, strict=True)]
            inputs = in_groups(one, dims, self.group)
            return self.by_groups().run(groups, inputs, dims, n // self.group, nudge, way)
        if isinstance(self.fn, Loop):
            self.fn.check(shared, n)
        lengths = dict(zip(self.lengths, state.lengths, strict=False))
        held = {
            index: leaf.computed_with(kept)
            for index, leaf, kept in zip(self.kept, self.leaves, state.leaves, strict=False)
        }
        run = Finisher(self.program, self.after, self.folds, held, lengths, self.centred, state.n, nudge, way)
        inputs = []
        for index, tensor, dim in zip(self.program.inputs, shared, dims, strict=True):
            real = index in held or self.program.values[index].kind is Kind.SHARED
            blank = widen(tensor.detach()) if dim is None else _blank(tensor, dim, n)
            inputs.append(run.hold(index, held.get(index, blank), real))
        result = run_under(run, self.fn, inputs, self.shown)
        if any(isinstance(leaf, torch.Tensor) and run.is_blank(leaf) for leaf in pytree.tree_leaves(result)):
            raise Diverged("the function returns something else on all samples than on the first batch")
        return result, run

    def of_groups(self, size: int) -> StatePlan:
        """The plan for samples of which groups of a size are what this plan takes for one."""
        return replace(self, group=size)

    def by_groups(self) -> StatePlan:
        """The plan that takes each group for one sample."""
        return replace(self, group=1)

    def captured_by_summands(self) -> list[torch.Tensor]:
        """The captured tensors that the sums around statistics are made of."""
        inside = {index for parts in self.centred.values() for op in parts.summand.ops for index in op.inputs}
        shared = [index for index in inside if self.program.values[index].kind is Kind.SHARED]
        behind = sorted(ancestors(self.program, shared))
        return [self.captured[index] for index in behind if index in self.captured]

    @property
    def computes_narrow(self) -> bool:
        """Whether the function casts to a narrow type on its way, and rounds there."""
        arguments = [leaf for op in self.program.ops for leaf in leaves((op.args, op.kwargs))]
        return self.program.rounds or any(leaf in WIDE for leaf in arguments if isinstance(leaf, torch.dtype))

    def centres(self) -> dict[int, list[Centre]]:
        """For each leaf that is kept around centres, by its place, these."""
        found = ((place, self.centred.get(index)) for place, index in enumerate(self.kept))
        return {place: list(parts.centres) for place, parts in found if parts is not None}

    def with_centres(self, centres: dict[int, list[Centre]]) -> StatePlan:
        """The plan at other centres, as `centres` gives them.

        Raises:
            Diverged: these are centres of other sums.
        """
        centred, at_once = dict(self.centred), dict(self.at_once)
        for place, points in centres.items():
            index = self.kept[place]
            parts = centred[index]
            if not isinstance(parts, CentredSum):
                continue
            if [at.form for at in parts.centres] != [at.form for at in points]:
                raise Diverged("sums around statistics are kept in another form there; use state='rows'")
            moved = parts.around(points, self.constants)
            centred[index], at_once[index] = moved, at_once[index].around(moved)
        return replace(self, centred=centred, at_once=at_once)

    def recentre(self, leaves: Sequence[Any], source: StatePlan) -> list[Any]:
        """The leaves of states, stacked, that another plan keeps at its centres, at ours.

        Raises:
            Diverged: one is infinite, and infinity cannot be moved.
        """
        found = list(leaves)
        for place, (mine, index) in enumerate(zip(self.kept, source.kept, strict=True)):
            at = source.centred.get(index)
            if isinstance(at, CentredSum):
                found[place] = torch.stack([self.move(mine, one, at, source.constants) for one in found[place]])
        return found

    def move(self, leaf: int, kept: torch.Tensor, theirs: CentredSum, shared: dict[int, torch.Tensor]) -> torch.Tensor:
        """A sum that another state keeps at its own centres, at ours.

        Raises:
            Diverged: it is infinite, and infinity cannot be moved.
        """
        mine = self.centred[leaf]
        assert isinstance(mine, CentredSum)
        moved = torch.stack([theirs.combine(at, kept, shared).total for at in mine.centres])
        if bool(torch.isnan(moved).any()) and not bool(torch.isnan(kept).any()):
            raise Diverged(
                f"a sum left the range of float64 at {self.program.site(leaf)}, and cannot be merged with one around "
                "other samples; use state='rows' to keep the samples"
            )
        return moved


def check_shapes(plan: Folding, values: Sequence[torch.Tensor]) -> None:
    """Refuse a fold of other shapes than its plan says.

    Raises:
        BatchproofError: a value's size depends on the data.
    """
    for leaf, value in zip(plan.leaves, values, strict=True):
        if leaf.merge is not ROWS and value.shape != leaf.state_shape:
            raise BatchproofError(
                f"this batch gives a value of shape {tuple(value.shape)} where the first batches gave "
                f"{leaf.state_shape}, at {leaf.site}: its size depends on the data; fix it (minlength=, "
                "num_classes=), or use state='rows'"
            )


def in_groups(tensors: Sequence[torch.Tensor], dims: Sequence[int | None], size: int) -> list[torch.Tensor]:
    """Tensors of whole groups, with one more dimension: groups, and samples of a group."""
    return [t if d is None else torch.unflatten(t, d, (-1, size)) for t, d in zip(tensors, dims, strict=True)]


def _repeated(tensor: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    """One sample as a group."""
    return tensor if dim is None else tensor.narrow(dim, 0, 1).repeat_interleave(size, dim)


def _blank(tensor: torch.Tensor, dim: int, n: int) -> torch.Tensor:
    shape = [n if d == dim else size for d, size in enumerate(tensor.shape)]
    return stand_in(torch.empty(shape, dtype=WIDE.get(tensor.dtype, tensor.dtype), device="meta"), tensor.device)


def agree(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Where two results have as many digits in common as a result must have; both NaN is agreement too."""
    near = (a - b).abs() <= FEWEST_DIGITS * torch.maximum(a.abs(), b.abs())
    return near | (a == b) | (a.isnan() & b.isnan())


def _near(a: Any, b: Any) -> bool:
    for x, y in zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True):
        if isinstance(x, (torch.Tensor, int, float)) and not isinstance(x, bool):
            x, y = torch.as_tensor(x).double(), torch.as_tensor(y).double()
            if not bool(agree(x, y).all()):
                return False
    return True


def leaf_of(program: Program, index: int, centred: dict[int, CentredSum | Extremes], batch: TensorBatch) -> Leaf:
    """How a kept value is shown."""
    value = program.values[index]
    kept = centred.get(index)
    points = 2 if isinstance(kept, Extremes) else len(kept.centres) if kept else 1
    if isinstance(kept, Extremes):
        row = program.values[kept.row]
        value = ProgramValue(
            index, value.op, tuple(1 if d == kept.dim else s for d, s in enumerate(row.shape)), row.dtype, Kind.MAX
        )
    shape = tuple(size.scale if not isinstance(size, int) else size for size in value.shape)
    return Leaf(
        merge=merge_of(value.kind),
        shape=shape,
        dtype=value.dtype,
        nbytes=nbytes(value) * points,
        points=points,
        site=program.site(index),
        what=_words(program, index),
        dim=value.dim,
        centred=index in centred,
    )


def _words(program: Program, index: int) -> str:
    """A kept value in words: what is summed, as the user's line says it."""
    from batchproof.derive.operators import base_name

    value = program.values[index]
    if value.op is None:
        return "input"
    return base_name(program.ops[value.op])


__all__ = ["Centre", "Folding", "Leaf", "Plan", "SamplesPlan", "StatePlan", "Verified", "check_shapes", "leaf_of"]
