"""A Comparison as a document: its numbers side by side, the first of them as curves over the batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from batchproof.ground.text import sentence
from batchproof.report.chart import Chart, Line, Look, Point
from batchproof.report.document import Aside, Brief, Column, Document, Group, Reason, Shares, Sheet
from batchproof.report.numbers import aligned
from batchproof.scripts.compare.bill import (
    Entry,
    aligned_errors,
    decimals_of,
    entries,
    figure,
    waterfall,
)
from batchproof.scripts.compare.split import DifferenceCause, Mean
from batchproof.scripts.compare.verdict import is_noticed

if TYPE_CHECKING:
    from batchproof.scripts.compare.comparison import ComparedNumber, Comparison, ComparisonRow, Rescaled


def document(comparison: Comparison) -> Document:
    """What is shown of a comparison."""
    main = comparison.main
    return Document(
        title=comparison.target,
        place=main.place if main is not None else None,
        state={0: True, 1: False}.get(comparison.exit_status),
        headline=comparison.headline,
        reasons=tuple(_reasons(comparison)),
        chart=_chart(main) if main is not None else None,
        caption=(_ran(comparison),),
        caption_label="ran",
        sheet=_sheet(comparison) if main is not None else None,
        use=comparison.fix,
        asides=tuple(_asides(comparison)),
        brief=_brief(comparison, main),
    )


def _brief(comparison: Comparison, main: ComparedNumber | None) -> Brief:
    """The numbers as printed, and the parts of the difference that the headline is about."""
    if main is None:
        return Brief(remarks=tuple(map(sentence, comparison.notes)), closing=_ran(comparison))
    others = [number for number in comparison.numbers if number is not main]
    return Brief(
        tables=(_printed(comparison, main),),
        waterfall=waterfall(main),
        remarks=(*(number.headline for number in others), *map(sentence, comparison.notes)),
        tries=tuple(_tries(main)),
        closing=_ran(comparison),
        more="all parts at every size, and the control runs",
    )


def _printed(comparison: Comparison, main: ComparedNumber) -> Sheet:
    """A row for each number, a column for each batch size; each is written as its own size asks for."""
    numbers = sorted(comparison.numbers, key=lambda number: number is not main)
    columns = []
    for size in dict.fromkeys(row.size for number in numbers for row in number.rows):
        found = [next((row for row in number.rows if row.size == size), None) for number in numbers]
        cells = [
            figure(row.reported.value, decimals_of(number)) if row is not None else ""
            for number, row in zip(numbers, found, strict=True)
        ]
        columns.append(Column(f"{size:,}", tuple(aligned(cells)), "notable"))
    known = [number.name for number in numbers]
    names = tuple(
        f"{number.name}{f' ({number.phase})' if known.count(number.name) > 1 else ''} as printed" for number in numbers
    )
    return Sheet(names, (Group("", tuple(columns)),), label=comparison.by, in_words=True, is_stacked=True)


def _tries(number: ComparedNumber) -> Iterator[str]:
    """What the script prints with another learning rate, where fewer or more updates move the number."""
    row, decimals = number.farthest, decimals_of(number)
    part = row.part(DifferenceCause.UPDATES)
    runs = [run for run in number.rescaled if run.size == row.size and run.gone is not None]
    if row.difference is None or part is None or not runs or not is_noticed(part, row):
        return
    moved = "rise" if row.difference.value > 0 else "fall"
    for run in runs:
        gone = f"{_gone(run)} of the {moved} gone"
        yield f"learning rate × {run.factor:.3g} at {row.size:,}: {figure(run.reported.value, decimals)} ({gone})"


def _gone(run: Rescaled) -> str:
    assert run.gone is not None
    return f"{run.gone.value:.0%}" if run.gone.value >= 0.005 else "none"


def _ran(comparison: Comparison) -> str:
    """How many runs, from which seeds."""
    seeds = f"{comparison.seeds} seeds, ± one standard error" if comparison.seeds > 1 else "one seed"
    kept = f" ({comparison.cached:,} kept from earlier)" if comparison.cached else ""
    return f"{seeds}, {comparison.runs:,} runs{kept}, {comparison.seconds:.0f} s"


def _reasons(comparison: Comparison) -> Iterator[Reason]:
    """What is wrong; what is real is said where nothing is wrong, and with all details."""
    is_wrong = any(advice.is_mistake for advice in comparison.advice)
    for advice in comparison.advice:
        is_extra = is_wrong and not advice.is_mistake
        remedy = "" if comparison.fix and advice.is_mistake else advice.remedy
        yield Reason(advice.title, advice.text, advice.place, remedy, is_extra)


def _sheet(comparison: Comparison) -> Sheet:
    """A group for each number, a row for each part; what one number lacks is empty there."""
    bills = [{entry.label: entry for entry in entries(number)} for number in comparison.numbers]
    labels = _merged([list(bill) for bill in bills])
    known = {label: entry for bill in reversed(bills) for label, entry in bill.items()}
    groups = [
        _group(number, [bill.get(label) for label in labels], number is not comparison.main)
        for number, bill in zip(comparison.numbers, bills, strict=True)
    ]
    looks = tuple(known[label].look for label in labels)
    return Sheet(tuple(labels), tuple(groups), label=comparison.by, in_words=True, is_stacked=True, looks=looks)


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
        columns.append(Column(f"{row.size:,}", tuple(aligned_errors(cells))))
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


def _chart(number: ComparedNumber) -> Chart | None:
    if number.by != "batch size":
        return None  # a few numbers of ranks make no curve
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
        yield Aside("failed", f"{failure.run} failed: {failure.error}", is_warning=True)
