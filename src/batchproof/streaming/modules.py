"""The modules that a function uses, and leaving them as they were."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch


@contextmanager
def quiet(fn: Callable[..., Any]) -> Iterator[None]:
    """Calls made for our own sake leave what a function holds as it was: buffers of modules, lists it appends to."""
    buffers = [buffer for module in modules_of(fn) for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    containers = [(thing, copy.copy(thing)) for thing in held_by(fn) if isinstance(thing, (list, dict, set))]
    try:
        yield
    finally:
        for thing, then in containers:
            if isinstance(thing, list):
                thing[:] = then
            else:
                thing.clear()
                thing.update(then)
        with torch.no_grad():
            for buffer, old in zip(buffers, before, strict=True):
                if not torch.equal(buffer, old):
                    buffer.copy_(old)


def modules_of(fn: Any) -> list[torch.nn.Module]:
    """The modules that a function is, holds, or names."""
    if isinstance(fn, torch.nn.Module):
        return [fn]
    things = held_by(fn)
    code = getattr(fn, "__code__", None)
    if code is not None:
        things += [getattr(fn, "__globals__", {}).get(name) for name in code.co_names]
    things += [getattr(thing, "__self__", None) for thing in things if callable(thing)]
    return [thing for thing in things if isinstance(thing, torch.nn.Module)]


def held_by(fn: Any) -> list[Any]:
    """What a callable carries: bound arguments, its object, its defaults, the variables that it closes over."""
    held: list[Any] = [getattr(fn, "func", None), getattr(fn, "__self__", None), *getattr(fn, "args", ())]
    held += [*(getattr(fn, "__defaults__", None) or ()), *(getattr(fn, "__kwdefaults__", None) or {}).values()]
    held += [*(getattr(fn, "keywords", None) or {}).values()]
    for cell in getattr(fn, "__closure__", None) or ():
        with suppress(ValueError):  # not filled yet
            held.append(cell.cell_contents)
    return held
