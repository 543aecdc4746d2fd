"""What is known of the data so far: each function's states, of the whole, of every piece, and of every group.

A tally of one piece is made wherever the piece is read, and absorbed into that of all. The whole, and each group, are
held in a few cells, to which samples are dealt in turn: leaving one cell out at a time gives the error bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from batchproof.derive import StatesByGroup
from batchproof.ground.batch import Batch, join
from batchproof.metric import NOTHING, PartialState, Sample, unpacked
from batchproof.scoring.function import ScoredFunction, batch_of

if TYPE_CHECKING:
    import pyarrow

    from batchproof.scoring.blocks import Block, Piece, Source

CELLS = 20
#: The state of one group may take so many bytes to be held in cells.
MOST_CELLED_BYTES = 512
#: More groups than these are held once each: there is no error bar then.
MOST_CELLED_GROUPS = 20_000

#: Whole numbers within such a range are counted.
RANGE = 1 << 17
#: Rows of each block that the plan is tried on at the end, and of all.
TRIED, MOST_TRIED = 8, 256
#: Each NaN is unequal to the others: in a key it is this one.
NAN = float("nan")

Key = tuple[Any, ...]


class GroupKeys:
    """The groups that came, in the order in which they came."""

    def __init__(self) -> None:
        self.numbers: dict[Key, int] = {}
        self._last = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def of_block(self, columns: Sequence[pyarrow.Array]) -> Tensor:
        """For each row of a block the number of its group."""
        near = _near_each_other(columns[0]) if len(columns) == 1 else None
        if near is None:
            codes, keys = _encoded(columns)
            return self.of_keys(keys)[codes]
        places, least, met = near
        table = torch.empty(int(met[-1]) + 1, dtype=torch.int64)
        table[met] = self._of_numbers(met + least)
        return table[places]

    def _of_numbers(self, values: Tensor) -> Tensor:
        """The groups of whole numbers in order; most blocks have those of the block before."""
        if not torch.equal(values, self._last[0]):
            self._last = values, self.of_keys((value,) for value in values.tolist())
        return self._last[1]

    def of_keys(self, keys: Iterable[Key]) -> Tensor:
        """The numbers of groups, new ones included."""
        numbers = self.numbers
        return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys], dtype=torch.int64)


def _encoded(columns: Sequence[pyarrow.Array]) -> tuple[Tensor, list[Key]]:
    """For each row the number of its key among those of these rows, and the keys."""
    found = [_encoded_column(column) for column in columns]
    if len(found) == 1:
        return found[0][0], [(value,) for value in found[0][1]]
    together = found[0][0]
    for numbers, values in found[1:]:
        together = together * len(values) + numbers
    met, codes = torch.unique(together, return_inverse=True)
    return codes, [_key(int(code), [values for _, values in found]) for code in met]


def _encoded_column(column: pyarrow.Array) -> tuple[Tensor, list[Any]]:
    """For each row the number of its value, and the values; a null is a value, and all NaN are one."""
    import pyarrow as pa

    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    encoded = plain.dictionary_encode(null_encoding="encode")
    numbers = torch.from_numpy(encoded.indices.to_numpy(zero_copy_only=False).astype("int64"))
    values = encoded.dictionary.to_pylist()
    return numbers, [NAN if value != value else value for value in values] if pa.types.is_floating(
        plain.type
    ) else values


def _near_each_other(column: pyarrow.Array) -> tuple[Tensor, int, Tensor] | None:
    """Whole numbers within a short range, such as ids: counted, where others are looked up in a hash table.

    Returns:
        Each number less the least of them, that one, and which of these differences there are, in order.
    """
    import pyarrow as pa

    if not pa.types.is_integer(column.type) or column.null_count or not len(column):
        return None
    numbers = column.to_numpy(zero_copy_only=False)
    least, most = int(numbers.min()), int(numbers.max())
    if most - least > RANGE:
        return None
    places = torch.from_numpy(numbers.astype("int64")).sub_(least)
    return places, least, torch.bincount(places).nonzero().flatten()


def _key(code: int, values: Sequence[Sequence[Any]]) -> Key:
    parts: list[Any] = []
    for own in reversed(values):
        code, place = divmod(code, len(own))
        parts.append(own[place])
    return tuple(reversed(parts))


# ---------------------------------------------------------------------- one function


@dataclass
class FoldedSamples:
    """What a function that folds has of the data.

    Attributes:
        function: the function.
        cells: states of the whole; None where there is nothing in a cell yet.
        pieces: the state of each piece, by its number.
        groups: the states of groups: group times the cells of each, and the cell.
        group_cells: how many cells each group has; 0 where no groups are asked for.
        drawn: a few rows of each piece.
    """

    function: ScoredFunction
    cells: list[PartialState | None] = field(default_factory=lambda: [None] * CELLS)
    pieces: dict[int, PartialState] = field(default_factory=dict)
    groups: StatesByGroup | None = None
    group_cells: int = 0
    drawn: list[Batch] = field(default_factory=list)

    def absorb(self, other: FoldedSamples, groups: Tensor) -> None:
        """Take in what was folded elsewhere, whose groups have these numbers here."""
        aggregation = self.function.aggregation
        assert aggregation is not None
        self.cells = [_merged(aggregation, pair) for pair in zip(self.cells, other.cells, strict=True)]
        self.pieces |= other.pieces
        self.drawn += other.drawn
        if other.groups is None:
            return
        if self.groups is None:
            self.groups, self.group_cells = StatesByGroup.empty(other.groups.plan, 0), other.group_cells
        cells = min(self.group_cells, other.group_cells)
        self.hold_in(cells)
        self.groups.grow((int(groups.max()) + 1) * cells if len(groups) else 0)
        places = torch.arange(len(groups) * other.group_cells)
        own = groups[places // other.group_cells] * cells + places % other.group_cells % cells
        self.groups.absorb(other.groups, own)

    def sample(self) -> Sample:
        """A few of all rows, evenly from all pieces."""
        each = max(1, MOST_TRIED // max(len(self.drawn), 1))
        pieces = self.drawn[:: -(-len(self.drawn) // MOST_TRIED) or 1]
        some = [Batch(batch.layout, [leaf[:each] for leaf in batch.leaves], min(batch.n, each)) for batch in pieces]
        n = sum(state.n for state in self.cells if state is not None)
        return unpacked([join(some)], n) if some else NOTHING

    def hold_in(self, cells: int) -> None:
        """Hold each group in fewer cells."""
        if self.groups is None or cells == self.group_cells:
            return
        held, places = StatesByGroup.empty(self.groups.plan, 0), torch.arange(self.groups.slots)
        held.grow(-(-self.groups.slots // self.group_cells) * cells)
        held.absorb(self.groups, places // self.group_cells * cells + places % self.group_cells % cells)
        self.groups, self.group_cells = held, cells


def _merged(aggregation: Any, pair: Sequence[PartialState | None]) -> PartialState | None:
    found = [state for state in pair if state is not None]
    return aggregation.merge(found) if len(found) == 2 else found[0] if found else None


@dataclass
class KeptSamples:
    """The samples, where a function needs them all together.

    Attributes:
        function: the function.
        blocks: the arguments, block by block.
        groups: for each block the groups of its rows; None where none are asked for.
        pieces: for each block the number of its piece.
    """

    function: ScoredFunction
    blocks: list[list[Tensor]] = field(default_factory=list)
    groups: list[Tensor | None] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)

    def absorb(self, other: KeptSamples, groups: Tensor) -> None:
        """Take in what was kept elsewhere, whose groups have these numbers here."""
        self.blocks += other.blocks
        self.groups += [None if own is None else groups[own] for own in other.groups]
        self.pieces += other.pieces

    @property
    def nbytes(self) -> int:
        """Bytes of all samples."""
        return sum(t.nbytes for block in self.blocks for t in block)


# ---------------------------------------------------------------------- all functions


@dataclass
class Tally:
    """What is known of some pieces of the data.

    Attributes:
        functions: for each function what it has.
        keys: the groups.
        rows: how many rows of each piece were used.
        dropped: rows left out because of nulls.
        not_a_number: rows that hold NaN.
    """

    functions: list[FoldedSamples | KeptSamples]
    keys: GroupKeys = field(default_factory=GroupKeys)
    rows: dict[int, int] = field(default_factory=dict)
    dropped: int = 0
    not_a_number: int = 0

    @classmethod
    def empty(cls, functions: Sequence[ScoredFunction]) -> Tally:
        """Of no data."""
        return cls(
            [
                KeptSamples(function) if function.aggregation is None else FoldedSamples(function)
                for function in functions
            ]
        )

    def absorb(self, other: Tally) -> None:
        """Take in what is known of other pieces."""
        groups = self.keys.of_keys(other.keys.numbers)
        for mine, theirs in zip(self.functions, other.functions, strict=True):
            mine.absorb(theirs, groups)  # type: ignore[arg-type]
        self.rows |= other.rows
        self.dropped += other.dropped
        self.not_a_number += other.not_a_number


@dataclass(frozen=True)
class Scan:
    """What is done to every piece; it travels to wherever pieces are read.

    Attributes:
        source: the data.
        functions: the functions.
        by: the columns that groups are made of.
        nulls: ``"error"`` or ``"drop"``.
        only: the groups that are read; None for all rows.
    """

    source: Source
    functions: tuple[ScoredFunction, ...]
    by: tuple[str, ...] = ()
    nulls: str = "error"
    only: frozenset[Key] | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that the functions take."""
        given = (names for function in self.functions for names in function.columns)
        return list(dict.fromkeys(name for names in given for name in ([names] if isinstance(names, str) else names)))

    def tally(self, piece: Piece, known: Tally | None = None) -> Tally:
        """Read a piece, and fold it: into what is known of other pieces, or by itself."""
        found = Tally.empty(self.functions) if known is None else known
        works = [_KeepWork(one) if isinstance(one, KeptSamples) else _FoldWork(one, piece) for one in found.functions]
        rows = 0
        with torch.no_grad():
            for block in self.source.read(piece, self.columns, self.by, self.nulls):
                found.dropped += block.dropped
                found.not_a_number += block.not_a_number
                rows += block.rows
                if not block.rows:
                    continue
                groups = found.keys.of_block(block.keys) if self.by else None
                if self.only is not None:
                    block, groups = self._of_these(block, groups, found.keys)
                for work in works:
                    work.add(block, piece.number, groups, len(found.keys))
        for work in works:
            work.close()
        found.rows[piece.number] = rows
        return found

    def _of_these(self, block: Block, groups: Tensor | None, keys: GroupKeys) -> tuple[Block, Tensor]:
        """The rows of a block that are of the groups that are read."""
        assert self.only is not None
        assert groups is not None
        numbers = torch.tensor([number for key, number in keys.numbers.items() if key in self.only], dtype=torch.int64)
        rows = torch.isin(groups, numbers)
        tensors = {name: tensor[rows] for name, tensor in block.tensors.items()}
        return replace(block, rows=int(rows.sum()), tensors=tensors), groups[rows]


