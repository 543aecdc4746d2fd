"""Adding up: what is added to what, in which loop, and at which statement."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.scripts.source import arithmetic, name_tables
from batchproof.scripts.source.frames import BatchLoop, Binding, Contribution, OpenLoop
from batchproof.scripts.source.index import as_written
from batchproof.scripts.source.site import Divisor, Quantity, Weight
from batchproof.scripts.source.totals import Accumulated, Averaged, Items, LoopTotal, Mapping, Pool
from batchproof.scripts.source.values import BatchRows, Const, Count, Stat, Unknown, Value, worst

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter

#: How many items of a list are told apart.
MOST_ITEMS = 200


def add(run: Interpreter, name: str, held: Binding, value: Value, node: ast.expr) -> Value:
    """What ``name`` holds after ``name += value``; ``node`` is the value as written."""
    old = held.value
    loop = run.open_for(held.created_in)
    if loop is None or (loop.samples and isinstance(old, (Stat, BatchRows))):
        return run.binary(node, ast.Add(), old, value)
    assert loop is not None
    outer = _around_samples(run, held)
    if loop.batch is None and outer is not None and _of_sample(value) and _is_one(name):
        per_sample = Quantity.COUNT if isinstance(value, Const) else Quantity.SUM
        statistic = run.stat(node, per_sample, "it is a sum over the batch")
        return _added(run, name, held, statistic, outer, node)
    if loop.batch is None:
        total = _over_samples(run, node, old, value)
        if isinstance(total, Stat) and any(o.batch is not None and o.mark not in held.created_in for o in run.loops):
            return replace(total, loop=None)  # it goes on over the batches
        return total
    if isinstance(old, Items) and not old.array and isinstance(value, (Items, BatchRows, Unknown)):
        extend(run, name, old, value, node)  # losses += [loss]
        return old
    return _added(run, name, held, value, loop, node)


def _around_samples(run: Interpreter, held: Binding) -> OpenLoop | None:
    """The loop over batches around the one over the samples of each, where a total goes on over the batches."""
    return next(
        (loop for loop in reversed(run.loops) if loop.batch is not None and loop.mark not in held.created_in), None
    )


def _is_one(name: str) -> bool:
    """Whether a name is that of one total; ``hits[label]`` is one for each class."""
    return "[" not in name or name.endswith(("']", '"]'))


def _of_sample(value: Value) -> bool:
    return isinstance(value, Stat) or (isinstance(value, Const) and value.value in (1, 1.0))


def _added(run: Interpreter, name: str, held: Binding, value: Value, loop: OpenLoop, node: ast.expr) -> Value:
    old = held.value
    if isinstance(value, Items) and not value.entries:  # total += np.array([loss, error])
        value = worst(stats) if (stats := [item for item in value.items if isinstance(item, Stat)]) else value
    entry = enter(run, name, held, value, loop, node)
    entries = (*old.contributions, entry) if entry not in old.contributions else old.contributions
    divided = value.divided if isinstance(value, Stat) else None
    if divided is not None and isinstance(value, Stat):
        divisor = arithmetic.divisor_of(run, LoopTotal(None, entries), divided, value.divided_node)
        averages = run.record_average((entry,), entry.statement, divisor, value.divided_node)
        return Averaged(node, entries, averages)
    return LoopTotal(node, entries, False)


def _over_samples(run: Interpreter, node: ast.expr, old: Value, value: Value) -> Value:
    """Added up over the samples of one batch."""
    if isinstance(value, Const):
        return Count(node, loop=run.batch_loop()) if run.batch_loop() is not None else Unknown(node)
    if isinstance(old, (LoopTotal, Averaged, Pool)):
        return old
    if isinstance(value, (Stat, BatchRows)) or value.is_of_batch():
        return run.stat(node, Quantity.SUM, "it is a sum over the batch") if run.batch_loop() else Pool(node)
    return old if not isinstance(old, Const) else Unknown(node)


def enter(
    run: Interpreter,
    name: str,
    held: Binding,
    value: Value,
    loop: OpenLoop,
    written: ast.expr | None,
    listed: bool = False,
) -> Contribution:
    """The record of one statement that adds a batch to ``name``; ``written`` is what it adds as it stands there."""
    assert loop.batch is not None
    statement, function = run.place_of(value, loop)
    key = (id(statement), name)
    if written is not None and statement is not run.frame.statement:
        written = handed_on(statement, value)
        name = _receiver(statement) or name
    if isinstance(value, Accumulated):
        value = _running(run, value, loop.batch)
    entry = run.entries.get(key)
    if entry is None:
        entry = Contribution(name, statement, value, loop.batch, function, written=written, listed=listed)
        run.entries[key] = entry
    elif _vague(entry.value) and not _vague(value):
        entry.value = value
    if held.statement is not None and not isinstance(held.value, Accumulated):
        entry.starts.setdefault(id(held.statement), held.statement)
    elif isinstance(held.value, Accumulated):
        for other in held.value.entries:
            for start in other.starts.values():
                entry.starts.setdefault(id(start), start)
    return entry


def handed_on(statement: ast.AST, value: Value) -> ast.expr | None:
    """The argument of a call that a function of this file adds up: of ``meter.update(loss.item(), n)`` the first."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return None
    parts = [*statement.value.args, *(keyword.value for keyword in statement.value.keywords)]
    call = value.call if isinstance(value, Stat) else value.node
    for part in parts:
        if any(inner is call for inner in ast.walk(part)):
            return part
    return next((part for part in parts if not isinstance(part, (ast.Constant, ast.JoinedStr))), None)


