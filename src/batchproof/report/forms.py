"""Each verb's report in each form: as lines of text, and as a document for pages and pictures.

A form's modules are imported when it is asked for: the report on a saved run does not wait for torch, as others do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from batchproof.report import page
from batchproof.report.screen import screen, verdict

if TYPE_CHECKING:
    from rich.console import Console

    from batchproof.report.document import Document
    from batchproof.report.result import Result


def render(found: Result, width: int | None = None, *, is_verbose: bool = False) -> str:
    """The report as plain text, as wide as the terminal; ``is_verbose``: with all that ``-v`` shows."""
    return page.render(page_of(document_of(found), is_verbose=is_verbose), width)


def show(
    found: Result, console: Console, *, is_verbose: bool = False, is_quiet: bool = False, hint: bool = False
) -> None:
    """Print the report, in colour where the console has it.

    Args:
        found: What some verb gave.
        console: Where to.
        is_verbose: Whether all of it is shown.
        is_quiet: Whether the verdict alone is shown.
        hint: Whether the last line says what ``-v`` would add.
    """
    document = document_of(found)
    if is_quiet:
        page.show(lambda room: verdict(document, room), console)
    else:
        page.show(page_of(document, is_verbose=is_verbose, hint=hint), console)


def page_of(document: Document, *, is_verbose: bool = False, hint: bool = False) -> page.Page:
    """The lines of a document for every width."""
    return lambda room: screen(document, room, is_verbose=is_verbose, hint=hint)


def document_of(found: Result) -> Document:
    """The report, part by part: as the module ``document`` beside the result's own makes it."""
    room = type(found).__module__.rpartition(".")[0]
    document: Document = import_module(f"{room}.document").document(found)
    return document
