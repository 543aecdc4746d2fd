"""An Explanation as a document: which of its parts the reader sees, and in what words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.explanation import wording as about
from batchproof.report.chart import Chart, Line, Point
from batchproof.report.document import (
    Aside,
    Column,
    Document,
    Group,
    Reason,
    Sheet,
    Strip,
    StripCurve,
    StripRow,
    Tone,
    row_of,
)
from batchproof.report.numbers import aligned, decimals_for, known_to, number, percent, size

if TYPE_CHECKING:
    from batchproof.explanation.result import Code, Curve, Explanation, Finding, Quantity, Reading

#: What is measured, in a terminal; on a page there is room for more.
_LABELS: dict[Quantity, str] = {"mean of batches": "mean", "compute()": "compute", "change of the output": "change"}
_NAMES: dict[Quantity, str] = {
    "mean of batches": "mean of per-batch values",
    "compute()": "compute()",
    "change of the output": "change, of a standard deviation",
}


def document(explanation: Explanation) -> Document:
    """What is shown of an explanation."""
    curve = explanation.curve
    found = about.reasons(explanation)
    given = about.given(explanation)
    shown = Document(
        title=explanation.target,
        place=explanation.place,
        state=explanation.is_safe,
        headline=explanation.headline,
        yours=about.at_marked_size(explanation),
        given=Aside("given", given, is_warning=True) if given else None,
        reasons=tuple(
            _reason(finding, repeated=position > 0 and finding.place == found[position - 1].place)
            for position, finding in enumerate(found)
        ),
        use=explanation.use,
        asides=tuple(_asides(explanation)),
        notes=explanation.notes,
    )
    if curve is None:
        return shown
    same = about.same_everywhere(curve) if about.is_same_everywhere(explanation) else ""
    return replace(
        shown,
        chart=_chart(explanation, curve),
        caption=(about.measured(curve), same),
        caption_label="size",
        sheet=_sheet(curve, explanation.marked),
        strip=Strip((), ()) if same else _strip(curve, explanation),
        footnote=about.sampled(curve),
    )


def _reason(finding: Finding[Code], repeated: bool) -> Reason:
    """A line of code is shown once."""
    remedy = "" if finding.harmless else finding.remedy
    return Reason(finding.title, finding.what, None if repeated else finding.place, remedy)


def _asides(explanation: Explanation) -> Iterator[Aside]:
    curve = explanation.curve
    if curve is not None and (last := about.short_last(curve, explanation.kind)):
        yield Aside("last", last, title="last batch")
    for finding in about.remarks(explanation):
        yield Aside("note", f"{finding.title}: {finding.what}", place=finding.place)
    if explanation.keep is not None:
        yield Aside("keep", about.kept(explanation.keep), title="state")


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


def _strip(curve: Curve, explanation: Explanation) -> Strip:
    """The figures as a terminal shows them: a column for each size, with a digit less."""
    readings, changes = curve.readings, curve.measures_change
    most = 1e4 * max(abs(curve.exact), curve.scale)
    usual = [v for v in (curve.exact, *(r.mean for r in readings)) if math.isfinite(v) and abs(v) <= most]
    decimals = min(6, decimals_for([curve.exact] if curve.exact else usual))

    def row(
        label: str, write: Callable[[Reading], str], tone: Tone = "plain", *, is_optional: bool = False
    ) -> StripRow:
        return StripRow(label, tuple(map(write, readings)), tone, is_optional)

    def value(reading: Reading, number: float) -> str:
        return "fails" if reading.raised else _change(number) if changes else _value(reading, number, decimals)

    def noise(reading: Reading) -> str:
        return number(reading.standard_error, decimals) if reading.standard_error else ""

    rows = [row(_LABELS[curve.quantity], lambda r: value(r, r.mean))]
    if not changes:
        rows.append(row("error", lambda r: _error(curve, r), "faint"))
    if curve.quantity == "mean of batches":
        rows.append(row("weighted", lambda r: value(r, r.weighted), is_optional=True))
    rows.append(row("±", noise, "faint", is_optional=True))
    trace = StripCurve(
        values=tuple(math.nan if reading.undefined else reading.mean for reading in readings),
        level=curve.exact,
        level_label="" if changes else "exact",
        floor=curve.tolerance * curve.scale,
        decimals=None if changes else decimals,
    )
    sizes = tuple(reading.size for reading in readings)
    return Strip(sizes, tuple(rows), explanation.marked, trace if explanation.is_safe is not True else None)


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
