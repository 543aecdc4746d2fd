"""What a fix has to know before it dares: in which block a statement stands, and everything that a name is used for."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cached_property

#: What may end a turn of a loop before its end.
STOPS = (ast.Continue, ast.Break, ast.Return, ast.Raise)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Scopes:
    """A tree, seen from its nodes upward."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree

    @cached_property
    def _parents(self) -> dict[ast.AST, ast.AST]:
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def imports_batchproof(self) -> bool:
        """Whether the file has it already."""
        return any(
            isinstance(node, ast.Import)
            and any(alias.name == "batchproof" and not alias.asname for alias in node.names)
            for node in self.tree.body
        )

    def free(self, near: ast.AST, *wishes: str) -> str:
        """A name that the function around a node does not use for anything."""
        taken = _mentioned(self.function(near))
        numbered = (f"{wishes[-1]}_{number}" for number in range(2, 1000))
        return next(name for name in (*wishes, *numbered) if name not in taken)

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """A node's parent, and that one's, up to the module."""
        while node in self._parents:
            node = self._parents[node]
            yield node

    def statement(self, node: ast.AST) -> ast.stmt | None:
        """The statement that a node stands in, or is."""
        return next((above for above in (node, *self.above(node)) if isinstance(above, ast.stmt)), None)

    def function(self, node: ast.AST) -> ast.AST:
        """The function that a node stands in; the module at its top."""
        return next((above for above in self.above(node) if isinstance(above, _SCOPES)), self.tree)

    def block(self, statement: ast.stmt) -> list[ast.stmt]:
        """The statements among which one stands."""
        parent = self._parents.get(statement)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(parent, name, None)
            if isinstance(block, list) and any(one is statement for one in block):
                return block
        return []

    def without_with(self, statement: ast.stmt) -> ast.stmt:
        """The outermost ``with`` that a statement stands in, or itself: what is in one happens as often as it does."""
        for above in self.above(statement):
            if not isinstance(above, (ast.With, ast.AsyncWith)):
                break
            statement = above
        return statement

    def uses(self, name: str, scope: ast.AST) -> list[ast.Name] | None:
        """Every use of a name in a function; None where the name belongs to more than this function."""
        found = [node for node in ast.walk(scope) if isinstance(node, ast.Name) and node.id == name]
        if any(self.function(node) is not scope for node in found):
            return None
        for node in ast.walk(scope):
            if isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names:
                return None
        return found

    def comes_after(self, use: ast.Name, statement: ast.stmt) -> bool:
        """Whether a name is read further down in the block of a statement."""
        block = self.block(statement)
        position = next((index for index, one in enumerate(block) if one is statement), len(block))
        return any(one is above for one in block[position + 1 :] for above in (use, *self.above(use)))

    def inside(self, node: ast.AST, other: ast.AST) -> bool:
        """Whether a node is part of another."""
        return any(above is other for above in self.above(node))


def _mentioned(scope: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
    return found


def assigned(statements: Iterable[ast.AST]) -> set[str]:
    """The names that these set."""
    return {
        node.id
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }


def sum_of(add: ast.stmt | None) -> tuple[ast.Name, ast.expr] | None:
    """The total and what is added to it: of ``total += x`` and of ``total = total + x``."""
    if isinstance(add, ast.AugAssign) and isinstance(add.op, ast.Add) and isinstance(add.target, ast.Name):
        return add.target, add.value
    if isinstance(add, ast.Assign) and len(add.targets) == 1 and isinstance(add.targets[0], ast.Name):
        target, value = add.targets[0], add.value
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add) and isinstance(value.left, ast.Name):
            return (target, value.right) if value.left.id == target.id else None
    return None


def names_in(node: ast.AST) -> set[str]:
    """The names that an expression reads."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
