"""How far a sample's output is from itself in two calls: in the model's own precision, in float64, and by rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from batchproof.explanation.rows.aligned import Axes, CountedAxis, axes_of, distance, largest_difference, selections
from batchproof.explanation.rows.perturbations import CallPair, numbered, whole
from batchproof.explanation.rows.precision import can_widen, in_double, nudged, weights_nudged
from batchproof.explanation.rows.sequences import RowsCall, Sequences
from batchproof.explanation.samples import Samples
from batchproof.ground import components
from batchproof.ground.held_state import HeldThing, read_held, same_start

#: The part of a gap that is left in double precision where it is rounding: 2⁻²⁹, and much more where rounding grows.
ROUNDING_LEFT = 1e-3
#: A gap that is no more than so many times what one unit in the last place makes may be rounding.
NOISE = 100.0
#: In standard deviations: a gap as large is no rounding of a model that can be used, unless its answers are unstable.
HIDDEN = 1e-2
#: In standard deviations: two runs that differ by more are not the same computation.
REPEATED = 1e-3
#: Where outputs lie nearer than this, in standard deviations, their positions have the same numbers.
SAME_POSITIONS = 1e-3
#: What double precision leaves of nothing, as a part of the output's spread.
NOTHING = 1e-11


@dataclass(frozen=True)
class OutputGap:
    """How far one output of a sample lies from itself in another call.

    Attributes:
        size: The largest difference, in standard deviations of the output.
        ulps: The same, in units of the last place of the largest number.
        flips: Of the answers, how many have another largest entry.
        answers: How many answers were compared; 0 where the output is not a choice.
    """

    size: float = 0.0
    ulps: float = 0.0
    flips: int = 0
    answers: int = 0

    def joined(self, other: OutputGap) -> OutputGap:
        """The larger of both, and the flips of both."""
        return OutputGap(
            max(self.size, other.size),
            max(self.ulps, other.ulps),
            self.flips + other.flips,
            self.answers + other.answers,
        )


@dataclass(frozen=True)
class ShapeCalls:
    """A batch, and it in other sizes.

    Attributes:
        base: As it is.
        fewer: Without its last row.
        longer: With one position more, where that can be had.
        far: With many positions more, where that can be had.
        reach: How many more.
    """

    base: RowsCall
    fewer: RowsCall
    longer: RowsCall | None
    far: RowsCall | None
    reach: int

    @property
    def others(self) -> tuple[RowsCall, RowsCall | None, RowsCall | None]:
        """All but the batch itself."""
        return self.fewer, self.longer, self.far


class Unaligned(Exception):
    """No output of the model could be laid beside that of another call."""


@dataclass
class ModelOnRows:
    """A model on a batch: what its outputs are, and what each of their dimensions counts.

    Attributes:
        target: The model, or a function.
        samples: The rows of a batch.
        sequences: Where their positions are; None where they have none.
        leaves: For each numeric leaf of the output, whether it has rows.
        seed: Before every call.
    """

    target: Callable[..., Any]
    samples: Samples
    sequences: Sequences | None
    leaves: Sequence[bool]
    seed: int
    axes: list[Axes | None] = field(init=False)
    spread: list[float] = field(init=False)
    names: list[str] = field(init=False)
    held: list[HeldThing] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        calls = self.shape_calls()
        base = calls.base
        found = self.outputs(base.samples)
        shapes = [[tensor.shape for tensor in self.outputs(call.samples)] if call else None for call in calls.others]
        self.axes = []
        for position, tensor in enumerate(found):
            less, more, far = (None if of_call is None else of_call[position] for of_call in shapes)
            there = None if far is None else (far, calls.reach)
            self.axes.append(axes_of(tensor.shape, less or tensor.shape, more, base.rows, base.width or 0, there))
        self.spread = [_spread(tensor) for tensor in found]
        self.names = [path for (path, _), grows in zip(self._named(base.samples), self.leaves, strict=False) if grows]

    def shape_calls(self) -> ShapeCalls:
        """The calls whose shapes say what a dimension counts."""
        base = whole(self.samples, self.sequences)
        fewer = whole(self.samples.first(max(self.samples.n - 1, 1)), self.sequences)
        longer = self._longer(base, 1)
        reach = 0 if longer is None else _reach(base.width or 0)
        return ShapeCalls(base, fewer, longer, self._longer(base, reach) if reach else None, reach)

    def _longer(self, base: RowsCall, by: int) -> RowsCall | None:
        """A call with more padding, where the model takes one as long."""
        if self.sequences is None:
            return None
        longer = self.sequences.padded(base, right=by)
        try:
            self.outputs(longer.samples)
        except Exception:  # noqa: BLE001 - as long as the model can take them
            return None
        return longer

    def outputs(self, samples: Samples) -> list[Tensor]:
        """The outputs with rows, of one call."""
        return [t for (_, t), grows in zip(self._named(samples), self.leaves, strict=False) if grows]

    def repeats(self) -> bool:
        """Whether two calls from the same start give the same, up to what kernels that add up in any order leave."""
        first, second = self.outputs(self.samples), self.outputs(self.samples)
        return self.apart(first, second) <= REPEATED

    def varies(self) -> float:
        """How far outputs move with the random numbers that are drawn, in standard deviations."""
        found = self.outputs(self.samples)
        with same_start(self.target, self.seed + 1):
            return self.apart(found, self.rows_of(self.samples))

    def rows_of(self, samples: Samples) -> list[Tensor]:
        """The outputs with rows of a call that starts from whatever the one before has left."""
        args, kwargs = samples.all()
        with torch.no_grad():
            found = components.tensors(self.target(*args, **kwargs))
        return [tensor for (_, tensor), grows in zip(found, self.leaves, strict=False) if grows]

    def _named(self, samples: Samples) -> list[tuple[str, Tensor]]:
        args, kwargs = samples.all()
        with self.same_start(), torch.no_grad():
            return components.tensors(self.target(*args, **kwargs))

    def gap(self, pair: CallPair) -> OutputGap:
        """How far the samples of a pair lie apart.

        Raises:
            Unaligned: no output could be compared.
        """
        ours, theirs = self.outputs(pair.one.samples), self.outputs(pair.other.samples)
        found = OutputGap()
        compared = 0
        for position, (a, b, axes) in enumerate(zip(ours, theirs, self.axes, strict=False)):
            size = None if axes is None else distance(a, b, axes, pair.one, pair.other)
            if size is None or axes is None:
                continue
            compared += 1
            largest = float(a.abs().max()) if a.numel() else 0.0
            ulps = size / (torch.finfo(a.dtype).eps * largest) if a.is_floating_point() and largest else size
            found = found.joined(
                OutputGap(size / self.spread[position], ulps, *self._flips(position, a, b, axes, pair))
            )
        if not compared:
            raise Unaligned
        return found

    def _flips(self, position: int, a: Tensor, b: Tensor, axes: Axes, pair: CallPair) -> tuple[int, int]:
        """How many choices differ, of how many: of an output that is called so, or of a plain row of scores."""
        name = self.names[position].lower()
        is_choice = "logit" in name or "score" in name or (not name and a.ndim == 2)
        if not is_choice or a.ndim < 2 or axes[-1] != CountedAxis() or a.shape[-1] < 2:
            return 0, 0
        flips = answers = 0
        for one, other in zip(pair.one.spots, pair.other.spots, strict=True):
            left = next(selections(a, axes, one, pair.one.rows, pair.one.width or 0), None)
            right = next(selections(b, axes, other, pair.other.rows, pair.other.width or 0), None)
            if left is not None and right is not None and left.shape == right.shape:
                flips += int((left.argmax(-1) != right.argmax(-1)).sum())
                answers += left[..., 0].numel()
        return flips, answers

    def widened(self) -> ModelOnRows:
        """This model on samples in double precision, nothing measured again; to be used in `double`."""
        other = self.in_another_mode()
        other.samples = doubled(self.samples)
        return other

    def in_another_mode(self) -> ModelOnRows:
        """This model where it holds something else for a while: other numbers, or train() left on."""
        other = object.__new__(type(self))
        other.__dict__ |= {**self.__dict__, "held": None}
        return other

    def same_start(self) -> AbstractContextManager[None]:
        """Each call starts from the same random numbers, and from what the model holds."""
        if self.held is None:
            self.held = read_held(self.target)
        return same_start(self.target, self.seed, self.held)

    def apart(self, one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
        """How far the outputs of two calls of one shape lie apart, in standard deviations."""
        pairs = zip(one, other, self.spread, strict=False)
        return max((largest_difference(a, b) / spread for a, b, spread in pairs if a.shape == b.shape), default=0.0)


def worst(subject: ModelOnRows, pairs: Sequence[CallPair], wide: bool = False) -> tuple[OutputGap, CallPair]:
    """The largest gap of a trial's pairs, with the pair that shows it."""
    found, largest = OutputGap(), (-1.0, pairs[0])
    for pair in pairs:
        gap = subject.gap(widened_pair(pair) if wide else pair)
        found = found.joined(gap)
        if gap.size > largest[0]:
            largest = (gap.size, pair)
    return found, largest[1]


