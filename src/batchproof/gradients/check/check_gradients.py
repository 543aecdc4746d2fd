"""The verb: run both, compare, and say why they differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.gradients.check.conclude import conclude
from batchproof.gradients.check.record import GradientRecorder
from batchproof.gradients.check.result import GradientCheck
from batchproof.gradients.check.step import Count, Wrap, cut_step
from batchproof.gradients.check.subject import Model, Run, of_step, subject_of
from batchproof.ground.validation import whole


def check_gradients(
    full: Callable[..., object],
    accumulated: Any,
    model: Model,
    *,
    ranks: int | None = None,
    micro_batches: int | None = None,
    wrap: Wrap | None = None,
    rank_dim: int = 0,
    count: Count | None = None,
    weights: Mapping[str, Sequence[float]] | None = None,
    tolerance: float | None = None,
) -> GradientCheck:
    """Say whether gradients accumulated over micro-batches are those of the whole batch, and if not, why.

    >>> import batchproof, torch
    >>> from torch.nn.functional import cross_entropy
    >>> model, x = torch.nn.Linear(3, 5), torch.arange(18.0).view(6, 3) / 18
    >>> y = torch.tensor([0, -100, -100, 1, 2, 3])                  # -100: no label
    >>> def full():
    ...     cross_entropy(model(x), y).backward()
    >>> def accumulated():
    ...     for a, b in zip(x.split(3), y.split(3)):
    ...         (cross_entropy(model(a), b) / 2).backward()
    >>> found = batchproof.check_gradients(full, accumulated, model, weights={"labels": [1, 3]})
    >>> found.cause, found.weights.fits, [round(factor, 3) for factor in found.weights.factors]
    ('mean-of-means', ('labels',), [0.5, 1.5])

    Both functions start from the same weights, buffers and random state (Python's, NumPy's, torch's, on CPU and GPU),
    without gradients.  Afterwards all of these are as before, and so are gradients, train flags, hooks and attributes:
    what the two do to the model is undone.  They are called again to find a cause, so each call must do the same: leave
    the gradients in ``.grad``, take the same samples, and step no optimizer that remembers.  A function that does step
    one can leave the gradients if it does not clear them; ``batchproof.trainers`` has ready-made checks for whole
    trainers.

    With ``ranks`` or ``micro_batches`` the first argument is a training step instead, and the second the samples of one
    batch.  The step runs on all of them in one process, and on their parts in as many processes as there are ranks,
    joined by gloo on this machine; each rank has samples of its own.

    >>> def step(model, micro_batches):
    ...     for x, y in micro_batches:
    ...         (cross_entropy(model(x), y) / len(micro_batches)).backward()
    >>> batchproof.check_gradients(step, (x, y), model, micro_batches=2).findings[0].title
    "a mean of the micro-batches' means"
    >>> from torch.nn.parallel import DistributedDataParallel
    >>> batchproof.check_gradients(step, (x, y), model, ranks=2, wrap=DistributedDataParallel).cause
    'mean-of-rank-means'

    Args:
        full: Leaves in the model the gradient of the whole batch; called without arguments.  Or the step: takes the
            model as it is wrapped and a list of micro-batches, and leaves their gradient, sent between ranks as in
            training.
        accumulated: Leaves the gradient accumulated over micro-batches, one ``backward()`` for each.  Or the samples of
            one batch: tensors with a row for each, in tuples or dictionaries, or a list with an item for each.
        model: The module, or (name, parameter) pairs as ``named_parameters()`` gives them.
        ranks: How many processes share the samples; the step runs in this process if None.
        micro_batches: How many micro-batches each rank gets, as a list; 1 if None.
        wrap: What each process makes of the model before the step takes it: ``DistributedDataParallel``, or a function
            that applies ``replicate`` or ``fully_shard``.
        rank_dim: The dimension that ranks share: 0 for samples; 1 for sequences of which each rank has a slice.
        count: From a micro-batch, by name, what it might have to be weighted by; samples and labels are counted anyway.
        weights: What the micro-batches might have to be weighted by, in the order of the backward passes, by name:
            ``{"samples": [8, 8, 3], "tokens": [512, 340, 77]}``.  That which makes the gradients equal is named.
        tolerance: Largest difference of two equal gradients, as a fraction of the parameter's gradient norm.  If None:
            1e-9 for float64, 1e-5 for float32, 2e-2 for narrower types.  It goes by the type of the parameters: under
            ``torch.autocast`` pass 2e-2.

    Returns:
        A `GradientCheck`; printed, it is the report.

    Raises:
        BatchproofError: A run leaves no gradient, the model has nothing to train, ``weights`` do not fit, or a step
            failed on a rank.
    """
    if ranks is not None or micro_batches is not None:
        if weights is not None:
            raise BatchproofError("weights are for two functions; of a step's micro-batches count= says what they hold")
        for name, number in (("ranks", ranks), ("micro_batches", micro_batches)):
            if number is not None:
                whole(number, name, 1)
        job = cut_step(full, accumulated, model, wrap, count)
        return conclude(of_step(job, ranks, micro_batches or 1, rank_dim, tolerance), _kind(model))
    if wrap is not None or count is not None or rank_dim:
        raise BatchproofError("wrap, count and rank_dim are for a step that is cut: pass ranks= or micro_batches=")
    for name, run in (("full", full), ("accumulated", accumulated)):
        if not callable(run):
            raise BatchproofError(f"{name} is a function without arguments that leaves gradients, not {_kind(run)}")
    given = _weights(weights)
    subject = subject_of(_once(full), _once(accumulated), model, tolerance=tolerance, counts=given)
    return conclude(subject, _kind(model) if isinstance(model, torch.nn.Module) else "model")


def _once(call: Callable[[], object]) -> Run:
    def run(recorder: GradientRecorder) -> None:
        call()
        recorder.close()

    return run


def _weights(weights: Mapping[str, Sequence[float]] | None) -> dict[str, list[float]]:
    given: dict[str, list[float]] = {}
    if weights is not None and not isinstance(weights, Mapping):
        raise BatchproofError(f"weights are {{name: [a number for each micro-batch]}}, not {_kind(weights)}")
    for name, numbers in (weights or {}).items():
        try:
            given[name] = [float(number) for number in numbers]
        except (TypeError, ValueError):
            raise BatchproofError(f"weights[{name!r}] is a number for each micro-batch, not {numbers!r}") from None
        if not all(math.isfinite(number) and number >= 0 for number in given[name]) or not any(given[name]):
            raise BatchproofError(f"weights[{name!r}] are numbers from 0 on, not all 0: {numbers!r}")
    return given


def _kind(thing: object) -> str:
    return type(thing).__name__
