"""Columns of a data file, and the parameters that they fill.  Reads csv, feather, npy, npz, parquet, pt and tsv."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.datatable import (
    Unusable,
    line_of,
    read_csv,
    read_feather,
    read_parquet,
    read_tsv,
    whole_in_torch,
)
from batchproof.ground.text import counted, first_line

Columns = dict[str, Any]


def load(path: Path) -> Columns:
    """Every column of a file, by name, as tensors in the type that it has there.

    A column of text is a list, one of lists of other lengths for each sample a list of tensors, and one that no
    function of numbers takes is `Unusable`.

    Raises:
        BatchproofError: the file is missing, is of another kind, or holds something other than columns.
    """
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _READERS)
        which = f", such as {path / inside[0]}" if inside else f"; it holds no {', '.join(_READERS)}"
        raise BatchproofError(f"{path} is a folder: name one file{which}")
    if not path.is_file():
        raise BatchproofError(f"there is no file {path}")
    if path.suffix.lower() not in _READERS:
        raise BatchproofError(f"{path}: cannot read {path.suffix or 'this'} files; use {', '.join(_READERS)}")
    columns = _READERS[path.suffix.lower()](path)
    if not columns:
        raise BatchproofError(f"{path} has no columns")
    return columns


def _numpy(path: Path) -> Columns:
    numpy = _needed("numpy", path)
    import torch

    try:
        file = numpy.load(path, allow_pickle=False)
    except Exception as error:
        raise BatchproofError(f"{path} {why_no_array(path, error)}") from error
    if isinstance(file, numpy.ndarray):
        return _array(torch, file, path)
    with file:
        return {name: _member(torch, file, name, path) for name in file.files}


_OBJECTS = "holds pickled Python objects, which are not loaded: save it as an array of numbers"


def why_no_array(path: Path, error: Exception) -> str:
    """Why a file has no array; numpy takes whatever it does not know for a pickle, and suggests to load that."""
    with path.open("rb") as file:
        start = file.read(1)
    is_array, is_pickle, blames_pickle = start == b"\x93", start == b"\x80", "pickle" in str(error)
    if is_pickle or (is_array and blames_pickle):
        return _OBJECTS
    return f"is no {path.suffix} file" if blames_pickle else f"is broken: {first_line(error)}"


def _member(torch: Any, file: Any, name: str, path: Path) -> Any:
    """One array of an archive."""
    try:
        return tensor_of(torch, file[name])
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise BatchproofError(f"{path}: {name}: {first_line(error)}") from error
        return Unusable(_OBJECTS)
    except Exception as error:
        raise BatchproofError(f"{path}: {name}: {first_line(error)}") from error


def _array(torch: Any, array: Any, path: Path) -> Columns:
    """The fields of a structured array, by name; any other array is one column."""
    if array.dtype.names:
        return {name: tensor_of(torch, array[name]) for name in array.dtype.names}
    if not array.ndim:
        raise BatchproofError(f"{path} holds a single number, and no samples")
    return {"#1": tensor_of(torch, array)}


def tensor_of(torch: Any, array: Any) -> Any:
    """An array of numpy's as a tensor of its own; a list of text; or why none of it."""
    if array.dtype.kind in "US":
        return array.astype(str).tolist()
    if array.dtype.kind not in "biufc":
        return Unusable(f"holds {array.dtype}, not numbers")
    native = array.astype(array.dtype.newbyteorder("="))
    if native.dtype.itemsize > 8 and native.dtype.kind == "f":
        return Unusable(f"holds {array.dtype}, which torch does not have: save it as float64")
    return whole_in_torch(native, torch)


def read_pt(path: Path, *, mapped: bool = False) -> Columns:
    """What a file of ``torch.save`` holds by name; values without a name are ``#1``, ``#2``.

    Args:
        path: The file.
        mapped: Whether tensors are read only where they are looked at, if the file is of a kind that allows it.

    Raises:
        BatchproofError: it cannot be read, or holds something else.
    """
    import torch

    try:
        mapped = mapped and zipfile.is_zipfile(path)
        found = torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
    except Exception as error:
        raise BatchproofError(f"{path}: {first_line(error)}") from error
    if isinstance(found, torch.Tensor):
        return {"#1": found}
    if isinstance(found, (list, tuple)):
        return {f"#{index + 1}": value for index, value in enumerate(found)}
    if isinstance(found, Mapping):
        return {str(name): value for name, value in found.items()}
    raise BatchproofError(f"{path} holds {type(found).__name__}; save a dict of tensors by name, or a tuple of them")


def _needed(module: str, path: Path) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise BatchproofError(f"{path}: reading it needs {package}: pip install {package}") from error


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": read_csv,
    ".feather": read_feather,
    ".npy": _numpy,
    ".npz": _numpy,
    ".parquet": read_parquet,
    ".pt": read_pt,
    ".pth": read_pt,
    ".tsv": read_tsv,
}


