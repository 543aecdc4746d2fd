"""Forward passes for our own sake, which leave no trace; and models put into a state in which more is seen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from batchproof.streaming.modules import held_by

#: The size of what takes the place of zeros.
SOME = 0.1


@contextmanager
def undisturbed(modules: Sequence[torch.nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Attributes of modules, and what a function holds, are as they were afterwards; buffers are not looked after."""
    parts = dict.fromkeys(part for module in modules for part in module.modules())
    things = [*parts, getattr(forward, "__self__", None)]
    tables: list[Any] = [vars(thing) for thing in things if isinstance(getattr(thing, "__dict__", None), dict)]
    held = [*held_by(forward), *(part for table in tables for part in table.values())]
    tables += [thing for thing in held if type(thing) in (dict, list, set)]
    before = [(table, copy.copy(table)) for table in tables]
    try:
        yield
    finally:
        for table, content in before:
            _put_back(table, content)


def _put_back(table: Any, content: Any) -> None:
    if isinstance(table, list):
        table[:] = content
    elif len(table) != len(content) or not _holds(table, content):
        table.clear()
        table.update(content)


def _holds(table: Any, content: Any) -> bool:
    """Whether it still holds the same things; asking these whether they are equal could mean anything."""
    if isinstance(table, set):
        return {id(part) for part in table} == {id(part) for part in content}
    return all(name in table and table[name] is value for name, value in content.items())


@contextmanager
def awake(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Parameters that are all zero are not: a branch that starts at zero shows what it does."""
    asleep = [p for module in modules for p in module.parameters() if _is_zero(p)]
    try:
        for parameter in asleep:
            numbers = torch.arange(parameter.numel(), dtype=torch.float64, device=parameter.device).add(1).sin()
            parameter.data.copy_(SOME * numbers.reshape(parameter.shape))
        yield
    finally:
        for parameter in asleep:
            parameter.data.zero_()


def _is_zero(parameter: Tensor) -> bool:
    alone = type(parameter) is torch.nn.Parameter and not (parameter.device.type == "cpu" and parameter.is_shared())  # type: ignore[no-untyped-call]
    usual = parameter.is_floating_point() and parameter.layout is torch.strided and parameter.device.type != "meta"
    return alone and usual and parameter.numel() > 0 and not bool(parameter.detach().any())


@contextmanager
def undropped(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """No dropout."""
    parts = dict.fromkeys(part for module in modules for part in module.modules())
    before: list[tuple[torch.nn.Module, str, Any]] = []
    for part in parts:
        wanted: dict[str, Any] = {"training": False} if isinstance(part, _DropoutNd) else {}
        wanted |= {name: 0.0 for name in ("dropout", "dropout_p") if isinstance(vars(part).get(name), float)}
        before += [(part, name, vars(part)[name]) for name in wanted]
        vars(part).update(wanted)
    try:
        with _Undropped():
            yield
    finally:
        for part, name, value in before:
            vars(part)[name] = value


class _Undropped(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if "dropout" in name and args and isinstance(args[0], Tensor) and name != "native_dropout":
            return args[0]
        if name == "scaled_dot_product_attention":
            given = dict(zip(("dropout_p", "is_causal"), args[4:], strict=False))
            args, kwargs = args[:4], {**kwargs, **given, "dropout_p": 0.0}
        return func(*args, **kwargs)
