"""One number that a run reports, with what else could have been reported of the same batches."""

from __future__ import annotations

from dataclasses import dataclass

from batchproof.ground.place import Place
from batchproof.scripts.run import Phase


@dataclass(frozen=True)
class PassReading:
    """One reported number of one pass over a loader, and what else could have been reported of the same batches.

    Attributes:
        name: as the script calls it: ``"train_loss"``.
        phase: whether the weights changed on the way.
        epoch: which of the script's passes, from 1 on.
        place: the statement that adds a batch.
        reported: the number that the script computed.
        averaged: the batches' own values, averaged with the script's weights: equal ones where it has none.
        weighted: the same, averaged by how many samples each batch has.
        exact: the function on all predictions together; None where it has no exact value.
        settled: exact, on the same samples with the weights as they are after the pass; None where it was not measured.
        batches: how many.
        samples: how many.
        dataset: how many samples the loader's data has; None where that is not known.
        why: why the mean of batches is something else than the exact value, as half a sentence.
        cause: the line that makes it so.
        remedy: what to write instead.
        no_exact: why there is no exact value.
        updates: optimizer steps on the way.
        is_named: whether it is a variable's or a key's value that was asked for, and no average that was recognised.
        aliases: all that it goes by.
        is_sum: whether a batch's value is a sum over its samples.
        trains_on_sum: whether the loss that is trained on, of which this is a multiple, is a sum over the batch.
    """

    name: str
    phase: Phase
    epoch: int
    place: Place | None
    reported: float
    averaged: float | None = None
    weighted: float | None = None
    exact: float | None = None
    settled: float | None = None
    batches: int = 0
    samples: int = 0
    dataset: int | None = None
    why: str = ""
    cause: Place | None = None
    remedy: str = ""
    no_exact: str = ""
    is_sum: bool = False
    trains_on_sum: bool = False
    updates: int = 0
    aliases: tuple[str, ...] = ()
    is_named: bool = False

    @property
    def left_out(self) -> int:
        """Samples of the data that were not scored."""
        return max(0, (self.dataset or 0) - self.samples)
