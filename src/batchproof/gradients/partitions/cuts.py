"""Ways to cut a batch: pieces for each rank, one for each of its micro-batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from batchproof.explanation import Positions, Samples, Units
from batchproof.gradients.partitions.result import CutKind
from batchproof.ground.text import counted, listed

#: So many micro-batches, and ranks, are tried of a batch that can be cut into them; and each sample alone.
PARTS, MOST_ALONE = (2, 4, 3), 16
#: Positions of padding that are added.
EXTRA = 3


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch: its samples as the loss takes them, and which rows of the batch they are."""

    samples: Samples
    rows: tuple[int, ...]


@dataclass(frozen=True)
class BatchCut:
    """A batch, cut: for each rank its micro-batches."""

    kind: CutKind
    how: str
    pieces: tuple[tuple[MicroBatch, ...], ...]


def cuts_of(
    kind: CutKind, samples: Samples, units: Units, positions: Positions | None, seed: int
) -> Iterator[BatchCut]:
    """Some cuts of one kind, the plainest first; the first that breaks the loss is the one to report."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "order":
        for _ in range(2):
            rows = shuffled(units, generator)
            yield BatchCut(
                kind, "the samples in another order", ((MicroBatch(samples.reorder(torch.tensor(rows)), tuple(rows)),),)
            )
    elif kind == "micro-batch":
        for count in even_parts(len(units)):
            yield _cut(kind, samples, [even(_mixed(units, generator), count)], "micro-batch")
    elif kind == "uneven":
        for _ in range(3 if len(units) > 2 else 0):
            yield _cut(kind, samples, [uneven(_mixed(units, generator), generator)], "micro-batch")
    elif kind == "rank":
        for count in even_parts(len(units), alone=False):
            yield _cut(kind, samples, [[part] for part in even(_mixed(units, generator), count)], "rank")
    elif positions is not None:
        yield from _of_positions(kind, samples, positions)


def both(samples: Samples, units: Units, seed: int) -> BatchCut | None:
    """Ranks that each have several micro-batches; None where there are too few samples."""
    if len(units) % 4:
        return None
    mixed = _mixed(units, torch.Generator().manual_seed(seed))
    return _cut("rank", samples, [even(half, 2) for half in even(mixed, 2)], "rank")


def trimmed(cut: BatchCut, positions: Positions) -> BatchCut:
    """A cut with each piece padded to its own longest sample."""
    pieces = tuple(
        tuple(MicroBatch(positions.trimmed(piece.samples), piece.rows) for piece in rank) for rank in cut.pieces
    )
    return BatchCut("padding", f"{cut.how}, each trimmed", pieces)


def _of_positions(kind: CutKind, samples: Samples, positions: Positions) -> Iterator[BatchCut]:
    every = tuple(range(samples.n))
    if kind == "padding":
        longer = positions.lengthened(samples, EXTRA, seed=0)
        yield BatchCut(kind, f"{EXTRA} more positions of padding", ((MicroBatch(longer, every),),))
        yield BatchCut(kind, "padding up to the longest sample", ((MicroBatch(positions.trimmed(samples), every),),))
    if kind == "packing":
        for rows in sorted({1, min(3, samples.n - 1)}):
            packed = positions.packed(samples, rows)
            yield BatchCut(kind, f"all samples in {counted(rows, 'row')}", ((MicroBatch(packed, every),),))


def even_parts(count: int, *, alone: bool = True) -> list[int]:
    """Into how many equal parts so many can be cut."""
    found = [parts for parts in PARTS if count >= parts and count % parts == 0]
    return [*found, count] if alone and 1 < count <= MOST_ALONE and count not in found else found


def even(units: Sequence[Sequence[int]], count: int) -> list[Units]:
    """Equal parts."""
    size = len(units) // count
    return [units[lo : lo + size] for lo in range(0, len(units), size)]


def uneven(units: Sequence[Sequence[int]], generator: torch.Generator) -> list[Units]:
    """Parts of other sizes, at least two of them unequal."""
    most = min(4, len(units) - 1)
    count = int(torch.randint(2, most + 1, (), generator=generator))
    places = torch.randperm(len(units) - 1, generator=generator)[: count - 1].add(1).sort().values.tolist()
    parts = [units[lo:hi] for lo, hi in itertools.pairwise([0, *places, len(units)])]
    if len({len(part) for part in parts}) > 1:
        return parts
    return [units[:1], units[1:]]


def _mixed(units: Units, generator: torch.Generator) -> list[Sequence[int]]:
    """The groups in random order; those of a part stand in it as they stood in the batch."""
    return [units[number] for number in torch.randperm(len(units), generator=generator).tolist()]


def shuffled(units: Units, generator: torch.Generator) -> list[int]:
    """Rows in another order: what is done to groups of one size leaves their layout, side by side or in halves."""
    order = torch.randperm(len(units), generator=generator).tolist()
    if len({len(unit) for unit in units}) > 1:
        return [row for number in order for row in units[number]]
    rows = [0] * sum(map(len, units))
    for place, number in enumerate(order):
        for slot, row in zip(units[place], units[number], strict=True):
            rows[slot] = row
    return rows


def _cut(kind: CutKind, samples: Samples, parts: Sequence[Sequence[Units]], what: str) -> BatchCut:
    pieces = tuple(
        tuple(
            MicroBatch(samples.reorder(torch.tensor(rows)), tuple(rows))
            for rows in (sorted(itertools.chain.from_iterable(units)) for units in rank)
        )
        for rank in parts
    )
    return BatchCut(kind, _how(pieces, what), pieces)


def _how(pieces: Sequence[Sequence[MicroBatch]], what: str) -> str:
    sizes = [len(piece.rows) for rank in pieces for piece in rank]
    each = f"{sizes[0]}" if len(set(sizes)) == 1 else listed([str(size) for size in sizes])
    of = counted(len(sizes), what)
    if what == "rank" and len(pieces[0]) > 1:
        of = f"{counted(len(pieces), 'rank')} × {counted(len(pieces[0]), 'micro-batch')}"
    return f"{of} of {each} {'sample' if set(sizes) == {1} else 'samples'}"
