"""Which aggregation a loss is: a token mean, a mean of each sequence's means or sums, a mean over prompts.

Nothing is read from the code.  The loss is taken on some samples alone, and its gradient by these is held against the
one on all samples: how many times smaller is it?  That is what their denominators are to each other.  Then one token is
left out, and the gradient by the others says whose denominator it was in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from batchproof.explanation.groups import Units
from batchproof.explanation.positions import Positions, find_positions
from batchproof.explanation.result import AggregationName, LossAggregation
from batchproof.explanation.samples import Samples
from batchproof.explanation.slopes import LossSlope, SlopeMeasure, settled, slope_measure

#: A loss that computes in half precision does not show one token among many.
TOO_COARSE = 1e-3
#: Makes of samples, and of the number of groups among them, the loss that has them for its whole batch.
Alone = Callable[[Samples, int], Callable[..., Any]]

TITLES: dict[AggregationName, str] = {
    "token-mean": "a mean over tokens",
    "sequence-mean-token-mean": "a mean over sequences of each one's mean over tokens",
    "sequence-mean-token-sum": "a mean over sequences of each one's sum over tokens",
    "sequence-sum-token-mean": "a sum over sequences of each one's mean over tokens",
    "prompt-mean-token-mean": "a mean over prompts of each one's mean over tokens",
    "padded-mean": "a mean over positions, padding among them",
    "token-sum": "a sum over tokens",
    "sample-mean": "a mean over samples",
    "sample-sum": "a sum over samples",
}
#: What each survives, and what it does not, of micro-batches that are averaged.
SURVIVES: dict[AggregationName, tuple[str, str]] = {
    "token-mean": (
        "order, padding and packing",
        "micro-batches or ranks with unequal numbers of tokens: divide by the tokens of all of them",
    ),
    "sequence-mean-token-mean": (
        "order, padding, and micro-batches and ranks of equally many sequences",
        "packing, nor micro-batches of unequal sizes: divide by the sequences of all of them",
    ),
    "sequence-mean-token-sum": (
        "order, padding, and micro-batches and ranks of equally many sequences",
        "packing, nor micro-batches of unequal sizes: divide by the sequences of all of them",
    ),
    "sequence-sum-token-mean": (
        "order and padding, and micro-batches and ranks that are added",
        "packing, nor an average over micro-batches: it is a sum",
    ),
    "prompt-mean-token-mean": (
        "order and padding, and micro-batches and ranks of equally many whole prompts",
        "micro-batches that split a prompt: keep its samples together",
    ),
    "padded-mean": (
        "order, and micro-batches that are equally large and padded to one length",
        "padding: divide by the tokens that count, or by a constant",
    ),
    "token-sum": (
        "order, padding and packing, and micro-batches and ranks that are added",
        "an average over micro-batches or ranks: it is a sum",
    ),
    "sample-mean": ("order, and micro-batches and ranks of equal sizes", "micro-batches of unequal sizes"),
    "sample-sum": ("order, and micro-batches and ranks that are added", "an average over micro-batches or ranks"),
}


def aggregation_of(
    fn: Callable[..., Any], samples: Samples, seed: int = 0, groups: Units | None = None
) -> LossAggregation | None:
    """The aggregation of a loss whose samples have positions; None where that cannot be told.

    Args:
        fn: the loss, which divides by what it is called with.
        samples: to call it with.
        seed: before every call.
        groups: the rows of each prompt, where these are known.
    """
    try:
        positions = find_positions(samples)
        if positions is None:
            return None
        measure = slope_measure(fn, samples, positions, seed)
        positions = settled(fn, measure, positions)
        return None if positions is None else aggregation(lambda some, count: fn, measure, positions, groups)
    except Exception:  # noqa: BLE001 - a loss that is not defined on some of the samples has no name
        return None


def aggregation(
    alone: Alone, measure: SlopeMeasure, positions: Positions | None, groups: Units | None = None
) -> LossAggregation | None:
    """The aggregation of a loss, by its gradients; None where that cannot be told.

    Args:
        alone: the loss on samples that are a whole batch: with their own number of tokens, say.
        measure: its samples and gradients.
        positions: which positions count.
        groups: the rows of each prompt, where these are known.
    """
    samples = measure.samples
    units = groups or [[row] for row in range(samples.n)]

    def slope(some: Samples, count: int = len(units)) -> LossSlope:
        return measure.at(alone(some, count), some)

    whole = slope(samples)
    if not whole.is_finite or not whole.norm or samples.n < 3 or measure.tolerance > TOO_COARSE:
        return None
    parts = _parts(units)
    held = [sum(set(unit) <= set(rows) for unit in units) for rows in parts]
    slopes = [slope(samples.reorder(torch.tensor(rows)), count) for rows, count in zip(parts, held, strict=True)]
    shares = [share_of(measure, whole, part, rows) for part, rows in zip(slopes, parts, strict=True)]
    known = [share for share in shares if share is not None]
    if len(known) < len(shares) or len(known) < 2:
        return None
    divisors = counts_of(samples, positions, parts, units)
    fits = [name for name, counts in divisors.items() if is_share(known, counts, measure.tolerance)]
    adds = all(abs(share - 1) <= 10 * measure.tolerance for share in known)
    if positions is None:
        name: AggregationName | None = "sample-sum" if adds else "sample-mean" if "samples" in fits else None
    else:
        name = _by_tokens(slope, measure, positions, whole, fits, adds, groups)
    return None if name is None else LossAggregation(name, TITLES[name], *SURVIVES[name])


def _parts(units: Units) -> list[list[int]]:
    """Three parts of unequal size, of whole groups."""
    cuts = sorted({max(1, len(units) // 6), max(2, len(units) // 2)} - {len(units)})
    parts = [units[lo:hi] for lo, hi in zip([0, *cuts], [*cuts, len(units)], strict=True)]
    return [sorted(row for unit in part for row in unit) for part in parts]


def share_of(measure: SlopeMeasure, whole: LossSlope, part: LossSlope, rows: Sequence[int]) -> float | None:
    """How often the gradient by some samples, as a part gives it, is in the whole's; None where it is another one."""
    inside, own = measure.of_rows(whole, rows), measure.of_rows(part, rows)
    length = own.along(own)
    if not length or not own.is_finite:
        return None
    share = inside.along(own) / length
    size = max(inside.norm, abs(share) * math.sqrt(length))
    return share if (inside - own * share).norm <= 10 * measure.tolerance * size else None


