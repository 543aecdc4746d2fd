"""Means, sums and other reductions: of the rows of a batch, and of lists over batches."""

from __future__ import annotations

import ast

from batchproof.scripts.source.interpreter import Reading, record_average
from batchproof.scripts.source.site import Divisor, Quantity
from batchproof.scripts.source.stats import derived, stat
from batchproof.scripts.source.values import (
    HARM,
    Arguments,
    Averaged,
    Const,
    Fixed,
    Items,
    Keywords,
    Pool,
    Rows,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
)


def mean_of(run: Reading, node: ast.expr, value: Value) -> Value:
    """``np.mean(value)``, ``value.mean()`` without a dimension."""
    if isinstance(value, Items) and value.entries:
        value = Total(value.node, tuple(value.entries), True)
    if isinstance(value, Total):
        if value.listed:
            if any(entry.spread or isinstance(entry.value, Pool) for entry in value.entries):
                return Pool(node)
            for entry in value.entries:
                entry.scalar = entry.scalar or not entry.spread
            divisor = Divisor.WEIGHTS if value.weighted is not None else Divisor.BATCHES
            averages = record_average(run, value.entries, node, divisor, None)
            return Averaged(node, value.entries, averages)
        return value
    if isinstance(value, Averaged):
        return Averaged(node, value.entries, value.averages)
    if isinstance(value, Items):
        return mean_of_items(run, node, value)
    if isinstance(value, Stat):
        if value.quantity is Quantity.COUNT:
            return derived(value, node, quantity=Quantity.MEAN)
        return derived(value, node)
    if isinstance(value, Rows):
        if value.selected:
            return stat(run, node, Quantity.RATIO, "how many samples the mask leaves differs from batch to batch")
        if value.pairs:
            return stat(run, node, Quantity.COUPLED, "it is a mean over pairs of the batch's samples")
        if value.rescaled:
            return stat(run, node, Quantity.RATIO, "its terms are divided by a mean or a sum over their own batch")
        return stat(run, node, Quantity.MEAN)
    if isinstance(value, Unknown) and (value.of_batch or run.batch_loop() is not None):
        return stat(run, node, Quantity.MEAN)
    if isinstance(value, Pool):
        return Fixed(node)
    return Unknown(node)


def mean_of_items(run: Reading, node: ast.expr, value: Items) -> Value:
    """A mean over a list that was filled within one batch: of its samples, or of its parts."""
    found = [item for item in value.items if isinstance(item, Stat)]
    if value.of_samples:
        return stat(run, node, Quantity.MEAN)
    if found:
        chosen = max(found, key=lambda s: HARM.index(s.quantity))
        return derived(chosen, node)
    if any(is_of_batch(item) for item in value.items):
        return stat(run, node, Quantity.MEAN)
    return Unknown(node)


def sum_of(run: Reading, node: ast.expr, value: Value) -> Value:
    if isinstance(value, Items) and value.entries:
        return Total(node, tuple(value.entries), False)
    if isinstance(value, Total):
        return Total(node, value.entries, False, value.weighted)
    if isinstance(value, (Averaged, Stat)):
        return value
    if isinstance(value, Items):
        found = [item for item in value.items if isinstance(item, Stat)]
        if value.of_samples:
            return stat(run, node, Quantity.SUM)
        if found:
            chosen = max(found, key=lambda s: HARM.index(s.quantity))
            return derived(chosen, node)
        if any(is_of_batch(item) for item in value.items):
            return Unknown(node, "", True)
        return Unknown(node)
    if isinstance(value, Rows):
        if value.pairs and not value.mask:
            return stat(run, node, Quantity.COUPLED, "it is a sum over pairs of the batch's samples")
        return stat(run, node, Quantity.COUNT if value.mask else Quantity.SUM, "it is a sum over the batch")
    if isinstance(value, Unknown) and (value.of_batch or run.batch_loop() is not None):
        return stat(run, node, Quantity.SUM, "it is a sum over the batch")
    return Fixed(node) if isinstance(value, Pool) else Unknown(node)


