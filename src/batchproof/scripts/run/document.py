"""A Run as a document: a table with a row for each number, and the reasons of those that are not exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchproof.report.document import Aside, Column, Document, Group, Reason, Sheet
from batchproof.report.numbers import aligned
from batchproof.scripts.run import wording as about

if TYPE_CHECKING:
    from batchproof.scripts.run.result import MeasuredAccumulator, ScriptRun

MOST_REASONS = 6


def document(run: ScriptRun) -> Document:
    """What is shown of a run."""
    return Document(
        title=run.script,
        place=None,
        state=about.state_of(run),
        headline=about.headline(run),
        reasons=tuple(_reason(row) for row in run.wrong[:MOST_REASONS]),
        sheet=sheet(run) if run.measured else None,
        caption=("by samples: the mean of the batches, each weighted by its number of samples",)
        if run.measured
        else (),
        asides=tuple(Aside(label, text) for label, text in (*_unmeasured(run), *about.notes_of(run))),
    )


def columns(run: ScriptRun) -> list[Column]:
    """The table's columns, those that say nothing left out."""
    rows = about.rows_of(run)
    found = [
        Column("line", tuple(about.line_of(row, run) for row, _ in rows)),
        Column("name", tuple(row.name for row, _ in rows)),
        Column("epoch", tuple(about.epoch_of(row, epoch) for row, epoch in rows)),
        Column("printed", _aligned([about.value_of(epoch.printed, epoch) for _, epoch in rows])),
        Column("exact", _aligned([about.value_of(epoch.exact, epoch) for _, epoch in rows])),
        Column("difference", _aligned([about.difference_of(epoch) for _, epoch in rows])),
        Column("off", tuple(about.off_of(epoch) for _, epoch in rows)),
        Column("by samples", _aligned([about.value_of(epoch.weighted, epoch) for _, epoch in rows])),
        Column("batches", tuple(about.batches_of(epoch) for _, epoch in rows)),
    ]
    return [column for column in found if any(map(str.strip, column.cells))]


def sheet(run: ScriptRun) -> Sheet:
    """The table for pages and pictures."""
    first, *others = columns(run)
    return Sheet(first.cells, (Group("", tuple(others)),), None, "line").filled


def _reason(row: MeasuredAccumulator) -> Reason:
    worst = max(row.wrong, key=lambda epoch: abs(epoch.error or 0.0))
    named = f"line {row.place.line}: {row.name} reads {about.off(worst)}"  # a sentence's first letter is made a capital
    return Reason(named, about.why_of(row, worst), row.cause or row.place, row.remedy)


def _unmeasured(run: ScriptRun) -> list[tuple[str, str]]:
    return [(row.name, about.why_of(row, epoch)) for row, epoch in about.rows_of(run) if epoch.exact is None]


def _aligned(texts: list[str]) -> tuple[str, ...]:
    return tuple(aligned(texts))