def fill(columns: Columns, parameters: Sequence[str], mapping: Mapping[str, str], path: Path, target: str) -> list[Any]:
    """A value for each parameter: the column of its name, or the columns ``name_0``, ``name_1``, ... side by side.

    Raises:
        BatchproofError: a parameter has no column; the message lists the columns and the parameters.
    """
    if not parameters or all(re.fullmatch(r"#\d+", name) for name in columns):
        return _in_order(columns, parameters, path, target)
    unknown = [column for column in mapping.values() if column not in columns]
    found = [_match(columns, mapping.get(parameter, parameter)) for parameter in parameters]
    missing = [name for name, value in zip(parameters, found, strict=True) if value is None]
    if missing or unknown:
        raise BatchproofError(
            f"{path} has the columns {', '.join(columns)}, and {target} takes {', '.join(parameters)}; "
            f"name the column of {(missing or unknown)[0]} with --column {(missing or list(mapping))[0]}=..."
        )
    for name, value in zip(parameters, found, strict=True):
        if isinstance(value, Unusable):
            raise BatchproofError(f"{path}: the column of {name} {value.why}")
        row = _text_in(value)
        if row is not None:
            raise BatchproofError(
                f"{path}: the column of {name} holds text ({value[row]!r} in {_row(path, row)}), not numbers"
            )
    return found


def _in_order(columns: Columns, parameters: Sequence[str], path: Path, target: str) -> list[Any]:
    """Columns without names, one for each parameter."""
    unusable = next((value for value in columns.values() if isinstance(value, Unusable)), None)
    if unusable is not None:
        raise BatchproofError(f"{path} {unusable.why}")
    if len(columns) < len(parameters):
        raise BatchproofError(
            f"{path} holds {counted(len(columns), 'array')} without a name, and {target} takes "
            f"{', '.join(parameters)}: save them by name in one .npz file"
        )
    return list(columns.values())


def _text_in(value: Any) -> int | None:
    """Where the first text is that is no number; the first text of all where all are numbers; None without text."""
    rows = [row for row, item in enumerate(value) if isinstance(item, str)] if isinstance(value, list) else []
    return next((row for row in rows if not is_number(value[row])), rows[0]) if rows else None


def _row(path: Path, row: int) -> str:
    """A row, from 1, with its line where the file has lines."""
    line = line_of(path, row)
    return f"row {row + 1}" if line is None else f"row {row + 1}, line {line}"


def not_finite(values: Mapping[str, Any], path: Path) -> str | None:
    """Which column holds the first number that is not finite, and in which row; None where there is none."""
    import torch

    for name, value in values.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim:
            strange = ~value.isfinite().flatten(1).all(1) if value.ndim > 1 else ~value.isfinite()
            rows = strange.nonzero().flatten().tolist()
            if rows:
                what = "NaN" if value[rows[0]].isnan().any() else "infinite"
                more = f", and {len(rows) - 1:,} more" if len(rows) > 1 else ""
                return f"{name} is {what} in {_row(path, rows[0])} of {path.name}{more}"
    return None


def is_number(text: str) -> bool:
    """Whether a text is one."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _match(columns: Columns, name: str) -> Any:
    import torch

    found = columns_of(name, list(columns))
    if isinstance(found, str):
        return columns[found]
    values = [columns[column] for column in found or ()]
    strange = next((value for value in values if not isinstance(value, torch.Tensor)), None)
    return strange if strange is not None or not values else side_by_side(values)


def columns_of(parameter: str, columns: Sequence[str]) -> str | tuple[str, ...] | None:
    """Which column a parameter takes: the one of its name; or those that are numbered, to stand side by side.

    >>> columns_of("y_true", ["yTrue", "score_0", "score_1"])
    'yTrue'
    >>> columns_of("score", ["yTrue", "score_0", "score_1"])
    ('score_0', 'score_1')

    Returns:
        A name, or names in order; None where nothing fits.
    """
    if parameter in columns:
        return parameter
    alike = [column for column in columns if _plain(column) == _plain(parameter)]
    if len(alike) == 1:
        return alike[0]
    parts = {column: re.fullmatch(rf"{re.escape(parameter)}[_.\[]?(\d+)\]?", column) for column in columns}
    numbered = sorted((int(match[1]), column) for column, match in parts.items() if match)
    return tuple(column for _, column in numbered) or None


def side_by_side(values: Sequence[Any]) -> Any:
    """Columns as one tensor, along its second dimension, in a type that holds all of them.

    >>> import torch
    >>> side_by_side([torch.tensor([1, 2]), torch.tensor([0.5, 1.5])])
    tensor([[1.0000, 0.5000],
            [2.0000, 1.5000]])
    """
    import torch

    together = values[0].dtype
    for value in values:
        together = torch.promote_types(together, value.dtype)
    return torch.stack([value.to(together) for value in values], 1)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def as_floats(values: Sequence[Any]) -> list[Any]:
    """Whole numbers as floating ones: a target in whole units is still a quantity."""
    import torch

    floating = [value.dtype for value in values if isinstance(value, torch.Tensor) and value.is_floating_point()]
    to = floating[0] if floating else torch.float64
    return [
        value.to(to) if isinstance(value, torch.Tensor) and not value.is_floating_point() else value for value in values
    ]


def as_narrow(values: Sequence[Any]) -> list[Any]:
    """Numbers in float64 as float32: what a function with parameters of its own takes."""
    import torch

    return [
        value.float() if isinstance(value, torch.Tensor) and value.dtype is torch.float64 else value for value in values
    ]
