"""The noise of a loss that divides by a number of its batch: a token mean, a mean with weights of classes.

Such a loss is a ratio of sums, ``Σ a_i / Σ w_i``, and so is its gradient, ``Σ w_i g_i / Σ w_i``, where g_i is the
gradient on sample i alone.  To first order (the delta method; Cochran, Sampling Techniques, 3rd ed. 1977, section 6.3)
it lies as far from the full gradient G as the mean of

    r_i  =  w_i (g_i - G) / w̄

which is a plain mean over samples, whose covariance has the trace that the noise scale takes.  The weights are
measured: the gradient on two samples together lies between those on each alone, nearer to the one that weighs more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.gradients.noise.estimate import FEWEST, MOST_UNITS, Noise, jackknife
from batchproof.gradients.noise.gradients import Gradient, TrainingProblem, distance, dot, weighted_sum
from batchproof.ground.isolation import seed_all

#: Whether two gradients are the same up to rounding, which is measured against a squared norm.
Same = Callable[[Gradient, Gradient, float], bool]
Numbers = Sequence[int]
Tick = Callable[[int], None]


class NoRatio(Exception):
    """The loss on several samples does not lie between those on each."""


@dataclass(frozen=True)
class RatioNoise:
    """The full gradient of a ratio, the noise of one sample, and the samples in each micro-batch."""

    full: Gradient
    noise: Noise
    unit: int
    weights: Tensor


def units_of(order: Numbers) -> list[Numbers]:
    """Micro-batches of one size; what is left over comes last."""
    unit = math.ceil(len(order) / MOST_UNITS)
    return [order[lo : lo + unit] for lo in range(0, len(order), unit)]


def weights_of(problem: TrainingProblem, units: Sequence[Numbers], same: Same, tick: Tick) -> Tensor:
    """(M,): what each micro-batch weighs against one of them.

    Raises:
        NoRatio: the gradient on two of them is no mean of theirs, or all have the same.
    """
    found = (_Reference(unit, _gradient(problem, unit), 1.0) for unit in units)
    first = next((one for one in found if _is_finite(one.gradient)), None)
    if first is None:
        raise NoRatio
    references, weights = [first], []
    for unit in units:
        own = _gradient(problem, unit)
        tick(len(unit))
        weight = 1.0 if unit is first.unit else _weight(problem, unit, own, references, same)
        weights.append(weight)
        if weight > 0 and len(references) < 2 and _differ(own, first.gradient):
            references.append(_Reference(unit, own, weight))
    return torch.tensor(weights, dtype=torch.float64)


@dataclass(frozen=True)
class _Reference:
    """A micro-batch whose weight is known."""

    unit: Numbers
    gradient: Gradient
    weight: float


def _weight(
    problem: TrainingProblem, unit: Numbers, own: Gradient, references: Sequence[_Reference], same: Same
) -> float:
    """What a micro-batch weighs, by the gradient on it and another one together."""
    if not _is_finite(own):  # no token counts in it
        first = references[0]
        both = _gradient(problem, [*unit, *first.unit])
        if not same(both, first.gradient, dot(first.gradient, first.gradient)):
            raise NoRatio
        return 0.0
    other = next((one for one in references if _differ(own, one.gradient)), None)
    if other is None:
        raise NoRatio
    both = _gradient(problem, [*unit, *other.unit])
    gap = _less(own, other.gradient)
    share = dot(_less(both, other.gradient), gap) / dot(gap, gap)
    largest = max(dot(own, own), dot(other.gradient, other.gradient))
    between = weighted_sum([own, other.gradient], [share, 1 - share])
    if not -1e-6 < share < 1 or not same(between, both, largest):
        raise NoRatio
    return other.weight * max(share, 0.0) / (1 - share)


def _differ(one: Gradient, other: Gradient) -> bool:
    return distance(one, other) > 1e-6 * max(dot(one, one), dot(other, other))


def _less(one: Gradient, other: Gradient) -> Gradient:
    return [a.double() - b.double() for a, b in zip(one, other, strict=True)]


def is_ratio(problem: TrainingProblem, numbers: Numbers, same: Same) -> bool:
    """Whether the gradient of a batch is a weighted mean of those of its parts, with weights that the parts have."""
    parts = [numbers[part::4] for part in range(4)]
    if not all(parts):
        return False
    try:
        weights = weights_of(problem, parts, same, lambda done: None)
        gradients = [_gradient(problem, part) for part in parts]
        whole = _gradient(problem, numbers)
    except BatchproofError:
        raise
    except Exception:  # noqa: BLE001 - what a batch can do and a part of it cannot is no ratio of sums
        return False
    if not all(map(_is_finite, (*gradients, whole))):
        return False
    shares = (weights / weights.sum()).tolist()
    return same(weighted_sum(gradients, shares), whole, max(dot(g, g) for g in gradients))


def measured_ratio(problem: TrainingProblem, order: Numbers, weights: Tensor, seed: int, tick: Tick) -> RatioNoise:
    """Go over the data twice: for the full gradient, and for what each micro-batch has of it.

    Raises:
        BatchproofError: there are too few micro-batches, or a gradient is not finite.
    """
    units = units_of(order)
    unit = len(units[0])
    whole = [number for number, one in enumerate(units) if len(one) == unit]
    if len(whole) < FEWEST:
        raise BatchproofError(f"a noise scale needs at least {FEWEST} samples, and the data has {len(order)}")

    def gradients() -> Iterator[tuple[int, Gradient]]:
        for number, one in enumerate(units):
            seed_all(seed + number)
            if weights[number] > 0:
                found = problem.gradient(problem.batch(one))
                if not _is_finite(found):
                    raise BatchproofError(f"the gradient of micro-batch {number} is NaN or infinite: take it out first")
                yield number, found
            tick(len(one))

    total, of_squares, rest = _Sum(), _Sum(), _Sum()
    squares = torch.zeros(len(units), dtype=torch.float64)
    for number, g in gradients():
        weight = float(weights[number])
        squares[number] = dot(g, g)
        (total if number in whole else rest).add(g, weight)
        if number in whole:
            of_squares.add(g, weight**2)
    w = weights[whole]
    mean = total.divided(float(w.sum()))
    turned = of_squares.divided(1.0)
    along, across = torch.zeros_like(squares), torch.zeros_like(squares)
    for number, g in gradients():
        along[number], across[number] = dot(g, mean), dot(g, turned)
    noise = ratio_noise(w, squares[whole], along[whole], across[whole], dot(mean, mean), dot(mean, turned), unit)
    both = total.plus(rest)
    return RatioNoise(both.divided(float(weights.sum())), noise, unit, weights)


def ratio_noise(
    weights: Tensor, squares: Tensor, along: Tensor, across: Tensor, square: float, turn: float, unit: int
) -> Noise:
    """The noise of a ratio, with error bars by leaving out one micro-batch at a time.

    Args:
        weights: (M,) w_k.
        squares: (M,) ``|g_k|²``.
        along: (M,) ``g_k·Ĝ``.
        across: (M,) ``g_k·V``, where V is ``Σ w_k² g_k``.
        square: ``|Ĝ|²``.
        turn: ``Ĝ·V``.
        unit: samples in each.
    """
    # of d_k = g_k - Ĝ, and U = Σ w_k² d_k: the squared norms, and the products with Ĝ and with U
    gaps = (squares - 2 * along + square).clamp(min=0)
    on_mean = along - square
    second = weights.square()
    on_turn = across - turn - second.sum() * on_mean
    trace, signal = _of(second @ gaps, torch.tensor(square), weights.sum(), len(weights))
    # without micro-batch k, Ĝ moves by -c_k d_k
    move = weights / (weights.sum() - weights)
    rest = second @ gaps - second * gaps
    moved = rest + 2 * move * (on_turn - second * gaps) + move.square() * gaps * (second.sum() - second)
    left_square = square - 2 * move * on_mean + move.square() * gaps
    left_trace, left_signal = _of(moved, left_square, weights.sum() - weights, len(weights) - 1)
    scale = float(unit * trace / signal) if signal > 0 else math.inf
    return Noise(
        float(unit * trace),
        float(signal),
        jackknife(left_signal),
        scale,
        jackknife(unit * left_trace / left_signal),
    )


def _of(summed: Tensor, square: Tensor, total: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The trace of a micro-batch's covariance, and |G|² without its noise, from ``Σ w² |g - Ĝ|²``."""
    trace = summed / (total / count).square() / (count - 1)
    return trace, square - trace / count


