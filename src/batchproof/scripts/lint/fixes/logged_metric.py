"""Log a metric in place of a batch's value, so that the trainer computes it once an epoch."""

from __future__ import annotations

import ast

from batchproof.scripts.lint.finding import Edit, Fix
from batchproof.scripts.lint.fixes import edits
from batchproof.scripts.lint.fixes.scope import Scopes
from batchproof.scripts.lint.rule import logged
from batchproof.scripts.lint.source import SourceFile
from batchproof.scripts.source import AverageSite


def log_the_metric(source: SourceFile, scopes: Scopes, site: AverageSite) -> Fix | None:
    """The edits; None where not all that they need is in sight."""
    call, log, add = site.added.call, logged(site), scopes.statement(site.add)
    if log is None or add is None or not isinstance(call, ast.Call) or not edits.alone(source, add):
        return None
    owner = next((above for above in scopes.above(add) if isinstance(above, ast.ClassDef)), None)
    if owner is None:
        return None
    if site.added.kept:
        return _kept(source, scopes, call, log, add, owner)
    return _made(source, scopes, site, call, log, add, owner)


def _kept(
    source: SourceFile, scopes: Scopes, call: ast.Call, log: ast.Call, add: ast.stmt, owner: ast.ClassDef
) -> Fix | None:
    """``self.log("f1", self.f1(p, y))``, of a metric that this step alone uses: it is reset with its epoch."""
    metric = _attribute(call.func)
    if metric is None or not _is_made_once(owner, metric) or len(_uses(owner, metric)) != 1:
        return None
    text = edits.text_of(source, call.func)
    if _is_logged_here(scopes, call, log):
        found = [edits.line_above(source, add, edits.text_of(source, call)), edits.replace(source, call, text)]
    else:
        value = _value(log)
        if value is None or not _holds(scopes, value, call, add):
            return None
        found = [edits.replace(source, value, text)]
    return edits.together(f"log {text} itself, which is computed once an epoch", found)


def _made(
    source: SourceFile,
    scopes: Scopes,
    site: AverageSite,
    call: ast.Call,
    log: ast.Call,
    add: ast.stmt,
    owner: ast.ClassDef,
) -> Fix | None:
    """``self.log("rmse", rmse(p, y))``, of a function of this file: the class gets an exact metric of it."""
    function = call.func
    if not isinstance(function, ast.Name) or not _is_plain_function(source.tree, function.id):
        return None
    start = _start(owner)
    takes_names = bool(call.args) and not call.keywords and all(isinstance(a, ast.Name) for a in call.args)
    if start is None or not takes_names or not _is_logged_here(scopes, call, log):
        return None
    stage = site.function.partition("_")[0].replace("training", "train").replace("validation", "val")
    name = f"{stage}_{function.id}"
    if any(isinstance(node, ast.Attribute) and node.attr == name for node in ast.walk(source.tree)):
        return None
    given = edits.text_of(source, call).removeprefix(function.id)
    found: list[Edit | None] = [
        edits.line_below(source, start, f"self.{name} = batchproof.exact({function.id})"),
        edits.line_above(source, add, f"self.{name}{given}"),
        edits.replace(source, call, f"self.{name}"),
    ]
    if not scopes.imports_batchproof:
        found.append(edits.import_batchproof(source))
    return edits.together(f"log batchproof.exact({function.id}), which is computed once an epoch", found)


def _attribute(node: ast.expr) -> str | None:
    """The name of an attribute of ``self``."""
    is_own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return node.attr if is_own and isinstance(node, ast.Attribute) else None


def _is_made_once(owner: ast.ClassDef, name: str) -> bool:
    init = _init(owner)
    targets = [target for node in ast.walk(init or owner) if isinstance(node, ast.Assign) for target in node.targets]
    return init is not None and sum(_attribute(target) == name for target in targets) == 1


def _uses(owner: ast.ClassDef, name: str) -> list[ast.Attribute]:
    """Where a class reads an attribute of that name, of ``self`` or of anything else."""
    init = _init(owner)
    made = set(ast.walk(init)) if init is not None else set()
    nodes = (node for node in ast.walk(owner) if node not in made)
    return [node for node in nodes if isinstance(node, ast.Attribute) and node.attr == name]


def _init(owner: ast.ClassDef) -> ast.FunctionDef | None:
    methods = (node for node in owner.body if isinstance(node, ast.FunctionDef))
    return next((method for method in methods if method.name == "__init__"), None)


def _start(owner: ast.ClassDef) -> ast.stmt | None:
    """``super().__init__()``, below which a module may have attributes."""
    init = _init(owner)
    for statement in init.body if init is not None else ():
        if isinstance(statement, ast.Expr) and ast.unparse(statement.value).endswith(").__init__()"):
            return statement
    return None


def _is_logged_here(scopes: Scopes, call: ast.Call, log: ast.Call) -> bool:
    """Whether the call is what is logged: an argument, or an entry of a dict that is one."""
    above = [node for node in scopes.above(call) if not isinstance(node, (ast.keyword, ast.Dict))]
    return above[0] is log


def _value(log: ast.Call) -> ast.expr | None:
    place = 1 if isinstance(log.func, ast.Attribute) and log.func.attr == "log" else 0
    named = next((keyword.value for keyword in log.keywords if keyword.arg in ("value", "dictionary")), None)
    return log.args[place] if len(log.args) > place else named


def _holds(scopes: Scopes, value: ast.expr, call: ast.Call, add: ast.stmt) -> bool:
    """Whether a name holds what the call gave, and nothing else."""
    if not isinstance(value, ast.Name):
        return False
    statement = scopes.statement(call)
    uses = scopes.uses(value.id, scopes.function(add)) or []
    stored = [use for use in uses if isinstance(use.ctx, ast.Store)]
    return isinstance(statement, ast.Assign) and statement.value is call and statement.targets == stored


def _is_plain_function(tree: ast.Module, name: str) -> bool:
    found = [node for node in tree.body if getattr(node, "name", "") == name]
    return len(found) == 1 and isinstance(found[0], ast.FunctionDef) and not found[0].decorator_list
