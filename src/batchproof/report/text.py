"""A document as lines of text: what a terminal shows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.text import Text

from batchproof.report import page
from batchproof.report.document import Aside, Document, Reason
from batchproof.report.grid import block, packed, with_bars, within
from batchproof.report.page import INDENT, labelled, paragraph
from batchproof.report.strip import strip_lines


def lines(document: Document, width: int) -> Iterator[Text]:
    """The report, line by line."""
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
    for aside in document.asides:
        yield from _aside(aside, width)
    yield from page.code("use", document.use, width)
    for note in document.notes:
        yield from paragraph("note", note, width)


def _reason(reason: Reason, width: int, label: str) -> list[Text]:
    """Its line of code, what it is, and what to do instead."""
    room = width - INDENT
    body = [*page.code_line(reason.place, room), *map(Text, textwrap.wrap(f"{reason.title}: {reason.text}", room))]
    for index, part in enumerate(textwrap.wrap(reason.remedy, room - 2)):
        body.append(Text(("→ " if not index else "  ") + part, style="green"))
    return labelled(label, body)


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
        table = with_bars(sheet, width)
        for groups in packed(table, width):
            yield from block(table, groups)
            yield Text()
        return
    room = width - INDENT
    body = [Text(part) for text in document.caption for part in textwrap.wrap(text, room)]
    if document.strip is not None:
        body += strip_lines(document.strip, room)
    elif sheet is not None:
        body += within(sheet, room)
    body += [Text(part, "dim") for part in textwrap.wrap(document.footnote, room)]
    yield from labelled(document.caption_label, body)
