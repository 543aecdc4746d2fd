"""What methods of values return: ``loss.item()``, ``x.size(0)``, ``losses.append(v)``, ``meter.update(v, n)``."""

from __future__ import annotations

import ast
from dataclasses import replace

from batchproof.scripts.source import library, means, name_tables, numbers, stats
from batchproof.scripts.source.accumulators import append, extend
from batchproof.scripts.source.interpreter import Reading
from batchproof.scripts.source.meters import call_meter, is_meter, meter_for
from batchproof.scripts.source.objects import loader_of
from batchproof.scripts.source.site import Loader, Quantity
from batchproof.scripts.source.subscripts import key_of, length_of, read_key
from batchproof.scripts.source.values import (
    Averaged,
    Binding,
    Const,
    Count,
    Dataset,
    Fixed,
    Instance,
    Items,
    LoaderValue,
    Mapping,
    Meter,
    MetricObject,
    Of,
    Pool,
    Rows,
    Shape,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
)

_HANDED_ON = name_tables.SAME | frozenset(
    """
    unsqueeze view reshape expand expand_as repeat permute transpose t clamp clip abs neg requires_grad_ masked_fill
    type_as to_dense index_select gather flatten chunk split argmax softmax log_softmax sigmoid topk sort byte bool
    int long
    """.split()
)
_ARITHMETIC: dict[str, ast.operator] = {
    "add": ast.Add(), "add_": ast.Add(), "sub": ast.Sub(), "sub_": ast.Sub(), "mul": ast.Mult(), "mul_": ast.Mult(),
    "div": ast.Div(), "div_": ast.Div(), "true_divide": ast.Div(), "matmul": ast.MatMult(), "mm": ast.MatMult(),
}  # fmt: skip
_COMPARES = frozenset(
    """
    eq ne gt lt ge le isnan isfinite eq_ logical_and logical_or logical_not isclose
    """.split()
)
_LOGS = frozenset("add_scalar add_scalars info write log debug set_postfix step update".split())


def call_method(
    run: Reading, node: ast.Call, base: Value, name: str, arguments: list[Value], keywords: dict[str, Value]
) -> Value:
    assert isinstance(node.func, ast.Attribute)
    if name == "backward":
        _backward(run)
        return Fixed(node)
    if set_mode(run, base, name, arguments):
        return base
    if isinstance(base, Items):
        return _of_list(run, node, base, name, arguments, keywords)
    if isinstance(base, Mapping):
        return _of_mapping(run, node, base, name, arguments)
    if isinstance(base, Meter):
        return call_meter(run, node, base, name, arguments, keywords)
    if isinstance(base, MetricObject):
        return _of_metric(run, node, base, name, arguments, keywords)
    if isinstance(base, LoaderValue):
        return _of_loader(run, node, base, name, [*arguments, *keywords.values()])
    if isinstance(base, (Total, Averaged)):
        return _of_total(run, node, base, name, arguments)
    if isinstance(base, Stat):
        return _of_stat(run, node, base, name, arguments)
    if isinstance(base, Pool):
        return Pool(node)
    if isinstance(base, Rows):
        return _of_rows(run, node, base, name, arguments, keywords)
    return _of_unknown(run, node, base, name, arguments, keywords)


def set_mode(run: Reading, base: Value, name: str, arguments: list[Value]) -> bool:
    """``model.eval()`` and ``model.train()``: what follows them evaluates, or trains."""
    if not isinstance(base, (Unknown, Instance)):
        return False
    if (
        isinstance(base, Instance)
        and base.of is not None
        and base.of.definition is not None
        and name in run.index.methods.get(base.of.definition, {})
    ):
        return False
    if name == "eval" and not arguments:
        run.frame.quiet = True
        return True
    if name == "train" and len(arguments) <= 1 and not isinstance(base, Instance):
        run.frame.quiet = False
        return True
    return False


def _backward(run: Reading) -> None:
    loop = run.batch_loop()
    if loop is not None:
        loop.backward = True


def _of_list(
    run: Reading, node: ast.Call, base: Items, name: str, arguments: list[Value], keywords: dict[str, Value]
) -> Value:
    assert isinstance(node.func, ast.Attribute)
    text = ast.unparse(node.func.value)
    if name in {"append", "appendleft", "put", "add"} and arguments and not base.array:
        append(run, text, base, arguments[0], node.args[0])
        return Fixed(node)
    if name in {"extend", "update"} and arguments:
        extend(run, text, base, arguments[0], node.args[0])
        return Fixed(node)
    if name in {"clear"}:
        for entry in base.entries:
            if run.is_open(entry.loop):
                entry.window = True
        return Fixed(node)
    if name == "pop" and base.entries:
        return base.entries[-1].value
    dimension = means.dimension_of(arguments, keywords, 0)
    found = means.reduce(run, node, name, base, dimension)
    if found is not None:
        return found
    if name in _ARITHMETIC and arguments and base.array:
        return numbers.binary(run, node, _ARITHMETIC[name], base, arguments[0])
    return base


