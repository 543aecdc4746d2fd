"""A laid-out chart as SVG inside a page: colours come from the page's variables, and hold without them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from html import escape

from batchproof.report.chart import Chart
from batchproof.report.chart_layout import (
    FILLED,
    HEIGHT,
    NARROW,
    RADIUS,
    WIDTH,
    Marker,
    Shape,
    Stroke,
    Words,
    corners,
    layout,
    narrow,
)
from batchproof.report.document import Waterfall
from batchproof.report.waterfall_layout import waterfall_height, waterfall_layout


def svg(chart: Chart) -> str:
    """The chart, with a title and a description for who cannot see it; a style sheet shows one of its two widths."""
    title = f"{chart.y_label} over batch sizes"
    small = narrow(chart)
    return _drawn(layout(chart), WIDTH, HEIGHT, title, chart.about, repr(chart)) + _drawn(
        layout(chart, small), small.width, small.height, title, chart.about, repr(chart)
    )


def waterfall_svg(waterfall: Waterfall) -> str:
    """The parts of a difference, with a title and a description for who cannot see them; in two widths, as a chart."""
    about = ", ".join(f"{part.kind}: {part.label} {part.amount}" for part in waterfall.parts)
    return "".join(
        _drawn(
            waterfall_layout(waterfall, width),
            width,
            waterfall_height(waterfall, width),
            waterfall.title,
            about,
            repr(waterfall),
        )
        for width in (WIDTH, NARROW)
    )


def _drawn(shapes: Iterable[Shape], width: float, height: float, title: str, about: str, identity: str) -> str:
    # several charts may stand on one page
    name = "chart-" + hashlib.blake2s(f"{identity}{width}".encode(), digest_size=4).hexdigest()
    kind = "narrow" if width == NARROW else "broad"
    body = "".join(map(_element, shapes))
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{name}-title {name}-about" preserveAspectRatio="xMidYMid meet" fill="none" '
        f'stroke-linejoin="round" stroke-linecap="butt">'
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
        dash += f' stroke-opacity="{shape.opacity:.2f}"' if shape.opacity < 1 else ""
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
