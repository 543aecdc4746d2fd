"""Names, attributes and entries: what they hold, since when, and binding them anew."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from batchproof.scripts.source import suspicions
from batchproof.scripts.source.accumulators import append, extend, reset
from batchproof.scripts.source.frames import Binding, report_as
from batchproof.scripts.source.loops import bind_target
from batchproof.scripts.source.values import (
    AbstractValue,
    Averaged,
    BatchRows,
    Const,
    Instance,
    Items,
    LoaderValue,
    LoopTotal,
    Mapping,
    Meter,
    Position,
    Stat,
    Unknown,
    key_of,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


def assign(run: Interpreter, target: ast.expr, value: AbstractValue) -> None:
    if isinstance(target, (ast.Tuple, ast.List, ast.Starred)):
        bind_target(run, target, value)
        return
    name = ast.unparse(target)
    if isinstance(value, LoaderValue):
        suspicions.named_loader(run, name, value)
    if isinstance(value, Averaged):
        report_as(value.entries, name)
    if isinstance(target, ast.Name):
        held = run.frame.scope.names.get(name)
        if held is not None and isinstance(value, (Const, Items)) and _restarts(value) and reset(run, held):
            return
        run.frame.scope.names[name] = Binding(value, run.born(), run.frame.statement)
        return
    held = held_by(run, target)
    if held is not None and isinstance(value, (Const, Items)) and _restarts(value) and reset(run, held):
        return
    if isinstance(target, ast.Subscript) and _fills(run, target, value):
        return
    hold(run, target, value)


def _restarts(value: AbstractValue) -> bool:
    if isinstance(value, Items):
        return not value.entries and not value.items
    return isinstance(value, Const) and value.value in (0, None)


def _fills(run: Interpreter, target: ast.Subscript, value: AbstractValue) -> bool:
    """``losses[i] = loss`` in a loop over batches."""
    base = run.evaluate(target.value)
    key = run.evaluate(target.slice)
    if isinstance(base, Items) and not isinstance(key, Const) and (base.array or isinstance(key, Position)):
        if isinstance(value, (Stat, Unknown, LoopTotal, Averaged)):
            append(run, ast.unparse(target.value), base, value, target)
        elif isinstance(value, BatchRows):
            extend(run, ast.unparse(target.value), base, value, target)
        return True
    return False


def held_by(run: Interpreter, target: ast.expr) -> Binding | None:
    """What a name, an attribute or an entry holds, and since when."""
    if isinstance(target, ast.Name):
        return run.frame.scope.find(target.id)
    if isinstance(target, ast.Attribute):
        base = run.evaluate(target.value)
        if isinstance(base, Instance):
            return base.attributes.get(target.attr)
    elif isinstance(target, ast.Subscript):
        base = run.evaluate(target.value)
        if isinstance(base, Mapping):
            key = key_of(target.slice)
            if key in base.entries:
                return base.entries[key]
            if "*" in base.entries:
                return base.entries["*"]
            if base.makes:
                return Binding(Const(target, 0), base.born, base.node)
            if key == "*" and base.entries:
                first = next(iter(base.entries.values()))
                return Binding(base.read(run, key, target), base.born, first.statement)
            return Binding(Unknown(target), base.born, base.node)
        if isinstance(base, Items):
            if (
                base.items
                and not base.array
                and isinstance(target.slice, ast.Constant)
                and isinstance(target.slice.value, int)
                and target.slice.value < len(base.items)
            ):
                return Binding(base.items[target.slice.value], base.born, base.start)
            here = run.frame.scope.find(ast.unparse(target))
            return here or Binding(Const(target, 0), base.born, base.start)
    return run.frame.scope.find(ast.unparse(target))


def hold(run: Interpreter, target: ast.expr, value: AbstractValue) -> None:
    """Bind a name, an attribute or an entry."""
    binding = Binding(value, run.born(), run.frame.statement)
    if isinstance(target, ast.Name):
        run.frame.scope.names[target.id] = binding
        return
    if isinstance(target, ast.Attribute):
        base = run.evaluate(target.value)
        if isinstance(base, Instance):
            base.attributes[target.attr] = binding
            return
    elif isinstance(target, ast.Subscript):
        base = run.evaluate(target.value)
        if isinstance(base, Mapping):
            base.entries[key_of(target.slice)] = binding
            return
        if (
            isinstance(base, Items)
            and isinstance(value, (LoopTotal, Averaged))
            and not isinstance(target.slice, ast.Constant)
        ):
            base.entries += [e for e in value.entries if e not in base.entries]
        if (
            isinstance(base, Items)
            and isinstance(target.slice, ast.Constant)
            and isinstance(target.slice.value, int)
            and 0 <= target.slice.value < len(base.items)
        ):
            base.items[target.slice.value] = value
            return
        if isinstance(base, Meter):
            return
    run.frame.scope.names[ast.unparse(target)] = binding


def put(run: Interpreter, target: ast.expr, held: Binding, value: AbstractValue) -> None:
    """Keep the loops that a running total was born in."""
    if value is held.value:
        return
    statement = held.statement if isinstance(value, (LoopTotal, Averaged)) else run.frame.statement
    binding = Binding(value, held.born, statement)
    if isinstance(target, ast.Name):
        run.frame.scope.names[target.id] = binding
        return
    hold(run, target, value)
    now = held_by(run, target)
    if now is not None and now.value is value:
        now.born, now.statement = binding.born, binding.statement


def open_loops(run: Interpreter, held: Binding) -> bool:
    return any(loop.batch is not None and loop.mark not in held.born for loop in run.loops)
