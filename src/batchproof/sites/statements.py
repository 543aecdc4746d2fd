"""Reading statements in order, both sides of a branch, each loop's body once."""

from __future__ import annotations

import ast
from collections.abc import Callable

from batchproof.sites import doubts, knowledge, numbers
from batchproof.sites.accumulators import add, append, extend, reset
from batchproof.sites.loops import bind_target, enter_for, enter_while, leave
from batchproof.sites.parts import key_of
from batchproof.sites.reading import MOST_STATEMENTS, Reading, record_average, reported_as
from batchproof.sites.site import Divisor, Quantity
from batchproof.sites.values import (
    Averaged,
    Binding,
    Class,
    Const,
    Fixed,
    Function,
    Instance,
    Items,
    LoaderValue,
    Mapping,
    Meter,
    Position,
    Rows,
    Stat,
    Total,
    Unknown,
    Value,
    join_scopes,
)


def execute(run: Reading, body: list[ast.stmt]) -> bool:
    """Read statements; whether what follows them is reached."""
    for statement in body:
        run.statements += 1
        if run.statements > MOST_STATEMENTS:
            return False
        reader = _READERS.get(type(statement))
        if reader is None:
            continue
        before = run.frame.statement
        if not isinstance(statement, _COMPOUND):
            run.frame.statement = statement
        goes_on = reader(run, statement)
        run.frame.statement = before if isinstance(statement, _COMPOUND) else statement
        if goes_on is False:
            return False
    return True


_COMPOUND = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try)


def _assign(run: Reading, node: ast.Assign) -> None:
    if len(node.targets) == 1 and _rewrites_itself(run, node.targets[0], node.value):
        return
    value = run.evaluate(run, node.value)
    for target in node.targets:
        assign(run, target, value)


def _annotated(run: Reading, node: ast.AnnAssign) -> None:
    if node.value is not None:
        assign(run, node.target, run.evaluate(run, node.value))


def assign(run: Reading, target: ast.expr, value: Value) -> None:
    if isinstance(target, (ast.Tuple, ast.List, ast.Starred)):
        bind_target(run, target, value)
        return
    name = ast.unparse(target)
    if isinstance(value, LoaderValue):
        doubts.named_loader(run, name, value)
    if isinstance(value, Averaged):
        reported_as(run, value.entries, name)
    if isinstance(target, ast.Name):
        held = run.frame.scope.names.get(name)
        if held is not None and isinstance(value, (Const, Items)) and _restarts(value) and reset(run, held):
            return
        run.frame.scope.names[name] = Binding(value, run.born(), run.frame.statement)
        return
    held = held_by(run, target)
    if held is not None and isinstance(value, (Const, Items)) and _restarts(value) and reset(run, held):
        return
    if isinstance(target, ast.Subscript) and _fills(run, target, value):
        return
    hold(run, target, value)


def _restarts(value: Value) -> bool:
    if isinstance(value, Items):
        return not value.entries and not value.items
    return isinstance(value, Const) and value.value in (0, None)


def _fills(run: Reading, target: ast.Subscript, value: Value) -> bool:
    """``losses[i] = loss`` in a loop over batches."""
    base = run.evaluate(run, target.value)
    key = run.evaluate(run, target.slice)
    if isinstance(base, Items) and not isinstance(key, Const):
        if base.array or isinstance(key, Position):
            if isinstance(value, (Stat, Unknown, Total, Averaged)):
                append(run, ast.unparse(target.value), base, value, target)
            elif isinstance(value, Rows):
                extend(run, ast.unparse(target.value), base, value, target)
            return True
    return False


