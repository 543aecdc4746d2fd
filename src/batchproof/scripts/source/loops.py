"""Loops as they are entered and left, and what their targets hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchproof.scripts.source.frames import BatchLoop, OpenLoop
from batchproof.scripts.source.index import Mentions, builtin_of
from batchproof.scripts.source.kinds import NEXT, STEPS, over_batches, over_samples, unwrapped
from batchproof.scripts.source.site import Loader
from batchproof.scripts.source.values import (
    AbstractValue,
    Averaged,
    BatchRows,
    Dataset,
    Fixed,
    Items,
    LoaderValue,
    LoopTotal,
    Mapping,
    Pool,
    Position,
    Stat,
    Unknown,
    as_loader,
    worst,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter

_LOSS = re.compile(r"(^|_)loss$")


def enter_for(run: Interpreter, node: ast.For | ast.AsyncFor) -> OpenLoop:
    iterable, counted, start = unwrapped(node.iter)
    value = run.evaluate(iterable)
    opened = _open(run, node, iterable, value, run.index.mentions.get(node))
    _bind(run, node.target, iterable, value, opened, counted, start)
    return opened


def enter_comprehension(run: Interpreter, generator: ast.comprehension) -> AbstractValue:
    """Open the loop of a comprehension; what it goes over is handed back."""
    iterable, counted, start = unwrapped(generator.iter)
    value = run.evaluate(iterable)
    opened = _open(run, generator, iterable, value, None)
    _bind(run, generator.target, iterable, value, opened, counted, start)
    return value


def enter_while(run: Interpreter, node: ast.While) -> OpenLoop:
    mentions = run.index.mentions.get(node)
    batch = None
    if mentions is not None and mentions.calls & NEXT and run.batch_loop() is None:
        whole = _until_the_end(node)
        if whole or mentions.calls & STEPS:
            batch = _batch_loop(run, node, None, Unknown(), equal=not whole)
    return _push(run, node, batch)


def _until_the_end(node: ast.While) -> bool:
    """``while True`` with ``next(batches)``, which ``StopIteration`` ends."""
    handlers = (handler for part in ast.walk(node) if isinstance(part, ast.Try) for handler in part.handlers)
    return any(
        isinstance(handler.type, ast.Name)
        and handler.type.id == "StopIteration"
        and any(isinstance(part, ast.Break) for part in handler.body)
        for handler in handlers
    )


def enter_step(run: Interpreter, function: ast.FunctionDef | ast.AsyncFunctionDef, evaluates: bool) -> OpenLoop:
    """A method that a trainer calls once for each batch."""
    batch = _batch_loop(run, function, None, Unknown(), equal=False)
    batch.quiet = evaluates
    batch.backward = not evaluates
    batch.weighs = True
    return _push(run, function, batch)


def leave(run: Interpreter) -> None:
    run.loops.pop()


def _push(run: Interpreter, node: ast.AST, batch: BatchLoop | None = None, samples: bool = False) -> OpenLoop:
    run.marks += 1
    opened = OpenLoop(run.marks, node, run.frame, batch, samples)
    run.loops.append(opened)
    return opened


def _open(
    run: Interpreter, node: ast.For | ast.AsyncFor | ast.comprehension, iterable: ast.expr, value: AbstractValue,
    mentions: Mentions | None,
) -> OpenLoop:  # fmt: skip
    if over_samples(run, iterable, value):
        return _push(run, node, samples=True)
    kind = over_batches(run, node, iterable, value, mentions)
    if kind is None:
        return _push(run, node)
    return _push(run, node, _batch_loop(run, node, iterable, value, equal=kind == "equal"))


def _batch_loop(
    run: Interpreter, node: ast.AST, iterable: ast.expr | None, value: AbstractValue, equal: bool
) -> BatchLoop:
    batch = run.batch_loops.get(id(node))
    if batch is None:
        text = ast.unparse(iterable) if iterable is not None else ""
        batch = BatchLoop(node, iterable, text, equal=equal)  # type: ignore[arg-type]
        run.batch_loops[id(node)] = batch
    batch.over.append(value)
    if isinstance(value, LoaderValue):
        loader = value.loader
        batch.loaders.append(Loader(iterable, loader.built, loader.drops_last, loader.batch_size))
    elif isinstance(value, Dataset) and isinstance(node, ast.For) and "batch" not in ast.unparse(node.target):
        batch.loaders.append(Loader(iterable, batch_size=1))
    else:
        batch.loaders.append(Loader(iterable))
    batch.quiet = batch.quiet or any(frame.quiet for frame in run.frames)
    return batch


def _bind(
    run: Interpreter,
    target: ast.expr,
    iterable: ast.expr,
    value: AbstractValue,
    opened: OpenLoop,
    counted: bool,
    start: int,
) -> None:
    batch = opened.batch
    counted = counted or (isinstance(value, LoaderValue) and value.counted)
    if counted and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        place: AbstractValue = (
            Position(target.elts[0], batch, start > 0) if batch is not None else Fixed(target.elts[0])
        )
        bind_target(run, target.elts[0], place)
        target = target.elts[1]
    bind_target(run, target, _item(run, iterable, value, opened, target))


def _item(
    run: Interpreter, iterable: ast.expr, value: AbstractValue, opened: OpenLoop, target: ast.expr
) -> AbstractValue:
    """What one turn of a loop is given."""
    builtin = builtin_of(iterable)
    if opened.batch is not None:
        if builtin == "range":
            return Position(target, opened.batch, offset=len(iterable.args) == 3)  # type: ignore[attr-defined]
        if builtin == "zip" and isinstance(target, ast.Tuple):
            return Items(target, [BatchRows(part, whole=True) for part in target.elts])
        return BatchRows(target, whole=True, raw=True)
    if builtin == "range":
        return Fixed(target)
    if opened.samples:
        return Pool(target) if isinstance(value, Pool) else BatchRows(target)
    if isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Attribute):
        if iterable.func.attr in {"items", "values", "keys"}:
            return _item_of_mapping(run.evaluate(iterable.func.value), iterable.func.attr, target)
    elif builtin == "zip" and isinstance(target, ast.Tuple) and not _holds_something(value):
        assert isinstance(iterable, ast.Call)
        return Items(target, [_first_of(run.evaluate(argument)) for argument in iterable.args])
    return value.item(target)


def _holds_something(value: AbstractValue) -> bool:
    return isinstance(value, LoopTotal) or (isinstance(value, Items) and bool(value.entries or value.items))


def _first_of(value: AbstractValue) -> AbstractValue:
    if isinstance(value, Items) and value.items:
        return value.items[0]
    if isinstance(value, Items) and value.entries:
        return value.entries[-1].value
    return Unknown(value.node, "", value.is_of_batch())


def _item_of_mapping(base: AbstractValue, what: str, target: ast.expr) -> AbstractValue:
    """What a loop over the items, the values or the keys of a dict is given."""
    key = Fixed(target)
    if what == "keys":
        return key
    item: AbstractValue = Unknown(target, "", base.is_of_batch())
    if isinstance(base, Mapping) and base.entries:
        values = base.values()
        stats = [value for value in values if isinstance(value, Stat)]
        totals = [value for value in values if isinstance(value, (LoopTotal, Items, Averaged))]
        item = worst(stats) if stats else _any_of(totals) or values[0]
    return item if what == "values" else Items(target, [key, item])


def _any_of(values: Sequence[AbstractValue]) -> AbstractValue | None:
    """One value in place of several of a dict: lists that batches were added to hold all their entries."""
    lists = [value for value in values if isinstance(value, Items) and value.entries]
    if len(lists) < 2:
        return values[0] if values else None
    entries = [entry for value in lists for entry in value.entries]
    return Items(lists[0].node, [], entries, lists[0].born, start=lists[0].start)


def bind_target(run: Interpreter, target: ast.expr, value: AbstractValue) -> None:
    """Bind the names of a target, taking a value apart."""
    if isinstance(target, ast.Name):
        if isinstance(value, Unknown) and not value.name and not value.of_batch:
            value = as_loader(Unknown(value.node, target.id, False, value.parameter), target.id)
        run.assign(target, value)
        return
    if isinstance(target, ast.Starred):
        bind_target(run, target.value, value)
        return
    if isinstance(target, (ast.Tuple, ast.List)):
        for place, part in enumerate(target.elts):
            bind_target(run, part, value.part(run, place, part))
        return
    run.assign(target, value)
