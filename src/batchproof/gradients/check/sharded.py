"""Parameters that are parts of others (DTensor, ``fully_shard``): all of one, and the ones that a pass uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor."""
    return hasattr(tensor, "full_tensor")


def here(tensor: Tensor) -> Tensor:
    """What of it is on this rank."""
    found: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return found


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of it; every rank has to ask."""
    found: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return found


@contextmanager
def unsharded(
    model: torch.nn.Module | None,
    parameters: Mapping[str, Tensor],
    noting: Callable[[str], Callable[[Tensor], None]],
) -> Iterator[None]:
    """Hear of gradients where a sharded parameter is put together for a pass: hooks on its shards never fire."""
    if model is None or not any(map(is_sharded, parameters.values())):
        yield
        return
    names = {(module, name): f"{path}.{name}" if path else name
             for path, module in model.named_modules() for name in module._parameters}  # fmt: skip
    known = {id(parameter) for parameter in parameters.values()}
    handles: list[Any] = []

    def look(module: torch.nn.Module, args: Any, output: Any) -> None:
        for name, parameter in module._parameters.items():
            path = names.get((module, name), "")
            if parameter is not None and path in parameters and id(parameter) not in known and torch.is_grad_enabled():
                known.add(id(parameter))
                handles.append(parameter.register_hook(noting(path)))  # type: ignore[no-untyped-call]

    handles.append(torch.nn.modules.module.register_module_forward_hook(look))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
