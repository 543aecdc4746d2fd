"""BP103: a contrastive, triplet or other loss that compares the samples of a batch, averaged over batches."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, Verdict, averages, divided, name_of, origin, value_of
from batchproof.scripts.source import AverageSite, Quantity


def coupled(site: AverageSite) -> Verdict | None:
    """A loss that compares the samples of a batch with each other."""
    if not averages(site, Quantity.COUPLED):
        return None
    because = site.added.why or "the samples of a batch are compared with each other"
    message = (
        f"{name_of(site)} averages {value_of(site)} over batches, and another batch size is another loss: {because}"
    )
    remedy = "compare runs at one batch size only, or report a metric that scores each sample on its own"
    return Verdict(site.add, message, remedy, origin(site) + divided(site))


RULE = Rule(
    __file__,
    Severity.WARNING,
    "a contrastive, triplet or other loss that compares the samples of a batch, averaged over batches",
    site=coupled,
)
