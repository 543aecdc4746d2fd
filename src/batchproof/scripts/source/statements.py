"""Reading statements in order, both sides of a branch, each loop's body once."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from batchproof.scripts.source import arithmetic, ranks, suspicions
from batchproof.scripts.source.accumulators import add
from batchproof.scripts.source.assignment import assign, held_by, open_loops, put, rewrites_itself, running_mean
from batchproof.scripts.source.callables import Class, Function
from batchproof.scripts.source.frames import MOST_STATEMENTS, Binding, report_as
from batchproof.scripts.source.index import FunctionNode, LoopNode, last_word
from batchproof.scripts.source.loops import bind_target, enter, enter_while, leave
from batchproof.scripts.source.totals import Averaged, LoopTotal, join_scopes
from batchproof.scripts.source.values import Const, Count, CountedThing

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


def execute(run: Interpreter, body: list[ast.stmt]) -> bool:
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


def _assign(run: Interpreter, node: ast.Assign) -> None:
    if len(node.targets) == 1 and rewrites_itself(run, node.targets[0], node.value):
        return
    if len(node.targets) == 1 and _each_rewrites_itself(run, node.targets[0], node.value):
        return
    if len(node.targets) == 1 and (key_by_key := _key_by_key(node.targets[0], node.value)) is not None:
        execute(run, [key_by_key])
        return
    value = run.evaluate(node.value)
    for target in node.targets:
        assign(run, target, value)


def _each_rewrites_itself(run: Interpreter, target: ast.expr, value: ast.expr) -> bool:
    """``total, n = total + loss, n + 1``."""
    if not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple) or len(target.elts) != len(value.elts):
        return False
    pairs = list(zip(target.elts, value.elts, strict=True))
    if any(isinstance(part, ast.Starred) for part in (*target.elts, *value.elts)):
        return False
    if not all(
        isinstance(new, ast.BinOp) and ast.unparse(name) in map(ast.unparse, ast.walk(new)) for name, new in pairs
    ):
        return False
    for name, new in pairs:
        if not rewrites_itself(run, name, new):
            assign(run, name, run.evaluate(new))
    return True


def _key_by_key(target: ast.expr, value: ast.expr) -> ast.For | None:
    """``sums = {k: sums[k] + v for k, v in new.items()}``, as the loop that it is: ``sums[k] = sums[k] + v``."""
    if not isinstance(value, ast.DictComp) or len(value.generators) != 1:
        return None
    generator, added = value.generators[0], value.value
    if not (isinstance(added, ast.BinOp) and isinstance(added.op, ast.Add)) or generator.ifs or generator.is_async:
        return None
    name, key = ast.unparse(target), ast.unparse(value.key)
    if ast.unparse(added.left) != f"{name}[{key}]" and not ast.unparse(added.left).startswith(f"{name}.get({key}, 0"):
        return None
    slot = ast.Subscript(ast.copy_location(_read(target), target), value.key, ast.Store())
    assign = ast.copy_location(ast.Assign([ast.copy_location(slot, target)], added), value)
    loop = ast.For(generator.target, generator.iter, [assign], [])
    return ast.copy_location(loop, value)


def _read(target: ast.expr) -> ast.expr:
    """A name or an attribute, as it is read."""
    return ast.parse(ast.unparse(target), mode="eval").body


def _annotated(run: Interpreter, node: ast.AnnAssign) -> None:
    if node.value is not None:
        assign(run, node.target, run.evaluate(node.value))


def _augmented(run: Interpreter, node: ast.AugAssign) -> None:
    held = held_by(run, node.target)
    value = run.evaluate(node.value)
    if held is None:
        held = Binding(run.evaluate(node.target), (), None)
    name = ast.unparse(node.target)
    if (
        isinstance(node.op, ast.Add)
        and open_loops(run, held)
        and isinstance(node.value, ast.BinOp)
        and any(ast.unparse(n) == name for n in ast.walk(node.value) if type(n) is type(node.target))
        and running_mean(run, node.target, held, name, node.value)
    ):
        return
    if isinstance(node.op, ast.Add):
        put(run, node.target, held, add(run, name, held, value, node.value))
        return
    if isinstance(node.op, ast.Div) and isinstance(held.value, LoopTotal):
        quotient = arithmetic.divide(run, node, held.value, value, node.value)
        if isinstance(quotient, Averaged):
            report_as(quotient.entries, name)
        put(run, node.target, held, quotient)
        return
    expression = ast.copy_location(ast.BinOp(node.target, node.op, node.value), node)
    put(run, node.target, held, run.binary(expression, node.op, held.value, value))


def _expression(run: Interpreter, node: ast.Expr) -> None:
    suspicions.stale(run, node.value)
    suspicions.undivided(run, node.value)
    ranks.reported(run, node.value)
    run.evaluate(node.value)


def _return(run: Interpreter, node: ast.Return) -> bool:
    if node.value is not None:
        suspicions.stale(run, node.value)
        value = run.evaluate(node.value)
        run.frame.returns.append(value)
    else:
        run.frame.returns.append(Const(node, None))
    return False


def _stop(run: Interpreter, node: ast.stmt) -> bool:
    return False


def _loop(run: Interpreter, node: LoopNode) -> None:
    if isinstance(node, ast.While):
        enter_while(run, node)
    else:
        enter(run, node)
    try:
        execute(run, node.body)
    finally:
        leave(run)
    execute(run, node.orelse)


def _if(run: Interpreter, node: ast.If) -> bool:
    run.evaluate(node.test)
    scope = run.frame.scope
    before = scope.names
    evaluating = run.frame.evaluating
    scope.names = dict(before)
    with suspicions.branch(run, node.test), ranks.branch(run, node.test):
        first = execute(run, node.body)
    one = scope.names
    evaluating_one = run.frame.evaluating
    run.frame.evaluating = evaluating
    scope.names = dict(before)
    with suspicions.branch(run, node.test, otherwise=True):
        second = execute(run, node.orelse)
    other = scope.names
    run.frame.evaluating = run.frame.evaluating or (evaluating_one and bool(node.orelse) is False)
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
        if isinstance(binding.value, LoopTotal) and not isinstance(
            names[name].value if name in names else None, (LoopTotal, Averaged)
        ):
            names[name] = binding


def _with(run: Interpreter, node: ast.With | ast.AsyncWith) -> bool:
    evaluating = run.frame.evaluating
    for item in node.items:
        value = run.evaluate(item.context_expr)
        text = item.context_expr
        last = last_word(text.func if isinstance(text, ast.Call) else text)
        if last in {"no_grad", "inference_mode"}:
            run.frame.evaluating = True
        if item.optional_vars is not None:
            if isinstance(text, ast.Call) and last in {"tqdm", "trange"} and text.args:
                value = run.evaluate(text.args[0])
            bind_target(run, item.optional_vars, value)
    goes_on = execute(run, node.body)
    run.frame.evaluating = evaluating
    return goes_on


def _try(run: Interpreter, node: ast.Try) -> bool:
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


def _function(run: Interpreter, node: FunctionNode) -> None:
    run.bind(node.name, Function(node, definition=node, scope=run.frame.scope))


def _class(run: Interpreter, node: ast.ClassDef) -> None:
    run.bind(node.name, Class(node, definition=node, scope=run.frame.scope))


def _assert(run: Interpreter, node: ast.Assert) -> None:
    """``assert len(x) == 1`` says that a batch is one sample."""
    test = node.test
    run.evaluate(test)
    loop = run.batch_loop()
    if loop is None or not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq):
        return
    sides = [run.evaluate(side) for side in (test.left, test.comparators[0])]
    one = any(isinstance(side, Const) and side.value == 1 for side in sides)
    if one and any(
        isinstance(side, Count) and side.of in {CountedThing.SAMPLES, CountedThing.CONFIGURED} for side in sides
    ):
        loop.of_one = True


def _match(run: Interpreter, node: ast.Match) -> None:
    run.evaluate(node.subject)
    for case in node.cases:
        execute(run, case.body)


_READERS: dict[type, Callable[..., bool | None]] = {
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.Expr: _expression,
    ast.Return: _return,
    ast.Raise: _stop,
    ast.Continue: _stop,
    ast.Break: _stop,
    ast.For: _loop,
    ast.AsyncFor: _loop,
    ast.While: _loop,
    ast.If: _if,
    ast.With: _with,
    ast.AsyncWith: _with,
    ast.Try: _try,
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
    ast.ClassDef: _class,
    ast.Assert: _assert,
    ast.Match: _match,
}
