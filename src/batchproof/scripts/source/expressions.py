"""What each kind of expression holds.  Calls are read in calls.py."""

from __future__ import annotations

import ast
from collections.abc import Callable

from batchproof.scripts.source import calls, meters, name_tables, numbers, stats
from batchproof.scripts.source.accumulators import added_in_comprehension
from batchproof.scripts.source.attributes import argument, attribute
from batchproof.scripts.source.interpreter import Reading
from batchproof.scripts.source.loops import enter_comprehension, leave
from batchproof.scripts.source.site import Loader, Quantity
from batchproof.scripts.source.subscripts import (
    as_loader,
    hugging_face_loss,
    key_of,
    length_of,
    named,
    note_name,
    read_key,
)
from batchproof.scripts.source.values import (
    Averaged,
    Binding,
    Class,
    Const,
    Count,
    Dataset,
    Entry,
    Fixed,
    Function,
    Items,
    Library,
    LoaderValue,
    Mapping,
    Meter,
    Of,
    Pool,
    Position,
    Rows,
    Scope,
    Shape,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
    join,
)


def evaluate(run: Reading, node: ast.expr) -> Value:
    reader = _READERS.get(type(node))
    if reader is not None:
        return reader(run, node)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            evaluate(run, child)
    return Unknown(node)


def _name(run: Reading, node: ast.Name) -> Value:
    binding = run.frame.scope.find(node.id)
    if binding is not None:
        return _as_named(binding.value, node)
    return by_spelling(run, node.id, node)


def by_spelling(run: Reading, name: str, node: ast.AST) -> Value:
    """A name that nothing in the file binds."""
    index = run.index
    if name in index.functions:
        return Function(node, index.functions[name], run.module)
    if name in index.classes:
        return Class(node, index.classes[name], run.module)
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
            return Count(node, Of.CONFIGURED, number=value.value)
        if isinstance(value, Unknown) and not value.of_batch:
            return Count(node, Of.CONFIGURED)
    if isinstance(value, Unknown) and not value.name:
        value.name = node.id
    return as_loader(value, node.id)


def _constant(run: Reading, node: ast.Constant) -> Value:
    return Const(node, node.value)


def _subscript(run: Reading, node: ast.Subscript) -> Value:
    base = run.evaluate(run, node.value)
    key = run.evaluate(run, node.slice)
    if isinstance(base, Shape):
        return _dimension(run, base, key, node)
    if isinstance(base, Mapping):
        return read_key(run, base, key_of(node.slice), node)
    if isinstance(base, Items):
        here = run.frame.scope.find(ast.unparse(node)) if base.array and isinstance(key, Const) else None
        if here is not None:
            return here.value
        if (
            isinstance(key, Const)
            and isinstance(key.value, int)
            and base.items
            and not base.entries
            and -len(base.items) <= key.value < len(base.items)
        ):
            return base.items[key.value]
        if base.entries:
            if _last_few(node.slice):
                return Fixed(node)
            last = isinstance(key, Const) and key.value == -1
            return (
                base.entries[-1].value
                if last and not isinstance(node.slice, ast.Slice)
                else Total(node, tuple(base.entries), True)
            )
        if base.items:
            return base.items[0]
        return Unknown(node, "", base.of_samples)
    if isinstance(base, (Total, Averaged, Stat, Pool)):
        if isinstance(base, Total) and base.listed and _last_few(node.slice):
            return Fixed(node)
        return base
    if isinstance(base, Meter):
        return meters.read_meter(run, base, str(key_of(node.slice)), node)
    if isinstance(base, Rows):
        return _row(run, base, key, node)
    here = run.frame.scope.find(ast.unparse(node))
    if here is not None:
        return here.value
    if isinstance(base, LoaderValue):
        return base
    text = key.value if isinstance(key, Const) and isinstance(key.value, str) else ""
    if isinstance(base, (Unknown, Dataset)):
        of_batch = is_of_batch(base) or is_of_batch(key)
        name = getattr(base, "name", "")
        if of_batch and text and "loss" in text:
            return stats.stat(run, node, Quantity.UNKNOWN)
        if not of_batch and text and (text in run.index.arguments):
            return argument(run, text, node)
        if not of_batch and run.batch_loop() is not None and _is_slice_of_batch(run, node.slice, key):
            return Rows(node, whole=False)
        if text and name_tables.reads_as_batch_size(text):
            return Count(node, Of.CONFIGURED)
        if name_tables.reads_as_loader(name) or "loader" in text.lower():
            return LoaderValue(node, Loader(node))
        return Unknown(node, text or name, of_batch)
    return Unknown(node, text)


