"""Why the mean of batches is not the value on all samples, read off the function that gave a batch's value."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from batchproof.scripts.run.formula import Formula
from batchproof.scripts.run.registry import AccumulatorPlace, RewrittenFile
from batchproof.scripts.source import NONLINEAR_STEPS, Quantity, by_name


def cause_of(formula: Formula, source: RewrittenFile) -> dict[str, Any] | None:
    """What a batch's value is, why, and which expression makes it so; None where nothing tells.

    Args:
        formula: the function.
        source: the file whose lines are shown.
    """
    for call, name in _calls(formula):
        told = _told(name)
        if told is not None:
            quantity, why = told
            is_here = formula.source is not None and formula.source.file == source.file
            return {"quantity": quantity, "why": why, **({"origin": call} if is_here else {})}
    if any(getattr(value, "is_by_target", False) for _, value in formula.fixed):
        return {"quantity": Quantity.RATIO, "why": "how many targets are not ignored differs from batch to batch"}
    return None


def explain(place: AccumulatorPlace, formulas: Sequence[Formula]) -> None:
    """Say why of a place of which no line of the source did."""
    if formulas and (place.handed or place.keyed) and not place.site.added.why:
        found = cause_of(formulas[0], place.source)
        if found is not None:
            place.site = replace(place.site, added=replace(place.site.added, **found))


def _told(name: str) -> tuple[Quantity, str] | None:
    if name in NONLINEAR_STEPS:
        return Quantity.NONLINEAR, f"{NONLINEAR_STEPS[name]} is taken of each batch"
    found = by_name(name)
    return found if found is not None and found[1] else None


def _calls(formula: Formula) -> Iterator[tuple[ast.expr, str]]:
    """What gives single numbers, the last first, each with the name of what is called."""
    for node in reversed(formula.expressions):
        if isinstance(node, ast.Call):
            yield node, str(getattr(node.func, "attr", getattr(node.func, "id", "")))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            yield node, "pow"
