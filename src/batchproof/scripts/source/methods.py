"""What methods of values return: ``loss.item()``, ``x.size(0)``, ``losses.append(v)``, ``meter.update(v, n)``."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.scripts.source import library, name_tables
from batchproof.scripts.source.accumulators import add, append, extend
from batchproof.scripts.source.arithmetic import is_transposed
from batchproof.scripts.source.assignment import held_by, open_loops, put
from batchproof.scripts.source.callables import (
    ExactObject,
    Instance,
    Invocation,
    MetricObject,
    MetricsObject,
    loader_of,
)
from batchproof.scripts.source.frames import Binding
from batchproof.scripts.source.index import last_word
from batchproof.scripts.source.meters import call_meter, is_meter, meter_for
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Loader, Quantity
from batchproof.scripts.source.totals import Accumulated, Averaged, Items, LoopTotal, Mapping, Meter, Pool
from batchproof.scripts.source.values import (
    BatchRows,
    Const,
    Count,
    CountedThing,
    Dataset,
    Fixed,
    LoaderValue,
    Shape,
    Stat,
    Unknown,
    Value,
    key_of,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter

_HANDED_ON = name_tables.SAME | name_set(
    """
    unsqueeze view reshape expand expand_as repeat permute transpose t clamp clip abs neg requires_grad_ masked_fill
    type_as to_dense index_select gather flatten chunk split argmax softmax log_softmax sigmoid topk sort byte bool
    int long
    """
)
_ARITHMETIC: dict[str, ast.operator] = {
    "add": ast.Add(), "add_": ast.Add(), "sub": ast.Sub(), "sub_": ast.Sub(), "mul": ast.Mult(), "mul_": ast.Mult(),
    "div": ast.Div(), "div_": ast.Div(), "true_divide": ast.Div(), "matmul": ast.MatMult(), "mm": ast.MatMult(),
}  # fmt: skip
_LOGS = name_set("add_scalar add_scalars info write log debug set_postfix step update")
_BARS = name_set("set_description set_postfix set_postfix_str update close write")
_COMPARES = name_set("eq ne gt lt ge le")


def call_method(run: Interpreter, base: Value, call: Invocation) -> Value:
    """``base.name(...)``."""
    if call.name == "backward":
        loop = run.batch_loop()
        if loop is not None:
            loop.backward = True
        return Fixed(call.node)
    if set_mode(run, base, call):
        return base
    if call.name == "add_" and _added_in_place(run, call):
        return base
    return _METHODS.get(type(base), _of_unknown)(run, base, call)


def _added_in_place(run: Interpreter, call: Invocation) -> bool:
    """``total.add_(loss)`` of a total that outlives the loop."""
    assert isinstance(call.node.func, ast.Attribute)
    target = call.node.func.value
    held = held_by(run, target)
    if held is None or len(call.arguments) != 1 or not open_loops(run, held):
        return False
    put(run, target, held, add(run, ast.unparse(target), held, call.arguments[0], call.node.args[0]))
    return True


def set_mode(run: Interpreter, base: Value, call: Invocation) -> bool:
    """``model.eval()`` and ``model.train()``: what follows them evaluates, or trains."""
    if not isinstance(base, (Unknown, Instance)):
        return False
    if isinstance(base, Instance) and call.name in run.index.methods.get(base.of.definition, {}):
        return False
    if call.name == "eval" and not call.arguments:
        run.frame.evaluating = True
        return True
    if call.name == "train" and len(call.arguments) <= 1 and not isinstance(base, Instance):
        run.frame.evaluating = False
        return True
    return False


def _written(call: Invocation) -> str:
    """What the method is called on, as written."""
    assert isinstance(call.node.func, ast.Attribute)
    return ast.unparse(call.node.func.value)


def _arithmetic(run: Interpreter, base: Value, call: Invocation) -> Value | None:
    if call.name not in _ARITHMETIC or not call.arguments:
        return None
    return run.binary(call.node, _ARITHMETIC[call.name], base, call.arguments[0])


def _nonlinear(base: Value, call: Invocation, name: str) -> Value | None:
    what = name_tables.NONLINEAR_STEPS.get(name)
    return base.nonlinear(call.node, what) if what is not None else None


def _of_list(run: Interpreter, base: Items, call: Invocation) -> Value:
    name, node = call.name, call.node
    if name in {"append", "appendleft", "put", "add"} and call.first is not None and not base.array:
        append(run, _written(call), base, call.first, node.args[0])
        return Fixed(node)
    if name in {"extend", "update"} and call.first is not None:
        extend(run, _written(call), base, call.first, node.args[0])
        return Fixed(node)
    if name == "clear":
        run.start_anew(base.entries)
        return Fixed(node)
    if name == "pop" and base.entries:
        return base.entries[-1].value
    value = base.reduce(run, node, name, call.dimension(0))
    return value or (_arithmetic(run, base, call) if base.array else None) or base


def _of_mapping(run: Interpreter, base: Mapping, call: Invocation) -> Value:
    name, node = call.name, call.node
    if name in {"get", "setdefault", "pop"} and node.args:
        key = key_of(node.args[0])
        default = call.arguments[1] if len(call.arguments) > 1 else None
        if key in base.entries or "*" in base.entries or base.makes:
            return base.read(run, key, node)
        if name == "setdefault" and default is not None:
            if isinstance(default, Items):
                default.created_in = base.created_in
            base.entries[key] = Binding(default, base.created_in, base.node)
        return default or Unknown(node, key)
    if name == "mean":
        return base.mean(run, node)
    if name == "update" and isinstance(call.first, Mapping):
        base.entries.update(call.first.entries)
        return Fixed(node)
    if name in {"values", "items"}:
        values = base.values()
        nested = any(isinstance(value, Items) for value in values)
        return Unknown(node, "", base.is_of_batch()) if nested else Items(node, values)
    return Unknown(node, name)


def _of_metric(run: Interpreter, base: MetricObject, call: Invocation) -> Value:
    if call.name in {"to", "cuda", "cpu", "clone", "eval", "train"}:
        return base
    if call.name == "forward":
        return base.of(run, call.node, call.given)
    if call.name == "compute" and call.is_given_batch():
        # evaluate's compute(predictions=..., references=...) scores what it is given.
        return run.stat(call.node, base.quantity, base.why)
    return Fixed(call.node)


def _of_loader(run: Interpreter, base: LoaderValue, call: Invocation) -> Value:
    if call.name in {"next", "__next__", "next_batch", "get_batch"}:
        return BatchRows(call.node, whole=True)
    if call.name in {"size", "__len__"}:
        return Count(call.node, CountedThing.BATCHES)
    if call.name in _BARS:
        return Fixed(call.node)
    return BatchRows(call.node) if call.is_given_batch() else base


def _of_total(run: Interpreter, base: Accumulated, call: Invocation) -> Value:
    if isinstance(base, LoopTotal) and base.listed and call.name in {"mean", "sum", "nanmean"}:
        return base.reduce(run, call.node, call.name, None) or base
    if call.name == "append":
        return Fixed(call.node)
    return _nonlinear(base, call, call.name) or _arithmetic(run, base, call) or base


def _of_stat(run: Interpreter, base: Stat, call: Invocation) -> Value:
    if call.name in {"size", "shape"}:
        return Fixed(call.node)
    if call.name == "mean" and base.quantity is Quantity.COUNT:
        return base.mean(run, call.node)
    if call.name == "sum":
        return base.sum(run, call.node)
    return _nonlinear(base, call, call.name.rstrip("_")) or _arithmetic(run, base, call) or base


def _of_pool(run: Interpreter, base: Pool, call: Invocation) -> Value:
    return Pool(call.node)


def _size(run: Interpreter, base: Value, call: Invocation) -> Value:
    """``x.size()`` and ``x.size(0)``."""
    if call.first is None:
        return Shape(call.node, base)
    is_batch_dimension = isinstance(call.first, Const) and call.first.value == 0
    return base.length(run, call.node) if is_batch_dimension else Fixed(call.node)


def _of_rows(run: Interpreter, base: BatchRows, call: Invocation) -> Value:
    reader = _ON_ROWS.get(call.name)
    value = reader(run, base, call) if reader is not None else None
    return (
        value
        or base.reduce(run, call.node, call.name, call.dimension(0))
        or _moved(run, base, call)
        or BatchRows(call.node, output=base.output, pairs=base.pairs)
    )


def _number(run: Interpreter, base: Value, call: Invocation) -> Value:
    return run.stat(call.node, Quantity.UNKNOWN)


def _extreme_of_rows(run: Interpreter, base: BatchRows, call: Invocation) -> Value | None:
    return BatchRows(call.node, output=base.output) if call.given else None


def _matrix_product(run: Interpreter, base: BatchRows, call: Invocation) -> Value | None:
    if call.first is None:
        return None
    pairs = isinstance(call.first, BatchRows) and is_transposed(call.node.args[0])
    return BatchRows(call.node, pairs=pairs, output=True)


def _entry_of_rows(run: Interpreter, base: BatchRows, call: Invocation) -> Value | None:
    return BatchRows(call.node, mask="mask" in key_of(call.node.args[0])) if call.node.args else None


#: Methods of a tensor, or of a structure of tensors, with one row for each sample.
_ON_ROWS: dict[str, Callable[..., Value | None]] = {
    name: reader
    for names, reader in (
        (" ".join(_ARITHMETIC), _arithmetic),
        ("matmul mm", _matrix_product),
        ("size shape", _size),
        ("numel nelement", lambda run, base, call: base.elements(run, call.node)),
        (
            "eq ne gt lt ge le isnan isfinite eq_ logical_and logical_or logical_not isclose",
            lambda run, base, call: BatchRows(call.node, mask=True, pairs=base.pairs),
        ),
        ("bool byte", lambda run, base, call: BatchRows(call.node, mask=True)),
        ("item loss compute_loss", _number),
        ("max min", _extreme_of_rows),
        ("masked_select", lambda run, base, call: BatchRows(call.node, selected=True, output=base.output)),
        ("get pop", _entry_of_rows),
        ("items values", lambda run, base, call: Unknown(call.node, "", True)),
    )
    for name in names.split()
}


def _moved(run: Interpreter, base: BatchRows, call: Invocation) -> BatchRows | None:
    """The same rows elsewhere, in another type or another shape."""
    name = call.name
    if name == "unsqueeze" and base.raw and isinstance(call.first, Const) and call.first.value == 0:
        loop = run.batch_loop()
        if loop is not None:
            loop.single = True
    columns = _columns(name, call.arguments, base)
    if name not in _HANDED_ON and columns is None:
        return None
    moved = name in {"to", "cuda", "float", "long"}
    return replace(base, node=call.node, whole=base.whole and moved, raw=base.raw and moved, columns=columns)


def _columns(name: str, arguments: list[Value], base: BatchRows) -> int | None:
    """After ``unsqueeze(1)`` there is a column, after ``squeeze()`` there is none."""
    sizes = [a.value for a in arguments if isinstance(a, Const)]
    if name == "unsqueeze" and sizes in ([1], [-1]):
        return 1
    if name in {"view", "reshape"} and sizes == [-1, 1]:
        return 1
    if name in {"squeeze", "flatten"} or (name in {"view", "reshape"} and sizes == [-1]):
        return 0
    return base.columns if name in {"to", "cuda", "float", "cpu", "detach", "double"} else None


def _of_unknown(run: Interpreter, base: Value, call: Invocation) -> Value:
    reader = _ON_UNKNOWN.get(call.name)
    value = reader(run, base, call) if reader is not None else None
    if value is not None:
        return value
    if any(isinstance(given, Pool) for given in call.given):
        return Pool(call.node)
    return _of_tensor(run, base, call) or _by_name(run, base, call)


def _of_tensor(run: Interpreter, base: Value, call: Invocation) -> Value | None:
    """A method of what may be a tensor with a row for each sample."""
    of_batch = base.is_of_batch()
    if not of_batch and (not isinstance(base, Unknown) or run.batch_loop() is None or call.arguments):
        return None
    value = base.reduce(run, call.node, call.name, call.dimension(0)) or _nonlinear(base, call, call.name)
    if value is None and call.name in _COMPARES:
        return BatchRows(call.node, mask=True)
    return base if value is None and of_batch and call.name in _HANDED_ON else value


def _by_name(run: Interpreter, base: Value, call: Invocation) -> Value:
    if call.is_given_batch():
        if isinstance(base, Unknown) and call.name in _LOGS:
            return Fixed(call.node)
        return library.by_name(run, call.node, call.name, call.given)
    if call.name in _HANDED_ON:
        return base
    if name_tables.reads_as_loader(call.name) and not isinstance(base, Dataset):
        return LoaderValue(call.node, Loader(call.node, drops_last=_is_given_number(call) or None))
    if call.name in {"time", "perf_counter", "param_groups", "get_last_lr", "get_lr"}:
        return Fixed(call.node)
    return Unknown(call.node, call.name, base.is_of_batch())


def _is_given_number(call: Invocation) -> bool:
    """``rollouts.batches(num_mini_batch)``: who says how many there are to be gets equal ones."""
    given = [*call.node.args, *(keyword.value for keyword in call.node.keywords)]
    return any(name_tables.counts_mini_batches(last_word(argument)) for argument in given)


def _added(run: Interpreter, base: Value, call: Invocation) -> Value | None:
    """A list that something else made: an attribute of an unknown object, a parameter."""
    if call.first is None or not isinstance(base, (Unknown, Const)):
        return None
    text = _written(call)
    held = run.frame.scope.find(text)
    items = held.value if held is not None else None
    if not isinstance(items, Items):
        items = Items(base.node, created_in=held.created_in if held is not None else ())
        run.frame.scope.names[text] = Binding(items, items.created_in, None)
    (append if call.name == "append" else extend)(run, text, items, call.first, call.node.args[0])
    return Fixed(call.node)


def _metered(run: Interpreter, base: Value, call: Invocation) -> Value | None:
    if not isinstance(base, Unknown) or not is_meter(run, base, call):
        return None
    assert isinstance(call.node.func, ast.Attribute)
    return call_meter(run, meter_for(run, call.node.func.value), call)


def _prepared(run: Interpreter, base: Value, call: Invocation) -> Value | None:
    """``accelerator.prepare(model, loader)``."""
    if not call.arguments:
        return None
    return call.first if len(call.arguments) == 1 else Items(call.node, list(call.arguments), tuple_=True)


def _parts(run: Interpreter, base: Value, call: Invocation) -> Value | None:
    """``x.split(size)``: batches, where a loop runs a model on them."""
    if call.first is None or base.is_of_batch() or isinstance(call.first, Items) or library.is_text(call.first):
        return None
    return LoaderValue(call.node, Loader(call.node), cut=True)


def _size_in_loop(run: Interpreter, base: Value, call: Invocation) -> Value | None:
    return _size(run, base, call) if base.is_of_batch() or run.batch_loop() is not None else None


def _number_in_loop(run: Interpreter, base: Value, call: Invocation) -> Value:
    outside = isinstance(base, Unknown) and not base.of_batch and run.batch_loop() is None
    return base if outside else _number(run, base, call)


def _next_batch(run: Interpreter, base: Value, call: Invocation) -> Value | None:
    return BatchRows(call.node, whole=True) if run.batch_loop() is not None else None


#: Methods of what nothing is known of.
_ON_UNKNOWN: dict[str, Callable[..., Value | None]] = {
    name: reader
    for names, reader in (
        ("append extend", _added),
        (library.PREPARES, _prepared),
        ("split", _parts),
        ("glob rglob iterdir readlines", lambda run, base, call: None if base.is_of_batch() else Dataset(call.node)),
        ("DataLoader", lambda run, base, call: loader_of(call)),
        ("update add", _metered),
        ("size shape", _size_in_loop),
        ("item", _number_in_loop),
        ("next get_batch next_batch sample_batch", _next_batch),
    )
    for name in names.split()
}
_METHODS: dict[type[Value], Callable[..., Value]] = {
    Items: _of_list,
    Mapping: _of_mapping,
    Meter: call_meter,
    MetricObject: _of_metric,
    MetricsObject: _of_metric,
    ExactObject: _of_metric,
    LoaderValue: _of_loader,
    LoopTotal: _of_total,
    Averaged: _of_total,
    Stat: _of_stat,
    Pool: _of_pool,
    BatchRows: _of_rows,
}
