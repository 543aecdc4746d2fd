"""A heat strip as a table of a page: one row for each change, one small cell for each column, no script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from batchproof.report.document import HeatRow, HeatStrip

#: Headings over the cells: not more than this, or they have no room for a name, or for the number of a layer.
MOST_HEADINGS, MOST_NUMBERS = 12, 40
Heading = tuple[str, int]


def heat(strip: HeatStrip) -> str:
    """The strip; the title of each cell has its name and its size."""
    over = "".join(
        '<tr><td class="size"></td>'
        + "".join(f'<th scope="colgroup" colspan="{count}">{escape(name)}</th>' for name, count in headings)
        + "</tr>"
        for headings in _headings(strip.columns)
    )
    rows = "".join(_row(strip, row) for row in strip.rows)
    steps = [strip.least * 10**power for power in range(round(math.log10(strip.most / strip.least)) + 1)]
    scale = "".join(f'<i style="--g:{strip.depth(size):.2f}"></i>' for size in steps)
    return (
        f'<figure class="heat"><figcaption>{escape(strip.title[:1].upper() + strip.title[1:])}</figcaption>'
        f'<div class="wide"><table style="--n:{len(strip.columns)}">'
        f"<thead>{over}</thead><tbody>{rows}</tbody></table></div>"
        f'<p class="scale">{strip.least:g} <span class="{strip.rows[0].tone}">{scale}</span> '
        f"{strip.most:g} {escape(strip.unit)}</p></figure>"
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


def _headings(columns: Sequence[str]) -> list[list[Heading]]:
    """What columns side by side have in common, as deep as names have room; below it the numbers of layers."""
    deepest = max(name.count(".") + 1 for name in columns)
    by_depth = [list(_grouped(columns, depth)) for depth in range(1, deepest + 1)]
    fitting = max((depth for depth, found in enumerate(by_depth) if len(found) <= MOST_HEADINGS), default=-1)
    if fitting < 0:
        return []
    below = by_depth[fitting + 1] if fitting + 1 < deepest else []
    if not 0 < len(below) <= MOST_NUMBERS:
        return [by_depth[fitting]]
    return [by_depth[fitting], [(_last(name, fitting + 2), count) for name, count in below]]


def _grouped(columns: Sequence[str], depth: int) -> Iterator[Heading]:
    for name, group in groupby(".".join(name.split(".")[:depth]) for name in columns):
        yield name, len(list(group))


def _last(name: str, depth: int) -> str:
    """The part of a name that the heading above does not have."""
    parts = name.split(".")
    return parts[-1] if len(parts) == depth else ""