class _Sum:
    """Gradients, each times a weight, in double precision."""

    def __init__(self) -> None:
        self.parts: Gradient = []

    def add(self, gradient: Gradient, weight: float) -> None:
        """One more."""
        scaled = [weight * part.double() for part in gradient]
        self.parts = [a + b for a, b in zip(self.parts, scaled, strict=True)] if self.parts else scaled

    def plus(self, other: _Sum) -> _Sum:
        """Both together."""
        found = _Sum()
        found.parts = [a + b for a, b in zip(self.parts, other.parts, strict=True)] if other.parts else self.parts
        return found

    def divided(self, by: float) -> Gradient:
        """The sum over a number."""
        return [part / by for part in self.parts]


def redrawn_ratio(problem: TrainingProblem, order: Numbers, weights: Tensor, seed: int) -> float:
    """How far apart two full gradients with other random numbers are: the mean squared distance."""
    units = units_of(order)
    found = 0.0
    for number, one in enumerate(units):
        if weights[number] > 0:
            pair = []
            for offset in (0, len(units)):
                seed_all(seed + offset + number)
                pair.append(problem.gradient(problem.batch(one)))
            found += float(weights[number]) ** 2 * distance(*pair)
    return found / float(weights.sum()) ** 2


def _gradient(problem: TrainingProblem, numbers: Numbers) -> Gradient:
    seed_all(0)
    return problem.gradient(problem.batch(numbers))


def _is_finite(gradient: Gradient) -> bool:
    return all(bool(part.isfinite().all()) for part in gradient)
