"""BP205: sums over samples, divided by the number of batches."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, Verdict, division, name_of, origin, reported
from batchproof.scripts.source import AverageSite, Divisor, Quantity, Weight


def sums_over_batches(site: AverageSite) -> Verdict | None:
    """Sums over samples, divided by how many batches there are."""
    average = reported(site)
    if average is None or average.divisor is not Divisor.BATCHES or site.loop.loader.batch_size == 1:
        return None
    added = site.added
    weighted = added.quantity is Quantity.MEAN and added.weight in (Weight.SAMPLES, Weight.CONFIGURED)
    if not weighted and (added.quantity not in (Quantity.SUM, Quantity.COUNT) or added.weight is not Weight.NONE):
        return None
    what = "numbers of samples" if added.quantity is Quantity.COUNT else "sums over samples"
    message = f"{name_of(site)} adds up {what} and is divided by the number of batches: it grows with the batch size"
    remedy = "divide by the number of samples, as in len(loader.dataset)"
    return Verdict(site.add, message, remedy, division(site, "divided by the number of batches") + origin(site))


RULE = Rule(__file__, Severity.ERROR, "sums over samples, divided by the number of batches", site=sums_over_batches)