def counts_of(
    samples: Samples, positions: Positions | None, parts: Sequence[Sequence[int]], units: Units
) -> dict[str, list[float]]:
    """What denominators may count, by name: for each part, its tokens, its samples, and the like."""
    found: dict[str, list[float]] = {}
    if positions is not None:
        tokens = positions.counting(samples).sum(1)
        found["tokens"] = [float(tokens[list(rows)].sum()) for rows in parts]
        found["samples with tokens"] = [float((tokens[list(rows)] > 0).sum()) for rows in parts]
    found["samples"] = [float(len(rows)) for rows in parts]
    if any(len(unit) > 1 for unit in units):
        found["groups"] = [float(sum(set(unit) <= set(rows) for unit in units)) for rows in parts]
    return found


def is_share(shares: Sequence[float], counts: Sequence[float], tolerance: float) -> bool:
    """Whether these are the parts' shares in a count."""
    total = sum(counts)
    return bool(total) and all(
        abs(share - count / total) <= 10 * tolerance * max(abs(share), 1e-3)
        for share, count in zip(shares, counts, strict=True)
    )


def _by_tokens(
    slope: Callable[[Samples], LossSlope],
    measure: SlopeMeasure,
    positions: Positions,
    whole: LossSlope,
    fits: Sequence[str],
    adds: bool,
    groups: Units | None,
) -> AggregationName | None:
    """By what happens to the other tokens when one is left out: of its sequence, of its prompt, of all others."""
    samples = measure.samples
    counting = positions.counting(samples)
    if _moves_with_padding(slope, measure, positions, whole):
        return "padded-mean"
    picked = _one_to_leave_out(measure, positions, whole, groups)
    if picked is None:
        return None
    row, column = picked
    left = slope(positions.without(samples, row, column))
    mates = next((unit for unit in groups or [] if row in unit), [row])
    of_prompt = [mate for mate in mates if mate != row]
    others = [other for other in range(samples.n) if other not in mates]
    own_tokens = float(counting[row].sum())
    prompt_tokens, all_tokens = float(counting[list(mates)].sum()), float(counting.sum())
    seen = (
        _change(measure, whole, left, [row], without=(row, column)),
        _change(measure, whole, left, of_prompt),
        _change(measure, whole, left, others),
    )

    def is_like(own: float, prompt: float, other: float) -> bool:
        pairs = zip(seen, (own, prompt, other), strict=True)
        return seen[0] is not None and all(
            change is None or abs(change - wanted) <= 10 * measure.tolerance * wanted for change, wanted in pairs
        )

    of_own, of_prompt_mean = own_tokens / (own_tokens - 1), prompt_tokens / (prompt_tokens - 1)
    of_all = all_tokens / (all_tokens - 1)
    if "tokens" in fits and is_like(of_all, of_all, of_all):
        return "token-mean"
    by_sequence = "samples" in fits or "samples with tokens" in fits
    if by_sequence and is_like(of_own, 1, 1):
        return "sequence-mean-token-mean"
    if by_sequence and is_like(1, 1, 1):
        return "sequence-mean-token-sum"
    if "groups" in fits and is_like(of_prompt_mean, of_prompt_mean, 1):
        return "prompt-mean-token-mean"
    if adds and is_like(1, 1, 1):
        return "token-sum"
    if adds and is_like(of_own, 1, 1):
        return "sequence-sum-token-mean"
    return None


