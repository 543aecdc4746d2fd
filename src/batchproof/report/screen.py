"""A document as a screen: the verdict, the figures behind it, why, and the fix; ``-v`` adds the rest."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from batchproof.report.details import details
from batchproof.report.document import Brief, Document, Reason
from batchproof.report.page import SIGNS, STATE_STYLES, code_line, ending
from batchproof.report.stacked import stacked
from batchproof.report.waterfall import waterfall_lines

INDENT = 8


def screen(document: Document, width: int, *, is_verbose: bool = False, hint: bool = False) -> Iterator[Text]:
    """The report, line by line.

    Args:
        document: What is shown.
        width: Of the terminal.
        is_verbose: Whether all of it is shown.
        hint: Whether the last line says what ``-v`` would add.
    """
    brief = document.brief
    yield from verdict(document, width)
    parts = [
        *([list(waterfall_lines(brief.waterfall, width))] if brief.waterfall is not None else []),
        [line for remark in brief.remarks for line in _wrapped(remark, width, 2)],
        [
            *_reasons(document.reasons, width, is_verbose),
            *_listed("Try", brief.tries, width),
            *_fix(document.use_heading, document.use, width),
        ],
    ]
    tables = [list(lines) for table in brief.tables for lines in stacked(table, {}, width)]
    for lines in (*tables, *parts):
        yield from [Text(), *lines] if lines else []
    if is_verbose:
        yield from details(document, width)
    else:
        yield from _closing(brief, width, hint)


def verdict(document: Document, width: int) -> Iterator[Text]:
    """The answer behind its sign, with the place at the right; what qualifies it below."""
    style = STATE_STYLES[document.state]
    lines = textwrap.wrap(f"{SIGNS[document.state]} {document.headline}", width, subsequent_indent="  ")
    where = ending(str(document.place) if document.place is not None else document.title, width)
    *first, last = lines
    yield from (Text(line, style) for line in first)
    room = width - len(last) - len(where)
    if room >= 2:
        yield Text.assemble((last, style), " " * room, (where, "dim"))
    else:
        yield Text(last, style)
        yield Text(where.rjust(width), "dim")
    for warning in document.warnings:
        yield from _wrapped(warning.text, width, 2, "yellow")
    yield from _wrapped(document.yours, width, 2, "bold")


def _wrapped(words: str, width: int, indent: int, style: str = "") -> Iterator[Text]:
    for line in textwrap.wrap(words, width - indent):
        yield Text(" " * indent + line, style)


def _reasons(reasons: Iterable[Reason], width: int, is_verbose: bool) -> Iterator[Text]:
    """Each line of code with what it does; what need not be repaired has its remedy with it."""
    shown = [reason for reason in reasons if is_verbose or not reason.is_extra]
    for index, reason in enumerate(shown):
        words = f"{reason.title}: {reason.text}" if reason.title else reason.text
        body = [*code_line(reason.place, width - INDENT), *_wrapped(words, width - INDENT, 0)]
        body += _wrapped(f"→ {reason.remedy}" if reason.remedy else "", width - INDENT, 0, "green")
        yield from _under("Why" if not index else "", body)


def _listed(heading: str, sentences: Sequence[str], width: int) -> list[Text]:
    return _under(heading, [line for sentence in sentences for line in _wrapped(sentence, width - INDENT, 0)])


def _fix(heading: str, rows: Sequence[str], width: int) -> list[Text]:
    """Lines to paste are never cut: they begin farther left where one has no room behind the heading."""
    room = width - INDENT
    lines = list(_code(rows, room))
    if all(len(line.plain) <= room for line in lines):
        return _under(heading, lines)
    return [Text(f"  {heading}", "bold cyan"), *(Text.assemble("  ", line) for line in lines)]


def _code(rows: Sequence[str], room: int) -> Iterator[Text]:
    """Code with its comments; these stand above the lines where one has no room behind its own."""
    is_wide = any(len(row) > room for row in rows)
    for row in rows:
        code, mark, comment = row.partition("  # ")
        if not is_wide:
            yield Text.assemble((code, "bold green"), (f"{mark}{comment}", "dim"))
            continue
        yield from _wrapped(f"# {comment}" if mark else "", room, 0, "dim")
        yield Text(code.rstrip(), "bold green")


def _closing(brief: Brief, width: int, hint: bool) -> Iterator[Text]:
    """How it came about and what ``-v`` adds: on one line where both have room."""
    told = [*filter(None, (brief.closing, f"-v: {brief.more}" if hint and brief.more else ""))]
    joined = " · ".join(told)
    lines = [joined] if len(joined) + 2 <= width else told
    yield from [Text()] if told else []
    for line in lines:
        yield from _wrapped(line, width, 2, "dim")


def _under(heading: str, body: Iterable[Text]) -> list[Text]:
    """A section: its heading beside the first line."""
    return [
        Text.assemble((f"  {heading if not index else ''}".ljust(INDENT), "bold cyan"), line)
        for index, line in enumerate(body)
    ]
