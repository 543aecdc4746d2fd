"""Whether padding enters a value: samples that were padded for their batch, tried with less of it.

Batches padded to their own longest sample give one sample more padding or less, as its companions are. Where that
enters the value (a maximum over tokens, a softmax without a mask, ``x[:, :-1]``, which drops padding from one sample
and a real token from another), no call stands for all the samples. Which elements are padding is seen on the samples:
what most of them end with, in all tensors of that length at once, some of them more than once. Data without such ends
is not padded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.ground.batch import Batch, by_shape, join
from batchproof.ground.tensors import gap
from batchproof.metric.order import rounding, value_on

#: How many numbers of places are tried, by which samples of one shape are cut.
MOST = 24


def leaks(fn: Callable[..., Any], rows: Sequence[Batch]) -> tuple[float, float] | None:
    """A value with the padding that samples came with, and with less of it; None where these are alike.

    Args:
        fn: the function.
        rows: single samples, of several shapes.
    """
    groups = by_shape(rows)
    if len(groups) < 2:
        return None
    for places in _lengths(groups):
        padding = _padding(groups, places)
        padded: dict[tuple[int, int], list[Batch]] = {}
        for number, group in enumerate(groups if padding is not None else []):
            for row in group:
                padded.setdefault((number, _run(row, places, padding)), []).append(row)
        for (_, run), some in sorted(padded.items(), key=lambda item: -len(item[1]))[:MOST]:
            whole = join(some)
            found = _difference(fn, whole, _trimmed(whole, places, run)) if run else None
            if found is not None:
                return found
    return None


def _lengths(groups: Sequence[Sequence[Batch]]) -> Iterator[list[tuple[int, int]]]:
    """Dimensions, as (leaf, dimension), whose length differs between shapes, those together that are equally long."""
    found: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    calls = [group[0] for group in groups]
    for number, (leaf, dim) in enumerate(zip(calls[0].leaves, calls[0].layout.dims, strict=True)):
        tensors = [call.leaves[number] for call in calls]
        if dim is None or not all(isinstance(t, torch.Tensor) and t.ndim == leaf.ndim for t in tensors):
            continue
        for d in range(leaf.ndim):
            sizes = tuple(t.shape[d] for t in tensors)
            if d != dim and len(set(sizes)) > 1:
                found.setdefault(sizes, []).append((number, d))
    yield from found.values()


def _ends(row: Batch, places: Sequence[tuple[int, int]]) -> list[Any]:
    """What stands at each place of a sample, from the last one on; by value, of all tensors together."""
    tensors = {number: (row.leaves[number].movedim(d, 0).flip(0), d) for number, d in reversed(places)}
    length = min(len(tensor) for tensor, _ in tensors.values())
    return [
        tuple(tuple(tensor[place].unique().tolist()) for tensor, _ in tensors.values())
        for place in range(length if length == max(len(tensor) for tensor, _ in tensors.values()) else 0)
    ]


def _padding(groups: Sequence[Sequence[Batch]], places: Sequence[tuple[int, int]]) -> Any:
    """What samples are padded with; None if they are not."""
    last: Counter[Any] = Counter()
    again: set[Any] = set()
    for group in groups:
        for row in group:
            ends = _ends(row, places)
            if ends and all(len(values) == 1 for values in ends[0]):
                last[ends[0]] += 1
                again |= {ends[0]} if ends[1:2] == ends[:1] else set()
    likely = [end for end, count in last.most_common(1) if count > 1 and end in again]
    return likely[0] if likely else None


def _run(row: Batch, places: Sequence[tuple[int, int]], padding: Any) -> int:
    """How many places at the end are padding; one is left at least."""
    ends = _ends(row, places)
    run = next((place for place, end in enumerate(ends) if end != padding), len(ends))
    return min(run, len(ends) - 1)


def _trimmed(call: Batch, places: Sequence[tuple[int, int]], by: int) -> Batch:
    leaves = list(call.leaves)
    for number, d in places:
        leaves[number] = leaves[number].narrow(d, 0, leaves[number].shape[d] - by)
    return Batch(call.layout, leaves, call.n)


def _difference(fn: Callable[..., Any], padded: Batch, trimmed: Batch) -> tuple[float, float] | None:
    everything = torch.arange(padded.n)
    try:
        values = [pytree.tree_leaves(value_on(fn, call, everything)) for call in (padded, trimmed)]
    except Exception:  # noqa: BLE001 - it has no value on so few samples, or so short ones: nothing is known
        return None
    for a, b in zip(*values, strict=False):
        if not isinstance(a, (torch.Tensor, int, float)) or not isinstance(b, (torch.Tensor, int, float)):
            continue
        mine, theirs = torch.as_tensor(a).detach(), torch.as_tensor(b).detach()
        if mine.shape != theirs.shape or not bool((mine.isfinite() & theirs.isfinite()).all()):
            continue
        if not gap(mine, theirs) <= rounding(padded):
            place = int((mine - theirs).abs().reshape(-1).argmax())
            return float(mine.reshape(-1)[place].real), float(theirs.reshape(-1)[place].real)
    return None
