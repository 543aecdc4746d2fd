"""Parquet, feather and csv files: one type for each column of all of them, and their rows as they are asked for."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.datatable import bare_type, check_names, line_of
from batchproof.ground.text import first_line
from batchproof.scoring.blocks import BLOCK_ROWS, Piece, TableSource, type_in_words
from batchproof.scoring.csv_types import CSV_MARKS, csv_format, csv_types, why_csv_is_broken
from batchproof.scoring.listing import Listing
from batchproof.scoring.types import common_type

#: Bytes of csv files that are read twice: once to see whether the types of the first rows are those of all.
_READ_TWICE = 2**28
#: Bytes of a column of a parquet file that are in memory before they are decoded.
_READ_AT_ONCE = 2**20


@dataclass(frozen=True)
class _File:
    """A file, and what it is read with; on another machine it is opened again."""

    shown: str
    path: str
    kind: str
    filesystem: Any
    folders: Mapping[str, Any]  # what the names of its folders say, as scalars of pyarrow's
    format: Any = None  # of pyarrow's datasets; none where they read too much at once, or nothing
    types: Mapping[str, Any] = field(default_factory=dict)  # pyarrow's type of each column, by its name in the file
    groups: tuple[tuple[int | None, int | None], ...] = ()  # of each row group: its number, its rows

    @property
    def columns(self) -> dict[str, Any]:
        """The type of each column by its name; that of a csv file may stand between blanks."""
        own = {name.strip() if self.kind in CSV_MARKS else name: kind for name, kind in self.types.items()}
        return own | {name: value.type for name, value in self.folders.items()}

    def own_name(self, name: str) -> str:
        return next(own for own in self.types if own.strip() == name) if self.kind in CSV_MARKS else name


@dataclass(frozen=True)
class _Part:
    file: _File
    group: int | None
    rows: int | None
    start: int  # its first row in the file


class FileSource(TableSource):
    """Files that pyarrow reads; each row group of a parquet file is a piece."""

    pieces_are = "row groups"

    def __init__(self, title: str, files: Sequence[_File]) -> None:
        filled = _sharing_types([file for file in files if any(rows != 0 for _, rows in file.groups)])
        if not filled:
            raise BatchproofError(f"{title} has no rows")
        self.title = title
        self._parts = [part for file in filled for part in _parts(file)]
        self.pieces = [
            Piece(number, part.file.shown, "" if part.group is None else f"row group {part.group}", part.rows)
            for number, part in enumerate(self._parts)
        ]
        self._opened = threading.local()
        common = _common_columns(filled)
        self.types = common.types
        self.describe(common.unreadable)
        self.not_numbers |= common.mixed

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _opened=threading.local())

    def _batches(self, piece: Piece, names: list[str], rows: int) -> Iterator[Any]:
        part = self._parts[piece.number]
        own = [name for name in names if name not in part.file.folders]
        with _explained(part.file, piece.title):
            batches = self._own_batches(part, own, rows)
        while True:
            with _explained(part.file, piece.title):
                batch = next(batches, None)
            if batch is None:
                return
            yield self._in_common_types(batch, names, own, part.file)

    def _own_batches(self, part: _Part, names: list[str], rows: int) -> Iterator[Any]:
        """Record batches of columns that the file itself has, in the order of their names."""
        import pyarrow

        file = part.file
        if file.kind == "parquet":
            batches = self._parquet(file).iter_batches(rows, row_groups=[part.group], columns=names)
            return (batch.select(names) for batch in batches)
        if file.format is None:
            return _streamed(file, names)
        # text is read in the type of all files, others in their own: then a number that does not fit can be named
        types = self.types if file.kind in CSV_MARKS else file.columns
        own = [file.own_name(name) for name in names]
        schema = pyarrow.schema([(own_name, types[name]) for own_name, name in zip(own, names, strict=True)])
        fragment = file.format.make_fragment(file.path, filesystem=file.filesystem)
        ahead = 16 if rows == BLOCK_ROWS else 1
        return iter(fragment.to_batches(schema=schema, columns=own, batch_size=rows, batch_readahead=ahead))

    def _parquet(self, file: _File) -> Any:
        """The file, opened once in each thread for all of its row groups in turn."""
        path, opened = getattr(self._opened, "latest", (None, None))
        if path != file.path:
            opened = _parquet_file(file)
            rows = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
            if any(group is None or group >= len(rows) or rows[group] != count for group, count in file.groups):
                raise BatchproofError(f"{file.shown} has changed since the files were listed: score it again")
            self._opened.latest = (file.path, opened)
        return opened

    def _in_common_types(self, batch: Any, names: list[str], own: list[str], file: _File) -> Any:
        import pyarrow

        values = dict(zip(own, batch.columns, strict=True))
        arrays = []
        for name in names:
            kind = self.types[name]
            array = values[name] if name in values else pyarrow.repeat(file.folders[name], batch.num_rows)
            try:
                arrays.append(array if array.type == kind else array.cast(kind))
            except pyarrow.ArrowException as error:
                raise BatchproofError(
                    f"{name} of {file.shown} does not fit into {type_in_words(kind)}, in which all files are read "
                    f"({first_line(error)}): write it in one type"
                ) from error
        return pyarrow.record_batch(arrays, names=names)

    def locate(self, piece: Piece, row: int) -> str:
        part = self._parts[piece.number]
        row += part.start
        path = Path(part.file.path)
        is_short_text = part.file.kind in CSV_MARKS and path.stat().st_size <= _READ_TWICE
        line = line_of(path, row) if is_short_text else None
        return f"row {row + 1:,}{'' if line is None else f', line {line:,}'} of {part.file.shown}"


def _parts(file: _File) -> Iterator[_Part]:
    start = 0
    for group, rows in file.groups:
        if rows != 0:
            yield _Part(file, group, rows, start)
        start += rows or 0


# ------------------------------------------------------------------ the columns of all files


def _sharing_types(files: Sequence[_File]) -> list[_File]:
    """Files whose columns are alike hold them once: there may be thousands."""
    known: dict[Any, Mapping[str, Any]] = {}
    return [replace(file, types=known.setdefault(tuple(file.types.items()), file.types)) for file in files]


@dataclass(frozen=True)
class _Common:
    """One type for each column of all files; and why a column has none, or is not everywhere, or is text in some."""

    types: dict[str, Any]
    unreadable: dict[str, str]
    mixed: dict[str, str]


def _common_columns(files: Sequence[_File]) -> _Common:
    import pyarrow

    found = _Common({}, {}, {})
    home: dict[str, _File] = {}
    unlike: dict[Any, _File] = {}
    for file in files:
        unlike.setdefault((id(file.types), tuple(file.folders)), file)
    for file in unlike.values():
        for name, kind in file.columns.items():
            first = home.setdefault(name, file)
            before = found.types.setdefault(name, kind)
            common = common_type(before, kind)
            if common is None:
                why = (
                    f"holds {type_in_words(before)} in {first.shown} and {type_in_words(kind)} in {file.shown}: "
                    "write it in one type"
                )
                if file.kind in CSV_MARKS and name not in file.folders:  # it is text in all of them: groups can be made
                    common = pyarrow.string()
                    found.mixed.setdefault(name, why)
                else:
                    common = before
                    found.unreadable.setdefault(name, f"{name} {why}")
            found.types[name] = common
    for file in unlike.values():
        for name in found.types.keys() - file.columns.keys():
            found.unreadable.setdefault(
                name,
                f"{file.shown} has no column {name}, which {home[name].shown} has: write it with that column, or "
                "leave the file out",
            )
    return found


# ------------------------------------------------------------------ what is in a file


def open_files(listing: Listing) -> FileSource:
    """Files by their paths, looked into: their columns, and how many rows they have where they say so.

    Raises:
        BatchproofError: one cannot be read, or there are no rows.
    """
    from pyarrow import fs

    local = fs.LocalFileSystem()
    folders = _typed_folders(listing.folders)
    files = [
        _File(str(path), str(path.absolute()), listing.kind, local, values)
        for path, values in zip(listing.files, folders, strict=True)
    ]
    left = _READ_TWICE
    budgets = []
    for path in listing.files:
        left -= path.stat().st_size if path.is_file() else 0
        budgets.append(left >= 0)
    with ThreadPoolExecutor(8) as pool:
        return FileSource(listing.title, list(pool.map(_look, files, budgets)))


def _look(file: _File, whole: bool) -> _File:
    from pyarrow import dataset

    with _explained(file, file.shown):
        if file.kind in CSV_MARKS:
            types = csv_types(Path(file.path), file.kind, whole=whole)
            rows = None if types else 0
            return replace(file, format=csv_format(file.kind), types=types or {}, groups=((None, rows),))
        if file.kind == "parquet":
            return _as_parquet(file)
        with Path(file.path).open("rb") as opened:
            is_stream = opened.read(6) != b"ARROW1"
        return _as_stream(file) if is_stream else _as_fragment(file, dataset.IpcFileFormat())


def _parquet_file(file: _File) -> Any:
    """The file as pyarrow reads it page by page; its datasets hold a whole row group at once."""
    from pyarrow import fs, parquet

    is_near = isinstance(file.filesystem, fs.LocalFileSystem)
    return parquet.ParquetFile(
        file.filesystem.open_input_file(file.path),
        buffer_size=_READ_AT_ONCE,
        pre_buffer=not is_near,
        page_checksum_verification=True,
    )


def _as_parquet(file: _File) -> _File:
    with _parquet_file(file) as opened:
        metadata = opened.metadata
        groups = tuple((group, metadata.row_group(group).num_rows) for group in range(metadata.num_row_groups))
        return replace(file, types=_types(opened.schema_arrow, file), groups=groups)


def _as_fragment(file: _File, form: Any) -> _File:
    from pyarrow import dataset

    fragment = form.make_fragment(file.path, filesystem=file.filesystem)
    types = _types(fragment.physical_schema, file)
    # of other formats than Arrow's, only reading a file tells its rows
    rows = fragment.count_rows() if isinstance(form, dataset.IpcFileFormat) else None
    return replace(file, format=form, types=types, groups=((None, rows),))


def _as_stream(file: _File) -> _File:
    """Record batches one after another, as Hugging Face's datasets are saved."""
    import pyarrow

    with pyarrow.memory_map(file.path) as opened, pyarrow.ipc.open_stream(opened) as reader:
        types = _types(reader.schema, file)
        has_rows = any(batch.num_rows for batch in reader)
    return replace(file, types=types, groups=((None, None if has_rows else 0),))


