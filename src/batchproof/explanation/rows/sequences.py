"""Samples that are sequences: which positions of each are real, and the same samples padded, shifted or packed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from batchproof.explanation.samples import Samples

#: What transformers' and torch's losses ignore.
IGNORED = -100
#: Names of arguments that say to which of several packed sequences a position belongs: of Mamba, of flash attention's
#: callers, and of hand-written models.
SEGMENTS = ("segment_ids", "seq_idx", "sequence_ids", "doc_ids", "document_ids")


@dataclass(frozen=True)
class Spot:
    """Where a sample lies in a call: its row, and its real positions, if samples have positions."""

    row: int
    start: int = 0
    length: int | None = None


@dataclass(frozen=True)
class RowsCall:
    """The samples of one call, and where each of those that are compared lies in it.

    Attributes:
        samples: What the model is called with.
        spots: Where they are.
        width: Positions of a row; None where there are none.
        is_packed: Whether a row holds several samples: what has no positions is then of none of them.
        is_refilled: Whether other numbers than usual stand in the padding.
    """

    samples: Samples
    spots: tuple[Spot, ...]
    width: int | None = None
    is_packed: bool = False
    is_refilled: bool = False

    @property
    def rows(self) -> int:
        """How many rows the call has."""
        return self.samples.n


@dataclass(frozen=True)
class Sequences:
    """What is known of samples that have positions.

    Attributes:
        at: The leaves with a number, or a vector, for each position; positions follow the samples.
        fills: For each of them, what stands where there is padding.
        real: (n, T), bool: which positions count.
        said_by: The argument that says so.
        takes: The parameters of the model, and of its base model.
        made: Whether the mask was made here, all ones.
        first_position: What the model itself calls the first position: RoBERTa's begin behind the padding's number.
    """

    at: tuple[int, ...]
    fills: dict[int, float]
    real: Tensor
    said_by: str
    takes: frozenset[str]
    made: bool = False
    first_position: int = 0

    @property
    def width(self) -> int:
        """Positions of the longest sample, its padding included."""
        return int(self.real.shape[1])

    def spot(self, row: int) -> Spot:
        """Where the real positions of a row are, from the first to the last."""
        there = self.real[row].nonzero().flatten()
        return Spot(row, int(there[0]), int(there[-1] - there[0]) + 1)

    def alone(self, samples: Samples, row: int) -> RowsCall:
        """One sample without its padding."""
        spot = self.spot(row)
        assert spot.length is not None
        one = self._each(samples.cut(row, row + 1), lambda leaf, t: t.narrow(1, spot.start, spot.length))  # type: ignore[arg-type]
        return RowsCall(one, (Spot(0, 0, spot.length),), spot.length)

    def padded(self, call: RowsCall, left: int = 0, right: int = 0) -> RowsCall:
        """The samples of a call with more padding on either side."""

        def more(leaf: int, tensor: Tensor) -> Tensor:
            parts = [
                torch.full_like(tensor[:, :1], self.fills[leaf]).expand(-1, extra, *tensor.shape[2:])
                for extra in (left, right)
            ]
            return torch.cat([parts[0], tensor, parts[1]], 1)

        spots = tuple(replace(spot, start=spot.start + left) for spot in call.spots)
        assert call.width is not None
        return RowsCall(self._each(call.samples, more), spots, call.width + left + right)

    def repacked(self, samples: Samples, *, at_the_end: bool) -> RowsCall:
        """All samples with their padding on the left, or on the right."""
        spots = [self.spot(row) for row in range(samples.n)]
        starts = [self.width - (spot.length or 0) if at_the_end else 0 for spot in spots]

        def moved(leaf: int, tensor: Tensor) -> Tensor:
            out = torch.full_like(tensor, self.fills[leaf])
            for spot, start in zip(spots, starts, strict=True):
                length = spot.length or 0
                out[spot.row, start : start + length] = tensor[spot.row, spot.start : spot.start + length]
            return out

        moves = tuple(replace(spot, start=start) for spot, start in zip(spots, starts, strict=True))
        return RowsCall(self._each(samples, moved), moves, self.width)

    def refilled(self, samples: Samples) -> Samples:
        """Other numbers where there is padding, which nothing should see."""
        hidden = ~self.real

        def other(leaf: int, tensor: Tensor) -> Tensor:
            if self._says(samples, leaf) or self.fills[leaf] == IGNORED:
                return tensor
            mask = hidden.reshape(*hidden.shape, *[1] * (tensor.ndim - 2))
            return torch.where(mask, tensor[self.real].roll(1, 0)[:1].expand_as(tensor), tensor)

        return self._each(samples, other)

    def packed(self, samples: Samples) -> RowsCall:
        """All samples end to end in one row, without padding."""
        spots = [self.spot(row) for row in range(samples.n)]
        leaves = list(samples.leaves)
        for leaf in self.at:
            parts = [leaves[leaf][s.row, s.start : s.start + (s.length or 0)] for s in spots]
            leaves[leaf] = torch.cat(parts).unsqueeze(0)
        starts = [sum(spot.length or 0 for spot in spots[:row]) for row in range(samples.n)]
        places = tuple(Spot(0, start, spot.length) for start, spot in zip(starts, spots, strict=True))
        total = sum(spot.length or 0 for spot in spots)
        return RowsCall(replace(samples, leaves=tuple(leaves), n=1), places, total, is_packed=True)

    def _says(self, samples: Samples, leaf: int) -> bool:
        return "mask" in samples.names[leaf].lower() or "position" in samples.names[leaf].lower()

    def _each(self, samples: Samples, change: Callable[[int, Tensor], Tensor]) -> Samples:
        leaves = list(samples.leaves)
        for leaf in self.at:
            leaves[leaf] = change(leaf, leaves[leaf])
        return replace(samples, leaves=tuple(leaves))


def find_sequences(target: Any, samples: Samples) -> Sequences | None:
    """What says which positions of the samples are real; None where nothing does, nor could."""
    masks = [leaf for leaf in _tables(samples) if _is_mask(samples, leaf)]
    takes = parameters_of(target)
    if masks:
        mask = next((leaf for leaf in masks if "decoder" not in samples.names[leaf].lower()), masks[0])
        real, padding = _read_mask(samples.names[mask], samples.leaves[mask])
        return _sequences(target, samples, real, samples.names[mask], {mask: padding}, takes)
    lengths = _lengths(samples)
    if lengths is not None:
        name, real = lengths
        return _sequences(target, samples, real, name, {}, takes)
    return None


def with_mask(target: Any, samples: Samples) -> Samples:
    """The samples with an ``attention_mask`` of ones, where the model takes one and was given none."""
    ids = [leaf for leaf in _tables(samples) if samples.names[leaf] == "input_ids"]
    if not ids or "attention_mask" not in parameters_of(target) or "attention_mask" in samples.layout.keywords:
        return samples
    if any("mask" in name for name in samples.names) or "attention_mask" in samples.fixed:
        return samples
    layout = samples.layout
    layout = replace(
        layout,
        skeletons=(*layout.skeletons, 0),
        names=(*layout.names, "attention_mask"),
        dims=(*layout.dims, 0),
        keywords=(*layout.keywords, "attention_mask"),
    )
    return replace(samples, layout=layout, leaves=(*samples.leaves, torch.ones_like(samples.leaves[ids[0]])))


def parameters_of(target: Any) -> frozenset[str]:
    """The names of what a model's forward takes; of several that hand on ``**kwargs``, those of the base model too."""
    found: set[str] = set()
    for callable_ in (
        getattr(target, "forward", target),
        getattr(getattr(target, "base_model", None), "forward", None),
    ):
        try:
            found |= set(inspect.signature(callable_).parameters) if callable_ is not None else set()
        except (TypeError, ValueError):
            continue
    return frozenset(found)


