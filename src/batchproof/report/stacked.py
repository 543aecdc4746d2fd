"""A table of a report as monospaced text: each of its groups across the whole width, one below the other."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.text import Text

from batchproof.report.bar import LONGEST_BAR, SHORTEST_BAR, bar
from batchproof.report.document import Column, Group, Sheet
from batchproof.report.grid import STYLE, side_by_side, width_of_column
from batchproof.report.page import beginning, ending

MARGIN, REMARK_INDENT = 2, 8
#: Figures whose rows are named in words stand farther apart: they have error bars.
BETWEEN, BETWEEN_IN_WORDS = 2, 3
#: The part of the line that a name may take; where the rows have names in words, that these may.
NAME_SHARE, WORDS_SHARE = 4, 2
#: A dotted name is cut to this and no farther: it is left out then.
SHORTEST_PATH = 10

Remarks = Mapping[int, Sequence[str]]


def stacked(table: Sheet, remarks: Remarks, width: int) -> Iterator[list[Text]]:
    """A block of lines for each group.

    Args:
        table: What is shown.
        remarks: By row, what is said below it.
        width: Of the terminal.
    """
    for group in table.groups:
        lines = [Text(" " * MARGIN + group.full_title, style="bold cyan")] if group.title else []
        lines += [Text(" " * MARGIN + part) for part in textwrap.wrap(group.headline, width - MARGIN)]
        yield [*lines, *_Stack(table, group, width).lines(remarks)]


class _Stack:
    """One group: the rows in which it has figures, and its columns beside each other while they fit."""

    def __init__(self, table: Sheet, group: Group, width: int) -> None:
        rows = _own_rows(table, group)
        sizes = tuple(f"▸ {size}" if row == table.marked else size for row, size in enumerate(table.sizes))
        names = _picked(Column(table.label, sizes, "faint", is_left=table.in_words), rows)
        columns = [_picked(column, rows) for column in group.columns]
        columns = [_cut(column, beginning, width) if column.is_name else column for column in columns]
        self.notes = [table.notes[row] for row in rows] if table.notes else []
        self.rows, self.width, self.shares, self.bars = rows, width, group.shares, group.bars
        self.own = table.marked
        self.looks = [table.looks[row] for row in rows] if table.looks else []
        self.gap = BETWEEN_IN_WORDS if table.in_words else BETWEEN
        columns, self.gap = _fitted(names, columns, width - MARGIN, self.gap)
        wide = width_of_column(names) + sum(self.gap + width_of_column(column) for column in columns)
        if not table.in_words:
            names = _cut(names, ending, width)
        elif wide > width - MARGIN:  # such as the dotted names of parameters: they are known by their ends
            names = replace(names, cells=tuple(ending(cell, width // WORDS_SHARE) for cell in names.cells))
        self.names = names
        room = width - MARGIN - width_of_column(self.names)
        self.compared = columns[group.shares.column] if group.shares is not None else None
        self.blocks = side_by_side(columns, width_of_column, room - self.gap, self.gap)

    def lines(self, remarks: Remarks) -> Iterator[Text]:
        """The columns, on as many blocks of lines as they take."""
        for columns in self.blocks:
            yield from self._block([self.names, *columns], remarks if columns is self.blocks[-1] else {})

    def _block(self, columns: Sequence[Column], remarks: Remarks) -> Iterator[Text]:
        widths = list(map(width_of_column, columns))
        between = " " * self.gap
        room = self.width - MARGIN - sum(widths) - self.gap * len(widths)
        heading, shares = self._drawn(columns, room)
        if self.bars and columns[-1] is self.blocks[-1][-1] and room >= SHORTEST_BAR:
            shares = [bar(min(room, LONGEST_BAR) * self.bars[row]) for row in self.rows]
        heads = [_set(column, column.title, width) for column, width in zip(columns, widths, strict=True)]
        yield Text(" " * MARGIN + between.join([*heads, heading]).rstrip(), style="dim")
        for index, row in enumerate(self.rows):
            look = self.looks[index] if self.looks else None
            if index and look is not None and look.section != self.looks[index - 1].section:
                yield Text()
            parts = [Text(" " * MARGIN)]
            for column, width in zip(columns, widths, strict=True):
                parts += [Text(_set(column, column.cells[index], width), self._style(column, index)), Text(between)]
            tone = "notable" if self.bars else look.tone if look is not None else "plain"
            style = STYLE[tone if tone in ("notable", "wrong") else "faint"]
            line = Text.assemble(*parts, Text(shares[index] if shares else "", style))
            note = self.notes[index] if self.notes and columns[-1] is self.blocks[-1][-1] else ""
            yield from _noted(line, note, self.width, self.gap)
            for remark in remarks.get(row, ()):
                wrapped = textwrap.wrap(remark, self.width - REMARK_INDENT)
                yield from (Text(" " * REMARK_INDENT + part, style="dim") for part in wrapped)

    def _style(self, column: Column, index: int) -> str:
        if self.rows[index] == self.own:
            return "bold cyan"
        if not self.looks:
            return STYLE[column.tones[index] if column.tones else column.tone]
        tone = self.looks[index].tone
        return STYLE[tone if column is not self.names or tone == "faint" else "plain"]

    def _drawn(self, columns: Sequence[Column], room: int) -> tuple[str, list[str]]:
        """A heading, and for each row its share and a bar: where the column of which they are shares is shown."""
        if self.shares is None or self.compared not in columns or room < len(" 100%"):
            return "", []
        values = [self.shares.values[row] for row in self.rows]
        largest = max((abs(value) for value in values if value is not None), default=0.0)
        longest = min(room - len(" 100% "), LONGEST_BAR)
        title = self.shares.title if largest and len(self.shares.title) <= room else ""
        return title, [_share(value, largest, longest if longest >= SHORTEST_BAR else 0) for value in values]


def _noted(line: Text, note: str, width: int, gap: int) -> Iterator[Text]:
    """A row with what is said of it: behind its last figure where there is room, and below it otherwise."""
    used = len(line.plain.rstrip())
    if note and used + gap + len(note) <= width:
        line.truncate(used)
        yield Text.assemble(line, " " * gap, (note, "dim"))
        return
    yield line
    for part in textwrap.wrap(note, width - REMARK_INDENT):
        yield Text(" " * REMARK_INDENT + part, style="dim")


def _share(value: float | None, largest: float, longest: int) -> str:
    """`` 17% ██``: a bar is as long as its share of the largest."""
    if value is None:
        return ""
    written = f"{value:.0%}".replace("-0%", "0%") if abs(value) < 100 else ""
    return f"{written:>5} {bar(longest * abs(value) / largest) if largest else ''}".rstrip()


def _own_rows(table: Sheet, group: Group) -> list[int]:
    """The rows in which a group has figures, but for optional ones that only repeat the first group's."""
    rows, first = _stripped(group), _stripped(table.groups[0])
    repeated = {
        row
        for row, look in enumerate(table.looks)
        if look.is_optional and group is not table.groups[0] and rows[row] == first[row]
    }
    return [row for row, cells in enumerate(rows) if row not in repeated and any(cells)]


