"""Reports to look at, made by hand: figures that every run shows alike."""

from __future__ import annotations

import math
from typing import Any

from batchproof.explanation import Curve, Reading
from batchproof.simulation import Estimate, Simulation, SimulationRow, published

STRANGE = [
    (1.0, 1.0), (math.nan, math.nan, math.nan), (-math.inf, 0.5, 1.0), (1e9, 1e-9, 1.0), (0.0, 0.0, 0.0),
    (1e308, -1e308, 1.0), (1e-320, 1.0, 2.0), (5.0,),
]  # fmt: skip


def curve(*values: float, exact: float = 1.0) -> Curve:
    """Values at the sizes 1, 2, 4, ..."""
    sizes = [2**power for power in range(len(values))]
    readings = tuple(Reading(size, 4, 4, 0, value, value, value) for size, value in zip(sizes, values, strict=True))
    return Curve(exact, readings, 64, 64)


def expected_mean(size: int) -> float:
    """Of roots of mean squares of normal errors of scale 100."""
    if size > 1000:  # where the two terms below lose their digits against each other
        return 100 * (1 - 0.25 / size)
    return 100 * math.sqrt(2 / size) * math.exp(math.lgamma((size + 1) / 2) - math.lgamma(size / 2))


def row(size: int, *, known: bool = True, compared: bool = True, **changes: Any) -> SimulationRow:
    """A batch size of the question's experiment, each figure a third of a standard error above what is expected."""
    mean = expected_mean(size)
    error = 100 / math.sqrt(2 * size * 10_000)
    found = {
        "size": size,
        "batches": 10_000,
        "pooled": Estimate(
            100 + 0.35 * error, error, 100.0 if known else None, published.POOLED.get(size) if compared else None
        ),
        "mean": Estimate(
            mean + 0.35 * error, error, mean if known else None, published.MEAN.get(size) if compared else None
        ),
        "ratio": Estimate(mean / 100, error / 200, mean / 100 if known else None),
        "how": "direct" if size >= 100 else "drawn",
        "pooled_samples": size * 10_000,
    }
    return SimulationRow(**{**found, **changes})


def simulation(
    sizes: tuple[int, ...] = published.SIZES, *, known: bool = True, compared: bool = True, **changes: Any
) -> Simulation:
    """The question's experiment; ``known`` has expected values, ``compared`` the published ones."""
    found: dict[str, Any] = {
        "target": "rmse(errors)",
        "place": None,
        "errors": "normal errors of scale 100",
        "batches": 10_000,
        "seed": 0,
        "rows": tuple(row(size, known=known, compared=compared) for size in sizes),
        "headline": "averaged over batches, rmse is 1.5% too low at batch size 16 (20.2% at 1)",
        "depends": True,
        "expected_by": "closed form" if known else "",
        "formula": "scale · √(2/b) · Γ((b+1)/2) / Γ(b/2)" if known else "",
        "published": published.SOURCE if compared else "",
        "seconds": 1.5,
    }
    return Simulation(**{**found, **changes})
