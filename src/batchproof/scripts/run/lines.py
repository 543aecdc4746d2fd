"""A Run as a page of text: a row for each number, the reason below it, and what else the run has shown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from batchproof.report import page
from batchproof.report.document import Column
from batchproof.scripts.run import wording as about
from batchproof.scripts.run.document import columns

if TYPE_CHECKING:
    from batchproof.scripts.run.result import Epoch, MeasuredAccumulator, ScriptRun

MARGIN, BETWEEN, INDENT = 2, 2, 8
#: Columns that make way where there is no room, in this order.
OPTIONAL = ("by samples", "difference", "epoch", "batches")
_STYLE = {"exact": "green", "printed": "magenta", "off": "red", "difference": "red", "line": "dim", "by samples": "dim"}
_LEFT = ("name", "batches")


def lines(run: ScriptRun, width: int) -> Iterator[Text]:
    """The report, line by line."""
    yield from page.head(run.script, None, about.headline(run), about.state_of(run), width)
    if run.measured:
        yield Text()
        yield from _table(run, width)
    notes = list(about.notes_of(run))
    if notes:
        yield Text()
    last = ""
    for label, text in notes:
        style = {"wrong": "red", "ended": "yellow"}.get(label, "")
        yield from page.paragraph("" if label == last else label, text, width, style)
        last = label


def _table(run: ScriptRun, width: int) -> Iterator[Text]:
    table = _fitting(_shortened(columns(run), width), width)
    widths = [max(len(column.title), *map(len, column.cells)) for column in table]
    heads = (_set(column.title, column, wide) for column, wide in zip(table, widths, strict=True))
    yield Text(" " * MARGIN + (" " * BETWEEN).join(heads).rstrip(), style="dim")
    indent = " " * INDENT
    rows = about.rows_of(run)
    for index, (row, epoch) in enumerate(rows):
        parts = [Text(" " * MARGIN)]
        for column, wide in zip(table, widths, strict=True):
            style = "green" if epoch.is_exact and column.title == "off" else _STYLE.get(column.title, "bold")
            parts += [Text(_set(column.cells[index], column, wide), style=style), Text(" " * BETWEEN)]
        yield Text.assemble(*parts)
        if index + 1 == len(rows) or rows[index + 1][0] is not row:
            for text in _reasons(row):
                yield from (Text(indent + part, style="dim") for part in textwrap.wrap(text, width - len(indent)))


def _reasons(row: MeasuredAccumulator) -> Iterator[str]:
    """Why, once for all passes of a number."""
    yield from dict.fromkeys(about.why_of(row, epoch) for epoch in row.shown if epoch.is_exact is None)
    if row.wrong:
        why = about.why_of(row, row.wrong[-1])
        yield f"{why} ({row.cause}: {row.cause.text})" if row.cause is not None and row.cause.text else why
        if row.remedy:
            yield f"→ {row.remedy}"


def _shortened(table: list[Column], width: int) -> list[Column]:
    """Paths by their ends and names by their beginnings, where they would take more than their part of the line."""
    most = width // 4
    short = {"line": page.ending, "name": page.beginning}
    return [
        replace(column, cells=tuple(short[column.title](cell, most) for cell in column.cells))
        if column.title in short
        else column
        for column in table
    ]


def _fitting(table: list[Column], width: int) -> list[Column]:
    """As many columns as there is room for."""
    for title in ("", *OPTIONAL):
        table = [column for column in table if column.title != title]
        needed = MARGIN + sum(max(len(c.title), *map(len, c.cells)) + BETWEEN for c in table) - BETWEEN
        if needed <= width:
            break
    return table


def _set(text: str, column: Column, width: int) -> str:
    return text.ljust(width) if column.title in _LEFT else text.rjust(width)


def live_line(row: MeasuredAccumulator, epoch: Epoch) -> str:
    """An epoch that has just ended."""
    if epoch.printed is None or epoch.exact is None:
        why = epoch.reason or "no average"
        return f"batchproof: {row.name} ({row.place}), epoch {epoch.number}: no exact value; {why}"
    off = "exact" if epoch.is_exact else f"reads {about.off(epoch)}"
    return (
        f"batchproof: {row.name} ({row.place}), epoch {epoch.number}: printed {epoch.printed:.6g}, "
        f"exact {epoch.exact:.6g}, {off}"
    )
