"""Which way a gradient over micro-batches is made, and why."""

from __future__ import annotations

from dataclasses import dataclass

from batchproof.accumulate.learned import Learned

#: So many gradient buffers are held at most.
MOST_BUFFERS = 8


@dataclass(frozen=True)
class Scheme:
    """How `accumulate` came to a gradient; prints as a report.

    Attributes:
        number: 1, one pass, gradients scaled at the end; 2, one pass, a gradient for each statistic, combined at the
            end; 3, two passes, the first without a graph.
        name: the same in a few words.
        reason: why no cheaper scheme is exact.
        statistics: how many numbers the gradient hangs on; 0 where the outputs themselves are kept.
        kept: what is kept over the micro-batches, a line each: how it merges, what, and the line that it comes from.
        nbytes: bytes of the merged state.
        row_nbytes: bytes kept for each sample.
    """

    number: int
    name: str
    reason: str
    statistics: int
    kept: tuple[str, ...]
    nbytes: int
    row_nbytes: int

    def __str__(self) -> str:
        from batchproof.report.about_scheme import scheme_text

        return scheme_text(self)


def choose(learned: Learned | str, replayable: bool) -> int | None:
    """The cheapest scheme that is exact, or None where micro-batches that come only once do not suffice.

    A backward pass costs twice a forward pass. Scheme 2 makes one for each statistic and so costs (1 + 2k) / 3 of a
    plain loop, scheme 3 with its second forward pass 4 / 3: from k = 2 on the second is cheaper, where it can be had.
    """
    if isinstance(learned, Learned) and learned.fixed_direction:
        return 1
    if replayable:
        return 3
    few = isinstance(learned, Learned) and not learned.keeps_rows and learned.statistics <= MOST_BUFFERS
    return 2 if few else None


NAMES = {
    1: "one pass, gradients scaled at the end",
    2: "one pass, a gradient for each statistic, combined at the end",
    3: "two passes, the first without a graph",
}


def described(number: int, learned: Learned | str, row_nbytes: int = 0) -> Scheme:
    """The scheme that was used, in words."""
    if isinstance(learned, str):
        return Scheme(3, NAMES[3], f"the outputs are kept: {learned}", 0, (), 0, row_nbytes)
    plan = learned.plan
    kept = tuple(f"{leaf.merge} of {leaf.what}, at {leaf.site}" for leaf in plan.leaves)
    return Scheme(
        number, NAMES[number], _reason(number, learned), learned.statistics, kept, plan.nbytes, plan.row_nbytes
    )


def _reason(number: int, learned: Learned) -> str:
    count = learned.statistics
    if number == 1:
        if count == 1:
            return "the gradient hangs on one number, a sum over samples"
        return f"the gradient hangs on {count} sums over samples, which always weigh the same against each other"
    if learned.keeps_rows:
        return "a number of each sample is kept: how much it weighs is known at the end"
    return f"the gradient hangs on {count} sums over samples, and how much each weighs is known at the end"
