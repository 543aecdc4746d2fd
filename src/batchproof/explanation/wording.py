"""What the reports on an Explanation say in words, in every form: terminal, HTML and PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchproof.ground.text import size_of
from batchproof.report.numbers import decimals_for, number, share, size, too_low_or_high

if TYPE_CHECKING:
    from batchproof.explanation.result import Code, Curve, Explanation, Finding, Keep, Reading

#: A smaller error is no sight for a reader of a table.
SLIGHT = 1e-3
#: The findings that say why it is safe.
PROOFS: frozenset[Code] = frozenset({"mean", "independent", "accumulated"})


def given(explanation: Explanation) -> str:
    """The inputs, where they were guessed: the reader must know on what the figures rest."""
    guessed = [given for given in explanation.inputs if given.guessed]
    if not guessed:
        return ""
    text = ", ".join(f"{given.name} {given.what}" for given in guessed)
    return f"guessed inputs: {text}; pass your own (--data FILE) for your own figures"


def reasons(explanation: Explanation) -> list[Finding[Code]]:
    """What harms, or else what makes it safe."""
    harmful = [finding for finding in explanation.findings if not finding.harmless]
    return harmful or [finding for finding in explanation.findings if finding.code in PROOFS]


def is_repaired(explanation: Explanation, finding: Finding[Code]) -> bool:
    """Whether the code to use instead removes this cause: ``model.eval()`` takes no padding out of a mean."""
    return bool(explanation.use) and (explanation.kind != "model" or finding.code == "couples")


def remarks(explanation: Explanation) -> list[Finding[Code]]:
    """What does no harm on these samples, and might on others."""
    return [finding for finding in explanation.findings if finding.harmless and finding.code not in PROOFS]


def samples(curve: Curve) -> str:
    """On which samples: ``442 samples, shuffled``."""
    some = f"{curve.samples:,} of {curve.of_samples:,}" if curve.samples < curve.of_samples else f"{curve.samples:,}"
    return f"{some} samples, {'shuffled' if curve.shuffled else 'in their order'}"


def measured(curve: Curve) -> str:
    """On which samples, and the exact value."""
    text = samples(curve)
    if curve.measures_change:
        return f"{text}: how far outputs are from those of one batch of all, in standard deviations"
    exact = number(curve.exact, decimals_for([curve.exact], 5))
    if curve.components > 1:
        text += f"; component {curve.component} of {curve.components}, which moves most"
    return f"{text}: the value on all of them is {exact}"


def thinned(readings: Sequence[Reading], asked: Sequence[int], marked: int | None, most: int) -> list[Reading]:
    """The sizes that the reader asked for; or else every second or third of those tried, the ends always among them."""
    if asked:
        return [reading for reading in readings if reading.size in (*asked, marked)] or list(readings)
    for step in range(1, len(readings) + 1):
        shown = {id(reading) for reading in (*readings[::step], readings[-1])}
        shown |= {id(reading) for reading in readings if reading.size == marked}
        if len(shown) <= most:
            return [reading for reading in readings if id(reading) in shown]
    return list(readings)


def sampled(curve: Curve) -> str:
    """That only some of the batches were tried."""
    some = [reading for reading in curve.readings if reading.is_sampled]
    if not some:
        return ""
    first = some[0]
    return f"sampled: {first.batches:,} of {first.of:,} batches of {size(first.size)}, ± one standard error"


def same_everywhere(explanation: Explanation) -> str:
    """What is said in place of a table where there is nothing to see in it; empty where there is."""
    curve = explanation.curve
    if curve is None or explanation.is_safe is False:
        return ""
    if any(not curve.is_exact(reading.weighted) for reading in curve.readings):
        return ""
    first, last = size(curve.readings[0].size), size(curve.readings[-1].size)
    text = f"the same at every batch size from {first} to {last}"
    off = [reading for reading in curve.readings if not curve.is_exact(reading.mean)]
    if curve.quantity != "mean of batches" or not off:
        return text
    worst = max(off, key=lambda reading: abs(curve.error(reading.mean)))
    return (
        f"{text}; without weights a short last batch counts like a full one: {share(abs(curve.error(worst.mean)))} off "
        f"at {size(worst.size)}, which leaves {worst.last:,} over"
    )


def short_last(curve: Curve, kind: str) -> str:
    """What one short last batch does, at the size where it does most."""
    if kind != "function":
        return ""
    candidates = [
        reading
        for reading in curve.readings
        if reading.last and not reading.undefined and 2 * reading.size <= curve.samples
        and abs(curve.error(reading.mean) - curve.error(reading.weighted)) >= 5e-4
    ]  # fmt: skip
    if not candidates:
        return ""
    worst = max(candidates, key=lambda reading: abs(reading.mean - reading.weighted))
    decimals = decimals_for([curve.exact, worst.mean], digits=5)
    return (
        f"batches of {worst.size:,} leave {worst.last:,} over: averaged it is {number(worst.mean, decimals)}, "
        f"with drop_last {number(worst.dropped, decimals)}, weighted by batch size {number(worst.weighted, decimals)}"
    )


def puzzling_last(explanation: Explanation) -> str:
    """The short last batch, where it turns the sign at some sizes: the table would contradict the verdict."""
    curve = explanation.curve
    if curve is None or explanation.is_safe is not False:
        return ""
    errors = [curve.error(reading.mean) for reading in curve.readings if not reading.undefined]
    turns = any(error > SLIGHT for error in errors) and any(error < -SLIGHT for error in errors)
    return short_last(curve, explanation.kind) if turns else ""


def kept(keep: Keep) -> str:
    """The state that makes it exact, and how that was verified."""
    if keep.row_nbytes:
        return f"{keep.what}, {size_of(keep.row_nbytes)} each: {keep.reason}"
    text = f"{keep.what}: {size_of(keep.nbytes)} at any size"
    if keep.error is not None:
        text += f"; verified on {keep.partitions} partitions to {max(keep.error, 1e-16):.0e}"
    return text


def at_marked_size(explanation: Explanation) -> str:
    """What the verdict does not say of the reader's own batch size; empty where it says all, or no size is marked."""
    marked, curve = explanation.marked, explanation.curve
    if marked is None:
        return ""
    head = f"at your batch size, {size(marked)},"
    if curve is None:
        return f"{head} nothing was measured"
    reading = next((reading for reading in curve.readings if reading.size == marked), None)
    if reading is None:
        return f"your batch size, {size(marked)}, is more than the {curve.samples:,} samples: one batch holds them all"
    if reading.undefined:
        some = f"{reading.undefined:,} of {reading.batches:,} batches"
        return f"{head} {some} have no value: {reading.raised or 'NaN or infinite'}"
    text = _reads(reading, curve)
    return "" if text.removeprefix("it is ") in explanation.headline else f"{head} {text}"


def _reads(reading: Reading, curve: Curve) -> str:
    if curve.measures_change:
        return f"outputs are {reading.mean:.0%} of a standard deviation from those of one batch of all"
    name = "compute()" if curve.quantity == "compute()" else "it"
    if math.isnan(curve.exact):
        return f"{name} is {number(reading.mean, 4)}, and there is no value on all samples"
    if curve.is_exact(reading.mean):
        return f"{name} is the value on all samples"
    error = curve.error(reading.mean)
    scale = abs((reading.mean - curve.exact) / error) if error and math.isfinite(error) else math.inf
    text = f"{name} is {too_low_or_high(error, (reading.standard_error or 0.0) / scale)}"
    weighted = curve.error(reading.weighted)
    if not reading.last or abs(error - weighted) < 0.2 * abs(error):
        return text
    if curve.is_exact(reading.weighted) or error * weighted < 0:
        text += f", because its last batch of {reading.last:,} counts like a full one"
    by_size = "it is exact" if curve.is_exact(reading.weighted) else f"it is {too_low_or_high(weighted)}"
    return f"{text}; weighted by batch size, {by_size}"
