"""What a fix changes, as a unified diff; of a notebook cell by cell."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import click

from batchproof.scripts.lint.notebook import code_cells
from batchproof.scripts.lint.source import decoded

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
    for line in difflib.unified_diff(old, new, path, path):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _coloured(line: str) -> str:
    ink = _INK.get(line[0])
    if ink is None or line.startswith(("+++", "---")):
        return line
    text = line.rstrip("\r\n")
    return click.style(text, fg=ink) + line[len(text) :]
