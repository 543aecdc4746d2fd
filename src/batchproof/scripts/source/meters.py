"""Meters of a class that is not in the file: what goes in, and what is read off them."""

from __future__ import annotations

import ast

from batchproof.scripts.source import name_tables, numbers, stats
from batchproof.scripts.source.accumulators import enter
from batchproof.scripts.source.interpreter import Reading, open_for, record_average
from batchproof.scripts.source.site import Average, Divisor, Quantity, Weight
from batchproof.scripts.source.values import (
    Averaged,
    Binding,
    Const,
    Count,
    Fixed,
    Mapping,
    Meter,
    Rows,
    Stat,
    Unknown,
    Value,
    is_of_batch,
)

_READ = frozenset(
    """
    value avg average mean compute item get result get_avg get_average global_avg getavg show
    """.split()
)


#: What an average is read off by; a metric's ``compute`` may be anything.
_AVERAGES = frozenset("avg average averages global_avg get_average get_avg avgs ave avg_dict result".split())


def is_meter(run: Reading, node: ast.Call, base: Unknown, arguments: list[Value]) -> bool:
    """Whether an object that another file makes averages what its ``update`` is given."""
    assert isinstance(node.func, ast.Attribute)
    if not arguments:
        return False
    if name_tables.reads_as_meter(base.name or ast.unparse(node.func.value)):
        return True
    value = arguments[_slot_of(node, arguments)[1] :][:1]
    if not value or not (isinstance(value[0], Stat) or (isinstance(value[0], Unknown) and value[0].of_batch)):
        return False
    if isinstance(arguments[0], Const) and isinstance(arguments[0].value, str):
        return True  # neither a dict's update nor a progress bar's takes a name and a number
    last = node.func.value.attr if isinstance(node.func.value, ast.Attribute) else base.name
    return bool(run.index.read_off.get(last, frozenset()) & _AVERAGES)


def meter_for(run: Reading, node: ast.expr) -> Meter:
    text = ast.unparse(node)
    held = run.frame.scope.find(text)
    if held is not None and isinstance(held.value, Meter):
        return held.value
    meter = Meter(node, text)
    run.frame.scope.names[text] = Binding(meter, (), None)
    return meter


def call_meter(
    run: Reading, node: ast.Call, meter: Meter, name: str, arguments: list[Value], keywords: dict[str, Value]
) -> Value:
    """``meter.update(value, n)``, ``meter.update("loss", value)``, ``meter.update(loss=value)``."""
    assert isinstance(node.func, ast.Attribute)
    if name in {"update", "add", "send", "put", "step", "append", "accumulate", "record", "track", "__call__"}:
        slot, value_at = _slot_of(node, arguments)
        arguments = arguments[value_at:]
        if arguments:
            count = (
                arguments[1]
                if len(arguments) > 1
                else keywords.get("n") or keywords.get("num") or keywords.get("count") or keywords.get("batch_size")
            )
            if isinstance(arguments[0], Mapping):
                for key, binding in arguments[0].entries.items():
                    _into_meter(run, node, meter, key, binding.value, node.args[0], count, None)
                return Fixed(node)
            value_node = node.args[value_at] if len(node.args) > value_at else node
            count_node = (
                node.args[value_at + 1]
                if len(node.args) > value_at + 1
                else next((k.value for k in node.keywords if k.arg in {"n", "num", "count", "batch_size"}), None)
            )
            _into_meter(run, node, meter, slot, arguments[0], value_node, count, count_node)
            return Fixed(node)
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg not in {"n", "lr"}:
                _into_meter(
                    run, node, meter, keyword.arg, keywords[keyword.arg], keyword.value, keywords.get("n"), None
                )
            elif keyword.arg is None and isinstance(keywords.get("**"), Mapping):
                for key, binding in keywords["**"].entries.items():  # type: ignore[attr-defined]
                    _into_meter(run, node, meter, key, binding.value, keyword.value, None, None)
        return Fixed(node)
    if name == "reset":
        for entries in meter.slots.values():
            for entry in entries:
                if run.is_open(entry.loop):
                    entry.window = True
        return Fixed(node)
    if name in {"log_every", "synchronize_between_processes", "add_meter", "items", "meters"}:
        if name == "log_every" and arguments:
            return arguments[0]
        return Fixed(node)
    if name in _READ:
        asked = str(arguments[0].value) if arguments and isinstance(arguments[0], Const) else ""
        return read_meter(run, meter, asked or "avg", node)
    return Fixed(node)


