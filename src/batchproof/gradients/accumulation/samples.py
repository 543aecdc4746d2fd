"""The samples that a loss is learned from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from batchproof.derive import FEWEST_LARGE, LARGE_ROW, TensorBatch, few
from batchproof.gradients.accumulation.outputs import size_of
from batchproof.ground.batch import Batch, by_shape, join, tensors_of

#: Samples to learn from; fewer will do where they are large, since no more are looked at.
ENOUGH = 32


def enough(*calls: Batch) -> bool:
    """Whether these samples suffice to learn from, once they are put together."""
    n, size = sum(call.n for call in calls), sum(size_of(call) for call in calls)
    return n >= ENOUGH or (n >= FEWEST_LARGE and size >= LARGE_ROW * n)


def joinable(calls: Sequence[Batch]) -> bool:
    """Whether outputs can be put together as they are: all samples have one shape."""
    return len(by_shape(calls)) == 1


def training_rows_of(calls: Sequence[Batch]) -> Batch:
    """Outputs of several micro-batches as one batch.

    Where their samples have different shapes (sequences padded to different lengths) those of one shape are taken, if
    there are enough of them; otherwise the longer half is cut to one length.
    """
    groups = by_shape(calls)
    largest = join(groups[0])
    if len(groups) == 1 or enough(largest) or len({_kind(call) for call in calls}) > 1:
        return largest
    longer = sorted(calls, key=lambda call: size_of(call) / call.n, reverse=True)[: (len(calls) + 1) // 2]
    cut = join(_cut(longer))
    return cut if cut.n > largest.n else largest


def _kind(call: Batch) -> tuple[Any, ...]:
    """What must be alike for samples of different shapes to be cut to one."""
    tensors = [(leaf.dtype, leaf.device, leaf.ndim) if isinstance(leaf, Tensor) else repr(leaf) for leaf in call.leaves]
    return call.layout, tuple(tensors)


def _cut(calls: Sequence[Batch]) -> list[Batch]:
    """Each dimension cut to the shortest, but for that of the samples."""
    cut = [list(call.leaves) for call in calls]
    for place, dim in enumerate(calls[0].layout.dims):
        if dim is None or not isinstance(calls[0].leaves[place], Tensor):
            continue
        for d in range(calls[0].leaves[place].ndim):
            if d != dim:
                shortest = min(leaves[place].shape[d] for leaves in cut)
                for leaves in cut:
                    leaves[place] = leaves[place].narrow(d, 0, shortest)
    return [Batch(call.layout, leaves, call.n) for call, leaves in zip(calls, cut, strict=True)]


def few_of(training_rows: Batch) -> Batch:
    """As many samples as are worth looking at."""
    tensors, dims = tensors_of(training_rows)
    return with_tensors(training_rows, few(TensorBatch(tensors, dims)))


def pieces_of(training_rows: Batch) -> list[Batch]:
    """Parts of unequal size."""
    batch = TensorBatch(*tensors_of(training_rows))
    first, second = max(1, batch.n // 5), max(1, batch.n // 3)
    sizes = [size for size in (first, second, batch.n - first - second) if size > 0]
    return [with_tensors(training_rows, part) for part in batch.split(sizes)]


def with_tensors(call: Batch, batch: TensorBatch) -> Batch:
    """A call with other tensors."""
    taken = iter(batch.tensors)
    return Batch(call.layout, [next(taken) if isinstance(leaf, Tensor) else leaf for leaf in call.leaves], batch.n)
