"""A rule's page in a terminal: the few forms of Markdown that the pages use."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from batchproof.scripts.lint.forms.text import INK, NARROWEST

if TYPE_CHECKING:
    from batchproof.scripts.lint.rule import Rule

WIDEST = 100
_STARTS = ("```", "|", "#")
_QUOTED = re.compile(r"`([^`]+)`")


def page(rule: Rule, width: int) -> Iterator[str]:
    """The page of one rule."""
    room = max(NARROWEST, min(WIDEST, width))
    ink = INK[rule.severity.value]
    yield f"{click.style(f'{rule.code} {rule.name}', bold=True)}  {click.style(rule.severity.value, fg=ink)}"
    yield ""
    yield from _rendered(rule.page.rstrip("\n").split("\n"), room)


def listing(rules: Iterable[Rule], width: int) -> Iterator[str]:
    """All rules, a few words on each."""
    room = max(NARROWEST, min(WIDEST, width))
    for rule in rules:
        head = f"{rule.code}  {rule.severity.value:<7}  "
        first, *rest = textwrap.wrap(rule.summary, room - len(head))
        yield f"{click.style(head, fg=INK[rule.severity.value])}{first}"
        yield from (" " * len(head) + line for line in rest)
    yield ""
    yield "batchproof rule CODE says more about one of them."


def _rendered(lines: Sequence[str], room: int) -> Iterator[str]:
    index = 0
    while index < len(lines):
        line = lines[index]
        if line.startswith("```"):
            end = lines.index("```", index + 1)
            yield from (click.style(f"    {code}", fg="cyan") if code else "" for code in lines[index + 1 : end])
            index = end
        elif line.startswith("|"):
            end = index
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            yield from _table(lines[index:end])
            index = end - 1
        elif not line:
            yield ""
        elif line.startswith("#"):
            yield click.style(line.lstrip("# "), bold=True)
        else:
            end = index
            while end + 1 < len(lines) and lines[end + 1] and not lines[end + 1].startswith(_STARTS):
                end += 1
            yield from _paragraph(" ".join(lines[index : end + 1]), room)
            index = end
        index += 1


def _paragraph(line: str, room: int) -> Iterator[str]:
    """Wrapped; what is code keeps together, and its quotes where there is no colour to tell it by."""
    glued = _QUOTED.sub(lambda found: found.group().replace(" ", "\0"), line)
    wrapped = textwrap.wrap(glued, room, break_on_hyphens=False) or [""]
    yield from (
        _QUOTED.sub(lambda found: click.style(found.group(), fg="cyan"), part.replace("\0", " ")) for part in wrapped
    )


def _table(lines: Sequence[str]) -> Iterator[str]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows.pop(1)  # the rule below the head
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield click.style(f"    {text}", bold=number == 0)
