"""Where a formula's arguments are better taken: further on, where each row is one of what is averaged.

Time may come before the batch (``output[1:].view(-1, words)`` against ``target[1:].view(-1)``), or one argument may be
flattened and another not. Batches of such arguments cannot be put together; those of the flattened ones can.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from batchproof.scripts.run.trace import is_batch

#: A step of a formula: at which point its value was kept, and the expression that gives it.
Step = tuple[int, ast.expr]


@dataclass
class _NamedSteps:
    """The steps by the names that they go by, and the values that they gave."""

    steps: dict[str, Step]
    arguments: dict[str, int]
    values: Sequence[Any]

    def rows(self, name: str) -> int | None:
        """How many rows a step or an argument has; None where it has none."""
        index = self.steps[name][0] if name in self.steps else self.arguments[name]
        return int(self.values[index].shape[0]) if is_batch(self.values[index]) else None

    def needs(self, name: str) -> list[str]:
        """The steps and arguments that a step is made of."""
        return [found for found in _names(self.steps[name][1]) if found in self.steps or found in self.arguments]

    def cut(self, name: str, rows: int) -> set[str] | None:
        """The first steps or arguments with this many rows on every way to a step; None where a way has none."""
        if name in self.arguments:
            return {name} if self.rows(name) == rows else None
        before = [self.cut(found, rows) for found in self.needs(name)]
        if before and all(found is not None for found in before):
            return {part for found in before if found for part in found}
        if not before:
            return set()
        return {name} if self.rows(name) == rows else None


def rows_of_one_kind(
    steps: Sequence[Step], arguments: dict[int, str], result: ast.expr, values: Sequence[Any], across: bool = False
) -> tuple[list[Step], dict[int, str]] | None:
    """Steps and arguments to go on with; None where those that there are will do, or nothing better is found.

    Args:
        steps: of the formula.
        arguments: by the point at which they were kept, their names.
        result: what it gives.
        values: what was kept.
        across: whether samples lie along the second dimension of what comes from the loader.
    """
    heights = {int(values[index].shape[0]) for index in arguments}
    if len(heights) == 1 and not across and not any(_takes_rows(expression) for _, expression in steps):
        return None
    named = {f"_value{index}": (index, expression) for index, expression in steps}
    ways = _NamedSteps(named, {name: index for index, name in arguments.items()}, values)
    least = max(heights) + (len(heights) == 1)  # flattened, there are more of them
    known = {count for name in (*named, *ways.arguments) if (count := ways.rows(name)) is not None and count >= least}
    for rows in sorted(known, reverse=True):
        wanted = [name for name in _names(result) if name in named or name in ways.arguments]
        found = [ways.cut(name, rows) for name in wanted]
        chosen = {part for parts in found if parts for part in parts}
        if chosen and all(parts is not None for parts in found):
            return _after(ways, chosen, wanted)
    return None


def _after(ways: _NamedSteps, chosen: set[str], wanted: list[str]) -> tuple[list[Step], dict[int, str]]:
    """What remains to be computed from what was chosen."""
    needed: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name not in chosen and name not in needed:
            needed.add(name)
            todo += ways.needs(name)
    steps = [step for name, step in ways.steps.items() if name in needed]
    indices = {ways.steps[name][0] if name in ways.steps else ways.arguments[name]: name for name in chosen}
    return steps, dict(sorted(indices.items()))


def _takes_rows(expression: ast.expr) -> bool:
    """Whether some rows are left out by their position: ``output[1:]``."""
    for node in ast.walk(expression):
        if isinstance(node, ast.Subscript):
            first = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
            if isinstance(first, ast.Slice) and (first.lower is not None or first.upper is not None):
                return True
    return False


def _names(expression: ast.expr) -> Iterator[str]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Name):
            yield node.id
