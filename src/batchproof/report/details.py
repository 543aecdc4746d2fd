"""What a terminal adds with ``-v``: all figures, how they came about, and what else to know."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby

from rich.text import Text

from batchproof.report import page
from batchproof.report.document import Aside, Document, Sheet
from batchproof.report.grid import block, packed, with_bars
from batchproof.report.page import INDENT, labelled, paragraph
from batchproof.report.stacked import stacked


def details(document: Document, width: int) -> Iterator[Text]:
    """The rest of a report, part by part."""
    sheet = document.sheet
    asides = [aside for aside in document.asides if aside.row is None and not aside.is_warning]
    opening = [paragraph(document.caption_label, text, width) for text in document.caption if document.caption_label]
    tables: Iterable[list[Text]] = []
    if sheet is not None and sheet.is_stacked:
        tables = stacked(sheet, _remarks(document), width)
    elif sheet is not None:
        tables = _tables(sheet, width)
    more = chain.from_iterable(stacked(table, {}, width) for table in document.appendix)
    for part in (chain(*opening), *tables, *more, _footnote(document.footnote, width), _asides(asides, width)):
        lines = list(part)
        yield from [Text(), *lines] if lines else []


def _footnote(text: str, width: int) -> list[Text]:
    return [Text("  " + line, "dim") for line in textwrap.wrap(text, width - 2)]


def _tables(sheet: Sheet, width: int) -> Iterator[list[Text]]:
    """The table with its bars, as many groups of it beside each other as have room."""
    table = with_bars(sheet, width)
    return (list(block(table, groups)) for groups in packed(table, width))


def _remarks(document: Document) -> dict[int, list[str]]:
    """What is said below the rows of a table."""
    found: dict[int, list[str]] = {}
    for aside in document.asides:
        if aside.row is not None:
            found.setdefault(aside.row, []).append(aside.text)
    return found


def _asides(asides: Iterable[Aside], width: int) -> list[Text]:
    """One below the other: of those with one label only the first has it."""
    grouped = [list(group) for _, group in groupby(asides, lambda aside: aside.label)]
    each = [
        replace(aside, label="" if index else aside.label) for group in grouped for index, aside in enumerate(group)
    ]
    return [line for aside in each for line in _aside(aside, width)]


def _aside(aside: Aside, width: int) -> list[Text]:
    room = width - INDENT
    style = "yellow" if aside.is_warning else ""
    body = [*page.code_line(aside.place, room), *(Text(part, style) for part in textwrap.wrap(aside.text, room))]
    return labelled(aside.label, body)
