"""Weight each batch by its number of samples, and divide by their sum."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from batchproof.scripts.lint.finding import Edit, Fix
from batchproof.scripts.lint.fixes import edits
from batchproof.scripts.lint.fixes.evidence import as_long_as, is_a_mean, size_of
from batchproof.scripts.lint.fixes.scope import STOPS, Scopes, sum_of
from batchproof.scripts.lint.rule import call_of
from batchproof.scripts.lint.source import SourceFile
from batchproof.scripts.source import Average, AverageSite, Divisor, Quantity, Weight, callee_of

_PER_BATCH = (Divisor.BATCHES, Divisor.DATASET)


def weigh(source: SourceFile, scopes: Scopes, site: AverageSite) -> Fix | None:
    """The edits; None where not all that they need is in sight."""
    loop = site.loop.node
    add = scopes.statement(site.add)
    if site.added.quantity is not Quantity.MEAN or site.added.weight is not Weight.NONE:
        return None
    if not isinstance(loop, ast.For) or add is None or not site.averages:
        return None
    if scopes.function(add) is not scopes.function(loop) or any(average.window for average in site.averages):
        return None
    size = size_of(source, loop, call_of(site), add)
    if size is None or not is_a_mean(source.tree, site):
        return None
    if sum_of(add) is not None:
        return _sum(source, scopes, site, loop, add, size)
    if isinstance(add, ast.Expr) and isinstance(add.value, ast.Call):
        if callee_of(add.value) == "append":
            return _list(source, scopes, site, add, size)
        if callee_of(add.value) == "update":
            return _meter(source, add.value, size)
    return None


def _sum(source: SourceFile, scopes: Scopes, site: AverageSite, loop: ast.For, add: ast.stmt, size: str) -> Fix | None:
    """``total += loss.item()`` and ``total / len(loader)``."""
    parts = sum_of(add)
    assert parts is not None
    starts = _starts(scopes, site, add, parts[0].id)
    if starts is None or not all(average.divisor in _PER_BATCH for average in site.averages):
        return None
    weighted = _times(source, parts[1], size)
    if all(average.divisor is Divisor.DATASET and not average.inside for average in site.averages):
        return Fix(f"weight each batch by {size}", (weighted,))
    counter, found = _counter(source, scopes, site, loop, add, starts, size)
    found.append(weighted)
    for average in site.averages:
        divisor = average.divisor_node
        found.append(Edit(edits.with_brackets(source, divisor), counter) if divisor is not None else None)
    return edits.together(f"weight each batch by {size}, and divide by their sum", found)


def _list(source: SourceFile, scopes: Scopes, site: AverageSite, add: ast.Expr, size: str) -> Fix | None:
    """``losses.append(loss.item())`` and ``np.mean(losses)``."""
    assert isinstance(add.value, ast.Call)
    if len(add.value.args) != 1 or not _is_number(add.value.args[0]):
        return None
    starts = _list_starts(scopes, site, add)
    if not starts:
        return None
    sizes = scopes.free(add, "sizes", f"{site.name}_sizes")
    found = [edits.line_below(source, start, f"{sizes} = []") for start in starts]
    found.append(edits.line_below(source, add, f"{sizes}.append({size})"))
    found += [_weighted_mean(source, site.name, average, sizes) for average in site.averages]
    return edits.together(f"weight each batch by {size}", found)


def _is_number(node: ast.expr) -> bool:
    """``loss.item()`` or ``float(loss)``: what numpy can average."""
    return callee_of(node) in ("item", "float")


def _weighted_mean(source: SourceFile, name: str, average: Average, sizes: str) -> Edit | None:
    node = average.node
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "mean":
        library = edits.text_of(source, node.func.value)
        if library in ("np", "numpy") and len(node.args) == 1 and not node.keywords:
            return edits.replace(source, node, f"{library}.average({name}, weights={sizes})")
    if ast.unparse(node) == f"sum({name}) / len({name})":
        return edits.replace(source, node, f"sum(v * n for v, n in zip({name}, {sizes})) / sum({sizes})")
    return None


def _meter(source: SourceFile, call: ast.Call, size: str) -> Fix | None:
    """``meter.update(loss.item())`` of a class in this file whose ``update`` takes a number of samples."""
    assert isinstance(call.func, ast.Attribute)
    if len(call.args) != 1 or call.keywords or not _takes_n(source.tree, ast.unparse(call.func.value)):
        return None
    return Fix(f"weight each batch by {size}", (edits.after(source, call.args[0], f", {size}"),))


def _takes_n(tree: ast.Module, meter: str) -> bool:
    """Whether a meter is an object of one of the file's classes, which weights by its second argument."""
    made = {
        callee_of(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == meter for target in node.targets)
    }
    updates = [
        part
        for node in tree.body
        if isinstance(node, ast.ClassDef) and {node.name} == made
        for part in node.body
        if isinstance(part, ast.FunctionDef) and part.name == "update"
    ]
    return len(updates) == 1 and _weights_by_n(updates[0])


