"""From what was measured and what was found to one verdict and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchproof.explain.catalogue import finding
from batchproof.explain.explanation import Curve, Direction, Finding
from batchproof.explain.functions import Behaviour, Measured, direction

SAFE_MEAN = "safe: the mean of per-batch values, weighted by batch size, is the value on all samples"
DEPENDS = "depends on the batch size: "


@dataclass(frozen=True)
class Conclusion:
    """The head of a report."""

    is_safe: bool | None
    verdict: str
    headline: str
    findings: tuple[Finding, ...]


def conclude(measured: Measured, causes: Sequence[Finding], proved: bool) -> Conclusion:
    """Measurement decides whether the value moves; the program's structure says why, and what this data did not show."""
    about = measured.curve()
    if measured.random:
        return Conclusion(None, "random", "could not tell: it draws random numbers", (finding("random"),))
    if measured.samples.n < 2:
        return Conclusion(None, "unexplained", "could not tell: one sample cannot be batched in two ways", ())
    if about.exact != about.exact:
        return Conclusion(None, "undefined", "could not tell: the value on all samples is NaN", tuple(causes))
    way = direction(about, measured.samples.n)
    found = [*_with_direction(causes, way), *_undefined(measured)]
    harmful = [cause for cause in found if not cause.harmless]
    if measured.behaviour == "other" and not harmful:
        found = harmful = [finding("unexplained", direction=way)]
    if not harmful:
        return _plain(measured.behaviour, found, proved)
    headline = _depends(measured, harmful[0], way, about)
    return Conclusion(False, harmful[0].code, headline, tuple(found))


def _plain(behaviour: Behaviour, found: Sequence[Finding], proved: bool) -> Conclusion:
    """Nothing harmful: a mean or a sum."""
    others = tuple(cause for cause in found if cause.code not in ("mean", "sum"))
    if behaviour == "sum":
        own = next((cause for cause in found if cause.code == "sum"), finding("sum"))
        headline = DEPENDS + "it is a sum, so the mean of per-batch values grows with the batch"
        return Conclusion(False, "sum", headline, (own, *others))
    own = next((cause for cause in found if cause.code == "mean"), finding("mean"))
    headline = SAFE_MEAN if proved else SAFE_MEAN + " (measured on these samples; its code could not be read)"
    return Conclusion(True, "mean", headline, (own, *others))


def _depends(measured: Measured, first: Finding, way: Direction | None, about: Curve) -> str:
    if first.code == "undefined":
        return DEPENDS + f"small batches give no number ({first.what})"
    if measured.behaviour == "mean":
        return DEPENDS + f"{first.title}; on these samples it does not show"
    if measured.behaviour == "sum":
        return DEPENDS + "the mean of per-batch values grows with the batch"
    reads = {"low": "reads LOW", "high": "reads HIGH", "varies": "reads low at some sizes, high at others"}
    return DEPENDS + f"the mean of per-batch values {reads[way] if way else 'is not the value on all samples'}"


def _with_direction(causes: Sequence[Finding], way: Direction | None) -> list[Finding]:
    """The measured direction belongs to the first cause: the others act on what it leaves."""
    from dataclasses import replace

    first = next((index for index, cause in enumerate(causes) if not cause.harmless), None)
    return [replace(cause, direction=way) if index == first else cause for index, cause in enumerate(causes)]


def _undefined(measured: Measured) -> list[Finding]:
    rows = measured.undefined
    if not rows:
        return []
    smallest, defined = rows[0], [row.size for row in measured.rows if not row.undefined]
    how = smallest.raised or "NaN"
    what = f"{how} on {smallest.undefined:,} of {smallest.batches:,} batches of {smallest.size}"
    if defined:
        what += f"; every batch of {min(size for size in defined if size > smallest.size):,} gives a number" if any(
            size > smallest.size for size in defined
        ) else ""
    return [finding("undefined", what=what)]
