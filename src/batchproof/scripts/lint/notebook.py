"""A notebook as its code cells, in and out; formatting that cannot be kept byte for byte is not written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

NEWLINE = re.compile(r"\r\n|\r|\n")
_MAGIC = re.compile(r"\s*(?:[%!?]|[\w.]+(?:\[\S+\])?\?{1,2}\s*$)|\s*[\w, ]+=\s*[%!]")
_PYTHON = re.compile(r"%%(time|timeit|capture|prun|memit)\b")
_MARKS = re.compile(r"\"\"\"|'''|\\.|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|#.*|[()\[\]{}]")
_INDENTS: tuple[int | str | None, ...] = (1, 2, 4, None, "\t", 0)


def code_cells(content: bytes) -> Iterator[tuple[int, str]]:
    """Each code cell's number among all cells, from 1, and its text with line ends as Python has them.

    Raises:
        ValueError: it is no notebook.
    """
    for number, cell in enumerate(_cells(_loaded(content)), 1):
        if cell.get("cell_type") == "code":
            yield number, _text_of(cell)


def with_cells(content: bytes, texts: Mapping[int, str]) -> bytes | None:
    """The notebook with other texts in these cells, all else as it was; None where its formatting cannot be kept."""
    book = _loaded(content)
    form = next((form for form in _forms() if _dumped(book, form) == content), None)
    if form is None:
        return None
    cells = _cells(book)
    for number, text in texts.items():
        cell = cells[number - 1]
        key = "source" if "source" in cell else "input"
        cell[key] = text.splitlines(keepends=True) if isinstance(cell[key], list) else text
    return _dumped(book, form)


def without_magics(text: str) -> str:
    r"""Blank what only IPython understands, so that all other lines keep their numbers.

    >>> without_magics("%matplotlib inline\nx = 1\n!ls")
    '\nx = 1\n'

    A cell in another language is blanked as a whole.
    """
    lines = text.split("\n")
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%") and not _PYTHON.match(first):
        return "\n" * (len(lines) - 1)
    inside = _inside(lines) if any(_MAGIC.match(line) for line in lines) else set()
    kept = []
    goes_on = False
    for number, line in enumerate(lines, 1):
        begins = not goes_on and number not in inside and bool(_MAGIC.match(line))
        indent = line[: len(line) - len(line.lstrip())]
        kept.append(f"{indent}pass" if begins and indent else "" if begins or goes_on else line)
        goes_on = (begins or goes_on) and line.rstrip().endswith("\\")
    return "\n".join(kept)


def _inside(lines: list[str]) -> set[int]:
    """The lines that begin inside of a string or of brackets, where ``%`` is no magic."""
    inside: set[int] = set()
    opened, quotes = 0, ""
    for number, line in enumerate(lines, 1):
        if quotes or opened:
            inside.add(number)
        elif _MAGIC.match(line):
            continue
        for found in _MARKS.finditer(line):
            mark = found.group()
            if quotes:
                quotes = "" if mark == quotes else quotes
            elif mark in ('"""', "'''"):
                quotes = mark
            elif mark in "([{":
                opened += 1
            elif mark in ")]}":
                opened = max(0, opened - 1)
    return inside


def _loaded(content: bytes) -> Any:
    try:
        book = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not a notebook: {error}") from None
    if not isinstance(book, dict) or not isinstance(_cells(book), list):
        raise ValueError("it is not a notebook: it has no list of cells")
    strange = next((number for number, cell in enumerate(_cells(book), 1) if not isinstance(cell, dict)), None)
    if strange is not None:
        raise ValueError(f"it is not a notebook: its cell {strange} is none")
    return book


def _cells(book: dict[str, Any]) -> Any:
    """The cells, in the old format (worksheets) too."""
    sheets = book.get("worksheets")
    if "cells" in book or not isinstance(sheets, list):
        return book.get("cells")
    return [cell for sheet in sheets if isinstance(sheet, dict) for cell in sheet.get("cells", [])]


def _text_of(cell: dict[str, Any]) -> str:
    lines = cell.get("source", cell.get("input", ""))
    return NEWLINE.sub("\n", "".join(map(str, lines)) if isinstance(lines, list) else str(lines))


def _forms() -> Iterator[tuple[int | str | None, bool, str]]:
    """The ways in which notebooks are written, the usual ones first."""
    for indent in _INDENTS:
        for ascii_only in (False, True):
            for end in ("\n", ""):
                yield indent, ascii_only, end


def _dumped(book: Any, form: tuple[int | str | None, bool, str]) -> bytes:
    indent, ascii_only, end = form
    return (json.dumps(book, indent=indent, ensure_ascii=ascii_only) + end).encode()
