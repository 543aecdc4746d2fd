"""A laid-out chart as SVG inside a page: colours come from the page's variables, and hold without them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from html import escape

from batchproof.report.chart import Chart
from batchproof.report.chart_layout import FILLED, HEIGHT, RADIUS, WIDTH, Marker, Shape, Stroke, Words, corners, layout


def svg(chart: Chart) -> str:
    """The chart, with a title and a description for who cannot see it."""
    # several charts may stand on one page
    name = "chart-" + hashlib.blake2s(repr(chart).encode(), digest_size=4).hexdigest()
    body = "".join(map(_element, layout(chart)))
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-labelledby="{name}-title {name}-about" '
        f'preserveAspectRatio="xMidYMid meet" fill="none" stroke-linejoin="round" stroke-linecap="round">'
        f'<title id="{name}-title">{escape(chart.y_label)} over batch sizes</title>'
        f'<desc id="{name}-about">{escape(chart.about)}</desc>{body}</svg>'
    )


def _element(shape: Shape) -> str:
    if isinstance(shape, Words):
        bold = ' font-weight="bold"' if shape.bold else ""
        return (
            f'<text class="{shape.ink}" x="{shape.at[0]:.1f}" y="{shape.at[1]:.1f}" text-anchor="{shape.anchor}" '
            f'font-size="{shape.size:g}"{bold} fill="currentColor">{escape(shape.text)}</text>'
        )
    if isinstance(shape, Stroke):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        dash = f' stroke-dasharray="{" ".join(f"{part:g}" for part in shape.dash)}"' if shape.dash else ""
        return (
            f'<polyline class="{shape.ink}" points="{points}" stroke="currentColor" '
            f'stroke-width="{shape.width:g}"{dash}/>'
        )
    title = f"<title>{escape(shape.note)}</title>" if shape.note else ""
    kind, fill = (f"{shape.ink} filled", ' fill="currentColor"') if shape.form in FILLED else (shape.ink, "")
    outline = " ".join(_outline(shape))
    return f'<path class="{kind}" d="{outline}" stroke="currentColor" stroke-width="1.6"{fill}>{title}</path>'


def _outline(mark: Marker) -> Iterator[str]:
    x, y = mark.at
    if mark.form in ("circle", "ring"):
        r = RADIUS[mark.form]
        yield f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
        return
    for stroke in corners(mark.form):
        yield "M" + "L".join(f"{x + dx:.1f} {y + dy:.1f}" for dx, dy in stroke)
