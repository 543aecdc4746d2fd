"""A Run as a document: a table with a row for each number, and the reasons of those that are not exact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from batchproof.ground.place import short
from batchproof.ground.text import counted, listed
from batchproof.report.document import Aside, Brief, Column, Document, Group, Reason, Sheet, Tone
from batchproof.report.numbers import aligned, decimals_for, number, percent, too_low_or_high

if TYPE_CHECKING:
    from batchproof.ground.place import Place
    from batchproof.scripts.run.result import Epoch, MeasuredAccumulator, Observation, ScriptRun


def document(run: ScriptRun) -> Document:
    """What is shown of a run."""
    return Document(
        title=run.script,
        place=None,
        state=state_of(run),
        headline=headline(run),
        reasons=(*_reasons(run), *map(_observed, (seen for seen in run.seen if not seen.harmless))),
        sheet=_sheet(run) if run.measured else None,
        caption=("weighted: the mean of the batches, each weighted by its number of samples",) if run.measured else (),
        caption_label="",
        use=run.fix,
        asides=tuple(_asides(run)),
        brief=Brief(
            tables=(_brief_sheet(run),) if run.measured else (),
            remarks=tuple(_remarks(run)),
            more="differences, the weighted mean, what else was seen",
        ),
    )


#: Rows of the table that is shown without -v.
MOST_ROWS = 16


def _brief_sheet(run: ScriptRun) -> Sheet:
    """What was printed beside what it should be; a number's name and line once."""
    rows = rows_of(run)[:MOST_ROWS]
    epochs = [epoch for _, epoch in rows]
    again = [index > 0 and rows[index - 1][0] is row for index, (row, _) in enumerate(rows)]
    columns = (
        _names(["" if is_again else row.name for (row, _), is_again in zip(rows, again, strict=True)]),
        Column("batches", tuple(map(batches_of, epochs)), is_left=True),
        *_printed_and_exact(epochs),
        _off(epochs),
    )
    lines = tuple("" if is_again else line_of(row, run) for (row, _), is_again in zip(rows, again, strict=True))
    return Sheet(lines, (Group("", columns),), None, "line", is_stacked=True).filled


def _sheet(run: ScriptRun) -> Sheet:
    """A row for each pass, those of a number together."""
    rows = rows_of(run)
    epochs = [epoch for _, epoch in rows]
    columns = (
        _names([row.name for row, _ in rows]),
        Column("pass", tuple(epoch_of(row, epoch) for row, epoch in rows), "strong"),
        *_printed_and_exact(epochs),
        _values("difference", [difference_of(epoch) for epoch in epochs], "wrong"),
        _off(epochs),
        _values("weighted", [value_of(epoch.weighted, epoch) for epoch in epochs], "faint"),
        Column("batches", tuple(map(batches_of, epochs)), "strong", is_left=True),
    )
    lines = tuple(line_of(row, run) for row, _ in rows)
    return Sheet(lines, (Group("", columns),), None, "line", is_stacked=True).filled


def _names(names: list[str]) -> Column:
    return Column("number", tuple(names), "strong", is_left=True, is_name=True)


def _printed_and_exact(epochs: list[Epoch]) -> tuple[Column, Column]:
    return (
        _values("printed", [value_of(epoch.printed, epoch) for epoch in epochs], "notable"),
        _values("exact", [value_of(epoch.exact, epoch) for epoch in epochs], "expected"),
    )


def _off(epochs: list[Epoch]) -> Column:
    tones: tuple[Tone, ...] = tuple("expected" if epoch.is_exact else "wrong" for epoch in epochs)
    return Column("off", tuple(map(off_of, epochs)), tones=tones)


def _values(title: str, cells: list[str], tone: Tone) -> Column:
    """A column of numbers; empty where it has none."""
    return Column(title, tuple(aligned(cells)) if any(cells) else tuple(cells), tone)


def _reasons(run: ScriptRun) -> Iterator[Reason]:
    """Why numbers are not exact: those that go through the same line are spoken of together."""
    together: dict[tuple[Place, str, str], list[str]] = {}
    for row in run.wrong:
        worst = max(row.wrong, key=lambda epoch: abs(epoch.error or 0.0))
        together.setdefault((row.cause or row.place, why_of(row, worst), row.remedy), []).append(row.name)
    for (place, why, remedy), names in together.items():
        yield Reason(listed(list(dict.fromkeys(names))), why, place, "" if run.fix else remedy)


def _remarks(run: ScriptRun) -> Iterator[str]:
    """What a reader of the table must know: why a number has no exact value, and which rows are not shown."""
    for row in run.measured:
        for why in dict.fromkeys(why_of(row, epoch) for epoch in row.shown if epoch.is_exact is None):
            yield f"{row.name}: {why}"
    more = len(rows_of(run)) - MOST_ROWS
    if more > 0:
        yield f"and {counted(more, 'more row')} with -v"
    if not run.measured and not run.places:
        yield LOOKED_FOR
    if run.reported is not None and run.reported.values:
        yield f"{run.reported.name} = {run.reported.values[-1]:.6g}, from {run.reported.place}"
    yield from run.notes


def _observed(seen: Observation) -> Reason:
    return Reason(seen.title, seen.what, seen.place, seen.remedy)


def _asides(run: ScriptRun) -> Iterator[Aside]:
    """Why a number has no exact value, below its last row; and what else there is to know."""
    for row in run.measured:
        for why in dict.fromkeys(why_of(row, epoch) for epoch in row.shown if epoch.is_exact is None):
            yield Aside(row.name, why, row=_last_row(row, run))
    if run.failed:
        yield Aside("ended", f"{run.failed}: what was measured by then is shown", is_warning=True)
    for seen in run.seen:
        if seen.harmless:
            yield Aside("seen", f"{seen.place}: {seen.what}" if seen.place is not None else seen.what)


