"""The gradient noise scale, from the gradients of equal micro-batches (of one sample each, where those can be had).

B_simple = tr(Σ) / |G|², McCandlish et al. 2018 (arXiv 1812.06162), equation 2.9. A plain mean of squared norms is too
large by the noise in it. With M micro-batches of m samples, g_j their gradients and ḡ the mean of those, without bias:

    tr(Σ) / m  =  M / (M - 1) · (mean |g_j|² - |ḡ|²)          |G|²  =  |ḡ|² - (tr(Σ) / m) / M

This is their estimator from two batch sizes (appendix A.1), B_small = m and B_big = mM, over all micro-batches at once.
Error bars come from leaving out one micro-batch at a time (Efron and Stein, Annals of Statistics 9 (1981) 586-596). Of
each, two numbers are enough for that, |g_j|² and g_j·ḡ, because |ḡ without j|² follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.gradients.noise.gradients import Gradient, TrainingProblem, dot
from batchproof.gradients.noise.result import Method
from batchproof.ground.isolation import seed_all

#: Micro-batches that are made at most where single samples have no gradients.
MOST_UNITS = 256
#: Bytes of gradients that are kept at most from the first pass over the data to the second.
KEPT_BYTES = 256 << 20
FEWEST = 4

#: Gradients of several micro-batches: one tensor for each parameter, the micro-batches along the first dimension.
Stack = list[Tensor]
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Norms:
    """What is kept of the gradients of micro-batches.

    Attributes:
        squares: (M,) ``|g_j|²``.
        along: (M,) ``g_j·ḡ``.
        mean: ḡ, in double precision.
        unit: samples in each.
    """

    squares: Tensor
    along: Tensor
    mean: Gradient
    unit: int = 1


@dataclass(frozen=True)
class Noise:
    """tr(Σ) of one sample, |G|² without bias, and their ratio, with standard errors by the jackknife."""

    trace: float
    signal: float
    signal_se: float
    scale: float
    scale_se: float


def stacks(problem: TrainingProblem, method: Method, order: Sequence[int], unit: int, seed: int) -> Iterator[Stack]:
    """The gradients of all micro-batches, some at a time; the same numbers each time it is called."""
    count = len(order) // unit
    step = problem.at_once if method == "per-sample" else 1
    for lo in range(0, count, step):
        # dropout draws the same masks in the second pass as in the first
        seed_all(seed + lo)
        batch = problem.batch(order[lo * unit : min(lo + step, count) * unit])
        yield problem.per_sample(batch) if method == "per-sample" else [g[None] for g in problem.gradient(batch)]


def measured(problem: TrainingProblem, method: Method, order: Sequence[int], seed: int, tick: Tick) -> Norms:
    """Go over the data twice: for the mean gradient, and for what each micro-batch has of it.

    Raises:
        BatchproofError: a gradient is not finite.
    """
    unit = 1 if method == "per-sample" else math.ceil(len(order) / MOST_UNITS)
    weight = sum(value.nbytes for value in problem.trained.values())
    keep = weight * (len(order) // unit) <= KEPT_BYTES

    def ticked(found: Iterable[Stack]) -> Iterator[Stack]:
        for stack in found:
            tick(len(stack[0]) * unit)
            yield stack

    kept: list[Stack] = []
    total, squares = _totalled(ticked(stacks(problem, method, order, unit, seed)), kept if keep else None)
    if not bool(squares.isfinite().all()):
        bad = int((~squares.isfinite()).nonzero()[0])
        what = f"sample {order[bad]}" if unit == 1 else f"micro-batch {bad}"
        raise BatchproofError(f"the gradient of {what} is NaN or infinite: take such samples out first")
    mean = [part / len(squares) for part in total]
    again = kept if keep else ticked(stacks(problem, method, order, unit, seed))
    return Norms(squares, torch.cat([_along(stack, mean) for stack in again]), mean, unit)


def redrawn(problem: TrainingProblem, method: Method, order: Sequence[int], unit: int, seed: int) -> float:
    """How far apart two full gradients with other random numbers are: the mean squared distance.

    A sample's dropout noise has variance D, so full gradients are 2 D/N apart. Just so much is missing in
    ``(1/b - 1/N) tr(S)``, where S has all noise in it, because D comes with ``1/b + 1/N``.
    """
    distances: list[Tensor] = []
    pairs = zip(*(stacks(problem, method, order, unit, seed + offset) for offset in (0, len(order))), strict=True)
    for one, other in pairs:
        gaps = [_rows(a - b).square().sum(1, dtype=torch.float64) for a, b in zip(one, other, strict=True)]
        distances.append(torch.stack(gaps).sum(0))
    of_each = torch.cat(distances)
    return float(of_each.mean()) / len(of_each)


def _totalled(found: Iterable[Stack], kept: list[Stack] | None) -> tuple[Gradient, Tensor]:
    """The sum of all gradients and (M,) their squared norms."""
    total: Gradient = []
    squares = []
    for stack in found:
        sums = [part.sum(0, dtype=torch.float64) for part in stack]
        total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
        parts = [_rows(part).square().sum(1, dtype=torch.float64) for part in stack]
        squares.append(torch.stack(parts).sum(0).cpu())
        if kept is not None:
            kept.append(stack)
    return total, torch.cat(squares)


def _rows(part: Tensor) -> Tensor:
    """(M, numbers): a scalar parameter has one."""
    return part.reshape(len(part), -1)


def _along(stack: Stack, mean: Gradient) -> Tensor:
    products = [_rows(part).double() @ whole.flatten() for part, whole in zip(stack, mean, strict=True)]
    return torch.stack(products).sum(0).cpu()


def noise_of(norms: Norms) -> Noise:
    """The noise scale of what the samples were drawn from.

    Raises:
        BatchproofError: there are too few micro-batches for an error bar.
    """
    squares, along, count = norms.squares, norms.along, len(norms.squares)
    if count < FEWEST:
        raise BatchproofError(f"a noise scale needs at least {FEWEST} samples, and the data has {count}")
    square = torch.tensor(dot(norms.mean, norms.mean), dtype=torch.float64)
    left_square = (count**2 * square - 2 * count * along + squares) / (count - 1) ** 2
    left_mean = (squares.sum() - squares) / (count - 1)
    trace, signal = _unbiased(squares.mean(), square, count, norms.unit)
    left_trace, left_signal = _unbiased(left_mean, left_square, count - 1, norms.unit)
    scale = float(trace / signal) if signal > 0 else float("inf")
    scale_se = jackknife(left_trace / left_signal)
    return Noise(float(trace), float(signal), jackknife(left_signal), scale, scale_se)


def _unbiased(mean_square: Tensor, square: Tensor, count: int, unit: int) -> tuple[Tensor, Tensor]:
    """tr(Σ) of a single sample, and |G|², from mean |g_j|² and |ḡ|²."""
    of_unit = (mean_square - square) * count / (count - 1)
    return unit * of_unit, square - of_unit / count


def jackknife(left_out: Tensor) -> float:
    """The standard error of a value, from (M,) that value with each micro-batch left out."""
    count = len(left_out)
    return float(((left_out - left_out.mean()).square().sum() * (count - 1) / count).sqrt())