def _receiver(statement: ast.AST) -> str:
    """What a value was handed to: ``meter`` of ``meter.update(loss)``."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        return ast.unparse(call.func.value)
    return ""


def _vague(value: Value) -> bool:
    return isinstance(value, (Unknown, Const)) or (isinstance(value, Stat) and value.quantity is Quantity.UNKNOWN)


def _running(run: Interpreter, value: Accumulated, loop: BatchLoop) -> Value:
    """A total that is itself added in each batch."""
    same = [entry for entry in value.entries if entry.loop is loop]
    if same and not isinstance(value.node, ast.Constant):
        why = f"{same[0].name} already holds the batches before it"
        node = value.node if isinstance(value.node, ast.expr) else None
        stat = run.stat(node, Quantity.RUNNING, why)
        stat.inner = tuple(same)
        return stat
    return value


def append(run: Interpreter, name: str, items: Items, value: Value, node: ast.expr, spread: bool = False) -> None:
    """``items.append(value)``."""
    loop = run.open_for(items.created_in)
    if (loop is None or loop.batch is None) and len(items.items) < MOST_ITEMS:
        items.items.append(value)
    if loop is None:
        return
    if loop.batch is None:
        items.of_samples = True
        return
    held = Binding(items, items.created_in, items.start)
    entry = enter(run, name, held, value, loop, node, listed=True)
    entry.spread = entry.spread or spread
    entry.window = entry.window or items.recent
    if entry not in items.entries:
        items.entries.append(entry)


def extend(run: Interpreter, name: str, items: Items, value: Value, node: ast.expr) -> None:
    """``items.extend(value)``: one entry for each of the value's rows."""
    if (
        isinstance(value, Items)
        and value.items
        and not value.of_samples
        and isinstance(value.node, (ast.List, ast.Tuple))
    ):
        for item in value.items[:MOST_ITEMS]:
            append(run, name, items, item, node)
        return
    if isinstance(value, Items) and value.entries:
        items.add_entries(value.entries)
        return
    append(run, name, items, BatchRows(node) if not isinstance(value, Pool) else value, node, spread=True)


def added_in_comprehension(run: Interpreter, node: ast.expr, value: Value, over: Value) -> Value:
    """What a comprehension makes: a list with an entry for each batch, or for each thing it goes over."""
    outermost = next(
        (loop for loop in run.loops if isinstance(loop.node, ast.comprehension) and _in(node, loop.node)), None
    )
    created_in = tuple(loop.mark for loop in run.loops if outermost is None or loop.mark < outermost.mark)
    items = Items(node, created_in=created_in, start=run.frame.statement)
    loop = run.open_for(created_in)
    if isinstance(node, ast.DictComp):
        return Mapping(node, {"*": Binding(value, created_in, run.frame.statement)}, created_in)
    if (
        loop is not None
        and loop.batch is not None
        and isinstance(loop.node, ast.comprehension)
        and _in(node, loop.node)
    ):
        parts = value.items if isinstance(value, Items) and value.tuple_ else [value]
        for place, part in enumerate(parts):
            name = ast.unparse(node) if len(parts) == 1 else f"{ast.unparse(node)}[{place}]"
            written = getattr(node, "elt", None)
            if len(parts) > 1 and isinstance(written, ast.Tuple):
                written = written.elts[place]
            entry = enter(run, name, Binding(items, created_in, run.frame.statement), part, loop, written, listed=True)
            items.entries.append(entry)
        return items
    if loop is not None and loop.samples:
        items.items.append(value)
        items.of_samples = True
        return items
    known = over.contributions if isinstance(over, (Items, LoopTotal)) else ()
    if known and not isinstance(value, Accumulated):
        return _mapped(run, items, known, value)
    if isinstance(value, Accumulated):
        return value
    items.items.append(value)
    return items


