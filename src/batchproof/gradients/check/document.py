"""A GradientCheck as a document: which of its parts the reader sees, and in what words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from batchproof.gradients.check import wording as about
from batchproof.report.document import Document, Group, Reason, Sheet

if TYPE_CHECKING:
    from batchproof.gradients.check import GradientCheck


def document(check: GradientCheck) -> Document:
    """What is shown of a check."""
    rows = about.shown(check)
    columns = Group("", about.parameter_columns(rows))
    return Document(
        title=check.target,
        place=None,
        state=about.state(check),
        headline=check.summary,
        given=check.ran,
        reasons=tuple(Reason(finding.title, finding.what, None, finding.remedy) for finding in check.findings),
        caption="; ".join(text for text in (about.how_many_are_off(check), about.remaining(check)) if text),
        sheet=Sheet(tuple(row.name for row in rows), (columns,), label="parameter").filled,
        asides=tuple(_asides(check)),
    )


def _asides(check: GradientCheck) -> Iterator[tuple[str, str]]:
    yield from (("or", text) for text in check.alternatives)
    if len(check.windows) > 1:
        yield from ((f"step {number}", window) for number, window in enumerate(_windows(check), start=1))
    if check.weights is not None:
        yield "weights", ", ".join(f"{factor:.3f}" for factor in check.weights.factors[: about.MOST_ROWS])
        yield "", about.weighed(check.weights)
    yield from (("note", note) for note in check.notes)


def _windows(check: GradientCheck) -> Iterator[str]:
    columns = about.window_columns(check.windows)
    for index in range(len(check.windows)):
        figures = ((column.title, column.cells[index].strip()) for column in columns)
        yield ", ".join(f"{title} {text}" for title, text in figures if text)
