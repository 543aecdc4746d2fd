"""Accumulators that are tables: by which variable a batch's values, and their averages, are put under a key."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from batchproof.scripts.source import AverageSite

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def key_of_added(site: AverageSite, parents: Mapping[int, ast.AST]) -> str:
    """The variable of ``totals[k] += v`` that is another one for each of a batch's values; empty where there is none."""
    slot = site.name.rpartition("[")[2].removesuffix("]") if site.name.endswith("]") else ""
    if not slot.isidentifier():
        return ""
    return slot if slot in _bound(site.added.node, parents, site.loop.node) else ""


def key_of_average(node: ast.AST, parents: Mapping[int, ast.AST]) -> str | None:
    """The variable that says of which key an average is: ``k`` of ``{k: v / n for k, v in totals.items()}``."""
    target = node.target if isinstance(node, ast.AugAssign) else node
    for part in ast.walk(target):
        if isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Name) and _binder(part.slice.id, node, parents):
            return part.slice.id
    for holder in _holders(node, parents):
        for names in _targets(holder):
            return next(names, None)
    return None


def tables_around(site: AverageSite, parents: Mapping[int, ast.AST]) -> Iterator[ast.expr]:
    """What a comprehension within the loop takes its values from: ``new.items()``."""
    for holder in _holders(site.added.node, parents):
        if holder is site.loop.node:
            return
        if isinstance(holder, _COMPREHENSIONS):
            yield from (generator.iter for generator in holder.generators if generator is not site.loop.node)


def _binder(name: str, node: ast.AST, parents: Mapping[int, ast.AST]) -> bool:
    """Whether a loop or comprehension around a node, and not one within it, sets a name."""
    return any(name in names for holder in _holders(node, parents) for names in _targets(holder))


def _bound(node: ast.AST, parents: Mapping[int, ast.AST], until: ast.AST) -> set[str]:
    """The names that loops within a loop over batches set, around a node."""
    found: set[str] = set()
    for holder in _holders(node, parents):
        if holder is until:
            break
        for names in _targets(holder):
            found.update(names)
    return found


def _holders(node: ast.AST, parents: Mapping[int, ast.AST]) -> Iterator[ast.AST]:
    """What is around a node in its function."""
    holder = parents.get(id(node))
    while holder is not None and not isinstance(holder, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        yield holder
        holder = parents.get(id(holder))


def _targets(holder: ast.AST) -> Iterator[Iterator[str]]:
    """The names that a loop or a comprehension sets, those of each ``for`` together."""
    loops: list[ast.For | ast.AsyncFor | ast.comprehension] = []
    if isinstance(holder, (ast.For, ast.AsyncFor)):
        loops = [holder]
    elif isinstance(holder, _COMPREHENSIONS):
        loops = list(holder.generators)
    for loop in loops:
        yield (part.id for part in ast.walk(loop.target) if isinstance(part, ast.Name))
