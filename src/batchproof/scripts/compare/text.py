"""Figures in words and tables: all of one number with the same decimals, and parts whose figures add up."""

from __future__ import annotations

import math
from collections.abc import Sequence

from batchproof.scripts.compare.comparison import ComparedNumber, ComparisonRow

#: Figures beside the largest of a number's values.
DIGITS = 4
MOST_DECIMALS = 9


def decimals_of(found: ComparedNumber) -> int:
    """As many as show the largest value with a few digits; more where the differences would be lost."""
    values = [abs(row.reported.value) for row in found.rows]
    gaps = [abs(row.difference.value) for row in found.rows if row.difference is not None]
    needed = [_decimals(values, DIGITS), _decimals(gaps, 2)]
    return min(MOST_DECIMALS, max(needed[0], min(needed[1], needed[0] + 3)))


def _decimals(values: Sequence[float], digits: int) -> int:
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    # 0.97 has as many decimals as 1.02: numbers of one script mostly lie near each other
    return max(0, digits - 1 - math.floor(math.log10(1.5 * largest))) if largest else 0


def figure(value: float, decimals: int) -> str:
    """A value; a very large one in powers of ten."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return f"{value:.{decimals}f}" if abs(value) < 1e9 else f"{value:.3e}"


def change(value: float, decimals: int) -> str:
    """A value with its sign; ``0`` where all its figures are."""
    text = figure(value, decimals)
    if not math.isfinite(value):
        return text
    if float(text) == 0:
        return "0"
    return text if text.startswith("-") else f"+{text}"


def differences(row: ComparisonRow, first: ComparisonRow, decimals: int) -> tuple[float, list[float]]:
    """The difference and its parts, rounded so that the figures add up: what rounding leaves over goes to the rest.

    The difference is that of the two rounded numbers, which stand above it.
    """
    assert row.difference is not None
    amounts = [part.mean.value for part in row.parts]
    if not all(map(math.isfinite, (row.reported.value, first.reported.value, *amounts))):
        return row.difference.value, amounts
    unit = 10.0**-decimals
    total = round(row.reported.value / unit) - round(first.reported.value / unit)
    counts = [round(amount / unit) for amount in amounts]
    if counts:
        counts[-1] += total - sum(counts)
    return total * unit, [count * unit for count in counts]


def times(factor: float) -> str:
    """``8 times``, ``2.83 times``."""
    return f"{factor:.3g} times"


def is_plural(name: str) -> bool:
    """``losses`` rise, ``loss`` rises."""
    return name.endswith("s") and not name.endswith(("ss", "us", "is"))
