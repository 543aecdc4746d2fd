"""The modules that a function uses, and leaving them as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch


@contextmanager
def quiet(fn: Callable[..., Any]) -> Iterator[None]:
    """Calls made for our own sake leave the buffers of the modules that a function uses as they were."""
    buffers = [buffer for module in modules_of(fn) for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in zip(buffers, before, strict=True):
                if not torch.equal(buffer, old):
                    buffer.copy_(old)


def modules_of(fn: Any) -> list[torch.nn.Module]:
    """The modules that a function is, holds, or names."""
    if isinstance(fn, torch.nn.Module):
        return [fn]
    held: list[Any] = [getattr(fn, "func", None), getattr(fn, "__self__", None), *getattr(fn, "args", ())]
    code = getattr(fn, "__code__", None)
    if code is not None:
        names = getattr(fn, "__globals__", {})
        held += [names.get(name) for name in code.co_names]
        for cell in fn.__closure__ or ():
            with suppress(ValueError):  # not filled yet
                held.append(cell.cell_contents)
    found = [thing for thing in held if isinstance(thing, torch.nn.Module)]
    inner = [thing for thing in held if callable(thing) and not isinstance(thing, (torch.nn.Module, type))]
    for thing in inner:
        if getattr(thing, "__closure__", None) or hasattr(thing, "__self__"):
            found += [m for m in (getattr(thing, "__self__", None),) if isinstance(m, torch.nn.Module)]
    return found
