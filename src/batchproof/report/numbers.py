"""Numbers as a reader wants them: as many digits as tell the values apart, and no more."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

#: Nobody reads more.
MOST_DIGITS = 8
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def decimals_for(values: Iterable[float], digits: int = 4) -> int:
    """Decimals that show the largest of these values with this many significant digits."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return max(0, digits - 1 - math.floor(math.log10(largest))) if largest else digits - 1


def number(value: float, decimals: int) -> str:
    """A value with a fixed number of decimals; very large and very small ones in powers of ten."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value and (abs(value) >= 1e6 or decimals > 6 or abs(value) * 10**decimals >= 1e8):
        return f"{value:.3e}"
    return f"{value:.{decimals}f}"


def known_to(value: float, standard_error: float, most: int = MOST_DIGITS) -> str:
    """A value to the second digit of its standard error: ``99.93`` for 0.71."""
    if not (math.isfinite(value) and math.isfinite(standard_error) and standard_error > 0):
        return number(value, decimals_for([value], 5))
    decimals = 1 - math.floor(math.log10(standard_error))
    before = 1 + math.floor(math.log10(abs(value))) if value else 1
    decimals = min(decimals, most - before)
    if before > 6 or decimals > most:
        return f"{value:.{min(most, max(1, before + decimals - 1))}e}"
    return f"{value:.{max(0, decimals)}f}"


def error_bar(value: float, standard_error: float, most: int = MOST_DIGITS) -> str:
    """`` ± 0.71``, as `known_to` writes the value; empty where there is none."""
    if not (math.isfinite(standard_error) and standard_error > 0):
        return ""
    written = known_to(value, standard_error, most).partition(".")[2]
    fits = standard_error >= 1e-5 and "e" not in written and len(written) >= 1 - math.floor(math.log10(standard_error))
    return f" ± {known_to(standard_error, standard_error) if fits else f'{standard_error:.1e}'}"


def aligned(texts: Sequence[str]) -> list[str]:
    """Texts of one width: decimal points below each other, words and powers of ten at the right."""
    tails = [_after_the_units(text) for text in texts]
    longest = max((tail for tail in tails if tail is not None), default=0)
    padded = [text if tail is None else text + " " * (longest - tail) for text, tail in zip(texts, tails, strict=True)]
    width = max(map(len, padded), default=0)
    return [text.rjust(width) for text in padded]


def _after_the_units(text: str) -> int | None:
    """The characters behind the last digit before the decimal point; None for what is no plain number."""
    plain = re.fullmatch(r"\D*[\d,]+((?:\.\d+)?%?)", text)
    return len(plain[1]) if plain else None


def is_drawable(value: float) -> bool:
    """Whether it is a number with which one can reckon: not infinite, and not near that."""
    return abs(value) < 1e300


def within_sight(values: Sequence[float], centre: float, floor: float = 0.0) -> list[bool]:
    """Which values to show: not a few that are so far off that the others would lie on one line.

    Gaps below ``floor`` are rounding: beside them everything is far.
    """
    gaps = [abs(value - centre) for value in values]
    telling = sorted(gap for gap in gaps if gap > floor)
    usual = telling[len(telling) // 2] if telling else 0.0
    near = [not usual or gap <= 500 * usual for gap in gaps]
    return near if sum(near) > 2 else [True] * len(gaps)


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


def share(error: float) -> str:
    """A relative error without its sign: ``17.6%``, ``0.02%``, ``12 times its size``."""
    if not error < 10:
        return f"{error:,.0f} times its size" if error < 1e6 else f"{error:.0e} times its size"
    if error < 1e-5:
        return f"{error:.0e} of its size"
    return f"{error:.1%}" if error >= 1e-3 else f"{error:.2%}" if error >= 1e-4 else f"{error:.3%}"


def too_low_or_high(error: float, standard_error: float = 0.0) -> str:
    """A relative error in words: ``1.0% too low``, ``1.0% too low, ± 0.2%`` where there is an error bar to speak of."""
    bar = f" ± {share(standard_error)}" if standard_error > 0.05 * abs(error) else ""
    if abs(error) < 2 * standard_error:
        return f"within its noise of the value on all samples: {error:+.2%}{bar}"
    return f"{share(abs(error))} too {'low' if error < 0 else 'high'}{',' if bar else ''}{bar}"


def off_by(gaps: Sequence[tuple[int, float]]) -> str:
    """How far averages over batches are off: ``1.0% too low at batch size 16, 0.3% at 64 (18.9% at 1)``.

    Args:
        gaps: Batch sizes, and the relative error at each. That of single samples comes last: nobody trains with them.
    """
    (first, gap), *others = sorted(gaps, key=lambda pair: pair[0] == 1)
    if len({gap > 0 for _, gap in gaps}) == 2:
        return ", ".join(f"{too_low_or_high(gap)} at batch size {size(count)}" for count, gap in gaps)
    usual = "".join(f", {share(abs(gap))} at {size(count)}" for count, gap in others if count > 1)
    single = "".join(f" ({share(abs(gap))} at 1)" for count, gap in others if count == 1)
    return f"{too_low_or_high(gap)} at batch size {size(first)}{usual}{single}"


def size(count: int) -> str:
    """A batch size: ``442``, ``100,000``, ``1e12``."""
    if count < 1_000_000:
        return f"{count:,}"
    mantissa, exponent = f"{count:.2e}".split("e")
    short = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return short if int(float(short)) == count else f"{count:,}"


def size_on_axis(count: int) -> str:
    """A batch size below an axis: ``442``, ``10⁶``."""
    text = size(count)
    mantissa, power, exponent = text.partition("e")
    if not power:
        return text
    raised = "10" + exponent.translate(_SUPERSCRIPT)
    return raised if mantissa == "1" else f"{mantissa}·{raised}"
