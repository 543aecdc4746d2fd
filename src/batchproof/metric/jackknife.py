"""An error bar for any metric, from merged states: leave out one group of batches at a time.

No samples are kept. With groups of different sizes m_j of n samples this is the delete-m_j jackknife of Busing, Meijer
and van der Leeden, "Delete-m jackknife for unequal m", Statistics and Computing 9 (1999) 3-8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
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
    n = sum(counts)
    whole, tree = pytree.tree_flatten(value(filled))
    left_out = [pytree.tree_leaves(value([g for g in filled if g != group])) for group in filled]
    errors = []
    for position, total in enumerate(whole):
        theta = torch.as_tensor(total).double()
        deleted = torch.stack([torch.as_tensor(row[position]).double() for row in left_out])
        shares = torch.tensor([n / counts[group] for group in filled], dtype=torch.float64)
        shares = shares.reshape([-1] + [1] * theta.ndim).to(theta.device)
        pseudo = shares * theta - (shares - 1) * deleted
        centre = len(filled) * theta - ((1 - 1 / shares) * deleted).sum(0)
        error = (((pseudo - centre) ** 2) / (shares - 1)).mean(0).sqrt()
        errors.append(error if isinstance(total, torch.Tensor) else float(error))
    return pytree.tree_unflatten(errors, tree)
