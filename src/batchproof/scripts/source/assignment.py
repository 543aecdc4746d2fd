"""Names, attributes and entries: what they hold, since when, binding them anew, and adding to them by that."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from batchproof.scripts.source import arithmetic, name_tables, suspicions
from batchproof.scripts.source.accumulators import add, append, extend
from batchproof.scripts.source.callables import Instance
from batchproof.scripts.source.frames import Binding, report_as
from batchproof.scripts.source.index import builtin_of, callee_of
from batchproof.scripts.source.loops import bind_target
from batchproof.scripts.source.site import Divisor
from batchproof.scripts.source.totals import Accumulated, Averaged, Items, LoopTotal, Mapping, Meter, Pool
from batchproof.scripts.source.values import (
    BatchRows,
    Const,
    Count,
    Fixed,
    LoaderValue,
    Position,
    Stat,
    Unknown,
    Value,
    is_vague,
    key_of,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


def assign(run: Interpreter, target: ast.expr, value: Value) -> None:
    if isinstance(target, (ast.Tuple, ast.List, ast.Starred)):
        bind_target(run, target, value)
        return
    name = ast.unparse(target)
    suspicions.set_in_branch(run, name, value)
    if isinstance(value, LoaderValue):
        suspicions.named_loader(run, name, value)
    if isinstance(value, Averaged):
        report_as(value.entries, name)
    held = run.frame.scope.names.get(name) if isinstance(target, ast.Name) else held_by(run, target)
    if held is not None and _restarts(value) and run.start_anew(held.value.contributions):
        return
    if isinstance(target, ast.Subscript) and _fills(run, target, value):
        return
    hold(run, target, Binding(value, run.open_marks(), run.frame.statement))


def _restarts(value: Value) -> bool:
    if isinstance(value, Items):
        return not value.entries and not value.items
    return isinstance(value, Const) and value.value in (0, None)


def _fills(run: Interpreter, target: ast.Subscript, value: Value) -> bool:
    """``losses[i] = loss`` in a loop over batches."""
    base = run.evaluate(target.value)
    key = run.evaluate(target.slice)
    if isinstance(base, Items) and not isinstance(key, Const) and (base.array or isinstance(key, Position)):
        if isinstance(value, (Stat, Unknown, LoopTotal, Averaged)):
            append(run, ast.unparse(target.value), base, value, target)
        elif isinstance(value, BatchRows):
            extend(run, ast.unparse(target.value), base, value, target)
        return True
    return False


def held_by(run: Interpreter, target: ast.expr) -> Binding | None:
    """What a name, an attribute or an entry holds, and since when."""
    held = None
    if isinstance(target, (ast.Attribute, ast.Subscript)):
        held = run.evaluate(target.value).held(run, target)
    return held or run.frame.scope.find(ast.unparse(target))


def hold(run: Interpreter, target: ast.expr, binding: Binding) -> None:
    """Bind a name, an attribute or an entry."""
    names, key = run.frame.scope.names, ast.unparse(target)
    if isinstance(target, (ast.Attribute, ast.Subscript)):
        base = run.evaluate(target.value)
        if isinstance(target, ast.Attribute):
            if isinstance(base, Instance):
                names, key = base.attributes, target.attr
        elif isinstance(base, Mapping):
            names, key = base.entries, key_of(target.slice)
        elif isinstance(base, Meter) or (isinstance(base, Items) and base.hold(target.slice, binding.value)):
            return
    names[key] = binding


def put(run: Interpreter, target: ast.expr, held: Binding, value: Value) -> None:
    """Keep the loops that a running total was created in."""
    if value is not held.value:
        statement = held.statement if isinstance(value, Accumulated) else run.frame.statement
        hold(run, target, Binding(value, held.created_in, statement))


def open_loops(run: Interpreter, held: Binding) -> bool:
    return any(loop.batch is not None and loop.mark not in held.created_in for loop in run.loops)


def rewrites_itself(run: Interpreter, target: ast.expr, value: ast.expr) -> bool:
    """``x = x + v``, ``x = (x * i + v) / (i + 1)``, ``x = np.append(x, v)``, ``x = 0.9 * x + 0.1 * v``."""
    if isinstance(value, ast.IfExp):  # `x = v if x is None else 0.9 * x + 0.1 * v`
        return any(
            _mentions(branch, target) and rewrites_itself(run, target, branch) for branch in (value.body, value.orelse)
        )
    if not isinstance(target, (ast.Name, ast.Attribute, ast.Subscript)) or not isinstance(value, (ast.BinOp, ast.Call)):
        return False
    held = held_by(run, target)
    if held is None:
        return False
    name = ast.unparse(target)
    if isinstance(value, ast.BinOp):
        return _rewritten_sum(run, target, held, name, value)
    return _rewritten_call(run, target, held, name, value)


def _mentions(node: ast.AST, target: ast.expr) -> bool:
    name = ast.unparse(target)
    return any(ast.unparse(part) == name for part in ast.walk(node) if type(part) is type(target))


def _rewritten_sum(run: Interpreter, target: ast.expr, held: Binding, name: str, value: ast.BinOp) -> bool:
    terms = _terms(value)
    rest = [term for term in terms if ast.unparse(term) != name and not _gets(term, target)]
    again = any(_mentions(term, target) for term in rest)
    if len(rest) == len(terms) - 1 and len(terms) > 1 and not again:
        result: Value | None = None
        for term in rest:
            term_value = run.evaluate(term)
            result = term_value if result is None else run.binary(value, ast.Add(), result, term_value)
        assert result is not None
        put(run, target, held, add(run, name, held, result, rest[0] if len(rest) == 1 else value))
        return True
    if open_loops(run, held) and _mentions(value, target):
        return running_mean(run, target, held, name, value)
    return False


def _gets(term: ast.expr, target: ast.expr) -> bool:
    """``totals.get(key, 0)`` in place of ``totals[key]``."""
    return (
        isinstance(target, ast.Subscript)
        and isinstance(term, ast.Call)
        and isinstance(term.func, ast.Attribute)
        and term.func.attr == "get"
        and bool(term.args)
        and ast.unparse(term.func.value) == ast.unparse(target.value)
        and ast.unparse(term.args[0]) == ast.unparse(target.slice)
    )


def _terms(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _terms(node.left) + _terms(node.right)
    return [node]


def running_mean(run: Interpreter, target: ast.expr, held: Binding, name: str, value: ast.BinOp) -> bool:
    """``x = (x * i + v) / (i + 1)`` and ``x = x + (v - x) / n`` average; ``x = 0.9 * x + 0.1 * v`` forgets."""
    divisor: ast.expr | None = None
    contribution: Value | None = None
    node: ast.expr | None = None
    for part in ast.walk(value):
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Div) and divisor is None:
            divisor = part.right
    for term in _leaves(value, divisor):
        if _mentions(term, target):
            continue
        term_value = run.evaluate(term)
        if isinstance(term_value, Stat) or (
            isinstance(term_value, (BatchRows, Unknown)) and name_tables.reads_as_loss(ast.unparse(term))
        ):
            contribution, node = term_value, term
            break
    if contribution is None or node is None:
        return False
    if isinstance(contribution, Stat):
        contribution.divided = None
    total = add(run, name, held, contribution, node)
    if not isinstance(total, LoopTotal):
        return False
    numeric = [n for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
    if divisor is None:
        window = bool(numeric) or not isinstance(value.op, ast.Add)
        for entry in total.entries:
            entry.window = entry.window or window
        averages = run.record_average(total.entries, value, Divisor.UNKNOWN, None, True)
    else:
        by = run.evaluate(divisor)
        kind = arithmetic.divisor_of(run, total, by, divisor)
        if isinstance(by, Unknown) and kind is Divisor.DATASET:
            kind = Divisor.BATCHES
        averages = run.record_average(total.entries, value, kind, divisor)
    report_as(total.entries, name)
    put(run, target, held, Averaged(value, total.entries, averages))
    return True


def _leaves(node: ast.expr, divisor: ast.expr | None) -> list[ast.expr]:
    if node is divisor:
        return []
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Div)):
        return _leaves(node.left, divisor) + _leaves(node.right, divisor)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [node, *_leaves(node.left, divisor), *_leaves(node.right, divisor)]
    return [node]


def _added_by_a_function(run: Interpreter, target: ast.expr, held: Binding, name: str, value: ast.Call) -> bool:
    """``total = add_up(total, loss)``, where a function of this file returns the sum of what it is given."""
    if not isinstance(target, ast.Name) or isinstance(held.value, Accumulated) or not open_loops(run, held):
        return False
    if not any(ast.unparse(part) == name for part in value.args) or builtin_of(value) not in run.index.functions:
        return False
    before = run.frame.scope.names.get(name)
    run.frame.scope.names[name] = Binding(LoopTotal(target), held.created_in, held.statement)
    result = run.evaluate(value)
    if before is None:
        del run.frame.scope.names[name]
    else:
        run.frame.scope.names[name] = before
    if not isinstance(result, LoopTotal) or result.taken_in is None:
        return False
    put(run, target, held, add(run, name, held, result.taken_in, value))
    return True


def _rewritten_call(run: Interpreter, target: ast.expr, held: Binding, name: str, value: ast.Call) -> bool:
    """``x = np.append(x, v)``, ``x = torch.cat([x, v])``."""
    last = callee_of(value)
    if last in {"max", "min", "maximum", "minimum"} and any(ast.unparse(part) == name for part in value.args):
        result = run.evaluate(value)
        put(run, target, held, result if isinstance(result, Count) else Fixed(value))
        return True
    if last not in name_tables.JOINS and _added_by_a_function(run, target, held, name, value):
        return True
    if last not in name_tables.JOINS or not value.args:
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
        items = Items(value, created_in=held.created_in, start=held.statement)
    added = run.evaluate(others[0])
    # predictions begin with the first batch's and grow by cat, which takes no numbers: a value for each sample
    if last in name_tables.JOINS_ROWS and (isinstance(added, BatchRows) or is_vague(added)):
        put(run, target, held, Pool(value))
        return True
    if isinstance(added, Items) and len(added.items) == 1:
        added = added.items[0]
    append(run, name, items, added, others[0])
    put(run, target, held, items)
    return True
