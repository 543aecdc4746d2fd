"""What each kind of expression holds.  Calls are read in calls.py."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.scripts.source import calls, labels, name_tables, suspicions
from batchproof.scripts.source.accumulators import added_in_comprehension
from batchproof.scripts.source.callables import Class, Function, Instance
from batchproof.scripts.source.frames import Binding, Contribution, Scope, report_as
from batchproof.scripts.source.loops import enter, leave
from batchproof.scripts.source.totals import Averaged, Items, Mapping, Pool, join
from batchproof.scripts.source.values import (
    BatchRows,
    Const,
    Count,
    CountedThing,
    Fixed,
    Library,
    LoaderValue,
    Stat,
    Unknown,
    Value,
    argument,
    as_loader,
    key_of,
    named,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


def evaluate(run: Interpreter, node: ast.expr) -> Value:
    reader = _READERS.get(type(node))
    if reader is not None:
        return reader(run, node)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            evaluate(run, child)
    return Unknown(node)


def _name(run: Interpreter, node: ast.Name) -> Value:
    binding = run.frame.scope.find(node.id)
    if binding is not None:
        return _as_named(binding.value, node)
    return by_spelling(run, node.id, node)


def by_spelling(run: Interpreter, name: str, node: ast.AST) -> Value:
    """A name that nothing in the file binds."""
    index = run.index
    # below a notebook's `raise SystemExit` nothing is read in order, and yet it is run by hand
    if name in index.functions:
        return Function(node, definition=index.functions[name], scope=run.module)
    if name in index.classes:
        return Class(node, definition=index.classes[name], scope=run.module)
    if name in index.imports:
        return Library(node, index.imports[name])
    if name in _ALIASES:
        return Library(node, _ALIASES[name])
    if name == "iter":  # which reads like a loader's name
        return Library(node, name)
    return named(name, node)


#: What is often brought in by a star.
_ALIASES = {
    "torch": "torch",
    "np": "numpy",
    "numpy": "numpy",
    "F": "torch.nn.functional",
    "nn": "torch.nn",
    "math": "math",
    "time": "time",
}


def _as_named(value: Value, node: ast.Name) -> Value:
    if isinstance(value, (Const, Unknown)) and name_tables.reads_as_batch_size(node.id):
        if isinstance(value, Const) and isinstance(value.value, int):
            return Count(node, CountedThing.CONFIGURED, number=value.value)
        if isinstance(value, Unknown) and not value.of_batch:
            return Count(node, CountedThing.CONFIGURED)
    if isinstance(value, Unknown) and not value.name:
        value.name = node.id
    return as_loader(value, node.id)


def _constant(run: Interpreter, node: ast.Constant) -> Value:
    return Const(node, node.value)


def _subscript(run: Interpreter, node: ast.Subscript) -> Value:
    base, key = run.evaluate(node.value), run.evaluate(node.slice)
    return base.at(run, key, node)


def _tuple(run: Interpreter, node: ast.Tuple | ast.List | ast.Set) -> Value:
    items: list[Value] = []
    entries: list[Contribution] = []
    for element in node.elts:
        if isinstance(element, ast.Starred):
            inner = run.evaluate(element.value)
            if isinstance(inner, Items):
                items += inner.items
                entries += inner.entries
                continue
            items.append(inner)
        else:
            items.append(run.evaluate(element))
    return Items(node, items, entries, run.open_marks(), start=run.frame.statement, tuple_=isinstance(node, ast.Tuple))


def _dict(run: Interpreter, node: ast.Dict) -> Value:
    entries: dict[str, Binding] = {}
    created_in = run.open_marks()
    for key, item in zip(node.keys, node.values, strict=True):
        value = run.evaluate(item)
        if key is None:
            if isinstance(value, Mapping):
                entries.update(value.entries)
            continue
        entries[key_of(key)] = Binding(value, created_in, run.frame.statement)
        if isinstance(value, LoaderValue):
            suspicions.named_loader(run, key_of(key), value)
        if isinstance(value, Averaged) and key_of(key) != "*":
            report_as(value.entries, key_of(key))
    return Mapping(node, entries, created_in)


def _binary(run: Interpreter, node: ast.BinOp) -> Value:
    left, right = run.evaluate(node.left), run.evaluate(node.right)
    return run.binary(node, node.op, left, right)


def _unary(run: Interpreter, node: ast.UnaryOp) -> Value:
    value = run.evaluate(node.operand)
    if isinstance(node.op, ast.USub):
        if isinstance(value, Const):
            number = value.value
            return Const(node, -number if isinstance(number, (int, float)) else None)
        return value.derived(node) if isinstance(value, Stat) else value
    if isinstance(node.op, ast.Invert):
        return value
    return Fixed(node)


def _compare(run: Interpreter, node: ast.Compare) -> Value:
    values = [run.evaluate(n) for n in (node.left, *node.comparators)]
    if any(isinstance(v, Pool) for v in values):
        return Pool(node)
    if any(isinstance(v, BatchRows) or (isinstance(v, Unknown) and v.of_batch) for v in values) and not any(
        isinstance(op, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) for op in node.ops
    ):
        return BatchRows(node, mask=True, pairs=any(isinstance(v, BatchRows) and v.pairs for v in values))
    return Fixed(node)


def _boolean(run: Interpreter, node: ast.BoolOp) -> Value:
    value = run.evaluate(node.values[0])
    for other in node.values[1:]:
        value = join(value, run.evaluate(other))
    return value


def _conditional(run: Interpreter, node: ast.IfExp) -> Value:
    run.evaluate(node.test)
    return join(run.evaluate(node.body), run.evaluate(node.orelse))


def _lambda(run: Interpreter, node: ast.Lambda) -> Value:
    return Function(node, definition=node, scope=run.frame.scope)


def _text(run: Interpreter, node: ast.JoinedStr) -> Value:
    values = [run.evaluate(part.value) if isinstance(part, ast.FormattedValue) else None for part in node.values]
    labels.in_text(zip(node.values, values, strict=True))
    return Const(node, "")


def _walrus(run: Interpreter, node: ast.NamedExpr) -> Value:
    value = run.evaluate(node.value)
    if isinstance(node.target, ast.Name):
        run.bind(node.target.id, value)
    return value


def _inner(run: Interpreter, node: ast.Starred | ast.Await | ast.YieldFrom) -> Value:
    return run.evaluate(node.value)


def _yield(run: Interpreter, node: ast.Yield) -> Value:
    if node.value is not None:
        run.evaluate(node.value)
    run.frame.yields = True
    return Unknown(node)


def _comprehension(run: Interpreter, node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) -> Value:
    outer = run.frame.scope
    run.frame.scope = Scope({}, outer)
    opened = 0
    over: Value = Unknown()
    try:
        for generator in node.generators:
            over = enter(run, generator)
            opened += 1
            for test in generator.ifs:
                run.evaluate(test)
        if isinstance(node, ast.DictComp):
            run.evaluate(node.key)
            value = run.evaluate(node.value)
            if isinstance(value, LoaderValue):  # {split: DataLoader(...) for split in ("train", "val")}
                for key in ast.walk(node.generators[0].iter):
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        suspicions.named_loader(run, key.value, value)
        else:
            value = run.evaluate(node.elt)
        return added_in_comprehension(run, node, value, over)
    finally:
        for _ in range(opened):
            leave(run)
        run.frame.scope = outer


def _slice(run: Interpreter, node: ast.Slice) -> Value:
    for part in (node.lower, node.upper, node.step):
        if part is not None:
            value = run.evaluate(part)
            if isinstance(value, BatchRows):
                return value
    return Unknown(node)


def _attribute(run: Interpreter, node: ast.Attribute) -> Value:
    """``base.attr``."""
    base = run.evaluate(node.value)
    if isinstance(base, Instance):
        value = _of_instance(run, base, node.attr, node)
    else:
        value = base.attribute(run, node.attr, node)
        here = run.frame.scope.find(ast.unparse(node)) if isinstance(value, (Unknown, Const)) else None
        if here is not None:
            return here.value
    if isinstance(value, Const) and name_tables.reads_as_batch_size(node.attr):
        return Count(node, CountedThing.CONFIGURED, number=value.value if isinstance(value.value, int) else None)
    return value


def _of_instance(run: Interpreter, base: Instance, name: str, node: ast.expr) -> Value:
    binding = base.attributes.get(name)
    if binding is not None:
        return _kept(run, binding.value, name, node)
    for definition in run.index.lineage(base.of.definition):
        method = run.index.methods.get(definition, {}).get(name)
        if method is not None:
            bound = base.method(node, method)
            if any(isinstance(d, ast.Name) and d.id in {"property", "cached_property"} for d in method.decorator_list):
                return run.call(bound, node, [], {})
            return bound
        assigned = run.index.assigned.get(definition, {}).get(name)
        if assigned:
            base.attributes[name] = Binding(Unknown(node, name))
            value = run.in_method(base, assigned[-1])
            base.attributes[name] = Binding(value, (), None)
            return _kept(run, value, name, node)
    return argument(run, name, node) if name in run.index.arguments else named(name, node)


def _kept(run: Interpreter, value: Value, name: str, node: ast.expr) -> Value:
    if isinstance(value, Unknown) and name_tables.reads_as_batch_size(name) and not value.of_batch:
        return Count(node, CountedThing.CONFIGURED)
    if isinstance(value, Stat) and value.loop is not None and not run.is_open(value.loop):
        return replace(value, loop=None)  # another method may have kept it, and more than one batch of it
    return as_loader(value, name)


_READERS: dict[type, Callable[..., Value]] = {
    ast.Name: _name,
    ast.Constant: _constant,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Call: calls.call,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.IfExp: _conditional,
    ast.Lambda: _lambda,
    ast.JoinedStr: _text,
    ast.Tuple: _tuple,
    ast.List: _tuple,
    ast.Set: _tuple,
    ast.Dict: _dict,
    ast.Starred: _inner,
    ast.NamedExpr: _walrus,
    ast.Await: _inner,
    ast.YieldFrom: _inner,
    ast.Yield: _yield,
    ast.ListComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.SetComp: _comprehension,
    ast.DictComp: _comprehension,
    ast.Slice: _slice,
}
