"""BP203: means of batches, added up and divided by the number of samples."""

from __future__ import annotations

import ast

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import Rule, Verdict, code_of, division, name_of, origin, reported, value_of
from batchproof.scripts.source import AverageSite, Divisor, Quantity, Weight

_PER_SAMPLE: tuple[Divisor, ...] = (Divisor.DATASET, Divisor.SAMPLES)
_ALL_BATCHES: tuple[Divisor, ...] = (*_PER_SAMPLE, Divisor.BATCHES, Divisor.CONFIGURED)


def over_the_dataset(site: AverageSite) -> Verdict | None:
    """Means of batches, added up and divided by how many samples there are."""
    average = reported(site)
    if average is not None and site.added.twice and site.loop.loader.batch_size != 1:
        return _divided_twice(site)
    if average is not None and site.added.steps is not None and average.divisor in _ALL_BATCHES:
        return _divided_by_steps(site, site.added.steps)
    if _is_scaled(site):
        return None
    if average is None or _may_be_a_count(site) or not (site.added.quantity is Quantity.MEAN or _reads_as_loss(site)):
        return None
    divisors = _PER_SAMPLE
    if site.added.quantity is Quantity.MEAN and average.divisor_node is not None:  # `np.average` has weighted them
        divisors += (Divisor.WEIGHTS,)
    if site.added.weight is not Weight.NONE or average.divisor not in divisors or site.loop.loader.batch_size == 1:
        return None
    divisor = code_of(average.divisor_node) if average.divisor_node is not None else "the number of samples"
    message = (
        f"{name_of(site)} adds up means of batches and is divided by {divisor}, the number of samples: "
        "it reads too small by a factor of the batch size"
    )
    remedy = "multiply each mean by its number of samples, or divide by the number of batches"
    return Verdict(site.add, message, remedy, division(site, "divided by the number of samples") + origin(site))


def _is_scaled(site: AverageSite) -> bool:
    """Whether it is multiplied by something that may well be how many samples there are."""
    node = site.added.node
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Mult)
        and not (isinstance(node.left, ast.Constant) or isinstance(node.right, ast.Constant))
    )


def _divided_by_steps(site: AverageSite, steps: ast.expr) -> Verdict:
    message = (
        f"{name_of(site)} adds up losses that were divided by {code_of(steps)} for the gradient, and is divided by the "
        f"number of batches as well: it reads too small by a factor of {code_of(steps)}"
    )
    remedy = f"add up the loss before that division, or multiply by {code_of(steps)}"
    return Verdict(site.add, message, remedy, origin(site) + division(site, "averaged here"))


def _divided_twice(site: AverageSite) -> Verdict:
    message = (
        f"{name_of(site)} adds up {value_of(site)}, a mean over the batch, after it was divided by the batch size again"
    )
    remedy = "leave out that division: the mean has it already"
    return Verdict(site.add, message, remedy, origin(site) + division(site, "averaged here"))


def _reads_as_loss(site: AverageSite) -> bool:
    """Losses that come from elsewhere are means; a metric that comes from elsewhere may well be a count."""
    written = f"{site.name} {ast.unparse(site.added.node)}".lower()
    return site.added.quantity is Quantity.UNKNOWN and "loss" in written


def _may_be_a_count(site: AverageSite) -> bool:
    """An accuracy that comes from elsewhere, called by its name, is mostly how many are right."""
    added = site.added
    named = added.origin is None or added.origin is added.call or added.origin is added.node
    return named and any(word in ast.unparse(added.call or added.node).lower() for word in ("acc", "correct"))


RULE = Rule(
    __file__, Severity.ERROR, "means of batches, added up and divided by the number of samples", site=over_the_dataset
)
