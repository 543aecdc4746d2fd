"""Accumulators that are tables: by which variable a batch's values, and their averages, are put under a key."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeGuard

from batchproof.scripts.source import AverageSite

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def key_of_added(site: AverageSite, parents: Mapping[int, ast.AST], unbound: AbstractSet[str]) -> str:
    """The variable of ``totals[k] += v`` that is another one for each of a batch's values; empty where there is none.

    Args:
        site: the accumulator.
        parents: of each node, by identity.
        unbound: names that some statement of the file takes away again.
    """
    slot = site.name.rpartition("[")[2].removesuffix("]") if site.name.endswith("]") else ""
    if not slot.isidentifier() or slot in unbound:
        return ""
    for holder, names in _binders(site.added.node, parents):
        if holder is site.loop.node:
            return ""
        if slot in names:
            return slot
    return ""


def key_of_average(node: ast.AST, parents: Mapping[int, ast.AST], unbound: AbstractSet[str]) -> str | None:
    """The variable that says of which key an average is: ``k`` of ``{k: v / n for k, v in totals.items()}``."""
    around = [name for _, names in _binders(node, parents) for name in names if name not in unbound]
    target = node.target if isinstance(node, ast.AugAssign) else node
    slots = [part.slice.id for part in ast.walk(target) if isinstance(part, ast.Subscript) and _is_name(part.slice)]
    return next((name for name in (*(slot for slot in slots if slot in around), *around)), None)


def tables_around(site: AverageSite, parents: Mapping[int, ast.AST]) -> Iterator[ast.expr]:
    """What a comprehension within the loop takes its values from: ``new.items()``."""
    for holder, _ in _holders(site.added.node, parents):
        if holder is site.loop.node:
            return
        if isinstance(holder, _COMPREHENSIONS):
            yield from (generator.iter for generator in holder.generators if generator is not site.loop.node)


def unbound_names(tree: ast.AST) -> set[str]:
    """Names that are taken away: by ``del``, and at the end of ``except Error as name``."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
            found.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def _is_name(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name)


def _binders(node: ast.AST, parents: Mapping[int, ast.AST]) -> Iterator[tuple[ast.AST, list[str]]]:
    """The loops and comprehensions of whose bodies a node is a part, the innermost first, with the names they set."""
    for holder, part in _holders(node, parents):
        if isinstance(holder, (ast.For, ast.AsyncFor)) and any(part is statement for statement in holder.body):
            yield holder, _names(holder.target)
        elif isinstance(holder, _COMPREHENSIONS) and not isinstance(part, ast.comprehension):
            yield holder, [name for generator in holder.generators for name in _names(generator.target)]


def _holders(node: ast.AST, parents: Mapping[int, ast.AST]) -> Iterator[tuple[ast.AST, ast.AST]]:
    """What is around a node in its function, each with the part of it that holds the node."""
    part, holder = node, parents.get(id(node))
    while holder is not None and not isinstance(holder, (*_SCOPES, ast.Lambda)):
        yield holder, part
        part, holder = holder, parents.get(id(holder))


def _names(target: ast.expr) -> list[str]:
    return [part.id for part in ast.walk(target) if _is_name(part) and isinstance(part.ctx, ast.Store)]
