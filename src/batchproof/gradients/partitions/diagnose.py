"""From the gradients of a batch's pieces to the cause: each is tried by the numbers, the plainest first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from batchproof.explanation import LossAggregation, Positions, Samples, Units, counts_of, is_share
from batchproof.gradients.partitions.cuts import BatchCut
from batchproof.gradients.partitions.result import CutReading, PartitionCode

#: Two factors are the same, of a loss that computes in double precision.
CLOSE = 1e-4


@dataclass(frozen=True)
class CutEvidence:
    """A cut that changes the loss.

    Attributes:
        cut: How it was cut.
        reading: What it gives.
        shares: For each piece, how often its gradient is in the whole's; None for one that is not in it.
        counted: What each piece counts now: 1/K where pieces are averaged.
        tolerance: Relative difference below which two gradients are the same.
    """

    cut: BatchCut
    reading: CutReading
    shares: tuple[float | None, ...]
    counted: tuple[float, ...]
    tolerance: float

    @property
    def close(self) -> float:
        """Relative difference below which two factors are the same."""
        return max(CLOSE, 5 * self.tolerance)


#: What the pieces should be weighted by, and what that says of them.
OWN: dict[str, PartitionCode] = {
    "tokens": "own-tokens",
    "groups": "own-groups",
    "samples": "own-samples",
    "samples with tokens": "own-samples",
}
#: A cause's code, and the words that its text takes.
Cause = tuple[PartitionCode, dict[str, str]]


def causes_of(
    found: CutEvidence, samples: Samples, positions: Positions | None, units: Units, aggregation: LossAggregation | None
) -> list[Cause]:
    """Why the pieces do not give the whole: a cause, or two that act together."""
    kind = found.cut.kind
    if found.reading.raised or not math.isfinite(found.reading.value):
        return [("undefined", {"what": found.reading.raised or f"the loss is {found.reading.value} on a piece of it"})]
    if math.isnan(found.reading.gradient_off):
        return [("unexplained", {"what": "the loss"})]
    if found.reading.gradient_off <= found.tolerance and kind not in ("order", "padding", "packing"):
        return [("constant-term", {})]
    if kind == "order":
        return [("order", {})]
    if kind in ("padding", "packing"):
        return [_of_layout(found, aggregation)]
    shares = [share for share in found.shares if share is not None]
    if len(shares) < len(found.shares):
        return [("couples", {})]
    wanted = [share / now for share, now in zip(shares, found.counted, strict=True)]
    if _alike(wanted, found.close):
        return [_constant(found, sum(wanted) / len(wanted), aggregation)]
    parts = [piece.rows for rank in found.cut.pieces for piece in rank]
    counts = counts_of(samples, positions, parts, units)
    total = sum(shares)
    fits = [
        name for name, numbers in counts.items() if is_share([s / total for s in shares], numbers, found.close / 10)
    ]
    code = next((code for name, code in OWN.items() if name in fits), None)
    if code is None:
        return [("weights", {})]
    besides = total / sum(found.counted)  # 1 where such pieces are averaged, by whom it may be
    return [(code, {})] if _same(besides, 1, found.close) else [(code, {}), _constant(found, besides, aggregation)]


def _constant(found: CutEvidence, wanted: float, aggregation: LossAggregation | None) -> Cause:
    """All pieces count too much or too little by one factor."""
    ranks, pieces = len(found.cut.pieces), len(found.shares)
    each = pieces // ranks
    large, small = f"{1 / wanted:.4g}", f"{wanted:.4g}"

    def is_one_of(*factors: float) -> bool:
        return any(_same(wanted, factor, found.close) for factor in factors)

    if is_one_of(pieces) and aggregation is not None and aggregation.name in ("token-sum", "sample-sum"):
        return "adds", {"factor": small}
    if found.cut.kind == "rank" and is_one_of(ranks):
        return "ranks-averaged", {"factor": small}
    if found.cut.kind == "rank" and is_one_of(1 / ranks):
        return "rank-factor", {"factor": large}
    if is_one_of(1 / each, 1 / pieces):
        return "missing-division", {"factor": large}
    if is_one_of(each, pieces):
        return "divided-twice", {"factor": small}
    return "constant-factor", {"factor": large}


def _of_layout(found: CutEvidence, aggregation: LossAggregation | None) -> Cause:
    """The same samples with more or less padding, or none."""
    share = found.shares[0]
    by_width = aggregation is not None and aggregation.name == "padded-mean"
    if found.cut.kind == "packing":
        return ("padded-length", {"factor": "another number of"}) if by_width else ("row-for-sequence", {})
    if share is not None and len(found.shares) == 1 and not _same(share, 1, found.close):
        return "padded-length", {"factor": f"{1 / share:.4g}"}
    return ("padded-length", {"factor": "another number of"}) if by_width else ("enters", {})


def _alike(numbers: Sequence[float], close: float) -> bool:
    return max(numbers) - min(numbers) <= close * max(map(abs, numbers))


def _same(one: float, other: float, close: float) -> bool:
    return abs(one - other) <= close * abs(other)
