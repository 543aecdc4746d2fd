"""What ``check_partitions`` found, as plain frozen data.  Nothing here measures anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from batchproof.explanation import Finding, LossAggregation
from batchproof.ground.place import Place
from batchproof.report.result import Result

#: How a batch is cut: into another order, into micro-batches of equal and of other sizes, over ranks, with more or less
#: padding, without any in packed rows.
CutKind = Literal["order", "micro-batch", "uneven", "rank", "padding", "packing"]
#: The reasons why a loss depends on how its batch is cut.
PartitionCode = Literal[
    "adds", "constant-factor", "constant-term", "couples", "divided-twice", "enters", "missing-division", "order",
    "own-groups", "own-samples", "own-tokens", "padded-length", "rank-factor", "ranks-averaged", "row-for-sequence",
    "undefined", "unexplained", "weights",
]  # fmt: skip


@dataclass(frozen=True)
class CutReading:
    """What one way of cutting the batch gives.

    Attributes:
        cut: Which kind of cut it is.
        how: The pieces, in words.
        value: The loss, put together from the pieces.
        value_off: Its difference from the loss on the whole batch, as a fraction of it.
        gradient_off: Norm of the difference of the gradients, as a fraction of the whole's; NaN where there is none.
        is_same: Whether both are equal up to rounding.
        weights: By rank and micro-batch, what each piece's loss would have to be multiplied by for the sum to be the
            loss on the whole batch; empty where no such weights exist.
        raised: What the loss raised on a piece; empty where it raised nothing.
    """

    cut: CutKind
    how: str
    value: float
    value_off: float
    gradient_off: float
    is_same: bool
    weights: tuple[tuple[float, ...], ...] = ()
    raised: str = ""


@dataclass(frozen=True, repr=False)
class PartitionCheck(Result):
    """Does a loss, or its gradient, depend on how its batch is cut; if so, by which cut, why, and what to do.

    >>> import batchproof, torch
    >>> def token_mean(losses, mask):
    ...     return (losses * mask).sum() / mask.sum()
    >>> mask = (torch.arange(6) < torch.tensor([[2], [6], [3], [4]])).float()
    >>> found = batchproof.check_partitions(token_mean, (torch.randn(4, 6), mask))
    >>> found.ok, found.cause, found.broken
    (False, 'own-tokens', ('micro-batch', 'uneven', 'rank'))
    >>> found.aggregation.name          # print(found) is the report
    'token-mean'

    Attributes:
        target: The loss.
        place: Where it is defined; None where no line is known.
        ok: Whether no cut that was tried changes it.
        summary: The answer in a sentence.
        findings: The causes, by the cuts that show them.
        readings: For each kind of cut the first that changes the loss, or the last that was tried.
        aggregation: How the loss makes one number of the tokens of its samples; None where that could not be told.
        value: The loss on the whole batch.
        samples: How many samples it has.
        tolerance: Relative difference below which two gradients are the same.
        not_tried: Kinds of cuts that could not be tried, and why.
        notes: What else to know.
        calls: How often the loss was called.
    """

    target: str
    place: Place | None
    ok: bool
    summary: str
    findings: tuple[Finding[PartitionCode], ...]
    readings: tuple[CutReading, ...]
    aggregation: LossAggregation | None
    value: float
    samples: int
    tolerance: float
    not_tried: dict[str, str]
    notes: tuple[str, ...] = ()
    calls: int = 0
    SCHEMA: ClassVar[str] = "batchproof/check-partitions/1"
    DERIVED: ClassVar[dict[str, Any]] = {"cause": PartitionCode | None, "broken": tuple[CutKind, ...]}

    @property
    def cause(self) -> PartitionCode | None:
        """The code of the first finding, such as ``"own-tokens"``; None where no cut changes the loss."""
        return self.findings[0].code if self.findings else None

    @property
    def broken(self) -> tuple[CutKind, ...]:
        """The kinds of cuts that change it."""
        return tuple(reading.cut for reading in self.readings if not reading.is_same)
