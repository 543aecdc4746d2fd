"""Samples that loaders repeat to give every rank as many are left out before they are folded.

A folded sample can no longer be taken out of a state of constant size, so the repeats have to go while they are rows.
Which rows they are follows from how ``DistributedSampler`` and accelerate's loaders fill the last batch.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from batchproof.errors import BatchproofError


def update(metric: Any, loader: Any, *values: Any, **named: Any) -> None:
    """Fold the current batch of a loader that accelerate has prepared into a metric, without the rows that it repeats.

    >>> from accelerate import Accelerator                                      # doctest: +SKIP
    >>> from batchproof.integrations import repeats                             # doctest: +SKIP
    >>> loader = Accelerator().prepare(loader)                                  # doctest: +SKIP
    >>> for x, y in loader:                                                     # doctest: +SKIP
    ...     repeats.update(metric, loader, model(x), y)
    >>> metric.sync(n_samples=len(data)).compute()                              # doctest: +SKIP

    Every rank still calls the model for each batch, so that nothing waits for a rank that has none.

    Args:
        metric: What `batchproof.exact` made, or anything else with an ``update``.
        loader: That of the loop.
        values: The arguments of ``metric.update``, with a row for each sample of this rank's batch.
        named: Its keyword arguments.

    Raises:
        BatchproofError: As in `drop_repeats`.
    """
    everything = (*values, *named.values())
    kept = drop_repeats(loader, everything)
    if _rows(kept) > 0:  # a metric refuses an empty batch
        metric.update(*kept[: len(values)], **dict(zip(named, kept[len(values) :], strict=True)))


def drop_repeats(loader: Any, *values: Any) -> Any:
    """Of values with a row for each sample of the current batch, the rows that accelerate has not repeated.

    >>> for x, y in loader:                                                     # doctest: +SKIP
    ...     pred, y = drop_repeats(loader, model(x), y)

    Args:
        loader: That of the loop, as ``Accelerator.prepare`` gave it.
        values: Tensors, arrays or lists with a row for each sample of this rank's batch, or tuples or dicts of such.

    Returns:
        The values, as a tuple where there are several. A rank whose batch is all repeats gets values without rows.

    Raises:
        BatchproofError: The loader is not one of accelerate's, which rows it repeats cannot be known (an iterable
            data set without a length, a batch sampler of your own), or a value has no row for each sample.
    """
    if not _of_accelerate(loader):
        raise BatchproofError(
            f"drop_repeats takes a loader that Accelerator.prepare has made, not {type(loader).__name__}; "
            "of a DataLoader with a DistributedSampler, loop over without_repeats(loader)"
        )
    rows = _rows(values)
    kept = own_rows(loader, rows)
    cut = values if kept == rows else tuple(_first(value, kept, rows) for value in values)
    return cut[0] if len(cut) == 1 else cut


def without_repeats(loader: Any) -> WithoutRepeats:
    """A loader's batches without the samples that it repeats to give every rank as many.

    >>> import torch
    >>> from torch.utils.data import DataLoader
    >>> from torch.utils.data.distributed import DistributedSampler
    >>> from batchproof.integrations.repeats import without_repeats
    >>> data = torch.arange(5)
    >>> def share(rank):
    ...     sampler = DistributedSampler(data, num_replicas=2, rank=rank, shuffle=False)
    ...     return [batch.tolist() for batch in without_repeats(DataLoader(data, batch_size=2, sampler=sampler))]
    >>> share(0), share(1)
    ([[0, 2], [4]], [[1, 3]])

    Ranks may then have different numbers of batches. Where the model itself talks to other ranks as it runs (FSDP, or
    ``DistributedDataParallel`` of a model with buffers), evaluate ``model.module``, or use `drop_repeats`.

    Args:
        loader: A ``DataLoader``, with or without a ``DistributedSampler``, or one that ``Accelerator.prepare`` made.

    Returns:
        What a loop goes over, in every epoch anew.

    Raises:
        BatchproofError: In the loop, where it cannot be known which rows are repeated.
    """
    return WithoutRepeats(loader)


class WithoutRepeats:
    """The batches of a loader, pass after pass, without the samples that it repeats."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        loader, prepared = self.loader, _of_accelerate(self.loader)
        left = 0 if prepared else _own_share(loader)
        for batch in loader:
            rows = _rows(batch)
            kept = own_rows(loader, rows) if prepared else _between(left, rows)
            left -= rows
            if kept == rows:
                yield batch
            elif kept > 0:
                yield _first(batch, kept, rows)


