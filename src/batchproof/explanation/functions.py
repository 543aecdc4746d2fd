"""Measure a function of a batch on the user's samples: how its value behaves when batches are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from batchproof.errors import BatchproofError
from batchproof.explanation.measure import Progress, Score, Sizes, SizeValues, curve, measure, workable
from batchproof.explanation.result import Curve, Direction
from batchproof.explanation.samples import Samples
from batchproof.ground import components
from batchproof.ground.isolation import seed_all
from batchproof.ground.tensors import NEXT_TO_NOTHING, close

Behaviour = Literal["mean", "sum", "other"]
_TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4}
COARSE = 1e-2
#: More than this is left in the user's precision: twice the bytes might not fit.
MOST_BYTES = 1 << 29


@dataclass(frozen=True)
class FunctionMeasurement:
    """The numbers, and what they say."""

    exact: torch.Tensor
    rows: list[SizeValues]
    names: list[str]
    behaviours: list[Behaviour]
    tolerance: float
    samples: Samples
    of_samples: int
    order_matters: bool
    random: bool

    @property
    def worst(self) -> int:
        """The component that averaging changes most."""
        if len(self.names) == 1:
            return 0
        harmless = {"mean": 0, "sum": 1, "other": 1}
        gaps = [(harmless[kind], self._gap(which)) for which, kind in enumerate(self.behaviours)]
        return gaps.index(max(gaps))

    @property
    def behaviour(self) -> Behaviour:
        """Of the whole result: a mean (or a sum) only if every component is one."""
        kinds = set(self.behaviours)
        return kinds.pop() if len(kinds) == 1 else "other"

    @property
    def undefined(self) -> list[SizeValues]:
        """The batch sizes at which some batch gave NaN or raised."""
        return [row for row in self.rows if row.undefined and row.size < self.samples.n]

    def curve(self) -> Curve:
        """The worst component over batch sizes."""
        return curve(
            self.exact, self.rows, self.names, self.worst, self.tolerance,
            samples=self.samples.n, of_samples=self.of_samples, shuffled=not self.order_matters,
        )  # fmt: skip

    def _gap(self, which: int) -> float:
        about = curve(self.exact, self.rows, self.names, which, self.tolerance, samples=0, of_samples=0)
        errors = [abs(about.error(reading.weighted)) for reading in about.readings]
        return max((error for error in errors if error == error), default=0.0)


def measure_function(
    target: Callable[..., Any], samples: Samples, sizes: Sizes, seed: int, progress: Progress | None
) -> FunctionMeasurement:
    """Run it on batches of every size; in double precision where the function allows that."""
    samples, tolerance = _precise(target, samples, seed)
    n = workable(_scorer(target, samples, seed), samples.n)
    head = samples.first(n)
    score = _scorer(target, head, seed)
    names = components.names(_result(target, head, seed))
    mixed = head.shuffled(seed) if n == samples.n else samples.shuffled(seed).first(n)
    exact = score(0, n)
    drawn = _differs(exact, _scorer(target, samples, seed + 1)(0, n), tolerance)
    ordered = not drawn and _differs(exact, _scorer(target, head.shuffled(seed), seed)(0, n), tolerance)
    working = head if ordered else mixed
    exact, rows = measure(_scorer(target, working, seed), n, sizes(n), progress, shuffled=not ordered)
    behaviours = [_behaviour(exact, rows, which, n, tolerance) for which in range(len(exact))]
    return FunctionMeasurement(exact, rows, names, behaviours, tolerance, working, samples.n, ordered, drawn)


def also_elsewhere(target: Callable[..., Any], measured: FunctionMeasurement, seed: int) -> bool:
    """Whether it behaves on other data as it was measured to: samples that are all alike hide what a function does."""
    other = measured.samples.varied(seed)
    sizes = [size for size in (1, 2, 5, 16) if size < other.n]
    try:
        score = _scorer(target, other, seed)
        exact, rows = measure(score, other.n, sizes, shuffled=not measured.order_matters)
    except Exception:  # noqa: BLE001 - other data may lie outside the function's domain: then nothing is known
        return False
    found = {_behaviour(exact, rows, which, other.n, measured.tolerance) for which in range(len(exact))}
    return found == {measured.behaviour}


def _scorer(target: Callable[..., Any], samples: Samples, seed: int) -> Score:
    def score(lo: int, hi: int) -> torch.Tensor:
        seed_all(seed)
        args, kwargs = samples.batch(lo, hi)
        return components.values(target(*args, **kwargs))

    return score


def _result(target: Callable[..., Any], samples: Samples, seed: int) -> Any:
    seed_all(seed)
    args, kwargs = samples.all()
    result = target(*args, **kwargs)
    if not components.tensors(result):
        raise BatchproofError(f"the target returned {type(result).__name__}: there is no number in it to explain")
    return result


def _precise(target: Callable[..., Any], samples: Samples, seed: int) -> tuple[Samples, float]:
    """Double precision shows a dependence at rounding level; a function with float32 parameters may refuse it."""
    floating = samples.floating
    narrow = max((_TOLERANCE.get(leaf.dtype, COARSE) for leaf in floating), default=1e-6)
    if sum(leaf.nbytes for leaf in floating) > MOST_BYTES:
        return samples, narrow
    wide = samples.double()
    few = min(samples.n, 64)
    try:
        a, b = (_scorer(target, data, seed)(0, few) for data in (samples, wide))
        if not _differs(a, b, COARSE):
            return wide, 1e-6
    except Exception:  # noqa: BLE001 - then it is measured as the user would run it
        pass
    return samples, narrow


def _differs(left: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    return not close(left, right, tolerance, NEXT_TO_NOTHING)


def _behaviour(exact: torch.Tensor, rows: Sequence[SizeValues], which: int, n: int, tolerance: float) -> Behaviour:
    defined = [row for row in rows if row.size < n and not row.undefined]
    about = curve(exact, rows, [str(index) for index in range(len(exact))], which, tolerance, samples=n, of_samples=n)
    if defined and all(about.is_exact(float(row.weighted[which])) for row in defined):
        return "mean"
    adds = [abs(float(row.total[which] - row.together[which])) for row in defined]
    scales = [float(row.magnitude[which]) * row.batches for row in defined]
    if defined and all(gap <= tolerance * scale for gap, scale in zip(adds, scales, strict=True)):
        return "sum"
    return "other"


def direction(about: Curve, n: int) -> Direction | None:
    """Whether the mean of batches reads low or high, at the sizes where it is clearly off."""
    signs = set()
    for reading in about.readings:
        error = reading.weighted - about.exact
        noise = 2 * (reading.standard_error or 0.0)
        if reading.size < n and error == error and not about.is_exact(reading.weighted) and abs(error) > noise:
            signs.add(error > 0)
    if not signs:
        return None
    return "varies" if len(signs) == 2 else "high" if signs.pop() else "low"
