"""Each verb's report in each form: as lines of text, and as a document for pages and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from batchproof.report import (
    compare_document,
    compare_lines,
    explanation_document,
    explanation_lines,
    gradients_document,
    gradients_lines,
    noise_document,
    noise_lines,
    page,
    run_document,
    run_lines,
    simulation_document,
    simulation_lines,
)
from batchproof.report.document import Document

if TYPE_CHECKING:
    from batchproof.result import Result

_LINES: dict[str, Any] = {
    "comparison": compare_lines.lines,
    "explanation": explanation_lines.lines,
    "gradients": gradients_lines.lines,
    "noise": noise_lines.lines,
    "run": run_lines.lines,
    "simulation": simulation_lines.lines,
}
_DOCUMENTS: dict[str, Any] = {
    "comparison": compare_document.document,
    "explanation": explanation_document.document,
    "gradients": gradients_document.document,
    "noise": noise_document.document,
    "run": run_document.document,
    "simulation": simulation_document.document,
}


def render(found: Result, width: int | None = None) -> str:
    """The report as plain text, as wide as the terminal."""
    return page.render(lambda room: _lines(found, room), width)


def show(found: Result, console: Console) -> None:
    """Print the report, in colour where the console has it."""
    page.show(lambda room: _lines(found, room), console)


def document_of(found: Result) -> Document:
    """The report, part by part."""
    document: Document = _DOCUMENTS[found.form](found)
    return document


def _lines(found: Result, width: int) -> Iterator[Text]:
    lines: Iterator[Text] = _LINES[found.form](found, width)
    return lines
