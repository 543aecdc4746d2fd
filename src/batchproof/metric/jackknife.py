"""An error bar for any metric, from merged states: leave out one group of batches at a time.

No samples are kept. With groups of different sizes m_j of n samples this is the delete-m_j jackknife of Busing, Meijer
and van der Leeden, "Delete-m jackknife for unequal m", Statistics and Computing 9 (1999) 3-8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError


def standard_error(value: Callable[[Sequence[int]], Any], counts: Sequence[int]) -> Any:
    """The standard error of a value.

    Args:
        value: the value on the samples of the given groups.
        counts: the number of samples of each group.

    Raises:
        BatchproofError: fewer than two groups have samples.
    """
    filled = [group for group, count in enumerate(counts) if count]
    if len(filled) < 2:
        raise BatchproofError(
            f"a standard error needs at least two batches, folded in one after the other; this metric has {len(filled)}"
        )
    whole, tree = pytree.tree_flatten(value(filled))
    left_out = [pytree.tree_leaves(value([g for g in filled if g != group])) for group in filled]
    sizes = torch.tensor([counts[group] for group in filled])
    errors = []
    for position, total in enumerate(whole):
        deleted = torch.stack([torch.as_tensor(row[position]).double() for row in left_out])
        error = delete_group_errors(torch.as_tensor(total).double()[None], deleted[None], sizes[None])[0]
        errors.append(error if isinstance(total, torch.Tensor) else float(error))
    return pytree.tree_unflatten(errors, tree)


def delete_group_errors(whole: Tensor, deleted: Tensor, counts: Tensor) -> Tensor:
    """The standard errors of several values, each by its own groups.

    Args:
        whole: the values, of shape (values, ...), in float64.
        deleted: what each is without each of its groups, (values, groups, ...).
        counts: the numbers of samples of the groups, (values, groups); a group of none is left out of account.
    """
    shape = [*counts.shape, *[1] * (whole.ndim - 1)]
    counts = counts.to(whole.device).double().reshape(shape)
    filled = counts > 0
    groups = filled.sum(1)
    shares = counts.sum(1, keepdim=True) / counts.clamp(min=1)
    theta = whole[:, None]
    pseudo = shares * theta - (shares - 1) * deleted
    centre = groups * whole - torch.where(filled, (1 - 1 / shares) * deleted, 0).sum(1)
    squares = torch.where(filled, (pseudo - centre[:, None]) ** 2 / (shares - 1), 0)
    return (squares.sum(1) / groups).sqrt()
