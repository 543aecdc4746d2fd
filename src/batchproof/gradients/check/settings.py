"""The settings that modules hold beside their attributes: ``model.config``, and what is nested in it."""

from __future__ import annotations

from typing import Any

import torch


def settings_of(model: torch.nn.Module | None) -> list[dict[str, Any]]:
    """The tables behind every attribute that is called a config, of all modules, each once."""
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
