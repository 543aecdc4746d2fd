"""What is refused at the end: the function does something on all samples that the folds knew nothing of."""

from __future__ import annotations

from batchproof.errors import BatchproofError


class Diverged(BatchproofError):
    """The function does something else on all samples than what was folded batch by batch."""


class DigitsLost(Diverged):
    """A centred sum cancels to fewer digits than the result needs."""

    def __init__(self) -> None:
        super().__init__(
            "too few digits are left in a sum around a batch statistic: the samples lie too far from the first "
            "batch's, are all alike, or one is infinite; use state='rows' to keep them"
        )
