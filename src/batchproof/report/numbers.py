"""Numbers as a reader wants them: as many digits as tell the values apart, and no more."""

from __future__ import annotations

import math
from collections.abc import Iterable


def decimals_for(values: Iterable[float], digits: int = 4) -> int:
    """Decimals that show the largest of these values with so many significant digits."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return max(0, digits - 1 - math.floor(math.log10(largest))) if largest else digits - 1


def number(value: float, decimals: int) -> str:
    """A value with a fixed number of decimals; very large and very small ones in powers of ten."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value and (abs(value) >= 1e6 or decimals > 6 or abs(value) * 10**decimals >= 1e8):
        return f"{value:.3e}"
    return f"{value:.{decimals}f}"


def percent(share: float) -> str:
    """A relative error: ``-17.6%``, ``-0.02%``, ``0`` where there is none."""
    if not math.isfinite(share):
        return ""
    size = abs(share)
    if size < 5e-6:
        return "0"
    if size >= 10:
        return f"{share:+,.0f}x" if size < 1e5 else f"{share:+.0e}x"
    return f"{share:+.1%}" if size >= 9.5e-4 else f"{share:+.2%}" if size >= 9.5e-5 else f"{share:+.3%}"
