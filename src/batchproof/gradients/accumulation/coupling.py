"""Refuse a model that makes a sample's output depend on the other samples: then no micro-batches give the gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.nn.modules.batchnorm import _BatchNorm

from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.grad_store import nodes_of
from batchproof.gradients.accumulation.replay import Replay


def refuse_coupling(outputs: Iterable[Tensor], modules: Sequence[torch.nn.Module], replay: Replay) -> None:
    """Raise BatchproofError where outputs were normalised by their own batch.

    The graph knows that eager code did so. Of what was compiled or checkpointed, the modules in training mode are
    asked; and those whose parameters are frozen, which no graph shows, whether they have counted a batch.
    """
    nodes = [_normalises(node) for node in nodes_of(outputs)]
    parts = [pair for module in modules for pair in module.named_modules() if _uses_batch(pair[1])]
    ran = [(name, part) for name, part in parts if replay.counted(part)]
    names = ran or (parts if any(nodes) or None in nodes else [])
    if not names and not any(nodes):
        return
    which = f"{names[0][0]} ({type(names[0][1]).__name__})" if names else "an operation batch_norm"
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    raise BatchproofError(
        f"{which}{others} normalises samples by their batch, so micro-batches cannot give the whole batch's gradient: "
        "put it in eval mode, use GroupNorm or LayerNorm, or pass allow_coupling=True for the gradient of the "
        "micro-batches as they are normalised"
    )


def _normalises(node: Any) -> bool | None:
    """Whether a node of a graph couples samples; None where it does not show what it is made of."""
    if "BatchNorm" not in type(node).__name__:
        return None if isinstance(node, BackwardCFunction) else False
    one = node._input_metadata[0].shape[0] == 1  # so InstanceNorm shows: all samples as the channels of one
    return bool(getattr(node, "_saved_training", True)) and not one


def _uses_batch(module: torch.nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
