"""A compared number as a bill: a row for each part of a difference, and the parts add up in the figures too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchproof.report.document import RowLook, Tone, Waterfall, WaterfallPart
from batchproof.scripts.compare.comparison import ComparedNumber, ComparisonRow
from batchproof.scripts.compare.split import OF_RANKS, DifferenceCause

if TYPE_CHECKING:
    from batchproof.scripts.compare.comparison import ComparedNumber, ComparisonRow
    from batchproof.scripts.compare.split import Mean


TOTAL, MISTAKE, REAL = RowLook("strong"), RowLook("wrong"), RowLook()
MEASURED, CONDITION = RowLook("faint", 1), RowLook("faint", 1, is_optional=True)
CONTROL = RowLook("tried", 2)
#: Shown only where it is more than nothing: few scripts have it.
_SELDOM = (DifferenceCause.LEFT_OUT, DifferenceCause.STATISTICS, *OF_RANKS)


@dataclass(frozen=True)
class Entry:
    """A row of the bill.

    Attributes:
        label: what it is; a part of the difference is indented.
        cells: a figure for each batch size.
        look: how it stands out.
        share: of the farthest batch size's difference; None where that is no part of it.
    """

    label: str
    cells: tuple[str, ...]
    look: RowLook
    share: float | None = None


def entries(number: ComparedNumber) -> list[Entry]:
    """The number with its parts, what else was measured, and what other learning rates give."""
    return [*_bill(number), *_measured(number), *_rescaled(number)]


def _bill(number: ComparedNumber) -> Iterator[Entry]:
    rows, decimals = number.rows, decimals_of(number)
    first, others = rows[0], rows[1:]
    yield Entry("as printed", tuple(_with_error(row.reported, decimals) for row in rows), TOTAL)
    if not others:
        return
    sums = [differences(row, first, decimals) for row in others]
    totals = [
        change(total, decimals) + _error(row.difference, decimals) for row, (total, _) in zip(others, sums, strict=True)
    ]
    yield Entry(f"difference from {first.size:,}", ("", *totals), TOTAL)
    for cause in DifferenceCause:
        parts = [row.part(cause) for row in others]
        if all(part is None for part in parts) or (cause in _SELDOM and not any(part and part.value for part in parts)):
            continue
        cells = [""]
        for row, (_, amounts) in zip(others, sums, strict=True):
            shown = {part.cause: amount for part, amount in zip(row.parts, amounts, strict=True)}
            part = row.part(cause)
            cells.append(change(shown[cause], decimals) + _error(part, decimals) if part is not None else "")
        look = MISTAKE if cause.is_mistake else REAL
        yield Entry(f"  {label_of(cause, number)}", tuple(cells), look, _share(number.farthest, cause))


def _share(row: ComparisonRow, cause: DifferenceCause) -> float | None:
    part = row.part(cause)
    if part is None or row.difference is None or not row.difference.value:
        return None
    share = part.value / row.difference.value
    return share if math.isfinite(share) else None


def label_of(cause: DifferenceCause, number: ComparedNumber) -> str:
    """A cause as a row of the table is called."""
    steps = [row.steps for row in number.rows]
    if cause is DifferenceCause.ARITHMETIC:
        return "averaged over batches"
    if cause is DifferenceCause.TRAINING:
        return "model still learning"
    if cause is DifferenceCause.UPDATES:
        fewer, more = any(step < steps[0] for step in steps), any(step > steps[0] for step in steps)
        return "fewer or more updates" if fewer and more else "more updates" if more else "fewer updates"
    if cause is DifferenceCause.REST:
        return "rest: gradient noise" if is_told_apart(number) and number.by == "batch size" else "rest: all else"
    return str(cause.value)


def is_told_apart(number: ComparedNumber) -> bool:
    """Whether control runs took the updates out of the rest."""
    return any(row.part(DifferenceCause.UPDATES) is not None for row in number.rows)


def waterfall(number: ComparedNumber) -> Waterfall | None:
    """The largest difference as its parts, those that are zero left out; None where there is none to take apart."""
    row, first, decimals = number.farthest, number.rows[0], decimals_of(number)
    if row.difference is None or not math.isfinite(row.difference.value) or not row.parts:
        return None
    total, amounts = differences(row, first, decimals)
    shown = [(part, amount) for part, amount in zip(row.parts, amounts, strict=True) if change(amount, decimals) != "0"]
    parts = [
        WaterfallPart(
            kind=kind,
            label=_label_with_count(part.cause, number),
            amount=change(amount, decimals),
            error=_error(part.mean, decimals).removeprefix(" ± "),
            value=amount,
            tone=tone,
        )
        for part, amount in sorted(shown, key=lambda found: (_kind(found[0].cause, number)[0], -abs(found[1])))
        for _, kind, tone in [_kind(part.cause, number)]
    ]
    if not parts:
        return None
    names = [f"batch size {each.size:,}" if number.by == "batch size" else number.at(each) for each in (first, row)]
    start, end = zip(names, (first.reported.value, row.reported.value), strict=True)
    error = _error(row.difference, decimals).removeprefix(" ± ")
    to = f"{row.size:,}" if number.by == "batch size" else number.at(row)
    title = f"change from {first.size:,} to {to}"
    return Waterfall(title, change(total, decimals), error, start, end, tuple(parts))


def _kind(cause: DifferenceCause, number: ComparedNumber) -> tuple[int, str, Tone]:
    """What a part is called together with others of its kind, after its place among them."""
    if cause.is_mistake:
        return 1, "bug", "wrong"
    if cause is DifferenceCause.REST:
        return 2, "rest", "faint"
    return 0, "real", "plain"


def _label_with_count(cause: DifferenceCause, number: ComparedNumber) -> str:
    """``fewer updates (20 → 3)``."""
    if cause is DifferenceCause.REST:
        is_noise = is_told_apart(number) and number.by == "batch size"  # ranks have the same batches together
        return "gradient noise" if is_noise else "not told apart"
    label = label_of(cause, number)
    if cause is not DifferenceCause.UPDATES:
        return label
    row, first = number.farthest, number.rows[0]
    own, base = (row.steps, first.steps) if row.steps and first.steps else (row.updates, first.updates)
    return f"{'fewer' if own < base else 'more'} updates ({base:,} → {own:,})"


def aligned_errors(cells: Sequence[str]) -> list[str]:
    """Decimal points below each other: error bars stand in a column of their own."""
    longest = max(len(cell.partition(" ± ")[2]) for cell in cells)
    room = longest + 3 if longest else 0
    padded = []
    for cell in cells:
        value, _, error = cell.partition(" ± ")
        padded.append(value + (f" ± {error.rjust(longest)}" if error else " " * room))
    width = max(map(len, padded))
    return [cell.rjust(width) for cell in padded]


def _measured(number: ComparedNumber) -> Iterator[Entry]:
    rows, decimals = number.rows, decimals_of(number)
    yield from _filled("batches", map(_count, (row.batches for row in rows)))
    if any(row.left_out for row in rows):
        yield from _filled("samples", map(_count, (row.samples for row in rows)))
    of_epoch = "updates in the epoch" if number.epochs > 1 else "updates"
    yield from _filled(of_epoch, map(_count, (row.steps for row in rows)), CONDITION)
    if any(row.updates != row.steps for row in rows):
        so_far = "updates so far" if any(row.steps for row in rows) else "updates"
        yield from _filled(so_far, map(_count, (row.updates for row in rows)), CONDITION)
    rates = [f"{row.learning_rate:g}" if row.learning_rate else "" for row in rows]
    yield from _filled("learning rate as set", rates, CONDITION)
    yield from _filled("exact", [_with_error(row.exact, decimals) for row in rows])
    if number.phase == "training":
        yield from _filled("exact, last weights", [_with_error(row.settled, decimals) for row in rows])
    if rows[0].updates and any(row.part(DifferenceCause.UPDATES) is not None for row in rows):
        as_many = [_with_error(row.controlled, decimals) for row in rows]
        yield from _filled(f"  after {rows[0].updates:,} updates", as_many)


def _count(count: int) -> str:
    return f"{count:,}" if count else ""


def _filled(label: str, cells: Iterable[str], look: RowLook = MEASURED) -> Iterator[Entry]:
    entry = Entry(label, tuple(cells), look)
    if any(entry.cells):
        yield entry


def _rescaled(number: ComparedNumber) -> Iterator[Entry]:
    decimals = decimals_of(number)
    for rule, sign in (("linear", "× b/b₀"), ("square root", "× √(b/b₀)")):
        runs = {rescaled.size: rescaled for rescaled in number.rescaled if rescaled.rule == rule}
        if not runs:
            continue
        chosen = [runs.get(row.size) for row in number.rows]
        values = [_with_error(run.reported, decimals) if run is not None else "" for run in chosen]
        yield Entry(f"learning rate {sign}", tuple(values), CONTROL)
        gone = [_gone(run.gone) if run is not None and run.gone is not None else "" for run in chosen]
        yield Entry(f"  removed by {sign}", tuple(gone), CONTROL)


def _gone(share: Mean) -> str:
    """Where the learning rate does more harm than good, by how much is no news."""
    return f"{share.value:.0%}" if share.value >= 0.005 else "none"


def _with_error(mean: Mean | None, decimals: int) -> str:
    return figure(mean.value, decimals) + _error(mean, decimals) if mean is not None else ""


def _error(mean: Mean | None, decimals: int) -> str:
    """`` ± 0.003``: one standard error; nothing where it is none, and where it is less than the last figure."""
    if mean is None or not mean.standard_error or not math.isfinite(mean.standard_error):
        return ""
    text = figure(mean.standard_error, decimals)
    return f" ± {text}" if float(text) else ""


#: Figures beside the largest of a number's values.
DIGITS = 4
MOST_DECIMALS = 9


def decimals_of(found: ComparedNumber) -> int:
    """As many as show the largest value with a few digits; more where the differences would be lost."""
    values = [abs(row.reported.value) for row in found.rows]
    gaps = [abs(row.difference.value) for row in found.rows if row.difference is not None]
    needed = [_decimals(values, DIGITS), _decimals(gaps, 2)]
    return min(MOST_DECIMALS, max(needed[0], min(needed[1], needed[0] + 3)))


def _decimals(values: Sequence[float], digits: int) -> int:
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    # 0.97 has as many decimals as 1.02: numbers of one script mostly lie near each other
    return max(0, digits - 1 - math.floor(math.log10(1.5 * largest))) if largest else 0


def figure(value: float, decimals: int) -> str:
    """A value; a very large one in powers of ten."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return f"{value:.{decimals}f}" if abs(value) < 1e9 else f"{value:.3e}"


