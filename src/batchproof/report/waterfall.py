"""A waterfall as lines of text: a row for each part, and its bar to the left or to the right of one axis."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from batchproof.report.bar import LONGEST_BAR, SHORTEST_BAR, bar
from batchproof.report.document import Waterfall, WaterfallPart
from batchproof.report.grid import STYLE
from batchproof.report.page import beginning

MARGIN, GAP = 2, 2
#: A label may take this part of the line.
LABEL_SHARE = 2
AXIS = "│"


def waterfall_lines(waterfall: Waterfall, width: int) -> Iterator[Text]:
    """The parts below the difference that they add up to, with bars where a line has room for them."""
    parts = waterfall.parts
    kinds = [part.kind if not index or parts[index - 1].kind != part.kind else "" for index, part in enumerate(parts)]
    kind_width = max(map(len, kinds), default=0)
    labels = [beginning(part.label, width // LABEL_SHARE) for part in parts]
    label_width = max(len(waterfall.title) - kind_width - GAP, *map(len, labels))
    figures = _figures(waterfall, width - MARGIN - kind_width - label_width - 3 * GAP - SHORTEST_BAR - len(AXIS))
    used = MARGIN + kind_width + GAP + label_width + GAP + len(figures[0])
    title = waterfall.title.ljust(kind_width + GAP + label_width)
    yield Text.assemble(" " * MARGIN, (f"{title}{' ' * GAP}{figures[0]}", "bold"))
    bars = _bars(parts, width - used - GAP)
    for part, kind, label, figure, drawn in zip(parts, kinds, labels, figures[1:], bars, strict=True):
        style = STYLE[part.tone]
        yield Text.assemble(
            " " * MARGIN,
            (kind.ljust(kind_width + GAP), f"bold {style}".strip()),
            (f"{label.ljust(label_width)}{' ' * GAP}{figure}{' ' * GAP}{drawn}", style),
        )


def _figures(waterfall: Waterfall, room: int) -> list[str]:
    """The difference and its parts, with error bars where there is room for them beside the drawn ones."""
    amounts = [waterfall.total, *(part.amount for part in waterfall.parts)]
    errors = [waterfall.error, *(part.error for part in waterfall.parts)]
    longest, widest = max(map(len, amounts)), max(map(len, errors))
    if not widest or longest + len(" ± ") + widest > room:
        return [amount.rjust(longest) for amount in amounts]
    told = [f" ± {error.rjust(widest)}" if error else " " * (widest + 3) for error in errors]
    return [amount.rjust(longest) + error for amount, error in zip(amounts, told, strict=True)]


def _bars(parts: tuple[WaterfallPart, ...], room: int) -> list[str]:
    """A bar for each part, as long as its share of the longest; none where there is no room for them."""
    below = max((-part.value for part in parts), default=0.0)
    above = max((part.value for part in parts), default=0.0)
    below, above = max(below, 0.0), max(above, 0.0)
    room = min(room - len(AXIS), LONGEST_BAR)
    if room < SHORTEST_BAR or not below + above > 0:
        return [""] * len(parts)
    left = round(room * below / (below + above))
    if below > 0:
        left = max(left, 1)
    scale = min(left / below if below else float("inf"), (room - left) / above if above else float("inf"))
    return [_around_the_axis(part.value * scale, left) for part in parts]


def _around_the_axis(length: float, left: int) -> str:
    """A bar on its side of the axis; blocks that begin at the right come in halves only."""
    if length >= 0:
        return " " * left + AXIS + bar(length)
    full, rest = divmod(round(-2 * length), 2)
    return ("▐" * rest + "█" * full).rjust(left) + AXIS