def dimension_of(arguments: Arguments, keywords: Keywords, at: int) -> object:
    """The dimension that is reduced: None for all, a number, a list of numbers, or ... where it is not known."""
    value = keywords.get("dim") or keywords.get("axis")
    if value is None and len(arguments) > at:
        value = arguments[at]
        if len(arguments) > at + 1 and all(isinstance(a, Const) and isinstance(a.value, int) for a in arguments[at:]):
            return [a.value for a in arguments[at:] if isinstance(a, Const)]
    if value is None:
        return None
    if isinstance(value, Const):
        return value.value
    if isinstance(value, Items) and value.items and all(isinstance(i, Const) for i in value.items):
        return [i.value for i in value.items if isinstance(i, Const)]
    return ...


def keeps_rows(dimension: object) -> bool:
    """Whether there is still a row for each sample after a reduction over that dimension."""
    if dimension is ...:
        return True
    if isinstance(dimension, list):
        return 0 not in dimension
    return isinstance(dimension, int) and not isinstance(dimension, bool) and dimension != 0


def reduce(run: Reading, node: ast.expr, name: str, value: Value, dimension: object) -> Value | None:
    """A reduction by its name; None where it is none."""
    if name not in _REDUCTIONS:
        return None
    if isinstance(value, (Rows, Unknown)) and keeps_rows(dimension):
        if isinstance(value, Unknown) and not value.of_batch:
            return Unknown(node, value.name, parameter=value.parameter)
        same = isinstance(value, Rows)
        return Rows(
            node,
            selected=isinstance(value, Rows) and value.selected,
            pairs=isinstance(value, Rows) and value.pairs,
            rescaled=isinstance(value, Rows) and value.rescaled,
            mask=same and isinstance(value, Rows) and value.mask and name in {"all", "any"},
            output=isinstance(value, Rows) and value.output,
        )
    if (
        isinstance(value, Items)
        and name in {"mean", "nanmean", "average"}
        and not value.entries
        and not value.of_samples
    ):
        return mean_of_items(run, node, value)
    if name in {"mean", "average", "fmean"}:
        return mean_of(run, node, value)
    if name == "nanmean":
        if isinstance(value, Rows) or (isinstance(value, Unknown) and value.of_batch):
            return stat(run, node, Quantity.RATIO, "how many values are left out differs from batch to batch")
        return mean_of(run, node, value)
    if name in {"sum", "nansum", "count_nonzero", "fsum"}:
        if name == "count_nonzero" and isinstance(value, Rows):
            return stat(run, node, Quantity.COUNT)
        builtin = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if (
            builtin
            and (isinstance(value, Unknown) or (isinstance(value, Rows) and not value.mask))
            and is_of_batch(value)
            and "loss" in ast.unparse(node)
        ):  # a list of losses that a model returns
            return stat(run, node, Quantity.UNKNOWN)
        return sum_of(run, node, value)
    if isinstance(value, Stat):
        return derived(value, node)
    if isinstance(value, (Total, Averaged)):
        return Fixed(node)
    if isinstance(value, Items):
        if value.entries:
            return Fixed(node)
        return mean_of_items(run, node, value)
    if isinstance(value, Rows):
        if value.pairs:
            return stat(run, node, Quantity.COUPLED, "each sample is compared with the others of its batch")
        return stat(run, node, Quantity.NONLINEAR, f"the {_REDUCTIONS[name]} of a batch is no mean")
    return Unknown(node, "", is_of_batch(value))


_REDUCTIONS = {
    "mean": "mean", "average": "mean", "fmean": "mean", "nanmean": "mean", "sum": "sum", "nansum": "sum", "fsum": "sum",
    "count_nonzero": "count", "max": "largest value", "min": "smallest value", "amax": "largest value",
    "amin": "smallest value", "std": "standard deviation", "var": "variance", "median": "median", "norm": "norm",
    "prod": "product", "logsumexp": "logarithm of a sum", "quantile": "quantile", "percentile": "quantile",
    "all": "agreement", "any": "agreement", "dist": "norm",
}  # fmt: skip
