"""Send a nonlinear metric through ``batchproof.exact``, and report what that computes."""

from __future__ import annotations

import ast

from batchproof.scripts.lint.finding import Edit, Fix
from batchproof.scripts.lint.fixes import edits
from batchproof.scripts.lint.fixes.scope import STOPS, Scopes, assigned, names_in, sum_of
from batchproof.scripts.lint.source import SourceFile
from batchproof.scripts.source import AverageSite, Quantity, callee_of


def through_exact(source: SourceFile, scopes: Scopes, site: AverageSite) -> Fix | None:
    """The edits; None where not all that they need is in sight."""
    loop, call = site.loop.node, site.added.call
    add = scopes.statement(site.add)
    if site.added.quantity is not Quantity.NONLINEAR or not isinstance(loop, ast.For) or not isinstance(call, ast.Call):
        return None
    parts = sum_of(add)
    if add is None or parts is None or not site.averages:
        return None
    if not _is_known(source.tree, call.func) or not _takes_the_batch(loop, call):
        return None
    called = scopes.statement(call)
    if called is None or not _every_batch(scopes, loop, called, add):
        return None
    starts = _starts(scopes, site, add, parts[0].id)
    value = _reported_value(source, scopes, site, call, parts[1])
    if starts is None or value is None:
        return None
    function = edits.text_of(source, call.func)
    metric = scopes.free(loop, f"exact_{function}", f"exact_{function}_metric")
    found = [
        edits.line_above(source, loop, f"{metric} = batchproof.exact({function})"),
        *(_put(source, average.node, value.replace("\0", metric)) for average in site.averages),
    ]
    if called is add:
        found.append(edits.replace(source, add, edits.text_of(source, call).replace(function, metric, 1)))
    else:
        found += [edits.replace(source, call.func, metric), _without(source, scopes, add)]
    # where a comment stands behind it, the start stays, though nothing is added to it any more
    found += [edit for start in starts if (edit := edits.without(source, start)) is not None]
    if not scopes.imports_batchproof:
        found.append(edits.import_batchproof(source))
    return edits.together(f"compute {function} on all samples together with batchproof.exact", found)


def _is_known(tree: ast.Module, function: ast.expr) -> bool:
    """Whether it is a function of this file, or an object of one of its classes."""
    if not isinstance(function, ast.Name):
        return False
    if any(isinstance(node, ast.FunctionDef) and node.name == function.id for node in tree.body):
        return all(
            not getattr(node, "decorator_list", ()) for node in tree.body if getattr(node, "name", "") == function.id
        )
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    made = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and _sets(node, function.id)]
    return bool(made) and all(callee_of(value) in classes for value in made)


def _sets(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def _takes_the_batch(loop: ast.For, call: ast.Call) -> bool:
    """Whether every argument changes from batch to batch."""
    if call.keywords or not call.args or any(isinstance(argument, ast.Starred) for argument in call.args):
        return False
    of_batch = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
    body = [statement for statement in ast.walk(loop) if isinstance(statement, ast.Assign)]
    for statement in sorted(body, key=lambda statement: statement.lineno):
        if names_in(statement.value) & of_batch:
            of_batch |= assigned(statement.targets)
    return all(names_in(argument) & of_batch for argument in call.args)


def _every_batch(scopes: Scopes, loop: ast.For, called: ast.stmt, add: ast.stmt) -> bool:
    """Whether each batch is scored and added, and nothing leaves the loop in between."""
    ends = [scopes.without_with(one) for one in (called, add)]
    places = [index for end in ends for index, statement in enumerate(loop.body) if statement is end]
    if len(places) != len(ends):
        return False
    between = loop.body[min(places) : max(places) + 1]
    stops = any(isinstance(node, STOPS) for statement in between for node in ast.walk(statement))
    return not stops and scopes.function(called) is scopes.function(add)


def _starts(scopes: Scopes, site: AverageSite, add: ast.stmt, name: str) -> list[ast.Assign] | None:
    """Where the total begins, which is not needed any more; None where it is used for anything else."""
    uses = scopes.uses(name, scopes.function(add))
    loop = site.loop.node
    assert isinstance(loop, ast.For)
    before = []
    divisions = [one for node in _nodes(site) if (one := _in_place(scopes, node, name)) is not None]
    for use in uses or []:
        statement = scopes.statement(use)
        if statement is add or any(use is node or scopes.inside(use, node) for node in _nodes(site)):
            continue
        if isinstance(use.ctx, ast.Load) and any(scopes.comes_after(use, one) for one in divisions):
            continue
        if not isinstance(statement, ast.Assign) or statement.targets != [use]:
            return None
        if any(statement is division for division in divisions):
            continue
        if not isinstance(statement.value, ast.Constant) or not _precedes(scopes, statement, loop):
            return None
        before.append(statement)
    return before if len(before) == 1 else None


def _in_place(scopes: Scopes, average: ast.AST, name: str) -> ast.stmt | None:
    """``total /= n`` and ``total = total / n``: from there on the name holds the average."""
    statement = scopes.statement(average)
    if isinstance(statement, ast.Assign) and statement.value is average:
        return statement if [ast.unparse(target) for target in statement.targets] == [name] else None
    return statement if statement is average else None


def _precedes(scopes: Scopes, start: ast.stmt, loop: ast.For) -> bool:
    """Whether the total begins anew whenever the loop does."""
    around = (loop, *(above for above in scopes.above(loop) if isinstance(above, (ast.With, ast.AsyncWith))))
    blocks = [scopes.block(one) for one in around if scopes.without_with(loop) is scopes.without_with(one)]
    return any(statement is start for block in blocks for statement in block) and start.lineno < loop.lineno


def _reported_value(
    source: SourceFile, scopes: Scopes, site: AverageSite, call: ast.Call, added: ast.expr
) -> str | None:
    """What is reported instead, with a zero byte for the metric's name: ``metric.compute().item()``."""
    loop = site.loop.node
    for average in site.averages:
        node = average.node
        if average.inside or average.window or average.after or scopes.inside(node, loop):
            return None
        if not _is_quotient(node, site.name):
            return None
    text = edits.text_of(source, added)
    inner: ast.AST = added
    while (
        isinstance(inner, ast.Call) and inner is not call and isinstance(inner.func, ast.Attribute) and not inner.args
    ):
        inner = inner.func.value
    if inner is not call and not isinstance(inner, ast.Name):
        return None
    tail = text.removeprefix(edits.text_of(source, inner))
    return f"\0.compute(){tail}"


def _is_quotient(node: ast.AST, name: str) -> bool:
    """``total / n``, ``total /= n``."""
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, ast.Div) and ast.unparse(node.target) == name
    return isinstance(node, ast.BinOp) and ast.unparse(node.left) == name


def _put(source: SourceFile, average: ast.AST, value: str) -> Edit:
    """The value in the place of an average; ``total /= n`` becomes an assignment."""
    if isinstance(average, ast.AugAssign):
        value = f"{ast.unparse(average.target)} = {value}"
    return edits.replace(source, average, value)


def _nodes(site: AverageSite) -> list[ast.AST]:
    return [average.node for average in site.averages]


def _without(source: SourceFile, scopes: Scopes, add: ast.stmt) -> Edit | None:
    return edits.without(source, add) if len(scopes.block(add)) > 1 else edits.replace(source, add, "pass")
