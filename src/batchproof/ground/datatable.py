"""Tables by pyarrow: csv, parquet and feather, each column in its own type."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.text import first_line

#: Unsigned whole numbers that torch counts with in a wider type.
_WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}
#: From here on float64 no longer holds every whole number.
_LARGEST = 2**53
#: How files of other kinds begin.
_BINARY = {
    b"PK\x03\x04": "a zip archive (as Excel and npz files are)",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"PAR1": "a parquet file",
    b"ARROW1": "a feather file",
    b"\x93NUMPY": "a npy file",
    b"\x1f\x8b": "compressed by gzip",
}


@dataclass(frozen=True)
class Unusable:
    """A column that cannot be given to a function, and why; nothing is wrong unless it is asked for."""

    why: str


def read_csv(path: Path) -> dict[str, Any]:
    """The columns of a csv file: whole numbers, floating ones in float64, truth values, or text."""
    return _read_text(path, ",")


def read_tsv(path: Path) -> dict[str, Any]:
    """The columns of a file whose values are separated by tabs."""
    return _read_text(path, "\t")


def _read_text(path: Path, mark: str) -> dict[str, Any]:
    csv = arrow("pyarrow.csv", path)
    with path.open("rb") as file:
        filled = check_text(path, file)
    if filled < 2:
        raise BatchproofError(f"{path} has no rows below its header" if filled else f"{path} is empty")
    parse = csv.ParseOptions(delimiter=mark, newlines_in_values=True)
    try:
        table = csv.read_csv(path, parse_options=parse)
        list(table.column_names)  # only this decodes the header
    except Exception as error:  # pyarrow's own
        raise BatchproofError(why_broken(path, mark, error)) from error
    return columns(table, path, mark)


def check_text(path: Path, lines: Iterable[bytes]) -> int:
    """How many lines of a text file are filled: two or more, one, or none.

    Args:
        path: The file.
        lines: What is in it.

    Raises:
        BatchproofError: it is no text in UTF-8.
    """
    rest = iter(lines)
    start = list(itertools.islice(rest, 1000))
    other = _is_no_text(b"".join(start))
    if other:
        raise BatchproofError(f"{path} {other}")
    return len(list(itertools.islice((line for line in itertools.chain(start, rest) if _is_filled(line)), 2)))


def _is_filled(line: bytes) -> bool:
    return bool(line.strip(b"\xef\xbb\xbf\r\n\t "))


def _is_no_text(start: bytes) -> str:
    """What the beginning of a file shows that is no text in UTF-8; empty where nothing speaks against it."""
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "is UTF-32: save it as UTF-8"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16: save it as UTF-8"
    kind = next((kind for begin, kind in _BINARY.items() if start.startswith(begin)), None)
    if kind is not None:
        return f"is {kind}, not text: name it by what it is, or export it as text"
    if b"\0" in start:
        halves = start[:1000:2], start[1:1000:2]
        wide = any(not half.strip(b"\0") for half in halves)  # ASCII in two bytes each
        return "is UTF-16: save it as UTF-8" if wide else "is a binary file, not text"
    return ""


def line_of(path: Path, row: int) -> int | None:
    """The line, from 1, of a row, from 0, below the header; None where rows are no lines."""
    if path.suffix.lower() not in (".csv", ".tsv"):
        return None
    with path.open("rb") as file:
        filled = (number for number, line in enumerate(file, 1) if line.strip(b"\r\n"))
        found = next(itertools.islice(filled, row + 1, None), None)
    with path.open("rb") as file:  # a value in quotes may have lines of its own
        quoted = any(line.count(b'"') % 2 for line in file)
    return None if quoted else found


def why_broken(path: Path, mark: str, error: Exception) -> str:
    """What is wrong with a csv file that fits in memory: its first row of another length, or what pyarrow says."""
    csv = arrow("pyarrow.csv", path)
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError as wrong_bytes:
        line = path.read_bytes()[: wrong_bytes.start].count(b"\n") + 1
        return f"{path} is not UTF-8 (line {line}): save it as UTF-8"
    wrong: list[Any] = []

    def note(row: Any) -> str:
        wrong.append(row)
        return "error"

    one_by_one = csv.ReadOptions(use_threads=False)  # only then are rows numbered
    parse = csv.ParseOptions(delimiter=mark, newlines_in_values=True, invalid_row_handler=note)
    with suppress(Exception):  # it fails as before
        csv.read_csv(path, one_by_one, parse)
    if wrong and wrong[0].number is not None:
        row = wrong[0]
        return f"{path}, line {row.number}: {row.actual_columns} values for {row.expected_columns} columns"
    return f"{path}: {first_line(error)}"


def read_parquet(path: Path) -> dict[str, Any]:
    """The columns of a parquet file."""
    return _read(path, lambda: arrow("pyarrow.parquet", path).read_table(path))


def read_feather(path: Path) -> dict[str, Any]:
    """The columns of a feather file."""
    return _read(path, lambda: arrow("pyarrow.feather", path).read_table(path))


def _read(path: Path, read: Callable[[], Any]) -> dict[str, Any]:
    try:
        table = read()
    except BatchproofError:
        raise
    except Exception as error:  # pyarrow's own
        raise BatchproofError(f"{path}: {first_line(error)}") from error
    if not table.num_rows:
        raise BatchproofError(f"{path} has no rows")
    return columns(table, path)


def arrow(module: str, path: Path) -> Any:
    """A module of pyarrow.

    Raises:
        BatchproofError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BatchproofError(f'{path}: reading it needs pyarrow: pip install "batchproof[data]"') from error


