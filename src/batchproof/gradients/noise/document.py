"""A GradientNoise as a document: a table with a row for each batch size, and the cosine over them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.gradients.noise import wording as about
from batchproof.ground.text import sentence
from batchproof.report.chart import Chart, Line, Point
from batchproof.report.document import Brief, Column, Document, Group, Sheet, row_of
from batchproof.report.estimates import beside, with_error
from batchproof.report.numbers import aligned, error_bar, known_to, size

if TYPE_CHECKING:
    from batchproof.gradients.noise.result import GradientNoise, NoiseRow
    from batchproof.report.estimates import Estimate

VARIANCE, COSINE, STEP = "relative variance", "cosine", "a step's"
DIGITS = 5


def document(found: GradientNoise) -> Document:
    """What is shown of a measurement."""
    return Document(
        title=found.target,
        place=found.place,
        state=state_of(found),
        headline=found.headline,
        yours=about.at_marked_row(found),
        chart=_chart(found),
        caption=(about.drawn(found),),
        sheet=replace(sheet(found), narrow=sheet(found, with_rough=False)),
        asides=tuple(about.asides(found)),
        brief=Brief(
            tables=(_progress_table(found),),
            remarks=(*([about.HOLDS_FOR] if found.exit_status == 0 else []), *map(sentence, found.notes)),
            closing=about.closing(found),
            more=about.MORE,
        ),
    )


def _progress_table(found: GradientNoise) -> Sheet:
    """What a step achieves with batches of each size."""
    column = Column("a step's progress", tuple(aligned([_progress(row) for row in found.rows])))
    sizes = [row.size for row in found.rows]
    group = Group("", (column,), bars=tuple(map(_share, found.rows)))
    return Sheet(tuple(map(size, sizes)), (group,), row_of(found.marked, sizes), is_stacked=True).filled


def state_of(found: GradientNoise) -> bool | None:
    """Whether it could be measured."""
    return True if found.exit_status == 0 else None


def sheet(found: GradientNoise, with_rough: bool = True) -> Sheet:
    """The table, as text; ``with_rough``: beside the cosines, what follows roughly from the variances."""
    variances = [tidy(row.variance, 0.0) for row in found.rows]
    cosines = [tidy(row.cosine, 1.0) for row in found.rows]
    roughly = (beside("roughly", cosines, lambda cosine: cosine.expected, DIGITS),) if with_rough else ()
    wide = with_rough and any(cosine.expected is not None for cosine in cosines)
    known = beside("expected", variances, lambda variance: variance.expected, DIGITS, "expected")
    groups = (
        Group(VARIANCE, (with_error(variances, DIGITS), known)),
        Group(f"{COSINE} to the {about.full_name(found)}" if wide else COSINE, (with_error(cosines, DIGITS), *roughly)),
        Group(
            STEP,
            (Column("progress", tuple(aligned([_progress(row) for row in found.rows]))),),
            bars=tuple(map(_share, found.rows)),
        ),
    )
    sizes = [row.size for row in found.rows]
    return Sheet(tuple(map(size, sizes)), groups, row_of(found.marked, sizes)).filled


def tidy(estimate: Estimate, exact: float) -> Estimate:
    """Without what is rounding: the batch of all samples has no noise."""
    is_rounding = abs(estimate.value - exact) <= about.NOTHING
    return replace(estimate, value=exact, standard_error=0.0) if is_rounding else estimate


def _progress(row: NoiseRow) -> str:
    return about.share(row.progress) if math.isfinite(row.progress) else ""


def _share(row: NoiseRow) -> float:
    """A bar's length: a full one is a batch that is as good as all samples."""
    return min(row.progress, 1.0) if math.isfinite(row.progress) else 0.0


def _chart(found: GradientNoise) -> Chart | None:
    rows, name = found.rows, about.full_name(found)
    roughly = tuple(
        Point(row.size, row.cosine.expected, note=f"roughly {row.cosine.expected:.3f}")
        for row in rows
        if row.cosine.expected is not None
    )
    lines = [Line("measured", "measured", tuple(_points(rows)))]
    if roughly:
        lines.append(Line("1 / √(1 + relative variance)", "theory", roughly))
    chart = Chart(
        about=f"the cosine between the gradient of a batch and the {name}, over batch sizes. {found.headline}",
        y_label=f"cosine between the gradient of a batch and the {name}",
        lines=tuple(lines),
        level=(f"the {name}", 1.0),
        marked=found.marked if found.marked in [row.size for row in rows] else None,
        missing=tuple(row.size for row in rows if not math.isfinite(row.cosine.value)),
        span=0.01,
    )
    return None if chart.is_empty else chart


def _points(rows: tuple[NoiseRow, ...]) -> Iterator[Point]:
    for row in rows:
        cosine = tidy(row.cosine, 1.0)
        error = cosine.standard_error if math.isfinite(cosine.standard_error) else 0.0
        note = f"batches of {size(row.size)}: {known_to(cosine.value, error, DIGITS)}{error_bar(cosine.value, error)}"
        yield Point(row.size, cosine.value, error, f"{cosine.value:.2f}", note)