def _weights_by_n(update: ast.FunctionDef) -> bool:
    names = [argument.arg for argument in update.args.args]
    defaults = update.args.defaults
    if len(names) != 3 or len(defaults) != 1 or not (isinstance(defaults[0], ast.Constant) and defaults[0].value == 1):
        return False
    value, n = names[1:]
    body = [ast.unparse(statement) for statement in update.body]
    weighted = re.compile(rf"\+= ({value} \* {n}|{n} \* {value})$")
    counted = re.compile(rf"\+= {n}$")
    return any(map(weighted.search, body)) and any(map(counted.search, body))


# ---------------------------------------------------------------------- what has to be in sight


def _starts(scopes: Scopes, site: AverageSite, add: ast.stmt, name: str) -> list[ast.Assign] | None:
    """Where the total begins at nothing; None where it is used for anything that the fix would change."""
    uses = scopes.uses(name, scopes.function(add))
    if uses is None:
        return None
    averages = [average.node for average in site.averages]
    divisions = [node for node in averages if isinstance(node, ast.AugAssign)]
    starts: list[ast.Assign] = []
    for use in uses:
        statement = scopes.statement(use)
        if statement is add:
            continue
        if any(use is node or scopes.inside(use, node) for node in averages):
            continue
        if isinstance(statement, ast.Assign) and isinstance(use.ctx, ast.Store) and _is_zero(statement, use):
            starts.append(statement)
            continue
        if isinstance(use.ctx, ast.Load) and any(scopes.comes_after(use, division) for division in divisions):
            continue
        return None
    if not starts or any(not _is_plain(node, name) for node in averages):
        return None
    loop = site.loop.node
    if any(scopes.inside(start, loop) or start.lineno > loop.lineno for start in starts):  # type: ignore[union-attr]
        return None
    return starts


def _list_starts(scopes: Scopes, site: AverageSite, add: ast.Expr) -> list[ast.Assign]:
    """Where the list begins empty; what else is done with it does not change, for it stays as it is."""
    uses = scopes.uses(site.name, scopes.function(add)) if site.name.isidentifier() else None
    starts = []
    for use in uses or []:
        if isinstance(use.ctx, ast.Load):
            continue
        statement = scopes.statement(use)
        if not isinstance(statement, ast.Assign) or statement.targets != [use]:
            return []
        if ast.unparse(statement.value) not in ("[]", "list()"):
            return []
        starts.append(statement)
    appends = [use for use in uses or [] if ".append(" in ast.unparse(scopes.statement(use) or use)]
    return starts if len(appends) == 1 else []