def _streamed(file: _File, names: list[str]) -> Iterator[Any]:
    import pyarrow

    with pyarrow.memory_map(file.path) as opened, pyarrow.ipc.open_stream(opened) as reader:
        for batch in reader:
            yield batch.select(names)


def _types(schema: Any, file: _File) -> dict[str, Any]:
    check_names(schema.names, file.shown)
    return dict(zip(schema.names, schema.types, strict=True))


def _typed_folders(named: Sequence[Mapping[str, str | None]]) -> list[dict[str, Any]]:
    """What the names of each file's folders say, as scalars of pyarrow's: whole numbers where all are."""
    import pyarrow

    values: dict[str, list[str]] = {}
    for folders in named:
        for name, value in folders.items():
            values.setdefault(name, []).extend([] if value is None else [value])
    types = {name: _folder_type(found) for name, found in values.items()}
    return [{name: pyarrow.scalar(value).cast(types[name]) for name, value in folders.items()} for folders in named]


def _folder_type(values: Sequence[str]) -> Any:
    import pyarrow

    if not all(value.removeprefix("-").isascii() and value.removeprefix("-").isdigit() for value in values):
        return pyarrow.string()
    largest = max((abs(int(value)) for value in values), default=0)
    return pyarrow.int32() if largest < 2**31 else pyarrow.int64() if largest < 2**63 else pyarrow.string()


