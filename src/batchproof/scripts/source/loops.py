"""Loops as they are entered and left, and what their targets hold."""

from __future__ import annotations

import ast
import re
from dataclasses import replace

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.index import Mentions
from batchproof.scripts.source.interpreter import OpenLoop, Reading
from batchproof.scripts.source.kinds import NEXT, STEPS, over_batches, over_samples, unwrapped
from batchproof.scripts.source.site import Loader, Quantity
from batchproof.scripts.source.subscripts import as_loader
from batchproof.scripts.source.values import (
    HARM,
    Averaged,
    BatchLoop,
    Const,
    Count,
    Dataset,
    Fixed,
    Items,
    Library,
    LoaderValue,
    Mapping,
    Of,
    Pool,
    Position,
    Rows,
    Shape,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
)

_LOSS = re.compile(r"(^|_)loss$")


def enter_for(run: Reading, node: ast.For | ast.AsyncFor) -> OpenLoop:
    iterable, counted, start = unwrapped(node.iter)
    value = run.evaluate(run, iterable)
    opened = _open(run, node, iterable, value, node.target, run.index.mentions.get(node))
    _bind(run, node.target, iterable, value, opened, counted, start)
    return opened


def enter_comprehension(run: Reading, generator: ast.comprehension) -> Value:
    """Open the loop of a comprehension; what it goes over is handed back."""
    iterable, counted, start = unwrapped(generator.iter)
    value = run.evaluate(run, iterable)
    opened = _open(run, generator, iterable, value, generator.target, None)
    _bind(run, generator.target, iterable, value, opened, counted, start)
    return value


def enter_while(run: Reading, node: ast.While) -> OpenLoop:
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


def enter_step(run: Reading, function: ast.FunctionDef | ast.AsyncFunctionDef, evaluates: bool) -> OpenLoop:
    """A method that a trainer calls once for each batch."""
    batch = _batch_loop(run, function, None, Unknown(), equal=False)
    batch.quiet = evaluates
    batch.backward = not evaluates
    batch.weighs = True
    return _push(run, function, batch)


def leave(run: Reading) -> None:
    run.loops.pop()


def _push(run: Reading, node: ast.AST, batch: BatchLoop | None = None, samples: bool = False) -> OpenLoop:
    run.marks += 1
    opened = OpenLoop(run.marks, node, run.frame, batch, samples)
    run.loops.append(opened)
    return opened


def _open(
    run: Reading, node: ast.For | ast.AsyncFor | ast.comprehension, iterable: ast.expr, value: Value, target: ast.expr,
    mentions: Mentions | None,
) -> OpenLoop:  # fmt: skip
    if over_samples(run, iterable, value):
        return _push(run, node, samples=True)
    kind = over_batches(run, node, iterable, value, mentions)
    if kind is None:
        return _push(run, node)
    return _push(run, node, _batch_loop(run, node, iterable, value, equal=kind == "equal"))


def _batch_loop(run: Reading, node: ast.AST, iterable: ast.expr | None, value: Value, equal: bool) -> BatchLoop:
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
    run: Reading, target: ast.expr, iterable: ast.expr, value: Value, opened: OpenLoop, counted: bool, start: int
) -> None:
    batch = opened.batch
    counted = counted or (isinstance(value, LoaderValue) and value.counted)
    if counted and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        place: Value = Position(target.elts[0], batch, start > 0) if batch is not None else Fixed(target.elts[0])
        bind_target(run, target.elts[0], place)
        target = target.elts[1]
    bind_target(run, target, _item(run, iterable, value, opened, target))


def _item(run: Reading, iterable: ast.expr, value: Value, opened: OpenLoop, target: ast.expr) -> Value:
    """What one turn of a loop is given."""
    is_range = isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "range"
    if opened.batch is not None:
        if is_range:
            return Position(target, opened.batch, offset=len(iterable.args) == 3)  # type: ignore[attr-defined]
        is_zip = isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "zip"
        if is_zip and isinstance(target, ast.Tuple):
            return Items(target, [Rows(t, whole=True) for t in target.elts])
        return Rows(target, whole=True, raw=True)
    if opened.samples:
        if is_range:
            return Fixed(target)
        return Pool(target) if isinstance(value, Pool) else Rows(target)
    if is_range:
        return Fixed(target)
    if (
        isinstance(iterable, ast.Call)
        and isinstance(iterable.func, ast.Attribute)
        and iterable.func.attr in {"items", "values", "keys"}
    ):
        return _item_of_mapping(run, iterable, target)
    if isinstance(value, Items):
        if value.entries:
            return _read_again(value.entries[-1].value)
        if value.items:
            first = value.items[0]
            if isinstance(first, Const) and any(i.value != first.value for i in value.items if isinstance(i, Const)):
                return Unknown(target)  # `for batch_size in (1, 16, 64)`
            return first
    if isinstance(value, Total):
        return value.entries[-1].value if value.listed and value.entries else value
    if (
        isinstance(iterable, ast.Call)
        and isinstance(iterable.func, ast.Name)
        and iterable.func.id == "zip"
        and isinstance(target, ast.Tuple)
    ):
        parts = [run.evaluate(run, a) for a in iterable.args]
        found: list[Value] = []
        for part in parts:
            if isinstance(part, Items) and part.items:
                found.append(part.items[0])
            elif isinstance(part, Items) and part.entries:
                found.append(part.entries[-1].value)
            else:
                found.append(Unknown(part.node, "", is_of_batch(part)))
        return Items(target, found)
    if isinstance(value, (Fixed, Library)):
        return Fixed(target)
    return Unknown(target, "", is_of_batch(value))


