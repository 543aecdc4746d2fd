"""Let somebody's code do to a model what it likes, and put everything back."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from batchproof.ground.isolation import preserved, refill

#: What a module keeps its hooks, its submodules and its flags in; of other types it is not known how to fill them.
CONTAINERS = (dict, OrderedDict, defaultdict, list, set)


@contextmanager
def untouched(parameters: Mapping[str, torch.nn.Parameter], model: torch.nn.Module | None) -> Iterator[None]:
    """No gradients at first; on the way out all is as before.

    That is weights, gradients, buffers, train flags and random state, and of every module the attributes, the hooks and
    the settings: trainers wrap ``forward``, add hooks, and switch on what they are asked for.
    """
    kept = [(p, p.detach().clone(), p.grad) for p in parameters.values()]
    # the frozen ones are not copied: nothing trains them, but they move to another device and type with the others
    every = dict.fromkeys([*parameters.values(), *(model.parameters() if model is not None else ())])
    placed = [(p, p.data, p.requires_grad) for p in every]
    for parameter in parameters.values():
        parameter.grad = None
    try:
        with same_attributes(model), preserved(model):
            yield
    finally:
        for parameter, data, trained in placed:
            if parameter.device != data.device or parameter.dtype != data.dtype:
                parameter.grad = None  # it is there, and of that type
                parameter.data = data
            parameter.requires_grad_(trained)
        for parameter, value, gradient in kept:
            # written only where it changed: somebody's graph may still hold the parameter as it is
            if not torch.equal(parameter.detach(), value):
                with torch.no_grad():
                    parameter.copy_(value)
            parameter.grad = gradient


@contextmanager
def same_attributes(model: torch.nn.Module | None) -> Iterator[None]:
    """Attributes of all modules and of their settings, with what the containers among them hold, are put back."""
    tables = [vars(module) for module in model.modules()] if model is not None else []
    tables += settings_of(model)
    kept = [(table, dict(table)) for table in tables]
    held = [(value, value.copy()) for _, table in kept for value in table.values() if type(value) in CONTAINERS]
    try:
        yield
    finally:
        for table, before in kept:
            refill(table, before)
        for container, before in held:
            refill(container, before)


def settings_of(model: torch.nn.Module | None) -> list[dict[str, Any]]:
    """The settings beside a model's attributes: the table of each `config` of its modules, and those nested in them."""
    waiting = [vars(module) for module in model.modules()] if model is not None else []
    found: dict[int, dict[str, Any]] = {}
    while waiting:
        holder = waiting.pop()
        for name, value in holder.items():
            table = _table(value) if name.endswith("config") else None
            if table is not None and id(table) not in found:
                found[id(table)] = table
                waiting.append(table)
    return list(found.values())


def _table(value: object) -> dict[str, Any] | None:
    """The names and values of a dict or a plain object."""
    if type(value) is dict:
        return value if all(isinstance(name, str) for name in value) else None
    # no module, whose attributes are looked at anyway, and no class, whose attributes are not one model's
    return getattr(value, "__dict__", None) if not isinstance(value, (torch.nn.Module, type)) else None
