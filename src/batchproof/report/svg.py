"""A laid-out chart as SVG inside a page: colours come from the page's variables, and hold without them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from html import escape

from batchproof.report.chart import Chart
from batchproof.report.chart_layout import FILLED, HEIGHT, RADIUS, WIDTH, Marker, Shape, Stroke, Words, corners, layout
from batchproof.report.document import Waterfall
from batchproof.report.waterfall_layout import waterfall_height, waterfall_layout


def svg(chart: Chart) -> str:
    """The chart, with a title and a description for who cannot see it."""
    return _drawn(layout(chart), HEIGHT, f"{chart.y_label} over batch sizes", chart.about, repr(chart))


def waterfall_svg(waterfall: Waterfall) -> str:
    """The parts of a difference, with a title and a description for who cannot see them."""
    about = ", ".join(f"{part.kind}: {part.label} {part.amount}" for part in waterfall.parts)
    shapes = waterfall_layout(waterfall)
    return _drawn(shapes, waterfall_height(waterfall), waterfall.title, about, repr(waterfall))


def _drawn(shapes: Iterable[Shape], height: float, title: str, about: str, identity: str) -> str:
    # several charts may stand on one page
    name = "chart-" + hashlib.blake2s(identity.encode(), digest_size=4).hexdigest()
    body = "".join(map(_element, shapes))
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-labelledby="{name}-title {name}-about" '
        f'preserveAspectRatio="xMidYMid meet" fill="none" stroke-linejoin="round" stroke-linecap="butt">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-about">{escape(about)}</desc>{body}</svg>'
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
