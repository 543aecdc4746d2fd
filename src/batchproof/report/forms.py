"""Each verb's report in each form: as lines of text, and as a document for pages and pictures.

A form's modules are imported when it is asked for: the report on a saved run does not wait for torch, as others do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from batchproof.report import page, text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from batchproof.report.document import Document
    from batchproof.report.result import Result


def render(found: Result, width: int | None = None) -> str:
    """The report as plain text, as wide as the terminal."""
    return page.render(lambda room: _lines(found, room), width)


def show(found: Result, console: Console) -> None:
    """Print the report, in colour where the console has it."""
    page.show(lambda room: _lines(found, room), console)


def document_of(found: Result) -> Document:
    """The report, part by part."""
    document: Document = _in(found, "document")(found)
    return document


def _lines(found: Result, width: int) -> Iterator[Text]:
    """As the verb lays it out, or else as its document says."""
    if find_spec(f"{_room_of(found)}.lines") is None:
        return text.lines(document_of(found), width)
    lines: Iterator[Text] = _in(found, "lines")(found, width)
    return lines


def _room_of(found: Result) -> str:
    return type(found).__module__.rpartition(".")[0]


def _in(found: Result, part: str) -> Callable[..., Any]:
    """The function that makes a part of the report, from the module of its name beside the result's own."""
    made: Callable[..., Any] = getattr(import_module(f"{_room_of(found)}.{part}"), part)
    return made
