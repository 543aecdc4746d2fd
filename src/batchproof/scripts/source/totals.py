"""Totals over batches: what arithmetic makes of them, and what they are divided by."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.frames import Contribution
from batchproof.scripts.source.site import Divisor, Quantity
from batchproof.scripts.source.values import (
    AbstractValue,
    Averaged,
    BatchRows,
    Const,
    Count,
    CountedThing,
    Fixed,
    Length,
    LoopTotal,
    Pool,
    Position,
    Stat,
    Unknown,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


def of_totals(
    run: Interpreter, node: ast.expr, op: ast.operator, left: AbstractValue, right: AbstractValue
) -> AbstractValue:
    if isinstance(op, (ast.Div, ast.FloorDiv)):
        if isinstance(left, LoopTotal):
            return divide(run, node, left, right, node.right if isinstance(node, ast.BinOp) else None)
        if isinstance(left, Averaged):
            return Averaged(node, left.entries, left.averages)
        assert isinstance(right, (LoopTotal, Averaged))
        if isinstance(left, (Count, Const, Unknown)) and isinstance(right, LoopTotal):
            return LoopTotal(node, right.entries, right.listed)
        return Averaged(node, right.entries, right.averages) if isinstance(right, Averaged) else Pool(node)
    if isinstance(left, LoopTotal) and isinstance(right, LoopTotal):
        if isinstance(op, ast.Mult):
            return LoopTotal(node, left.entries, left.listed, weighted=right)
        extra = tuple(e for e in right.entries if e not in left.entries)
        return LoopTotal(node, left.entries + extra, left.listed and right.listed, left.weighted or right.weighted)
    if isinstance(left, Averaged) and isinstance(right, Averaged):
        extra = tuple(e for e in right.entries if e not in left.entries)
        return Averaged(node, left.entries + extra, left.averages + right.averages)
    one, other = (left, right) if isinstance(left, (LoopTotal, Averaged)) else (right, left)
    if isinstance(op, ast.Pow):
        return one.nonlinear(node, "a power")
    if isinstance(one, Averaged):
        if isinstance(op, (ast.Add, ast.Sub)) and isinstance(other, LoopTotal):
            return LoopTotal(node, other.entries, other.listed, other.weighted)
        return Averaged(node, one.entries, one.averages)
    assert isinstance(one, LoopTotal)
    if isinstance(op, ast.Mult) and isinstance(other, Count) and other.inverse:
        return divide(run, node, one, replace(other, inverse=False), None)
    return LoopTotal(node, one.entries, one.listed, one.weighted)


def divide(
    run: Interpreter, node: ast.AST, total: LoopTotal, by: AbstractValue, by_node: ast.expr | None
) -> AbstractValue:
    """A total over a count."""
    divisor = divisor_of(run, total, by, by_node)
    if isinstance(by, LoopTotal) and by.listed and any(entry in total.entries for entry in by.entries):
        for entry in total.entries:
            entry.scalar = entry.scalar or not entry.spread
    number = isinstance(by, (Const, Fixed))
    if (
        isinstance(by, Const)
        and not any(run.is_open(e.loop) for e in total.entries)
        and isinstance(by.value, (int, float))
        and (by.value <= 1 or by.value in {100, 1000, 10, 2, 4})
    ):
        return LoopTotal(node, total.entries, total.listed, total.weighted)
    if isinstance(by, (Unknown, Const)) and by_node is not None and name_tables.reads_as_ranks(ast.unparse(by_node)):
        return LoopTotal(node, total.entries, total.listed, total.weighted)
    if isinstance(by, Fixed) and not total.listed:
        return LoopTotal(node, total.entries, total.listed, total.weighted)
    averages = run.record_average(total.entries, node, divisor, by_node, number)
    return Averaged(node, total.entries, averages)


def divisor_of(run: Interpreter, total: LoopTotal, by: AbstractValue, by_node: ast.expr | None) -> Divisor:
    if isinstance(by, (Count, Unknown)) and by.length_of is not None and _is_length_of_loop(total, by.length_of):
        return Divisor.BATCHES
    if isinstance(by, Count):
        if by.of in {CountedThing.CONFIGURED, CountedThing.PADDED}:
            return Divisor.CONFIGURED
        return {CountedThing.BATCHES: Divisor.BATCHES, CountedThing.DATASET: Divisor.DATASET}.get(
            by.of, Divisor.UNKNOWN
        )
    if isinstance(by, Position):
        return Divisor.CONFIGURED if by.offset else Divisor.BATCHES
    if isinstance(by, LoopTotal):
        return _divisor_of_total(total, by)
    if isinstance(by, Unknown):
        return divisor_by_name(by, by_node)
    return Divisor.UNKNOWN


def _is_length_of_loop(total: LoopTotal, length: Length) -> bool:
    """Whether a loop that added to the total goes over what a length was taken of, perhaps before the loop began."""
    return any(
        entry.loop.text == length.text or any(value is length.value for value in entry.loop.over)
        for entry in total.entries
    )


def _divisor_of_total(total: LoopTotal, by: LoopTotal) -> Divisor:
    if by.listed and any(entry in total.entries for entry in by.entries):
        return Divisor.SAMPLES if any(entry.spread for entry in by.entries) else Divisor.BATCHES
    kinds = {_counted(entry, by.listed) for entry in by.entries}
    if len(kinds) != 1:
        kinds -= {Divisor.UNKNOWN}
    kind = kinds.pop() if len(kinds) == 1 else Divisor.UNKNOWN
    if (
        kind is Divisor.BATCHES
        and not by.listed
        and all(isinstance(e.value, Stat) and e.value.quantity is Quantity.COUNT for e in total.entries)
    ):
        return Divisor.SAMPLES  # who counts each batch as one takes it for a sample
    if kind is Divisor.WEIGHTS or kind is Divisor.UNKNOWN:
        weights = {
            _text(e.value.weight_node) for e in total.entries if isinstance(e.value, Stat) and e.value.weight_node
        }
        added = {_text(entry.value.node) for entry in by.entries}
        if weights and weights <= added:
            return Divisor.WEIGHTS
    return kind


def _text(node: ast.AST | None) -> str:
    return ast.unparse(node) if node is not None else ""


def _counted(entry: Contribution, listed: bool) -> Divisor:
    value = entry.value
    if listed:
        return Divisor.SAMPLES if entry.spread else Divisor.BATCHES
    if isinstance(value, Const):
        return Divisor.BATCHES if isinstance(value.value, (int, float)) and value.value == 1 else Divisor.UNKNOWN
    if isinstance(value, Count):
        if value.of in {CountedThing.SAMPLES, CountedThing.GRAPHS}:
            return Divisor.SAMPLES
        return Divisor.CONFIGURED if value.of is CountedThing.CONFIGURED else Divisor.WEIGHTS
    if isinstance(value, (BatchRows, Stat, Unknown)):
        return Divisor.WEIGHTS
    return Divisor.UNKNOWN


def divisor_by_name(by: Unknown, node: ast.expr | None = None) -> Divisor:
    """By what a name says where nothing else is known: ``num_batches``, ``n_samples``."""
    name = by.name or (ast.unparse(node) if node is not None else "")
    words = name_tables.plain(name)
    if "dataset" in words or "data_size" in words:
        return Divisor.DATASET
    if name_tables.reads_as_tokens(name):
        return Divisor.WEIGHTS
    if name_tables.reads_as_batches(name):
        return Divisor.BATCHES
    if name_tables.reads_as_samples(name):
        return Divisor.DATASET
    return Divisor.UNKNOWN
