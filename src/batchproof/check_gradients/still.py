"""Switch off, for the time of a run, what makes a model random or couples its samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd


@contextmanager
def without_dropout(model: torch.nn.Module | None) -> Iterator[None]:
    """Every probability of dropout is 0, in modules and where a module keeps it as a number of its own."""
    kept = [(vars(module), name, value) for module in _modules(model) for name, value in _probabilities(module)]
    for table, name, _ in kept:
        table[name] = 0.0
    try:
        yield
    finally:
        for table, name, value in kept:
            table[name] = value


def drops(model: torch.nn.Module | None) -> bool:
    """Whether there is a probability of dropout above 0 in the model."""
    return any(value > 0 for module in _modules(model) for _, value in _probabilities(module))


def _probabilities(module: torch.nn.Module) -> list[tuple[str, Any]]:
    # recurrent layers, attention and many models on the hub have ``self.dropout = 0.1``
    names = {"p"} if isinstance(module, _DropoutNd) else {name for name in vars(module) if "drop" in name.lower()}
    return [(name, vars(module)[name]) for name in names if isinstance(vars(module).get(name), float)]


def batch_norms(model: torch.nn.Module | None) -> dict[str, torch.nn.Module]:
    """The layers that normalise by the statistics of the batch, by name."""
    if model is None:
        return {}
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}


@contextmanager
def in_evaluation(modules: dict[str, torch.nn.Module]) -> Iterator[None]:
    """These modules stay in evaluation mode, whatever mode the model is put into."""
    flags = {name: module.training for name, module in modules.items()}
    for module in modules.values():
        module.eval()
        vars(module)["train"] = lambda mode=True, module=module: module
    try:
        yield
    finally:
        for name, module in modules.items():
            del vars(module)["train"]
            module.training = flags[name]


def _modules(model: torch.nn.Module | None) -> list[torch.nn.Module]:
    return list(model.modules()) if model is not None else []
