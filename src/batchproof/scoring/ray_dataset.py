"""A dataset of Ray's: its first rows are looked at here, and every block is folded where it is made."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.ground.datatable import bare_type, check_names
from batchproof.scoring.blocks import Piece, TableSource


class RayDataset(TableSource):
    """A `ray.data.Dataset`. It is read in pieces by `fold_blocks` alone: then ``pieces`` are its blocks."""

    title = "Ray Dataset"
    pieces_are = "blocks"

    def __init__(self, data: Any) -> None:
        self._data = data
        with _quiet(data):
            schema = data.schema()
        if schema is None:
            raise BatchproofError(f"{self.title} has no rows")
        check_names(schema.names, self.title)
        self.types = {name: _arrow_type(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
        odd = {name for name, kind in self.types.items() if kind is None}
        self.types = {name: kind for name, kind in self.types.items() if name not in odd}
        self.pieces = [Piece(0, "", "", None)]
        self.describe({})

    def _batches(self, piece: Piece, names: list[str], rows: int) -> Iterator[Any]:
        with _quiet(self._data):
            chosen = self._data.select_columns(names)
            for table in chosen.iter_batches(batch_size=rows, batch_format="pyarrow", prefetch_batches=0):
                yield from _in_types(table, names, self.types)

    def locate(self, piece: Piece, row: int) -> str:
        return f"row {row + 1:,} of the {self.title}"

    def fold_blocks(self, names: Sequence[str], fold: Callable[[Any], Any]) -> Generator[Any]:
        """References to what a function makes of each block, in the order of the blocks; none is brought here."""
        with _quiet(self._data):
            chosen = self._data.select_columns(list(names))
            found = chosen.map_batches(fold, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)
            for bundle in found.iter_internal_ref_bundles():
                yield from bundle.block_refs

    def set_blocks(self, rows: Mapping[int, int]) -> None:
        """Its blocks are known by now: how many rows each has, by its number."""
        self.pieces = [Piece(number, "", f"block {number}", rows[number]) for number in sorted(rows)]

    @property
    def template(self) -> _Block:
        """What workers read blocks with: it knows the types, and holds no data."""
        found = _Block.__new__(_Block)
        for name in ("types", "columns", "not_numbers", "unreadable", "shapes"):
            setattr(found, name, getattr(self, name))
        found.title = self.title
        return found


class _Block(TableSource):
    """One block."""

    table: Any

    def of_block(self, table: Any) -> _Block:
        found = copy.copy(self)
        found.table = table
        return found

    def _batches(self, piece: Piece, names: list[str], rows: int) -> Iterator[Any]:
        yield from _in_types(self.table.select(names), names, self.types)

    def locate(self, piece: Piece, row: int) -> str:
        return f"row {row + 1:,} of a block of the {self.title}"


def _arrow_type(kind: Any) -> Any:
    """The type of pyarrow's; a tensor of Ray's in each row is a list of lists. None for objects."""
    import pyarrow as pa

    if not isinstance(kind, pa.DataType):
        return None
    shape = getattr(kind, "shape", None)
    if not _is_tensor(kind):
        return kind
    inner = bare_type(kind).value_type
    for size in reversed(shape or ()):
        inner = pa.list_(inner, size)
    return inner


def _is_tensor(kind: Any) -> bool:
    """Whether it is Ray's own type of tensors that have one shape."""
    return type(kind).__module__.startswith("ray.") and None not in (getattr(kind, "shape", None) or (None,))


def _in_types(table: Any, names: Sequence[str], types: dict[str, Any]) -> Iterator[Any]:
    """Record batches of a table, in the types of its dataset."""
    import pyarrow as pa

    for batch in table.combine_chunks().to_batches():
        arrays = [_array(batch.column(name), types[name]) for name in names]
        yield pa.record_batch(arrays, names=list(names))


def _array(values: Any, kind: Any) -> Any:
    import pyarrow as pa

    if _is_tensor(values.type):
        shape, inner = values.type.shape, values.storage.flatten()
        for size in reversed(shape):
            inner = pa.FixedSizeListArray.from_arrays(inner, size)
        values = inner
    return values if values.type == kind else values.cast(kind)


@contextmanager
def _quiet(data: Any) -> Iterator[None]:
    """Blocks come in their order; Ray's own progress and its log are not shown."""
    options = data.context.execution_options
    loggers = [logging.getLogger(name) for name in ("ray.data", "ray.data._internal.execution.streaming_executor")]
    before = options.preserve_order, data.context.enable_progress_bars, [logger.level for logger in loggers]
    options.preserve_order, data.context.enable_progress_bars = True, False
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        options.preserve_order, data.context.enable_progress_bars = before[:2]
        for logger, level in zip(loggers, before[2], strict=True):
            logger.setLevel(level)
