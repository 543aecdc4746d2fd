"""A Simulation as a document: the question's two tables side by side, and the curve that they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from batchproof.ground.text import sentence
from batchproof.report.chart import Chart, Line, Look, Point
from batchproof.report.document import Brief, Column, Document, Group, Sheet, row_of
from batchproof.report.estimates import beside, with_error
from batchproof.report.numbers import aligned, error_bar, known_to, percent, size
from batchproof.simulation import wording as about

if TYPE_CHECKING:
    from batchproof.report.estimates import Estimate
    from batchproof.simulation.result import Simulation, SimulationRow

POOLED, MEAN, RATIO = "all samples pooled", "mean of per-batch values", "mean / pooled"
ALL, AVERAGED = "all samples", "averaged over batches"
RATIO_DIGITS, BRIEF_DIGITS = 6, 5


def document(simulation: Simulation) -> Document:
    """What is shown of a simulation."""
    return Document(
        title=simulation.target,
        place=simulation.place,
        state=None if simulation.depends is None else not simulation.depends,
        headline=simulation.headline,
        yours=about.at_marked_row(simulation),
        chart=_chart(simulation) if simulation.rows else None,
        caption=(about.drawn(simulation),),
        sheet=sheet(simulation),
        use=about.remedy(simulation),
        asides=tuple(about.asides(simulation)),
        brief=Brief(
            tables=(_brief_table(simulation),) if simulation.rows else (),
            remarks=tuple(map(sentence, about.remarks(simulation))),
            closing=about.closing(simulation),
            more=about.MORE,
        ),
    )


def _brief_table(simulation: Simulation) -> Sheet:
    """The values side by side, and how far the second one is off."""
    rows, sizes = simulation.rows, [row.size for row in simulation.rows]
    columns = (
        Column(ALL, tuple(aligned([_value(row.pooled) for row in rows])), "expected"),
        Column(AVERAGED, tuple(aligned([_value(row.mean) for row in rows])), "notable"),
        _off(rows),
    )
    return Sheet(
        tuple(map(size, sizes)),
        (Group("", columns, bars=_bars(rows)),),
        row_of(simulation.marked, sizes),
        is_stacked=True,
    ).filled


def _value(estimate: Estimate) -> str:
    """To the first digits that its standard error leaves; it stands beside it in the whole table."""
    return known_to(estimate.value, estimate.standard_error, BRIEF_DIGITS)


def sheet(simulation: Simulation) -> Sheet:
    """The table, as text: values to the second digit of their standard errors."""
    rows = simulation.rows
    published = bool(simulation.published)
    groups = (
        _group(POOLED, "Example 1" if published else "", [row.pooled for row in rows]),
        _group(MEAN, "Example 2" if published else "", [row.mean for row in rows]),
        _ratios(rows),
    )
    sizes = [row.size for row in rows]
    return Sheet(tuple(map(size, sizes)), groups, row_of(simulation.marked, sizes)).filled


def _group(title: str, note: str, estimates: Sequence[Estimate]) -> Group:
    return Group(
        title,
        (
            with_error(estimates),
            beside("expected", estimates, lambda estimate: estimate.expected, tone="expected"),
            beside("published", estimates, lambda estimate: estimate.published, tone="faint"),
        ),
        note,
    )


def _ratios(rows: Sequence[SimulationRow]) -> Group:
    ratios = [row.ratio for row in rows]
    expected = beside("expected", ratios, lambda ratio: ratio.expected, RATIO_DIGITS, "expected")
    return Group(RATIO, (with_error(ratios, RATIO_DIGITS), expected, _off(rows)), bars=_bars(rows))


def _off(rows: Sequence[SimulationRow]) -> Column:
    return Column("off", tuple(aligned([_off_by(row) for row in rows])), "answer")


def _bars(rows: Sequence[SimulationRow]) -> tuple[float, ...]:
    """How far each is off, as a share of the one that is off the most."""
    in_units = any(row.is_near_zero for row in rows)
    off = [abs(row.difference.value if in_units else row.shortfall) for row in rows]
    off = [gap if math.isfinite(gap) else 0.0 for gap in off]
    largest = max(off, default=0.0)
    return tuple(share / largest for share in off) if largest > 0 else ()


def _off_by(row: SimulationRow) -> str:
    """How far the mean is off: as a fraction, or in the value's own unit where that is next to 0."""
    if not row.is_near_zero:
        return percent(-row.shortfall)
    gap = row.difference
    return ("+" if gap.value > 0 else "-") + known_to(abs(gap.value), gap.standard_error)


def _chart(simulation: Simulation) -> Chart | None:
    rows = simulation.rows
    name = simulation.target.partition("(")[0]
    lines = [
        Line(MEAN, "measured", tuple(_points(rows, lambda row: row.mean, tagged=True))),
        Line(POOLED, "pooled", tuple(_points(rows, lambda row: row.pooled))),
        *_known("expected: ", "theory", rows, lambda estimate: estimate.expected),
        *_known("published: ", "published", rows, lambda estimate: estimate.published),
    ]
    found = Chart(
        about=f"{MEAN} of {name} over batch sizes, beside {POOLED}. {simulation.headline}",
        y_label=f"value of {simulation.target}",
        lines=tuple(lines),
        marked=simulation.marked if simulation.marked in [row.size for row in rows] else None,
        missing=tuple(row.size for row in rows if not math.isfinite(row.mean.value)),
        span=1e-6 * max((abs(row.pooled.value) for row in rows if math.isfinite(row.pooled.value)), default=1.0),
    )
    return None if found.is_empty else found


def _points(
    rows: Sequence[SimulationRow], pick: Callable[[SimulationRow], Estimate], tagged: bool = False
) -> Iterator[Point]:
    for row in rows:
        estimate = pick(row)
        error = estimate.standard_error if math.isfinite(estimate.standard_error) else 0.0
        tag = _off_by(row).removeprefix("0") if tagged else ""
        note = f"batches of {size(row.size)}: {known_to(estimate.value, error)}{error_bar(estimate.value, error)}"
        yield Point(row.size, estimate.value, error, tag, note)


def _known(
    label: str, look: Look, rows: Sequence[SimulationRow], pick: Callable[[Estimate], float | None]
) -> Iterator[Line]:
    """What is known of the means."""
    values = [(row.size, pick(row.mean)) for row in rows]
    points = tuple(Point(size, value, note=f"{label}{value:.6g}") for size, value in values if value is not None)
    if points:
        yield Line(label.rstrip(": "), look, points)
