"""A table of a report as monospaced text: its groups side by side where there is room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from batchproof.report.document import Group, Sheet
from batchproof.report.page import INDENT, paragraph

BETWEEN_GROUPS, BETWEEN_COLUMNS = 4, 2
_STYLE = {"expected": "green", "published": "dim", "reads": "bold magenta", "": "magenta"}


def packed(table: Sheet, width: int) -> list[list[Group]]:
    """Groups stand beside each other while they fit, and below each other from there on."""
    blocks: list[list[Group]] = []
    room = 0
    for group in table.groups:
        room -= BETWEEN_GROUPS + width_of(group)
        if room < 0:
            blocks.append([])
            room = width - margin_of(table) - width_of(group)
        blocks[-1].append(group)
    return blocks


def block(table: Sheet, groups: Sequence[Group]) -> Iterator[Text]:
    """A header and a row for each size, of the groups that stand side by side."""
    gap = " " * BETWEEN_GROUPS
    margin = margin_of(table)
    if any(group.title for group in groups):
        yield Text(" " * margin + gap.join(_titled(group).ljust(width_of(group)) for group in groups), style="bold")
    head = table.label.ljust(margin - 2) if table.in_words else "  size".rjust(margin - 2)
    yield Text(head + "  " + gap.join(map(_heads, groups)), style="dim")
    for index, size in enumerate(table.sizes):
        own = index == table.marked
        label = ("▸ " if own else "") + size
        label = label.ljust(margin - 2) if table.in_words else label.rjust(margin - 2)
        parts = [Text(label + "  ", style="bold cyan" if own else "" if table.in_words else "bold")]
        for group in groups:
            parts += [*_cells(group, index, own), Text(_slack(group) + gap)]
        yield Text.assemble(*parts)


def _titled(group: Group) -> str:
    return group.title if len(group.title) <= width_of(group) else group.title.split(" (")[0]


def _heads(group: Group) -> str:
    between = " " * BETWEEN_COLUMNS
    titles = (column.title.rjust(width) for column, width in zip(group.columns, _widths(group), strict=True))
    return between.join(titles) + _slack(group)


def _cells(group: Group, index: int, own: bool) -> Iterator[Text]:
    for position, (column, width) in enumerate(zip(group.columns, _widths(group), strict=True)):
        gap = " " * (BETWEEN_COLUMNS if position else 0)
        style = _STYLE.get(column.title, "") + (" bold" if own else "")
        yield Text(gap + column.cells[index].rjust(width), style=style.strip())


def _widths(group: Group) -> list[int]:
    return [max(len(column.title), *map(len, column.cells)) for column in group.columns]


def width_of(group: Group) -> int:
    """The characters that a group takes."""
    return max(_filled(group), len(group.title.split(" (")[0]))


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
    return max(INDENT, longest + 4)


def body(yours: str, drawn: str, table: Sheet, asides: Iterable[tuple[str, str]], width: int) -> Iterator[Text]:
    """A report around a table: what it says of the reader's own row, what was drawn, and what else to know."""
    yield Text()
    yield from paragraph("yours", yours, width, "bold")
    yield from paragraph("drawn", drawn, width)
    yield Text()
    for groups in packed(table, width):
        yield from block(table, groups)
        yield Text()
    for label, text in asides:
        yield from paragraph(label, text, width, "yellow" if label == "ended" else "")
