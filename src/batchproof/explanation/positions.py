"""Samples of several lengths in one tensor: which positions count, and the same samples padded further, cut or packed.

A mask says it (0 where nothing counts), or labels that are ignored (-100).  Everything here can be differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from batchproof.errors import BatchproofError
from batchproof.explanation.samples import Samples

#: What labels are at positions that are ignored: transformers' and torch's own, and nanochat's.
IGNORED = (-100, -1)


@dataclass(frozen=True)
class Positions:
    """Which leaves have a number for each position of a sample, and which of these say that it counts.

    Attributes:
        at: The leaves with a dimension of positions, which follows that of the samples.
        ignored: For each leaf that says which positions count, what it is where none does.
        trusted: Whether a name or an ignored label says so; what only looks like a mask has to be tried.
        start: The first position that may count: 1 where the loss takes the logits of each for the next one's label.
    """

    at: tuple[int, ...]
    ignored: Mapping[int, float]
    trusted: bool = True
    start: int = 0

    def counting(self, samples: Samples) -> Tensor:
        """(n, T): whether a position counts, by all that say so."""
        found = torch.stack([samples.leaves[leaf] != value for leaf, value in self.ignored.items()]).all(0)
        found[:, : self.start] = False
        return found

    def kept(self, samples: Samples) -> Tensor:
        """The length of each sample without its padding: up to the last position that counts for anything."""
        there = torch.stack([samples.leaves[leaf] != value for leaf, value in self.ignored.items()]).any(0)
        ends = there * torch.arange(1, there.shape[1] + 1, device=there.device)
        return ends.amax(1).clamp(min=1)

    def lengthened(self, samples: Samples, extra: int, seed: int) -> Samples:
        """The samples with ``extra`` more positions of padding, of which only masks and labels say that they are."""
        generator = torch.Generator().manual_seed(seed)
        leaves = list(samples.leaves)
        for leaf in self.at:
            tensor = leaves[leaf]
            if leaf in self.ignored:
                more = torch.full_like(tensor[:, :1], self.ignored[leaf]).expand(-1, extra)
            else:  # what stands there must not matter: numbers that stand elsewhere in it
                picked = torch.randint(tensor.shape[1], (extra,), generator=generator).to(tensor.device)
                rolled = tensor.detach().roll(1, 0)
                more = rolled.index_select(1, picked)
            leaves[leaf] = torch.cat([tensor, more], 1)
        return replace(samples, leaves=tuple(leaves))

    def trimmed(self, samples: Samples) -> Samples:
        """The samples padded to the longest of them, as collators do for each micro-batch."""
        longest = int(self.kept(samples).max())
        leaves = list(samples.leaves)
        for leaf in self.at:
            leaves[leaf] = leaves[leaf].narrow(1, 0, longest)
        return replace(samples, leaves=tuple(leaves))

    def can_be_packed(self, samples: Samples) -> bool:
        """Whether all that carries samples has positions: an advantage for each sample has none in a packed row."""
        return set(self.at) == {leaf for leaf, dim in enumerate(samples.dims) if dim is not None}

    def packed(self, samples: Samples, rows: int) -> Samples:
        """The samples end to end, without padding, in so many rows.

        Where a loss takes the logits of each position for the label of the next, a sample's first label is ignored, as
        collators do it: it does not follow from the sample before.
        """
        lengths = self.kept(samples).tolist()
        parts = torch.arange(samples.n).tensor_split(rows)
        leaves = list(samples.leaves)
        for leaf in self.at:
            tensor, fill = leaves[leaf], self.ignored.get(leaf)
            if fill is not None and self.start:
                tensor = self._begun(tensor, fill)
            joined = [torch.cat([tensor[row, : lengths[row]] for row in part.tolist()]) for part in parts]
            leaves[leaf] = pad_sequence(joined, batch_first=True, padding_value=0.0 if fill is None else fill)
        return replace(samples, leaves=tuple(leaves), n=rows)

    def without_first(self, samples: Samples) -> Samples:
        """The samples with a first position that counts no more."""
        leaves = list(samples.leaves)
        for leaf, value in self.ignored.items():
            leaves[leaf] = self._begun(leaves[leaf], value)
        return replace(samples, leaves=tuple(leaves))

    def refilled(self, samples: Samples) -> Samples:
        """The samples with other numbers at all positions that do not count: a loss must not see them."""
        counting = self.counting(samples)
        leaves = list(samples.leaves)
        for leaf in set(self.at) - set(self.ignored):
            shown = counting.reshape(*counting.shape, *[1] * (leaves[leaf].ndim - 2))
            leaves[leaf] = torch.where(shown, leaves[leaf], leaves[leaf].detach().roll(1, 0).roll(1, 1))
        return replace(samples, leaves=tuple(leaves))

    @staticmethod
    def _begun(tensor: Tensor, value: float) -> Tensor:
        return torch.cat([torch.full_like(tensor[:, :1], value), tensor[:, 1:]], 1)

    def without(self, samples: Samples, row: int, position: int) -> Samples:
        """The samples with one position that counts no more."""
        leaves = list(samples.leaves)
        for leaf, value in self.ignored.items():
            leaves[leaf] = leaves[leaf].clone()
            leaves[leaf][row, position] = value
        return replace(samples, leaves=tuple(leaves))


def find_positions(samples: Samples, padding: Mapping[str, float] | None = None) -> Positions | None:
    """Where samples have positions, and what says which of them count; None where nothing does.

    Args:
        samples: as the loss takes them.
        padding: by the names of arguments, what stands where nothing counts; found if None.

    Raises:
        BatchproofError: ``padding`` names an argument that is not there, or has no positions.
    """
    if padding is not None:
        ignored = {_named(samples, name): value for name, value in padding.items()}
        if not ignored:
            return None
        trusted = True
    else:
        ignored, trusted = _labels(samples) | _masks(samples, by_name=True), True
        if not ignored:
            ignored, trusted = _masks(samples, by_name=False) or _full_labels(samples), False
    tables = {leaf: value for leaf, value in ignored.items() if _is_table(samples, leaf)}
    if padding is not None and len(tables) < len(ignored):
        raise BatchproofError("padding names an argument that is not of shape (samples, positions)")
    widths = [samples.leaves[leaf].shape[1] for leaf in tables]
    if not widths:
        return None
    tables = {leaf: value for leaf, value in tables.items() if samples.leaves[leaf].shape[1] == widths[0]}
    return Positions(_with_width(samples, widths[0]), tables, trusted)


def _named(samples: Samples, name: str) -> int:
    found = [leaf for leaf, own in enumerate(samples.names) if own == name or own.endswith(f"[{name}]")]
    if not found:
        raise BatchproofError(f"padding names {name!r}, but the arguments are {', '.join(samples.names)}")
    return found[0]


def _is_table(samples: Samples, leaf: int) -> bool:
    value = samples.leaves[leaf]
    return samples.dims[leaf] == 0 and isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] > 1


def _with_width(samples: Samples, width: int) -> tuple[int, ...]:
    return tuple(
        leaf
        for leaf, (value, dim) in enumerate(zip(samples.leaves, samples.dims, strict=True))
        if dim == 0 and isinstance(value, Tensor) and value.ndim > 1 and value.shape[1] == width
    )


def _labels(samples: Samples) -> dict[int, float]:
    found = {}
    for leaf in filter(lambda leaf: _is_table(samples, leaf), range(len(samples.leaves))):
        value = samples.leaves[leaf]
        if not value.is_floating_point() and not value.is_complex() and value.dtype is not torch.bool:
            below = value[value < 0].unique().tolist()
            if len(below) == 1 and below[0] in IGNORED:
                found[leaf] = below[0]
    return found


def _full_labels(samples: Samples) -> dict[int, float]:
    """What is called labels, of which none is ignored: nothing is padded, and -100 would be ignored."""
    return {
        leaf: IGNORED[0]
        for leaf in range(len(samples.leaves))
        if _is_table(samples, leaf)
        and samples.leaves[leaf].dtype is torch.int64
        and bool((samples.leaves[leaf] >= 0).all())
        and any(word in samples.names[leaf].lower() for word in ("label", "target"))
    }


def _masks(samples: Samples, *, by_name: bool) -> dict[int, float]:
    """What is called a mask; or what looks like one: ones, and some zeros."""
    found: dict[int, float] = {}
    for leaf in filter(lambda leaf: _is_table(samples, leaf), range(len(samples.leaves))):
        value = samples.leaves[leaf]
        if bool(((value == 0) | (value == 1)).all()) and (
            "mask" in samples.names[leaf].lower() if by_name else bool((value == 0).any()) and bool((value == 1).any())
        ):
            found[leaf] = 0
    return found
