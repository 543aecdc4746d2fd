"""Tables in memory, or mapped into it: of pyarrow, pandas, polars and Hugging Face, read in parts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.datatable import check_names
from batchproof.ground.text import first_line, listed
from batchproof.scoring.blocks import PART_ROWS, Piece, Source, TableSource, parts_of


def open_table(data: Any, libraries: set[str]) -> Source:
    """A table, a frame or a dataset of one of these libraries, or what has Arrow's interface.

    Raises:
        BatchproofError: it is something else of theirs, or has no rows.
    """
    kind = type(data).__name__
    if "datasets" in libraries:
        return _open_hugging_face(data, kind)
    if "pandas" in libraries and hasattr(data, "iloc") and hasattr(data, "columns"):
        return _PandasTable(data)
    if "polars" in libraries:
        if not hasattr(data, "to_arrow") or not hasattr(data, "columns"):
            how = ": collect it, or give the files that it reads" if kind == "LazyFrame" else ": give a DataFrame"
            raise BatchproofError(f"cannot read a {kind} of polars in pieces{how}")
        return _ArrowTable(data.to_arrow(), "polars DataFrame")
    return _open_arrow(data, libraries)


def _open_arrow(data: Any, libraries: set[str]) -> Source:
    import pyarrow
    from pyarrow import dataset

    kind = type(data).__name__
    if isinstance(data, dataset.Dataset):
        return _open_dataset(data)
    if isinstance(data, pyarrow.RecordBatchReader):
        raise BatchproofError("a RecordBatchReader can be read only once: give the table, the dataset or the files")
    if not isinstance(data, (pyarrow.Table, pyarrow.RecordBatch)) and not hasattr(data, "__arrow_c_stream__"):
        raise BatchproofError(f"cannot read a {kind}: give a table, a record batch or a dataset")
    try:
        table = data if isinstance(data, pyarrow.Table) else pyarrow.table(data)
    except (TypeError, ValueError, pyarrow.ArrowException) as error:
        raise BatchproofError(f"cannot read a {kind} as a table: {first_line(error)}") from error
    return _ArrowTable(table, f"pyarrow {kind}" if "pyarrow" in libraries else kind)


def _open_dataset(data: Any) -> Source:
    from batchproof.scoring.files import open_fragments

    try:
        fragments = list(data.get_fragments())
    except ValueError:  # one that is filtered or has other columns than its files
        return _ScannedDataset(data)
    if all(hasattr(fragment, "path") for fragment in fragments):
        return open_fragments(data, fragments, "pyarrow Dataset")
    if not any(hasattr(fragment, "path") for fragment in fragments):
        return _ArrowTable(data.to_table(), "pyarrow Dataset")  # it is in memory already
    return _ScannedDataset(data)


def _open_hugging_face(data: Any, kind: str) -> Source:
    if isinstance(data, dict):
        splits = listed([repr(name) for name in data])
        raise BatchproofError(f"a {kind} holds the splits {splits}: give one of them")
    if not hasattr(data, "with_format") or not hasattr(data, "__len__"):
        raise BatchproofError(f"a {kind} of Hugging Face can be read only once, in order: give a Dataset")
    return _HuggingFaceTable(data)


class _SlicedTable(TableSource):
    """A table of which any rows can be had."""

    def _set(self, title: str, rows: int, types: dict[str, Any], unreadable: dict[str, str] | None = None) -> None:
        if not rows:
            raise BatchproofError(f"{title} has no rows")
        check_names(list(types), title)
        self.title = title
        self.types = types
        self.pieces = parts_of(rows)
        self.describe(unreadable or {})

    def _batches(self, piece: Piece, names: list[str], rows: int) -> Iterator[Any]:
        start = piece.number * PART_ROWS
        stop = start + (piece.rows or 0)
        for first in range(start, stop, rows):
            # one batch of many small chunks
            yield from self._rows(names, first, min(stop, first + rows)).combine_chunks().to_batches()

    @abstractmethod
    def _rows(self, names: list[str], start: int, stop: int) -> Any:
        """A table of some rows."""

    def locate(self, piece: Piece, row: int) -> str:
        return f"row {piece.number * PART_ROWS + row + 1:,} of the {self.title}"


class _ArrowTable(_SlicedTable):
    def __init__(self, table: Any, title: str) -> None:
        self._table = table
        check_names(table.column_names, title)
        self._set(title, table.num_rows, dict(zip(table.column_names, table.schema.types, strict=True)))

    def _rows(self, names: list[str], start: int, stop: int) -> Any:
        return self._table.select(names).slice(start, stop - start)


class _PandasTable(_SlicedTable):
    """A frame of pandas, as its ``to_parquet`` would write it: NaN is null there."""

    def __init__(self, frame: Any) -> None:
        import pyarrow

        self._frame = frame
        check_names([str(label) for label in frame.columns], "pandas DataFrame")
        self._labels = {str(label): label for label in frame.columns}
        types, unreadable = {}, {}
        for name, label in self._labels.items():
            try:
                types[name] = pyarrow.Schema.from_pandas(frame[[label]], preserve_index=False).field(0).type
            except (pyarrow.ArrowException, TypeError, ValueError) as error:
                types[name] = pyarrow.null()
                unreadable[name] = f"{name} of the pandas DataFrame holds objects of no one type: {first_line(error)}"
        self._set("pandas DataFrame", len(frame), types, unreadable)

    def _rows(self, names: list[str], start: int, stop: int) -> Any:
        import pyarrow

        part = self._frame[[self._labels[name] for name in names]].iloc[start:stop]
        schema = pyarrow.schema([(name, self.types[name]) for name in names])
        return pyarrow.Table.from_pandas(part.set_axis(names, axis=1), schema=schema, preserve_index=False)


class _HuggingFaceTable(_SlicedTable):
    """A dataset of Hugging Face, in the order and with the rows that it has now."""

    def __init__(self, data: Any) -> None:
        self._data = data.with_format("arrow")
        schema = data.features.arrow_schema
        self._set("Hugging Face Dataset", len(data), dict(zip(schema.names, schema.types, strict=True)))

    def _rows(self, names: list[str], start: int, stop: int) -> Any:
        return self._data.select_columns(names)[start:stop].select(names)


class _ScannedDataset(TableSource):
    """A dataset of pyarrow's that can be read as a whole only: it is filtered, or partly in memory."""

    def __init__(self, data: Any) -> None:
        self.title = "pyarrow Dataset"
        self._data = data
        if not data.head(1).num_rows:
            raise BatchproofError(f"{self.title} has no rows")
        schema = data.schema
        check_names(schema.names, self.title)
        self.types = dict(zip(schema.names, schema.types, strict=True))
        self.pieces = [Piece(0, "", "", None)]
        self.describe({})

    def __getstate__(self) -> dict[str, Any]:
        # pyarrow forgets the filter on the way
        raise BatchproofError("a filtered dataset cannot be sent to other machines: give the files, or a table")

    def _batches(self, piece: Piece, names: list[str], rows: int) -> Iterator[Any]:
        for batch in self._data.to_batches(columns=names, batch_size=rows):
            yield batch.select(names)

    def locate(self, piece: Piece, row: int) -> str:
        return f"row {row + 1:,} of the {self.title}"
