"""What data is read as: a source knows its pieces, a piece is read as blocks, a block is tensors of some rows."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchproof.errors import BatchproofError
from batchproof.ground.datatable import (
    Unusable,
    bare,
    bare_type,
    column,
    holds_numbers,
    holds_text,
    is_list,
    lengths_of,
)
from batchproof.ground.text import listed

if TYPE_CHECKING:
    from torch import Tensor

#: Rows of a block, where a row is small.
BLOCK_ROWS = 131_072
#: Bytes of a block, where a row holds lists.
_BLOCK_BYTES = 2**25
#: Rows of a piece of what is in memory.
PART_ROWS = 2**20
_WORDS = {"halffloat": "float16", "float": "float32", "double": "float64", "null": "nothing but nulls"}


@dataclass(frozen=True)
class Piece:
    """What is read alone: a row group of a parquet file, another file, a part of a table.

    >>> Piece(0, "scores/a.parquet", "row group 3", 100).title
    'scores/a.parquet, row group 3'
    """

    number: int
    file: str  # '' for data in memory
    part: str  # 'row group 3', or ''
    rows: int | None  # where it is known before reading

    @property
    def title(self) -> str:
        """The file and the part of it, as a message names them."""
        return ", ".join(word for word in (self.file, self.part) if word)


@dataclass(frozen=True)
class Block:
    """Some rows of a piece.

    The tensors may be views of the data: they are not to be written to.
    """

    rows: int  # those in the tensors
    tensors: dict[str, Tensor]  # by name of column, rows first
    keys: tuple[
        Any, ...
    ]  # arrays of pyarrow's: the columns that groups are made of, in their own type, with their nulls
    dropped: int  # rows left out because of nulls
    not_a_number: int  # rows that hold NaN in one of the tensors; they are kept in


class Source(ABC):
    """Data that is read in pieces. It can be pickled: a worker on another machine opens the same files again."""

    #: The data as a report names it: the path as it was typed.
    title: str
    #: The type of each column, in words.
    columns: dict[str, str]
    #: Why no function of numbers takes a column; groups may be made of it.
    not_numbers: dict[str, str]
    #: Why a column cannot be read at all.
    unreadable: dict[str, str]
    pieces: list[Piece]
    #: What several pieces of one file, or of data in memory, are called.
    pieces_are: str = "parts"

    def read(
        self, piece: Piece, columns: Sequence[str], keys: Sequence[str] = (), nulls: str = "error"
    ) -> Iterator[Block]:
        """The rows of a piece, in order, as blocks; other pieces and other columns are not read.

        Args:
            piece: One of ``pieces``.
            columns: What becomes tensors: lists of one length are a trailing dimension.
            keys: What stays as it is: the columns that groups are made of.
            nulls: ``"error"``, or ``"drop"`` to leave out rows with a null in one of ``columns``.

        Raises:
            BatchproofError: a column is missing or holds no numbers, there is a null, or the data cannot be read.
        """
        if nulls not in ("error", "drop"):
            raise BatchproofError(f"nulls must be 'error' or 'drop', not {nulls!r}")
        self.check(columns, keys)
        return self._blocks(piece, list(columns), list(keys), nulls == "drop")

    def check(self, columns: Sequence[str], keys: Sequence[str] = ()) -> None:
        """Whether all of these columns can be read.

        Raises:
            BatchproofError: one is missing, cannot be read, or is one of ``columns`` and holds no numbers.
        """
        for name in (*columns, *keys):
            if name not in self.columns:
                raise BatchproofError(f"{self.title} has no column {name}: {self.nearest(name)}")
            if name in self.unreadable:
                raise BatchproofError(self.unreadable[name])
        for name in columns:
            if name in self.not_numbers:
                raise BatchproofError(f"{self.title}: the column {name} {self.not_numbers[name]}")

    def nearest(self, name: str) -> str:
        """Which columns there are, the one that is spelt most like a name first."""
        import difflib

        by_case = {column.lower(): column for column in self.columns}
        near = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.5)
        hint = f"did you mean {by_case[near[0]]}? " if near else ""
        shown = list(self.columns)[:20]
        more = f" and {len(self.columns) - len(shown):,} more" if len(self.columns) > len(shown) else ""
        return f"{hint}it has {', '.join(shown) + more if more else listed(shown)}"

    @abstractmethod
    def locate(self, piece: Piece, row: int) -> str:
        """A row of a piece, from 0, in words: its number in the file, from 1, and the file."""

    @abstractmethod
    def _blocks(self, piece: Piece, columns: list[str], keys: list[str], drop: bool) -> Iterator[Block]: ...


class TableSource(Source):
    """Data that pyarrow reads."""

    #: pyarrow's type of each column, alike in all pieces.
    types: dict[str, Any]
    #: The shape that each row has in a column of lists; none where the first row has none.
    shapes: dict[str, tuple[int, ...]]

    def describe(self, unreadable: Mapping[str, str]) -> None:
        """Fill in what is known of the columns from ``types`` and the first rows."""
        self.unreadable = dict(unreadable)
        self.columns = {name: type_in_words(kind) for name, kind in self.types.items()}
        self.not_numbers = {
            name: "holds text, not numbers" if holds_text(kind) else f"holds {type_in_words(kind)}, not numbers"
            for name, kind in self.types.items()
            if not holds_numbers(kind)
        }
        lists = [name for name, kind in self.types.items() if is_list(bare_type(kind)) and name not in self.not_numbers]
        self.shapes = {name: shape for name in lists if (shape := self._first_shape(name)) is not None}
        for name, shape in self.shapes.items():
            self.columns[name] = f"lists of {' × '.join(map(str, shape))} {type_in_words(_innermost(self.types[name]))}"

    def _first_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of the first list of a column that is not null."""
        import torch

        if name in self.unreadable:
            return None
        first = itertools.islice(self._batches(self.pieces[0], [name], 1), 1)  # that is no null, mostly
        others = (batch for piece in self.pieces for batch in self._batches(piece, [name], 1024))
        for batch in itertools.chain(first, others):
            value = bare(batch.column(0)).drop_null()
            if len(value):
                found = column(value.slice(0, 1))
                return tuple(found.shape[1:]) if isinstance(found, torch.Tensor) else None
        return None

    def _blocks(self, piece: Piece, columns: list[str], keys: list[str], drop: bool) -> Iterator[Block]:
        names = list(dict.fromkeys([*columns, *keys])) or list(self.columns)[:1]
        most = rows_of_block(self.shapes.get(name, ()) for name in columns)
        start = 0
        for batch in self._batches(piece, names, most):
            for first in range(0, batch.num_rows, most):
                part = batch.slice(first, most)
                values = dict(zip(names, part.columns, strict=True))
                yield self._block(piece, start, part.num_rows, values, columns, keys, drop)
                start += part.num_rows

    def _block(
        self,
        piece: Piece,
        start: int,
        rows: int,
        values: dict[str, Any],
        columns: list[str],
        keys: list[str],
        drop: bool,
    ) -> Block:
        places: Sequence[int] = range(start, start + rows)
        gone = _nulls({name: values[name] for name in columns})
        if gone:
            if not drop:
                name, mask = min(gone.items(), key=lambda item: int(item[1].argmax()))
                where = self.locate(piece, places[int(mask.argmax())])
                raise BatchproofError(f"{name} is null in {where}: leave such rows out with --nulls drop")
            places, values = _without(gone.values(), places, values)
        tensors = {
            name: self._tensor(name, values[name], lambda row: self.locate(piece, places[row])) for name in columns
        }
        return Block(
            rows=len(places),
            tensors=tensors,
            keys=tuple(values[name] for name in keys),
            dropped=rows - len(places),
            not_a_number=rows_with_nan(tensors.values()),
        )

    def _tensor(self, name: str, values: Any, row: Callable[[int], str]) -> Tensor:
        import torch

        shape = self.shapes.get(name, ())
        if not len(values):
            return _no_rows(values, shape)
        found = column(values)
        if isinstance(found, torch.Tensor) and found.shape[1:] == shape:
            return found
        if isinstance(found, Unusable):
            raise BatchproofError(f"{name} {found.why}, in the rows from {row(0)} on")
        raise BatchproofError(self._ragged(name, values, row))

    def _ragged(self, name: str, values: Any, row: Callable[[int], str]) -> str:
        """Which row is the first whose list has another length than that of the first row of all."""
        expected = self.shapes.get(name, ())
        shapes = (tuple(column(values.slice(place, 1)).shape[1:]) for place in range(len(values)))
        place, shape = next((place, shape) for place, shape in enumerate(shapes) if shape != expected)
        sizes = [" × ".join(map(str, shape)) for shape in (expected, shape)]
        return (
            f"{name} holds lists of different lengths: {sizes[0]} in the first row, {sizes[1]} in {row(place)}; "
            "pad them to one length"
        )

    @abstractmethod
    def _batches(self, piece: Piece, names: list[str], rows: int) -> Iterator[Any]:
        """Record batches of these columns in their ``types``, of about so many rows at most."""


