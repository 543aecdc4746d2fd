"""A GradientCheck as a document: which of its parts the reader sees, and in what words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from batchproof.gradients.check import wording as about
from batchproof.report.document import Aside, Column, Document, Group, Reason, Sheet

if TYPE_CHECKING:
    from batchproof.gradients.check import GradientCheck


def document(check: GradientCheck) -> Document:
    """What is shown of a check."""
    rows = about.shown(check)
    return Document(
        title=check.target,
        place=None,
        state=about.state(check),
        headline=check.summary,
        given=Aside("ran", check.ran) if check.ran else None,
        reasons=tuple(Reason(finding.title, finding.what, None, finding.remedy) for finding in check.findings),
        alternatives=check.alternatives,
        caption=(about.how_many_are_off(check),),
        caption_label="grads",
        sheet=_table("parameter", [row.name for row in rows], about.parameter_columns(rows)),
        footnote=about.remaining(check),
        asides=tuple(_asides(check)),
        notes=check.notes,
    )


def _asides(check: GradientCheck) -> Iterator[Aside]:
    if len(check.windows) > 1:
        steps = [f"step {number}" for number in range(1, len(check.windows) + 1)]
        yield Aside("steps", "", table=_table("", steps, about.window_columns(check.windows)))
    if check.weights is not None:
        names = [f"micro-batch {number}" for number in range(1, len(check.weights.factors) + 1)]
        more = len(names) - about.MOST_ROWS
        yield Aside(
            "weigh",
            about.weighed(check.weights),
            title="weights",
            table=_table("", names[: about.MOST_ROWS], about.weight_columns(check.weights)),
            footnote=f"and {more} more" if more > 0 else "",
        )


def _table(label: str, names: Sequence[str], columns: Iterable[Column]) -> Sheet:
    return Sheet(tuple(names), (Group("", tuple(columns)),), label=label, in_words=True).filled
