"""Measured numbers and columns of them: each to the second digit of its standard error, and what is known beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchproof.report.document import Column, Tone
from batchproof.report.numbers import MOST_DIGITS, aligned, error_bar, known_to


@dataclass(frozen=True)
class Estimate:
    """A simulated number, its standard error, and what it should be where that is known.

    Attributes:
        value: In the unit that the function gives.
        standard_error: In the same unit.
        expected: What theory gives; None where nothing is known.
        published: What was published; None where nothing was.
    """

    value: float
    standard_error: float
    expected: float | None = None
    published: float | None = None

    @property
    def deviations(self) -> float | None:
        """How many standard errors the value lies from what is expected."""
        if self.expected is None or not self.standard_error > 0:
            return None
        return (self.value - self.expected) / self.standard_error


def with_error(estimates: Sequence[Estimate], digits: int = MOST_DIGITS) -> Column:
    """The values and one standard error of each."""
    values = aligned([known_to(estimate.value, estimate.standard_error, digits) for estimate in estimates])
    errors = aligned([error_bar(estimate.value, estimate.standard_error, digits) for estimate in estimates])
    return Column("value ± s.e.", tuple(f"{value}{error}" for value, error in zip(values, errors, strict=True)))


def beside(
    title: str,
    estimates: Sequence[Estimate],
    pick: Callable[[Estimate], float | None],
    digits: int = MOST_DIGITS,
    tone: Tone = "plain",
) -> Column:
    """What is known of them, with as many digits as the values have."""
    texts = []
    for estimate in estimates:
        value = pick(estimate)
        texts.append("" if value is None else known_to(value, estimate.standard_error, digits))
    return Column(title, tuple(text.rstrip() and text for text in aligned(texts)), tone)
