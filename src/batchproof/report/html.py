"""An Explanation as a small piece of HTML for notebooks: no scripts, no links, colours that suit light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from batchproof.report.numbers import decimals_for, number, percent

if TYPE_CHECKING:
    from batchproof.explain.explanation import Curve, Explanation, Finding, Reading

WIDTH, HEIGHT, MARGIN = 560, 140, 34
GREEN, RED, AMBER = "#2e9e5b", "#d1495b", "#c98a1b"
_COLOUR = {True: GREEN, False: RED, None: AMBER}


def render(explanation: Explanation) -> str:
    """The report as one ``div``."""
    frame = f"border-left:4px solid {_COLOUR[explanation.is_safe]};padding:2px 14px;max-width:760px"
    parts = [
        f'<div style="font-family:ui-monospace,monospace;font-size:13px;line-height:1.5;{frame}">',
        f"<div><b>{escape(explanation.target)}</b> {_place(explanation.place)}</div>",
        f'<div style="color:{_COLOUR[explanation.is_safe]};font-weight:bold">{escape(explanation.headline)}</div>',
    ]
    parts += [_finding(finding) for finding in explanation.findings]
    if explanation.curve is not None:
        parts += [_plot(explanation.curve), _table(explanation.curve)]
    parts += list(_rest(explanation))
    return "".join(parts) + "</div>"


def _place(place: object) -> str:
    return f'<span style="opacity:.6">{escape(str(place))}</span>' if place is not None else ""


def _finding(finding: Finding) -> str:
    line = ""
    if finding.place is not None:
        line = f"<div>{_place(finding.place)} <code>{escape(finding.place.text)}</code></div>"
    remedy = f'<div style="color:{GREEN}">→ {escape(finding.remedy)}</div>' if finding.remedy else ""
    text = f"<div>{escape(finding.title)}: {escape(finding.what)}</div>"
    return f'<div style="margin-top:8px">{line}{text}{remedy}</div>'


def _rest(explanation: Explanation) -> Iterator[str]:
    if explanation.keep is not None and not explanation.keep.row_nbytes:
        yield _row("keep", f"{explanation.keep.what}: {explanation.keep.nbytes} bytes at any size")
    for line in explanation.use:
        yield _row("use", line)
    guessed = [given for given in explanation.inputs if given.guessed]
    if guessed:
        yield _row("given", ", ".join(f"{given.name} {given.what}" for given in guessed) + ": guessed from the names")
    for note in explanation.notes:
        yield _row("note", note)


def _row(label: str, text: str) -> str:
    return f'<div style="margin-top:4px"><span style="opacity:.6">{label}</span> {escape(text)}</div>'


def _table(curve: Curve) -> str:
    decimals = decimals_for([curve.exact] if curve.exact else [reading.mean for reading in curve.readings])
    rows = [("batch", [f"{reading.size:,}" for reading in curve.readings])]
    rows.append((curve.quantity, [_value(reading, reading.mean, decimals) for reading in curve.readings]))
    if curve.quantity != "change of the output":
        rows.append(("error", [_error(curve, reading) for reading in curve.readings]))
        rows.append(("weighted", [_value(reading, reading.weighted, decimals) for reading in curve.readings]))
    cell = 'style="text-align:right;padding:0 8px"'
    body = "".join(
        f'<tr><td style="opacity:.6">{escape(label)}</td>'
        + "".join(f"<td {cell}>{escape(text)}</td>" for text in texts)
        + "</tr>"
        for label, texts in rows
    )
    return f'<table style="border-collapse:collapse;margin-top:4px">{body}</table>'


def _value(reading: Reading, value: float, decimals: int) -> str:
    return "fails" if reading.raised is not None else number(value, decimals)


def _error(curve: Curve, reading: Reading) -> str:
    return "0" if curve.is_exact(reading.mean) else percent(curve.error(reading.mean))


def _plot(curve: Curve) -> str:
    """The curve over the logarithm of the batch size, and the exact value as a dashed line."""
    points = [(reading.size, reading.mean) for reading in curve.readings if math.isfinite(reading.mean)]
    values = [value for _, value in points] + [curve.exact]
    low, high = min(values), max(values)
    if len(points) < 2 or not math.isfinite(curve.exact) or low == high:
        return ""
    most = math.log(max(size for size, _ in points)) or 1.0

    def x(size: int) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * math.log(size) / most

    def y(value: float) -> float:
        return 12 + (HEIGHT - 32) * (1 - (value - low) / (high - low))

    path = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in points)
    dots = "".join(f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="{RED}"/>' for size, value in points)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="reported value over batch sizes" style="display:block;margin-top:8px">'
        f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y(curve.exact):.1f}" y2="{y(curve.exact):.1f}" '
        f'stroke="{GREEN}" stroke-dasharray="5 4"/>'
        f'<polyline points="{path}" fill="none" stroke="{RED}" stroke-width="1.5"/>{dots}{_ticks(points, x)}</svg>'
    )


def _ticks(points: Sequence[tuple[int, float]], x: object) -> str:
    assert callable(x)
    style = 'font-size="10" text-anchor="middle" fill="currentColor"'
    return "".join(f'<text x="{x(size):.1f}" y="{HEIGHT - 4}" {style}>{size:,}</text>' for size, _ in points)