def _last_few(node: ast.expr) -> bool:
    """``[-100:]``; not ``[-len(loader):]``, which is an epoch."""
    lower = node.lower if isinstance(node, ast.Slice) else None
    return isinstance(lower, ast.UnaryOp) and isinstance(lower.op, ast.USub) and isinstance(lower.operand, ast.Constant)


def _is_slice_of_batch(run: Reading, node: ast.expr, key: Value) -> bool:
    """``x[i:i + batch_size]`` or ``x[order[i:j]]`` in a loop over batches."""
    if isinstance(key, Rows):
        return True
    if not isinstance(node, ast.Slice) or node.lower is None:
        return False
    return isinstance(run.evaluate(run, node.lower), (Position, Count, Fixed, Unknown))


def _dimension(run: Reading, shape: Shape, key: Value, node: ast.Subscript) -> Value:
    if isinstance(key, Const) and key.value == 0:
        return length_of(run, shape.of or Unknown(node), node)
    if isinstance(node.slice, ast.Slice) and node.slice.lower is None:
        return shape
    if isinstance(key, Const) and isinstance(key.value, int):
        return Fixed(node)
    return Unknown(node)


def _row(run: Reading, base: Rows, key: Value, node: ast.Subscript) -> Value:
    text = key.value if isinstance(key, Const) and isinstance(key.value, str) else ""
    if text:
        if "loss" in text and not base.whole:
            return hugging_face_loss(run, node) if text == "loss" else stats.stat(run, node, Quantity.UNKNOWN)
        return Rows(node, mask="mask" in text, output=base.output)
    if isinstance(key, Rows) and key.mask:
        return Rows(node, selected=True, mask=base.mask, output=base.output)
    if isinstance(key, Items):
        parts = key.items
        if any(isinstance(p, Rows) and p.mask for p in parts):
            return Rows(node, selected=True, output=base.output)
    columns = None
    if isinstance(key, Items) and key.items:
        last = key.items[-1]
        columns = 1 if isinstance(last, Const) and last.value is None else None
    return Rows(node, mask=base.mask, selected=base.selected, pairs=base.pairs, output=base.output, columns=columns)


def _tuple(run: Reading, node: ast.Tuple | ast.List | ast.Set) -> Value:
    items: list[Value] = []
    entries: list[Entry] = []
    for element in node.elts:
        if isinstance(element, ast.Starred):
            inner = run.evaluate(run, element.value)
            if isinstance(inner, Items):
                items += inner.items
                entries += inner.entries
                continue
            items.append(inner)
        else:
            items.append(run.evaluate(run, element))
    return Items(node, items, entries, run.born(), start=run.frame.statement, tuple_=isinstance(node, ast.Tuple))


def _dict(run: Reading, node: ast.Dict) -> Value:
    entries: dict[str, Binding] = {}
    born = run.born()
    for key, item in zip(node.keys, node.values, strict=True):
        value = run.evaluate(run, item)
        if key is None:
            if isinstance(value, Mapping):
                entries.update(value.entries)
            continue
        entries[key_of(key)] = Binding(value, born, run.frame.statement)
        note_name(value, key_of(key))
    return Mapping(node, entries, born)


