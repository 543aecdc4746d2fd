"""The check that all trainers share: the same samples in whole batches, and in micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.gradients.check import (
    COUNT,
    NARROW_TOLERANCE,
    GradientCheck,
    GradientRecorder,
    conclude,
    drops,
    subject_of,
    without_dropout,
)
from batchproof.trainers.samples import EpochSamples

#: Train over the samples once; takes a recorder, the size of batches, and how many of them are accumulated.
Train = Callable[[GradientRecorder, int, int], None]


def compare(
    model: torch.nn.Module,
    train: Train,
    samples: EpochSamples,
    *,
    dropout: bool,
    tolerance: float | None,
    ran: str,
    mixed: bool = False,
) -> GradientCheck:
    """Train with one batch for each window, then with micro-batches, and compare window by window.

    In ``mixed`` precision the gradients are as far apart as those of narrow types, whatever the parameters are.
    """
    if tolerance is None and mixed:
        tolerance = NARROW_TOLERANCE
    subject = subject_of(
        lambda recorder: train(recorder, samples.micro_batch * samples.steps, 1),
        lambda recorder: train(recorder, samples.micro_batch, samples.steps),
        model,
        tolerance=tolerance,
        configured=samples.steps,
        option=COUNT,
    )
    off = not dropout and drops(model)
    with without_dropout(model) if off else nullcontext():
        said = f"{ran}; {samples.in_words}" + ("; dropout off" if off else "")
        return conclude(subject, type(model).__name__, said)


def module(model: object) -> torch.nn.Module:
    """The model, if it is one.

    Raises:
        BatchproofError: It is not.
    """
    if not isinstance(model, torch.nn.Module):
        raise BatchproofError(f"the model is a torch module, not {type(model).__name__}")
    return model


def needs(package: str, error: ImportError) -> BatchproofError:
    """What to say where a trainer's package is missing."""
    return BatchproofError(f"this check needs {package}, which cannot be imported here: {error}")


class Capture(torch.optim.Optimizer):
    """In a trainer in place of its optimizer: the weights stay as they are, and every step is a window's end."""

    def __init__(self, recorder: GradientRecorder) -> None:
        super().__init__(recorder.parameters.values(), {"lr": 0.0})
        self._recorder = recorder

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Note what the gradients are now."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._recorder.close()
        return loss