def _stripped(group: Group) -> list[list[str]]:
    return [[cell.strip() for cell in cells] for cells in group.rows]


def _picked(column: Column, rows: Sequence[int]) -> Column:
    """The column in these rows alone."""
    tones = tuple(column.tones[row] for row in rows) if column.tones else ()
    return replace(column, cells=tuple(column.cells[row] for row in rows), tones=tones)


def _cut(column: Column, cut: Callable[[str, int], str], width: int) -> Column:
    """Names, where they would take more than their part of the line."""
    return replace(column, cells=tuple(cut(cell, width // NAME_SHARE) for cell in column.cells))


def _fitted(names: Column, columns: Sequence[Column], room: int, gap: int) -> tuple[list[Column], int]:
    """Dotted names in what room the other columns leave, or not at all; then less room between what is left."""
    paths = [column for column in columns if column.is_path]
    if not paths:
        return list(columns), gap
    others = [names, *(column for column in columns if not column.is_path)]
    left = room - sum(map(width_of_column, others)) - gap * (len(columns))
    most = left // len(paths)
    if most >= SHORTEST_PATH:
        shown = [_with_ends(column, most) if column.is_path else column for column in columns]
        return shown, gap
    return others[1:], gap if left >= -gap * len(paths) else BETWEEN


def _with_ends(column: Column, room: int) -> Column:
    return replace(column, cells=tuple(ending(cell, room) for cell in column.cells))


def _set(column: Column, text: str, width: int) -> str:
    return text.ljust(width) if column.is_left else text.rjust(width)
