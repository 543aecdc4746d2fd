"""Which way the noise can be measured: whether the loss is a mean over samples, and whether each has a gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from batchproof.errors import BatchproofError
from batchproof.gradients.noise.gradients import Gradient, TrainingProblem, distance, dot, weighted_sum
from batchproof.gradients.noise.ratio import is_ratio
from batchproof.gradients.noise.result import Method
from batchproof.gradients.noise.sharded import check_alike
from batchproof.ground.isolation import seed_all
from batchproof.ground.text import first_line

#: What a loss is whose gradient is a ratio of sums.
RATIO = "the loss divides by a number that its samples add up to (tokens, weights of classes)"
#: So many samples are tried.
TRIED = 48
#: Two gradients are the same up to rounding: the distance, as a share of the larger norm.
ROUNDING = {torch.float64: 1e-8, torch.float32: 2e-4}
COARSE = 0.05


@dataclass(frozen=True)
class ChosenMethod:
    """The method, why it is that, and whether two calls on the same batch differ."""

    method: Method
    reason: str
    random: bool


def choose(problem: TrainingProblem, order: Sequence[int]) -> ChosenMethod:
    """Try on a few samples.

    Raises:
        BatchproofError: the loss is no scalar, has no gradient, is the sum over the batch, or is not finite.
    """
    tried = order[:TRIED]
    if problem.is_sharded:
        with torch.no_grad():
            seed_all(0)
            check_alike(problem.loss(problem.batch(tried)))
    random = _is_random(problem, tried)
    coupling = _coupling_layer(problem.model)
    if coupling:
        return ChosenMethod(
            "batches", f"{coupling} couples the samples of a batch, so none has a gradient of its own", random
        )
    with _without_dropout(problem.model, whole_model=random):
        if random and _is_random(problem, tried):
            return ChosenMethod(
                "batches", "it is random in evaluation mode too, so that single samples show nothing", random
            )
        if not _splits(problem, tried):
            if is_ratio(problem, tried, same):
                return ChosenMethod("ratio", f"{RATIO}, and its noise follows by the delta method", random)
            reason = "the loss of a batch is not the mean of the losses of its samples, so none has a gradient"
            return ChosenMethod("batches", f"{reason} of its own", random)
        if problem.is_sharded:
            return ChosenMethod("micro-batches", "the model is sharded, so gradients come from backward passes", random)
        try:
            averages = _averages(problem, tried)
        except Exception as error:  # noqa: BLE001 - whatever stands in its way, there is another
            obstacle = _first_line(error)
            return ChosenMethod("micro-batches", f"torch.func gives no gradients of single samples: {obstacle}", random)
    if not averages:
        return ChosenMethod(
            "batches", "a sample that is alone in its batch has another gradient than among others", random
        )
    return ChosenMethod(
        "per-sample", "the loss is the mean over samples, and torch.func gives each sample's gradient", random
    )


def _gradient(problem: TrainingProblem, numbers: Sequence[int], seed: int = 0) -> Gradient:
    seed_all(seed)
    return problem.gradient(problem.batch(numbers))


def _is_random(problem: TrainingProblem, numbers: Sequence[int]) -> bool:
    first, second = (_gradient(problem, numbers, seed) for seed in (1, 2))
    if not all(bool(part.isfinite().all()) for part in first):
        raise BatchproofError(f"the gradient on {len(numbers)} of the samples is NaN or infinite: nothing to measure")
    return not same(first, second, max(dot(first, first), dot(second, second)))


def _coupling_layer(model: torch.nn.Module) -> str:
    """The first layer that normalises over the batch; empty where there is none."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            mode = " in training mode" if module.training else ""
            return f"{name or 'the model'} ({type(module).__name__}{mode})"
    return ""


@contextmanager
def _without_dropout(model: torch.nn.Module, whole_model: bool) -> Iterator[None]:
    """Layers whose randomness would hide what is looked for are switched off; the mode comes back."""
    off = [m for m in model.modules() if m.training and (whole_model or isinstance(m, _DropoutNd))]
    for module in off:
        module.training = False
    try:
        yield
    finally:
        for module in off:
            module.training = True


def _splits(problem: TrainingProblem, numbers: Sequence[int]) -> bool:
    """Whether the gradient of a batch is the mean of those of its parts, each weighted by its size.

    Raises:
        BatchproofError: it is their plain sum.
    """
    third = max(1, len(numbers) // 3)
    parts = [part for part in (numbers[:third], numbers[third:]) if part]
    if len(parts) < 2:
        return True
    whole = _gradient(problem, numbers)
    try:
        gradients = [_gradient(problem, part) for part in parts]
    except BatchproofError:
        raise
    except Exception:  # noqa: BLE001 - what a batch can do and a part of it cannot is no sum over samples
        return False
    largest = max(dot(gradient, gradient) for gradient in gradients)
    if same(whole, weighted_sum(gradients, [len(part) / len(numbers) for part in parts]), largest):
        return True
    if same(whole, weighted_sum(gradients, [1.0] * len(parts)), largest):
        raise BatchproofError("the loss is the sum over the batch, so its gradient grows with it: give its mean")
    return False


def _averages(problem: TrainingProblem, numbers: Sequence[int]) -> bool:
    """Whether the gradients of single samples average to the batch's."""
    few = numbers[: problem.at_once]
    singly = problem.per_sample(problem.batch(few))
    largest = dot(singly, singly) / len(few)
    return same([part.double().mean(0) for part in singly], _gradient(problem, few), largest)


def _first_line(error: Exception) -> str:
    text = first_line(error)
    text = text if len(text) <= 90 else text[:89].rsplit(" ", 1)[0] + " …"
    return f"{type(error).__name__}, {text}" if text else type(error).__name__


@contextmanager
def still(problem: TrainingProblem, random: bool) -> Iterator[None]:
    """A model without dropout: for what does not depend on it."""
    with _without_dropout(problem.model, whole_model=random):
        yield


def same(a: Gradient, b: Gradient, largest: float) -> bool:
    """Equal up to the rounding that gradients of this squared norm leave; 16-bit types are held to a few percent."""
    narrow = [torch.finfo(part.dtype).bits for part in (*a, *b)]
    types = {64: torch.float64, 32: torch.float32}
    tolerance = ROUNDING[types[min(narrow)]] if min(narrow) in types else COARSE
    return distance(a, b) <= tolerance**2 * largest
