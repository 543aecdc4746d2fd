"""An Explanation as a page of text.  Data in, text out: nothing here measures or knows torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from batchproof.explanation import wording as about
from batchproof.explanation.size_table import size_lines
from batchproof.report import page
from batchproof.report.page import INDENT, labelled, paragraph

if TYPE_CHECKING:
    from batchproof.explanation.result import Explanation, Finding


def lines(explanation: Explanation, width: int) -> Iterator[Text]:
    """The report, line by line."""
    yield from page.head(explanation.target, explanation.place, explanation.headline, explanation.is_safe, width)
    curve = explanation.curve
    sections = [
        paragraph("yours", about.at_marked_size(explanation), width, "bold"),
        paragraph("given", about.given(explanation), width, "yellow"),
        *_reasons(explanation, width),
    ]
    if curve is not None:
        sections.append(labelled("size", size_lines(explanation, width - INDENT)))
        sections.append(paragraph("last", about.short_last(curve, explanation.kind), width))
    sections += [finding_section(finding, width, "note") for finding in about.remarks(explanation)]
    if explanation.keep is not None:
        sections.append(paragraph("keep", about.kept(explanation.keep), width))
    sections.append(page.code("use", explanation.use, width))
    sections += [paragraph("note", note, width) for note in explanation.notes]
    yield Text()
    for section in sections:
        yield from section


def _reasons(explanation: Explanation, width: int) -> Iterator[list[Text]]:
    """A line of code is shown once."""
    found = about.reasons(explanation)
    for index, finding in enumerate(found):
        repeated = index > 0 and finding.place is not None and finding.place == found[index - 1].place
        yield finding_section(finding, width, "also" if index else "why", with_place=not repeated)


def finding_section(finding: Finding[str], width: int, label: str, with_place: bool = True) -> list[Text]:
    """A reason: its line of code, what it is, and what to do instead."""
    room = width - INDENT
    body = []
    if finding.place is not None and with_place:
        where = f"{finding.place}   "
        code = finding.place.text
        if len(where) + len(code) <= room:
            body.append(Text.assemble((where, "cyan"), (code, "bold")))
        else:
            body.append(Text(page.ending(str(finding.place), room), style="cyan"))
            body.append(Text("  " + page.beginning(code, room - 2), style="bold"))
    body += [Text(part) for part in textwrap.wrap(f"{finding.title}: {finding.what}", room)]
    if finding.remedy and not finding.harmless:
        wrapped = textwrap.wrap(finding.remedy, room - 2)
        body += [Text(("→ " if not index else "  ") + part, style="green") for index, part in enumerate(wrapped)]
    return labelled(label, body)