def _slot_of(node: ast.Call, arguments: list[Value]) -> tuple[str, int]:
    """What a meter keeps the value under, and which argument is the value: of ``update("loss", v)`` the second."""
    first = arguments[0] if arguments else None
    if isinstance(first, Const) and isinstance(first.value, str):
        return first.value, 1
    if len(arguments) > 1 and isinstance(first, (Fixed, Const)) and is_of_batch(arguments[1]):
        return "*", 1  # a key of the dict that a loop goes over
    return "", int(bool(arguments and node.args) and isinstance(node.args[0], ast.JoinedStr))


def _into_meter(
    run: Reading, node: ast.Call, meter: Meter, slot: str, value: Value, value_node: ast.expr, count: Value | None,
    count_node: ast.expr | None,
) -> None:  # fmt: skip
    loop = open_for(run, meter.born)
    if loop is None or loop.batch is None:
        return
    if isinstance(value, (Rows, Unknown)):
        value = stats.stat(run, value_node, Quantity.UNKNOWN)
    if isinstance(value, Stat) and count is not None and not isinstance(count, Const):
        weight = numbers.weight_of(run, count) if isinstance(count, Count) else _weight_by_name(count)
        changed = stats.derived(value, value_node, call=value.call, weight=weight, weight_node=count_node, factor=count)
        value = changed
    assert isinstance(node.func, ast.Attribute)
    text = ast.unparse(node.func.value)
    name = f'{text}["{slot}"]' if slot else text
    held = Binding(meter, meter.born, meter.node)
    entry = enter(run, name, held, value, loop, value_node, listed=True)
    entries = meter.slots.setdefault(slot, [])
    if entry not in entries:
        entries.append(entry)
    if _is_read_as_sum(run, node.func.value, value):
        return
    divisor = _divisor_of_meter(value)
    record_average(run, (entry,), entry.statement, divisor, None)


def _is_read_as_sum(run: Reading, meter: ast.expr, value: Value) -> bool:
    """Whether a meter adds up counts or sums, and only its sum is read: ``seen.update(k)``, ``seen.sum``."""
    if not isinstance(value, Count) and not (
        isinstance(value, Stat) and value.quantity in {Quantity.COUNT, Quantity.SUM}
    ):
        return False
    last = meter.attr if isinstance(meter, ast.Attribute) else getattr(meter, "id", "")
    read = run.index.read_off.get(last, set())
    return "sum" in read and not read & _AVERAGES


def _weight_by_name(count: Value) -> Weight:
    if isinstance(count, Unknown):
        return Weight.OWN if name_tables.reads_as_tokens(count.name) else Weight.SAMPLES
    if isinstance(count, Stat):
        return Weight.OWN
    return Weight.SAMPLES


def _divisor_of_meter(value: Value) -> Divisor:
    if isinstance(value, Stat) and value.weight is not Weight.NONE:
        return {Weight.SAMPLES: Divisor.SAMPLES, Weight.CONFIGURED: Divisor.CONFIGURED}.get(
            value.weight, Divisor.WEIGHTS
        )
    return Divisor.BATCHES


def read_meter(run: Reading, meter: Meter, name: str, node: ast.AST) -> Value:
    """``meter.avg``: the average of what went in; ``meter["loss"]``: a part of it."""
    if name in {"val", "last", "sum", "count", "cnt", "n", "sums"}:
        return Fixed(node)
    if name in {"update", "reset", "add", "meters"}:
        return meter
    slots = [meter.slots[name]] if name in meter.slots else list(meter.slots.values())
    entries = tuple(entry for entries in slots for entry in entries)
    if (
        name in {"avg", "average", "mean", "global_avg", "value", "avgs", "ave", "median", "compute"}
        or name in meter.slots
    ):
        if not entries:
            return Fixed(node)
        averages: list[Average] = []
        for entry in entries:
            averages += record_average(run, (entry,), node, _divisor_of_meter(entry.value), None)
        return Averaged(node, entries, tuple(averages))
    return meter
