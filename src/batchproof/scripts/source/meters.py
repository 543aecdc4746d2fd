"""What averages by itself: a meter of a class that is not in the file, and a trainer that takes what a step logs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchproof.scripts.source import arithmetic, name_tables
from batchproof.scripts.source.accumulators import enter
from batchproof.scripts.source.callables import Instance, Invocation
from batchproof.scripts.source.frames import Binding, OpenLoop
from batchproof.scripts.source.index import FunctionNode, argument_of, last_word
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Quantity, Weight
from batchproof.scripts.source.totals import Items, Mapping, Meter, divisor_of_meter
from batchproof.scripts.source.values import BatchRows, Const, Count, CountedThing, Fixed, Stat, Unknown, Value, text_of

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter

_UPDATES = name_set("update add send put step append accumulate record track __call__")
_READ = name_set("value avg average mean compute item get result get_avg get_average global_avg getavg show")
#: What an update calls the number of samples.
_COUNTS = ("n", "num", "count", "batch_size", "weight")
#: What an average is read off by; a metric's ``compute`` may be anything.
_AVERAGES = name_set("avg average averages global_avg get_average get_avg avgs ave avg_dict result")


def is_meter(run: Interpreter, base: Unknown, call: Invocation) -> bool:
    """Whether an object that another file makes averages what its ``update`` is given."""
    assert isinstance(call.node.func, ast.Attribute)
    if call.first is None:
        return False
    owner = call.node.func.value
    if name_tables.reads_as_meter(base.name or ast.unparse(owner)):
        return True
    value = next(iter(call.arguments[_slot_of(call)[1] :]), None)
    alone = sum(given.is_of_batch() for given in call.given) == 1  # a metric is given a prediction and a target
    if not isinstance(value, Stat) and not (value is not None and value.is_of_batch() and alone):
        return False
    if text_of(call.first):
        return True  # neither a dict's update nor a progress bar's takes a name and a number
    last = last_word(owner) or base.name
    return bool(run.index.read_off.get(last, frozenset()) & _AVERAGES)


def meter_for(run: Interpreter, node: ast.expr) -> Meter:
    text = ast.unparse(node)
    held = run.frame.scope.find(text)
    if held is not None and isinstance(held.value, Meter):
        return held.value
    meter = Meter(node, text)
    run.frame.scope.names[text] = Binding(meter, (), None)
    return meter


def call_meter(run: Interpreter, meter: Meter, call: Invocation) -> Value:
    """``meter.update(value, n)``, ``meter.update("loss", value)``, ``meter.update(loss=value)``."""
    if call.name in _UPDATES:
        for given in _given_to(call):
            _add(run, meter, call.node, given)
    elif call.name == "reset":
        run.start_anew([entry for entries in meter.slots.values() for entry in entries])
    elif call.name == "log_every" and call.first is not None:
        return call.first
    elif call.name in _READ:
        slot = str(call.first.value) if isinstance(call.first, Const) else ""
        return meter.read(run, slot or "avg", call.node)
    return Fixed(call.node)


@dataclass(frozen=True)
class _Given:
    """What one call gives a meter, for one of its slots, and of how many."""

    slot: str
    value: Value
    node: ast.expr
    count: Value | None = None
    count_node: ast.expr | None = None


def _given_to(call: Invocation) -> Iterator[_Given]:
    slot, at = _slot_of(call)
    arguments, keywords, node = call.arguments[at:], call.keywords, call.node
    if arguments:
        count = next((keywords[name] for name in _COUNTS if name in keywords), None)
        count = arguments[1] if len(arguments) > 1 else count
        if isinstance(arguments[0], Mapping):
            yield from _entries(arguments[0], node.args[0], count)
            return
        value_node = node.args[at] if len(node.args) > at else node
        yield _Given(slot, arguments[0], value_node, count, argument_of(node, at + 1, *_COUNTS))
        return
    for keyword in node.keywords:
        value = keywords[keyword.arg or "**"]
        if keyword.arg is not None and keyword.arg not in {"n", "lr"}:
            yield _Given(keyword.arg, value, keyword.value, keywords.get("n"))
        elif keyword.arg is None and isinstance(value, Mapping):
            yield from _entries(value, keyword.value, None)


def _entries(mapping: Mapping, node: ast.expr, count: Value | None) -> Iterator[_Given]:
    for key, binding in mapping.entries.items():
        yield _Given(key, binding.value, node, count)


def _slot_of(call: Invocation) -> tuple[str, int]:
    """What a meter keeps the value under, and which argument is the value: of ``update("loss", v)`` the second."""
    first = call.first
    if isinstance(first, Const) and isinstance(first.value, str):
        return first.value, 1
    number = first is None or isinstance(first, (Count, Items, Mapping)) or first.is_of_batch()
    if len(call.arguments) > 1 and not number and call.arguments[1].is_of_batch():
        return "*", 1  # a key of the dict that a loop goes over, the name of a metric
    return "", int(bool(call.arguments and call.node.args) and isinstance(call.node.args[0], ast.JoinedStr))


def _add(run: Interpreter, meter: Meter, node: ast.Call, given: _Given) -> None:
    loop = run.open_for(meter.created_in)
    if loop is None or loop.batch is None:
        return
    value, count = given.value, given.count
    if isinstance(value, (BatchRows, Unknown)):
        value = run.stat(given.node, Quantity.UNKNOWN)
    if isinstance(value, Stat) and count is not None and not isinstance(count, Const):
        weight = arithmetic.weight_of(run, count) if isinstance(count, Count) else _weight_by_name(count)
        value = value.derived(given.node, call=value.call, weight=weight, weight_node=given.count_node, factor=count)
    assert isinstance(node.func, ast.Attribute)
    text = ast.unparse(node.func.value)
    name = f'{text}["{given.slot}"]' if given.slot else text
    held = Binding(meter, meter.created_in, meter.node)
    entry = enter(run, name, held, value, loop, given.node, listed=True)
    entries = meter.slots.setdefault(given.slot, [])
    if entry not in entries:
        entries.append(entry)
    if not _is_read_as_sum(run, node.func.value, value):
        run.record_average((entry,), entry.statement, divisor_of_meter(value), None)


def _is_read_as_sum(run: Interpreter, meter: ast.expr, value: Value) -> bool:
    """Whether a meter adds up counts or sums, and only its sum is read: ``seen.update(k)``, ``seen.sum``."""
    if not isinstance(value, Count) and not (
        isinstance(value, Stat) and value.quantity in {Quantity.COUNT, Quantity.SUM}
    ):
        return False
    read = run.index.read_off.get(last_word(meter), set())
    return "sum" in read and not read & _AVERAGES


def _weight_by_name(count: Value) -> Weight:
    if isinstance(count, Unknown):
        return Weight.OWN if name_tables.reads_as_tokens(count.name) else Weight.SAMPLES
    if isinstance(count, Stat):
        return Weight.OWN
    return Weight.SAMPLES


def is_lightning(definition: ast.ClassDef, methods: dict[str, FunctionNode]) -> bool:
    """Whether a class is trained by Lightning."""
    bases = " ".join(ast.unparse(base) for base in definition.bases)
    if "LightningModule" in bases or "pl." in bases:
        return True
    return "training_step" in methods and ("validation_step" in methods or "configure_optimizers" in methods)


def steps_of(methods: dict[str, FunctionNode]) -> list[str]:
    return [name for name in ("training_step", "validation_step", "test_step") if name in methods]


def ends_of(methods: dict[str, FunctionNode], step: str) -> list[str]:
    """The methods that are called when a step's epoch is over."""
    what = step.removesuffix("_step")
    also = "train" if what == "training" else what
    names = (f"{what}_epoch_end", f"on_{what}_epoch_end", f"{also}_epoch_end", f"on_{also}_epoch_end", f"{what}_end")
    return [name for name in dict.fromkeys(names) if name in methods]


