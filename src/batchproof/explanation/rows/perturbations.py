"""What must not change a sample's output: its neighbours, the order, more padding, others packed beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.explanation.rows.sequences import SEGMENTS, RowsCall, Sequences, Spot, positions_from
from batchproof.explanation.samples import Samples
from batchproof.ground.text import error_line

TrialName = Literal[
    "repeat", "alone", "neighbours", "order", "size", "padding right", "fixed length", "padding left",
    "padding content", "packing", "scores", "greedy tokens", "training", "bfloat16",
]  # fmt: skip
Over = Literal["batch", "order", "padding", "packing", "generation"]
#: Which trials answer which question of `assert_rows_independent`.
OVER: dict[Over, tuple[TrialName, ...]] = {
    "batch": ("repeat", "alone", "neighbours", "size"),
    "order": ("order",),
    "padding": ("padding right", "fixed length", "padding left", "padding content"),
    "packing": ("packing",),
    "generation": ("scores", "greedy tokens"),
}
#: Rows of a call: enough for neighbours of several lengths, few enough for a large model.
ROWS = 4
#: Rows of one larger call.
MANY = 32
#: A little padding; and a multiple that tensor cores and fixed-length collators like.
EXTRA, MULTIPLE = 5, 64
#: By how much the numbers of neighbours are scaled: what couples by a maximum shows with larger ones.
SCALE = 8.0


@dataclass(frozen=True)
class CallPair:
    """One sample, or several, in two calls that must give the same for them."""

    one: RowsCall
    other: RowsCall


@dataclass(frozen=True)
class Perturbation:
    """One thing that must not matter.

    Attributes:
        name: Which.
        pairs: The calls to compare; none where the model does not take it.
        reason: Why it could not be tried.
        healers: The same with more said to the model, and what that is: where one of them agrees, it is a convention.
    """

    name: TrialName
    pairs: tuple[CallPair, ...] = ()
    reason: str = ""
    healers: tuple[tuple[str, tuple[CallPair, ...]], ...] = ()


def check_over(over: Any) -> None:
    """Refuse questions that there are not.

    Raises:
        BatchproofError: ``over`` is no sequence of them.
    """
    if over is None:
        return
    strange = [over] if isinstance(over, str) else [one for one in over if one not in OVER]
    if strange or not over:
        raise BatchproofError(f"over={over!r}: expected some of {', '.join(map(repr, OVER))}, in a list or tuple")


def batch_perturbations(samples: Samples, sequences: Sequences | None) -> Iterator[Perturbation]:
    """Those that change what else is in the batch.

    Args:
        samples: the rows of a batch, more than ``ROWS`` of them where there are more neighbours to choose from.
        sequences: where their positions are.
    """
    count = min(samples.n, ROWS)
    base = whole(samples.first(count), sequences)
    singles = Perturbation(
        "alone", tuple(CallPair(alone(samples, sequences, row), picked(base, row)) for row in range(count))
    )
    if count == 1:
        yield singles
        yield from (Perturbation(name, reason="there is one sample") for name in ("neighbours", "order", "size"))
        return
    yield Perturbation("neighbours", tuple(_neighbours(samples, sequences, base, count)))
    yield Perturbation("order", (CallPair(base, _reordered(samples, sequences, count)),))
    sizes = [size for size in (count - 1, 2) if 1 < size < count]
    smaller = tuple(
        CallPair(replace(base, spots=base.spots[:size]), whole(samples.first(size), sequences))
        for size in sorted(set(sizes))
    )
    larger = whole(samples.first(MANY), sequences)
    if larger.rows > count:  # a limit in all, such as an expert's, is not reached by a few
        smaller = (*smaller, CallPair(base, replace(larger, spots=larger.spots[:count])))
    yield Perturbation("size", smaller, reason="" if smaller else f"there are {count} samples")
    yield singles  # after the others, which say whether it is for want of neighbours or of padding


def padding_perturbations(samples: Samples, sequences: Sequences, most: int | None) -> Iterator[Perturbation]:
    """Those that change the padding of a sample, each of them alone in its call.

    Args:
        samples: the rows of a batch.
        sequences: where their positions are.
        most: positions that the model can take; None where it does not say.
    """
    rows = range(min(samples.n, 2))
    singles = [sequences.alone(samples, row) for row in rows]
    widths = [single.width or 0 for single in singles]

    def pairs(change: Callable[[RowsCall], RowsCall]) -> tuple[CallPair, ...]:
        return tuple(CallPair(single, change(single)) for single in singles)

    if most is not None and max(widths) + EXTRA > most:
        reason = f"the model takes {most:,} positions, and the samples have {max(widths):,}"
        yield from (Perturbation(name, reason=reason) for name in ("padding right", "fixed length", "padding left"))
        return
    yield Perturbation("padding right", pairs(lambda call: sequences.padded(call, right=EXTRA)))
    full = -(-(max(widths) + EXTRA + 1) // MULTIPLE) * MULTIPLE
    full = full if most is None else min(full, most)
    yield Perturbation("fixed length", pairs(lambda call: sequences.padded(call, right=full - (call.width or 0))))
    if "mask" not in sequences.said_by:
        yield Perturbation("padding left", reason=f"{sequences.said_by} says how long a sample is, not where it begins")
    else:
        shifted = pairs(lambda call: sequences.padded(call, left=EXTRA))
        takes_ids = "position_ids" in sequences.takes and not is_given(samples, "position_ids")
        told = (
            "give position_ids",
            pairs(lambda call: numbered(sequences.padded(call, left=EXTRA), sequences.first_position)),
        )
        yield Perturbation("padding left", shifted, healers=(told,) if takes_ids else ())
    if bool(sequences.real[: len(rows)].all()):
        padded = [sequences.padded(single, right=EXTRA) for single in singles]
    else:
        padded = [whole(samples.cut(row, row + 1), _rows_of(sequences, row, row + 1)) for row in rows]
    yield Perturbation("padding content", tuple(CallPair(call, _refilled(call, sequences)) for call in padded))


def packing_perturbation(
    samples: Samples, sequences: Sequences, *, is_causal: bool, window: int | None = None
) -> Perturbation:
    """All samples in one row, told apart by what the model takes for it: segments, or positions that begin anew.

    Args:
        samples: the rows of a batch.
        sequences: where their positions are.
        is_causal: whether a position sees only those before it.
        window: how far some of its layers see; None where all of them see everything.
    """
    rows = min(samples.n, ROWS)
    some = samples.first(rows)
    within = replace(sequences, real=sequences.real[:rows])
    if rows == 1:
        return Perturbation("packing", reason="there is one sample")
    carried = {leaf for leaf, dim in enumerate(samples.dims) if dim is not None}
    if carried - set(sequences.at):
        return Perturbation("packing", reason="an argument has no positions")
    segments = next((name for name in SEGMENTS if name in sequences.takes), None)
    if segments is None and "position_ids" not in sequences.takes:
        return Perturbation("packing", reason="the model takes neither segments nor positions")
    packed = within.packed(some)
    lengths = torch.tensor([spot.length or 0 for spot in packed.spots])
    extras: dict[str, Any] = {"use_cache": False} if "use_cache" in sequences.takes else {}
    if segments is not None:
        extras[segments] = torch.repeat_interleave(torch.arange(rows), lengths)[None]
    if "position_ids" in sequences.takes:
        counted = torch.cat([torch.arange(length) for length in lengths.tolist()])[None]
        extras["position_ids"] = counted + within.first_position

    def pairs(samples: Samples) -> tuple[CallPair, ...]:
        calls = (replace(packed, samples=samples, spots=(spot,)) for spot in packed.spots)
        return tuple(CallPair(within.alone(some, row), call) for row, call in enumerate(calls))

    given = _with_fixed(packed.samples, extras)
    if "attention_mask" not in sequences.takes or segments is not None:
        return Perturbation("packing", pairs(given))
    # transformers tells packed samples by their positions, and only where there is no mask
    bare = without(given, "attention_mask")
    healers = []
    for causal in (True,) if is_causal else (False, True):  # CLIP reads text from left to right and does not say so
        blocks = _with_fixed(bare, {"attention_mask": _blocks(lengths, causal, window)})
        healers.append(("give a 4-D mask with a block for each sample", pairs(blocks)))
    return Perturbation("packing", pairs(bare), healers=tuple(healers))


def _blocks(lengths: Tensor, causal: bool, window: int | None) -> Tensor | dict[str, Tensor]:
    """(1, 1, T, T): 0 within a sample, and the lowest number outside of it, as it is added to scores of attention.

    Where some layers see a window only, one for each type of layer, by its name in transformers.
    """
    of, place = torch.repeat_interleave(torch.arange(len(lengths)), lengths), torch.arange(int(lengths.sum()))
    behind = place[:, None] - place
    seen = (of[:, None] == of) & ((behind >= 0) | (not causal))
    if window is None:
        return _added(seen)
    near = behind < window if causal else behind.abs() <= window
    return {"full_attention": _added(seen), "sliding_attention": _added(seen & near)}


def _added(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]


def whole(samples: Samples, sequences: Sequences | None) -> RowsCall:
    """A batch as it is."""
    if sequences is None:
        return RowsCall(samples, tuple(Spot(row) for row in range(samples.n)))
    return RowsCall(samples, tuple(sequences.spot(row) for row in range(samples.n)), sequences.width)


def alone(samples: Samples, sequences: Sequences | None, row: int) -> RowsCall:
    """One sample without its neighbours, and without its padding."""
    if sequences is None:
        return RowsCall(samples.cut(row, row + 1), (Spot(0),))
    return sequences.alone(samples, row)


def picked(call: RowsCall, row: int) -> RowsCall:
    """A call of which one sample is compared."""
    return replace(call, spots=(call.spots[row],))


def numbered(call: RowsCall, first: int = 0) -> RowsCall:
    """A call with the positions of its samples, counted from their first real one, which is called ``first``."""
    real = torch.zeros(call.rows, call.width or 0, dtype=torch.bool)
    for spot in call.spots:
        real[spot.row, spot.start : spot.start + (spot.length or 0)] = True
    return replace(call, samples=_with_fixed(call.samples, {"position_ids": positions_from(real, first)}))


def without(samples: Samples, name: str) -> Samples:
    """The samples without one argument that was given by name."""
    layout = samples.layout
    if name not in layout.keywords:
        return samples
    leaf = samples.names.index(name)
    index = len(layout.skeletons) - len(layout.keywords) + layout.keywords.index(name)

    def less(values: tuple[Any, ...], at: int) -> tuple[Any, ...]:
        return (*values[:at], *values[at + 1 :])

    layout = replace(
        layout,
        skeletons=less(layout.skeletons, index),
        names=less(layout.names, leaf),
        dims=less(layout.dims, leaf),
        keywords=tuple(keyword for keyword in layout.keywords if keyword != name),
    )
    return replace(samples, layout=layout, leaves=less(samples.leaves, leaf))


def _neighbours(samples: Samples, sequences: Sequences | None, base: RowsCall, count: int) -> Iterator[CallPair]:
    """The first and the last sample beside others: of the data, of larger numbers, and copies of the sample itself."""
    for row in (0, count - 1):
        order = (torch.arange(count) + row + 1) % count + (count if samples.n >= 2 * count else 0)
        order[row] = row
        yield CallPair(picked(base, row), _chosen(samples, sequences, order, row))
        yield CallPair(picked(base, row), _chosen(samples, sequences, torch.full((count,), row), row))
        others = torch.arange(count) != row
        if samples.floating:
            scaled = replace(
                base.samples, leaves=tuple(_scaled(base.samples, leaf, others) for leaf in range(len(samples.leaves)))
            )
            yield CallPair(picked(base, row), picked(replace(base, samples=scaled), row))


def _scaled(samples: Samples, leaf: int, rows: Tensor) -> Any:
    value, dim = samples.leaves[leaf], samples.dims[leaf]
    if dim is None or not isinstance(value, Tensor) or not value.is_floating_point() or "mask" in samples.names[leaf]:
        return value
    shape = [1] * value.ndim
    shape[dim] = -1
    return torch.where(rows.to(value.device).reshape(shape), value * SCALE, value)


def _chosen(samples: Samples, sequences: Sequences | None, order: Tensor, row: int) -> RowsCall:
    spot = Spot(row) if sequences is None else replace(sequences.spot(int(order[row])), row=row)
    return RowsCall(samples.reorder(order), (spot,), None if sequences is None else sequences.width)


def _reordered(samples: Samples, sequences: Sequences | None, count: int) -> RowsCall:
    order = torch.arange(count).flip(0)
    spots = tuple(
        replace(Spot(0) if sequences is None else sequences.spot(row), row=count - 1 - row) for row in range(count)
    )
    return RowsCall(samples.reorder(order), spots, None if sequences is None else sequences.width)


def _refilled(call: RowsCall, sequences: Sequences) -> RowsCall:
    real = torch.zeros(call.rows, call.width or 0, dtype=torch.bool, device=sequences.real.device)
    for spot in call.spots:
        real[spot.row, spot.start : spot.start + (spot.length or 0)] = True
    return replace(call, samples=replace(sequences, real=real).refilled(call.samples), is_refilled=True)


def _rows_of(sequences: Sequences | None, lo: int, hi: int) -> Sequences | None:
    return None if sequences is None else replace(sequences, real=sequences.real[lo:hi])


def is_given(samples: Samples, name: str) -> bool:
    """Whether the samples have such an argument."""
    return name in samples.fixed or any(own == name or own.endswith(f"[{name}]") for own in samples.names)


def _with_fixed(samples: Samples, extras: dict[str, Any]) -> Samples:
    return replace(samples, fixed={**samples.fixed, **extras})


def reason_of(error: Exception) -> str:
    """Why the model does not take a call, in a line."""
    return f"the model fails: {error_line(error)}"
