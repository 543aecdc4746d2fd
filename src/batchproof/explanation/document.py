"""An Explanation as a document: which of its parts the reader sees, and in what words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from batchproof.explanation import wording as about
from batchproof.report.chart import Chart, Line, Point
from batchproof.report.document import Column, Document, Group, Reason, Sheet, row_of
from batchproof.report.numbers import aligned, decimals_for, known_to, number, percent, size

if TYPE_CHECKING:
    from batchproof.explanation.result import Code, Curve, Explanation, Finding, Quantity, Reading

_NAMES: dict[Quantity, str] = {
    "mean of batches": "mean of per-batch values",
    "compute()": "compute()",
    "change of the output": "change, of a standard deviation",
}


def document(explanation: Explanation) -> Document:
    """What is shown of an explanation."""
    curve = explanation.curve
    found = about.reasons(explanation)
    seen = [finding.place for finding in found]
    return Document(
        title=explanation.target,
        place=explanation.place,
        state=explanation.is_safe,
        headline=explanation.headline,
        yours=about.at_marked_size(explanation),
        given=about.given(explanation),
        reasons=tuple(
            _reason(finding, repeated=finding.place in seen[:position]) for position, finding in enumerate(found)
        ),
        chart=_chart(explanation, curve) if curve is not None else None,
        caption=_caption(explanation, curve) if curve is not None else "",
        sheet=_sheet(curve, explanation.marked) if curve is not None else None,
        use=explanation.use,
        asides=tuple(_asides(explanation)),
    )


def _reason(finding: Finding[Code], repeated: bool) -> Reason:
    remedy = "" if finding.harmless else finding.remedy
    return Reason(finding.title, finding.what, None if repeated else finding.place, remedy)


def _asides(explanation: Explanation) -> Iterator[tuple[str, str]]:
    curve = explanation.curve
    if curve is not None and (last := about.short_last(curve, explanation.kind)):
        yield "last batch", last
    for finding in about.remarks(explanation):
        where = f"{finding.place}: " if finding.place is not None else ""
        yield "note", f"{where}{finding.title}: {finding.what}"
    if explanation.keep is not None:
        yield "state", about.kept(explanation.keep)
    yield from (("note", note) for note in explanation.notes)


def _caption(explanation: Explanation, curve: Curve) -> str:
    same = about.same_everywhere(curve) if about.is_same_everywhere(explanation) else ""
    return "; ".join(part for part in (about.measured(curve), same, about.sampled(curve)) if part)


def _chart(explanation: Explanation, curve: Curve) -> Chart | None:
    changes = curve.measures_change
    name = _NAMES[curve.quantity]
    own = f"{name} of {explanation.target.partition('(')[0]}" if not changes else "change of a sample's output"
    lines = [Line(name, "measured", tuple(_point(reading, curve) for reading in curve.readings))]
    if curve.quantity == "mean of batches" and _weighting_shows(curve):
        weighted = (
            Point(reading.size, reading.weighted, note=f"weighted by size: {reading.weighted:.6g}")
            for reading in curve.readings
        )
        lines.append(Line("weighted by batch size", "weighted", tuple(weighted)))
    exact = number(curve.exact, decimals_for([curve.exact], 5))
    level = None if changes or not math.isfinite(curve.exact) else (f"all samples at once: {exact}", curve.exact)
    chart = Chart(
        about=f"{own} over batch sizes. {explanation.headline}",
        y_label=own,
        lines=tuple(lines),
        level=level,
        marked=explanation.marked if explanation.marked in [reading.size for reading in curve.readings] else None,
        missing=tuple(reading.size for reading in curve.readings if not math.isfinite(reading.mean)),
        span=_least_span(curve),
        in_percent=changes,
    )
    return None if chart.is_empty else chart


def _point(reading: Reading, curve: Curve) -> Point:
    tag = _change(reading.mean) if curve.measures_change else _error(curve, reading)
    note = f"batches of {size(reading.size)}: {reading.mean:.6g}" + (f" ({tag})" if tag else "")
    return Point(reading.size, reading.mean, reading.standard_error or 0.0, "" if tag == "0" else tag, note)


def _weighting_shows(curve: Curve) -> bool:
    """Whether weighting by size moves a value by more than the eye overlooks."""
    return any(abs(curve.error(reading.mean) - curve.error(reading.weighted)) > 5e-4 for reading in curve.readings)


def _least_span(curve: Curve) -> float:
    """A tenth of the value where all are exact: the line is flat, and its rounding is not to be looked at."""
    size = max(abs(curve.exact), curve.scale) if math.isfinite(curve.exact) else curve.scale
    flat = all(curve.is_exact(reading.mean) for reading in curve.readings)
    return (0.1 if flat else 20 * curve.tolerance) * size


def _sheet(curve: Curve, marked: int | None) -> Sheet:
    readings = curve.readings
    changes = curve.measures_change
    decimals = decimals_for([curve.exact] if curve.exact else [reading.mean for reading in readings], 5)

    def column(title: str, texts: list[str]) -> Column:
        return Column(title, tuple(aligned(texts)))

    columns = [column(_NAMES[curve.quantity], [_value(r, r.mean, decimals) for r in readings])]
    if changes:
        columns = [column(_NAMES[curve.quantity], ["fails" if r.raised else _change(r.mean) for r in readings])]
    else:
        columns.append(column("error", [_error(curve, r) for r in readings]))
    if any(reading.standard_error for reading in readings):
        columns.append(column("± standard error", [_noise(r) for r in readings]))
    if curve.quantity == "mean of batches" and _weighting_shows(curve):
        columns.append(column("weighted by size", [_value(r, r.weighted, decimals) for r in readings]))
    columns.append(column("batches", [_batches(r) for r in readings]))
    columns.append(column("without a value", [f"{r.undefined:,}" if r.undefined else "" for r in readings]))
    sizes = [reading.size for reading in readings]
    return Sheet(tuple(map(size, sizes)), (Group("", tuple(columns)),), row_of(marked, sizes)).filled


def _value(reading: Reading, value: float, decimals: int) -> str:
    return "fails" if reading.raised is not None else number(value, decimals)


def _change(value: float) -> str:
    if not math.isfinite(value):
        return "nan"
    return f"{value:.0%}" if value >= 0.1 or value == 0 else f"{value:.1%}"


def _error(curve: Curve, reading: Reading) -> str:
    return "0" if curve.is_exact(reading.mean) else percent(curve.error(reading.mean))


def _noise(reading: Reading) -> str:
    return known_to(reading.standard_error, reading.standard_error) if reading.standard_error else ""


def _batches(reading: Reading) -> str:
    return f"{reading.batches:,} of {reading.of:,}" if reading.is_sampled else f"{reading.of:,}"
