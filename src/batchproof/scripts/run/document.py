"""A Run as a document: a table with a row for each number, and the reasons of those that are not exact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from batchproof.report.document import Aside, Column, Document, Group, Reason, Sheet, Tone
from batchproof.report.numbers import aligned
from batchproof.scripts.run import wording as about

if TYPE_CHECKING:
    from batchproof.scripts.run.result import MeasuredAccumulator, Observation, ScriptRun


def document(run: ScriptRun) -> Document:
    """What is shown of a run."""
    return Document(
        title=run.script,
        place=None,
        state=about.state_of(run),
        headline=about.headline(run),
        reasons=(*_reasons(run), *map(_observed, (seen for seen in run.seen if not seen.harmless))),
        sheet=_sheet(run) if run.measured else None,
        caption=("by samples: the mean of the batches, each weighted by its number of samples",)
        if run.measured
        else (),
        caption_label="",
        asides=tuple(_asides(run)),
    )


def _sheet(run: ScriptRun) -> Sheet:
    """A row for each pass, those of a number together."""
    rows = about.rows_of(run)
    epochs = [epoch for _, epoch in rows]
    columns = (
        Column("name", tuple(row.name for row, _ in rows), "strong", is_left=True, is_name=True),
        Column("epoch", tuple(about.epoch_of(row, epoch) for row, epoch in rows), "strong", makes_way=3),
        _values("printed", [about.value_of(epoch.printed, epoch) for epoch in epochs], "notable"),
        _values("exact", [about.value_of(epoch.exact, epoch) for epoch in epochs], "expected"),
        _values("difference", [about.difference_of(epoch) for epoch in epochs], "wrong", makes_way=2),
        Column(
            "off",
            tuple(map(about.off_of, epochs)),
            tones=tuple("expected" if epoch.is_exact else "wrong" for epoch in epochs),
        ),
        _values("by samples", [about.value_of(epoch.weighted, epoch) for epoch in epochs], "faint", makes_way=1),
        Column("batches", tuple(map(about.batches_of, epochs)), "strong", is_left=True, makes_way=4),
    )
    lines = tuple(about.line_of(row, run) for row, _ in rows)
    return Sheet(lines, (Group("", columns),), None, "line", is_stacked=True).filled


def _values(title: str, cells: list[str], tone: Tone, makes_way: int = 0) -> Column:
    """A column of numbers; empty where it has none."""
    return Column(title, tuple(aligned(cells)) if any(cells) else tuple(cells), tone, makes_way=makes_way)


def _reasons(run: ScriptRun) -> Iterator[Reason]:
    """Why a number is not exact, below its last row."""
    for row in run.wrong:
        worst = max(row.wrong, key=lambda epoch: abs(epoch.error or 0.0))
        # a sentence's first letter is made a capital
        named = f"line {row.place.line}: {row.name} reads {about.off(worst)}"
        yield Reason(named, about.why_of(row, worst), row.cause or row.place, row.remedy, row=_last_row(row, run))


def _observed(seen: Observation) -> Reason:
    return Reason(seen.title, seen.what, seen.place, seen.remedy, "wrong")


def _asides(run: ScriptRun) -> Iterator[Aside]:
    """Why a number has no exact value, below its last row; and what else there is to know."""
    for row in run.measured:
        for why in dict.fromkeys(about.why_of(row, epoch) for epoch in row.shown if epoch.is_exact is None):
            yield Aside(row.name, why, row=_last_row(row, run))
    yield from about.notes_of(run)


def _last_row(row: MeasuredAccumulator, run: ScriptRun) -> int:
    return max(index for index, (each, _) in enumerate(about.rows_of(run)) if each is row)
