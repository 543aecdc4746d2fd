"""Columns of a data file, and the parameters that they fill.  Reads csv, feather, npz, parquet and pt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.datatable import Unusable, read_csv, read_feather, read_parquet, whole_in_torch
from batchproof.ground.text import first_line

Columns = dict[str, Any]


def load(path: Path) -> Columns:
    """Every column of a file, by name, as tensors in the type that it has there.

    A column of text is a list, one of lists of other lengths for each sample a list of tensors, and one that no
    function of numbers takes is `Unusable`.

    Raises:
        BatchproofError: the file is missing, is of another kind, or holds something other than columns.
    """
    readers: dict[str, Callable[[Path], Columns]] = {
        ".csv": read_csv, ".feather": read_feather, ".npz": _npz, ".parquet": read_parquet, ".pt": _pt, ".pth": _pt
    }  # fmt: skip
    if not path.is_file():
        raise BatchproofError(f"there is no file {path}")
    if path.suffix.lower() not in readers:
        raise BatchproofError(f"{path}: cannot read {path.suffix or 'this'} files; use {', '.join(sorted(readers))}")
    columns = readers[path.suffix.lower()](path)
    if not columns:
        raise BatchproofError(f"{path} has no columns")
    return columns


def _npz(path: Path) -> Columns:
    numpy = _needed("numpy", path)
    import torch

    try:
        with numpy.load(path, allow_pickle=False) as file:
            return {name: _tensor(torch, file[name]) for name in file.files}
    except Exception as error:
        raise BatchproofError(f"{path}: {first_line(error)}") from error


def _tensor(torch: Any, array: Any) -> Any:
    if array.dtype.kind in "US":
        return array.astype(str).tolist()
    if array.dtype.kind not in "biufc":
        return Unusable(f"holds {array.dtype}, not numbers")
    native = array.astype(array.dtype.newbyteorder("="))
    if native.dtype.itemsize > 8 and native.dtype.kind == "f":
        return Unusable(f"holds {array.dtype}, which torch does not have: save it as float64")
    return whole_in_torch(native, torch)


def _pt(path: Path) -> Columns:
    import torch

    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
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
        if isinstance(value, Unusable):
            raise BatchproofError(f"{path}: the column of {name} {value.why}")
        text = _text_in(value)
        if text is not None:
            raise BatchproofError(f"{path}: the column of {name} holds text ({text!r}), not numbers")
    return found


def _text_in(value: Any) -> str | None:
    """The first text that is no number, where there is text."""
    texts = [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
    return next((text for text in texts if not _is_number(text)), texts[0]) if texts else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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

    side_by_side = [columns[column] for _, column in numbered]
    strange = next((value for value in side_by_side if not isinstance(value, torch.Tensor)), None)
    if strange is not None:
        return strange
    together = side_by_side[0].dtype
    for value in side_by_side:
        together = torch.promote_types(together, value.dtype)
    return torch.stack([value.to(together) for value in side_by_side], 1)


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