def _without(
    masks: Iterable[Any], places: Sequence[int], values: Mapping[str, Any]
) -> tuple[list[int], dict[str, Any]]:
    """The rows, and their values, that none of some masks marks."""
    import numpy
    import pyarrow

    left = ~numpy.logical_or.reduce(list(masks))
    kept = pyarrow.array(left)
    return numpy.asarray(places)[left].tolist(), {name: array.filter(kept) for name, array in values.items()}


def _no_rows(values: Any, shape: tuple[int, ...]) -> Tensor:
    """A tensor of no rows, in the type that others of its column have."""
    values = bare(values)
    while is_list(values.type):
        values = bare(values.flatten())
    found: Tensor = column(values)
    return found.reshape(0, *shape)


def _nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that have nulls, each with a mask of numpy's over its rows."""
    masks = {name: _null_rows(bare(array)) for name, array in values.items()}
    return {name: mask for name, mask in masks.items() if mask is not None and mask.any()}


def _null_rows(array: Any) -> Any:
    """Which rows are null, or hold a null in a list; None where there is none."""
    import numpy

    own = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    if not is_list(array.type):
        return own
    inner = _null_rows(bare(array.flatten()))
    if inner is None:
        return own
    rows = numpy.repeat(numpy.arange(len(array)), lengths_of(array))[inner]
    mask = numpy.zeros(len(array), dtype=bool) if own is None else numpy.array(own)
    mask[rows] = True
    return mask


