"""The rewritten tree as the script has it, and small expressions for functions that are made of it."""

from __future__ import annotations

import ast
import copy
from typing import Any

from batchproof.scripts.run.formula import Unmeasured
from batchproof.scripts.run.registry import NAME, Kept
from batchproof.scripts.run.trace import Attribute


def unwrapped(node: ast.expr) -> ast.expr:
    """Without our own calls around it, a kept expression aside."""
    while isinstance(node, ast.Call) and not isinstance(node, Kept) and is_ours(node):
        node = node.args[-1]
    return node


def is_ours(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == NAME


def bare(node: ast.AST) -> ast.AST:
    """The expression as the script has it."""
    return _Bare().visit(copy.deepcopy(node))  # type: ignore[no-any-return]


class _Bare(ast.NodeTransformer):
    """Takes our own calls off again."""

    def visit_Kept(self, kept: Kept) -> Any:
        """The expression inside."""
        return self.visit(kept.inner)

    def visit_Call(self, call: ast.Call) -> Any:
        """The expression inside, where the call is ours."""
        return self.visit(call.args[-1]) if is_ours(call) else self.generic_visit(call)


def is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0


def is_load(node: ast.expr) -> bool:
    return isinstance(node, (ast.Name, ast.Attribute, ast.Subscript))


def named(name: str, near: ast.AST) -> ast.expr:
    """A variable of the function."""
    return ast.copy_location(ast.Name(name, ast.Load()), near)


def at(node: Any, near: ast.AST) -> Any:
    return ast.copy_location(node, near)


def walk(found: ast.expr, path: tuple[Any, ...]) -> ast.expr:
    for step in path:
        near = found
        if isinstance(step, Attribute):
            found = at(ast.Attribute(found, str(step), ast.Load()), near)
        elif isinstance(step, (str, int)):
            found = at(ast.Subscript(found, ast.Constant(step), ast.Load()), near)
        else:
            raise Unmeasured("a value lies in a table whose keys are no names")
    return found


def renumbered(module: ast.Module) -> str:
    """The function's text, whatever the points at which its values were kept."""
    numbers: dict[str, str] = {}
    for node in ast.walk(module):
        name = getattr(node, "id", getattr(node, "arg", None))
        if isinstance(name, str) and name.startswith(("_value", "_argument", "_fixed")):
            numbers.setdefault(name, f"{name.rstrip('0123456789')}_{len(numbers)}")
    copied = copy.deepcopy(module)
    for node in ast.walk(copied):
        for part in ("id", "arg"):
            if getattr(node, part, None) in numbers:
                setattr(node, part, numbers[getattr(node, part)])
    return ast.unparse(copied)
