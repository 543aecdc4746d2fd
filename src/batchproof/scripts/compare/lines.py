"""A Comparison as a page of text: the answer, a bill for each number, and what to change."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from batchproof.report import page
from batchproof.report.bar import LONGEST_BAR, SHORTEST_BAR, bar
from batchproof.report.page import INDENT, labelled, paragraph
from batchproof.scripts.compare.document import state_of
from batchproof.scripts.compare.table import Entry, aligned, ran, sections, title

if TYPE_CHECKING:
    from batchproof.scripts.compare.comparison import Advice, ComparedNumber, Comparison

#: The table stands where labels do: it needs the room.
MARGIN, BETWEEN = 2, 3
_STYLE = {"total": "bold", "mistake": "magenta", "real": "", "aside": "dim", "control": "cyan"}


def lines(found: Comparison, width: int) -> Iterator[Text]:
    """The report, line by line."""
    place = found.numbers[0].place if found.numbers else None
    yield from page.head(found.target, place, found.headline, state_of(found), width)
    yield Text()
    yield from paragraph("ran", ran(found), width)
    if found.interrupted:
        yield from paragraph("ended", "interrupted: these are the runs that were done by then", width, "yellow")
    for failure in found.failures:
        yield from paragraph("failed", f"{failure.run}: {failure.error}", width, "yellow")
    for index, number in enumerate(found.numbers):
        yield Text()
        with_headline = number.headline != found.headline
        yield from _number(number, found.numbers[0] if index else None, with_headline, width)
    yield Text()
    for advice in found.advice:
        yield from _advice(advice, width)
    for note in found.notes:
        yield from paragraph("note", note, width)


def _number(number: ComparedNumber, said: ComparedNumber | None, with_headline: bool, width: int) -> Iterator[Text]:
    """The table; batch sizes that do not fit beside the others stand below them."""
    margin = " " * MARGIN
    yield Text(margin + title(number), style="bold cyan")
    if with_headline and number.headline:
        yield from (Text(margin + part) for part in textwrap.wrap(number.headline, width - MARGIN))
    groups = sections(number, said)
    entries = [entry for group in groups for entry in group]
    label = max(len(HEAD), *(len(_indented(entry)) for entry in entries))
    columns = [_column(number, entries, index) for index in range(len(number.rows))]
    for chosen in _packed(columns, width - MARGIN - label):
        taken = MARGIN + label + sum(len(column[0]) + BETWEEN for column in chosen)
        shares = [""] * (len(entries) + 1)
        if columns[number.rows.index(number.farthest)] in chosen:
            shares = _shares(number, entries, width - taken - BETWEEN)
        yield from _block(groups, label, [*chosen, shares])


HEAD = "batch size"


def _column(number: ComparedNumber, entries: Sequence[Entry], index: int) -> list[str]:
    """A batch size and its figures."""
    cells = aligned([entry.cells[index] for entry in entries])
    head = f"{number.rows[index].size:,}"
    width = max(len(head), len(cells[0]))
    return [head.rjust(width), *(cell.rjust(width) for cell in cells)]


def _packed(columns: Sequence[list[str]], room: int) -> list[list[list[str]]]:
    """Columns side by side while they fit."""
    found: list[list[list[str]]] = []
    left = 0
    for column in columns:
        left -= len(column[0]) + BETWEEN
        if left < 0 or not found:
            found.append([])
            left = room - len(column[0]) - BETWEEN
        found[-1].append(column)
    return found


def _block(groups: Sequence[Sequence[Entry]], label: int, columns: Sequence[Sequence[str]]) -> Iterator[Text]:
    """A header and the rows; sections are set apart."""
    gap = " " * BETWEEN
    yield Text(" " * MARGIN + gap.join([HEAD.ljust(label), *(column[0] for column in columns)]), style="dim")
    position = 0
    for group in groups:
        if position:
            yield Text()
        for entry in group:
            position += 1
            *cells, share = (column[position] for column in columns)
            yield Text.assemble(
                " " * MARGIN,
                (_indented(entry).ljust(label), "dim" if entry.kind == "aside" else ""),
                (gap + gap.join(cells), _STYLE[entry.kind]),
                (gap + share, "magenta" if entry.kind == "mistake" else "dim"),
            )


def _indented(entry: Entry) -> str:
    return ("  " if entry.share is not None else "") + entry.label


def _shares(number: ComparedNumber, entries: Sequence[Entry], room: int) -> list[str]:
    """How much each part makes up of the largest difference, and a bar where there is room; below a heading."""
    largest = max((abs(entry.share) for entry in entries if entry.share is not None), default=0.0)
    longest = min(room - 6, LONGEST_BAR)
    heading = f"of the difference at {number.farthest.size:,}"
    found = [heading if largest and len(heading) <= room else ""]
    for entry in entries:
        if entry.share is None or room < 5:
            found.append("")
            continue
        share = f"{entry.share:.0%}".replace("-0%", "0%") if abs(entry.share) < 100 else ""
        drawn = bar(longest * abs(entry.share) / largest) if longest >= SHORTEST_BAR and largest else ""
        found.append(f"{share.rjust(5)} {drawn}".rstrip())
    return found


def _advice(advice: Advice, width: int) -> list[Text]:
    """What it is, its line of code, and what to do."""
    room = width - INDENT
    body = [Text(part) for part in textwrap.wrap(f"{advice.title}: {advice.text}", room)]
    if advice.place is not None:
        where = page.ending(str(advice.place), room)
        code = page.beginning(advice.place.text.strip(), max(0, room - len(where) - 5))
        body.append(Text.assemble("  ", (where, "cyan"), "   ", (code, "bold")) if code else Text(where, style="cyan"))
    for index, part in enumerate(textwrap.wrap(advice.remedy, room - 2)):
        body.append(Text(("→ " if not index else "  ") + part, style="green"))
    return labelled("wrong" if advice.is_mistake else "why", body)
