"""BP202: batches weighted by the batch size that was asked for, or by a count of something else."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import (
    MEANS,
    Rule,
    Verdict,
    batches_are_equal,
    code_of,
    division,
    loader_of,
    name_of,
    reported,
    value_of,
)
from batchproof.scripts.source import AverageSite, Divisor, Quantity, Weight


def wrong_weight(site: AverageSite) -> Verdict | None:
    """The weight, or the divisor, is not how many samples there are."""
    average = reported(site)
    if average is None:
        return None
    added = site.added
    if added.quantity in MEANS and added.weight is Weight.OTHER:
        weight = code_of(added.weight_node)
        message = f"{name_of(site)} weights {value_of(site)} by {weight}, which is not how many it averages"
        if added.why:
            message += f": {added.why}"
        remedy = "weight by what the mean divides by, and divide by the sum of these weights"
        return Verdict(site.add, message, remedy, division(site, "divided here"))
    if batches_are_equal(site):
        return None
    if added.quantity in MEANS and added.weight is Weight.CONFIGURED:
        weight = code_of(added.weight_node)
        message = (
            f"{name_of(site)} weights every batch by {weight}, the batch size that was asked for: the last may be short"
        )
        remedy = "weight by the batch's own size, as in len(y), and divide by the sum of these weights"
        return Verdict(site.add, message, remedy, division(site, "divided here") + loader_of(site))
    if average.divisor is Divisor.CONFIGURED and added.quantity in (*MEANS, Quantity.SUM, Quantity.COUNT):
        message = f"{name_of(site)} is divided by {code_of(average.divisor_node)} samples, as if no batch were short"
        remedy = "divide by how many samples were seen, or by len(loader.dataset)"
        return Verdict(site.add, message, remedy, division(site, "too many samples are counted here") + loader_of(site))
    return None


RULE = Rule(
    __file__,
    Severity.WARNING,
    "batches weighted by the batch size that was asked for, or by a count of something else",
    site=wrong_weight,
)