def own_rows(loader: Any, rows: int) -> int:
    """How many of the rows of this rank's current batch are no repeats: those that come first.

    Args:
        loader: of accelerate, in the middle of a pass.
        rows: of the current batch.

    Raises:
        BatchproofError: it cannot be known.
    """
    if not _of_accelerate(loader):
        raise _unknown(f"it is a {type(loader).__name__}, not made by Accelerator.prepare")
    if not loader.end_of_dataloader:
        return rows
    from accelerate import data_loader, state

    ranks, rank = state.PartialState().num_processes, state.PartialState().process_index
    if ranks == 1:
        return rows
    if isinstance_of(loader, data_loader.DataLoaderDispatcher):
        if getattr(loader, "submesh_tp", None) is not None:
            raise _unknown("it sends the same batch to several ranks")
        each = -(-loader.remainder // ranks)  # here the rows of the whole last batch
        return _between(loader.remainder - rank * each, rows)
    if isinstance_of(loader.dataset, data_loader.IterableDatasetShard):
        return _of_stream(loader.dataset, rows)
    sampler = _sharded(loader, data_loader.BatchSamplerShard)
    if sampler is None or not sampler.even_batches or sampler.drop_last:
        return rows
    return _of_shard(sampler, rows)


def _of_shard(sampler: Any, rows: int) -> int:
    """Batches of a map-style data set: the last round of all ranks is filled from the beginning."""
    inner = sampler.batch_sampler
    while type(inner).__name__ == "SkipBatchSampler":
        inner = inner.batch_sampler
    if type(inner) is not torch.utils.data.BatchSampler:
        raise _unknown(f"its batch sampler, a {type(inner).__name__}, may fill batches in a way of its own")
    total = len(inner.sampler)  # type: ignore[arg-type]
    return _of_round(total, sampler, rows)


def _of_stream(shard: Any, rows: int) -> int:
    """Batches of an iterable data set that each rank reads: filled likewise."""
    if shard.drop_last:
        return rows
    try:
        total = len(shard.dataset)
    except TypeError:
        raise _unknown("its data set has no length") from None
    return _of_round(total, shard, rows)


def _of_round(total: int, shard: Any, rows: int) -> int:
    each = shard.batch_size // shard.num_processes if shard.split_batches else shard.batch_size
    in_round = total % (each * shard.num_processes)
    return rows if in_round == 0 else _between(in_round - shard.process_index * each, rows)


def _between(number: int, rows: int) -> int:
    return max(0, min(number, rows))


def _sharded(loader: Any, kind: type) -> Any:
    """The sampler that gives this rank its batches; None where every rank has all of them."""
    found = loader.batch_sampler
    while found is not None and not isinstance(found, kind):
        found = getattr(found, "batch_sampler", None)
    return found


def _own_share(loader: Any) -> int:
    """How many samples come before the repeats, in a DataLoader."""
    if not isinstance(loader, torch.utils.data.DataLoader):
        raise _unknown(f"it is a {type(loader).__name__}")
    sampler: Any = loader.sampler
    kind = torch.utils.data.distributed.DistributedSampler
    if not isinstance(sampler, kind) or sampler.drop_last or sampler.total_size <= len(sampler.dataset):  # type: ignore[arg-type]
        return sys.maxsize
    if type(sampler).__iter__ is not kind.__iter__:
        raise _unknown(f"its sampler, a {type(sampler).__name__}, may fill shares in a way of its own")
    return len(range(sampler.rank, len(sampler.dataset), sampler.num_replicas))  # type: ignore[arg-type]


def _of_accelerate(loader: Any) -> bool:
    module = sys.modules.get("accelerate.data_loader")
    return module is not None and isinstance_of(loader, module.DataLoaderStateMixin)


def isinstance_of(thing: Any, kind: type) -> bool:
    """``isinstance`` by the real class: accelerate's loaders pretend to be those that they wrap."""
    return issubclass(type(thing), kind)


def _unknown(why: str) -> BatchproofError:
    return BatchproofError(f"which samples this loader repeats cannot be known: {why}; use even_batches=False")


def _rows(value: Any) -> int:
    """How many rows the first of the tensors in a value has."""
    found = next((len(leaf) for leaf in _leaves(value)), None)
    if found is None:
        raise BatchproofError("a batch without tensors or arrays: which rows are repeats cannot be told")
    return found


def _leaves(value: Any) -> Iterator[Any]:
    if _is_array(value) and value.ndim:
        yield value
    elif isinstance(value, (tuple, list, Mapping)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(part)


def _first(value: Any, kept: int, rows: int) -> Any:
    """The first rows of everything in a value."""
    if _is_array(value):
        if value.ndim == 0 or len(value) != rows:
            shape = tuple(value.shape)
            raise BatchproofError(f"a value of shape {shape} has no row for each of the batch's {rows} samples")
        return value[:kept]
    if isinstance(value, Mapping):
        changed = {key: _first(part, kept, rows) for key, part in value.items()}
        if type(value) is dict:
            return changed
        twin: Any = copy.copy(value)
        for key, part in changed.items():
            twin[key] = part
        return twin
    if isinstance(value, (tuple, list)):
        if not any(True for _ in _leaves(value)):  # a list of texts
            if len(value) != rows:
                raise BatchproofError(f"a list of {len(value)} has no entry for each of the batch's {rows} samples")
            return value[:kept]
        parts = [_first(part, kept, rows) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if value is None:
        return None
    raise BatchproofError(f"a {type(value).__name__} has no row for each of the batch's {rows} samples")


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return isinstance(value, torch.Tensor) or (numpy is not None and isinstance(value, numpy.ndarray))
