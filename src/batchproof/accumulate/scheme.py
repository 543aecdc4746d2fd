"""Which way a gradient over micro-batches is made, and why."""

from __future__ import annotations

from dataclasses import dataclass

from batchproof.accumulate.learned import Learned
from batchproof.derive import Plan

#: So many gradient buffers are held at most.
MOST_BUFFERS = 8
NAMES = {
    1: "one pass, gradients scaled at the end",
    2: "one pass, a gradient for each statistic, combined at the end",
    3: "two passes, the first without a graph",
}


@dataclass(frozen=True)
class Scheme:
    """How a gradient over micro-batches was made; prints as a report.

    Attributes:
        number: 1, one pass, gradients scaled at the end; 2, one pass, a gradient for each statistic, combined at the
            end; 3, two passes, the first without a graph.
        reason: why this one.
        statistics: how many numbers the gradient hangs on; 0 where the outputs themselves were kept.
        plan: what was summed over samples, None where the outputs were kept.
        row_nbytes: bytes of outputs kept for each sample, where they were.
    """

    number: int
    reason: str
    statistics: int = 0
    plan: Plan | None = None
    row_nbytes: int = 0

    def __str__(self) -> str:
        kept = f"the outputs are kept: {self.row_nbytes} bytes a sample" if self.plan is None else str(self.plan)
        return f"scheme {self.number}: {NAMES[self.number]}\nbecause {self.reason}\n{kept}"


def choose(learned: Learned, replayable: bool) -> int | None:
    """The cheapest scheme that is exact, or None where micro-batches that come only once do not suffice.

    A backward pass costs about two forward passes, so a plain loop costs 3. Scheme 2 makes a backward pass for each of
    k statistics, 1 + 2k, and scheme 3 a second forward pass, 4: from k = 2 on that is less, where it can be had.
    """
    if learned.fixed_direction:
        return 1
    if replayable:
        return 3
    return 2 if not learned.keeps_rows and learned.statistics <= MOST_BUFFERS else None


def on_statistics(number: int, learned: Learned) -> Scheme:
    """A scheme that was used on what is summed over samples."""
    return Scheme(number, reason(learned), learned.statistics, learned.plan)


def on_outputs(why: str, row_nbytes: int) -> Scheme:
    """The third scheme, used on the outputs themselves."""
    return Scheme(3, why, row_nbytes=row_nbytes)


def reason(learned: Learned) -> str:
    """Why a loss needs the scheme that it needs."""
    count = learned.statistics
    if learned.keeps_rows:
        return "the gradient hangs on a number of each sample, and how much it weighs is known at the end"
    if count == 1:
        return "the gradient hangs on one number, a sum over samples"
    weigh = (
        "which weigh the same against each other on any batch"
        if learned.fixed_direction
        else ("and how much each weighs is known at the end")
    )
    return f"the gradient hangs on {count} sums over samples, {weigh}"
