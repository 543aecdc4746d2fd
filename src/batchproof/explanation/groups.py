"""Samples that belong together: eight answers to one question, pairs of chosen and rejected, side by side or in halves.

Such a function fails, or has no value, on batches that tear a group apart.  Its sample is the group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from batchproof.explanation.samples import Grouping, Samples
from batchproof.ground import components
from batchproof.ground.isolation import seed_all
from batchproof.ground.tensors import close

#: Batches of so many samples are tried, so a group has at most half of them.
LARGEST = 64


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
    size = _period(lambda count: value(samples.first(count)) is not None, min(samples.n, LARGEST))
    if size is None:
        return None
    whole = value(samples.first(samples.n // size * size))
    for grouping in (Grouping(size), Grouping(size, in_blocks=True)):
        groups = samples.grouped(grouping)
        mixed = value(groups.shuffled(seed))
        if whole is not None and mixed is not None and close(mixed, whole, tolerance, tolerance):
            return grouping
    return None


def _period(works: Callable[[int], bool], most: int) -> int | None:
    """The least size that works, where its multiples do, too, and most others do not.

    (Two thirds of a pair broadcast by luck: three samples are two against one.)
    """
    size = next((count for count in range(2, most // 2 + 1) if works(count)), None)
    if size is None or not all(works(size * times) for times in range(2, min(4, most // size) + 1)):
        return None
    torn = [count for count in range(size + 1, min(4 * size, most)) if count % size]
    failing = sum(not works(count) for count in _spread(torn))
    return size if 2 * failing > len(_spread(torn)) else None


def _spread(counts: Sequence[int]) -> Sequence[int]:
    """A few of them, from all over."""
    return counts[:: max(1, len(counts) // 8)]
