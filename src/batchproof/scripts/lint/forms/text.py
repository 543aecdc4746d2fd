"""What lint found, as text: a line for each finding, the source with everything that matters marked, or a diff."""

from __future__ import annotations

import difflib
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from batchproof.ground.text import on_one_line
from batchproof.scripts.lint.notebook import code_cells
from batchproof.scripts.lint.rules import BY_CODE
from batchproof.scripts.lint.source import decoded

if TYPE_CHECKING:
    from batchproof.scripts.lint.finding import Linted, LintFinding, SourceSpan

NARROWEST, WIDEST = 40, 120
INK = {"error": "red", "warning": "yellow", "note": "magenta"}
_TAB = "    "
Lines = Mapping[tuple["int | None", int], str]


def concise(files: Iterable[Linted]) -> Iterator[str]:
    """One line for each finding."""
    for linted in files:
        for finding in linted.new:
            yield f"{_place(finding)} {_code(finding)} {finding.message}"


def full(files: Iterable[Linted], width: int) -> Iterator[str]:
    """The lines of source that a finding is about, what is wrong with them, and what to write instead."""
    room = max(NARROWEST, min(WIDEST, width))
    for linted in files:
        for finding in linted.new:
            yield _head(finding)
            yield from _excerpt(finding, linted.lines, room)
            yield from _wrapped(finding.message, "  ", "  ", room)
            if finding.remedy:
                yield from (click.style(line, fg="green") for line in _wrapped(finding.remedy, "  → ", "    ", room))
            yield ""


def summary(files: Sequence[Linted], excluded: int = 0) -> str:
    """The closing line.

    >>> from batchproof.scripts.lint.finding import Linted
    >>> summary([Linted("a.py"), Linted("b.py", is_read=False)], excluded=2)
    'Found nothing in 1 file (1 could not be read, 2 excluded)'
    """
    count = sum(len(linted.new) for linted in files)
    fixed = sum(linted.fixed for linted in files)
    known = sum(linted.known for linted in files)
    fixable = sum(finding.fix is not None for linted in files for finding in linted.new)
    read = sum(linted.is_read for linted in files)
    notes = [
        f"{fixed} fixed, {count} left" if fixed else "",
        f"{fixable} fixable with --fix" if fixable else "",
        f"{known} in the baseline" if known else "",
        f"{len(files) - read} could not be read" if read < len(files) else "",
        f"{excluded} excluded" if excluded else "",
    ]
    if count or fixed:
        number = "1 number that depends" if count + fixed == 1 else f"{count + fixed} numbers that depend"
        found = f"Found {number} on the batch size"
    else:
        found = f"Found nothing {'new ' if known else ''}in {_many(read, 'file')}"
    said = ", ".join(note for note in notes if note)
    return f"{found} ({said})" if said else found


def statistics(files: Iterable[Linted]) -> Iterator[str]:
    """How often each rule was broken, the most frequent first."""
    findings = [finding for linted in files for finding in linted.new]
    fixable = Counter(finding.code for finding in findings if finding.fix is not None)
    counts = Counter(finding.code for finding in findings)
    for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        rule = BY_CODE[code]
        yield (
            f"{count:>5}  {click.style(code, fg=INK[rule.severity.value], bold=True)}  {rule.severity.value:<7}  "
            f"{rule.name}" + (f" ({fixable[code]} fixable)" if fixable[code] else "")
        )


def _place(finding: LintFinding) -> str:
    cell = f"cell {finding.cell}:" if finding.cell is not None else ""
    return click.style(f"{on_one_line(finding.path)}:{cell}{finding.span.line}:{finding.span.column}:", bold=True)


def _code(finding: LintFinding) -> str:
    code = click.style(finding.code, fg=INK[finding.severity.value], bold=True)
    return code + (click.style(" [*]", fg="cyan") if finding.fix is not None else "")


def _head(finding: LintFinding) -> str:
    return f"{_place(finding)} {_code(finding)} {click.style(finding.severity.value, fg=INK[finding.severity.value])}"