def _is_zero(statement: ast.Assign, use: ast.Name) -> bool:
    """``total = 0.0``, also among others: ``total, n = 0, 0`` or ``a = b = 0``."""
    for target in statement.targets:
        value: ast.expr | None = None
        if target is use:
            value = statement.value
        elif isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
            pairs = zip(target.elts, statement.value.elts, strict=False)
            value = next((right for left, right in pairs if left is use), None)
        if isinstance(value, ast.Constant) and value.value == 0 and value.value is not False:
            return True
    return False


def _is_plain(node: ast.AST, name: str) -> bool:
    """Whether an average is this name, divided by something."""
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, ast.Div) and ast.unparse(node.target) == name
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and ast.unparse(node.left) == name


def _counter(
    source: SourceFile,
    scopes: Scopes,
    site: AverageSite,
    loop: ast.For,
    add: ast.stmt,
    starts: list[ast.Assign],
    size: str,
) -> tuple[str, list[Edit | None]]:
    """The number of samples so far: one that the script counts already, or a new one."""
    for name in _counted(scopes, loop, add, size):
        if _begins_with(scopes, name, add, starts):
            return name, []
    name = scopes.free(loop, "n_samples", f"{site.name}_samples")
    found = [edits.line_below(source, start, f"{name} = 0") for start in starts]
    found.append(edits.line_below(source, add, f"{name} += {size}"))
    return name, found


def _counted(scopes: Scopes, loop: ast.For, add: ast.stmt, size: str) -> Iterator[str]:
    """Names to which the batch's size is added whenever something is added to the total."""
    parts = as_long_as(loop, size)
    block = scopes.block(add)
    position = next(index for index, statement in enumerate(block) if statement is add)
    for index, statement in enumerate(block):
        if not isinstance(statement, ast.AugAssign) or not isinstance(statement.op, ast.Add):
            continue
        between = block[min(index, position) : max(index, position)]
        if any(isinstance(node, STOPS) for one in between for node in ast.walk(one)):
            continue
        if isinstance(statement.target, ast.Name) and _is_size(statement.value, parts):
            yield statement.target.id


def _is_size(node: ast.expr, parts: set[str]) -> bool:
    """``len(y)``, ``y.size(0)`` or ``y.shape[0]``."""
    found = re.fullmatch(r"len\((\w+)\)|(\w+)\.size\(0\)|(\w+)\.shape\[0\]", ast.unparse(node))
    return found is not None and (found[1] or found[2] or found[3]) in parts


def _begins_with(scopes: Scopes, name: str, add: ast.stmt, starts: list[ast.Assign]) -> bool:
    """Whether a counter begins wherever the total does, and is changed nowhere else."""
    uses = scopes.uses(name, scopes.function(add))
    if uses is None:
        return False
    begins = []
    for use in uses:
        statement = scopes.statement(use)
        if isinstance(use.ctx, ast.Load):
            continue
        if isinstance(statement, ast.Assign) and _is_zero(statement, use):
            begins.append(statement)
        elif not (isinstance(statement, ast.AugAssign) and any(statement is one for one in scopes.block(add))):
            return False
    added = [use for use in uses if isinstance(scopes.statement(use), ast.AugAssign) and isinstance(use.ctx, ast.Store)]
    if len(added) != 1 or len(begins) != len(starts):
        return False
    return all(any(_beside(scopes, begin, start) for start in starts) for begin in begins)


def _beside(scopes: Scopes, one: ast.stmt, other: ast.stmt) -> bool:
    """Whether two statements are the same, or stand in one block with nothing but assignments between."""
    if one is other:
        return True
    block = scopes.block(one)
    places = [index for index, statement in enumerate(block) if statement is one or statement is other]
    return len(places) == 2 and all(isinstance(between, ast.Assign) for between in block[places[0] : places[1]])


def _times(source: SourceFile, node: ast.expr, size: str) -> Edit:
    text = edits.text_of(source, node)
    simple = isinstance(node, (ast.Call, ast.Name, ast.Attribute, ast.Subscript, ast.Constant))
    return edits.replace(source, node, f"{text} * {size}" if simple else f"({text}) * {size}")