def parts_of(rows: int) -> list[Piece]:
    """The pieces of what is in memory.

    >>> [piece.part for piece in parts_of(2**20 + 3)]
    ['rows 1 to 1,048,576', 'rows 1,048,577 to 1,048,579']
    """
    bounds = [(start, min(rows, start + PART_ROWS)) for start in range(0, rows, PART_ROWS)]
    return [
        Piece(number, "", f"rows {start + 1:,} to {stop:,}" if len(bounds) > 1 else "", stop - start)
        for number, (start, stop) in enumerate(bounds)
    ]


def rows_of_block(shapes: Iterable[tuple[int, ...]]) -> int:
    """How many rows a block has: fewer where each is large.

    >>> rows_of_block([(), ()]), rows_of_block([(1024,)])
    (131072, 4096)

    Args:
        shapes: Of a row in each of the columns.
    """
    numbers = sum(math.prod(shape) for shape in shapes)
    return max(1, min(BLOCK_ROWS, _BLOCK_BYTES // (8 * max(1, numbers))))


def rows_with_nan(tensors: Any) -> int:
    """In how many rows one of the tensors holds NaN."""
    strange = None
    for tensor in tensors:
        if tensor.numel() and (tensor.is_floating_point() or tensor.is_complex()) and _may_hold_nan(tensor):
            found = tensor.isnan().flatten(1).any(1).cpu() if tensor.ndim > 1 else tensor.isnan().cpu()
            strange = found if strange is None else strange | found
    return 0 if strange is None else int(strange.sum())


def _may_hold_nan(tensor: Tensor) -> bool:
    """Looked at in one pass without a mask: what most blocks pay."""
    import torch

    if tensor.dtype in (torch.float32, torch.float64) and tensor.device.type == "cpu":
        smallest = tensor.detach().numpy().min()  # NaN wins
        return bool(smallest != smallest)
    return True


def _innermost(kind: Any) -> Any:
    kind = bare_type(kind)
    return _innermost(kind.value_type) if is_list(kind) else kind


def type_in_words(kind: Any) -> str:
    """``float32``, ``text``, ``lists of int64``.

    >>> import pyarrow
    >>> type_in_words(pyarrow.list_(pyarrow.float32(), 3))
    'lists of 3 float32'
    """
    from pyarrow import types

    if holds_text(kind):
        return "text"
    kind = bare_type(kind)
    if is_list(kind):
        size = f"{kind.list_size} " if types.is_fixed_size_list(kind) else ""
        return f"lists of {size}{type_in_words(kind.value_type)}"
    return _WORDS.get(str(kind), str(kind))
