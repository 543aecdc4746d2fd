"""Samples that belong together: eight answers to one question, pairs of chosen and rejected, side by side or in halves.

Such a function fails, or has no value, on batches that tear a group apart.  Its sample is the group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from batchproof.derive import least_group
from batchproof.errors import BatchproofError
from batchproof.explanation.samples import Grouping, Samples
from batchproof.ground import components
from batchproof.ground.isolation import seed_all
from batchproof.ground.tensors import close

#: Batches of up to this many samples are tried, of at least so many groups.
MOST, FEWEST = 64, 2


#: The rows of each group.
Units = Sequence[Sequence[int]]


def units_of(groups: Any, n: int) -> Units | None:
    """The rows of each group, from the group that each sample belongs to; in the order in which they appear.

    Args:
        groups: one number or name for each sample: a tensor, an array, a list; None where there are none.
        n: how many samples there are.

    Raises:
        BatchproofError: it is not one for each sample.
    """
    if groups is None:
        return None
    names = groups.tolist() if hasattr(groups, "tolist") else list(groups)
    if len(names) != n or any(isinstance(name, list) for name in names):
        raise BatchproofError(
            f"groups names the group of each sample: expected {n} of them, and there are {len(names)}"
        )
    found: dict[Any, list[int]] = {}
    for row, name in enumerate(names):
        found.setdefault(name, []).append(row)
    return list(found.values())


def given_groups(samples: Samples, groups: Any) -> tuple[Samples, Grouping]:
    """The samples with those of a group side by side, unless they lie in equal parts of the batch, and how they lie.

    Raises:
        BatchproofError: groups of several sizes; or fewer than two.
    """
    units = units_of(groups, samples.n) or []
    sizes = sorted({len(unit) for unit in units})
    if len(sizes) > 1:
        raise BatchproofError(
            f"groups have from {sizes[0]} to {sizes[-1]} samples: explain takes groups of one size, and "
            "check_partitions any"
        )
    if len(units) < 2 or not samples.can_be_grouped:
        raise BatchproofError("groups need at least two of them, of samples in tensors")
    in_blocks = Grouping(sizes[0], in_blocks=True)
    if sizes[0] > 1 and [list(unit) for unit in units] == units_in(in_blocks, samples.n):
        return samples, in_blocks
    return samples.reorder(torch.tensor([row for unit in units for row in unit])), Grouping(sizes[0])


def units_in(grouping: Grouping, n: int) -> list[list[int]]:
    """The rows of each group, of so many samples."""
    count = n // grouping.size
    step, between = (count, 1) if grouping.in_blocks else (1, grouping.size)
    return [[between * group + step * member for member in range(grouping.size)] for group in range(count)]


def find_groups(target: Callable[..., Any], samples: Samples, seed: int, tolerance: float) -> Grouping | None:
    """How samples must stay together for the function to have a value; None where each stands alone.

    Args:
        target: the function.
        samples: to call it with.
        seed: before each call, and for an order of groups.
        tolerance: relative difference below which two values are the same.
    """

    def value(some: Samples) -> torch.Tensor | None:
        seed_all(seed)
        args, kwargs = some.all()
        try:
            found = components.values(target(*args, **kwargs))
        except Exception:  # noqa: BLE001 - it fails on a torn group: that is what is looked for
            return None
        return found if bool(found.isfinite().all()) else None

    if samples.n < 4 or not samples.can_be_grouped or value(samples.first(1)) is not None:
        return None
    size = least_group(lambda count: value(samples.first(count)) is not None, min(samples.n, MOST), FEWEST)
    if size is None:
        return None
    whole = value(samples.first(samples.n // size * size))
    for grouping in (Grouping(size), Grouping(size, in_blocks=True)):
        groups = samples.grouped(grouping)
        mixed = value(groups.shuffled(seed))
        if whole is not None and mixed is not None and close(mixed, whole, tolerance, tolerance):
            return grouping
    return None