def change(value: float, decimals: int) -> str:
    """A value with its sign; ``0`` where all its figures are."""
    text = figure(value, decimals)
    if not math.isfinite(value):
        return text
    if float(text) == 0:
        return "0"
    return text if text.startswith("-") else f"+{text}"


def differences(row: ComparisonRow, first: ComparisonRow, decimals: int) -> tuple[float, list[float]]:
    """The difference and its parts, rounded so that the figures add up: what rounding leaves over goes to the rest.

    The difference is that of the two rounded numbers, which stand above it.
    """
    assert row.difference is not None
    amounts = [part.mean.value for part in row.parts]
    if not all(map(math.isfinite, (row.reported.value, first.reported.value, *amounts))):
        return row.difference.value, amounts
    unit = 10.0**-decimals
    total = round(row.reported.value / unit) - round(first.reported.value / unit)
    counts = [round(amount / unit) for amount in amounts]
    if counts:
        counts[-1] += total - sum(counts)
    return total * unit, [count * unit for count in counts]


def times(factor: float) -> str:
    """``8 times``, ``2.83 times``."""
    return f"{factor:.3g} times"


def is_plural(name: str) -> bool:
    """``losses`` rise, ``loss`` rises."""
    return name.endswith("s") and not name.endswith(("ss", "us", "is"))
