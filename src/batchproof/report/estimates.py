"""Columns of measured numbers: each to the second digit of its standard error, and what is known beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from batchproof.report.document import Column
from batchproof.report.numbers import MOST_DIGITS, aligned, error_bar, known_to

if TYPE_CHECKING:
    from batchproof.simulation.result import Estimate


def with_error(estimates: Sequence[Estimate], digits: int = MOST_DIGITS) -> Column:
    """The values and one standard error of each."""
    values = aligned([known_to(estimate.value, estimate.standard_error, digits) for estimate in estimates])
    errors = aligned([error_bar(estimate.value, estimate.standard_error, digits) for estimate in estimates])
    return Column("value ± s.e.", tuple(f"{value}{error}" for value, error in zip(values, errors, strict=True)))


def beside(
    title: str, estimates: Sequence[Estimate], pick: Callable[[Estimate], float | None], digits: int = MOST_DIGITS
) -> Column:
    """What is known of them, with as many digits as the values have."""
    texts = []
    for estimate in estimates:
        value = pick(estimate)
        texts.append("" if value is None else known_to(value, estimate.standard_error, digits))
    return Column(title, tuple(text.rstrip() and text for text in aligned(texts)))
