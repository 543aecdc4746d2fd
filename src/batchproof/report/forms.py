"""Each verb's report in each form: as lines of text, and as a document for pages and pictures.

A form's modules are imported when it is asked for: the report on a saved run does not wait for torch, as others do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from batchproof.report import page, text

if TYPE_CHECKING:
    from rich.console import Console

    from batchproof.report.document import Document
    from batchproof.report.result import Result


def render(found: Result, width: int | None = None) -> str:
    """The report as plain text, as wide as the terminal."""
    document = document_of(found)
    return page.render(lambda room: text.lines(document, room), width)


def show(found: Result, console: Console) -> None:
    """Print the report, in colour where the console has it."""
    document = document_of(found)
    page.show(lambda room: text.lines(document, room), console)


def document_of(found: Result) -> Document:
    """The report, part by part: as the module ``document`` beside the result's own makes it."""
    room = type(found).__module__.rpartition(".")[0]
    document: Document = import_module(f"{room}.document").document(found)
    return document
