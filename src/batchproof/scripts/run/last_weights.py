"""A pass's samples scored again with the weights that it ends with: the same batches, the model as it then is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from batchproof.scripts.run.evaluate import called_for_all, unnoticed
from batchproof.scripts.run.formula import Formula, Unmeasured, same_function
from batchproof.scripts.run.pooled import Batches

#: Bytes of inputs that are kept for one pass.
MOST_BYTES = 1 << 30


@dataclass
class BatchInputs:
    """What the batches of a pass were computed from.

    Attributes:
        predict: the function that gives a formula's arguments from them.
        formula: that formula.
        kept: batch by batch.
        problem: why there will be no value.
    """

    predict: Formula
    formula: Formula
    kept: list[tuple[Any, ...]] = field(default_factory=list)
    nbytes: int = 0
    problem: str = ""

    def add(self, predict: Formula, batch: tuple[Any, ...]) -> None:
        """A batch's inputs."""
        if not same_function(predict, self.predict):
            self.problem, self.kept = "batches take different ways through the loop", []
        if self.problem:
            return
        self.kept.append(batch)
        self.nbytes += sum(tensor.nbytes for tensor in batch)
        if self.nbytes > MOST_BYTES:
            self.problem, self.kept = f"the inputs of a pass take more than {MOST_BYTES >> 30} GB", []

    def value(self) -> float:
        """The formula on all samples, with the weights as they are now.

        Raises:
            Unmeasured: it cannot be computed.
        """
        if self.problem:
            raise Unmeasured(self.problem)
        again = Batches(self.formula, None)
        with unnoticed(self.predict, self.kept[0][0]):
            for batch in self.kept:
                found = called_for_all(self.predict, batch)
                again.add([tensor.detach() for tensor in found], [None] * len(found), len(found[0]))
        return again.value()
