"""A heat strip as a table of a page: one row for each change, one small cell for each column, no script."""

from __future__ import annotations

import math
from html import escape

from batchproof.report.document import HeatRow, HeatStrip
from batchproof.report.heat_layout import headings


def heat(strip: HeatStrip) -> str:
    """The strip; the title of each cell has its name and its size."""
    over = "".join(
        '<tr><td class="size"></td>'
        + "".join(f'<th scope="colgroup" colspan="{count}">{escape(name)}</th>' for name, count in level)
        + "</tr>"
        for level in headings(strip.columns)
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
