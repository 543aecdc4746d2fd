"""A compared number as a table: a column for each batch size, and rows like a bill, whose parts add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from batchproof.scripts.compare.split import DifferenceCause
from batchproof.scripts.compare.text import change, decimals_of, differences, figure

if TYPE_CHECKING:
    from batchproof.scripts.compare.comparison import ComparedNumber, Comparison, ComparisonRow
    from batchproof.scripts.compare.split import Mean

Kind = Literal["total", "mistake", "real", "aside", "control"]
#: Shown only where it is more than nothing: few scripts have it.
_SELDOM = (DifferenceCause.LEFT_OUT, DifferenceCause.STATISTICS)


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        label: what it is.
        cells: a figure for each batch size.
        kind: how it is meant.
        share: of the farthest batch size's difference; None where that is no part of it.
    """

    label: str
    cells: tuple[str, ...]
    kind: Kind
    share: float | None = None


def title(found: ComparedNumber) -> str:
    """``train_loss (training, epoch 1 of 3)``."""
    about = subtitle(found)
    return f"{found.name} ({about})" if about else found.name


def subtitle(found: ComparedNumber) -> str:
    """``training, epoch 1 of 3``."""
    phase = found.phase if found.phase != "unknown" else ""
    is_named = found.phase == "unknown" and not any(row.batches for row in found.rows)
    if found.name.endswith(f", {phase}"):
        phase = ""
    epoch = f"{'value' if is_named else 'epoch'} {found.epoch} of {found.epochs}" if found.epochs > 1 else ""
    return ", ".join(filter(None, (phase, epoch)))


def sections(found: ComparedNumber, said: ComparedNumber | None = None) -> list[list[Entry]]:
    """The number with its parts, what else was measured, and what other learning rates give.

    Args:
        found: the number.
        said: another one, shown above: what is the same of both is left out.
    """
    measured = list(_measured(found))
    if said is not None and [row.updates for row in said.rows] == [row.updates for row in found.rows]:
        measured = [entry for entry in measured if not entry.label.startswith(("updates", "learning rate"))]
    return [section for section in (list(_bill(found)), measured, list(_rescaled(found))) if section]


def _bill(found: ComparedNumber) -> Iterator[Entry]:
    rows, decimals = found.rows, decimals_of(found)
    first, others = rows[0], rows[1:]
    yield Entry("reported", tuple(_with_error(row.reported, decimals, figure) for row in rows), "total")
    if not others:
        return
    sums = [differences(row, first, decimals) for row in others]
    totals = [
        change(total, decimals) + _error(row.difference, decimals) for row, (total, _) in zip(others, sums, strict=True)
    ]
    yield Entry(f"difference from {first.size:,}", ("", *totals), "total")
    farthest = found.farthest
    for cause in DifferenceCause:
        parts = [row.part(cause) for row in others]
        if all(part is None for part in parts) or (cause in _SELDOM and not any(part and part.value for part in parts)):
            continue
        cells = [""]
        for row, (_, amounts) in zip(others, sums, strict=True):
            shown = {part.cause: amount for part, amount in zip(row.parts, amounts, strict=True)}
            part = row.part(cause)
            cells.append(change(shown[cause], decimals) + _error(part, decimals) if part is not None else "")
        yield Entry(
            _label(cause, found), tuple(cells), "mistake" if cause.is_mistake else "real", _share(farthest, cause)
        )


def _share(row: ComparisonRow, cause: DifferenceCause) -> float | None:
    part = row.part(cause)
    if part is None or row.difference is None or not row.difference.value:
        return None
    share = part.value / row.difference.value
    return share if math.isfinite(share) else None


def _label(cause: DifferenceCause, found: ComparedNumber) -> str:
    steps = [row.steps for row in found.rows]
    if cause is DifferenceCause.ARITHMETIC:
        return "averaged over batches"
    if cause is DifferenceCause.UPDATES:
        fewer, more = any(step < steps[0] for step in steps), any(step > steps[0] for step in steps)
        return "fewer or more updates" if fewer and more else "more updates" if more else "fewer updates"
    if cause is DifferenceCause.REST:
        told_apart = any(row.part(DifferenceCause.UPDATES) is not None for row in found.rows)
        return "rest: gradient noise" if told_apart else "rest: all else"
    return str(cause.value)


