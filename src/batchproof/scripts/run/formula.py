"""What a batch adds, as a function of some of the values that a loop computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Unmeasured(Exception):
    """Why there is no function to measure, as half a sentence."""


@dataclass
class Formula:
    """What a batch adds, as a function of some of the values that were kept.

    Attributes:
        numbers: the expressions that were evaluated on the way, in order: a batch that has the same is of this formula.
        arguments: where the function's arguments are among the kept values.
        fixed: where values are that must be the same for every batch, and what they are.
        function: the function.
        text: its body; two formulas of one text and the same fixed values are one function.
        names: the arguments as the script has them.
        uses_model: whether one of them came out of a model.
        is_sum: whether the value of a batch taken twice is twice its value; None before that was tried.
        broadcasts: the shapes (B, 1) and (B,) of arguments that meet each other; None before that was tried.
        ordered: whether the order of the samples counts; None before that was tried.
        pair_bytes: bytes that a call makes for each pair of samples; None before that was tried.
    """

    numbers: list[int]
    arguments: tuple[int, ...]
    fixed: tuple[tuple[int, Any], ...]
    function: Callable[..., Any]
    text: str
    names: tuple[str, ...] = ()
    uses_model: bool = False
    is_sum: bool | None = None
    broadcasts: str | None = None
    ordered: bool | None = None
    pair_bytes: float | None = None


def same_function(one: Formula, other: Formula) -> bool:
    """Whether two formulas compute the same from their arguments."""
    return one.text == other.text and all(
        a is b or (isinstance(a, (int, float, str)) and a == b)
        for (_, a), (_, b) in zip(one.fixed, other.fixed, strict=True)
    )