def _last_row(row: MeasuredAccumulator, run: ScriptRun) -> int:
    return max(index for index, (each, _) in enumerate(rows_of(run)) if each is row)


LOOKED_FOR = (
    "looked for: a total, a list or a meter that each batch of a loop adds to, and an average of it that is returned, "
    "printed or assigned"
)

DIGITS, MOST_DECIMALS = 5, 8


def headline(run: ScriptRun) -> str:
    """The answer in a sentence."""
    if run.measured:
        return _of_measured(run)
    if run.places:
        return f"nothing measured: no average was read at the {counted(run.places, 'place')} where batches are added up"
    return "nothing measured: no place was found where it averages over batches"


def _of_measured(run: ScriptRun) -> str:
    known = [row for row in run.measured if any(epoch.is_exact is not None for epoch in row.shown)]
    if not known:
        return f"could not tell: {counted(len(run.measured), 'number')} with no exact value beside it"
    if not run.wrong:
        return f"{counted(len(known), 'number')} measured, all exact"
    name, epoch = worst_of(run)
    most = f"{name}, {off(epoch)}{_at(run, epoch)}"
    if len(known) == 1:
        return f"{name} is {off(epoch)}{_at(run, epoch)}"
    are = "is" if len(run.wrong) == 1 else "are"
    return f"{len(run.wrong)} of {len(known)} numbers {are} off{'; worst' if len(run.wrong) > 1 else ''}: {most}"


def worst_of(run: ScriptRun) -> tuple[str, Epoch]:
    """The pass that is off the most, with its number's name; nobody trains with batches of one sample."""
    wrong = [(row.name, epoch) for row in run.wrong for epoch in row.wrong]
    return max(wrong, key=lambda found: (found[1].size > 1, abs(found[1].error or 0.0)))


def _at(run: ScriptRun, epoch: Epoch) -> str:
    """At which batch size, where the run has several."""
    sizes = {each.size for row in run.wrong for each in row.shown}
    return f" at batch size {epoch.size:,}" if len(sizes) > 1 else ""


def rows_of(run: ScriptRun) -> list[tuple[MeasuredAccumulator, Epoch]]:
    """What the table has a row for."""
    return [(row, epoch) for row in run.measured for epoch in row.shown]


def off(epoch: Epoch) -> str:
    """``2.0% too low``."""
    return too_low_or_high(epoch.error or 0.0)


def state_of(run: ScriptRun) -> bool | None:
    """Whether all is exact; None where that is not known."""
    return {0: True, 1: False}.get(run.exit_status)


def line_of(row: MeasuredAccumulator, run: ScriptRun) -> str:
    """Where a batch is added: the line, with the file where it is not the script's."""
    script = run.script.partition(" ")[0]
    return f"{row.place.line}" if row.place.file == short(script) else str(row.place)


def epoch_of(row: MeasuredAccumulator, epoch: Epoch) -> str:
    """Which pass is shown."""
    return f"{epoch.number}" if len(row.epochs) > 1 else ""


def value_of(value: float | None, epoch: Epoch) -> str:
    """A value with as many digits as all of the row have."""
    if value is None:
        return ""
    known = [item for item in (epoch.printed, epoch.exact, epoch.mean) if item is not None]
    return number(value, min(MOST_DECIMALS, max(decimals_for(known, DIGITS), _decimals_of(epoch.difference))))


def _decimals_of(difference: float | None) -> int:
    """With which two digits of a difference are seen."""
    if not difference or not math.isfinite(difference):
        return 0
    return 1 - math.floor(math.log10(abs(difference)))


def difference_of(epoch: Epoch) -> str:
    """Printed less exact; empty where it is rounding."""
    return "" if epoch.is_exact in (None, True) else value_of(epoch.difference, epoch)


def off_of(epoch: Epoch) -> str:
    """How far off, in percent of the exact value; a check mark where there is no difference."""
    if epoch.is_exact is not False:
        return "?" if epoch.is_exact is None else "✓"
    return percent(epoch.error or 0.0)


def batches_of(epoch: Epoch) -> str:
    """``27 × 16 + 10``."""
    if not epoch.batches or epoch.sizes[0][0] == 0:
        return f"{epoch.batches:,}"
    sizes = epoch.sizes
    if len(sizes) > 2:
        every = [size for size, _ in sizes]
        return f"{epoch.batches:,} × {min(every):,}–{max(every):,}"
    return " + ".join(f"{count:,} × {size:,}" if count > 1 else f"{size:,}" for size, count in sizes)


def why_of(row: MeasuredAccumulator, epoch: Epoch) -> str:
    """Why the number is what it is, or why there is no exact one."""
    if epoch.exact is None:
        return f"not measured: {epoch.reason}" if epoch.reason else "not measured"
    if epoch.printed is None:
        return "its average was not read"
    if epoch.is_exact:
        return ""
    return row.why or "the mean of the batches is not the value on all samples"


def live_line(row: MeasuredAccumulator, epoch: Epoch) -> str:
    """An epoch that has just ended."""
    if epoch.printed is None or epoch.exact is None:
        why = epoch.reason or "no average"
        return f"batchproof: {row.name} ({row.place}), epoch {epoch.number}: no exact value; {why}"
    how = "exact" if epoch.is_exact else off(epoch)
    return (
        f"batchproof: {row.name} ({row.place}), epoch {epoch.number}: printed {epoch.printed:.6g}, "
        f"exact {epoch.exact:.6g}, {how}"
    )
