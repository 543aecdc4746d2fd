"""Leave no trace: random states, buffers and train flags are put back as they were."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from batchproof.ground.random_state import RandomState, cuda_in_use


@contextmanager
def preserved(target: object = None) -> Iterator[None]:
    """Restore the random generators, and of a module the buffers, gradients and train flags, on the way out."""
    generators = RandomState.read()
    module = target if isinstance(target, torch.nn.Module) else None
    kept = _snapshot(module) if module is not None else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        generators.put_back()
        if module is not None and kept is not None:
            _restore(module, kept)


def seed_all(seed: int) -> None:
    """Start every random generator that a function may draw from."""
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if cuda_in_use():
        torch.cuda.manual_seed_all(seed)


Snapshot = tuple[list[tuple[dict[str, Any], str, Any, Any]], list[tuple[torch.nn.Module, bool]]]


def _snapshot(module: torch.nn.Module) -> Snapshot:
    buffers = [
        (owner._buffers, name, buffer, None if buffer is None else buffer.clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
    ]
    return buffers, [(owner, owner.training) for owner in module.modules()]


def _restore(module: torch.nn.Module, kept: Snapshot) -> None:
    buffers, flags = kept
    for table, name, buffer, copy in buffers:
        if buffer is not None:
            with torch.no_grad():
                buffer.copy_(copy)
        table[name] = buffer
    for owner, training in flags:
        owner.training = training
