"""Tables by pyarrow: csv, parquet and feather, each column in its own type."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
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


@dataclass(frozen=True)
class Unusable:
    """A column that cannot be given to a function, and why; nothing is wrong unless it is asked for."""

    why: str


def read_csv(path: Path) -> dict[str, Any]:
    """The columns of a csv file: whole numbers, floating ones in float64, truth values, or text."""
    csv = arrow("pyarrow.csv", path)
    with path.open("rb") as file:
        lines = [line for line in itertools.islice(file, 1000) if line.strip(b"\xef\xbb\xbf\r\n\t ")]
    if len(lines) < 2:
        raise BatchproofError(f"{path} has no rows below its header" if lines else f"{path} is empty")
    parse = csv.ParseOptions(newlines_in_values=True)
    try:
        table = csv.read_csv(path, parse_options=parse)
    except Exception as error:  # pyarrow's own
        raise BatchproofError(_broken(csv, path, error)) from error
    return columns(table, path)


def _broken(csv: Any, path: Path, error: Exception) -> str:
    """What is wrong with a csv file: its first row of another length, or what pyarrow says."""
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return f"{path} is not text in UTF-8: convert it first"
    wrong: list[Any] = []

    def note(row: Any) -> str:
        wrong.append(row)
        return "error"

    one_by_one = csv.ReadOptions(use_threads=False)  # only then are rows numbered
    with suppress(Exception):  # it fails as before
        csv.read_csv(path, one_by_one, csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note))
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


def columns(table: Any, path: Path) -> dict[str, Any]:
    """Every column by its name."""
    names = [name.strip() for name in table.column_names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BatchproofError(f"{path} has two columns named {twice!r}: give each a name of its own")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        mark = next(mark for mark in ";\t|" if mark in names[0])
        raise BatchproofError(f"{path} has one column, {names[0]!r}: its values must be separated by ',', not {mark!r}")
    return {name: _column(table.column(place)) for place, name in enumerate(names)}


def _column(values: Any) -> Any:
    """A tensor; a list of tensors where they have other lengths for each sample; a list of text; or why none of it."""
    import pyarrow
    from pyarrow import types

    if hasattr(values, "combine_chunks"):
        values = values.combine_chunks()
    if isinstance(values, pyarrow.ChunkedArray):  # of no chunk, or of more than one can hold
        values = pyarrow.concat_arrays(values.chunks) if values.num_chunks else pyarrow.array([], values.type)
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if types.is_null(kind):  # nothing but missing values
        values = values.cast(pyarrow.float64())
        kind = values.type
    if types.is_string(kind) or types.is_large_string(kind):
        return values.to_pylist()
    if types.is_decimal(kind):
        values = values.cast(pyarrow.float64())
        kind = values.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _lists(values)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        return Unusable(f"holds {kind}, not numbers")
    return _numbers(values)


def _numbers(values: Any) -> Any:
    """A missing value is NaN."""
    import numpy
    import torch
    from pyarrow import types

    if values.null_count and types.is_boolean(values.type):
        return Unusable(f"has {values.null_count} missing truth values")
    found = numpy.array(values.to_numpy(zero_copy_only=False))
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
    import numpy
    import torch
    from pyarrow import compute

    if values.null_count:
        return Unusable(f"has {values.null_count} missing lists")
    inner = _column(values.flatten())
    if not isinstance(inner, torch.Tensor):
        return inner if isinstance(inner, Unusable) else Unusable(f"holds {values.type}, not lists of numbers")
    lengths = numpy.array(compute.list_value_length(values).to_numpy(zero_copy_only=False), dtype="int64")
    if len(set(lengths.tolist())) == 1:
        return inner.reshape(len(lengths), int(lengths[0]), *inner.shape[1:])
    return list(torch.split(inner, lengths.tolist()))
