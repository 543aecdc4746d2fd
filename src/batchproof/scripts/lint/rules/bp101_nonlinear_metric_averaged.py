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
    name = _name_of(site.added.origin)
    once = f"one {_ONE.get(name, 'value')} after the loop"
    if _name_of(call) in _ELEMENTWISE:  # what it is taken of is a batch's mean already
        return f"{once}: average what it is taken of, each batch weighted by its number of samples"
    if function_of(site) is not None and isinstance(call, ast.Call) and call.args:
        metric = f"`metric = batchproof.exact({function_of(site)})`"
        return f"{once}: {metric} above it, {_on_a_batch(call)} in it, `metric.compute()` below it"
    return f"{once}: keep what it is made of (sums and counts, or all predictions)"


def _on_a_batch(call: ast.Call) -> str:
    """The call as ``exact`` takes its place."""
    return code_of(ast.Call(ast.Name("metric"), call.args, call.keywords))


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