def _wrapped(text: str, first: str, others: str, room: int) -> Iterator[str]:
    """Wrapped between words; a space inside of backticks is no place to break."""
    parts = text.split("`")
    glued = "`".join(part.replace(" ", "\0") if index % 2 else part for index, part in enumerate(parts))
    lines = textwrap.wrap(glued, room, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
    yield from (line.replace("\0", " ") for line in lines)


def _excerpt(finding: LintFinding, lines: Lines, room: int) -> Iterator[str]:
    """The lines that matter, in the order of the file, each with its marks below."""
    ink = INK[finding.severity.value]
    marks: dict[tuple[int | None, int], list[tuple[SourceSpan, str, str]]] = {}
    marks.setdefault((finding.span.cell, finding.span.line), []).append((finding.span, "", ink))
    for related in finding.related:
        span = related.span
        marks.setdefault((span.cell, span.line), []).append((span, related.message, "cyan"))
    digits = max(len(str(line)) for _, line in marks)
    shown_cell = finding.span.cell
    for cell, line in sorted(marks, key=lambda place: (place[0] or 0, place[1])):
        if cell != shown_cell:
            yield click.style(f"{'':>{digits + 2}} cell {cell}", dim=True)
            shown_cell = cell
        text = lines.get((cell, line), "")
        shown = _beginning(_tabless(text).rstrip(), room - digits - 5)
        yield click.style(f"{line:>{digits + 2}} |{' ' if shown else ''}", dim=True) + shown
        for span, message, colour in marks[cell, line]:
            yield from _underlined(span, text, message, colour, digits, room)


def _underlined(span: SourceSpan, text: str, message: str, ink: str, digits: int, room: int) -> Iterator[str]:
    """A line of carets below what is meant, with what it does beside them, or below where there is no room."""
    width = room - digits - 5
    before = len(_tabless(text[: span.column - 1]))
    end = span.end_column - 1 if span.end_line == span.line else len(text.rstrip())
    length = max(1, len(_tabless(text[:end])) - before)
    margin = click.style(f"{'':>{digits + 2}} | ", dim=True)
    is_in_sight = before < width
    before = before if is_in_sight else 0
    carets = " " * before + "^" * min(length, width - before) if is_in_sight else ""
    if not message:
        yield from [margin + click.style(carets, fg=ink, bold=True)] if carets else []
    elif len(carets) + 1 + len(message) <= width:
        yield margin + click.style(f"{carets} {message}" if carets else message, fg=ink)
    else:
        yield from [margin + click.style(carets, fg=ink)] if carets else []
        for line in textwrap.wrap(message, max(30, width - before)):
            yield margin + click.style(" " * min(before, max(0, width - len(line))) + line, fg=ink)


def _tabless(text: str) -> str:
    """Tabs as blanks, and what would move the cursor as one sign."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text.replace("\t", _TAB))


def _beginning(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


_INK = {"+": "green", "-": "red", "@": "cyan"}


def diff(path: str, before: bytes, after: bytes) -> str:
    """The diff, coloured line by line."""
    return "".join(_coloured(line) for line in _lines(path, before, after))


def _lines(path: str, before: bytes, after: bytes) -> Iterator[str]:
    if not path.endswith(".ipynb"):
        yield from _unified(path, decoded(before)[0], decoded(after)[0])
        return
    for (number, was), (_, becomes) in zip(code_cells(before), code_cells(after), strict=True):
        yield from _unified(f"{path}:cell {number}", was, becomes)


def _unified(path: str, before: str, after: str) -> Iterator[str]:
    old, new = (text.splitlines(keepends=True) for text in (before, after))
    shown = on_one_line(path)
    for line in difflib.unified_diff(old, new, shown, shown):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _coloured(line: str) -> str:
    ink = _INK.get(line[0])
    if ink is None or line.startswith(("+++", "---")):
        return line
    text = line.rstrip("\r\n")
    return click.style(text, fg=ink) + line[len(text) :]
