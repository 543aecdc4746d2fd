"""Adding up: what is added to what, in which loop, and at which statement."""

from __future__ import annotations

import ast
from dataclasses import replace

from batchproof.sites import knowledge, numbers
from batchproof.sites.reading import OpenLoop, Reading, open_for, place_of, record_average
from batchproof.sites.site import Divisor, Quantity
from batchproof.sites.values import (
    Averaged,
    BatchLoop,
    Binding,
    Const,
    Count,
    Dataset,
    Entry,
    Fixed,
    Items,
    LoaderValue,
    Mapping,
    Pool,
    Rows,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
)


def add(run: Reading, name: str, held: Binding, value: Value, node: ast.expr) -> Value:
    """What ``name`` holds after ``name += value``; ``node`` is the value as written."""
    old = held.value
    loop = open_for(run, held.born)
    if loop is None or isinstance(old, (Stat, Rows)):
        if loop is None or loop.samples or not isinstance(old, (Stat, Rows)):
            return _within(run, node, old, value)
    assert loop is not None
    if loop.batch is None:
        return _over_samples(run, node, old, value)
    if isinstance(value, Total) and not _of_open_loop(run, value, loop.batch):
        return numbers.binary(run, node, ast.Add(), old, value) if isinstance(old, Total) else value
    if isinstance(old, Items) and not old.array and isinstance(value, Items):
        # losses += [loss]
        for item in value.items:
            append(run, name, old, item, node)
        return old
    entry = enter(run, name, held, value, loop)
    entries = (*numbers.entries_of(old), entry) if entry not in numbers.entries_of(old) else numbers.entries_of(old)
    divided = value.divided if isinstance(value, Stat) else None
    if divided is not None and isinstance(value, Stat):
        divisor = numbers.divisor_of(run, Total(None, entries), divided, value.divided_node)
        averages = record_average(run, (entry,), entry.statement, divisor, value.divided_node)
        return Averaged(node, entries, averages)
    return Total(node, entries, False)


def _of_open_loop(run: Reading, value: Total | Averaged, loop: BatchLoop) -> bool:
    return any(entry.loop is loop for entry in value.entries)


def _within(run: Reading, node: ast.expr, old: Value, value: Value) -> Value:
    """An addition within one batch, or outside of any."""
    if isinstance(old, Items) and isinstance(value, Items) and not old.array:
        old.items += value.items
        old.entries += [e for e in value.entries if e not in old.entries]
        return old
    if isinstance(old, (Const, Items)) and isinstance(value, (Stat, Count, Total, Averaged, Rows)):
        return value
    if isinstance(old, Unknown) and isinstance(value, (Total, Averaged)):
        return value
    return numbers.binary(run, node, ast.Add(), old, value)


def _over_samples(run: Reading, node: ast.expr, old: Value, value: Value) -> Value:
    """Added up over the samples of one batch."""
    if isinstance(value, Const):
        return Count(node, loop=run.batch_loop()) if run.batch_loop() is not None else Unknown(node)
    if isinstance(old, (Total, Averaged, Pool)):
        return old
    if isinstance(value, (Stat, Rows)) or is_of_batch(value):
        return numbers.stat(run, node, Quantity.SUM, "it is a sum over the batch") if run.batch_loop() else Pool(node)
    return old if not isinstance(old, Const) else Unknown(node)


def enter(run: Reading, name: str, held: Binding, value: Value, loop: OpenLoop, listed: bool = False) -> Entry:
    """The record of one statement that adds a batch to ``name``."""
    assert loop.batch is not None
    statement, function = place_of(run, value, loop)
    if isinstance(value, (Total, Averaged)):
        value = _running(run, value, loop.batch)
    key = (id(statement), name)
    entry = run.entries.get(key)
    if entry is None:
        entry = Entry(name, statement, value, loop.batch, function, listed=listed)
        run.entries[key] = entry
    elif _vague(entry.value) and not _vague(value):
        entry.value = value
    if held.statement is not None and not isinstance(held.value, (Total, Averaged)):
        entry.starts.setdefault(id(held.statement), held.statement)
    elif isinstance(held.value, (Total, Averaged)):
        for other in held.value.entries:
            for start in other.starts.values():
                entry.starts.setdefault(id(start), start)
    return entry


def _vague(value: Value) -> bool:
    return isinstance(value, (Unknown, Const)) or (isinstance(value, Stat) and value.quantity is Quantity.UNKNOWN)


def _running(run: Reading, value: Total | Averaged, loop: BatchLoop) -> Value:
    """A total that is itself added in each batch."""
    same = [entry for entry in value.entries if entry.loop is loop]
    if same and not isinstance(value.node, ast.Constant):
        why = f"{same[0].name} already holds the batches before it"
        node = value.node if isinstance(value.node, ast.expr) else None
        found = numbers.stat(run, node, Quantity.RUNNING, why)
        found.inner = tuple(same)
        return found
    return value


def append(run: Reading, name: str, items: Items, value: Value, node: ast.expr) -> None:
    """``items.append(value)``."""
    loop = open_for(run, items.born)
    if loop is None:
        items.items.append(value)
        return
    if loop.batch is None:
        items.items.append(value)
        items.of_samples = True
        return
    held = Binding(items, items.born, items.start)
    entry = enter(run, name, held, value, loop, listed=True)
    if entry not in items.entries:
        items.entries.append(entry)


