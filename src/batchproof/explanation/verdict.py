"""From what was measured and what was found to one verdict and one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from batchproof.explanation.cause_texts import finding
from batchproof.explanation.curvature import Bend
from batchproof.explanation.functions import Behaviour, FunctionMeasurement, direction
from batchproof.explanation.result import Code, Curve, Direction, Finding, Subject
from batchproof.report.numbers import off_by

#: Causes that act only on data that an example may lack: a label to ignore, a batch beyond the limit.
CONDITIONAL: frozenset[Code] = frozenset({"ratio", "limit", "branch"})
#: Causes that make a value another function of the batch's means than a straight one.
BENT: frozenset[Code] = frozenset({"nonlinear", "limit", "ratio", "centred", "unexplained"})
#: Batch sizes that people train with, and that are measured where there are samples enough.
USUAL = (16, 64)
SAFE_MEAN = "averaged over batches, weighted by their sizes, it is the value on all samples"
DEPENDS = "depends on the batch size: "
GROWS = "averaged over batches, it grows with the batch size"


@dataclass(frozen=True)
class Conclusion:
    """The head of a report."""

    is_safe: bool | None
    verdict: Code
    headline: str
    findings: tuple[Finding[Code], ...]


def conclude(
    subject: Subject,
    measured: FunctionMeasurement,
    causes: Sequence[Finding[Code]],
    proved: bool,
    confirmed: bool,
    bend: Bend | None = None,
    groups: str = "it takes {}, and has no value on a batch that splits one",
) -> Conclusion:
    """What was measured and found, in a sentence; of whole groups, where samples belong together.

    Args:
        subject: the function, and the reader's own batch size.
        measured: on the user's samples.
        causes: what the program's structure says.
        proved: the structure alone makes it a mean.
        confirmed: the value behaves on other data as it was measured to.
        bend: how the whole function bends, from the means of a batch to its result.
        groups: what is said of groups.
    """
    found = _conclude(subject, measured, causes, proved, confirmed, bend)
    grouping = measured.samples.grouping
    if grouping.size == 1:
        return found
    whole = finding("groups", what=groups.format(grouping))
    headline = found.headline.replace(": ", f", in whole {grouping}: ", 1)
    return replace(found, headline=headline, findings=(*found.findings, whole))


def _conclude(
    subject: Subject,
    measured: FunctionMeasurement,
    causes: Sequence[Finding[Code]],
    proved: bool,
    confirmed: bool,
    bend: Bend | None,
) -> Conclusion:
    """Measurement decides whether the value moves; the program says why, and what this data did not show."""
    about = measured.curve()
    if measured.unsteady is not None:
        why = finding(measured.unsteady.code, measured.unsteady.place)
        return Conclusion(None, why.code, f"could not tell: {subject.name} {why.title}", (why,))
    if measured.samples.n < 2:
        return Conclusion(None, "unexplained", "could not tell: one sample cannot be cut into batches in two ways", ())
    if not math.isfinite(about.exact):
        kind = "NaN" if math.isnan(about.exact) else "infinite"
        return Conclusion(None, "undefined", f"could not tell: the value on all samples is {kind}", tuple(causes))
    way = direction(about)
    causes = _as_measured(causes, measured.behaviour, confirmed)
    found = [*_with_direction(causes, way, bend), *_undefined(measured)]
    harmful = [cause for cause in found if not cause.harmless]
    if measured.behaviour == "other" and all(cause.code == "undefined" for cause in harmful):
        found = harmful = [_directed(finding("unexplained"), way, bend), *harmful]
    if not harmful:
        return _plain(subject.name, measured.behaviour, found, proved, measured.is_constant)
    headline = _depends(measured, harmful[0], about, subject.marked)
    notes = [cause for cause in found if cause.harmless and cause.code != "mean"]
    return Conclusion(False, harmful[0].code, f"{subject.name} {headline}", (*harmful, *notes))


def _as_measured(causes: Sequence[Finding[Code]], behaviour: Behaviour, confirmed: bool) -> list[Finding[Code]]:
    """A conditional cause harms where it shows; any other one would show on all data, and is dropped if it does not."""
    found = []
    nothing_else = behaviour == "other" and all(cause.harmless for cause in causes)
    for cause in causes:
        if cause.code == "broadcast" and behaviour == "mean":
            cause = replace(cause, harmless=True, what=f"{cause.what}; the mean over pairs is one over samples here")
        if cause.code == "broadcast":  # a mistake, also where it leaves a sum or a mean
            found.append(cause)
            continue
        if confirmed and behaviour != "other" and not cause.harmless and cause.code not in (*CONDITIONAL, "sum"):
            continue
        if cause.code in CONDITIONAL and behaviour == "mean" and not cause.harmless:
            cause = replace(cause, harmless=True, what=f"{cause.what}; it makes no difference on these samples")
        elif cause.code == "ratio" and nothing_else:
            cause = finding("ratio", cause.place)
        found.append(cause)
    return found


def _plain(
    name: str, behaviour: Behaviour, found: Sequence[Finding[Code]], proved: bool, is_constant: bool
) -> Conclusion:
    """Nothing harmful: a mean or a sum."""
    others = tuple(cause for cause in found if cause.code not in ("mean", "sum"))
    if behaviour == "sum":
        own = next((cause for cause in found if cause.code == "sum"), finding("sum"))
        return Conclusion(False, "sum", f"{name} {DEPENDS}it is a sum, so {GROWS}", (own, *others))
    own = next((cause for cause in found if cause.code == "mean"), finding("mean"))
    if is_constant and not proved:
        return Conclusion(None, "mean", "could not tell: every batch of these samples gives the same number", others)
    on = "" if proved else " on samples like these"
    return Conclusion(True, "mean", f"{name} is safe{on}: {SAFE_MEAN}", (own, *others))


def _depends(measured: FunctionMeasurement, first: Finding[Code], about: Curve, marked: int | None) -> str:
    if first.code == "undefined":
        return DEPENDS + f"small batches give no number ({first.what})"
    if measured.behaviour == "mean":
        return DEPENDS + f"these samples do not show it, but others would ({first.title})"
    if measured.behaviour == "sum":
        return DEPENDS + GROWS
    return DEPENDS + (how_far(about, marked) or "averaged over batches, it is not the value on all samples")


def how_far(about: Curve, marked: int | None = None) -> str:
    """``averaged over batches, it is 1.0% too low at batch size 16, 0.3% at 64 (18.9% at 1)``.

    The sizes are the reader's own, or usual ones, and single samples; empty where no batch size is off.
    """
    side = {"low": -1, "high": 1}.get(direction(about) or "", 0)
    off = [
        r
        for r in about.readings
        if not (r.undefined or r.size >= about.samples or about.is_exact(r.mean)) and side * about.error(r.mean) >= 0
    ]
    if not off:
        return ""
    usual = [r for r in off if r.size == marked] or [r for r in off if r.size in USUAL]
    above = [r for r in off if r.size > 1]
    worst = max(above or off, key=lambda r: abs(about.error(r.mean)))
    chosen = [*(r for r in off if r.size == 1), *(usual or [worst])]
    own = f"its {about.component}" if about.components > 1 else "it"
    number = "compute()" if about.quantity == "compute()" else f"averaged over batches, {own}"
    return f"{number} is {off_by([(r.size, about.error(r.mean)) for r in chosen])}"


def _with_direction(causes: Sequence[Finding[Code]], way: Direction | None, bend: Bend | None) -> list[Finding[Code]]:
    """The direction belongs to the first cause: the others act on what it leaves."""
    first = next((index for index, cause in enumerate(causes) if not cause.harmless), None)
    return [_directed(cause, way, bend) if index == first else cause for index, cause in enumerate(causes)]


def _directed(cause: Finding[Code], way: Direction | None, bend: Bend | None) -> Finding[Code]:
    """A cause with the measured direction, and with the reason for it, where that is known and says the same."""
    what, expected = cause.what, {"up": "high", "down": "low", None: None}[bend]
    if cause.code in BENT and bend is not None and way in (expected, None):
        curved, side = ("convex", "above") if bend == "up" else ("concave", "below")
        what += (
            f". The result is {curved} in the batch's means (it bends {bend}), so the average over batches lies {side} "
            "the value on all samples (Jensen)"
        )
    elif cause.code == "nonlinear":
        what += ", and the average of its values is not its value at the average"
    return replace(cause, direction=way, what=what)


def _undefined(measured: FunctionMeasurement) -> list[Finding[Code]]:
    rows = measured.undefined
    if not rows:
        return []
    smallest, each = rows[0], measured.samples.grouping.size
    how = smallest.raised or "no finite value"
    failed = [int(row.undefined[measured.worst]) for row in measured.rows]
    above = [row.size for row, count in zip(measured.rows, failed, strict=True) if not count]
    what = f"{how} on {next(filter(None, failed)):,} of {smallest.batches:,} batches of {each * smallest.size}"
    defined = [each * size for size in above if size > rows[-1].size]
    return [finding("undefined", what=f"{what}; from batches of {defined[0]:,} on, there is one" if defined else what)]
