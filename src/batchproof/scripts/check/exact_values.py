"""Where a script's source takes a value from ``batchproof.exact``: such a number is no average over batches."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from batchproof.ground.place import Place

_EXACT = "batchproof.exact"


def exact_values(script: str) -> tuple[Place, ...]:
    """The lines that read ``metric.compute()`` of a ``metric = batchproof.exact(...)``."""
    try:
        text = Path(script).read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError):
        return ()
    lines = text.splitlines()
    return tuple(Place(script, line, lines[line - 1].strip()) for line in sorted(set(_read_at(tree))))


def _read_at(tree: ast.Module) -> Iterator[int]:
    nodes = list(ast.walk(tree))
    names = dict(_imported(nodes))
    metrics = set()
    for node in nodes:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and _path(node.value.func, names) == _EXACT
        ):
            metrics |= {ast.unparse(target) for target in node.targets}
    dropped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # its value goes nowhere
    for node in nodes:
        function = node.func if isinstance(node, ast.Call) and id(node) not in dropped else None
        if isinstance(function, ast.Attribute) and function.attr == "compute":
            yield from [function.lineno] if ast.unparse(function.value) in metrics else []


def _imported(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """What names stand for."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((name.asname or name.name, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((name.asname or name.name, f"{node.module}.{name.name}") for name in node.names)


def _path(function: ast.expr, names: dict[str, str]) -> str:
    """``batchproof.exact`` of ``bp.exact``."""
    first, dot, rest = ast.unparse(function).partition(".")
    return f"{names.get(first, first)}{dot}{rest}"
