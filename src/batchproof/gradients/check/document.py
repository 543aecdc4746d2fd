"""A GradientCheck as a document: which of its parts the reader sees, and in what words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from batchproof.gradients.check import wording as about
from batchproof.ground.text import sentence
from batchproof.report.document import Brief, Column, Document, Group, Reason, Sheet

if TYPE_CHECKING:
    from batchproof.gradients.check import GradientCheck


def document(check: GradientCheck) -> Document:
    """What is shown of a check."""
    return Document(
        title=check.target,
        place=None,
        state=about.state(check),
        headline=check.summary,
        reasons=tuple(Reason(finding.title, finding.what, None, finding.remedy) for finding in check.findings),
        brief=Brief(
            tables=tuple(_tables(check)),
            remarks=tuple(map(sentence, _remarks(check))),
            closing=check.ran,
        ),
    )


def _tables(check: GradientCheck) -> Iterator[Sheet]:
    """The parameters that are off most, the optimizer steps, and what each micro-batch should have counted."""
    rows = about.shown(check)
    yield _table(about.how_many_are_off(check), "parameter", [row.name for row in rows], about.parameter_columns(rows))
    if len(check.windows) > 1:
        steps = [f"step {number}" for number in range(1, len(check.windows) + 1)]
        yield _table("", "optimizer step", steps, about.window_columns(check.windows))
    if check.weights is not None:
        names = about.pass_names(check.weights)
        yield _table(about.weighed(check.weights), "", names, about.weight_columns(check.weights))


def _remarks(check: GradientCheck) -> Iterator[str]:
    """What is not shown, what else it could be, and what else to know."""
    yield from filter(None, (about.remaining(check),))
    if check.alternatives:
        yield f"not told apart from it: {'; '.join(check.alternatives)}"
    yield from check.notes


def _table(headline: str, label: str, names: Sequence[str], columns: Iterable[Column]) -> Sheet:
    group = Group("", tuple(columns), headline=sentence(headline) if headline else "")
    return Sheet(tuple(names), (group,), label=label, in_words=True, is_stacked=True).filled
