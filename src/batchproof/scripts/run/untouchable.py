"""What must not be rewritten, so that a script means the same: where Python allows no call, and what others compile."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

#: Take a function's bytecode or source, and compile it for something that knows nothing of our calls.
_COMPILERS = {"jit", "njit", "vectorize", "guvectorize", "cfunc", "stencil", "autojit"}
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
#: Fields in which an expression is not one that is evaluated there and then.
_NOT_EVALUATED = {"annotation", "returns", "type_params", "format_spec", "pattern"}


def untouchable(tree: ast.AST) -> set[int]:
    r"""The nodes, by identity, around which and after which nothing may be added.

    >>> tree = ast.parse("x: int = 1\nmatch x:\n    case int.real: pass")
    >>> sorted(ast.unparse(node) for node in ast.walk(tree) if id(node) in untouchable(tree) and hasattr(node, "id"))
    ['int', 'int']
    """
    found: set[int] = set()
    compiled = _compiled_by_name(tree)
    for node in ast.walk(tree):
        for part in _fixed_parts(node, compiled):
            found.update(map(id, ast.walk(part)))
        found.update(map(id, _parts_of_text(node)))
    return found


def _fixed_parts(node: ast.AST, compiled: set[str]) -> Iterator[ast.AST]:
    """Parts of a node that stay as they are, with all that is in them."""
    if isinstance(node, _WITH_DOCSTRING) and node.body and _is_text(node.body[0]):
        yield node.body[0]
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        yield node  # nothing else may come before another one
    if type(node).__name__ == "TypeAlias" or (_is_function(node) and _is_compiled(node, compiled)):
        yield node
        return
    for field in _NOT_EVALUATED:
        part = getattr(node, field, None)
        yield from (part if isinstance(part, list) else [part] if isinstance(part, ast.AST) else ())


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _parts_of_text(node: ast.AST) -> Iterable[ast.AST]:
    """Of ``f"a {b}"`` its two parts, but not ``b``."""
    return getattr(node, "values", ()) if isinstance(node, ast.JoinedStr) else ()


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def _is_compiled(function: ast.AST, compiled: set[str]) -> bool:
    if getattr(function, "name", "") in compiled:
        return True
    decorators = getattr(function, "decorator_list", ())
    return any(_last_word(each.func if isinstance(each, ast.Call) else each) in _COMPILERS for each in decorators)


def _compiled_by_name(tree: ast.AST) -> set[str]:
    """Functions that are handed over: ``fast = njit(slow)``."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _last_word(node.func) in _COMPILERS]
    return {part.id for call in calls for part in call.args if isinstance(part, ast.Name)}


def _last_word(node: ast.expr) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def is_wrappable(node: ast.AST) -> bool:
    """Whether an expression may be the argument of a call: one that is read, and that is one by itself.

    >>> [is_wrappable(node) for node in ast.walk(ast.parse("x[1:2] = y")) if isinstance(node, (ast.Slice, ast.Name))]
    [True, True, False]
    """
    if isinstance(node, (ast.Starred, ast.Slice, ast.FormattedValue)) or not isinstance(node, ast.expr):
        return False
    if type(node).__name__ in ("Interpolation", "TemplateStr"):
        return False
    if isinstance(node, ast.Tuple) and any(isinstance(part, ast.Slice) for part in node.elts):
        return False
    return isinstance(getattr(node, "ctx", ast.Load()), ast.Load)


def can_be_read_again(target: ast.AST) -> bool:
    """Whether reading a target once more does nothing else: no call is made on the way to it.

    >>> [can_be_read_again(ast.parse(text, mode="eval").body) for text in ("self.x", "a[k]", "a[next(k)]", "f().x")]
    [True, True, False, False]
    """
    if isinstance(target, (ast.Name, ast.Constant)):
        return True
    if isinstance(target, ast.Subscript):
        return can_be_read_again(target.value) and can_be_read_again(target.slice)
    if isinstance(target, (ast.Attribute, ast.Starred)):
        return can_be_read_again(target.value)
    return isinstance(target, (ast.Tuple, ast.List)) and all(map(can_be_read_again, target.elts))
