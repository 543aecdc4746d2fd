"""Switch off, for the time of a run, what makes a model random or couples its samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from batchproof.gradients.check.isolation import settings_of

#: Whole spans of the input are left out with these, in models of speech.
MASKS = ("mask_time_prob", "mask_feature_prob")


@contextmanager
def without_dropout(model: torch.nn.Module | None) -> Iterator[None]:
    """Every probability of dropout is 0: in its modules, in modules that keep it as a number, and in settings."""
    kept = [(table, name, table[name]) for table, name in _probabilities(model)]
    for table, name, _ in kept:
        table[name] = 0.0
    try:
        yield
    finally:
        for table, name, value in kept:
            table[name] = value


def drops(model: torch.nn.Module | None) -> bool:
    """Whether there is a probability of dropout above 0 in the model."""
    return any(table[name] > 0 for table, name in _probabilities(model))


def _probabilities(model: torch.nn.Module | None) -> Iterator[tuple[dict[str, Any], str]]:
    """Where they are: which table of attributes, and under what name."""
    for module in model.modules() if model is not None else ():
        if isinstance(module, _DropoutNd):
            yield vars(module), "p"
        else:
            # recurrent layers, attention and many models on the hub have ``self.dropout = 0.1``
            yield from _named_so(vars(module))
    # some models look into their settings in every forward pass: for layerdrop, and for what they mask
    for table in settings_of(model):
        yield from _named_so(table)


def _named_so(table: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for name, value in table.items():
        if isinstance(value, float) and ("drop" in name.lower() or name in MASKS):
            yield table, name


def batch_norms(model: torch.nn.Module | None) -> dict[str, torch.nn.Module]:
    """The layers that normalise by the statistics of the batch, by name."""
    if model is None:
        return {}
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}


def _stay(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
    return module


@contextmanager
def in_evaluation(modules: dict[str, torch.nn.Module]) -> Iterator[None]:
    """These modules stay in evaluation mode, whatever mode the model is put into."""
    flags = {name: module.training for name, module in modules.items()}
    for module in modules.values():
        module.eval()
        vars(module)["train"] = partial(_stay, module)
    try:
        yield
    finally:
        for name, module in modules.items():
            del vars(module)["train"]
            module.training = flags[name]
