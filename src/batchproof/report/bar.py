"""A bar of blocks, for a table's row in the terminal."""

from __future__ import annotations

SHORTEST_BAR, LONGEST_BAR = 8, 30
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(length: float) -> str:
    """A bar as many characters long, to an eighth of one."""
    full, rest = divmod(round(8 * length), 8)
    return "█" * full + _EIGHTHS[rest].strip()
