"""A GradientCheck as a page of text: the cause, and the figures that it rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from batchproof.explanation import finding_section
from batchproof.gradients.check import wording as about
from batchproof.report import page
from batchproof.report.document import Column
from batchproof.report.page import INDENT, labelled, paragraph

if TYPE_CHECKING:
    from batchproof.gradients.check import GradientCheck

BETWEEN = 2
#: A name is cut to this, or to what the figures leave it.
SHORTEST_NAME = 12
_STYLE = {"ratio": "bold magenta", "should count": "bold magenta", "off by": "magenta"}


def lines(check: GradientCheck, width: int) -> Iterator[Text]:
    """The report, line by line."""
    yield from page.head(check.target, None, check.summary, about.state(check), width)
    yield Text()
    yield from paragraph("ran", check.ran, width)
    for index, finding in enumerate(check.findings):
        yield from finding_section(finding, width, "also" if index else "why")
    for index, text in enumerate(check.alternatives):
        yield from paragraph("" if index else "or", text, width)
    yield from labelled("grads", _parameters(check, width - INDENT))
    if len(check.windows) > 1:
        steps = [f"step {number}" for number in range(1, len(check.windows) + 1)]
        yield from labelled("steps", _table("", steps, about.window_columns(check.windows), width - INDENT))
    if check.weights is not None:
        yield from labelled("weigh", _weights(check, width - INDENT))
    for note in check.notes:
        yield from paragraph("note", note, width)


def _parameters(check: GradientCheck, room: int) -> Iterator[Text]:
    rows = about.shown(check)
    yield from map(Text, textwrap.wrap(about.how_many_are_off(check), room))
    yield from _table("parameter", [row.name for row in rows], about.parameter_columns(rows), room)
    if about.remaining(check):
        yield Text(about.remaining(check), style="dim")


def _weights(check: GradientCheck, room: int) -> Iterator[Text]:
    assert check.weights is not None
    yield from map(Text, textwrap.wrap(about.weighed(check.weights), room))
    names = [f"micro-batch {number}" for number in range(1, len(check.weights.factors) + 1)]
    columns = tuple(about.weight_columns(check.weights))
    yield from _table("", names[: about.MOST_ROWS], columns, room)
    if len(names) > about.MOST_ROWS:
        yield Text(f"and {len(names) - about.MOST_ROWS} more", style="dim")


def _table(title: str, names: Sequence[str], columns: Sequence[Column], room: int) -> Iterator[Text]:
    """A header and a row for each name; columns that say nothing are left out, long names lose their start."""
    # there may be more cells than names: the rest is counted below the table
    filled = [column for column in columns if any(text.strip() for text in column.cells)]
    longest = max(len(title), *map(len, names))
    while min(SHORTEST_NAME, longest) + sum(map(_width, filled)) > room and len(filled) > 1:
        filled = filled[1:]  # what matters most stands at the right
    widths = [_width(column) - BETWEEN for column in filled]
    first = min(room - sum(map(_width, filled)), longest)
    gap = " " * BETWEEN
    heads = (gap + column.title.rjust(width) for column, width in zip(filled, widths, strict=True))
    yield Text(title.ljust(first) + "".join(heads), style="dim")
    for index, name in enumerate(names):
        row = Text(page.ending(name, first).ljust(first), style="bold")
        for column, width in zip(filled, widths, strict=True):
            row.append(gap + column.cells[index].rjust(width), style=_STYLE.get(column.title, ""))
        yield row


def _width(column: Column) -> int:
    return BETWEEN + max(len(column.title), *map(len, column.cells))
