"""A few lines of the user's source around the line that a report points at."""

from __future__ import annotations

import linecache
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchproof.ground.place import Place

BEFORE, AFTER = 3, 2


@dataclass(frozen=True)
class SourceLine:
    """A numbered line; ``is_meant`` is the one pointed at."""

    number: int
    text: str
    is_meant: bool


def around(place: Place) -> list[SourceLine]:
    """The line with its neighbours, or alone where the file is gone or no longer says the same there."""
    lines = [line.rstrip("\r\n") for line in linecache.getlines(place.file)]
    if not 0 < place.line <= len(lines) or lines[place.line - 1].strip() != place.text:
        return [SourceLine(place.line, place.text, True)] if place.text else []
    first, last = _block(lines, place.line)
    chosen = textwrap.dedent("\n".join(lines[first - 1 : last])).split("\n")
    found = [SourceLine(number, text, number == place.line) for number, text in enumerate(chosen, start=first)]
    while not found[0].text.strip():
        found.pop(0)
    while not found[-1].text.strip():
        found.pop()
    return found


def _block(lines: list[str], meant: int) -> tuple[int, int]:
    """The first and the last line to show, of the same function."""
    own = _indent(lines[meant - 1])
    first, last = meant, meant
    while first > max(1, meant - BEFORE) and _indent(lines[first - 1]) >= own:
        first -= 1
    while last < min(len(lines), meant + AFTER) and _indent(lines[last]) >= own:
        last += 1
    return first, last


def _indent(line: str) -> int:
    """A blank line is as far in as any."""
    return len(line) - len(line.lstrip()) if line.strip() else 1000