def _read_again(value: Value) -> Value:
    """A batch's value that is taken off a list later is not the loop's last one."""
    if isinstance(value, Stat):
        return replace(value, loop=None)
    if isinstance(value, Items) and not value.entries:
        return replace(value, items=[_read_again(item) for item in value.items])
    return value


def _item_of_mapping(run: Reading, iterable: ast.Call, target: ast.expr) -> Value:
    assert isinstance(iterable.func, ast.Attribute)
    base = run.evaluate(run, iterable.func.value)
    what = iterable.func.attr
    if what not in {"items", "values", "keys"}:
        return Unknown(target, "", is_of_batch(base))
    item: Value = Unknown(target, "", is_of_batch(base))
    if isinstance(base, Mapping) and base.entries:
        found = [b.value for b in base.entries.values()]
        item = _any_of([v for v in found if isinstance(v, (Total, Items, Averaged))]) or found[0]
        stats = [v for v in found if isinstance(v, Stat)]
        if stats:
            item = max(stats, key=lambda s: HARM.index(s.quantity))
    key = Fixed(target)
    if what == "keys":
        return key
    if what == "values":
        return item
    return Items(target, [key, item])


def _any_of(values: list[Value]) -> Value | None:
    """One value in place of several of a dict: lists that batches were added to hold all their entries."""
    lists = [value for value in values if isinstance(value, Items) and value.entries]
    if len(lists) < 2:
        return values[0] if values else None
    entries = [entry for value in lists for entry in value.entries]
    return Items(lists[0].node, [], entries, lists[0].born, start=lists[0].start)


def bind_target(run: Reading, target: ast.expr, value: Value) -> None:
    """Bind the names of a target, taking a value apart."""
    if isinstance(target, ast.Name):
        if isinstance(value, Unknown) and not value.name and not value.of_batch:
            value = as_loader(Unknown(value.node, target.id, False, value.parameter), target.id)
        run.assign(run, target, value)
        return
    if isinstance(target, ast.Starred):
        bind_target(run, target.value, value)
        return
    if isinstance(target, (ast.Tuple, ast.List)):
        for place, part in enumerate(target.elts):
            bind_target(run, part, part_of(run, value, place, len(target.elts), part))
        return
    run.assign(run, target, value)


def _calls(value: Value) -> dict[str, ast.expr]:
    """The expression that a part of its value was taken from, where it is one."""
    return {"call": value.node, "plain": value.node} if isinstance(value.node, ast.expr) else {}


def _named_part(value: Stat, target: ast.expr) -> Stat:
    """A part of what a function returns that is known by its name only: the part's own name says more."""
    known = name_tables.by_name(target.id) if isinstance(target, ast.Name) else None
    if known is None or not (value.named or value.quantity is Quantity.UNKNOWN):
        return value
    return replace(value, quantity=known[0], why=known[1], named=True)


def part_of(run: Reading, value: Value, place: int, parts: int, target: ast.expr) -> Value:
    if isinstance(value, Items) and not value.entries and value.items:
        return value.items[place if place < len(value.items) else -1]
    if isinstance(value, Items) and value.entries:
        return Total(target, tuple(value.entries), True)
    if isinstance(value, Shape):
        if place == 0:
            return Count(target, Of.SAMPLES, run.batch_loop()) if is_of_batch(value.of or value) else Unknown(target)
        return Fixed(target)
    if isinstance(value, Rows):
        if value.output and isinstance(target, ast.Name) and _LOSS.search(target.id):
            return Stat(target, Quantity.UNKNOWN, origin=value.node, loop=run.batch_loop(), **_calls(value))  # type: ignore[arg-type]
        return Rows(
            target, output=value.output, raw=value.raw, mask=isinstance(target, ast.Name) and "mask" in target.id
        )
    if isinstance(value, Stat):
        return _named_part(value, target)
    if isinstance(value, (Total, Averaged, Pool, Fixed)):
        return value
    if isinstance(value, Unknown):
        return Unknown(target, "", value.of_batch, value.parameter)
    return Unknown(target)
