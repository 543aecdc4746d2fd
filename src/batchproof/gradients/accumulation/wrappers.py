"""Wrappers that send gradients from rank to rank in the backward pass: told by what they leave behind, not by name.

A wrapper that is found from outside forward is switched off meanwhile (`Ranks.alone`) or refused. Where only outputs
are seen, parameters at the ends of their graph tell of some wrappers; of all others the gradient that they make: it is
another one than what has flowed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.sharding import here, is_sharded, managed

#: Numbers of each gradient that are held against what flowed in, and by what share of their size they may differ:
#: by rounding, where a graph is gone back through in parts (checkpointing) and their order is another one.
LOOKED_AT = 64
ROUNDING = {torch.half: 2e-2, torch.bfloat16: 2e-2}
NARROW_ROUNDING = 1e-4
#: Composable wrappers of torch: they leave the class of a module as it is, and note on it that they were there.
COMPOSABLE = ("replicate",)

SENDS = (
    "{} sends gradients between ranks as they are made, so those of micro-batches cannot be put together at the end: "
    "take the plain model, a DistributedDataParallel or a fully_shard one in accumulate, or the plain model with "
    "group=; with an Accumulator pass group=, and run a DistributedDataParallel model under its no_sync()"
)


def refuse_wrapped(modules: Sequence[torch.nn.Module]) -> None:
    """Raise BatchproofError where a module's gradients are sent by another wrapper than DistributedDataParallel."""
    if not _in_use():
        return
    for module in modules:
        for name in COMPOSABLE:
            if name in _registry(module):
                raise BatchproofError(SENDS.format(f"{name}({type(module).__name__})"))
    refuse_shards(
        [parameter for module in modules for parameter in module._parameters.values() if parameter is not None]
    )


def refuse_shards(parameters: Sequence[Tensor]) -> None:
    """Raise BatchproofError where parameters are put together of shards for a pass, and of which is not known."""
    if not _in_use():
        return
    known: set[Tensor] | None = None
    for parameter in parameters:
        if is_sharded(parameter):
            continue
        if known is None:
            known = {own for module in managed() for own in module.parameters()}
        freed = parameter.numel() > 0 and parameter.untyped_storage().size() == 0
        if freed or parameter in known or getattr(parameter, "_fsdp_flattened", False):
            shape = tuple(parameter.shape)
            raise BatchproofError(SENDS.format(f"what shards a parameter of shape {shape} over ranks"))


@contextmanager
def undisturbed(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Around the first backward pass to some parameters.

    Raises:
        BatchproofError: what is in ``.grad`` is another gradient than the one that flowed there.
    """
    if not _in_use():
        yield
        return
    # a parameter that the loss uses by itself, too, has some gradient already
    flowed = {parameter: _some(parameter.grad) for parameter in parameters if parameter.grad is not None}
    handles = [parameter.register_hook(partial(_note, flowed, parameter)) for parameter in parameters]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    off = [_differs(parameter.grad, then) for parameter, then in flowed.items()]
    if off and bool(torch.stack(off).any()):
        raise BatchproofError(SENDS.format("what wraps the model"))


def _note(flowed: dict[Tensor, Tensor], parameter: Tensor, grad: Tensor) -> None:
    numbers = _some(grad)
    flowed[parameter] = flowed[parameter] + numbers if parameter in flowed else numbers


def _some(grad: Tensor) -> Tensor:
    """A few numbers of a gradient, far apart, as a copy."""
    grad = here(grad.detach())
    if grad.is_sparse:
        return torch.sparse.sum(grad).reshape(1)
    return grad.reshape(-1)[:: max(1, grad.numel() // LOOKED_AT)].clone()


def _differs(grad: Tensor | None, then: Tensor) -> Tensor:
    if grad is None or _some(grad).shape != then.shape:
        return torch.ones((), dtype=torch.bool)
    now, then = _some(grad).nan_to_num(), then.nan_to_num()
    room = ROUNDING.get(then.dtype, NARROW_ROUNDING)
    return ((now - then).abs().sum() > room * then.abs().sum()).cpu()


def _in_use() -> bool:
    return dist.is_available() and dist.is_initialized()


def _registry(module: torch.nn.Module) -> Any:
    from torch.distributed._composable.contract import _get_registry

    return _get_registry(module) or ()
