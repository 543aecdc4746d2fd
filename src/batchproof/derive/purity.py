"""The function as it is: its own value on a batch, and whether it is a function at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.merge import ROWS
from batchproof.derive.plan import Leaf, SamplesPlan, Verified
from batchproof.derive.program import Program
from batchproof.derive.record import Watch, uncompiled
from batchproof.derive.samples import TensorBatch
from batchproof.derive.site import CallSite
from batchproof.errors import BatchproofError
from batchproof.ground.tensors import gap


class OwnError(Exception):
    """The function itself raises on these samples; its error is the cause."""


def plain_call(fn: Callable[..., Any], batch: TensorBatch) -> tuple[Any, Watch]:
    """The function's own result on the batch, and what was seen of it.

    It is called twice: it must be a function.
    """
    state = torch.get_rng_state()
    inputs = [t.detach().clone() for t in batch.tensors]
    with torch.enable_grad():
        try:
            first = fn(*inputs)
        except Exception as error:
            raise OwnError from error
        if not torch.equal(state, torch.get_rng_state()):
            torch.set_rng_state(state)
            raise BatchproofError("the function is random: it draws from torch's generator; no value can be exact")
        inputs = [t.detach().clone() for t in batch.tensors]
        try:
            with uncompiled(), Watch(inputs) as watch:
                second = fn(*inputs)
        except Exception as error:  # a decomposition of samples with infinities may converge once and not again
            raise OwnError from error
    a, b = pytree.tree_leaves(first), pytree.tree_leaves(second)
    if len(a) != len(b) or any(_differs(x, y) for x, y in zip(a, b, strict=False)):
        raise BatchproofError("two calls on the same batch give different values: it is random or keeps a state")
    return pytree.tree_map(lambda x: x.detach() if isinstance(x, torch.Tensor) else x, first), watch


def _differs(x: Any, y: Any) -> bool:
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return not gap(x.detach(), y.detach()) <= 1e-6
    if isinstance(x, float) and isinstance(y, float):
        return not (x == y or (x != x and y != y))
    return False


def keep_inputs(batch: TensorBatch, reason: str, program: Program | None = None) -> SamplesPlan:
    """The plan that keeps the samples and calls the function on all of them."""
    kept = [
        Leaf(ROWS, _row_shape(t, d), t.dtype, t.nbytes // max(t.shape[d], 1), 1, CallSite(), "samples", d)
        for t, d in zip(batch.tensors, batch.dims, strict=True)
        if d is not None
    ]
    return SamplesPlan(tuple(kept), reason, program, Verified(0, 0.0))


def _row_shape(t: torch.Tensor, d: int) -> tuple[int, ...]:
    return tuple(size for k, size in enumerate(t.shape) if k != d)
