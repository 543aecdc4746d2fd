"""BP102: a class-weighted, masked or token mean of each batch, averaged over batches."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import (
    Rule,
    Verdict,
    averages,
    divided,
    function_of,
    name_of,
    origin,
    reported,
    value_of,
)
from batchproof.scripts.source import AverageSite, Divisor, Quantity, Weight


def ratio(site: AverageSite) -> Verdict | None:
    """A ratio with a denominator of its own in each batch."""
    if not averages(site, Quantity.RATIO) or _weighted_by_its_own(site):
        return None
    because = site.added.why or "its denominator depends on the batch"
    message = f"{name_of(site)} averages {value_of(site)} over batches, each divided by something else: {because}"
    remedy = "add up numerators and denominators, and divide once after the loop"
    if function_of(site):
        remedy += f"; or use batchproof.exact({function_of(site)})"
    return Verdict(site.add, message, remedy, origin(site) + divided(site))


def _weighted_by_its_own(site: AverageSite) -> bool:
    """A mean over tokens, times the tokens, over all tokens is the mean over all tokens."""
    average = reported(site)
    return site.added.weight is Weight.OWN and average is not None and average.divisor is Divisor.WEIGHTS


RULE = Rule(
    __file__,
    Severity.WARNING,
    "a class-weighted, masked or token mean of each batch, averaged over batches",
    site=ratio,
)
