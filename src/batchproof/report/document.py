"""A report as data: what HTML and PNG show, whatever verb it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batchproof.report.chart import Chart

if TYPE_CHECKING:
    from batchproof.ground.place import Place


@dataclass(frozen=True)
class Reason:
    """Why: the line of code, what it does, and what to do instead."""

    title: str
    text: str
    place: Place | None = None
    remedy: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table, as text."""

    title: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Columns that belong together."""

    title: str
    columns: tuple[Column, ...]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


@dataclass(frozen=True)
class Sheet:
    """A table with a row for each batch size, or for what ``label`` says."""

    sizes: tuple[str, ...]
    groups: tuple[Group, ...]
    marked: int | None = None  # which row is the reader's own
    label: str = "batch size"
    in_words: bool = False  # the rows have names, indented by what they belong to

    @property
    def filled(self) -> Sheet:
        """Without the columns that say nothing."""
        groups = (
            replace(group, columns=tuple(column for column in group.columns if any(column.cells)))
            for group in self.groups
        )
        return replace(self, groups=tuple(group for group in groups if group.columns))


@dataclass(frozen=True)
class Document:
    """A report, part by part in the order of reading."""

    title: str
    place: Place | None
    state: bool | None  # safe, or not, or not known
    headline: str
    yours: str = ""
    given: str = ""
    reasons: tuple[Reason, ...] = ()
    chart: Chart | None = None
    caption: str = ""
    sheet: Sheet | None = None
    use: tuple[str, ...] = ()
    asides: tuple[tuple[str, str], ...] = field(default=())


def row_of(size: int | None, sizes: Sequence[int]) -> int | None:
    """Which row is that of a size."""
    return sizes.index(size) if size in sizes else None