class _KeepWork:
    """Keeps the blocks of a piece."""

    def __init__(self, kept: KeptSamples) -> None:
        self.kept = kept

    def add(self, block: Block, piece: int, groups: Tensor | None, count: int) -> None:
        self.kept.blocks.append([value.clone() for value in self.kept.function.arguments(block.tensors)])
        self.kept.groups.append(groups)
        self.kept.pieces.append(piece)

    def close(self) -> None:
        pass


class _FoldWork:
    """Folds the blocks of a piece."""

    def __init__(self, folded: FoldedSamples, piece: Piece) -> None:
        aggregation = folded.function.aggregation
        assert aggregation is not None
        self.folded, self.aggregation = folded, aggregation
        self.drawn: list[Batch] = []
        self.rows = 0
        self.run = piece.number  # of a few rows that go to one cell; pieces begin at different cells
        self.runs = _runs(piece)
        self.states: list[PartialState] = []

    def add(self, block: Block, piece: int, groups: Tensor | None, count: int) -> None:
        arguments = self.folded.function.arguments(block.tensors)
        self._draw(arguments, piece)
        for part in _split(arguments, self.runs):
            state = self.aggregation.fold(*part)
            cell = self.run % CELLS
            self.folded.cells[cell] = _merged(self.aggregation, (self.folded.cells[cell], state))
            self.states.append(state)
            self.run += 1
        self.folded.pieces[piece] = self.aggregation.merge(self.states)
        self.states = [self.folded.pieces[piece]]
        if groups is not None:
            self._add_to_groups(arguments, groups, count)

    def _add_to_groups(self, arguments: Sequence[Tensor], groups: Tensor, count: int) -> None:
        folded = self.folded
        if folded.groups is None:
            folded.groups = StatesByGroup.empty(self.aggregation.plan, 0)
            folded.group_cells = CELLS if folded.groups.plan.nbytes <= MOST_CELLED_BYTES else 1
        if count > MOST_CELLED_GROUPS:
            folded.hold_in(1)
        cells = folded.group_cells
        folded.groups.grow(count * cells)
        fold = self.aggregation.of_groups
        slots = groups
        if cells > 1:
            cell = _dealt(len(groups), cells) if fold.by_sample else torch.tensor(self.run % cells)
            slots = torch.add(cell, groups, alpha=cells)
        fold.fold(folded.groups, arguments, slots)

    def _draw(self, arguments: Sequence[Tensor], piece: int) -> None:
        """Keep a few rows, to try the plan on once all are folded."""
        count = len(arguments[0])
        some = torch.randint(count, (TRIED,), generator=torch.Generator().manual_seed(piece + self.rows))
        self.drawn.append(batch_of([argument[some] for argument in arguments]))
        self.rows += count

    def close(self) -> None:
        if self.drawn:
            self.folded.drawn.append(join(self.drawn))


@lru_cache(maxsize=4)
def _dealt(rows: int, cells: int) -> Tensor:
    """The cell of each row of a block: most blocks have one size, and division takes as long as the fold."""
    return torch.arange(rows) % cells


def _runs(piece: Piece) -> int:
    """Into how many parts each block of a piece is cut, so that every cell gets some."""
    from batchproof.scoring.blocks import BLOCK_ROWS

    return CELLS if piece.rows is None else max(1, -(-CELLS * BLOCK_ROWS // max(piece.rows, 1)))


def _split(arguments: Sequence[Tensor], parts: int) -> Iterator[list[Tensor]]:
    rows = len(arguments[0])
    step = max(-(-rows // min(parts, CELLS)), 1)
    for start in range(0, rows, step):
        yield [argument[start : start + step] for argument in arguments]
