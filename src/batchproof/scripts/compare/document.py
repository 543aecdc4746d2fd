"""A Comparison as a document: its numbers side by side, the first of them as curves over the batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from batchproof.report.chart import Chart, Line, Look, Point
from batchproof.report.document import Aside, Column, Document, Group, Reason, Shares, Sheet
from batchproof.scripts.compare.bill import Entry, decimals_of, entries, figure
from batchproof.scripts.compare.split import DifferenceCause, Mean

if TYPE_CHECKING:
    from batchproof.scripts.compare.comparison import Advice, ComparedNumber, Comparison, ComparisonRow


def document(comparison: Comparison) -> Document:
    """What is shown of a comparison."""
    main = comparison.numbers[0] if comparison.numbers else None
    return Document(
        title=comparison.target,
        place=main.place if main is not None else None,
        state=_state(comparison),
        headline=comparison.headline,
        reasons=tuple(map(_reason, comparison.advice)),
        chart=_chart(main) if main is not None else None,
        caption=(_ran(comparison),),
        caption_label="ran",
        sheet=_sheet(comparison) if main is not None else None,
        asides=tuple(_asides(comparison)),
        notes=comparison.notes,
    )


def _ran(comparison: Comparison) -> str:
    """How many runs, from which seeds."""
    sizes = ", ".join(f"{size:,}" for size in comparison.sizes)
    seeds = f"{comparison.seeds} seeds, ± one standard error" if comparison.seeds > 1 else "one seed"
    kept = f", {comparison.cached:,} of them made earlier" if comparison.cached else ""
    return f"batch sizes {sizes}; {seeds}; {comparison.runs:,} runs{kept}, {comparison.seconds:.0f} s"


def _state(comparison: Comparison) -> bool | None:
    """Whether the differences are as they should be, for the most part; None where that could not be told."""
    verdicts = {number.verdict for number in comparison.numbers}
    if not verdicts or verdicts == {"could not tell"}:
        return None
    return not verdicts & {"wrong", "partly wrong"}


def _reason(advice: Advice) -> Reason:
    return Reason(advice.title, advice.text, advice.place, advice.remedy, "wrong" if advice.is_mistake else "why")


def _sheet(comparison: Comparison) -> Sheet:
    """A group for each number, a row for each part; what one number lacks is empty there."""
    bills = [{entry.label: entry for entry in entries(number)} for number in comparison.numbers]
    labels = _merged([list(bill) for bill in bills])
    known = {label: entry for bill in reversed(bills) for label, entry in bill.items()}
    groups = [
        _group(number, [bill.get(label) for label in labels], number.headline != comparison.headline)
        for number, bill in zip(comparison.numbers, bills, strict=True)
    ]
    looks = tuple(known[label].look for label in labels)
    return Sheet(tuple(labels), tuple(groups), in_words=True, is_stacked=True, looks=looks)


def _merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """Every label once, each behind the one that it follows in its own table."""
    merged: list[str] = []
    for labels in orders:
        end = 0
        for label in labels:
            if label not in merged:
                merged.insert(end, label)
            end = merged.index(label) + 1
    return merged


def _group(number: ComparedNumber, rows: Sequence[Entry | None], with_headline: bool) -> Group:
    """A column for each batch size, and what the parts make up of the largest difference."""
    columns = []
    for index, row in enumerate(number.rows):
        cells = [entry.cells[index] if entry is not None else "" for entry in rows]
        columns.append(Column(f"{row.size:,}", tuple(_aligned(cells))))
    shares = Shares(
        f"of the difference at {number.farthest.size:,}",
        number.rows.index(number.farthest),
        tuple(entry.share if entry is not None else None for entry in rows),
    )
    headline = number.headline if with_headline else ""
    return Group(number.name, tuple(columns), _subtitle(number), headline=headline, shares=shares)


def _subtitle(number: ComparedNumber) -> str:
    """``training, epoch 1 of 3``."""
    phase = number.phase if number.phase != "unknown" else ""
    is_named = number.phase == "unknown" and not any(row.batches for row in number.rows)
    if number.name.endswith(f", {phase}"):
        phase = ""
    epoch = f"{'value' if is_named else 'epoch'} {number.epoch} of {number.epochs}" if number.epochs > 1 else ""
    return ", ".join(filter(None, (phase, epoch)))


def _aligned(cells: Sequence[str]) -> list[str]:
    """Decimal points below each other: error bars stand in a column of their own."""
    longest = max(len(cell.partition(" ± ")[2]) for cell in cells)
    room = longest + 3 if longest else 0
    padded = []
    for cell in cells:
        value, _, error = cell.partition(" ± ")
        padded.append(value + (f" ± {error.rjust(longest)}" if error else " " * room))
    width = max(map(len, padded))
    return [cell.rjust(width) for cell in padded]


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


def _asides(comparison: Comparison) -> Iterator[Aside]:
    if comparison.interrupted:
        yield Aside("ended", "interrupted: these are the runs that were done by then", is_warning=True)
    for failure in comparison.failures:
        yield Aside("failed", f"{failure.run}: {failure.error}", is_warning=True)
