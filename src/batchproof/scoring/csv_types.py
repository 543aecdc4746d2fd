"""What the columns of a csv file hold: as its first rows say, and all of them where they are looked at too."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.datatable import check_names, check_text, why_broken
from batchproof.ground.text import first_line

#: What stands between values, by the kind of file.
CSV_MARKS = {"csv": ",", "tsv": "\t"}
#: What is read at once; the types of a column are taken from the first of these blocks.
_BLOCK = 2**22
#: What stands for a missing value; `nan` does not, it is a number.
_MISSING = ["", "#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "None", "n/a", "null"]
#: A file of more bytes is not read as a whole to say what is wrong with it.
_LARGE = 2**28


def csv_format(kind: str) -> Any:
    """How pyarrow's datasets read csv files, in blocks."""
    from pyarrow import csv, dataset

    return dataset.CsvFileFormat(
        parse_options=csv.ParseOptions(delimiter=CSV_MARKS[kind], newlines_in_values=True),
        read_options=csv.ReadOptions(block_size=_BLOCK),
        convert_options=csv.ConvertOptions(null_values=_MISSING),
    )


def csv_types(path: Path, kind: str, *, whole: bool) -> dict[str, Any] | None:
    """The type of each column by its name as it stands in the file; None where the file has no rows.

    Args:
        path: The file, which may be compressed.
        kind: ``"csv"`` or ``"tsv"``.
        whole: Whether to go through all rows: a column may begin with whole numbers and go on with others.

    Raises:
        BatchproofError: it is no text, or no table.
    """
    import pyarrow

    with io.BufferedReader(pyarrow.input_stream(str(path))) as lines:
        if check_text(path, lines) < 2:
            return None
    try:
        types = _types_at_start(path, kind)
        check_names(list(types), path, CSV_MARKS[kind])
        if whole and not _all_fit(path, kind, types):
            types = _types_of_all(path, kind, list(types))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise BatchproofError(why_csv_is_broken(path, kind, error)) from error
    return types


def why_csv_is_broken(path: Path, kind: str, error: Exception) -> str:
    """What is wrong with a csv file, and where."""
    is_packed = path.suffix.lower() not in (".csv", ".tsv")
    if is_packed or path.stat().st_size > _LARGE:
        return f"{path}: {first_line(error)}"
    return why_broken(path, CSV_MARKS[kind], error)


def _open(path: Path, kind: str, types: Mapping[str, Any] | None = None, *, in_order: bool = True) -> Any:
    """The file in batches; where types are given, just these columns. Rows are numbered in errors only in order."""
    from pyarrow import csv

    return csv.open_csv(
        str(path),
        csv.ReadOptions(block_size=_BLOCK, use_threads=not in_order),
        csv.ParseOptions(delimiter=CSV_MARKS[kind], newlines_in_values=True),
        csv.ConvertOptions(
            null_values=_MISSING,
            column_types=types,
            include_columns=list(types or ()),
            strings_can_be_null=types is not None,
        ),
    )


def _types_at_start(path: Path, kind: str) -> dict[str, Any]:
    with _open(path, kind) as reader:
        return dict(zip(reader.schema.names, reader.schema.types, strict=True))


def _all_fit(path: Path, kind: str, types: Mapping[str, Any]) -> bool:
    """Whether all rows have the types of the first ones; text always has."""
    import pyarrow
    from pyarrow import types as arrow_types

    if path.stat().st_size <= _BLOCK and path.suffix.lower() in (".csv", ".tsv"):
        return True  # the first block is all
    doubtful = {name: kind for name, kind in types.items() if not arrow_types.is_string(kind)}
    if not doubtful:
        return True
    try:
        with _open(path, kind, doubtful, in_order=False) as reader:
            for _ in reader:
                pass
    except pyarrow.ArrowInvalid:
        return False
    return True


def _types_of_all(path: Path, kind: str, names: list[str]) -> dict[str, Any]:
    """The first type in which every value of a column can be read."""
    import pyarrow

    candidates = [pyarrow.null(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_(), pyarrow.string()]
    place = dict.fromkeys(names, 0)
    with _open(path, kind, dict.fromkeys(names, pyarrow.string())) as reader:
        for batch in reader:
            for name, values in zip(names, batch.columns, strict=True):
                while not _reads_as(values, candidates[place[name]]):
                    place[name] += 1
    return {name: candidates[place[name]] for name in names}


def _reads_as(values: Any, kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_null(kind):
        return bool(values.null_count == len(values))
    try:
        values.cast(kind)
    except pyarrow.ArrowInvalid:
        return False
    return True
