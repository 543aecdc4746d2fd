"""Samples that stand side by side in whole groups: eight answers to one question, a chosen and a rejected one.

On a batch that tears a group apart such a function raises. So each group is taken as one sample, which has one more
dimension; the plan for these folds batches of whole groups.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive import pipeline
from batchproof.derive.evaluate import is_numeric
from batchproof.derive.pipeline import derive
from batchproof.derive.plan import StatePlan, in_groups
from batchproof.derive.samples import TensorBatch
from batchproof.errors import BatchproofError

#: Groups of up to this many samples are looked for.
LARGEST = 32
#: Fewer groups show nothing.
FEWEST = 4

Function = Callable[..., Any]


@dataclass(frozen=True)
class OfGroups:
    """A function of samples, as one of groups of them."""

    fn: Function
    dims: tuple[int | None, ...]

    def __call__(self, *tensors: torch.Tensor) -> Any:
        return self.fn(*(t if d is None else t.flatten(d, d + 1) for t, d in zip(tensors, self.dims, strict=True)))


def derive_groups(fn: Function, tensors: Sequence[torch.Tensor], dims: Sequence[int | None]) -> StatePlan | None:
    """The plan of a function that takes whole groups of samples; None where it takes others, or has no small state.

    Args:
        fn: called as ``fn(*tensors)``.
        tensors: a batch to learn from.
        dims: as `derive` takes them.
    """
    batch = TensorBatch(list(tensors), tuple(dims))
    size = group_size(fn, batch)
    if size is None:
        return None
    whole = batch.take(torch.arange(batch.n // size * size))
    try:
        plan = derive(OfGroups(fn, whole.dims), in_groups(whole.tensors, whole.dims, size), whole.dims)
    except BatchproofError:
        return None
    return plan.of_groups(size) if isinstance(plan, StatePlan) and plan.is_constant_size else None


def group_size(fn: Function, batch: TensorBatch) -> int | None:
    """The number of samples of which most multiples have a value, and most other numbers have none."""

    def works(count: int) -> bool:
        try:
            with warnings.catch_warnings():  # of so few samples many functions warn
                warnings.simplefilter("ignore")
                found = fn(*(t.clone() for t in batch.take(torch.arange(count)).tensors))
        except Exception:  # noqa: BLE001 - it fails on a torn group: that is what is looked for
            return False
        numbers = [torch.as_tensor(leaf) for leaf in pytree.tree_leaves(found) if is_numeric(leaf)]
        return any(bool(number.isfinite().all()) for number in numbers)

    return None if works(1) else least_group(works, min(batch.n, FEWEST * LARGEST), FEWEST)


def least_group(works: Callable[[int], bool], most: int, fewest: int) -> int | None:
    """The number of samples of which the multiples have a value, and most other numbers have none.

    Args:
        works: whether so many samples have a value.
        most: samples to try.
        fewest: groups that these must hold.
    """
    least = next((count for count in range(2, most // fewest + 1) if works(count)), None)
    if least is None:
        return None
    multiples = range(2 * least, min(FEWEST, most // least) * least + 1, least)
    if not all(map(works, multiples)):
        return None
    # one group may be too few: a variance of the groups has no value on it
    divisors = (d for d in range(2, least) if least % d == 0)
    size = next((d for d in divisors if all(map(works, range(least + d, multiples.stop, d)))), least)
    # two thirds of a pair broadcast by luck: most torn batches must fail, and need not all
    torn = [count for count in range(least + 1, min(FEWEST * least, most)) if count % size]
    tried = torn[:: max(1, len(torn) // 8)]
    return size if 2 * sum(not works(count) for count in tried) > len(tried) else None


def like(plan: StatePlan, fn: Function, tensors: Sequence[torch.Tensor], dims: Sequence[int | None]) -> StatePlan:
    """The plan for samples, or groups of them, of another shape, with the same state as a plan that exists.

    Raises:
        BatchproofError: on such samples the function has another state.
    """
    size = plan.group
    if size == 1:
        return pipeline.like(plan, fn, tensors, dims)
    batch = TensorBatch(list(tensors), tuple(dims))
    whole = batch.take(torch.arange(max(size, batch.n // size * size)) % batch.n)
    fn = OfGroups(fn.fn if isinstance(fn, OfGroups) else fn, whole.dims)
    found = pipeline.like(plan.by_groups(), fn, in_groups(whole.tensors, whole.dims, size), whole.dims)
    return found.of_groups(size)
