"""A number about one batch: made, changed in a way that does not matter, bent by a nonlinear function."""

from __future__ import annotations

import ast
from dataclasses import replace

from batchproof.scripts.source.interpreter import Reading, note_after
from batchproof.scripts.source.site import Quantity
from batchproof.scripts.source.values import HARM, Averaged, Stat, Total, Value


def stat(run: Reading, node: ast.expr | None, quantity: Quantity, why: str = "", origin: ast.AST | None = None) -> Stat:
    return Stat(node, quantity, why, origin or node, call=node, plain=node, loop=run.batch_loop())


def derived(value: Stat, node: ast.expr, **changes: object) -> Stat:
    """The same statistic after something that does not change what it is."""
    return replace(value, **{"node": node, "call": node, "plain": node, **changes})  # type: ignore[arg-type]


def worse(first: Stat, second: Stat, node: ast.expr) -> Stat:
    """A sum of two statistics is as bad as the worse of them."""
    pair = {first.quantity, second.quantity}
    if pair == {Quantity.COUNT}:
        return derived(first, node)
    if pair <= {Quantity.SUM, Quantity.COUNT}:
        return derived(first, node, quantity=Quantity.SUM)
    if pair == {Quantity.SUM, Quantity.MEAN}:
        return derived(first if first.quantity is Quantity.MEAN else second, node)
    chosen = max(first, second, key=lambda s: HARM.index(s.quantity))
    return derived(chosen, node)


def nonlinear(run: Reading, node: ast.expr, value: Value, what: str) -> Value:
    """A nonlinear function of a value."""
    if isinstance(value, Averaged):
        note_after(value.entries, value.averages, what)
        return Averaged(node, value.entries, value.averages)
    if isinstance(value, Total):
        return value
    if not isinstance(value, Stat):
        return value
    if value.quantity in {Quantity.NONLINEAR, Quantity.COUPLED, Quantity.RUNNING}:
        return derived(value, node)
    return derived(value, node, quantity=Quantity.NONLINEAR, why=f"{what} is taken of each batch", origin=node)
