"""Which expressions lead to what a batch adds: those whose values are kept while the script runs.

Walks back from the added expression through the assignments of the loop's body, and into the functions of the same file
that are called on the way.  Too many expressions do no harm: which of them matter is decided on their values.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_STEPS = {"forward", "backward", "step", "zero_grad", "module", "predict", "model", "net"}


@dataclass
class KeptExpressions:
    """What to keep.

    Attributes:
        kept: expressions, by identity, each with the names that it is assigned to.
        changed: statements like ``loss += penalty``, by identity, after which the target is kept.
    """

    kept: dict[int, tuple[str, ...]] = field(default_factory=dict)
    changed: dict[int, ast.AugAssign] = field(default_factory=dict)

    def keep(self, node: ast.expr, names: tuple[str, ...] = ()) -> None:
        self.kept[id(node)] = (*self.kept.get(id(node), ()), *names)


@dataclass
class Functions:
    """The functions of a file, and the names that are the same wherever the file reads them."""

    by_name: dict[str, list[Function]]
    fixed: frozenset[str]

    @classmethod
    def of(cls, tree: ast.Module) -> Functions:
        """Every function and method, by its name; what is imported or defined at the top."""
        found: dict[str, list[Function]] = {}
        for node in ast.walk(tree):
            if isinstance(node, Function):
                found.setdefault(node.name, []).append(node)
        fixed: set[str] = set()
        for statement in tree.body:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                fixed.update((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                fixed.add(statement.name)
        assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not _is_read(node)}
        assigned |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        return cls(found, frozenset(fixed - assigned))


def trace_back(root: ast.expr, body: Iterable[ast.AST], functions: Functions, into: KeptExpressions) -> None:
    """Keep what ``root`` is made of, through the statements of ``body``."""
    entered: set[int] = set()
    _back([root], list(body), functions, into, entered)


def keep_returned(function: Function, functions: Functions, into: KeptExpressions) -> None:
    """Keep what a function returns."""
    _enter(function, functions, into, set())


def _back(
    roots: list[ast.expr], body: list[ast.AST], functions: Functions, into: KeptExpressions, entered: set[int]
) -> None:
    assignments = [found for statement in body for found in _assignments(statement)]
    wanted: set[str] = set()
    done: set[int] = set()
    todo: list[tuple[ast.expr, tuple[str, ...]]] = [(root, ()) for root in roots]
    while todo:
        while todo:
            value, names = todo.pop()
            into.keep(value, names)
            _mark(value, into, functions.fixed)
            wanted |= set(_names(value))
            for function in _called(value, functions):
                _enter(function, functions, into, entered)
        for targets, value, statement in assignments:
            if id(statement) not in done and any(target.partition("[")[0] in wanted for target in targets):
                done.add(id(statement))
                if isinstance(statement, ast.AugAssign):
                    into.changed[id(statement)] = statement
                    todo.append((value, ()))
                else:
                    todo.append((value, targets))


def _enter(function: Function, functions: Functions, into: KeptExpressions, entered: set[int]) -> None:
    if id(function) in entered or not _may_call_a_model(function, functions, set()):
        return
    entered.add(id(function))
    roots = [node.value for node in _own(function.body) if isinstance(node, ast.Return) and node.value is not None]
    _back(roots, list(function.body), functions, into, entered)


def _may_call_a_model(function: Function, functions: Functions, seen: set[int]) -> bool:
    """Whether it calls something that it was given or finds in its object; one that does not is called as one."""
    seen.add(id(function))
    given = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    for node in _own(function.body):
        if not isinstance(node, ast.Call):
            continue
        callee = node.func
        if isinstance(callee, ast.Name):
            found = functions.by_name.get(callee.id, [])
            if any(id(inner) not in seen and _may_call_a_model(inner, functions, seen) for inner in found):
                return True
            if not found and (callee.id in given or not (callee.id in functions.fixed or hasattr(builtins, callee.id))):
                return True
        elif isinstance(callee, ast.Attribute):
            root: ast.expr = callee
            while isinstance(root, ast.Attribute):
                root = root.value
            if callee.attr in _STEPS or (isinstance(root, ast.Name) and root.id in ("self", "cls")):
                return True
        else:
            return True
    return False


def _called(value: ast.expr, functions: Functions) -> Iterator[Function]:
    for node in ast.walk(value):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield from functions.by_name.get(name, ())


def _mark(value: ast.expr, into: KeptExpressions, fixed: frozenset[str], bound: frozenset[str] = frozenset()) -> None:
    """Keep the variables, attributes, items and calls that an expression reads."""
    if isinstance(value, ast.Lambda):
        return
    if isinstance(value, _COMPREHENSIONS):
        targets = (name for part in value.generators for name in ast.walk(part.target))
        own = fixed | bound | {name.id for name in targets if isinstance(name, ast.Name)}
        for part in ast.walk(value):
            if isinstance(part, ast.Name):
                _mark_name(part, into, own)
        return
    if isinstance(value, ast.Name):
        _mark_name(value, into, fixed | bound)
        return
    if isinstance(value, ast.Call):
        into.keep(value)
        if isinstance(value.func, ast.Attribute):
            holder = value.func.value
            if not (isinstance(holder, ast.Constant) or _is_fixed(holder, fixed)):
                into.keep(holder)
        parts = [value.func.value if isinstance(value.func, ast.Attribute) else value.func, *value.args]
        parts += [keyword.value for keyword in value.keywords]
    else:
        if isinstance(value, (ast.Attribute, ast.Subscript)) and _is_read(value) and not _is_fixed(value, fixed):
            into.keep(value)
        parts = [child for child in ast.iter_child_nodes(value) if isinstance(child, ast.expr)]
    for part in parts:
        _mark(part, into, fixed, bound)


def _mark_name(name: ast.Name, into: KeptExpressions, apart: frozenset[str]) -> None:
    if name.id not in apart and _is_read(name):
        into.keep(name)


def _is_fixed(value: ast.expr, fixed: frozenset[str]) -> bool:
    """Whether it is a name in a module: ``torch.float32``."""
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Name) and value.id in fixed


def _assignments(statement: ast.AST) -> Iterator[tuple[tuple[str, ...], ast.expr, ast.AST]]:
    """Every assignment of a statement and of those in it: targets, value, statement."""
    for node in [statement, *_own([statement])]:
        if isinstance(node, ast.Assign):
            yield tuple(_targets(node.targets)), node.value, node
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and node.value is not None:
            yield tuple(_targets([node.target])), node.value, node
        elif isinstance(node, ast.NamedExpr):
            yield (node.target.id,), node.value, node
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield tuple(_targets([node.optional_vars])), node.context_expr, node
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            yield tuple(_targets([node.target])), node.iter, node


def _targets(targets: Iterable[ast.expr]) -> Iterator[str]:
    for target in targets:
        if isinstance(target, (ast.Tuple, ast.List)):
            yield from _targets(target.elts)
        elif isinstance(target, ast.Starred):
            yield from _targets([target.value])
        else:
            yield key(target)


def key(node: ast.expr) -> str:
    """A variable, attribute or item as text."""
    return ast.unparse(node)


def _names(value: ast.expr) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, (ast.Name, ast.Attribute)):
            yield key(node)


def _own(statements: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """What is in statements, but not in functions and classes that they define."""
    for statement in statements:
        if isinstance(statement, _SCOPES):
            continue
        yield statement
        yield from _own(ast.iter_child_nodes(statement))


def _is_read(node: ast.expr) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Load)