def logged(run: Interpreter, base: Value, call: Invocation) -> bool:
    """``self.log("loss", loss)`` in a step: Lightning averages over the epoch, weighted by the batch's size."""
    loop = next((other for other in reversed(run.loops) if other.batch is not None and other.batch.weighs), None)
    if loop is None or loop.batch is None or not isinstance(base, Instance):
        return False
    if _is_over_epoch(call, training=not loop.batch.evaluating):
        for key, value, node in _logged_values(call):
            _log(run, call, loop, key, value, node)
    return True


def _is_over_epoch(call: Invocation, training: bool) -> bool:
    on_epoch, on_step = call.keywords.get("on_epoch"), call.keywords.get("on_step")
    if on_epoch is not None:
        return on_epoch.value is True if isinstance(on_epoch, Const) else True
    return not training and not (isinstance(on_step, Const) and on_step.value is True)


def _logged_values(call: Invocation) -> list[tuple[str, Value, ast.expr]]:
    """Each value with the key that it is logged under, and as written."""
    node = call.node
    if call.name == "log_dict":
        several, written = call.first or call.keywords.get("dictionary"), argument_of(node, 0, "dictionary")
        entries = several.entries if isinstance(several, Mapping) else {}
        return [(key, binding.value, written) for key, binding in entries.items() if written is not None]
    value = call.arguments[1] if len(call.arguments) > 1 else call.keywords.get("value")
    name, name_node, value_node = call.first or call.keywords.get("name"), *_name_and_value(node)
    if value is None or value_node is None or name_node is None:
        return []
    key = str(name.value) if isinstance(name, Const) else ""
    return [(key or ast.unparse(name_node), value, value_node)]


def _name_and_value(node: ast.Call) -> tuple[ast.expr | None, ast.expr | None]:
    return argument_of(node, 0, "name"), argument_of(node, 1, "value")


def _log(run: Interpreter, call: Invocation, loop: OpenLoop, key: str, value: Value, node: ast.expr) -> None:
    if isinstance(value, BatchRows) or (isinstance(value, Unknown) and value.of_batch):
        value = run.stat(node, Quantity.UNKNOWN)
    if not isinstance(value, Stat):
        return
    size = call.keywords.get("batch_size")
    weight = Weight.SAMPLES
    if isinstance(size, Count):
        weight = Weight.OTHER if size.of is CountedThing.KEYS else arithmetic.weight_of(run, size)
    size_node = argument_of(call.node, len(call.node.args), "batch_size")
    weighted = value.derived(node, call=value.call, weight=weight, weight_node=size_node, factor=size)
    entry = enter(run, key, Binding(Unknown(call.node)), weighted, loop, node)
    run.record_average((entry,), call.node, divisor_of_meter(weighted), None)
    entry.reported.setdefault(key)


def outputs_of(run: Interpreter, statement: ast.AST, name: str, returned: Value, loop: OpenLoop) -> Value:
    """What a trainer collects of a step's return values, for the method at the epoch's end."""
    outputs = Items(statement)
    if isinstance(returned, (Stat, Mapping, BatchRows, Unknown, Items)):
        entry = enter(run, name, Binding(outputs), returned, loop, None, listed=True)
        entry.late = True
        outputs.entries.append(entry)
    return outputs