def _moves_with_padding(
    slope: Callable[[Samples], LossSlope], measure: SlopeMeasure, positions: Positions, whole: LossSlope
) -> bool:
    """Whether the gradient is smaller with more padding, by as much as there are more positions."""
    width = measure.samples.leaves[positions.at[0]].shape[1]
    padded = slope(positions.lengthened(measure.samples, 3, measure.seed))
    change = _change(measure, whole, padded, range(measure.samples.n))
    return change is not None and abs(change - width / (width + 3)) <= 10 * measure.tolerance


def _one_to_leave_out(
    measure: SlopeMeasure, positions: Positions, whole: LossSlope, groups: Units | None
) -> tuple[int, int] | None:
    """A token that counts, in a sequence of several with a gradient; one whose prompt has other answers comes first."""
    counting = positions.counting(measure.samples)
    lengths = counting.sum(1).tolist()
    mates = {row: len(unit) for unit in groups or [] for row in unit}
    for row in sorted(range(len(lengths)), key=lambda row: (-min(2, mates.get(row, 1)), -lengths[row])):
        if lengths[row] > 2 and measure.of_rows(whole, [row]).norm:
            columns = counting[row].nonzero()[:, 0].tolist()
            return row, columns[len(columns) // 2]
    return None


def _change(
    measure: SlopeMeasure,
    before: LossSlope,
    after: LossSlope,
    rows: Sequence[int],
    without: tuple[int, int] | None = None,
) -> float | None:
    """How many times larger the gradient by some samples is; None where there is none, or where it turned.

    ``without`` leaves out the token itself, and what stands beside it: a loss may take its logits one position before.
    """
    if not rows:
        return None
    old, new = (measure.of_rows(slope, list(rows)) for slope in (before, after))
    if without is not None:
        old, new = (_masked(measure, slope, without[1]) for slope in (old, new))
    length = old.along(old)
    if not length:
        return None
    change = new.along(old) / length
    return change if (new - old * change).norm <= 10 * measure.tolerance * abs(change) * math.sqrt(length) else math.nan


def _masked(measure: SlopeMeasure, slope: LossSlope, column: int) -> LossSlope:
    gradients = []
    for leaf, gradient in zip(measure.by, slope.gradients, strict=True):
        if measure.samples.dims[leaf] == 0 and gradient.ndim > 1 and gradient.shape[1] > column:
            gradient = gradient.clone()
            gradient[:, max(0, column - 1) : column + 1] = 0
        else:  # of a sample as a whole it changes with its tokens
            gradient = gradient[:0]
        gradients.append(gradient)
    return LossSlope(slope.value, gradients)
