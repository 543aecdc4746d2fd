"""What a run may be asked to hold fixed: plain data that crosses processes.  Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What evaluation can be made to do right although the script does not: leave no samples out, and leave no statistics
#: of the batch in the model.
Repair = Literal["tail", "statistics"]


@dataclass(frozen=True)
class Control:
    """What is changed about a run.  Without any of it the script runs as it is.

    Attributes:
        batch_size: of every ``DataLoader`` that the script builds.
        seed: of torch, Python and NumPy before the script's first line.
        updates: optimizer steps in the first pass over a training loader, in the second, and so on; the last number
            holds for all that follow. A loader that ends before starts anew; where it is longer, later steps change
            nothing.
        learning_rate: what every step's learning rate is multiplied by.
        repairs: what evaluation is made to do right.
        last_weights: also score each pass's samples with the weights that it ends with, at the price of a second
            forward pass.
        report: a variable, or a key of a log, whose last value is wanted.
    """

    batch_size: int | None = None
    seed: int | None = None
    updates: tuple[int, ...] = ()
    learning_rate: float = 1.0
    repairs: tuple[Repair, ...] = ()
    last_weights: bool = False
    report: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the script's own numbers stay what they are."""
        return (self.batch_size, self.seed, self.updates, self.learning_rate, self.repairs) == (None, None, (), 1.0, ())
