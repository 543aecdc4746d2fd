"""A heat strip as a table of a page: one row for each change, one small cell for each column, no script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from batchproof.report.document import HeatRow, HeatStrip

#: Headings over the cells: not more than this, or none of them has room for its name.
MOST_HEADINGS = 10
#: Pixels that a cell takes at least; a strip of more than fit is scrolled beside its labels.
LEAST_WIDTH = 5


def heat(strip: HeatStrip) -> str:
    """The strip; the title of each cell has its name and its size."""
    headings = _headings(strip.columns)
    over = "".join(f'<th scope="colgroup" colspan="{count}"><span>{escape(name)}</span></th>' for name, count in headings)
    rows = "".join(_row(strip, row) for row in strip.rows)
    scale = "".join(f'<i style="--g:{strip.depth(size):.2f}"></i>' for size in _steps(strip))
    return (
        f'<figure class="heat"><figcaption>{escape(strip.title[:1].upper() + strip.title[1:])}</figcaption>'
        f'<div class="wide"><table style="--n:{len(strip.columns)};--least:{LEAST_WIDTH}px">'
        f'<thead><tr><td class="size"></td>{over}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="scale">{strip.least:.0e} <span class="wrong">{scale}</span> {strip.most:g} {escape(strip.unit)}</p>'
        "</figure>"
    )


def _row(strip: HeatStrip, row: HeatRow) -> str:
    cells = "".join(
        _cell(strip, f"{name} ({kind})" if name and kind else name or kind, size)
        for name, kind, size in zip(strip.columns, strip.kinds, row.cells, strict=True)
    )
    return f'<tr class="{row.tone}"><th scope="row" class="size">{escape(row.label)}</th>{cells}</tr>'


def _cell(strip: HeatStrip, name: str, size: float | None) -> str:
    if size is None:
        return f'<td class="none" title="{escape(name)}: not compared"></td>'
    said = "the same" if not size else f"{size:.2g}"
    depth = strip.depth(size)
    style = f' style="--g:{depth:.2f}"' if depth else ""
    return f'<td{style} title="{escape(name)}: {said}"></td>'


def _steps(strip: HeatStrip) -> Iterator[float]:
    """Sizes from the least to the most, each ten times the one before."""
    size = strip.least
    while size <= strip.most * 1.001:
        yield size
        size *= 10


def _headings(columns: Sequence[str]) -> list[tuple[str, int]]:
    """What columns side by side have in common, as deep as there is room for headings; and how many they are."""
    found: list[tuple[str, int]] = []
    for depth in range(1, 1 + max(name.count(".") + 1 for name in columns)):
        own = [(name, len(list(group))) for name, group in groupby(_beginning(name, depth) for name in columns)]
        if found and len(own) > MOST_HEADINGS:
            break
        found = own
    return found


def _beginning(name: str, depth: int) -> str:
    return ".".join(name.split(".")[:depth])
