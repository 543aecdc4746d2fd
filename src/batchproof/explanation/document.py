"""An Explanation as a document: which of its parts the reader sees, and in what words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.explanation import trials as trial
from batchproof.explanation import wording as about
from batchproof.ground.text import sentence
from batchproof.report.chart import Chart, Line, Point
from batchproof.report.document import Aside, Brief, Column, Document, Group, Reason, Sheet, Tone, row_of
from batchproof.report.numbers import aligned, decimals_for, known_to, number, percent, size

if TYPE_CHECKING:
    from batchproof.explanation.result import Code, Curve, Explanation, Finding, Quantity, Reading

_NAMES: dict[Quantity, str] = {
    "mean of batches": "average of the batches",
    "compute()": "compute()",
    "change of the output": "change, of a standard deviation",
}
#: The rows of the brief table, where a line has less room.
_SHORT: dict[Quantity, str] = {
    "mean of batches": "average",
    "compute()": "compute()",
    "change of the output": "change / std",
}
_TONES: tuple[Tone, ...] = ("notable", "answer", "faint")
#: Where the reader named no sizes, so many of those that were tried are shown at first.
MOST_SIZES = 7


def document(explanation: Explanation) -> Document:
    """What is shown of an explanation."""
    curve = explanation.curve
    found = about.reasons(explanation)
    return Document(
        title=explanation.target,
        place=explanation.place,
        state=explanation.is_safe,
        headline=explanation.headline,
        yours=about.at_marked_size(explanation),
        reasons=tuple(
            _reason(explanation, finding, repeated=position > 0 and finding.place == found[position - 1].place)
            for position, finding in enumerate(found)
        ),
        chart=_chart(explanation, curve) if curve is not None else None,
        caption=(about.measured(curve),) if curve is not None else (),
        caption_label="on",
        sheet=_sheet(curve, explanation.marked) if curve is not None else None,
        footnote=about.sampled(curve) if curve is not None else "",
        use=explanation.use,
        asides=tuple(_asides(explanation)),
        brief=_brief(explanation, curve),
        heat=trial.heat_strip(explanation.trials),
        appendix=tuple(_appendix(explanation)),
    )


def _reason(explanation: Explanation, finding: Finding[Code], repeated: bool) -> Reason:
    """A line of code is shown once; what to do is said in words where there is no code to paste."""
    remedy = "" if finding.harmless or about.is_repaired(explanation, finding) else finding.remedy
    return Reason(finding.title, finding.what, None if repeated else finding.place, remedy)


def _asides(explanation: Explanation) -> Iterator[Aside]:
    """On what the figures rest; what batches of other sizes leave over; what is kept."""
    curve = explanation.curve
    if given := about.given(explanation):
        yield Aside("given", given, is_warning=True)
    if explanation.is_safe and (asked := trial.conventions(explanation.trials)):
        yield Aside("given", asked, is_warning=True)
    if curve is not None and (last := about.short_last(curve, explanation.kind)):
        yield Aside("last", last, title="last batch")
    if explanation.use and explanation.is_safe is False:
        for finding in about.reasons(explanation):
            if about.is_repaired(explanation, finding):
                yield Aside("or", finding.remedy, title="by hand")
    for finding in about.remarks(explanation):
        if finding.place is not None:
            yield Aside("note", f"{finding.title}: {finding.what}", place=finding.place)
    if explanation.keep is not None:
        yield Aside("state", about.kept(explanation.keep))


def _brief(explanation: Explanation, curve: Curve | None) -> Brief:
    """A few sizes, unless they all say the same; and what qualifies the verdict."""
    remarks = [f"{finding.title}: {finding.what}" for finding in about.remarks(explanation)]
    if explanation.trials:
        return _brief_on_model(explanation, curve, remarks)
    if curve is None:
        return Brief(remarks=tuple(map(sentence, (*remarks, *explanation.notes))))
    same = about.same_everywhere(explanation)
    return Brief(
        tables=() if same else (_few_sizes(curve, explanation),),
        remarks=tuple(
            map(sentence, filter(None, (same, about.puzzling_last(explanation), *remarks, *explanation.notes)))
        ),
        closing="; ".join(filter(None, (about.samples(curve), about.sampled(curve)))),
        more="every batch size" + (", what exact keeps" if explanation.keep is not None else ""),
    )


def _appendix(explanation: Explanation) -> Iterator[Sheet]:
    if trial.is_worth_a_table(explanation.trials):
        yield trial.all_figures(explanation.trials, _changed(explanation))


def _changed(explanation: Explanation) -> str:
    """Trials run in eval mode; the verdict may be on training mode, and then the reader must be told."""
    return "what was changed, in eval mode" if explanation.use else "what was changed"


def _brief_on_model(explanation: Explanation, curve: Curve | None, remarks: list[str]) -> Brief:
    """What was changed and what came of it; a sentence on rounding, or on everything where nothing moved."""
    trials = explanation.trials
    tables = [] if curve is None else [_few_sizes(curve, explanation)]
    told = [trial.rounding_in_words(trials, explanation.one_ulp)] if explanation.is_safe else []
    if trial.is_worth_a_table(trials):
        tables.insert(0, trial.trials_sheet(trials, _changed(explanation)))
    else:
        told += trial.nothing_moved(trials)
    return Brief(
        tables=tuple(tables),
        remarks=tuple(map(sentence, filter(None, (*told, *remarks, *explanation.notes)))),
        closing="; ".join(filter(None, (trial.units(trials), about.samples(curve) if curve is not None else ""))),
        more="both precisions, and lines" if trial.is_worth_a_table(trials) else "",
    )


def _chart(explanation: Explanation, curve: Curve) -> Chart | None:
    changes = curve.measures_change
    name = _NAMES[curve.quantity]
    target = explanation.target.partition("(")[0]
    own = "change of a sample's output" if changes else f"average of {target} over batches"
    own = f"{name} of {target}" if curve.quantity == "compute()" else own
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


def _few_sizes(curve: Curve, explanation: Explanation) -> Sheet:
    """A column for each batch size, and the value on all samples at the end."""
    shown = about.thinned(curve.readings, explanation.asked, explanation.marked, MOST_SIZES)
    decimals = _decimals(curve)
    columns = []
    for reading in shown:
        own = "▸" if reading.size == explanation.marked else ""
        columns.append(Column(own + size(reading.size), _cells(reading, curve, decimals), tones=_TONES))
    if not curve.measures_change and math.isfinite(curve.exact):
        if shown[-1].size == curve.samples:
            columns.pop()
        exact = (number(curve.exact, decimals), "", "")
        columns.append(Column(f"all {curve.samples:,}", exact, tones=("expected", "plain", "plain")))
    names = (_SHORT[curve.quantity], "off", "±")
    rows = [row for row in range(len(names)) if any(column.cells[row] for column in columns)]
    picked = [replace(column, cells=tuple(column.cells[row] for row in rows)) for column in columns]
    return Sheet(tuple(names[row] for row in rows), (Group("", tuple(picked)),), in_words=True, is_stacked=True)


def _cells(reading: Reading, curve: Curve, decimals: int) -> tuple[str, str, str]:
    """What averaging gives, how far it is off, and its standard error."""
    if curve.measures_change:
        return "fails" if reading.raised else _change(reading.mean), "", ""
    return _value(reading, reading.mean, decimals), _error(curve, reading), _noise(reading)


def _decimals(curve: Curve) -> int:
    """Four digits, and as many as the largest gap takes: these numbers stand side by side."""
    most = 1e4 * max(abs(curve.exact), curve.scale)
    usual = [v for v in (curve.exact, *(r.mean for r in curve.readings)) if math.isfinite(v) and abs(v) <= most]
    gap = max((abs(value - curve.exact) for value in usual), default=0.0)
    shown = decimals_for([gap], 2) if not curve.is_exact(curve.exact + gap) else 0
    return min(6, max(shown, decimals_for([curve.exact] if curve.exact else usual)))


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