def _of_mapping(run: Reading, node: ast.Call, base: Mapping, name: str, arguments: list[Value]) -> Value:
    if name in {"get", "setdefault", "pop"} and node.args:
        key = key_of(node.args[0])
        if key in base.entries or "*" in base.entries or base.makes:
            return read_key(run, base, key, node)
        if name == "setdefault" and len(arguments) > 1:
            base.entries[key] = Binding(arguments[1], base.born, base.node)
            return arguments[1]
        return arguments[1] if len(arguments) > 1 else Unknown(node, key)
    if name == "update" and arguments and isinstance(arguments[0], Mapping):
        base.entries.update(arguments[0].entries)
        return Fixed(node)
    if name in {"values", "items"}:
        found = [b.value for b in base.entries.values()]
        return (
            Items(node, found) if not any(isinstance(v, Items) for v in found) else Unknown(node, "", is_of_batch(base))
        )
    return Unknown(node, name, False)


def _of_metric(
    run: Reading, node: ast.Call, base: MetricObject, name: str, arguments: list[Value], keywords: dict[str, Value]
) -> Value:
    if name in {"to", "cuda", "cpu", "clone", "eval", "train"}:
        return base
    if name == "forward":
        return batch_value(run, node, base, [*arguments, *keywords.values()])
    if name == "compute" and (arguments or keywords) and any(is_of_batch(v) for v in (*arguments, *keywords.values())):
        # evaluate's compute(predictions=..., references=...) scores what it is given.
        return stats.stat(run, node, base.quantity, base.why)
    return Fixed(node)


def batch_value(run: Reading, node: ast.expr, metric: MetricObject, given: list[Value]) -> Value:
    """A metric object that is called returns the value of that batch."""
    if any(isinstance(v, (Pool, Total)) for v in given) or not any(is_of_batch(v) for v in given):
        return Fixed(node)
    return stats.stat(run, node, metric.quantity, metric.why)


def _of_loader(run: Reading, node: ast.Call, base: LoaderValue, name: str, given: list[Value]) -> Value:
    if name in {"next", "__next__", "next_batch", "get_batch"}:
        return Rows(node, whole=True)
    if name in {"size", "__len__"}:
        return Count(node, Of.BATCHES)
    if name in {"set_description", "set_postfix", "set_postfix_str", "update", "close", "write"}:
        return Fixed(node)
    if any(is_of_batch(value) for value in given):
        return Rows(node)
    return base


def _of_total(run: Reading, node: ast.Call, base: Total | Averaged, name: str, arguments: list[Value]) -> Value:
    if isinstance(base, Total) and base.listed and name in {"mean", "sum", "nanmean"}:
        found = means.reduce(run, node, name, base, None)
        return found if found is not None else base
    step = name_tables.nonlinear_step(name)
    if step is not None:
        return stats.nonlinear(run, node, base, step)
    if name in _ARITHMETIC and arguments:
        return numbers.binary(run, node, _ARITHMETIC[name], base, arguments[0])
    if name in {"append"}:
        return Fixed(node)
    return base


def _of_stat(run: Reading, node: ast.Call, base: Stat, name: str, arguments: list[Value]) -> Value:
    if name in {"size", "shape"}:
        return Fixed(node)
    step = name_tables.nonlinear_step(name.rstrip("_"))
    if step is not None:
        return stats.nonlinear(run, node, base, step)
    if name in _ARITHMETIC and arguments:
        return numbers.binary(run, node, _ARITHMETIC[name], base, arguments[0])
    if name in {"mean"} and base.quantity is Quantity.COUNT:
        return means.mean_of(run, node, base)
    return base


def _of_rows(
    run: Reading, node: ast.Call, base: Rows, name: str, arguments: list[Value], keywords: dict[str, Value]
) -> Value:
    if name in {"size", "shape"}:
        if not arguments:
            return Shape(node, base)
        first = arguments[0]
        if isinstance(first, Const) and first.value == 0:
            return length_of(run, base, node)
        return Fixed(node)
    if name == "numel" or name == "nelement":
        return Count(node, Of.ELEMENTS if base.selected else Of.SAMPLES, run.batch_loop())
    if name in _COMPARES:
        return Rows(node, mask=True, pairs=base.pairs)
    if name in {"bool", "byte"}:
        return Rows(node, mask=True)
    if name == "item":
        return stats.stat(run, node, Quantity.UNKNOWN)
    if name in {"max", "min"} and (arguments or keywords):
        return Rows(node, output=base.output)
    found = means.reduce(run, node, name, base, means.dimension_of(arguments, keywords, 0))
    if found is not None:
        return found
    if name in _ARITHMETIC and arguments:
        operator = _ARITHMETIC[name]
        if isinstance(operator, ast.MatMult):
            pairs = isinstance(arguments[0], Rows) and numbers.is_transposed(node.args[0])
            return Rows(node, pairs=pairs, output=True)
        return numbers.binary(run, node, operator, base, arguments[0])
    if name in {"masked_select"}:
        return Rows(node, selected=True, output=base.output)
    if name in {"get", "pop"} and node.args:
        key = key_of(node.args[0])
        return Rows(node, mask="mask" in key)
    if name in {"items", "values"}:
        return Unknown(node, "", True)
    if name == "unsqueeze" and base.raw and isinstance(arguments[0] if arguments else None, Const):
        loop = run.batch_loop()
        if loop is not None and arguments[0].value == 0:  # type: ignore[attr-defined]
            loop.single = True
    columns = _columns(name, arguments, base)
    if name in _HANDED_ON or columns is not None:
        moved = name in {"to", "cuda", "float", "long"}
        return replace(base, node=node, whole=base.whole and moved, raw=base.raw and moved, columns=columns)
    if name in {"loss", "compute_loss"}:
        return stats.stat(run, node, Quantity.UNKNOWN)
    return Rows(node, output=base.output, pairs=base.pairs)