def extend(run: Reading, name: str, items: Items, value: Value, node: ast.expr) -> None:
    """``items.extend(value)``: one entry for each of the value's rows."""
    if isinstance(value, Items) and value.items and not value.of_samples:
        for item in value.items:
            append(run, name, items, item, node)
        return
    if isinstance(value, Items) and value.entries:
        items.entries += [e for e in value.entries if e not in items.entries]
        return
    append(run, name, items, Rows(node) if not isinstance(value, Pool) else value, node)


def added_in_comprehension(run: Reading, node: ast.expr, value: Value, over: Value) -> Value:
    """What a comprehension makes: a list with an entry for each batch, or for each thing it goes over."""
    outermost = next((loop for loop in run.loops if isinstance(loop.node, ast.comprehension) and _in(node, loop.node)), None)
    born = tuple(loop.mark for loop in run.loops if outermost is None or loop.mark < outermost.mark)
    made = Items(node, born=born, start=run.frame.statement)
    loop = open_for(run, born)
    if isinstance(node, ast.DictComp):
        return Mapping(node, {"*": Binding(value, born, run.frame.statement)}, born)
    if loop is not None and loop.batch is not None and isinstance(loop.node, ast.comprehension) and _in(node, loop.node):
        parts = value.items if isinstance(value, Items) and value.tuple_ else [value]
        for place, part in enumerate(parts):
            name = ast.unparse(node) if len(parts) == 1 else f"{ast.unparse(node)}[{place}]"
            entry = enter(run, name, Binding(made, born, run.frame.statement), part, loop, listed=True)
            made.entries.append(entry)
        return made
    if loop is not None and loop.samples:
        made.items.append(value)
        made.of_samples = True
        return made
    known = numbers.entries_of(over) if isinstance(over, (Items, Total)) else ()
    if known and not isinstance(value, (Total, Averaged)):
        return _mapped(run, made, known, value)
    if isinstance(value, (Total, Averaged)):
        return value
    made.items.append(value)
    return made


def _in(node: ast.expr, generator: ast.comprehension) -> bool:
    return generator in getattr(node, "generators", ())


def _mapped(run: Reading, made: Items, known: tuple[Entry, ...], value: Value) -> Value:
    """A list made of another list's entries, one of each: ``[out["loss"] for out in outputs]``."""
    for entry in known:
        if value is entry.value:
            made.entries.append(entry)
            continue
        text = ast.unparse(made.node) if isinstance(made.node, ast.expr) else ""
        key = (id(entry.statement), f"{entry.name}: {text}")
        mapped = run.entries.get(key)
        if mapped is None:
            mapped = Entry(entry.name, entry.statement, value, entry.loop, entry.function, dict(entry.starts), listed=True)
            run.entries[key] = mapped
        made.entries.append(mapped)
    return made


def as_stat(entry: Entry) -> Stat | None:
    """What an entry adds, as a statistic; None where it is nothing that depends on a batch."""
    value = entry.value
    if isinstance(value, Stat):
        if value.quantity is Quantity.UNKNOWN and _is_no_result(entry, value):
            return None
        return value
    if isinstance(value, Count):
        return Stat(value.node, Quantity.COUNT, origin=value.node)
    if isinstance(value, Rows):
        if not entry.listed and _reads_as_loss(entry, value):
            return _unknown(value)
        return Stat(value.node, Quantity.ROWS, origin=value.node)
    if isinstance(value, Unknown) and value.of_batch and _reads_as_loss(entry, value):
        return _unknown(value)
    if isinstance(value, Unknown) and not value.of_batch and _reads_as_loss(entry, value) and not value.parameter:
        return _unknown(value)
    return None


def _unknown(value: Value) -> Stat:
    node = value.node if isinstance(value.node, ast.expr) else None
    return Stat(value.node, Quantity.UNKNOWN, origin=value.node, call=node, plain=node)


def _is_no_result(entry: Entry, value: Stat) -> bool:
    return knowledge.reads_as_no_result(_last(entry.name)) and not knowledge.reads_as_loss(_text(value.node))


def _reads_as_loss(entry: Entry, value: Value) -> bool:
    name, text = _last(entry.name), _text(value.node)
    if knowledge.reads_as_no_result(name):
        return False
    return knowledge.reads_as_loss(name) or knowledge.reads_as_loss(text[:80])


def _last(name: str) -> str:
    return name.replace("'", "").replace('"', "").replace("]", "").replace("[", ".").split(".")[-1]


def _text(node: ast.AST | None) -> str:
    return ast.unparse(node) if node is not None else ""


def reset(run: Reading, held: Binding) -> bool:
    """Whether setting a total anew now, inside its own loop, makes it a total over a window."""
    value = held.value
    if not isinstance(value, (Total, Averaged)) and not (isinstance(value, Items) and value.entries):
        return False
    found = False
    for entry in numbers.entries_of(value):
        if run.is_open(entry.loop):
            entry.window = True
            found = True
    return found


def mark_windows(entry: Entry) -> None:
    """Averages that are read inside the loop of a total that starts anew there are over a window."""
    if entry.window:
        for key, average in entry.averages.items():
            entry.averages[key] = replace(average, window=True)


__all__ = [
    "Dataset", "Divisor", "Fixed", "LoaderValue", "add", "added_in_comprehension", "append", "as_stat", "extend", "mark_windows",
    "reset",
]  # fmt: skip
