"""Whole numbers that a caller asks for: batch sizes, counts, seeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from batchproof.errors import BatchproofError


def whole(value: Any, what: str, least: int | None) -> int:
    """A whole number, whatever type it came in.

    Raises:
        BatchproofError: it is none, or less than allowed.
    """
    try:
        number = int(value)
        fits = number == value and not isinstance(value, bool) and (least is None or number >= least)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        least_text = "" if least is None else f" from {least} on"
        raise BatchproofError(f"{what} must be a whole number{least_text}, not {value!r}")
    return number


def sizes_of(given: Any, to: str) -> set[int]:
    """One batch size or several.

    Raises:
        BatchproofError: there is none, or one is no whole number from 1 on.
    """
    is_one = not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0
    sizes = {whole(size, "a batch size", 1) for size in ([given] if is_one else given)}
    if not sizes:
        raise BatchproofError(f"there is no batch size to {to}: give at least one")
    return sizes
