"""The state that `exact` holds: merged leaves for each of a few groups of batches.

Groups cost little and buy an error bar: leaving one out at a time is a jackknife with no samples kept.

What a group holds is never written to: a batch makes new leaves, and one assignment puts them in place of the old
ones. So an interrupt finds either all of a batch in the state, or nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import torch

from batchproof.derive import ROWS, SUM, Folding, Leaf
from batchproof.errors import BatchproofError

GROUPS = 20
#: A larger state is held once: then there is no error bar.
MOST_GROUPED_BYTES = 1 << 18
#: From this many bytes on, new memory for a leaf costs more than the addition: two buffers then take turns.
LARGE = 1 << 16

_order = count()

Chunks = tuple[Any, int, list[torch.Tensor]]  # (those before, or None; when they came; a chunk for each leaf of rows)


class Packing:
    """Which of a plan's leaves are held as one vector, in front of the others: many small additions cost one.

    Attributes:
        vectors: for the place of each such leaf, whether it is a vector itself; it is a number otherwise.
        alone: the places of the others.
        held: a leaf for each value that is held; the vector has the first one of its own.
        shapes: of these values.
    """

    def __init__(self, plan: Folding) -> None:
        leaves = plan.leaves
        sums = [i for i, leaf in enumerate(leaves) if leaf.merge is SUM and leaf.dtype is torch.float64]
        small = [i for i in sums if not leaves[i].shape]
        self.vectors = {i: leaves[i].centred for i in small} if len(small) > 1 else {}
        self.alone = [i for i in range(len(leaves)) if i not in self.vectors]
        self._sizes = [leaves[i].points for i in self.vectors]
        self.held = [leaves[i] for i in [*small[: bool(self.vectors)], *self.alone]]
        self.shapes = [leaf.state_shape for leaf in self.held]
        if self.vectors:
            self.shapes[0] = (sum(self._sizes),)

    def fold(self, plan: Folding, also: Sequence[str] = ()) -> Callable[..., Any]:
        """The fold of a plan of this state, whose values are packed; values of other names come as a third list."""
        return plan.fold.compile_packed(self.vectors, also) if self.vectors else plan.fold.compile(also)

    def pack(self, values: Sequence[Any]) -> list[Any]:
        """Values for the leaves, packed."""
        if not self.vectors:
            return list(values)
        vector = torch.cat([values[i].reshape(-1) for i in self.vectors]).double()
        return [vector, *(values[i] for i in self.alone)]

    def unpack(self, values: Sequence[Any]) -> list[Any]:
        """A value for each leaf."""
        if not self.vectors:
            return list(values)
        vector, *others = values
        unpacked = dict(zip(self.alone, others, strict=True))
        for (place, is_vector), part in zip(self.vectors.items(), vector.split(self._sizes), strict=True):
            unpacked[place] = part if is_vector else part[0]
        return [unpacked[place] for place in range(len(unpacked))]


class GroupState(NamedTuple):
    """What one group holds: packed values (None for kept rows), what was counted, and the kept rows."""

    values: list[Any]
    lengths: Sequence[int]
    n: int
    chunks: Chunks | None = None


@dataclass
class GroupedState:
    """The cells of all groups; None where a group has no samples yet."""

    plan: Folding
    groups: int
    device: torch.device
    cells: list[GroupState | None]
    _spares: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.packing = Packing(self.plan)
        held = self.packing.held
        self._rows = [i for i, leaf in enumerate(held) if leaf.merge is ROWS]
        self._merges = [leaf.merge.combiner(leaf.dtype) for leaf in held]
        self._large = [i for i, leaf in enumerate(held) if leaf.nbytes >= LARGE and leaf.merge.takes_out(leaf.dtype)]

    @classmethod
    def empty(cls, plan: Folding, device: torch.device, groups: int = GROUPS) -> GroupedState:
        groups = groups if plan.nbytes <= MOST_GROUPED_BYTES else 1
        return cls(plan, groups, device, [None] * groups)

    @classmethod
    def of(cls, plan: Folding, device: torch.device, leaves: Sequence[Any], counts: Any, lengths: Any) -> GroupedState:
        """From stacked leaves, as `leaves` gives them."""
        made = cls(plan, len(counts), device, [None] * len(counts))
        chunks: list[Chunks | None] = [None] * len(counts)
        kept = [rows for leaf, rows in zip(plan.leaves, leaves, strict=True) if leaf.merge is ROWS]
        for entry in zip(*kept, strict=True):
            group = entry[0][0]
            chunks[group] = chunks[group], next(_order), [chunk for _, chunk in entry]
        for group, n in enumerate(counts):
            if n:
                values = [
                    None if leaf.merge is ROWS else held[group] for leaf, held in zip(plan.leaves, leaves, strict=True)
                ]
                made.cells[group] = GroupState(made.packing.pack(values), list(lengths[group]), n, chunks[group])
        return made

    @property
    def leaves(self) -> list[Any]:
        """For each leaf the values of all groups, stacked; of kept rows (group, rows) in the order that they came."""
        stacked: list[Any] = []
        values = [None if cell is None else self.packing.unpack(cell.values) for cell in self.cells]
        place = 0
        for position, leaf in enumerate(self.plan.leaves):
            if leaf.merge is ROWS:
                stacked.append([(group, parts[place]) for group, parts in self._arrivals()])
                place += 1
                continue
            blank = leaf.merge.identity(leaf.state_shape, leaf.dtype, self.device)
            stacked.append(torch.stack([blank if own is None else own[position] for own in values]))
        return stacked

    @property
    def counts(self) -> list[int]:
        return [0 if cell is None else cell.n for cell in self.cells]

    @property
    def lengths(self) -> list[list[int]]:
        none = [0] * len(self.plan.lengths)
        return [none if cell is None else list(cell.lengths) for cell in self.cells]

    @property
    def n(self) -> int:
        return sum(cell.n for cell in self.cells if cell is not None)

    def add(self, group: int, values: Sequence[torch.Tensor], lengths: Sequence[int], n: int) -> None:
        """Merge one folded batch into a group.

        Args:
            group: its number.
            values: of the batch, packed.
            lengths: of its selections.
            n: its number of samples.
        """
        cell = self.cells[group]
        if cell is None:
            self.cells[group] = self._first(values, lengths, n)
            return
        new: list[Any] = []
        large = self._large
        for merge, kept, value in zip(self._merges, cell.values, values, strict=True):
            if merge is None:
                new.append(None)
            elif kept.shape != value.shape:
                raise _misshapen(self.packing.held[len(new)], kept.shape, value)
            elif large:
                new.append(self._added(group, len(new), kept, value))
            else:
                new.append(merge(kept, value))
        if lengths:
            lengths = [a + b for a, b in zip(cell.lengths, lengths, strict=True)]
        chunks = cell.chunks
        if self._rows:
            chunks = chunks, next(_order), [_own(values[i]) for i in self._rows]
        self.cells[group] = GroupState(new, lengths, cell.n + n, chunks)
        if self._large:
            self._spares.update({(group, position): cell.values[position] for position in self._large})

    def _first(self, values: Sequence[torch.Tensor], lengths: Sequence[int], n: int) -> GroupState:
        own: list[Any] = []
        for leaf, shape, value in zip(self.packing.held, self.packing.shapes, values, strict=True):
            if leaf.merge is not ROWS and value.shape != shape:
                raise _misshapen(leaf, shape, value)
            own.append(None if leaf.merge is ROWS else _own(value).to(leaf.dtype))
        chunks = (None, next(_order), [_own(values[i]) for i in self._rows]) if self._rows else None
        return GroupState(own, list(lengths), n, chunks)

    def _added(self, group: int, position: int, kept: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """One of the leaves where some are large: into the buffer that the last batch left."""
        spare = self._spares.get((group, position))
        if spare is None or spare is kept:
            return self._merges[position](kept, value)  # type: ignore[misc]
        return self._merges[position](kept, value, out=spare)  # type: ignore[misc,call-arg]

    def absorb(self, other: GroupedState) -> None:
        """Merge another state, group by group; its plan is ours. Its kept rows come after ours."""
        cells = list(self.cells)
        arrivals = sorted(order for cell in other.cells if cell is not None for order, _ in _unrolled(cell.chunks))
        later = {order: next(_order) for order in arrivals}
        for number, theirs in enumerate(other.cells):
            if theirs is not None:
                cells[number % self.groups] = self._both(cells[number % self.groups], theirs, later)
        self.cells, self._spares = cells, {}

    def _both(self, mine: GroupState | None, theirs: GroupState, later: dict[int, int]) -> GroupState:
        chunks = None if mine is None else mine.chunks
        for order, parts in _unrolled(theirs.chunks):
            chunks = chunks, later[order], parts
        if mine is None:
            return self._copied(theirs)._replace(chunks=chunks)
        values = [
            None if merge is None else merge(a, b)
            for merge, a, b in zip(self._merges, mine.values, theirs.values, strict=True)
        ]
        lengths = [a + b for a, b in zip(mine.lengths, theirs.lengths, strict=True)]
        return GroupState(values, lengths, mine.n + theirs.n, chunks)

    def filled(self) -> list[int]:
        return [group for group, cell in enumerate(self.cells) if cell is not None]

    def merged(self, groups: Sequence[int]) -> tuple[list[torch.Tensor], list[int], int]:
        """Leaves, lengths and number of samples of some groups together."""
        cells = [cell for cell in (self.cells[group] for group in groups) if cell is not None]
        values = []
        for position, leaf in enumerate(self.packing.held):
            if leaf.merge is ROWS:
                place = self._rows.index(position)
                values.append(
                    torch.cat([parts[place] for group, parts in self._arrivals() if group in groups], leaf.dim)
                )
            else:
                values.append(leaf.merge.join([cell.values[position] for cell in cells]))
        leaves = self.packing.unpack(values)
        lengths = [sum(column) for column in zip(*(cell.lengths for cell in cells), strict=True)]
        return leaves, lengths, sum(cell.n for cell in cells)

    def _arrivals(self) -> Iterator[tuple[int, list[torch.Tensor]]]:
        """The kept rows and their groups, in the order in which they came."""
        found = [
            (order, group, parts)
            for group, cell in enumerate(self.cells)
            if cell is not None
            for order, parts in _unrolled(cell.chunks)
        ]
        return ((group, parts) for _, group, parts in sorted(found, key=lambda entry: entry[0]))

    def clone(self) -> GroupedState:
        """A state that goes its own way. Only what may be written to is copied: the large leaves."""
        cells = [None if cell is None else self._copied(cell) for cell in self.cells]
        return GroupedState(self.plan, self.groups, self.device, cells)

    def _copied(self, cell: GroupState) -> GroupState:
        if not self._large:
            return cell
        return cell._replace(values=[v.clone() if i in self._large else v for i, v in enumerate(cell.values)])


def _unrolled(chunks: Chunks | None) -> list[tuple[int, list[torch.Tensor]]]:
    """When kept rows came, and what they are; the last ones first."""
    found = []
    while chunks is not None:
        chunks, order, parts = chunks
        found.append((order, parts))
    return found


def _own(value: torch.Tensor) -> torch.Tensor:
    """A copy: a fold may return what it was given."""
    return value.detach().clone()


def _misshapen(leaf: Leaf, shape: Sequence[int], value: torch.Tensor) -> BatchproofError:
    return BatchproofError(
        f"this batch gives a value of shape {tuple(value.shape)} where the first batches gave {tuple(shape)}, at "
        f"{leaf.site}: its size depends on the data; use state='rows' to keep the samples"
    )
