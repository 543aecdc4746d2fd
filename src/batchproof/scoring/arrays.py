"""Arrays by name, in memory or in npz, npy and pt files, of which rows are read as they are asked for."""

from __future__ import annotations

import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from batchproof.errors import BatchproofError
from batchproof.ground import datafile
from batchproof.ground.datatable import Unusable
from batchproof.ground.text import first_line
from batchproof.scoring.blocks import PART_ROWS, Block, Piece, Source, parts_of, rows_of_block, rows_with_nan
from batchproof.scoring.listing import Listing
from batchproof.scoring.types import common_dtype

_OBJECTS = "holds Python objects: save it as an array of numbers"


class _Sliced:
    """A tensor or an array of numpy's, which may be mapped from a file."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape, self.dtype = values, tuple(values.shape), values.dtype

    def take(self, start: int, stop: int) -> Any:
        return self.values[start:stop]


class _Zipped:
    """A member of an npz file, whose rows are read from the first one on."""

    def __init__(self, stream: IO[bytes]) -> None:
        from numpy.lib import format as npy

        self._stream = stream
        version = npy.read_magic(self._stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        self.shape, self._by_columns, self.dtype = read(self._stream)
        self._whole: Any = None

    def take(self, start: int, stop: int) -> Any:
        import numpy

        if self._by_columns and len(self.shape) > 1:  # its rows do not lie one after another
            if self._whole is None:
                self._whole = numpy.frombuffer(self._stream.read(), self.dtype).reshape(self.shape, order="F")
            return self._whole[start:stop]
        row = self.shape[1:]
        size = (stop - start) * int(numpy.prod(row, dtype="int64")) * self.dtype.itemsize
        if not size:
            return numpy.empty((stop - start, *row), self.dtype)
        return numpy.frombuffer(self._stream.read(size), self.dtype).reshape(stop - start, *row)


@dataclass(frozen=True)
class _Seen:
    """What is known of a column of one file without its rows."""

    file: str
    shape: tuple[int, ...]
    dtype: Any  # of numpy or of torch


class ArraySource(Source):
    """Arrays whose rows belong together."""

    def _set(self, title: str, pieces: Sequence[Piece], seen: Sequence[Mapping[str, _Seen]]) -> None:
        if not pieces:
            raise BatchproofError(f"{title} has no rows")
        self.title = title
        self.pieces = list(pieces)
        self.columns, self.not_numbers, self.unreadable = {}, {}, {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._common: dict[str, Any] = {}  # the types of columns that have another in some files
        for name in dict.fromkeys(name for columns in seen for name in columns):
            self._describe(name, [columns[name] for columns in seen if name in columns], seen)

    def _describe(self, name: str, found: Sequence[_Seen], seen: Sequence[Mapping[str, _Seen]]) -> None:
        first = found[0]
        self._shapes[name] = first.shape[1:]
        if len(found) < len(seen):
            without = next(columns for columns in seen if name not in columns)
            other = next(iter(without.values())).file if without else "a file"
            self.unreadable[name] = f"{other} has no column {name}, which {first.file} has: write it with that column"
        for one in found:
            why = self._why_not(name, one, first)
            if why:
                self.unreadable.setdefault(name, why)
        sizes = " × ".join(str(size) for size in first.shape[1:])
        word = _type_in_words(self._common.get(name, first.dtype))
        self.columns[name] = f"lists of {sizes} {word}" if sizes else word
        if not _is_number(first.dtype):
            self.not_numbers[name] = "holds text, not numbers" if word == "text" else f"holds {word}, not numbers"

    def _why_not(self, name: str, one: _Seen, first: _Seen) -> str:
        place = f"{name} of {one.file}" if one.file else name
        if getattr(one.dtype, "hasobject", False):
            return f"{place} {_OBJECTS}"
        if not one.shape:
            return f"{place} is a single number, and has no rows"
        if one.shape[1:] != first.shape[1:]:
            return f"{name} has rows of shape {first.shape[1:]} in {first.file} and {one.shape[1:]} in {one.file}"
        if one.dtype != first.dtype:
            common = _common(self._common.get(name, first.dtype), one.dtype)
            if common is None:
                words = _type_in_words(first.dtype), _type_in_words(one.dtype)
                return f"{name} holds {words[0]} in {first.file} and {words[1]} in {one.file}: write it in one type"
            self._common[name] = common
        return ""

    def _blocks(self, piece: Piece, columns: list[str], keys: list[str], drop: bool) -> Iterator[Block]:
        names = list(dict.fromkeys([*columns, *keys])) or list(self.columns)[:1]
        most = rows_of_block(self._shapes[name] for name in columns)
        with self._opened(piece, names) as (arrays, start, stop):
            lengths = {name: array.shape[0] for name, array in arrays.items()}
            if len(set(lengths.values())) > 1:
                counts = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
                raise BatchproofError(f"{piece.file} has another number of rows in each column: {counts}")
            stop = lengths[names[0]] if stop is None else stop
            for first in range(start, stop, most):
                last = min(stop, first + most)
                found = {name: array.take(first, last) for name, array in arrays.items()}
                tensors = {name: self._tensor(piece, name, found[name]) for name in columns}
                made = tuple(self._key(name, found[name]) for name in keys)
                yield Block(last - first, tensors, made, 0, rows_with_nan(tensors.values()))

    def _tensor(self, piece: Piece, name: str, values: Any) -> Any:
        import torch

        if isinstance(values, torch.Tensor) and values.dtype not in (torch.uint16, torch.uint32, torch.uint64):
            found: Any = values.detach()
        else:
            found = datafile.tensor_of(torch, values.cpu().numpy() if isinstance(values, torch.Tensor) else values)
        where = f"{name} of {piece.file}" if piece.file else name
        if isinstance(found, Unusable):
            raise BatchproofError(f"{where} {found.why}")
        common = self._common.get(name)
        if common is None:
            return found
        wider = found.to(_in_torch(common))
        if (
            wider.is_floating_point()
            and not found.is_floating_point()
            and not torch.equal(wider.to(found.dtype), found)
        ):
            raise BatchproofError(
                f"{where} has whole numbers too large for {_type_in_words(common)}: write it in one type"
            )
        return wider

    def _key(self, name: str, values: Any) -> Any:
        import numpy
        import pyarrow
        import torch

        if len(self._shapes[name]):
            raise BatchproofError(f"{name} holds {self.columns[name]}: groups are made of one value in each row")
        if isinstance(values, torch.Tensor):
            values = (values.float() if values.dtype is torch.bfloat16 else values).detach().cpu().numpy()
        if values.dtype.kind == "S":
            return pyarrow.array(values.astype(str))
        common = self._common.get(name)
        kind = common if isinstance(common, numpy.dtype) and common.kind in "iuf" else values.dtype
        return pyarrow.array(values.astype(kind.newbyteorder("=")))

    def locate(self, piece: Piece, row: int) -> str:
        return f"row {(0 if piece.file else piece.number * PART_ROWS) + row + 1:,} of {piece.file or self.title}"

    @abstractmethod
    def _opened(self, piece: Piece, names: list[str]) -> AbstractContextManager[tuple[dict[str, Any], int, int | None]]:
        """The columns, the first row of a piece and the one after its last: that of all rows where it is None."""


# ------------------------------------------------------------------ types of numpy and of torch


def _type_in_words(dtype: Any) -> str:
    if getattr(dtype, "kind", "") in ("U", "S"):
        return "text"
    return str(dtype).removeprefix("torch.") if not hasattr(dtype, "newbyteorder") else dtype.newbyteorder("=").name


def _is_number(dtype: Any) -> bool:
    if not hasattr(dtype, "kind"):
        return True  # of torch
    return dtype.kind in "biuc" or (dtype.kind == "f" and dtype.itemsize <= 8)


def _common(one: Any, other: Any) -> Any:
    """The type that holds the numbers of two; None where there is none."""
    import torch

    if _type_in_words(one) == _type_in_words(other):
        return one
    if torch.bfloat16 in (one, other):
        floats = [dtype for dtype in (one, other) if isinstance(dtype, torch.dtype) and dtype.is_floating_point]
        return torch.promote_types(*floats) if len(floats) == 2 else None
    one, other = (
        torch.empty(0, dtype=dtype).numpy().dtype if isinstance(dtype, torch.dtype) else dtype for dtype in (one, other)
    )
    return common_dtype(one, other) if one.kind in "iufc" and other.kind in "iufc" else None


def _in_torch(dtype: Any) -> Any:
    import numpy
    import torch

    return dtype if isinstance(dtype, torch.dtype) else datafile.tensor_of(torch, numpy.empty(0, dtype)).dtype


# ------------------------------------------------------------------ in memory


class _MemoryArrays(ArraySource):
    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: _Sliced(value) for name, value in values.items()}
        lengths = {name: value.shape[0] for name, value in self._values.items() if value.shape}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
            raise BatchproofError(f"the arrays have different numbers of rows: {counts}")
        rows = next(iter(lengths.values()), 0)
        seen = {name: _Seen("", value.shape, value.dtype) for name, value in self._values.items()}
        self._set("the arrays", parts_of(rows), [seen])

    def _opened(self, piece: Piece, names: list[str]) -> AbstractContextManager[tuple[dict[str, Any], int, int | None]]:
        start = piece.number * PART_ROWS
        return nullcontext(({name: self._values[name] for name in names}, start, start + (piece.rows or 0)))


def open_arrays(data: Any) -> Source:
    """Arrays or tensors by name, or in order: then they are called ``#1``, ``#2``.

    Raises:
        BatchproofError: their numbers of rows differ, or there are none.
    """
    names = getattr(getattr(data, "dtype", None), "names", None)  # the fields of a structured array
    if names:
        data = {name: data[name] for name in names}
    elif not isinstance(data, Mapping):
        data = {
            f"#{place}": value for place, value in enumerate(data if isinstance(data, (list, tuple)) else [data], 1)
        }
    return _MemoryArrays({str(name): _as_array(str(name), value) for name, value in data.items()})


def _as_array(name: str, value: Any) -> Any:
    import numpy
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if getattr(value, "null_count", 0):
        raise BatchproofError(f"{name} has {value.null_count:,} nulls: give a table, of which rows can be left out")
    try:
        array = numpy.asarray(value)
    except ValueError as error:
        raise BatchproofError(f"{name} is no array: {first_line(error)}") from error
    is_text = array.dtype.hasobject and all(isinstance(one, str) for one in array.flat)
    return array.astype(str) if is_text else array


# ------------------------------------------------------------------ in files


class _ArrayFiles(ArraySource):
    """Files of arrays, each read alone."""

    def __init__(self, listing: Listing) -> None:
        self._kind = listing.kind
        seen: list[dict[str, _Seen]] = []
        self._paths: list[str] = []
        pieces: list[Piece] = []
        for path in listing.files:
            with _opened_file(path, self._kind, None) as arrays:
                columns = {name: _Seen(str(path), array.shape, array.dtype) for name, array in arrays.items()}
            lengths = {found.shape[0] for found in columns.values() if found.shape}
            if lengths <= {0}:
                continue
            seen.append(columns)
            pieces.append(Piece(len(pieces), str(path), "", lengths.pop() if len(lengths) == 1 else None))
            self._paths.append(str(path.absolute()))
        self._set(listing.title, pieces, seen)

    @contextmanager
    def _opened(self, piece: Piece, names: list[str]) -> Iterator[tuple[dict[str, Any], int, int | None]]:
        with _opened_file(Path(self._paths[piece.number]), self._kind, names, piece.file) as arrays:
            yield arrays, 0, None


def open_array_files(listing: Listing) -> Source:
    """Npz, npy or pt files, looked into: their columns, and how many rows they have.

    Raises:
        BatchproofError: one cannot be read, or there are no rows.
    """
    return _ArrayFiles(listing)


@contextmanager
def _opened_file(path: Path, kind: str, names: Sequence[str] | None, shown: str = "") -> Iterator[dict[str, Any]]:
    """The columns of a file, all or some, of which no row has been read."""
    shown = shown or str(path)
    try:
        if kind == "npz":
            with zipfile.ZipFile(path) as archive, ExitStack() as members:
                found = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
                chosen = found if names is None else names
                yield {name: _Zipped(members.enter_context(archive.open(f"{name}.npy"))) for name in chosen}
        else:
            columns = _mapped_array(path) if kind == "npy" else _mapped_tensors(path)
            yield {name: _Sliced(columns[name]) for name in (columns if names is None else names)}
    except FileNotFoundError as error:
        raise BatchproofError(f"{shown} is gone: it was there when the files were listed") from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise BatchproofError(
            f"{shown} cannot be read ({first_line(error)}): write it again, or leave the file out"
        ) from error


def _mapped_array(path: Path) -> dict[str, Any]:
    import numpy

    try:
        array = numpy.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise BatchproofError(f"{path} {datafile.why_no_array(path, error)}") from error
    return {name: array[name] for name in array.dtype.names} if array.dtype.names else {"#1": array}


def _mapped_tensors(path: Path) -> dict[str, Any]:
    import torch

    found = datafile.read_pt(path, mapped=True)
    return {name: _as_array(name, value) for name, value in found.items() if isinstance(value, (torch.Tensor, list))}
