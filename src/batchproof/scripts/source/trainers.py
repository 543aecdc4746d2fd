"""Methods that a trainer calls once for each batch, and what they hand it: Lightning's steps and ``self.log``."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from batchproof.scripts.source import numbers
from batchproof.scripts.source.accumulators import enter
from batchproof.scripts.source.frames import Binding, OpenLoop
from batchproof.scripts.source.index import argument_of
from batchproof.scripts.source.site import Quantity, Weight
from batchproof.scripts.source.values import (
    AbstractValue,
    BatchRows,
    Const,
    Count,
    CountedThing,
    Instance,
    Invocation,
    Items,
    Mapping,
    Stat,
    Unknown,
    divisor_of_meter,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


def is_lightning(definition: ast.ClassDef, methods: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]) -> bool:
    """Whether a class is trained by Lightning."""
    bases = " ".join(ast.unparse(base) for base in definition.bases)
    if "LightningModule" in bases or "pl." in bases:
        return True
    return "training_step" in methods and ("validation_step" in methods or "configure_optimizers" in methods)


def steps_of(methods: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]) -> list[str]:
    return [name for name in ("training_step", "validation_step", "test_step") if name in methods]


def ends_of(methods: dict[str, ast.FunctionDef | ast.AsyncFunctionDef], step: str) -> list[str]:
    """The methods that are called when a step's epoch is over."""
    what = step.removesuffix("_step")
    also = "train" if what == "training" else what
    names = (f"{what}_epoch_end", f"on_{what}_epoch_end", f"{also}_epoch_end", f"on_{also}_epoch_end", f"{what}_end")
    return [name for name in dict.fromkeys(names) if name in methods]


def logged(run: Interpreter, base: AbstractValue, call: Invocation) -> bool:
    """``self.log("loss", loss)`` in a step: Lightning averages over the epoch, weighted by the batch's size."""
    loop = next((other for other in reversed(run.loops) if other.batch is not None and other.batch.weighs), None)
    if loop is None or loop.batch is None or not isinstance(base, Instance):
        return False
    if _is_over_epoch(call, training=not loop.batch.quiet):
        for key, value, node in _logged_values(call):
            _log(run, call, loop, key, value, node)
    return True


def _is_over_epoch(call: Invocation, training: bool) -> bool:
    on_epoch, on_step = call.keywords.get("on_epoch"), call.keywords.get("on_step")
    if on_epoch is not None:
        return on_epoch.value is True if isinstance(on_epoch, Const) else True
    return not training and not (isinstance(on_step, Const) and on_step.value is True)


def _logged_values(call: Invocation) -> list[tuple[str, AbstractValue, ast.expr]]:
    """Each value with the key that it is logged under, and as written."""
    node = call.node
    if call.name == "log_dict":
        entries = call.first.entries if isinstance(call.first, Mapping) else {}
        return [(key, binding.value, node.args[0]) for key, binding in entries.items()]
    value = call.arguments[1] if len(call.arguments) > 1 else call.keywords.get("value")
    value_node = argument_of(node, 1, "value")
    if value is None or value_node is None:
        return []
    key = str(call.first.value) if isinstance(call.first, Const) else ""
    return [(key or ast.unparse(node.args[0]), value, value_node)]


def _log(run: Interpreter, call: Invocation, loop: OpenLoop, key: str, value: AbstractValue, node: ast.expr) -> None:
    if isinstance(value, BatchRows) or (isinstance(value, Unknown) and value.of_batch):
        value = run.stat(node, Quantity.UNKNOWN)
    if not isinstance(value, Stat):
        return
    size = call.keywords.get("batch_size")
    weight = Weight.SAMPLES
    if isinstance(size, Count):
        weight = Weight.OTHER if size.of is CountedThing.KEYS else numbers.weight_of(run, size)
    size_node = argument_of(call.node, len(call.node.args), "batch_size")
    weighted = value.derived(node, call=value.call, weight=weight, weight_node=size_node, factor=size)
    entry = enter(run, key, Binding(Unknown(call.node)), weighted, loop, node)
    run.record_average((entry,), call.node, divisor_of_meter(weighted), None)
    entry.reported.setdefault(key)


def outputs_of(
    run: Interpreter, statement: ast.AST, name: str, values: list[AbstractValue], loop: OpenLoop
) -> AbstractValue:
    """What a trainer collects of a step's return values, for the method at the epoch's end."""
    outputs = Items(statement)
    for value in values:
        if isinstance(value, (Stat, Mapping, BatchRows, Unknown, Items)):
            held = Binding(outputs, (), None)
            entry = enter(run, name, held, value, loop, None, listed=True)
            entry.late = True
            outputs.entries.append(entry)
    return outputs