def columns(table: Any, path: Path, separator: str = ",") -> dict[str, Any]:
    """Every column by its name.

    Args:
        table: Of pyarrow.
        path: What it was read from.
        separator: What should stand between the values of a text file.
    """
    names = check_names(table.column_names, path, separator)
    return {name: column(table.column(place)) for place, name in enumerate(names)}


def check_names(given: Sequence[str], path: object, separator: str = ",") -> list[str]:
    """The names of a table's columns, without blanks around them.

    Args:
        given: The names as the table has them.
        path: What it was read from.
        separator: What should stand between the values of a text file.

    Raises:
        BatchproofError: two are alike, or one is a whole line.
    """
    names = [name.strip() for name in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BatchproofError(f"{path} has two columns named {twice!r}: give each a name of its own")
    mark = next((mark for mark in ";\t|," if mark in names[0] and mark != separator), None) if len(names) == 1 else None
    if mark is not None:
        how = "; or name the file .tsv" if mark == "\t" else ""
        raise BatchproofError(
            f"{path} has one column, {names[0]!r}: its values must be separated by {separator!r}, not {mark!r}{how}"
        )
    return names


def holds_text(kind: Any) -> bool:
    """Whether a type of pyarrow's is text, plain or as categories."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    # views are of later releases than the oldest that is supported
    return bool(types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view")


def holds_numbers(kind: Any) -> bool:
    """Whether a type of pyarrow's becomes a tensor: numbers, truth values, or lists of them."""
    from pyarrow import types

    kind = bare_type(kind)
    if is_list(kind):
        return holds_numbers(kind.value_type)
    one_of = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(fits(kind) for fits in one_of)


def is_list(kind: Any) -> bool:
    """Whether each value of a type of pyarrow's is a list, of one length or of any."""
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def bare_type(kind: Any) -> Any:
    """The type of pyarrow's that values have once categories and extensions are taken off."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(kind):
        return bare_type(kind.value_type)
    return bare_type(kind.storage_type) if isinstance(kind, pyarrow.BaseExtensionType) else kind


def column(values: Any) -> Any:
    """A column of pyarrow's as a tensor, a view of its memory where torch has the type; else what it holds.

    >>> import pyarrow
    >>> column(pyarrow.array([1.5, None]))
    tensor([1.5000,    nan], dtype=torch.float64)

    Args:
        values: An array, or chunks of one. A missing number is NaN.

    Returns:
        A tensor; a list of tensors where lists have other lengths for each sample; a list of text; or why none of it.
    """
    import pyarrow
    from pyarrow import types

    if hasattr(values, "combine_chunks"):
        values = values.combine_chunks()
    if isinstance(values, pyarrow.ChunkedArray):  # of no chunk, or of more than one can hold
        values = pyarrow.concat_arrays(values.chunks) if values.num_chunks else pyarrow.array([], values.type)
    values = bare(values)
    kind = values.type
    if holds_text(kind):
        return values.to_pylist()
    if types.is_null(kind) or types.is_decimal(kind):  # nothing but missing values is NaN
        values = values.cast(pyarrow.float64())
        kind = values.type
    if is_list(kind):
        return _lists(values)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        return Unusable(f"holds {kind}, not numbers")
    return _numbers(values)


def bare(values: Any) -> Any:
    """Values without categories and extensions; a tensor in each row is a list of lists."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(values.type):
        return bare(values.dictionary_decode())
    if not isinstance(values.type, pyarrow.BaseExtensionType):
        return values
    inside = values.storage
    if isinstance(values.type, pyarrow.FixedShapeTensorType):
        shape = values.type.shape
        if values.type.permutation not in (None, list(range(len(shape)))):
            return values  # said to be unusable
        if len(shape) > 1 and not inside.null_count:
            inside = inside.flatten()
            for size in reversed(shape):
                inside = pyarrow.FixedSizeListArray.from_arrays(inside, size)
    return bare(inside)


def _numbers(values: Any) -> Any:
    """A missing value is NaN."""
    import torch
    from pyarrow import types

    if values.null_count and types.is_boolean(values.type):
        return Unusable(f"has {values.null_count} missing truth values")
    if not values.null_count and str(values.type) not in _WIDER and not types.is_boolean(values.type):
        return torch.utils.dlpack.from_dlpack(values)
    found = values.to_numpy(zero_copy_only=False)
    if values.null_count and types.is_integer(values.type):
        known = values.drop_null().to_numpy(zero_copy_only=False)
        if len(known) and max(abs(int(known.min())), abs(int(known.max()))) > _LARGEST:
            return Unusable("has missing values beside whole numbers that are too large for float64")
        found = found.astype("float64")
    return whole_in_torch(found, torch)


def whole_in_torch(found: Any, torch: Any) -> Any:
    """An array as a tensor, unsigned whole numbers in a type that torch counts with."""
    wider = _WIDER.get(found.dtype.name)
    if found.dtype.name == "uint64" and found.size and int(found.max()) >= 2**63:
        return Unusable("holds whole numbers beyond int64")
    return torch.from_numpy(found.astype(wider) if wider else found)


def _lists(values: Any) -> Any:
    """Lists side by side where all have one length, a tensor for each sample elsewhere."""
    import torch

    if values.null_count:
        return Unusable(f"has {values.null_count} missing lists")
    inner = column(values.flatten())
    if not isinstance(inner, torch.Tensor):
        if isinstance(inner, Unusable):
            return inner
        if holds_text(values.type.value_type):
            return Unusable(f"holds {values.type}, not lists of numbers")
        return Unusable("holds lists of several lengths in a row")
    lengths = lengths_of(values)
    if len(lengths) and lengths.min() == lengths.max():
        return inner.reshape(len(lengths), int(lengths[0]), *inner.shape[1:])
    return list(torch.split(inner, lengths.tolist()))


def lengths_of(values: Any) -> Any:
    """How long the list in each row is, as an array of numpy's; of missing lists too, which have none."""
    import numpy
    from pyarrow import compute

    lengths = compute.fill_null(compute.list_value_length(values), 0)
    return numpy.array(lengths.to_numpy(zero_copy_only=False), dtype="int64")