def held_by(run: Reading, target: ast.expr) -> Binding | None:
    """What a name, an attribute or an entry holds, and since when."""
    if isinstance(target, ast.Name):
        return run.frame.scope.find(target.id)
    if isinstance(target, ast.Attribute):
        base = run.evaluate(run, target.value)
        if isinstance(base, Instance):
            return base.attributes.get(target.attr)
    elif isinstance(target, ast.Subscript):
        base = run.evaluate(run, target.value)
        if isinstance(base, Mapping):
            key = key_of(target.slice)
            if key in base.entries:
                return base.entries[key]
            if "*" in base.entries:
                return base.entries["*"]
            if base.makes:
                return Binding(Const(target, 0), base.born, base.node)
            if key == "*" and base.entries:
                first = next(iter(base.entries.values()))
                return Binding(first.value, base.born, first.statement)
            return Binding(Unknown(target), base.born, base.node)
        if isinstance(base, Items):
            if base.items and not base.array and isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, int):
                if target.slice.value < len(base.items):
                    return Binding(base.items[target.slice.value], base.born, base.start)
            here = run.frame.scope.find(ast.unparse(target))
            return here or Binding(Const(target, 0), base.born, base.start)
    return run.frame.scope.find(ast.unparse(target))


def hold(run: Reading, target: ast.expr, value: Value) -> None:
    """Bind a name, an attribute or an entry."""
    binding = Binding(value, run.born(), run.frame.statement)
    if isinstance(target, ast.Name):
        run.frame.scope.names[target.id] = binding
        return
    if isinstance(target, ast.Attribute):
        base = run.evaluate(run, target.value)
        if isinstance(base, Instance):
            base.attributes[target.attr] = binding
            return
    elif isinstance(target, ast.Subscript):
        base = run.evaluate(run, target.value)
        if isinstance(base, Mapping):
            base.entries[key_of(target.slice)] = binding
            return
        if isinstance(base, Items) and isinstance(value, (Total, Averaged)) and not isinstance(target.slice, ast.Constant):
            base.entries += [e for e in value.entries if e not in base.entries]
        if isinstance(base, Items) and isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, int):
            if 0 <= target.slice.value < len(base.items):
                base.items[target.slice.value] = value
                return
        if isinstance(base, Meter):
            return
    run.frame.scope.names[ast.unparse(target)] = binding


def _augmented(run: Reading, node: ast.AugAssign) -> None:
    held = held_by(run, node.target)
    value = run.evaluate(run, node.value)
    if held is None:
        held = Binding(run.evaluate(run, node.target), (), None)
    name = ast.unparse(node.target)
    if isinstance(node.op, ast.Add) and open_loops(run, held) and isinstance(node.value, ast.BinOp):
        if any(ast.unparse(n) == name for n in ast.walk(node.value) if type(n) is type(node.target)):
            if _running_mean(run, node.target, held, name, node.value):
                return
    if isinstance(node.op, ast.Add):
        _put(run, node.target, held, add(run, name, held, value, node.value))
        return
    if isinstance(node.op, ast.Div) and isinstance(held.value, Total):
        found = numbers.divide(run, node, held.value, value, node.value)
        if isinstance(found, Averaged):
            reported_as(run, found.entries, name)
        _put(run, node.target, held, found)
        return
    expression = ast.copy_location(ast.BinOp(node.target, node.op, node.value), node)
    _put(run, node.target, held, numbers.binary(run, expression, node.op, held.value, value))


def _put(run: Reading, target: ast.expr, held: Binding, value: Value) -> None:
    """Keep the loops that a running total was born in."""
    if value is held.value:
        return
    statement = held.statement if isinstance(value, (Total, Averaged)) else run.frame.statement
    binding = Binding(value, held.born, statement)
    if isinstance(target, ast.Name):
        run.frame.scope.names[target.id] = binding
        return
    hold(run, target, value)
    now = held_by(run, target)
    if now is not None and now.value is value:
        now.born, now.statement = binding.born, binding.statement


def _rewrites_itself(run: Reading, target: ast.expr, value: ast.expr) -> bool:
    """``x = x + v``, ``x = (x * i + v) / (i + 1)``, ``x = np.append(x, v)``, ``x = 0.9 * x + 0.1 * v``."""
    if not isinstance(target, (ast.Name, ast.Attribute, ast.Subscript)) or not isinstance(value, (ast.BinOp, ast.Call)):
        return False
    held = held_by(run, target)
    if held is None:
        return False
    name = ast.unparse(target)
    if isinstance(value, ast.BinOp):
        return _rewritten_sum(run, target, held, name, value)
    return _rewritten_call(run, target, held, name, value)


