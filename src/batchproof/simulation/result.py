"""What ``simulate`` found, as plain frozen data.  Nothing here draws anything, and nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from batchproof.ground.place import Place
from batchproof.report.estimates import Estimate
from batchproof.report.result import Result

#: A difference of fewer standard errors may be noise.
CLEAR = 4.0
#: How the values of batches came about.
How = Literal["drawn", "direct", "called"]
#: What the expected values come from; empty where none are known.
ExpectedBy = Literal["closed form", "integral", ""]


@dataclass(frozen=True)
class SimulationRow:
    """One batch size.

    Attributes:
        size: Samples in a batch.
        batches: How many batches were drawn.
        pooled: The value on all samples of all batches together.
        mean: The mean of the batches' own values.
        ratio: ``mean`` as a fraction of ``pooled``.
        how: ``"drawn"``: every sample was drawn, and all batches computed at once. ``"called"``: every sample was
            drawn, and the function called on each batch. ``"direct"``: the state of a batch was drawn from its own
            distribution.
        undefined: Batches that gave NaN or raised; ``mean`` leaves them out.
        pooled_samples: On how many samples ``pooled`` was taken: fewer than all where a function keeps its samples.
        difference: ``mean`` less ``pooled``.
    """

    size: int
    batches: int
    pooled: Estimate
    mean: Estimate
    ratio: Estimate
    how: How
    undefined: int = 0
    pooled_samples: int = 0
    difference: Estimate = field(default_factory=lambda: Estimate(math.nan, math.nan))
    DERIVED: ClassVar[dict[str, Any]] = {"shortfall": float}

    @property
    def is_near_zero(self) -> bool:
        """Whether the pooled value may be 0 for its noise: a fraction of it says nothing then, a difference does."""
        noise = CLEAR * self.pooled.standard_error
        is_known = self.ratio.expected is not None or not math.isfinite(self.difference.value)
        return not is_known and abs(self.pooled.value) <= noise

    @property
    def shortfall(self) -> float:
        """How far the mean lies below the pooled value, as a fraction of it; negative where it lies above.

        From the expected values where they are known.
        """
        ratio = self.ratio.value if self.ratio.expected is None else self.ratio.expected
        return 1 - ratio


@dataclass(frozen=True, repr=False)
class Simulation(Result):
    """The value on all samples and the mean of per-batch values, side by side for each batch size.

    >>> import batchproof
    >>> found = batchproof.simulate(batch_sizes=[1, 16], batches=1000)
    >>> [f"{row.shortfall:.1%}" for row in found.rows]
    ['20.2%', '1.5%']

    Attributes:
        target: What was simulated, with its parameters: ``"rmse(errors)"``.
        place: Where it is defined; None where no line is known.
        errors: What was drawn: ``"normal errors of scale 100"``.
        batches: How many batches of each size were asked for.
        seed: Of the random numbers.
        rows: One for each batch size.
        headline: The answer in a sentence.
        depends: Whether the mean of per-batch values depends on the batch size; None where no size shows it.
        expected_by: ``"closed form"`` or ``"integral"``; empty where nothing is known.
        formula: Of the expected mean, in words.
        published: Where published figures come from; empty where there are none.
        component: Which number is shown, where the function gives several.
        components: How many it gives.
        notes: What else to know.
        interrupted: Whether Ctrl-C ended it before the last batch size.
        seconds: How long it took.
        marked: The reader's own batch size: the reports point at it.
    """

    target: str
    place: Place | None
    errors: str
    batches: int
    seed: int
    rows: tuple[SimulationRow, ...]
    headline: str
    depends: bool | None
    expected_by: ExpectedBy = ""
    formula: str = ""
    published: str = ""
    component: str = ""
    components: int = 1
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    seconds: float = 0.0
    marked: int | None = None
    SCHEMA: ClassVar[str] = "batchproof/simulate/1"

    @property
    def exit_status(self) -> int:
        """0: the same at every batch size.  1: depends on it.  2: could not tell."""
        return {False: 0, True: 1, None: 2}[self.depends]