def _binary(run: Reading, node: ast.BinOp) -> Value:
    left, right = run.evaluate(run, node.left), run.evaluate(run, node.right)
    return numbers.binary(run, node, node.op, left, right)


def _unary(run: Reading, node: ast.UnaryOp) -> Value:
    value = run.evaluate(run, node.operand)
    if isinstance(node.op, ast.USub):
        if isinstance(value, Const):
            number = value.value
            return Const(node, -number if isinstance(number, (int, float)) else None)
        return stats.derived(value, node) if isinstance(value, Stat) else value
    if isinstance(node.op, ast.Invert):
        return value
    return Fixed(node)


def _compare(run: Reading, node: ast.Compare) -> Value:
    values = [run.evaluate(run, n) for n in (node.left, *node.comparators)]
    if any(isinstance(v, Pool) for v in values):
        return Pool(node)
    if any(isinstance(v, Rows) or (isinstance(v, Unknown) and v.of_batch) for v in values) and not any(
        isinstance(op, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) for op in node.ops
    ):
        return Rows(node, mask=True, pairs=any(isinstance(v, Rows) and v.pairs for v in values))
    return Fixed(node)


def _boolean(run: Reading, node: ast.BoolOp) -> Value:
    value = run.evaluate(run, node.values[0])
    for other in node.values[1:]:
        value = join(value, run.evaluate(run, other))
    return value


def _conditional(run: Reading, node: ast.IfExp) -> Value:
    run.evaluate(run, node.test)
    return join(run.evaluate(run, node.body), run.evaluate(run, node.orelse))


def _lambda(run: Reading, node: ast.Lambda) -> Value:
    return Function(node, node, run.frame.scope, me=None)


def _text(run: Reading, node: ast.JoinedStr) -> Value:
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            run.evaluate(run, part.value)
    return Const(node, "")


def _starred(run: Reading, node: ast.Starred) -> Value:
    return run.evaluate(run, node.value)


def _walrus(run: Reading, node: ast.NamedExpr) -> Value:
    value = run.evaluate(run, node.value)
    if isinstance(node.target, ast.Name):
        run.bind(node.target.id, value)
    return value


def _await(run: Reading, node: ast.Await | ast.YieldFrom) -> Value:
    return run.evaluate(run, node.value)


def _yield(run: Reading, node: ast.Yield) -> Value:
    if node.value is not None:
        run.evaluate(run, node.value)
    run.frame.yields = True
    return Unknown(node)


def _comprehension(run: Reading, node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) -> Value:
    outer = run.frame.scope
    run.frame.scope = Scope({}, outer)
    opened = 0
    over: Value = Unknown()
    try:
        for generator in node.generators:
            over = enter_comprehension(run, generator)
            opened += 1
            for test in generator.ifs:
                run.evaluate(run, test)
        if isinstance(node, ast.DictComp):
            run.evaluate(run, node.key)
            value = run.evaluate(run, node.value)
        else:
            value = run.evaluate(run, node.elt)
        return added_in_comprehension(run, node, value, over)
    finally:
        for _ in range(opened):
            leave(run)
        run.frame.scope = outer


def _slice(run: Reading, node: ast.Slice) -> Value:
    for part in (node.lower, node.upper, node.step):
        if part is not None:
            value = run.evaluate(run, part)
            if isinstance(value, Rows):
                return value
    return Unknown(node)


_READERS: dict[type, Callable[..., Value]] = {
    ast.Name: _name,
    ast.Constant: _constant,
    ast.Attribute: attribute,
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
    ast.Starred: _starred,
    ast.NamedExpr: _walrus,
    ast.Await: _await,
    ast.YieldFrom: _await,
    ast.Yield: _yield,
    ast.ListComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.SetComp: _comprehension,
    ast.DictComp: _comprehension,
    ast.Slice: _slice,
}