def _rewritten_sum(run: Reading, target: ast.expr, held: Binding, name: str, value: ast.BinOp) -> bool:
    terms = _terms(value)
    rest = [term for term in terms if ast.unparse(term) != name]
    if len(rest) == len(terms) - 1 and len(terms) > 1:
        result: Value | None = None
        for term in rest:
            found = run.evaluate(run, term)
            result = found if result is None else numbers.binary(run, value, ast.Add(), result, found)
        assert result is not None
        _put(run, target, held, add(run, name, held, result, rest[0] if len(rest) == 1 else value))
        return True
    if open_loops(run, held) and any(ast.unparse(n) == name for n in ast.walk(value) if type(n) is type(target)):
        return _running_mean(run, target, held, name, value)
    return False


def open_loops(run: Reading, held: Binding) -> bool:
    return any(loop.batch is not None and loop.mark not in held.born for loop in run.loops)


def _terms(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _terms(node.left) + _terms(node.right)
    return [node]


def _running_mean(run: Reading, target: ast.expr, held: Binding, name: str, value: ast.BinOp) -> bool:
    """``x = (x * i + v) / (i + 1)`` and ``x = x + (v - x) / n`` average; ``x = 0.9 * x + 0.1 * v`` forgets."""
    divisor: ast.expr | None = None
    contribution: Value | None = None
    node: ast.expr | None = None
    for part in ast.walk(value):
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Div) and divisor is None:
            divisor = part.right
    for term in _leaves(value, divisor):
        if any(ast.unparse(n) == name for n in ast.walk(term) if type(n) is type(target)):
            continue
        found = run.evaluate(run, term)
        if isinstance(found, Stat) or (isinstance(found, (Rows, Unknown)) and knowledge.reads_as_loss(ast.unparse(term))):
            contribution, node = found, term
            break
    if contribution is None or node is None:
        return False
    if isinstance(contribution, Stat):
        contribution.divided = None
    total = add(run, name, held, contribution, node)
    if not isinstance(total, Total):
        return False
    numeric = [n for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
    if divisor is None:
        window = bool(numeric) or not isinstance(value.op, ast.Add)
        for entry in total.entries:
            entry.window = entry.window or window
        averages = record_average(run, total.entries, value, Divisor.UNKNOWN, None, True)
    else:
        by = run.evaluate(run, divisor)
        kind = numbers.divisor_of(run, total, by, divisor)
        if isinstance(by, Unknown) and kind is Divisor.DATASET:
            kind = Divisor.BATCHES
        averages = record_average(run, total.entries, value, kind, divisor)
    reported_as(run, total.entries, name)
    _put(run, target, held, Averaged(value, total.entries, averages))
    return True


def _leaves(node: ast.expr, divisor: ast.expr | None) -> list[ast.expr]:
    if node is divisor:
        return []
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Div)):
        return _leaves(node.left, divisor) + _leaves(node.right, divisor)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [node, *_leaves(node.left, divisor), *_leaves(node.right, divisor)]
    return [node]


def _rewritten_call(run: Reading, target: ast.expr, held: Binding, name: str, value: ast.Call) -> bool:
    """``x = np.append(x, v)``, ``x = torch.cat([x, v])``."""
    last = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
    if last in {"max", "min", "maximum", "minimum"} and any(ast.unparse(part) == name for part in value.args):
        run.evaluate(run, value)
        _put(run, target, held, Fixed(value))
        return True
    if last not in knowledge.JOINS or not value.args:
        return False
    parts = [*value.args]
    if isinstance(parts[0], (ast.List, ast.Tuple)):
        parts = list(parts[0].elts)
    others = [part for part in parts if ast.unparse(part) != name]
    if len(others) == len(parts) or not others:
        return False
    if not open_loops(run, held):
        return False
    items = held.value
    if not isinstance(items, Items):
        items = Items(value, born=held.born, start=held.statement)
    found = run.evaluate(run, others[0])
    if isinstance(found, Items) and len(found.items) == 1:
        found = found.items[0]
    append(run, name, items, found, others[0])
    _put(run, target, held, items)
    return True


def _expression(run: Reading, node: ast.Expr) -> None:
    doubts.stale(run, node.value)
    run.evaluate(run, node.value)


