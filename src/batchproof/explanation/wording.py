"""What the reports on an Explanation say in words, in every form: terminal, HTML and PNG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from batchproof.ground.text import size_of
from batchproof.report.numbers import decimals_for, number, share, size

if TYPE_CHECKING:
    from batchproof.explanation.result import Code, Curve, Explanation, Finding, Keep, Reading

#: The findings that say why it is safe.
PROOFS: frozenset[Code] = frozenset({"mean", "independent", "accumulated"})


def given(explanation: Explanation) -> str:
    """The inputs, where they were guessed: the reader must know on what the figures rest."""
    guessed = [given for given in explanation.inputs if given.guessed]
    if not guessed:
        return ""
    text = ", ".join(f"{given.name} {given.what}" for given in guessed)
    return f"{text}: guessed from the names; pass your own data for your own figures"


def reasons(explanation: Explanation) -> list[Finding[Code]]:
    """What harms, or else what makes it safe."""
    harmful = [finding for finding in explanation.findings if not finding.harmless]
    return harmful or [finding for finding in explanation.findings if finding.code in PROOFS]


def remarks(explanation: Explanation) -> list[Finding[Code]]:
    """What does no harm on these samples, and might on others."""
    return [finding for finding in explanation.findings if finding.harmless and finding.code not in PROOFS]


def measured(curve: Curve) -> str:
    """On which samples, and the exact value."""
    some = (
        f"{curve.samples:,} of {curve.of_samples:,} samples"
        if curve.samples < curve.of_samples
        else f"{curve.samples:,} samples"
    )
    order = "shuffled" if curve.shuffled else "in their order"
    text = f"{some}, {order}"
    if curve.measures_change:
        return f"{text}: how far outputs are from those of one batch of all, in standard deviations"
    exact = number(curve.exact, decimals_for([curve.exact], 5))
    if curve.components > 1:
        text += f"; component {curve.component} of {curve.components}, which moves most"
    return f"{text}: exact {exact}"


def sampled(curve: Curve) -> str:
    """That only some of the batches were tried."""
    some = [reading for reading in curve.readings if reading.is_sampled]
    if not some:
        return ""
    first = some[0]
    return f"sampled: {first.batches:,} of {first.of:,} batches at size {size(first.size)}, ± one standard error"


def is_same_everywhere(explanation: Explanation) -> bool:
    """Whether there is nothing to see in the curve."""
    curve = explanation.curve
    return (
        curve is not None
        and explanation.is_safe is True
        and all(curve.is_exact(reading.mean) for reading in curve.readings)
    )


def same_everywhere(curve: Curve) -> str:
    """What is said in place of the table then."""
    return f"the same at every batch size from {size(curve.readings[0].size)} to {size(curve.readings[-1].size)}"


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
        f"batches of {worst.size:,} leave {worst.last:,} over: mean {number(worst.mean, decimals)}, "
        f"drop_last {number(worst.dropped, decimals)}, weighted by size {number(worst.weighted, decimals)}"
    )


def kept(keep: Keep) -> str:
    """The state that makes it exact, and how that was verified."""
    if keep.row_nbytes:
        return f"{keep.what}, {size_of(keep.row_nbytes)} each: {keep.reason}"
    text = f"{keep.what}: {size_of(keep.nbytes)} at any size"
    if keep.error is not None:
        text += f"; verified on {keep.partitions} partitions to {max(keep.error, 1e-16):.0e}"
    return text


def at_marked_size(explanation: Explanation) -> str:
    """``at your batch size 16 it reads LOW by 1.0%``; empty where no size is marked."""
    marked, curve = explanation.marked, explanation.curve
    if marked is None:
        return ""
    if curve is None:
        return f"at your batch size {size(marked)}: nothing was measured"
    reading = next((reading for reading in curve.readings if reading.size == marked), None)
    if reading is None:
        held = f"the {curve.samples:,} samples that were measured"
        return f"your batch size {size(marked)} is larger than {held}: one batch holds them all"
    if reading.undefined:
        some = f"{reading.undefined:,} of {reading.batches:,} batches"
        return f"at your batch size {size(marked)}: no value on {some}: {reading.raised or 'NaN or infinite'}"
    return f"at your batch size {size(marked)} {_reads(reading, curve)}"


def _reads(reading: Reading, curve: Curve) -> str:
    if curve.measures_change:
        return f"outputs are {reading.mean:.0%} of a standard deviation from those of one batch of all"
    name = "compute()" if curve.quantity == "compute()" else "it"
    if math.isnan(curve.exact):
        return f"{name} reads {number(reading.mean, 4)}, and there is no value on all samples"
    if curve.is_exact(reading.mean):
        return f"{name} is the value on all samples"
    error = curve.error(reading.mean)
    scale = abs((reading.mean - curve.exact) / error) if error and math.isfinite(error) else math.inf
    text = f"{name} {low_or_high(error, (reading.standard_error or 0.0) / scale)}"
    weighted = curve.error(reading.weighted)
    if not reading.last or abs(error - weighted) < 0.2 * abs(error):
        return text
    if curve.is_exact(reading.weighted) or error * weighted < 0:
        text += f", because its last batch of {reading.last:,} counts like a full one"
    by_size = "it is exact" if curve.is_exact(reading.weighted) else f"it {low_or_high(weighted)}"
    return f"{text}; weighted by batch size, {by_size}"


def low_or_high(error: float, standard_error: float = 0.0) -> str:
    """``reads LOW by 1.0%``, with its error bar where there is one to speak of."""
    bar = f" ± {share(standard_error)}" if standard_error > 0.05 * abs(error) else ""
    if abs(error) < 2 * standard_error:
        return f"is within its noise of the value on all samples: {error:+.2%}{bar}"
    return f"reads {'LOW' if error < 0 else 'HIGH'} by {share(abs(error))}{bar}"
