"""BP201: a mean loss, averaged over batches of which the last may be short."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import (
    MEANS,
    Rule,
    Verdict,
    batches_are_equal,
    division,
    loader_of,
    name_of,
    reported,
)
from batchproof.scripts.source import AverageSite, Divisor, Weight


def mean_of_means(site: AverageSite) -> Verdict | None:
    """Every batch counts alike, and the last one may be short."""
    average = reported(site)
    if site.added.quantity not in MEANS or site.added.weight is not Weight.NONE or average is None:
        return None
    if average.divisor is not Divisor.BATCHES or batches_are_equal(site):
        return None
    message = f"{name_of(site)} gives every batch the same weight: a short last batch counts as much as a full one"
    marks = division(site, "divided by the number of batches") + loader_of(site)
    return Verdict(site.add, message, "weight each batch by its number of samples, and divide by their sum", marks)


RULE = Rule(
    __file__, Severity.NOTE, "a mean loss, averaged over batches of which the last may be short", site=mean_of_means
)
