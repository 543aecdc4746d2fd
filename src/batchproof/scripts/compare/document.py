"""A Comparison as a document: its numbers side by side, the first of them as curves over the batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from batchproof.report.chart import Chart, Line, Look, Point
from batchproof.report.document import Aside, Column, Document, Group, Reason, Sheet
from batchproof.scripts.compare.split import DifferenceCause, Mean
from batchproof.scripts.compare.table import aligned, ran, sections, subtitle
from batchproof.scripts.compare.text import decimals_of, figure

if TYPE_CHECKING:
    from batchproof.scripts.compare.comparison import Advice, ComparedNumber, Comparison, ComparisonRow


def document(found: Comparison) -> Document:
    """What is shown of a comparison."""
    main = found.numbers[0] if found.numbers else None
    others = " ".join(_sentence(number.headline) for number in found.numbers if number.headline != found.headline)
    return Document(
        title=found.target,
        place=main.place if main is not None else None,
        state=state_of(found),
        headline=found.headline,
        given=Aside("given", others) if others else None,
        reasons=tuple(map(_reason, found.advice)),
        chart=_chart(main) if main is not None else None,
        caption=(ran(found),),
        sheet=_sheet(found),
        asides=tuple(_asides(found)),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def state_of(found: Comparison) -> bool | None:
    """Whether the differences are as they should be, for the most part; None where that could not be told."""
    verdicts = {number.verdict for number in found.numbers}
    if not verdicts or verdicts == {"could not tell"}:
        return None
    return not verdicts & {"wrong", "partly wrong"}


def _reason(advice: Advice) -> Reason:
    return Reason(advice.title, advice.text, advice.place, advice.remedy)


def _sheet(found: Comparison) -> Sheet | None:
    """A group for each number, a row for each part; what one number lacks is empty there."""
    tables = [[entry for section in sections(number) for entry in section] for number in found.numbers]
    labels = list(dict.fromkeys(entry.label for table in tables for entry in table))
    if not labels:
        return None
    groups = []
    for number, table in zip(found.numbers, tables, strict=True):
        by_label = {entry.label: entry for entry in table}
        columns = []
        for index, row in enumerate(number.rows):
            cells = [by_label[label].cells[index] if label in by_label else "" for label in labels]
            columns.append(Column(f"{row.size:,}", tuple(aligned(cells))))
        groups.append(Group(number.name, tuple(columns), subtitle(number)))
    parts = {entry.label for table in tables for entry in table if entry.share is not None}
    return Sheet(tuple(f"  {label}" if label in parts else label for label in labels), tuple(groups), in_words=True)


def _chart(number: ComparedNumber) -> Chart | None:
    rows, decimals = number.rows, decimals_of(number)
    first = rows[0]
    kinds: list[tuple[str, Look, Callable[[ComparisonRow], Mean | None]]] = [
        (f"reported {number.name}", "measured", lambda row: row.reported),
        ("exact, same predictions", "exact", lambda row: row.exact),
    ]
    if number.phase == "training":
        kinds.append(("exact, last weights", "weighted", lambda row: row.settled))
    if any(row.part(DifferenceCause.UPDATES) is not None for row in rows):
        kinds.append((f"after {first.updates:,} updates", "theory", lambda row: row.controlled))
    lines = [Line(label, look, tuple(_points(rows, pick, decimals))) for label, look, pick in kinds]
    found = Chart(
        about=f"{number.name} over batch sizes. {number.headline}",
        y_label=number.name,
        lines=tuple(line for line in lines if line.points),
        missing=tuple(row.size for row in rows if not math.isfinite(row.reported.value)),
        span=1e-6 * abs(first.reported.value),
    )
    return None if found.is_empty or len(rows) < 2 else found


def _points(
    rows: tuple[ComparisonRow, ...], pick: Callable[[ComparisonRow], Mean | None], decimals: int
) -> Iterator[Point]:
    for row in sorted(rows, key=lambda row: row.size):
        mean = pick(row)
        if mean is not None:
            text = figure(mean.value, decimals)
            yield Point(row.size, mean.value, mean.standard_error or 0.0, note=f"batches of {row.size:,}: {text}")


def _asides(found: Comparison) -> Iterator[Aside]:
    if found.interrupted:
        yield Aside("ended", "interrupted: these are the runs that were done by then", is_warning=True)
    yield from (Aside("failed", f"{failure.run}: {failure.error}", is_warning=True) for failure in found.failures)
    yield from (Aside("note", note) for note in found.notes)
