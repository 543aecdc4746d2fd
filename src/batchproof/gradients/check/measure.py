"""Two gradients beside each other: norms, ratio, cosine, and whether they are the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from batchproof.gradients.check.record import Gradients
from batchproof.gradients.check.result import ParameterGradient, WindowGradient

#: Of types with less precision than float32; in mixed precision whatever the type of the parameters.
NARROW_TOLERANCE = 2e-2
TOLERANCES = {
    torch.float64: 1e-9, torch.complex128: 1e-9, torch.float16: NARROW_TOLERANCE, torch.bfloat16: NARROW_TOLERANCE,
}  # fmt: skip
USUAL_TOLERANCE = 1e-5
#: How many times the rounding of one run that of several runs, or passes, adds up to.
SLACK = 10.0
#: Rounding of one unit in weights and inputs moves a gradient; so many times that is not a difference.
NUDGES = 10.0
#: But no more than this many times the tolerance: a nudge may also send a sample another way.
MOST_ROOM = 100.0
#: What float32 rounds by, as a share: a difference of that size in float64 has been through float32.
FLOAT32 = 2.0**-22
#: A parameter whose gradient is rounding, as that of a bias before a softmax, has this share of the whole's room.
SHARE_OF_WHOLE = 0.1
#: By parameter, how far rounding may move its gradient beside its tolerance.
Room = Mapping[str, float]


class Tolerance:
    """How far two gradients may be apart: as given, or by the parameter's dtype."""

    def __init__(self, dtypes: Mapping[str, torch.dtype], given: float | None) -> None:
        usual = {name: TOLERANCES.get(dtype, USUAL_TOLERANCE) for name, dtype in dtypes.items()}
        self.of = {name: given if given is not None else usual[name] for name in dtypes}
        self.largest = max(self.of.values())
        self.given = given is not None
        self.is_wide = all(usual[name] == TOLERANCES[torch.float64] for name in dtypes)
        # in narrow types ten times as much would be more than a difference that is looked for
        self.with_slack = max(self.largest, min(SLACK * self.largest, NARROW_TOLERANCE))


def vector(gradients: Gradients, name: str) -> Tensor | None:
    """The gradient of one parameter as float64 numbers in a row; None where there is none."""
    gradient = gradients.get(name)
    if gradient is None:
        return None
    return (torch.view_as_real(gradient) if gradient.is_complex() else gradient).double().flatten()


def norm(gradients: Gradients) -> float:
    """Of all parameters together."""
    return math.sqrt(sum(float(v.square().sum()) for name in gradients if (v := vector(gradients, name)) is not None))


def product(one: Gradients, other: Gradients) -> float:
    """The scalar product over all parameters."""
    total = 0.0
    for name in one:
        a, b = vector(one, name), vector(other, name)
        total += float(a @ b) if a is not None and b is not None else 0.0
    return total


def combined(passes: Sequence[Gradients], factors: Sequence[float]) -> Gradients:
    """The weighted sum of gradients, in float64."""
    total: Gradients = {}
    for brought, factor in zip(passes, factors, strict=True):
        for name in brought:
            part = vector(brought, name)
            assert part is not None
            total[name] = total[name] + factor * part if name in total else factor * part
    return total


def distance(one: Gradients, other: Gradients) -> float:
    """Norm of the difference, as a fraction of the second one's norm."""
    both = combined([one, other], [1.0, -1.0])
    return _share(norm(both), norm(other))


def rows(
    full: Gradients, accumulated: Gradients, tolerance: Tolerance, room: Room, factor: float = 1.0
) -> list[ParameterGradient]:
    """A row for each parameter: the accumulated gradient against ``factor`` times the full one."""
    names = [name for name in tolerance.of if name in full or name in accumulated]
    return [
        _row(name, vector(full, name), vector(accumulated, name), tolerance.of[name], room.get(name, 0.0), factor)
        for name in names
    ]


def _row(
    name: str, full: Tensor | None, accumulated: Tensor | None, tolerance: float, room: float, factor: float
) -> ParameterGradient:
    f = full if full is not None else torch.zeros_like(accumulated)  # type: ignore[arg-type]
    a = accumulated if accumulated is not None else torch.zeros_like(f)
    ff, aa = float(f.norm()), float(a.norm())
    apart = float((a - factor * f).norm())
    along = float(f @ a)
    return ParameterGradient(
        name=name,
        full=None if full is None else ff,
        accumulated=None if accumulated is None else aa,
        ratio=along / ff**2 if ff else math.nan,
        cosine=_cosine(along, ff, aa),
        difference=_share(float((a - f).norm()), ff),
        # what is not a number is never the same
        is_same=apart <= abs(factor) * (tolerance * ff + room),
    )


def room_of(total: Gradients, nudged: Sequence[Gradients], tolerance: Tolerance, *, repeats: bool) -> dict[str, float]:
    """How far rounding may move each parameter's gradient: some times what the largest of several nudges does.

    Where a run does not repeat itself to the last bit, a nudge shows that too, so less of it is believed.
    """
    floor = SHARE_OF_WHOLE * norm(total)
    room = {}
    for name in total:
        own = vector(total, name)
        assert own is not None
        share = min(MOST_ROOM * tolerance.of[name], NARROW_TOLERANCE) if repeats else 0.0
        most = max(tolerance.of[name] * floor, share * float(own.norm()))
        room[name] = min(NUDGES * max(_apart(total, other, name) for other in nudged), most)
    return room


def _apart(one: Gradients, other: Gradients, name: str) -> float:
    a, b = vector(one, name), vector(other, name)
    found = float((a - b).norm()) if a is not None and b is not None else math.inf
    return found if math.isfinite(found) else 0.0


def whole(full: Gradients, accumulated: Gradients, passes: int, off: int) -> WindowGradient:
    """Norms, ratio, cosine and distance over all parameters together."""
    ff, aa, along = norm(full), norm(accumulated), product(full, accumulated)
    return WindowGradient(
        passes, ff, aa, along / ff**2 if ff else math.nan, _cosine(along, ff, aa), distance(accumulated, full), off
    )


def _cosine(along: float, one: float, other: float) -> float:
    return max(-1.0, min(1.0, along / (one * other))) if one and other else math.nan


def _share(part: float, of: float) -> float:
    return part / of if of else (0.0 if part == 0 else math.inf)