def _measured(found: ComparedNumber) -> Iterator[Entry]:
    rows, decimals = found.rows, decimals_of(found)
    batches = [f"{row.batches:,}" if row.batches else "" for row in rows]
    yield from _filled("batches", batches)
    if any(row.left_out for row in rows):
        yield from _filled("samples", [f"{row.samples:,}" if row.samples else "" for row in rows])
    of_epoch = "updates in the epoch" if found.epochs > 1 else "updates"
    yield from _filled(of_epoch, [f"{row.steps:,}" if row.steps else "" for row in rows])
    if any(row.updates != row.steps for row in rows):
        yield from _filled(
            "updates so far" if any(row.steps for row in rows) else "updates",
            [f"{row.updates:,}" if row.updates else "" for row in rows],
        )
    yield from _filled("learning rate as set", [f"{row.learning_rate:g}" if row.learning_rate else "" for row in rows])
    yield from _filled("exact", [_with_error(row.exact, decimals, figure) for row in rows])
    if found.phase == "training":
        yield from _filled("exact, last weights", [_with_error(row.settled, decimals, figure) for row in rows])
    if rows[0].updates and any(row.part(DifferenceCause.UPDATES) is not None for row in rows):
        as_many = [_with_error(row.controlled, decimals, figure) for row in rows]
        yield from _filled(f"  after {rows[0].updates:,} updates", as_many)


def _filled(label: str, cells: Sequence[str]) -> Iterator[Entry]:
    if any(cells):
        yield Entry(label, tuple(cells), "aside")


def _rescaled(found: ComparedNumber) -> Iterator[Entry]:
    decimals = decimals_of(found)
    for rule, sign in (("linear", "× b/b₀"), ("square root", "× √(b/b₀)")):
        runs = {rescaled.size: rescaled for rescaled in found.rescaled if rescaled.rule == rule}
        if not runs:
            continue
        chosen = [runs.get(row.size) for row in found.rows]
        values = [_with_error(run.reported, decimals, figure) if run is not None else "" for run in chosen]
        yield Entry(f"learning rate {sign}", tuple(values), "control")
        gone = [_gone(run.gone) if run is not None and run.gone is not None else "" for run in chosen]
        yield Entry(f"  gone with {sign}", tuple(gone), "control")


def _gone(share: Mean) -> str:
    """Where the learning rate does more harm than good, by how much is no news."""
    return f"{share.value:.0%}" if share.value >= 0.005 else "none"


def _with_error(mean: Mean | None, decimals: int, write: Callable[[float, int], str]) -> str:
    return write(mean.value, decimals) + _error(mean, decimals) if mean is not None else ""


def _error(mean: Mean | None, decimals: int) -> str:
    """`` ± 0.003``: one standard error; nothing where it is none, and where it is less than the last figure."""
    if mean is None or not mean.standard_error or not math.isfinite(mean.standard_error):
        return ""
    text = figure(mean.standard_error, decimals)
    return f" ± {text}" if float(text) else ""


def aligned(cells: Sequence[str]) -> list[str]:
    """Decimal points below each other: error bars stand in a column of their own."""
    longest = max((len(cell.partition(" ± ")[2]) for cell in cells), default=0)
    room = longest + 3 if longest else 0
    padded = []
    for cell in cells:
        value, _, error = cell.partition(" ± ")
        padded.append(value + (f" ± {error.rjust(longest)}" if error else " " * room))
    width = max(map(len, padded), default=0)
    return [cell.rjust(width) for cell in padded]


def ran(found: Comparison) -> str:
    """How many runs, from which seeds."""
    sizes = ", ".join(f"{size:,}" for size in found.sizes)
    seeds = f"{found.seeds} seeds, ± one standard error" if found.seeds > 1 else "one seed"
    kept = f", {found.cached:,} of them made earlier" if found.cached else ""
    return f"batch sizes {sizes}; {seeds}; {found.runs:,} runs{kept}, {found.seconds:.0f} s"