def _columns(name: str, arguments: list[Value], base: Rows) -> int | None:
    """After ``unsqueeze(1)`` there is a column, after ``squeeze()`` there is none."""
    numbers_given = [a.value for a in arguments if isinstance(a, Const)]
    if name == "unsqueeze" and numbers_given in ([1], [-1]):
        return 1
    if name in {"view", "reshape"} and numbers_given == [-1, 1]:
        return 1
    if name in {"squeeze", "flatten"} or (name in {"view", "reshape"} and numbers_given == [-1]):
        return 0
    return base.columns if name in {"to", "cuda", "float", "cpu", "detach", "double"} else None


def _of_unknown(
    run: Reading, node: ast.Call, base: Value, name: str, arguments: list[Value], keywords: dict[str, Value]
) -> Value:
    assert isinstance(node.func, ast.Attribute)
    given = [*arguments, *keywords.values()]
    of_batch = is_of_batch(base)
    if name in {"append", "extend"} and arguments and isinstance(base, (Unknown, Const)):
        return _of_unknown_list(run, node, base, name, arguments)
    if name in {"glob", "rglob", "iterdir", "readlines"} and not of_batch:
        return Dataset(node)
    if name == "DataLoader":
        return loader_of(run, node, arguments, keywords)
    if name in {"update", "add"} and isinstance(base, Unknown) and is_meter(run, node, base, arguments):
        return call_meter(run, node, meter_for(run, node.func.value), name, arguments, keywords)
    if name in {"size", "shape"} and (of_batch or run.batch_loop() is not None):
        if not arguments:
            return Shape(node, base)
        first = arguments[0]
        if isinstance(first, Const) and first.value == 0:
            return length_of(run, base, node)
        return Fixed(node)
    if name == "item":
        if isinstance(base, Unknown) and not base.of_batch and run.batch_loop() is None:
            return base
        return stats.stat(run, node, Quantity.UNKNOWN)
    if name in {"next", "get_batch", "next_batch", "sample_batch"} and run.batch_loop() is not None:
        return Rows(node, whole=True)
    pooled = any(isinstance(v, Pool) for v in given)
    if pooled:
        return Pool(node)
    if of_batch or (isinstance(base, Unknown) and run.batch_loop() is not None and not arguments):
        found = means.reduce(run, node, name, base, means.dimension_of(arguments, keywords, 0))
        if found is not None:
            return found
        step = name_tables.nonlinear_step(name)
        if step is not None:
            return stats.nonlinear(run, node, base, step)
        if name in {"eq", "ne", "gt", "lt", "ge", "le"}:
            return Rows(node, mask=True)
        if of_batch and name in _HANDED_ON:
            return base
    if any(is_of_batch(v) for v in given):
        if isinstance(base, Unknown) and name in _LOGS:
            return Fixed(node)
        return library.by_name(run, node, name, given)
    if name in _HANDED_ON:
        return base
    if name_tables.reads_as_loader(name) and not isinstance(base, Dataset):
        return LoaderValue(node, Loader(node))
    if name in {"time", "perf_counter", "param_groups", "get_last_lr", "get_lr"}:
        return Fixed(node)
    return Unknown(node, name, of_batch)


def _of_unknown_list(run: Reading, node: ast.Call, base: Value, name: str, arguments: list[Value]) -> Value:
    """A list that something else made: an attribute of an unknown object, a parameter."""
    assert isinstance(node.func, ast.Attribute)
    text = ast.unparse(node.func.value)
    held = run.frame.scope.find(text)
    items = held.value if held is not None else None
    if not isinstance(items, Items):
        items = Items(base.node, born=held.born if held is not None else (), start=None)
        run.frame.scope.names[text] = Binding(items, held.born if held is not None else (), None)
    if name == "append":
        append(run, text, items, arguments[0], node.args[0])
    else:
        extend(run, text, items, arguments[0], node.args[0])
    return Fixed(node)