# ------------------------------------------------------------------ datasets of pyarrow's


def open_fragments(dataset: Any, fragments: Sequence[Any], title: str) -> FileSource:
    """The files of a dataset of pyarrow's, in its types, wherever they are.

    Raises:
        BatchproofError: one cannot be read, or there are no rows.
    """
    import pyarrow
    from pyarrow import dataset as arrow_dataset

    types = dict(zip(dataset.schema.names, dataset.schema.types, strict=True))
    files = []
    for fragment in fragments:
        keys = arrow_dataset.get_partition_keys(fragment.partition_expression)
        folders = {name: pyarrow.scalar(value, bare_type(types[name])) for name, value in keys.items() if name in types}
        kind = fragment.format.default_extname
        file = _File(fragment.path, fragment.path, kind, fragment.filesystem, folders)
        with _explained(file, file.shown):
            found = _as_parquet(file) if kind == "parquet" else _as_fragment(file, fragment.format)
        if kind == "parquet" and fragment.row_groups is not None:
            chosen = {group.id for group in fragment.row_groups}
            found = replace(found, groups=tuple(one for one in found.groups if one[0] in chosen))
        files.append(replace(found, types={name: types[name] for name in found.types if name in types}))
    return FileSource(title, files)


@contextmanager
def _explained(file: _File, title: str) -> Iterator[None]:
    """Say which file it is that cannot be read, and what to do."""
    import pyarrow

    try:
        yield
    except FileNotFoundError as error:
        raise BatchproofError(f"{file.shown} is gone: it was there when the files were listed") from error
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if file.kind in CSV_MARKS and isinstance(error, pyarrow.ArrowInvalid) and Path(file.path).is_file():
            why = why_csv_is_broken(Path(file.path), file.kind, error).replace(file.path, file.shown)
            raise BatchproofError(why) from error
        raise BatchproofError(
            f"{title} cannot be read ({_said(error)}): write it again, or leave the file out"
        ) from error


def _said(error: Exception) -> str:
    """What pyarrow says, without the path that is said already."""
    said = re.sub(r"^Could not open \w+ input source '.*?': (Invalid: )?", "", first_line(error)).rstrip(".")
    return "".join(letter if letter.isprintable() else "?" for letter in said)
