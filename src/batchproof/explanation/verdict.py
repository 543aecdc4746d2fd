"""From what was measured and what was found to one verdict and one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from batchproof.explanation.cause_texts import finding
from batchproof.explanation.functions import Behaviour, FunctionMeasurement, direction
from batchproof.explanation.result import Code, Curve, Direction, Finding
from batchproof.report.numbers import share

#: Causes that act only on data that an example may lack: a label to ignore, a batch beyond the limit.
CONDITIONAL: frozenset[Code] = frozenset({"ratio", "limit", "branch"})
#: A batch size that people train with.
USUAL = 64
SAFE_MEAN = "safe: the mean of per-batch values, weighted by batch size, is the value on all samples"
DEPENDS = "depends on the batch size: "


@dataclass(frozen=True)
class Conclusion:
    """The head of a report."""

    is_safe: bool | None
    verdict: Code
    headline: str
    findings: tuple[Finding[Code], ...]


def conclude(
    measured: FunctionMeasurement, causes: Sequence[Finding[Code]], proved: bool, confirmed: bool
) -> Conclusion:
    """What was measured and found, in a sentence; of whole groups, where samples belong together.

    Args:
        measured: on the user's samples.
        causes: what the program's structure says.
        proved: the structure alone makes it a mean.
        confirmed: the value behaves on other data as it was measured to.
    """
    found = _conclude(measured, causes, proved, confirmed)
    grouping = measured.samples.grouping
    if grouping.size == 1:
        return found
    whole = finding("groups", what=f"it takes {grouping}, and has no value on a batch that tears one apart")
    headline = found.headline.replace(": ", f", in whole {grouping}: ", 1)
    return replace(found, headline=headline, findings=(*found.findings, whole))


def _conclude(
    measured: FunctionMeasurement, causes: Sequence[Finding[Code]], proved: bool, confirmed: bool
) -> Conclusion:
    """Measurement decides whether the value moves; the program says why, and what this data did not show."""
    about = measured.curve()
    if measured.unsteady is not None:
        why = finding(measured.unsteady.code, measured.unsteady.place)
        return Conclusion(None, why.code, f"could not tell: it {why.title}", (why,))
    if measured.samples.n < 2:
        return Conclusion(None, "unexplained", "could not tell: one sample cannot be batched in two ways", ())
    if not math.isfinite(about.exact):
        kind = "NaN" if math.isnan(about.exact) else "infinite"
        return Conclusion(None, "undefined", f"could not tell: the value on all samples is {kind}", tuple(causes))
    way = direction(about)
    found = [*_with_direction(_as_measured(causes, measured.behaviour, confirmed), way), *_undefined(measured)]
    harmful = [cause for cause in found if not cause.harmless]
    if measured.behaviour == "other" and all(cause.code == "undefined" for cause in harmful):
        found = harmful = [finding("unexplained", direction=way), *harmful]
    if not harmful:
        return _plain(measured.behaviour, found, proved, measured.is_constant)
    headline = _depends(measured, harmful[0], way, about)
    notes = [cause for cause in found if cause.harmless and cause.code != "mean"]
    return Conclusion(False, harmful[0].code, headline, (*harmful, *notes))


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


def _plain(behaviour: Behaviour, found: Sequence[Finding[Code]], proved: bool, is_constant: bool) -> Conclusion:
    """Nothing harmful: a mean or a sum."""
    others = tuple(cause for cause in found if cause.code not in ("mean", "sum"))
    if behaviour == "sum":
        own = next((cause for cause in found if cause.code == "sum"), finding("sum"))
        headline = DEPENDS + "it is a sum, so the mean of per-batch values grows with the batch"
        return Conclusion(False, "sum", headline, (own, *others))
    own = next((cause for cause in found if cause.code == "mean"), finding("mean"))
    if is_constant and not proved:
        return Conclusion(None, "mean", "could not tell: every batch of these samples gives the same number", others)
    return Conclusion(True, "mean", SAFE_MEAN if proved else f"{SAFE_MEAN} ({_reservation(others)})", (own, *others))


def _reservation(others: Sequence[Finding[Code]]) -> str:
    """Why the measurement is not a proof."""
    return "on samples like these: see the note" if others else "as measured; its code could not be read"


def _depends(measured: FunctionMeasurement, first: Finding[Code], way: Direction | None, about: Curve) -> str:
    if first.code == "undefined":
        return DEPENDS + f"small batches give no number ({first.what})"
    if measured.behaviour == "mean":
        return DEPENDS + f"{first.title}; on these samples it does not show"
    if measured.behaviour == "sum":
        return DEPENDS + "the mean of per-batch values grows with the batch"
    reads = {"low": "reads LOW", "high": "reads HIGH", "varies": "reads low at some sizes and high at others"}
    head = DEPENDS + f"the mean of per-batch values {reads[way] if way else 'is not the value on all samples'}"
    return head + how_far(about, way)


def how_far(about: Curve, way: Direction | None = None) -> str:
    """``, by 17.6% at size 1, 0.2% at 64``: the worst, and a usual size, of those that read in this direction."""
    found = {
        reading.size: about.error(reading.mean)
        for reading in about.readings
        if not reading.undefined and not about.is_exact(reading.mean)
    }
    side = {"low": -1, "high": 1}.get(way or "", 0)
    errors = {size: abs(error) for size, error in found.items() if side * error >= 0}
    if not errors:
        return ""
    worst = max(errors, key=lambda size: errors[size])
    usual = max((size for size in errors if worst < size <= min(USUAL, about.samples // 4)), default=worst)
    text = f", by {share(errors[worst])} at size {worst:,}"
    return text if usual == worst else f"{text}, {share(errors[usual])} at {usual:,}"


def _with_direction(causes: Sequence[Finding[Code]], way: Direction | None) -> list[Finding[Code]]:
    """The measured direction belongs to the first cause: the others act on what it leaves."""
    first = next((index for index, cause in enumerate(causes) if not cause.harmless), None)
    return [replace(cause, direction=way) if index == first else cause for index, cause in enumerate(causes)]


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
