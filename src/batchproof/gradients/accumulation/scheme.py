"""Which way a gradient over micro-batches is made, and why."""

from __future__ import annotations

from dataclasses import dataclass

from batchproof.derive import Plan
from batchproof.gradients.accumulation.analysis import LossAnalysis
from batchproof.ground.text import size_of

NAMES = {
    1: "one pass, gradients scaled at the end",
    2: "one pass, several gradients, combined at the end",
    3: "two passes, the first without a graph",
}


@dataclass(frozen=True, repr=False)
class Scheme:
    """How a gradient over micro-batches was made; prints as a report.

    Attributes:
        number: 1, one pass, gradients scaled at the end; 2, one pass, several gradients, combined at the end; 3, two
            passes, the first without a graph.
        reason: why this one.
        statistics: how many sums the gradient depends on; 0 where the outputs themselves were kept.
        directions: how many gradient buffers scheme 2 holds; 1 for scheme 1, 0 where there are too many.
        plan: what was summed over samples, None where the outputs were kept.
        row_nbytes: bytes of outputs kept for each sample, where they were.
    """

    number: int
    reason: str
    statistics: int = 0
    directions: int = 0
    plan: Plan | None = None
    row_nbytes: int = 0

    def __repr__(self) -> str:
        return f"<Scheme {self.number}: {NAMES[self.number]}>"

    def __str__(self) -> str:
        kept = f"the outputs: {size_of(self.row_nbytes)} a sample" if self.plan is None else str(self.plan)
        return f"scheme {self.number}: {NAMES[self.number]}\n  why       {self.reason}\n  keeps     {kept}"


def choose(analysis: LossAnalysis, replayable: bool) -> int | None:
    """The cheapest scheme that is exact, or None where micro-batches that come only once do not suffice.

    A backward pass costs about two forward passes, so a plain loop costs 3. Scheme 2 makes a backward pass for each of
    k directions, 1 + 2k, and scheme 3 a second forward pass, 4: from k = 2 on that is less, where it can be had.
    """
    directions = 0 if analysis.directions is None else len(analysis.directions)
    if directions == 1:
        return 1
    if replayable:
        return 3
    return 2 if directions else None


def on_statistics(number: int, analysis: LossAnalysis) -> Scheme:
    """A scheme that was used on what is summed over samples."""
    directions = 0 if analysis.directions is None else len(analysis.directions)
    return Scheme(number, reason(analysis), analysis.statistics, directions, analysis.plan)


def on_outputs(why: str, row_nbytes: int) -> Scheme:
    """The third scheme, used on the outputs themselves."""
    return Scheme(3, why, row_nbytes=row_nbytes)


def reason(analysis: LossAnalysis) -> str:
    """Why a loss needs the scheme that it needs."""
    count = analysis.statistics
    if analysis.keeps_rows:
        return "the gradient depends on a number of each sample, and how much it weighs is known at the end"
    if count == 1:
        return "the gradient depends on one number, a sum over samples"
    sums = f"the gradient depends on {count} sums over samples"
    if analysis.directions is None:
        return f"{sums}, and how much each weighs is known at the end"
    directions = len(analysis.directions)
    if directions == 1:
        return f"{sums}, which weigh the same against each other on any batch"
    return f"{sums}, whose weights are known at the end and vary in {directions} directions"