def first_position(subject: ModelOnRows) -> int:
    """What the model calls a sample's first position by itself: with that number given, it answers the same."""
    sequences = subject.sequences
    if sequences is None or "position_ids" not in sequences.takes:
        return 0
    call = sequences.alone(subject.samples, 0)
    pad: Any = getattr(getattr(subject.target, "config", None), "pad_token_id", None)
    behind: tuple[int, ...] = (pad + 1,) if isinstance(pad, int) and pad >= 0 else ()
    for first in (0, *behind):
        told = numbered(call, first)
        try:
            if subject.apart(subject.outputs(call.samples), subject.outputs(told.samples)) < SAME_POSITIONS:
                return first
        except Exception:  # noqa: BLE001 - fewer positions than that
            continue
    return 0


def one_ulp(subject: ModelOnRows) -> float | None:
    """How far outputs move, in standard deviations, where what goes in moves by one unit in the last place."""
    base = whole(subject.samples, subject.sequences)
    floating = any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in subject.samples.leaves)
    if floating:
        leaves = tuple(nudged(leaf) if isinstance(leaf, Tensor) else leaf for leaf in subject.samples.leaves)
        return subject.apart(subject.outputs(base.samples), subject.outputs(replace(subject.samples, leaves=leaves)))
    before = subject.outputs(base.samples)
    with weights_nudged(subject.target) as is_moved:
        return subject.apart(before, subject.outputs(base.samples)) if is_moved else None


