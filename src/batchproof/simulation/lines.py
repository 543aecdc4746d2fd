"""A Simulation as a page of text: the question's two tables, side by side where there is room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from batchproof.report import page
from batchproof.report.bar import LONGEST_BAR, SHORTEST_BAR, bar
from batchproof.report.document import Column, Group, Sheet
from batchproof.report.grid import BETWEEN_COLUMNS, BETWEEN_GROUPS, body, margin_of, packed, width_of
from batchproof.simulation import wording as about
from batchproof.simulation.document import RATIO, sheet

if TYPE_CHECKING:
    from batchproof.simulation.result import Simulation


def lines(simulation: Simulation, width: int) -> Iterator[Text]:
    """The report, line by line."""
    state = None if simulation.depends is None else not simulation.depends
    yield from page.head(simulation.target, simulation.place, simulation.headline, state, width)
    table = _with_bars(simulation, width)
    yield from body(about.at_marked_row(simulation), about.drawn(simulation), table, about.asides(simulation), width)
    yield from page.code("use", about.remedy(simulation), width)


def _with_bars(simulation: Simulation, width: int) -> Sheet:
    """The table, and in what room is left beside the ratio a bar for each row: how far the mean reads off."""
    plain = sheet(simulation)
    last = packed(plain, width)[-1]
    room = width - margin_of(plain) - sum(map(width_of, last)) - BETWEEN_GROUPS * (len(last) - 1) - BETWEEN_COLUMNS
    shares = [abs(row.shortfall) if row.shortfall == row.shortfall else 0.0 for row in simulation.rows]
    if last[-1].title != RATIO or room < SHORTEST_BAR or not max(shares, default=0.0) > 0:
        return plain
    longest = min(room, LONGEST_BAR)
    bars = Column("", tuple(bar(longest * share / max(shares)).ljust(longest) for share in shares))
    return Sheet(plain.sizes, (*plain.groups[:-1], Group(RATIO, (*plain.groups[-1].columns, bars))), plain.marked)
