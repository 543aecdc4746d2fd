"""What a value does when batches are joined."""

from __future__ import annotations

from enum import Enum

from typing_extensions import assert_never

from batchproof.derive.merge import MERGES, ROWS, SUM, Merge


class Kind(Enum):
    """What a recorded value does when batches are joined.

    Batch statistics (sums, extrema, stats) are held at the whole's value.  So rows and sums are such *given* those
    statistics, which the value lists.  That is a fact of the dataflow, never of the values: a mask that happens to be
    all ones, or a branch of a ``where`` not yet taken, is conditional all the same.
    """

    SHARED = "shared"
    """No sample reaches it."""
    ROWS = "rows"
    """The pieces' values concatenate."""
    BLOCKS = "blocks"
    """Several such rows, one after another: two for ``cat([x, y])``."""
    SUM = "sum"
    """The pieces' values add."""
    MAX = "max"
    """The largest of the pieces' values."""
    MIN = "min"
    """The smallest of the pieces' values."""
    ANY = "any"
    """Whether it holds for any of the pieces."""
    ALL = "all"
    """Whether it holds for all of the pieces."""
    STAT = "stat"
    """A function of such merged values and of shared ones."""
    INDEX = "index"
    """Positions in the batch."""
    BAG = "bag"
    """The pieces' values concatenate, up to their order."""
    SET = "set"
    """The pieces' values concatenate, up to order and repetition."""
    OPAQUE = "opaque"
    """None of these: it mixes samples."""


#: The pieces' values merge to a value of the same shape.
MERGEABLE = (Kind.SUM, Kind.MAX, Kind.MIN, Kind.ANY, Kind.ALL)
#: Samples lie along a dimension.
ROWLIKE = (Kind.ROWS, Kind.BLOCKS, Kind.INDEX, Kind.BAG, Kind.SET, Kind.OPAQUE)
#: Of each sample on its own, in the samples' order.
ORDERED = (Kind.ROWS, Kind.BLOCKS)
#: A selection of such has a length that adds over batches.
COUNTED = (Kind.ROWS, Kind.INDEX, Kind.BAG)


def merge_of(kind: Kind) -> Merge:
    """How values of a kind become one, where they are kept."""
    match kind:
        case Kind.SUM | Kind.MAX | Kind.MIN | Kind.ANY | Kind.ALL:
            return MERGES[kind.value]
        case Kind.STAT:
            return SUM  # kept only where it is linear in sums
        case Kind.ROWS:
            return ROWS
        case Kind.SHARED | Kind.BLOCKS | Kind.INDEX | Kind.BAG | Kind.SET | Kind.OPAQUE:
            raise ValueError(f"{kind.value} cannot be kept")
    assert_never(kind)
