"""The factor of each micro-batch with which a loss's values, and gradients, add up to those of all samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.explanation import Positions, Samples, find_positions, gather, share_of, slope_measure, together
from batchproof.gradients.partitions.arguments import arguments_of
from batchproof.gradients.partitions.normalisers import Normaliser, Normalisers, check_normalisers
from batchproof.ground.batch import check_batch_dim
from batchproof.ground.isolation import muted, preserved, quiet


def micro_batch_weights(
    loss_fn: Callable[..., Any],
    micro_batches: Sequence[Any],
    *,
    normalisers: Mapping[str, Normaliser] | None = None,
    padding: Mapping[str, float] | None = None,
    batch_dim: int | Sequence[int | None] | Mapping[str, int | None] = 0,
    seed: int = 0,
    **keywords: Any,
) -> list[Any]:
    """The factor of each micro-batch for which ``factor * loss`` adds up to the loss, and its gradient, on all of them.

    >>> import batchproof, torch
    >>> def token_mean(losses, mask):
    ...     return (losses * mask).sum() / mask.sum()
    >>> mask = (torch.arange(6) < torch.tensor([[2], [6], [3], [5]])).float()
    >>> losses = torch.randn(4, 6)
    >>> parts = list(zip(losses.split(2), mask.split(2)))
    >>> batchproof.micro_batch_weights(token_mean, parts)       # tokens: 8 and 8 of 16
    [0.5, 0.5]
    >>> parts = list(zip(losses.split([1, 3]), mask.split([1, 3])))
    >>> batchproof.micro_batch_weights(token_mean, parts)
    [0.125, 0.875]

    They are measured, whatever the loss counts: a micro-batch's gradient is held against the one of all samples.  With
    DDP or FSDP, which average over ranks, multiply them by the number of ranks.

    Args:
        loss_fn: As `check_partitions` takes it.
        micro_batches: Batches, as `check_partitions` takes one; or for each rank a list of batches.  Samples may be
            padded to another length in each.
        normalisers: As `check_partitions` takes them.
        padding: As `check_partitions` takes it.
        batch_dim: As `explain` takes it.
        seed: Set before every call.
        keywords: Further arguments of the loss.

    Returns:
        A factor for each micro-batch, up to rounding; a list of them for each rank, where lists were given.

    Raises:
        BatchproofError: No factors give the loss on all samples: what a sample contributes depends on which others
            share its micro-batch.
    """
    check_normalisers(normalisers or {})
    by_rank = bool(micro_batches) and all(
        isinstance(rank, list) and rank and _is_batch(rank[0]) for rank in micro_batches
    )
    ranks: list[Sequence[Any]] = [*micro_batches] if by_rank else [micro_batches]
    if not any(map(len, ranks)):
        raise BatchproofError("there is no micro-batch")
    with preserved(loss_fn), quiet(loss_fn), muted():
        found = _weights(loss_fn, ranks, normalisers or {}, padding, batch_dim, seed, keywords)
    return found if by_rank else found[0]


def _is_batch(thing: Any) -> bool:
    return isinstance(thing, (Tensor, tuple, list, Mapping))


def _weights(
    loss_fn: Callable[..., Any],
    ranks: Sequence[Sequence[Any]],
    given: Mapping[str, Normaliser],
    padding: Mapping[str, float] | None,
    batch_dim: Any,
    seed: int,
    keywords: dict[str, Any],
) -> list[list[float]]:
    taken = [*given, *keywords]
    parts, of_batch = [], None
    for rank in ranks:
        for batch in rank:
            args, kwargs, of_batch = arguments_of(loss_fn, batch, taken)
            parts.append(gather(loss_fn, args, kwargs, check_batch_dim(batch_dim), tried=False))
    assert of_batch is not None
    positions = find_positions(max(parts, key=_widest), padding)
    widths = [0 if positions is None else _width(part, positions) for part in parts]
    joined = together([part if positions is None else _widened(part, positions, max(widths)) for part in parts])
    joined = replace(joined, fixed={**joined.fixed, **keywords})
    positions = None if positions is None else find_positions(joined, padding)
    normalisers = Normalisers(given, of_batch, positions, joined.n)
    measure = slope_measure(partial(loss_fn, **normalisers.values(joined, joined)), joined, positions, seed)
    base = measure.samples
    whole = measure.at(partial(loss_fn, **normalisers.values(base, base)), base)
    if not whole.is_finite or not whole.norm:
        raise BatchproofError("the loss on all samples has no gradient by what it is called with, or it is not finite")
    found: list[list[float]] = []
    start = number = 0
    for rank in ranks:
        lengths = [part.n for part in parts[number : number + len(rank)]]
        own = base.cut(start, start + sum(lengths))
        values = normalisers.values(base, own, len(ranks), len(rank))
        found.append([])
        for length in lengths:
            piece = base.cut(start, start + length)
            if positions is not None:
                piece = _narrowed(piece, positions, widths[number])
            rows = range(start, start + length)
            share = share_of(measure, whole, measure.at(partial(loss_fn, **values), piece), rows)
            if share is None:
                raise BatchproofError(
                    f"no factors give the loss on all samples: in micro-batch {number + 1} of {len(parts)} what a "
                    "sample contributes depends on which others are in it. batchproof.accumulate gives the gradient"
                )
            found[-1].append(float(f"{share:.12g}"))  # without what double precision leaves
            start, number = start + length, number + 1
    return found


def _widest(samples: Samples) -> int:
    """A micro-batch of samples of one position does not look padded; a longer one does."""
    return max((leaf.shape[1] for leaf in samples.leaves if isinstance(leaf, Tensor) and leaf.ndim > 1), default=0)


def _width(samples: Samples, positions: Positions) -> int:
    return int(samples.leaves[positions.at[0]].shape[1])


def _widened(samples: Samples, positions: Positions, width: int) -> Samples:
    more = width - _width(samples, positions)
    return positions.lengthened(samples, more, seed=0) if more else samples


def _narrowed(samples: Samples, positions: Positions, width: int) -> Samples:
    leaves = list(samples.leaves)
    for leaf in positions.at:
        leaves[leaf] = leaves[leaf].narrow(1, 0, width)
    return replace(samples, leaves=tuple(leaves))
