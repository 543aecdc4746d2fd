"""The modules that a function uses, and leaving them as they were."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import torch

DEPTH = 4  # how far to look into what a function holds


@contextmanager
def quiet(fn: Callable[..., Any]) -> Iterator[None]:
    """Calls made for our own sake leave what a function holds as it was: buffers, attributes, lists it appends to."""
    things = reachable(fn)
    buffers = [buffer for thing in things if isinstance(thing, torch.nn.Module) for buffer in thing.buffers()]
    values = [buffer.clone() for buffer in buffers]
    lists = [(thing, list(thing)) for thing in things if isinstance(thing, list)]
    tables: list[tuple[Any, Any]] = [(thing, copy.copy(thing)) for thing in things if isinstance(thing, (dict, set))]
    tables += [(vars(thing), dict(vars(thing))) for thing in things if _has_attributes(thing)]
    try:
        yield
    finally:
        for kept, then in lists:
            kept[:] = then
        for table, content in tables:
            table.clear()
            table.update(content)
        with torch.no_grad():
            for buffer, old in zip(buffers, values, strict=True):
                if not torch.equal(buffer, old):
                    buffer.copy_(old)


def remembers(fn: Callable[..., Any], run: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether a call changed something that a function holds (a counter, a list of values); and what the call gave."""
    tables = [(thing, _content(thing)) for thing in reachable(fn) if isinstance(thing, (dict, list, set))]
    tables += [(vars(thing), _content(vars(thing))) for thing in reachable(fn) if _has_attributes(thing)]
    result = run()
    return any(_content(table) != content for table, content in tables), result


def _content(table: Any) -> list[int]:
    """The identities of what a container holds."""
    parts = [*table.keys(), *table.values()] if isinstance(table, dict) else list(table)
    return [id(part) for part in parts]


def _has_attributes(thing: Any) -> bool:
    """Whether a call may set attributes of it; a class's are not its own to reset."""
    return isinstance(getattr(thing, "__dict__", None), dict) and not isinstance(thing, (type, ModuleType))


def reachable(fn: Any) -> list[Any]:
    """What a callable holds, names, or can reach through what it holds."""
    found: list[Any] = []
    seen: set[int] = set()
    todo = [(fn, 0)]
    while todo:
        thing, depth = todo.pop()
        plain = thing is None or isinstance(thing, (int, float, str, bytes, torch.Tensor, type, ModuleType))
        if plain or id(thing) in seen or depth > DEPTH:
            continue
        seen.add(id(thing))
        found.append(thing)
        todo += [(part, depth + 1) for part in _parts(thing)]
    return found


def outermost(fn: Any) -> list[torch.nn.Module]:
    """The modules that a callable can reach and that are no part of another such."""
    modules = [thing for thing in reachable(fn) if isinstance(thing, torch.nn.Module)]
    inner = {part for module in modules for part in list(module.modules())[1:]}
    return [module for module in modules if module not in inner]


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, (list, tuple, set)):
        return list(thing)[:100]
    if isinstance(thing, dict):
        return list(thing.values())[:100]
    parts = held_by(thing)
    code = getattr(thing, "__code__", None)
    if code is not None:
        named = getattr(thing, "__globals__", {})
        parts += [value for name in code.co_names if isinstance(value := named.get(name), torch.nn.Module)]
    if isinstance(thing, torch.nn.Module) or callable(thing) or _has_attributes(thing):
        parts += list(getattr(thing, "__dict__", {}).values())
    return parts


def held_by(fn: Any) -> list[Any]:
    """What a callable carries: bound arguments, its object, its defaults, the variables that it closes over."""
    held: list[Any] = [getattr(fn, "__self__", None)]
    if isinstance(fn, functools.partial):
        held += [fn.func, *fn.args, *fn.keywords.values()]
    held += [*(getattr(fn, "__defaults__", None) or ()), *(getattr(fn, "__kwdefaults__", None) or {}).values()]
    for cell in getattr(fn, "__closure__", None) or ():
        with suppress(ValueError):  # not filled yet
            held.append(cell.cell_contents)
    return held
