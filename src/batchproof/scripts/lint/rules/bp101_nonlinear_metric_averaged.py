"""BP101: a square root, F1, AUC, R² or the like of each batch, averaged over batches."""

from __future__ import annotations

import ast

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rule import (
    Rule,
    Verdict,
    averages,
    code_of,
    divided,
    function_of,
    logged,
    name_of,
    origin,
    value_of,
)
from batchproof.scripts.source import AverageSite, Quantity, callee_of

DIRECTION = {
    "sqrt": "it tends to be too low",
    "exp": "it tends to be too high",
    "perplexity": "it tends to be too high",
}
_ONE = {"sqrt": "root", "exp": "exponential", "log": "logarithm", "perplexity": "perplexity"}
#: Functions of one number, each entry of a tensor by itself: the mean over the batch was taken before.
_ELEMENTWISE = {"sqrt", "exp", "log", "log2", "log10", "pow"}


def nonlinear(site: AverageSite) -> Verdict | None:
    """A nonlinear metric of each batch, averaged in whatever way."""
    if not averages(site, Quantity.NONLINEAR):
        return None
    direction = DIRECTION.get(_name_of(site.added.origin), "")
    because = site.added.why or "it is no mean over samples"
    if site.added.named:
        because = f"by its name, {because}"
    message = f"{name_of(site)} averages {value_of(site)} over batches, and that depends on the batch size: {because}"
    return Verdict(
        site.add,
        message + f"; {direction}" * bool(direction),
        _exact_remedy(site),
        origin(site) + divided(site),
        Severity.WARNING if site.added.named else None,
    )


def _exact_remedy(site: AverageSite) -> str:
    call = site.added.call
    log = logged(site)
    if log is not None:
        return _logged_remedy(site, log)
    name = _name_of(site.added.origin)
    once = f"one {_ONE.get(name, 'value')} after the loop"
    if _name_of(call) in _ELEMENTWISE:  # what it is taken of is a batch's mean already
        return f"{once}: average what it is taken of, each batch weighted by its number of samples"
    if function_of(site) is not None and isinstance(call, ast.Call) and call.args:
        metric = f"`metric = batchproof.exact({function_of(site)})`"
        return f"{once}: {metric} above it, {_on_a_batch(call)} in it, `metric.compute()` below it"
    return f"{once}: keep what it is made of (sums and counts, or all predictions)"


def _logged_remedy(site: AverageSite, log: ast.Call) -> str:
    """What to log instead: an object that the trainer computes once an epoch."""
    call, function = site.added.call, function_of(site)
    if not isinstance(call, ast.Call) or function is None or _name_of(call) in _ELEMENTWISE:
        return (
            "log `batchproof.exact` of a function of predictions and targets; or log what it is taken of, and take "
            f"one {_ONE.get(_name_of(site.added.origin), 'value')} of that when the epoch ends"
        )
    key = f'"{site.name}", ' if callee_of(log) == "log" else ""
    if site.added.kept:
        value = log.args[-1] if log.args else None
        shown = f"self.{callee_of(log)}({key}{function})"
        if isinstance(value, ast.Subscript):  # one of a collection's
            shown = f"self.log_dict({function})"
        return (
            f"log the metric in place of a batch's value, and it is computed once an epoch: {code_of(call)}, then "
            f"`{shown}`"
        )
    metric = f"self.{function.rpartition('.')[2]}" + "_metric" * function.startswith("self.")
    return (
        f"`{metric} = batchproof.exact({function})` in `__init__`, {_on_a_batch(call, metric + '.update')} here, and "
        f'`self.log("{site.name}", {metric})`: it is computed once an epoch'
    )


def _on_a_batch(call: ast.Call, metric: str = "metric") -> str:
    """The call as ``exact`` takes its place."""
    return code_of(ast.Call(ast.Name(metric), call.args, call.keywords))


def _name_of(node: ast.AST | None) -> str:
    """The last name of a call: ``sqrt`` of ``torch.sqrt(x)``; of ``x ** 0.5`` too."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return "sqrt" if isinstance(node.right, ast.Constant) and node.right.value == 0.5 else ""
    return callee_of(node)


RULE = Rule(
    __file__,
    Severity.ERROR,
    "a square root, F1, AUC, R² or the like of each batch, averaged over batches",
    site=nonlinear,
)