def _return(run: Reading, node: ast.Return) -> bool:
    if node.value is not None:
        doubts.stale(run, node.value)
        value = run.evaluate(run, node.value)
        run.frame.returns.append(value)
    else:
        run.frame.returns.append(Const(node, None))
    return False


def _stop(run: Reading, node: ast.stmt) -> bool:
    return False


def _for(run: Reading, node: ast.For | ast.AsyncFor) -> None:
    enter_for(run, node)
    try:
        execute(run, node.body)
    finally:
        leave(run)
    execute(run, node.orelse)


def _while(run: Reading, node: ast.While) -> None:
    run.evaluate(run, node.test)
    enter_while(run, node)
    try:
        execute(run, node.body)
    finally:
        leave(run)
    execute(run, node.orelse)


def _if(run: Reading, node: ast.If) -> bool:
    run.evaluate(run, node.test)
    scope = run.frame.scope
    before = scope.names
    quiet = run.frame.quiet
    scope.names = dict(before)
    first = execute(run, node.body)
    one = scope.names
    quiet_one = run.frame.quiet
    run.frame.quiet = quiet
    scope.names = dict(before)
    second = execute(run, node.orelse)
    other = scope.names
    run.frame.quiet = run.frame.quiet or (quiet_one and bool(node.orelse) is False)
    if first and second:
        join_scopes(scope, one, other)
    elif first:
        scope.names = one
    elif second:
        scope.names = other
        _keep_totals(scope.names, one)
    else:
        join_scopes(scope, one, other)
        return False
    return True


def _keep_totals(names: dict[str, Binding], left: dict[str, Binding]) -> None:
    """A branch that goes on to the next batch has added to its totals all the same."""
    for name, binding in left.items():
        if isinstance(binding.value, Total) and not isinstance(names[name].value if name in names else None, (Total, Averaged)):
            names[name] = binding


def _with(run: Reading, node: ast.With | ast.AsyncWith) -> bool:
    quiet = run.frame.quiet
    for item in node.items:
        value = run.evaluate(run, item.context_expr)
        text = item.context_expr
        name = text.func if isinstance(text, ast.Call) else text
        last = name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")
        if last in {"no_grad", "inference_mode"}:
            run.frame.quiet = True
        if item.optional_vars is not None:
            if isinstance(text, ast.Call) and last in {"tqdm", "trange"} and text.args:
                value = run.evaluate(run, text.args[0])
            bind_target(run, item.optional_vars, value)
    goes_on = execute(run, node.body)
    run.frame.quiet = quiet
    return goes_on


def _try(run: Reading, node: ast.Try) -> bool:
    scope = run.frame.scope
    goes_on = execute(run, node.body)
    goes_on = execute(run, node.orelse) and goes_on
    after = scope.names
    for handler in node.handlers:
        scope.names = dict(after)
        if execute(run, handler.body):
            join_scopes(scope, after, scope.names)
            after = scope.names
            goes_on = True
    scope.names = after
    execute(run, node.finalbody)
    return goes_on


def _function(run: Reading, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    run.frame.scope.names[node.name] = Binding(Function(node, node, run.frame.scope), run.born(), node)


def _class(run: Reading, node: ast.ClassDef) -> None:
    run.frame.scope.names[node.name] = Binding(Class(node, node, run.frame.scope), run.born(), node)


def _match(run: Reading, node: ast.Match) -> None:
    run.evaluate(run, node.subject)
    for case in node.cases:
        execute(run, case.body)


def _delete(run: Reading, node: ast.Delete) -> None:
    return None


_READERS: dict[type, Callable[..., bool | None]] = {
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.Expr: _expression,
    ast.Return: _return,
    ast.Raise: _stop,
    ast.Continue: _stop,
    ast.Break: _stop,
    ast.For: _for,
    ast.AsyncFor: _for,
    ast.While: _while,
    ast.If: _if,
    ast.With: _with,
    ast.AsyncWith: _with,
    ast.Try: _try,
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
    ast.ClassDef: _class,
    ast.Match: _match,
    ast.Delete: _delete,
}

__all__ = ["Quantity", "assign", "execute"]