def positions_from(real: Tensor, first: int = 0) -> Tensor:
    """The number of each real position from the first on, as generation makes them; 1 where there is padding."""
    return (real.long().cumsum(1) - 1 + first).masked_fill(~real, 1)


def _sequences(
    target: Any, samples: Samples, real: Tensor, said_by: str, known: dict[int, float], takes: frozenset[str]
) -> Sequences | None:
    if not bool(real.any(1).all()):  # a sample without a real position: nothing could be compared
        return None
    of_decoder = "decoder" in said_by or not any("decoder" in name for name in takes)
    at = [leaf for leaf in _with_width(samples, real.shape[1]) if of_decoder or not _belongs_to_decoder(samples, leaf)]
    fills = {leaf: known.get(leaf, _fill(target, samples, leaf)) for leaf in at}
    return Sequences(tuple(at), fills, real, said_by, takes)


def _belongs_to_decoder(samples: Samples, leaf: int) -> bool:
    return any(word in samples.names[leaf].lower() for word in ("decoder", "label"))


def _fill(target: Any, samples: Samples, leaf: int) -> float:
    name, tensor = samples.names[leaf].lower(), samples.leaves[leaf]
    if "label" in name or "target" in name:
        return IGNORED
    if "input_ids" in name or name in ("ids", "tokens"):
        pad = getattr(getattr(target, "config", None), "pad_token_id", None)
        return pad if isinstance(pad, int) and pad >= 0 else 0
    return 0 if not tensor.is_floating_point() else 0.0


def _tables(samples: Samples) -> list[int]:
    return [
        leaf
        for leaf, (value, dim) in enumerate(zip(samples.leaves, samples.dims, strict=True))
        if dim == 0 and isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] > 1
    ]


def _with_width(samples: Samples, width: int) -> list[int]:
    return [
        leaf
        for leaf, (value, dim) in enumerate(zip(samples.leaves, samples.dims, strict=True))
        if dim == 0 and isinstance(value, Tensor) and value.ndim > 1 and value.shape[1] == width
    ]


def _is_mask(samples: Samples, leaf: int) -> bool:
    value = samples.leaves[leaf]
    return "mask" in samples.names[leaf].lower() and bool(((value == 0) | (value == 1)).all())


def _read_mask(name: str, mask: Tensor) -> tuple[Tensor, float]:
    """Which positions count, and what the mask is where none does: torch's own ``key_padding_mask`` is True there."""
    is_torchs = mask.dtype is torch.bool and any(word in name.lower() for word in ("padding_mask", "pad_mask"))
    return (~mask, 1.0) if is_torchs else (mask != 0, 0.0)


def _lengths(samples: Samples) -> tuple[str, Tensor] | None:
    """Which positions count by an argument of lengths, as packed recurrent networks take it."""
    for leaf, (value, dim) in enumerate(zip(samples.leaves, samples.dims, strict=True)):
        name = samples.names[leaf].lower()
        if (
            dim == 0
            and isinstance(value, Tensor)
            and value.ndim == 1
            and "len" in name
            and not value.is_floating_point()
        ):
            widths = _widths(samples)
            longest = int(value.max()) if value.numel() else 0
            width = next((width for width in widths if width >= longest), None)
            if width is not None and longest > 0 and bool((value > 0).all()):
                return samples.names[leaf], torch.arange(width, device=value.device) < value[:, None]
    return None


def _widths(samples: Samples) -> Sequence[int]:
    return sorted(
        {
            value.shape[1]
            for value, dim in zip(samples.leaves, samples.dims, strict=True)
            if dim == 0 and isinstance(value, Tensor) and value.ndim > 1
        }
    )
