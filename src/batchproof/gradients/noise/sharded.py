"""Models of which each rank holds a part: their gradients come from a backward pass, which puts the parts together.

`fully_shard` and tensor parallelism keep parameters as ``DTensor``.  A backward pass averages over ranks what each rank
brings, so all ranks are to bring the same samples.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from batchproof.errors import BatchproofError


def is_sharded(parameters: Sequence[Tensor]) -> bool:
    """Whether each rank holds a part of some of these."""
    return any(map(_is_part, parameters))


def prepare(model: nn.Module) -> None:
    """A model's parameters as each rank has a part of them: after a forward pass alone some are whole.

    Raises:
        BatchproofError: parts cannot be told from whole parameters.
    """
    wrapper = next((m for m in model.modules() if type(m).__name__ == "FullyShardedDataParallel"), None)
    partitioned = any(hasattr(parameter, "ds_id") for parameter in model.parameters())
    if wrapper is not None or partitioned:
        what = "FullyShardedDataParallel" if wrapper is not None else "DeepSpeed's ZeRO-3"
        raise BatchproofError(
            f"the model is sharded by {what}, and each rank sees a part of its gradient: measure it unwrapped, or with "
            "fully_shard"
        )
    for module in model.modules():
        if callable(reshard := getattr(module, "reshard", None)) and type(module).__name__.startswith("FSDP"):
            reshard()


def gradient_of(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The whole gradient on every rank; what was in ``.grad`` is there again afterwards.

    Raises:
        BatchproofError: no parameter is in the loss.
    """
    kept = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        torch.autograd.backward([loss])
        found = [parameter.grad for parameter in parameters]
    finally:
        for parameter, old in zip(parameters, kept, strict=True):
            parameter.grad = old
    if all(grad is None for grad in found):
        raise BatchproofError("the loss has no gradient: no trainable parameter of the model is in it")
    return [_whole(torch.zeros_like(p) if g is None else g) for p, g in zip(parameters, found, strict=True)]


def check_alike(loss: Any) -> None:
    """Raise BatchproofError where ranks have other samples: their average would be taken for one rank's gradient."""
    losses: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(losses, float(_whole(loss.detach())))
    if max(losses) - min(losses) > 1e-3 * max(map(abs, losses)) or any(map(math.isnan, losses)):
        raise BatchproofError(
            f"the model is sharded, and the ranks have other samples (their losses are from {min(losses):.4g} to "
            f"{max(losses):.4g}): give every rank the same data"
        )


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if _is_part(tensor) else tensor  # type: ignore[attr-defined]


def _is_part(tensor: Tensor) -> bool:
    module = sys.modules.get(
        "torch.distributed.tensor"
    )  # whoever has such a tensor has imported it, which takes a second
    return module is not None and isinstance(tensor, module.DTensor)
