"""Totals over batches that nothing divides: they fall as batches grow, since there are fewer of them.

No average is reported, so that nothing of this is measured; the source alone tells.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from batchproof.ground.place import Place


def totals(script: Path) -> dict[str, Place]:
    """Names that a loop over batches adds values to, and that no expression divides, each with that line."""
    try:
        text = script.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError):
        return {}
    lines = text.splitlines()
    divided = set(_divided(tree))
    found: dict[str, Place] = {}
    for add in _additions(tree):
        name = ast.unparse(add.target)
        if name not in divided:
            found.setdefault(name, Place(script.name, add.lineno, lines[add.lineno - 1].strip()))
    return found


def _additions(tree: ast.Module) -> Iterator[ast.AugAssign]:
    """``total += loss.item()`` and the like, in a loop."""
    for loop in ast.walk(tree):
        if not isinstance(loop, ast.For):
            continue
        for node in ast.walk(loop):
            if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and _is_of_batch(node.value):
                yield node


def _is_of_batch(value: ast.expr) -> bool:
    """Whether a value was taken from a tensor, or goes by the name of a loss."""
    for node in ast.walk(value):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "item":
            return True
        if isinstance(node, ast.Name) and "loss" in node.id.lower():
            return True
    return False


def _divided(tree: ast.Module) -> Iterator[str]:
    """What is divided, and what leaves a function: its caller may divide that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.FloorDiv)):
            yield from _names(node.left)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Div, ast.FloorDiv)):
            yield ast.unparse(node.target)
        elif isinstance(node, (ast.Return, ast.Yield)) and node.value is not None:
            yield from _names(node.value)


def _names(value: ast.expr) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            yield ast.unparse(node)
