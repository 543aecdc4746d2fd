"""The two runs beside each other, optimizer step by optimizer step, and how far rounding alone moves a gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from batchproof.errors import BatchproofError
from batchproof.gradients.check import causes
from batchproof.gradients.check.measure import (
    FLOAT32,
    NARROW_TOLERANCE,
    SLACK,
    Room,
    Tolerance,
    distance,
    room_of,
    rows,
    vector,
    whole,
)
from batchproof.gradients.check.record import PLAIN, Change, Gradients, Parameters, Window, only
from batchproof.gradients.check.result import ParameterGradient, WindowGradient

#: Makes a run for each change, and gives their windows; those of all ranks together where there are several.
Recorded = Callable[[Sequence[Change]], list[list[Window]]]
#: The directions in which weights and inputs are nudged.
NUDGED = (1, 2)
#: Of an explained difference this share may be left where it is as small as the tolerance, or this in any case.
LEFT, HARDLY = 0.1, 1e-4
#: And so many rounding units, whatever it was.
ROUNDING = 64


@dataclass(frozen=True)
class ComparedRuns:
    """What is checked: the two runs, and the parameters that they fill."""

    full: Recorded
    accumulated: Recorded
    parameters: Parameters
    model: torch.nn.Module | None
    tied: Mapping[str, Sequence[str]]
    tolerance: Tolerance
    #: micro-batches of a window that is not the last, where it is known
    configured: int | None = None
    #: counts given by the caller, for the only window
    counts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    #: how the caller gives counts, in words
    option: str = causes.WEIGHTS
    #: for each window, how far rounding moves gradients; filled once both runs have been made
    room: list[Room] = field(default_factory=list)


@dataclass(frozen=True)
class Pair:
    """One optimizer step: the full gradient, the accumulated one, and both beside each other."""

    full: Window
    accumulated: Window
    rows: list[ParameterGradient]
    whole: WindowGradient
    room: Room

    @property
    def off(self) -> list[ParameterGradient]:
        """The parameters that differ."""
        return [row for row in self.rows if not row.is_same]

    @property
    def passes(self) -> int:
        """Backward passes of the accumulated gradient, on one rank."""
        return self.whole.passes

    @property
    def filled(self) -> int:
        """Those of them that bring something."""
        return self.accumulated.filled

    @property
    def world(self) -> int:
        """How many processes accumulated."""
        return self.accumulated.world


def pairs_of(subject: ComparedRuns, change: Change = PLAIN) -> list[Pair]:
    """Both runs from the same state, window by window.

    Raises:
        BatchproofError: A run left no gradient, or the runs do not have the same number of windows.
    """
    ahead = () if subject.room else tuple(Change(nudge=seed) for seed in NUDGED)
    full, *nudged = subject.full([change, *ahead])
    (accumulated,) = subject.accumulated([change])
    if len(full) != len(accumulated):
        raise BatchproofError(
            f"the optimizer stepped {len(full)} times with the whole batches and {len(accumulated)} times with "
            "micro-batches: the two runs do not go through the same samples"
        )
    for name, windows in (("whole-batch", full), ("accumulated", accumulated)):
        if not windows:
            raise BatchproofError(f"the {name} run ended without an optimizer step: there is no gradient to compare")
        if not all(window.total for window in windows):
            raise BatchproofError(f"the {name} run left no gradient in any parameter of the model")
    if not subject.room:
        subject.room.extend(_room(subject, full, nudged, accumulated))
    return [_pair(*both, subject) for both in zip(full, accumulated, subject.room, strict=True)]


def _pair(full: Window, accumulated: Window, room: Room, subject: ComparedRuns) -> Pair:
    accumulated = _worst(full.total, accumulated)
    found = rows(full.total, accumulated.total, subject.tolerance, room)
    off = sum(not row.is_same for row in found)
    passes = len(accumulated.passes) // accumulated.world
    return Pair(full, accumulated, found, whole(full.total, accumulated.total, passes, off), room)


def _worst(full: Gradients, accumulated: Window) -> Window:
    """With the gradient of the rank that is furthest off."""
    if not accumulated.on_ranks:
        return accumulated
    return only(accumulated, total=max(accumulated.on_ranks, key=lambda total: distance(total, full)))


def _room(
    subject: ComparedRuns,
    full: Sequence[Window],
    nudged: Sequence[Sequence[Window]],
    accumulated: Sequence[Window],
) -> list[Room]:
    """For each window, how far rounding moves the gradients, in the run that makes one batch of all."""

    def measured(repeats: bool) -> list[Room]:
        return [
            room_of(window.total, [run[number].total for run in nudged if number < len(run)] or [window.total],
                    subject.tolerance, repeats=repeats)
            for number, window in enumerate(full)
        ]  # fmt: skip

    def alike(room: Sequence[Room]) -> list[list[bool]]:
        return [
            [row.is_same for row in rows(one.total, other.total, subject.tolerance, space)]
            for one, other, space in zip(full, accumulated, room, strict=True)
        ]

    narrow, wide = measured(repeats=False), measured(repeats=True)
    if alike(narrow) == alike(wide):
        return narrow
    (again,) = subject.full([PLAIN])
    return wide if all(_equal(a.total, b.total) for a, b in zip(full, again, strict=False)) else narrow


def _equal(one: Gradients, other: Gradients) -> bool:
    return all(torch.equal(vector(one, name), vector(other, name)) for name in one if name in other)  # type: ignore[arg-type]


def first_off(pairs: Sequence[Pair]) -> Pair:
    """The first window that differs, or else the first."""
    return next((pair for pair in pairs if pair.off), pairs[0])


def is_factor(pair: Pair, factor: float, tolerance: Tolerance) -> bool:
    """Whether the accumulated gradient is this multiple of the full one, in every parameter."""
    room = pair.room
    if tolerance.is_wide and not tolerance.given and abs(factor - 1) > SLACK * FLOAT32:
        room = {row.name: pair.room.get(row.name, 0.0) + FLOAT32 * (row.full or 0.0) for row in pair.rows}
    return all(row.is_same for row in rows(pair.full.total, pair.accumulated.total, tolerance, room, factor))


def room_for(subject: ComparedRuns, pair: Pair) -> float:
    """What may be left of a difference that was explained, as a share of the gradient: a small part of it."""
    eps = max(torch.finfo(parameter.dtype).eps for parameter in subject.parameters.values())
    least = min(ROUNDING * eps, NARROW_TOLERANCE)
    apart = pair.whole.difference
    # losses are often computed in float32, whatever the model is in
    return max(least, min(subject.tolerance.with_slack, LEFT * apart), min(HARDLY * apart, SLACK * FLOAT32))