def _reach(width: int) -> int:
    """Some more positions, by which what counts every second, 4th, 8th or (of sound) 320th of them grows evenly."""
    step = 320 if width >= 320 else 8
    return -(-width // step) * step


@contextmanager
def double(subject: ModelOnRows) -> Iterator[list[str] | None]:
    """The subject's model in float64: yields the operations that gave narrower numbers after all; None if it cannot."""
    if not can_widen(subject.target):
        yield None
        return
    with in_double(subject.target) as narrowing:
        yield narrowing


def is_rounding(native: float, wide: float | None, moved: float | None, moved_wide: float | None) -> bool:
    """Whether a gap is rounding: in double precision it falls, or one unit in the last place makes as large a one.

    Args:
        native: the gap in the model's precision.
        wide: that in float64; None where the model cannot be run in it.
        moved: what one unit in the last place of the input makes, in the model's precision.
        moved_wide: the same in float64.
    """
    if wide is None:
        return moved is not None and native <= NOISE * moved
    floor = NOTHING if moved_wide is None or not math.isfinite(moved_wide) else max(NOTHING, 1e3 * moved_wide)
    return wide <= max(ROUNDING_LEFT * native, floor) and wide < 1e-4


def is_unstable(native: float, wide: float | None, moved: float | None, moved_wide: float | None) -> bool:
    """Whether an answer depends on the last bit itself, so that nothing can be told of it: an exact tie, or chaos."""
    if wide is None:  # rounding is no more than so much, and a fault may hide in it
        return moved is not None and HIDDEN < native <= NOISE * moved
    return moved_wide is not None and wide > HIDDEN and moved_wide > wide / NOISE


def widened_pair(pair: CallPair) -> CallPair:
    """Two calls on samples in double precision."""
    one, other = (replace(call, samples=doubled(call.samples)) for call in (pair.one, pair.other))
    return CallPair(one, other)


def doubled(samples: Samples) -> Samples:
    """The samples in double precision, with what every batch is given besides."""
    fixed = {name: tree_map(_widened, value) for name, value in samples.fixed.items()}
    return replace(samples.double(), fixed=fixed)


def _widened(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _spread(tensor: Tensor) -> float:
    if not tensor.is_floating_point() or tensor.numel() < 2:
        return 1.0
    finite = tensor.double()[tensor.isfinite()]
    spread = float(finite.std()) if finite.numel() > 1 else 0.0
    return spread or float(finite.abs().max() if finite.numel() else 0.0) or 1.0
