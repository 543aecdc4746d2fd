"""A GradientNoise as a page of text: a table with a row for each batch size, and bars for the cosine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from batchproof.gradients.noise import wording as about
from batchproof.gradients.noise.document import sheet, state_of
from batchproof.report import page
from batchproof.report.bar import LONGEST_BAR, SHORTEST_BAR, bar
from batchproof.report.document import Column, Sheet
from batchproof.report.grid import BETWEEN_COLUMNS, BETWEEN_GROUPS, body, margin_of, width_of

if TYPE_CHECKING:
    from batchproof.gradients.noise.result import GradientNoise


def lines(found: GradientNoise, width: int) -> Iterator[Text]:
    """The report, line by line."""
    yield from page.head(found.target, found.place, found.headline, state_of(found), width)
    yield from body(
        about.at_marked_row(found), about.drawn(found), _with_bars(found, width), about.asides(found), width
    )


def _with_bars(found: GradientNoise, width: int) -> Sheet:
    """The table, and in what room is left a bar for each row: a full one is a batch that is as good as all samples.

    Where there is no room for bars, what is known only roughly makes way for them.
    """
    for with_rough in (True, False):
        plain = sheet(found, with_rough)
        wide = sum(map(width_of, plain.groups)) + BETWEEN_GROUPS * (len(plain.groups) - 1)
        room = width - margin_of(plain) - wide - BETWEEN_COLUMNS
        if room >= SHORTEST_BAR:
            longest = min(room, LONGEST_BAR)
            shares = [row.progress if math.isfinite(row.progress) else 0.0 for row in found.rows]
            bars = Column("", tuple(bar(longest * min(share, 1.0)).ljust(longest) for share in shares))
            last = plain.groups[-1]
            return replace(plain, groups=(*plain.groups[:-1], replace(last, columns=(*last.columns, bars))))
    return plain
