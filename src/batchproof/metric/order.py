"""Whether a function's value depends on the order of its samples: then joining batches end to end is a choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive import Plan
from batchproof.ground.batch import Batch, copied, rebuild
from batchproof.ground.isolation import quiet
from batchproof.ground.tensors import gap

#: Two orders of the same samples give sums that differ by rounding.
ROUNDING, NARROW_ROUNDING = 1e-9, 1e-3
MOST = 64

NOTE = (
    "its value changes with the order of the samples, so that all of them together means batches joined end to end, in "
    "the order that they came in"
)


def noted(plan: Plan, fn: Callable[..., Any], training_rows: Batch) -> Plan:
    """A plan that keeps samples, its reason with a word on their order where that matters."""
    if plan.reason is None or not depends_on_order(fn, training_rows):
        return plan
    return replace(plan, reason=f"{plan.reason}; {NOTE}")


def depends_on_order(fn: Callable[..., Any], call: Batch) -> bool:
    """Whether a function gives another value when samples change places."""
    n = min(call.n, MOST)
    if n < 2:
        return False
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    try:
        values = [value_on(fn, call, rows) for rows in (torch.arange(n), order)]
    except Exception:  # noqa: BLE001 - it has no value on so few samples: nothing is known
        return False
    room = rounding(call)
    pairs = zip(*(pytree.tree_leaves(value) for value in values), strict=False)
    return any(
        not gap(torch.as_tensor(a), torch.as_tensor(b)) <= room
        for a, b in pairs
        if isinstance(a, (torch.Tensor, int, float)) and _is_one(a)
    )


def rounding(call: Batch) -> float:
    """How far two ways to the same value may differ, relatively, on samples of such types."""
    return ROUNDING if all(_is_wide(leaf) for leaf in pytree.tree_leaves(call.columns)) else NARROW_ROUNDING


def _is_one(value: Any) -> bool:
    """Whether a result is no value per sample, which moves with its sample."""
    return not isinstance(value, torch.Tensor) or value.numel() == 1


def _is_wide(leaf: Any) -> bool:
    return not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point() or leaf.dtype is torch.float64


def value_on(fn: Callable[..., Any], call: Batch, rows: torch.Tensor) -> Any:
    """The function's value on some samples of a batch."""
    leaves = [
        copied(leaf) if dim is None else _taken(leaf, dim, rows)
        for leaf, dim in zip(call.leaves, call.layout.dims, strict=True)
    ]
    args, kwargs = rebuild(call.layout, leaves)
    with torch.enable_grad(), quiet(fn):
        value = fn(*args, **kwargs)
    return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, value)


def _taken(leaf: Any, dim: int, rows: torch.Tensor) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().index_select(dim, rows.to(leaf.device))
    if isinstance(leaf, list):
        return copied([leaf[row] for row in rows.tolist()])
    return leaf.take(rows.numpy(), axis=dim)
