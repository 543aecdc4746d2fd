"""What training sees: real mini-batches, drawn without replacement, and their gradients beside the full one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import torch

from batchproof.gradients.noise.gradients import Gradient, TrainingProblem, distance, dot
from batchproof.gradients.noise.result import NoiseRow
from batchproof.ground.isolation import seed_all
from batchproof.report.estimates import Estimate

#: Samples in all batches of a size together, or half the data if that is more.
SAMPLES_PER_SIZE = 20_000
FEWEST_BATCHES = 8
Check = Callable[[], None]


def how_many(size: int, samples: int, batches: int) -> int:
    """Batches of a size to draw: fewer of large ones, each of which says more."""
    room = max(SAMPLES_PER_SIZE, samples // 2) // size
    return min(batches, max(FEWEST_BATCHES, room))


def gradients(problem: TrainingProblem, size: int, batches: int, seed: int, check: Check) -> Iterator[Gradient | None]:
    """Of batches drawn at random, none with a sample twice; None where the model refuses one or it is not finite."""
    for number in range(batches):
        check()
        own = random.Random(f"{seed} {size} {number}")
        seed_all(own.getrandbits(63))
        chosen = own.sample(range(problem.samples.n), size)
        try:
            found = problem.gradient(problem.batch(chosen))
        except Exception:  # noqa: BLE001 - BatchNorm refuses a batch of one: a finding
            found = None
        yield found if found is not None and all(bool(part.isfinite().all()) for part in found) else None


def around_full(problem: TrainingProblem, full: Gradient, size: int, batches: int, seed: int, check: Check) -> NoiseRow:
    """Batches beside the full gradient."""
    length = dot(full, full)
    found = [
        (distance(g, full) / length, dot(g, full) / math.sqrt(dot(g, g) * length or math.inf))
        for g in gradients(problem, size, batches, seed, check)
        if g is not None
    ] if length else []  # fmt: skip
    variance, cosine = (_mean(column) for column in zip(*found, strict=True)) if found else (_NONE, _NONE)
    return NoiseRow(size, batches, variance, cosine, batches - len(found))


def around_each_other(problem: TrainingProblem, size: int, batches: int, seed: int, check: Check) -> NoiseRow:
    """Batches beside the mean of all batches of their size, where there is no other full gradient.

    With M batches, ``|mean|²`` without bias is ``(M² |ḡ|² - Σ |g|²) / (M (M - 1))``, and the cosine is the root of its
    share in the mean ``|g|²``.  Error bars leave out one batch at a time, for which the batches are drawn once more.
    """
    squares, total = [], None
    for g in gradients(problem, size, batches, seed, check):
        if g is not None:
            squares.append(dot(g, g))
            total = [p.double() for p in g] if total is None else [t + p for t, p in zip(total, g, strict=True)]
    count = len(squares)
    if total is None or count < 3:
        return NoiseRow(size, batches, _NONE, _NONE, batches - count)
    along = [dot(g, total) for g in gradients(problem, size, batches, seed, check) if g is not None]
    a, c = (torch.tensor(column, dtype=torch.float64) for column in (squares, along))
    square = torch.tensor(dot(total, total), dtype=torch.float64)
    whole = _shares(square, a.sum(), count)
    left = _shares(square - 2 * c + a, a.sum() - a, count - 1)
    variance, cosine = (
        Estimate(float(value), float((some - some.mean()).square().sum().mul((count - 1) / count).sqrt()))
        for value, some in zip(whole, left, strict=True)
    )
    return NoiseRow(size, batches, variance, cosine, batches - count)


def _shares(square_of_sum: torch.Tensor, squares: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The relative variance and the cosine, from ``|Σ g|²`` and ``Σ |g|²``."""
    signal = (square_of_sum - squares) / (count * (count - 1))
    variance = (squares / count - signal) / signal
    # no gradient beside the noise: no cosine, and no bound to the variance
    shown = torch.where(signal > 0, variance, torch.inf)
    return shown, (signal.clamp(min=0) / (squares / count)).sqrt()


def _mean(values: tuple[float, ...]) -> Estimate:
    column = torch.tensor(values, dtype=torch.float64)
    error = float(column.std() / math.sqrt(len(column))) if len(column) > 1 else math.nan
    return Estimate(float(column.mean()), error)


_NONE = Estimate(math.nan, math.nan)
