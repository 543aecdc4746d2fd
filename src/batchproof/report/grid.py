"""A table of a report as monospaced text: its groups side by side where there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from rich.text import Text

from batchproof.report.bar import LONGEST_BAR, SHORTEST_BAR, bar
from batchproof.report.document import Column, Group, Sheet, Tone
from batchproof.report.page import INDENT

_Part = TypeVar("_Part")
BETWEEN_GROUPS, BETWEEN_COLUMNS = 4, 2
STYLE: dict[Tone, str] = {
    "plain": "", "faint": "dim", "strong": "bold", "expected": "green", "notable": "magenta", "answer": "bold magenta",
    "tried": "cyan", "wrong": "red",
}  # fmt: skip


def packed(table: Sheet, width: int) -> list[list[Group]]:
    """Groups stand beside each other while they fit, and below each other from there on."""
    return side_by_side(table.groups, width_of, width - margin_of(table), BETWEEN_GROUPS)


def side_by_side(parts: Sequence[_Part], width_of: Callable[[_Part], int], room: int, gap: int) -> list[list[_Part]]:
    """Parts of a table, those together that have room on one line."""
    lines: list[list[_Part]] = []
    left = 0
    for part in parts:
        left -= gap + width_of(part)
        if left < 0:
            lines.append([])
            left = room - width_of(part)
        lines[-1].append(part)
    return lines


def with_bars(table: Sheet, width: int) -> Sheet:
    """The table, and in what room is left beside its last group the bars of that."""
    blocks = packed(table, width)
    if not blocks:
        return table
    groups = blocks[-1]
    room = width - margin_of(table) - sum(map(width_of, groups)) - BETWEEN_GROUPS * (len(groups) - 1) - BETWEEN_COLUMNS
    if table.narrow is not None and (len(blocks) > 1 or room < SHORTEST_BAR):
        return with_bars(table.narrow, width)
    last = groups[-1]
    if not last.bars or room < SHORTEST_BAR:
        return table
    longest = min(room, LONGEST_BAR)
    bars = Column("", tuple(bar(longest * share).ljust(longest) for share in last.bars), "notable")
    return replace(table, groups=(*table.groups[:-1], replace(last, columns=(*last.columns, bars))))


def block(table: Sheet, groups: Sequence[Group]) -> Iterator[Text]:
    """A header and a row for each size, of the groups that stand side by side."""
    gap = " " * BETWEEN_GROUPS
    margin = margin_of(table)
    if any(group.title for group in groups):
        yield Text(" " * margin + gap.join(_titled(group).ljust(width_of(group)) for group in groups), style="bold")
    head = table.label.ljust(margin - 2) if table.in_words else _head_of(table).rjust(margin - 2)
    yield Text(head + "  " + gap.join(map(_heads, groups)), style="dim")
    for index, size in enumerate(table.sizes):
        own = index == table.marked
        label = ("▸ " if own else "") + size
        label = label.ljust(margin - 2) if table.in_words else label.rjust(margin - 2)
        parts = [Text(label + "  ", style="bold cyan" if own else "bold")]
        for group in groups:
            parts += [*_cells(group, index, own), Text(_slack(group) + gap)]
        yield Text.assemble(*parts)


def _head_of(table: Sheet) -> str:
    """What the rows are; of batch sizes the indent has room for half."""
    return "size" if table.label == "batch size" else table.label


def _titled(group: Group) -> str:
    return group.full_title if len(group.full_title) <= width_of(group) else group.title


def _heads(group: Group) -> str:
    between = " " * BETWEEN_COLUMNS
    titles = (column.title.rjust(width) for column, width in zip(group.columns, _widths(group), strict=True))
    return between.join(titles) + _slack(group)


def _cells(group: Group, index: int, own: bool) -> Iterator[Text]:
    for position, (column, width) in enumerate(zip(group.columns, _widths(group), strict=True)):
        gap = " " * (BETWEEN_COLUMNS if position else 0)
        style = STYLE[column.tone] + (" bold" if own else "")
        yield Text(gap + column.cells[index].rjust(width), style=style.strip())


def _widths(group: Group) -> list[int]:
    return list(map(width_of_column, group.columns))


def width_of_column(column: Column) -> int:
    """The characters that a column takes."""
    return max(len(column.title), *map(len, column.cells))


def width_of(group: Group) -> int:
    """The characters that a group takes."""
    return max(_filled(group), len(group.title))


def _filled(group: Group) -> int:
    return sum(_widths(group)) + BETWEEN_COLUMNS * (len(group.columns) - 1)


def _slack(group: Group) -> str:
    """What the title is longer than the columns below it."""
    return " " * (width_of(group) - _filled(group))


def margin_of(table: Sheet) -> int:
    """The sizes stand in the indent, as the labels do; larger ones widen it."""
    longest = max(
        (len(size) + (2 if index == table.marked else 0) for index, size in enumerate(table.sizes)), default=0
    )
    return max(INDENT, longest + 4, len(_head_of(table)) + 2)
