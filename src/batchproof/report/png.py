"""A report as a PNG, painted by matplotlib: its own canvas, no pyplot, no setting of the user's touched or read."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from batchproof.errors import BatchproofError
from batchproof.report import palette
from batchproof.report.chart_layout import FILLED, RADIUS, Marker, Shape, Stroke, Words, corners
from batchproof.report.forms import document_of
from batchproof.report.poster import WIDTH, poster

if TYPE_CHECKING:
    from batchproof.report.result import Result

#: Pixels of the layout to an inch, and pixels of the picture.
LAYOUT_DPI, PICTURE_DPI = 96, 192
POINTS = 72 / LAYOUT_DPI
_COLOUR = palette.LIGHT | {
    "pooled": palette.LIGHT["exact"],
    "grid": palette.LIGHT["soft"],
    "axis": palette.LIGHT["line"],
}


def needed() -> None:
    """Say clearly, and early, that matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BatchproofError(
            'a PNG is drawn with matplotlib, and it is not installed: pip install "batchproof[plot]", '
            "or pip install matplotlib"
        ) from error


def png(found: Result) -> bytes:
    """The picture.

    Raises:
        BatchproofError: matplotlib is not installed.
    """
    needed()
    import matplotlib.style
    from matplotlib.figure import Figure

    sheet = poster(document_of(found))
    with matplotlib.style.context("default"), warnings.catch_warnings():
        # a name in a script that the font lacks is shown as a box, which the reader sees too
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(WIDTH / LAYOUT_DPI, sheet.height / LAYOUT_DPI), dpi=PICTURE_DPI, facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(sheet.height, 0))
        axes.set_axis_off()
        for layer, shape in enumerate(sheet.shapes):
            _paint(axes, shape, layer)
        target = io.BytesIO()
        figure.savefig(target, format="png")
    return target.getvalue()


def _paint(axes: Any, shape: Shape, layer: int) -> None:
    colour = _COLOUR[shape.ink]
    if isinstance(shape, Words):
        axes.text(
            *shape.at, shape.text, color=colour, fontsize=shape.size * POINTS, zorder=layer, parse_math=False,
            fontweight="bold" if shape.bold else "normal", va="baseline",
            ha={"start": "left", "middle": "center", "end": "right"}[shape.anchor],
            fontfamily="DejaVu Sans Mono" if shape.mono else "DejaVu Sans",
        )  # fmt: skip
    elif isinstance(shape, Stroke):
        dashes = (0, shape.dash) if shape.dash else "solid"
        _polyline(axes, shape.points, colour, shape.width, layer, dashes=dashes, opacity=shape.opacity)
    else:
        _mark(axes, shape, colour, layer)


def _mark(axes: Any, mark: Marker, colour: str, layer: int) -> None:
    from matplotlib.patches import Circle, Polygon

    x, y = mark.at
    fill = colour if mark.form in FILLED else "none"
    if mark.form in RADIUS:
        axes.add_patch(Circle(mark.at, RADIUS[mark.form], ec=colour, fc=fill, lw=1.6 * POINTS, zorder=layer))
        return
    for stroke in corners(mark.form):
        points = [(x + dx, y + dy) for dx, dy in stroke]
        if mark.form in FILLED:
            axes.add_patch(Polygon(points, ec=colour, fc=fill, lw=1.6 * POINTS, zorder=layer))
        else:
            _polyline(axes, points, colour, 1.6, layer)


def _polyline(
    axes: Any, points: Any, colour: str, width: float, layer: int, dashes: Any = "solid", opacity: float = 1.0
) -> None:
    from matplotlib.lines import Line2D

    across, down = zip(*points, strict=True)
    # matplotlib measures dashes in widths of the line
    if dashes != "solid":
        dashes = (0, [part / width for part in dashes[1]])
    look = {"lw": width * POINTS, "ls": dashes, "alpha": opacity, "dash_capstyle": "butt", "solid_capstyle": "butt"}
    axes.add_line(Line2D(across, down, color=colour, zorder=layer, **look))
