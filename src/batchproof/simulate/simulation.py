"""What ``simulate`` found, as plain frozen data.  Nothing here draws anything, and nothing here needs torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from batchproof.explain.explanation import Place

#: How the value of a batch came about. drawn: every sample was drawn, all batches folded at once. direct: the batch's
#: state was drawn from its own distribution. called: every sample was drawn, the function called on each batch.
How = Literal["drawn", "direct", "called"]


@dataclass(frozen=True)
class Estimate:
    """A simulated number, its standard error, and what it should be where that is known."""

    value: float
    standard_error: float
    expected: float | None = None
    published: float | None = None

    @property
    def deviations(self) -> float | None:
        """How many standard errors the value lies from what is expected."""
        if self.expected is None or not self.standard_error > 0:
            return None
        return (self.value - self.expected) / self.standard_error


@dataclass(frozen=True)
class Row:
    """One batch size.

    ``pooled`` is the value on all samples of all batches together, ``mean`` the mean of the batches' own values.
    ``undefined`` batches gave NaN or raised; they are left out of ``mean``.
    """

    size: int
    batches: int
    pooled: Estimate
    mean: Estimate
    ratio: Estimate
    how: How
    undefined: int = 0
    pooled_samples: int = 0  # fewer than size * batches where the function cannot take them all at once

    @property
    def shortfall(self) -> float:
        """How far the mean lies below the pooled value, as a fraction of it; negative where it lies above.

        From the expected values where they are known.
        """
        ratio = self.ratio.value if self.ratio.expected is None else self.ratio.expected
        return 1 - ratio


@dataclass(frozen=True)
class Simulation:
    """The value on all samples and the mean of per-batch values, side by side for each batch size.

    >>> import batchproof
    >>> found = batchproof.simulate(batch_sizes=[1, 16], batches=1000)
    >>> [f"{row.shortfall:.1%}" for row in found.rows]
    ['20.2%', '1.5%']
    """

    target: str  # "rmse(errors)"
    place: Place | None
    errors: str  # "normal errors of scale 100", "442 rows of predictions.csv, resampled"
    batches: int
    seed: int
    rows: tuple[Row, ...]
    headline: str
    depends: bool | None  # whether the mean of per-batch values depends on the batch size; None: no size shows it
    expected_by: str = ""  # "closed form", "integral"; empty where nothing is known
    formula: str = ""  # of the mean of per-batch values, in words: "scale * sqrt(2/b) * gamma((b+1)/2) / gamma(b/2)"
    published: str = ""  # where the published figures come from; empty where the rows have none
    component: str = ""  # of a result with several numbers: which one is shown
    components: int = 1
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    seconds: float = 0.0
    marked: int | None = None  # the reader's own batch size: the reports point at it

    @property
    def exit_status(self) -> int:
        """0: the same at every batch size.  1: depends on it.  2: could not tell."""
        return {False: 0, True: 1, None: 2}[self.depends]

    def to_dict(self) -> dict[str, Any]:
        """The simulation as JSON-able data; a number that is not finite becomes None."""
        data: dict[str, Any] = plain(dataclasses.asdict(self))
        for row, entry in zip(self.rows, data["rows"], strict=True):
            entry["shortfall"] = plain(row.shortfall)
        return data

    def __str__(self) -> str:
        from batchproof.report.simulated import render

        return render(self)

    def _repr_html_(self) -> str:
        from batchproof.report.html import render

        return render(self)


def plain(value: Any) -> Any:
    """A number that is not finite becomes None, in nested containers too."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
