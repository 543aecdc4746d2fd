"""Micro-batches: gone through once, twice, or looked at ahead of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from torch import Tensor

from batchproof.errors import BatchproofError


class Source:
    """The micro-batches of one gradient.

    Attributes:
        replayable: whether they can be gone through again.
    """

    def __init__(self, micro_batches: Iterable[Any]) -> None:
        if isinstance(micro_batches, (Tensor, dict, str)) or not isinstance(micro_batches, Iterable):
            raise BatchproofError(
                f"micro_batches must be a list of micro-batches, not {type(micro_batches).__name__}: "
                "batch.split(8) makes one of a tensor"
            )
        self.parts = micro_batches
        self.rest: Iterator[Any] = iter(micro_batches if isinstance(micro_batches, Iterator) else ())
        self.replayable = not isinstance(micro_batches, Iterator)
        self.held: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts) if self.replayable else chain(self.held, self.rest)

    def peek(self) -> Iterator[Any]:
        """The first ones, which will come again."""
        if self.replayable:
            yield from self.parts
            return
        for part in self.rest:
            self.held.append(part)
            yield part
        self.parts, self.replayable = self.held, True
