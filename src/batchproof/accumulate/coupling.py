"""Refuse a model that makes a sample's output depend on the other samples: then no micro-batches give the gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from batchproof.errors import BatchproofError


def refuse_coupling(outputs: Iterable[Tensor], modules: Sequence[torch.nn.Module]) -> None:
    """Raise BatchproofError where outputs were normalised by their own batch.

    The graph knows that eager code did so; of what was compiled, the modules in training mode are asked.
    """
    found = _batch_norms(outputs)
    if not found:
        return
    parts = [pair for module in modules for pair in module.named_modules()]
    names = [(name, module) for name, module in parts if _uses_batch(module)]
    if "CompiledFunctionBackward" in found and not names and len(found) == 1:
        return
    which = f"{names[0][0]} ({type(names[0][1]).__name__})" if names else "an operation batch_norm"
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    raise BatchproofError(
        f"{which}{others} normalises samples by their batch, so micro-batches cannot give the whole batch's gradient: "
        "put it in eval mode, use GroupNorm or LayerNorm, or pass allow_coupling=True for the gradient of the "
        "micro-batches as they are normalised"
    )


def _batch_norms(outputs: Iterable[Tensor]) -> set[str]:
    """The kinds of nodes in a graph that couple samples, or may."""
    seen: set[object] = set()
    todo: list[object] = [output.grad_fn for output in outputs if output.grad_fn is not None]
    found = set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        kind = type(node).__name__
        trains = getattr(node, "_saved_training", True) if "BatchNorm" in kind else kind == "CompiledFunctionBackward"
        if trains:
            found.add(kind)
        todo += [parent for parent, _ in node.next_functions if parent is not None]  # type: ignore[attr-defined]
    return found


def _uses_batch(module: torch.nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
