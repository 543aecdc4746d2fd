"""A document as lines of text: what a terminal shows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby

from rich.text import Text

from batchproof.report import page
from batchproof.report.document import Aside, Document, Reason, Sheet
from batchproof.report.grid import block, packed, with_bars, within
from batchproof.report.page import INDENT, labelled, paragraph
from batchproof.report.stacked import stacked
from batchproof.report.strip import strip_lines


def lines(document: Document, width: int) -> Iterator[Text]:
    """The report, section by section."""
    yield from page.head(document.title, document.place, document.headline, document.state, width)
    yield Text()
    yield from paragraph("yours", document.yours, width, "bold")
    if document.given is not None:
        yield from _aside(document.given, width)
    for index, reason in enumerate(document.reasons):
        yield from _reason(reason, width, "also" if index else "why")
    for index, text in enumerate(document.alternatives):
        yield from paragraph("" if index else "or", text, width)
    yield from _figures(document, width)
    yield from _asides(document.asides, width)
    yield from page.code("use", document.use, width)
    for note in document.notes:
        yield from paragraph("note", note, width)


def details(document: Document, width: int) -> Iterator[Text]:
    """What a screen adds with ``-v``: all figures, how they came about, and what else to know."""
    sheet = document.sheet
    asides = [aside for aside in document.asides if aside.row is None and not aside.is_warning]
    opening = [paragraph(document.caption_label, text, width) for text in document.caption if document.caption_label]
    tables: Iterable[list[Text]] = []
    if sheet is not None and sheet.is_stacked:
        tables = stacked(sheet, _remarks(document), width)
    elif sheet is not None:
        tables = _tables(sheet, width)
    closing = [_asides(asides, width), *(paragraph("note", note, width) for note in document.notes)]
    for part in (chain(*opening), *tables, chain(*closing)):
        lines = list(part)
        yield from [Text(), *lines] if lines else []


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


def _reason(reason: Reason, width: int, label: str) -> list[Text]:
    """Its line of code, what it is, and what to do instead."""
    room = width - INDENT
    words = map(Text, textwrap.wrap(f"{reason.title}: {reason.text}", room))
    body = [*page.code_line(reason.place, room), *words]
    for index, part in enumerate(textwrap.wrap(reason.remedy, room - 2)):
        body.append(Text(("→ " if not index else "  ") + part, style="green"))
    return labelled(label, body)


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
    if aside.table is not None:
        body += within(aside.table, room)
    body += [Text(part, "dim") for part in textwrap.wrap(aside.footnote, room)]
    return labelled(aside.label, body)


def _figures(document: Document, width: int) -> Iterator[Text]:
    """What was measured: a table by batch sizes has the whole width, others stand in their section."""
    sheet = document.sheet
    if document.strip is None and sheet is not None and not sheet.in_words:
        for text in document.caption:
            yield from paragraph(document.caption_label, text, width)
        yield Text()
        for table in _tables(sheet, width):
            yield from [*table, Text()]
        return
    room = width - INDENT
    body = [Text(part) for text in document.caption for part in textwrap.wrap(text, room)]
    if document.strip is not None:
        body += strip_lines(document.strip, room)
    elif sheet is not None:
        body += within(sheet, room)
    body += [Text(part, "dim") for part in textwrap.wrap(document.footnote, room)]
    yield from labelled(document.caption_label, body)
