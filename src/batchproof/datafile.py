"""Columns of a data file, and the parameters that they fill.  Reads csv, npz, pt and parquet."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError

Columns = dict[str, Any]


def load(path: Path) -> Columns:
    """Every column of a file, by name, as tensors.

    Raises:
        BatchproofError: the file is missing, is of another kind, or holds something other than columns of numbers.
    """
    readers = {".csv": _csv, ".npz": _npz, ".pt": _pt, ".pth": _pt, ".parquet": _parquet}
    if not path.is_file():
        raise BatchproofError(f"there is no file {path}")
    if path.suffix.lower() not in readers:
        raise BatchproofError(f"{path}: cannot read {path.suffix or 'this'} files; use {', '.join(sorted(readers))}")
    columns = readers[path.suffix.lower()](path)
    if not columns:
        raise BatchproofError(f"{path} has no columns")
    return columns


def _csv(path: Path) -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    if len(rows) < 2:
        raise BatchproofError(f"{path} has no rows below its header")
    header, body = [name.strip() for name in rows[0]], [row for row in rows[1:] if row]
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise BatchproofError(f"{path}, line {number}: {len(row)} values for {len(header)} columns")
    return {name: _column(path, name, [row[index] for row in body]) for index, name in enumerate(header)}


def _column(path: Path, name: str, texts: Sequence[str]) -> Any:
    """Whole numbers stay whole; an empty cell is NaN; text stays text."""
    import torch

    try:
        return torch.tensor([int(text) for text in texts])
    except ValueError:
        pass
    try:
        return torch.tensor([float(text) if text.strip() else float("nan") for text in texts])
    except ValueError:
        return list(texts)


def _npz(path: Path) -> Columns:
    numpy = _needed("numpy", path)
    import torch

    with numpy.load(path, allow_pickle=False) as file:
        return {name: _tensor(torch, file[name]) for name in file.files}


def _tensor(torch: Any, array: Any) -> Any:
    tensor = torch.as_tensor(array)
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _pt(path: Path) -> Columns:
    import torch

    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise BatchproofError(f"{path}: {(str(error).splitlines() or [''])[0]}") from error
    if isinstance(found, torch.Tensor):
        return {"#1": found}
    if isinstance(found, (list, tuple)):
        return {f"#{index + 1}": value for index, value in enumerate(found)}
    if isinstance(found, Mapping):
        return {str(name): value for name, value in found.items()}
    raise BatchproofError(f"{path} holds {type(found).__name__}; save a dict of tensors by name, or a tuple of them")


def _parquet(path: Path) -> Columns:
    parquet = _needed("pyarrow.parquet", path)
    import torch

    table = parquet.read_table(path)
    return {name: _from_list(torch, table.column(name).to_pylist()) for name in table.column_names}


def _from_list(torch: Any, values: list[Any]) -> Any:
    try:
        return torch.tensor([float("nan") if value is None else value for value in values])
    except (TypeError, ValueError):
        return values


def _needed(module: str, path: Path) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise BatchproofError(f"{path}: reading it needs {package}: pip install {package}") from error


def fill(columns: Columns, parameters: Sequence[str], mapping: Mapping[str, str], path: Path, target: str) -> list[Any]:
    """A value for each parameter: the column of its name, or the columns ``name_0``, ``name_1``, ... side by side.

    Raises:
        BatchproofError: a parameter has no column; the message lists the columns and the parameters.
    """
    if not parameters or all(re.fullmatch(r"#\d+", name) for name in columns):
        return list(columns.values())
    unknown = [column for column in mapping.values() if column not in columns]
    found = [_match(columns, mapping.get(parameter, parameter)) for parameter in parameters]
    missing = [name for name, value in zip(parameters, found, strict=True) if value is None]
    if missing or unknown:
        raise BatchproofError(
            f"{path} has the columns {', '.join(columns)}, and {target} takes {', '.join(parameters)}; "
            f"name the column of {(missing or unknown)[0]} with --column {(missing or list(mapping))[0]}=..."
        )
    for name, value in zip(parameters, found, strict=True):
        if isinstance(value, list) and any(isinstance(item, str) for item in value):
            raise BatchproofError(f"{path}: the column of {name} holds text ({value[0]!r}), not numbers")
    return found


def _match(columns: Columns, name: str) -> Any:
    if name in columns:
        return columns[name]
    alike = [column for column in columns if _plain(column) == _plain(name)]
    if len(alike) == 1:
        return columns[alike[0]]
    parts = {column: re.fullmatch(rf"{re.escape(name)}[_.\[]?(\d+)\]?", column) for column in columns}
    numbered = sorted((int(match[1]), column) for column, match in parts.items() if match)
    if not numbered:
        return None
    import torch

    return torch.stack([columns[column] for _, column in numbered], 1)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def as_floats(values: Sequence[Any]) -> list[Any]:
    """Whole numbers as floating ones: a target in whole units is still a quantity."""
    import torch

    return [
        value.float() if isinstance(value, torch.Tensor) and not value.is_floating_point() else value
        for value in values
    ]
