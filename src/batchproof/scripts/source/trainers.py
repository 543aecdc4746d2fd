"""Methods that a trainer calls once for each batch, and what they hand it: Lightning's steps and ``self.log``."""

from __future__ import annotations

import ast

from batchproof.scripts.source import numbers, stats
from batchproof.scripts.source.accumulators import enter
from batchproof.scripts.source.interpreter import Reading, record_average
from batchproof.scripts.source.site import Divisor, Quantity, Weight
from batchproof.scripts.source.values import (
    Binding,
    Const,
    Count,
    Instance,
    Items,
    Mapping,
    MetricObject,
    Of,
    Rows,
    Stat,
    Unknown,
    Value,
)


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


def logged(
    run: Reading, node: ast.Call, base: Value, name: str, arguments: list[Value], keywords: dict[str, Value]
) -> bool:
    """``self.log("loss", loss)`` in a step: Lightning averages over the epoch, weighted by the batch's size."""
    loop = next((other for other in reversed(run.loops) if other.batch is not None and other.batch.weighs), None)
    if loop is None or loop.batch is None or not isinstance(base, Instance):
        return False
    training = not loop.batch.quiet
    on_epoch, on_step = keywords.get("on_epoch"), keywords.get("on_step")
    epoch = on_epoch.value is True if isinstance(on_epoch, Const) else not training
    if on_epoch is not None and not isinstance(on_epoch, Const):
        epoch = True
    if isinstance(on_step, Const) and on_step.value is True and on_epoch is None:
        epoch = False
    if not epoch:
        return True
    size = keywords.get("batch_size")
    size_node = next((k.value for k in node.keywords if k.arg == "batch_size"), None)
    if name == "log_dict":
        if arguments and isinstance(arguments[0], Mapping):
            for key, binding in arguments[0].entries.items():
                _log(run, node, loop, key, binding.value, node.args[0], size, size_node)
        return True
    value = arguments[1] if len(arguments) > 1 else keywords.get("value")
    value_node = (
        node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "value"), None)
    )
    if value is None or value_node is None:
        return True
    key = str(arguments[0].value) if arguments and isinstance(arguments[0], Const) else ""
    _log(run, node, loop, key or ast.unparse(node.args[0]), value, value_node, size, size_node)
    return True


def _log(
    run: Reading, node: ast.Call, loop: object, key: str, value: Value, value_node: ast.expr, size: Value | None,
    size_node: ast.expr | None,
) -> None:  # fmt: skip
    if isinstance(value, MetricObject):
        return
    if isinstance(value, (Rows, Unknown)):
        if isinstance(value, Unknown) and not value.of_batch:
            return
        value = stats.stat(run, value_node, Quantity.UNKNOWN)
    if not isinstance(value, Stat):
        return
    weight = Weight.SAMPLES
    if isinstance(size, Count):
        weight = numbers.weight_of(run, size)
        if size.of is Of.KEYS:
            weight = Weight.OTHER
    changed = stats.derived(value, value_node, call=value.call, weight=weight, weight_node=size_node, factor=size)
    held = Binding(Unknown(node), (), None)
    entry = enter(run, key, held, changed, loop, value_node)  # type: ignore[arg-type]
    divisor = {Weight.SAMPLES: Divisor.SAMPLES, Weight.CONFIGURED: Divisor.CONFIGURED}.get(weight, Divisor.WEIGHTS)
    record_average(run, (entry,), node, divisor, None)
    entry.reported.setdefault(key)


def outputs_of(run: Reading, statement: ast.AST, name: str, values: list[Value], loop: object) -> Value:
    """What a trainer collects of a step's return values, for the method at the epoch's end."""
    made = Items(statement)
    for value in values:
        if isinstance(value, (Stat, Mapping, Rows, Unknown, Items)):
            held = Binding(made, (), None)
            entry = enter(run, name, held, value, loop, None, listed=True)  # type: ignore[arg-type]
            entry.late = True
            made.entries.append(entry)
    return made