def _in(node: ast.expr, generator: ast.comprehension) -> bool:
    return generator in getattr(node, "generators", ())


def _mapped(run: Interpreter, items: Items, known: tuple[Contribution, ...], value: Value) -> Value:
    """A list made of another list's entries, one of each: ``[out["loss"] for out in outputs]``."""
    for entry in known:
        if value is entry.value:
            items.entries.append(entry)
            continue
        text = ast.unparse(items.node) if isinstance(items.node, ast.expr) else ""
        key = (id(entry.statement), f"{entry.name}: {text}")
        mapped = run.entries.get(key)
        if mapped is None:
            mapped = Contribution(
                entry.name, entry.statement, value, entry.loop, entry.function, dict(entry.starts), listed=True
            )
            mapped.late, mapped.written = entry.late, entry.written
            run.entries[key] = mapped
        items.entries.append(mapped)
    return items


def as_stat(entry: Contribution) -> Stat | None:
    """What an entry adds, as a statistic; None where it is nothing that depends on a batch."""
    value = entry.value
    if isinstance(value, Stat):
        if value.quantity is Quantity.UNKNOWN and _is_no_result(entry, value):
            return None
        if any(
            isinstance(part, ast.Attribute) and part.attr == "grad" for part in ast.walk(value.origin or ast.Pass())
        ):
            return None  # how large gradients are is looked at, and no result
        return value
    if isinstance(value, Count):
        # one over a count: the time that a sample takes, say
        return None if value.inverse else Stat(value.node, Quantity.COUNT, origin=value.node)
    if isinstance(value, BatchRows):
        if not entry.spread and (
            _reads_as_loss(entry, value) or (entry.scalar and not name_tables.reads_as_no_result(_last(entry.name)))
        ):
            return _unknown(value)
        return Stat(value.node, Quantity.ROWS, origin=value.node)
    if isinstance(value, Unknown) and (value.of_batch or not value.parameter) and _reads_as_loss(entry, value):
        return _unknown(value)
    return None


def counted(entry: Contribution, stat: Stat) -> Stat:
    """An accuracy that only its name tells of: what is divided by the number of samples was a count."""
    divisors = {average.divisor for average in entry.averages.values()}
    if divisors <= {Divisor.DATASET, Divisor.SAMPLES} and stat.weight is Weight.NONE and not entry.listed:
        words = name_tables.plain(f"{_last(entry.name)} {as_written(stat.origin)[:80]}")
        vague = stat.quantity is Quantity.UNKNOWN or (stat.quantity is Quantity.MEAN and stat.named)
        if vague and ("acc" in words or "correct" in words):
            return replace(stat, quantity=Quantity.COUNT, why="")
    if stat.summed and divisors <= {Divisor.DATASET, Divisor.SAMPLES, Divisor.WEIGHTS}:
        return replace(stat, quantity=Quantity.SUM, why="")
    if stat.named and stat.quantity is Quantity.MEAN:
        return replace(stat, quantity=Quantity.UNKNOWN)
    return _by_its_name(entry, stat, divisors) if stat.quantity is Quantity.UNKNOWN and not stat.named else stat


def _by_its_name(entry: Contribution, stat: Stat, divisors: set[Divisor]) -> Stat:
    """What is known only by where it is kept: ``rmse.append(metrics[2])``."""
    known = name_tables.by_name(_last(entry.name))
    if known is None or known[0] is not Quantity.NONLINEAR or divisors <= {Divisor.DATASET, Divisor.SAMPLES}:
        return stat
    return replace(stat, quantity=known[0], why=known[1], named=True)


def _unknown(value: Value) -> Stat:
    node = value.node if isinstance(value.node, ast.expr) else None
    return Stat(value.node, Quantity.UNKNOWN, origin=value.node, call=node, plain=node)


def _is_no_result(entry: Contribution, value: Stat) -> bool:
    return name_tables.reads_as_no_result(_last(entry.name)) and not name_tables.reads_as_loss(as_written(value.node))


def _reads_as_loss(entry: Contribution, value: Value) -> bool:
    name, text = _last(entry.name), as_written(value.node)
    if name_tables.reads_as_no_result(name):
        return False
    return name_tables.reads_as_loss(name) or name_tables.reads_as_loss(text[:80])


def _last(name: str) -> str:
    return name.replace("'", "").replace('"', "").replace("]", "").replace("[", ".").split(".")[-1]


def mark_windows(entry: Contribution) -> None:
    """Averages that are read inside the loop of a total that starts anew there are over a window."""
    if entry.window:
        for key, average in entry.averages.items():
            entry.averages[key] = replace(average, window=True)
