"""BP204: a running total or average, added up again in every batch."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, Verdict, division, name_of, origin, reported, value_of
from batchproof.scripts.source import AverageSite, Quantity


def running_total(site: AverageSite) -> Verdict | None:
    """What has been added up already is added again."""
    if site.added.quantity is not Quantity.RUNNING or reported(site) is None:
        return None
    because = site.added.why or "it runs on over the batches"
    message = (
        f"{name_of(site)} takes in {value_of(site)} in every batch: {because}, so that early batches count many times"
    )
    remedy = "add what this batch contributes, and take the average once after the loop"
    return Verdict(site.add, message, remedy, origin(site) + division(site, "averaged once more here"))


RULE = Rule(__file__, Severity.ERROR, "a running total or average, added up again in every batch", site=running_total)
