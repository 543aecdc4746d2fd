"""Check a training loop written with ``accelerate``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from batchproof.errors import BatchproofError
from batchproof.gradients.check import GradientCheck, GradientRecorder
from batchproof.trainers.compare import Capture, compare, module, needs
from batchproof.trainers.process_state import own_state
from batchproof.trainers.samples import Count, of_loader


def check(
    train: Callable[[Any, Any, Any, Any], object],
    model: torch.nn.Module,
    loader: DataLoader[Any],
    accumulation_steps: int = 4,
    *,
    windows: int = 3,
    count: Count | None = None,
    dropout: bool = False,
    tolerance: float | None = None,
    **options: Any,
) -> GradientCheck:
    """Compare the gradients of a loop that accumulates with ``accelerate`` with those of whole batches.

    >>> from batchproof.trainers import accelerate                              # doctest: +SKIP
    >>> def train(accelerator, model, optimizer, loader):                       # doctest: +SKIP
    ...     for x, y in loader:
    ...         with accelerator.accumulate(model):
    ...             accelerator.backward((model(x) - y).square().mean())
    ...             optimizer.step()
    ...             optimizer.zero_grad()
    >>> accelerate.check(train, model, loader, accumulation_steps=4).cause      # doctest: +SKIP
    'ragged-last-window'

    Your loop runs as it is, over one short epoch: the first windows of an epoch of ``loader`` and its last one, in the
    order of the samples, with an optimizer that steps nowhere.  Model, gradients, random state and the accelerator that
    you have are as before afterwards.

    Args:
        train: One epoch of the loop; takes the accelerator and what it prepared: the model, the optimizer, the loader.
        model: The module that is trained.
        loader: Gives micro-batches.  Its samples, batch size and collate function are used, not its order.
        accumulation_steps: Micro-batches for one optimizer step.
        windows: How many optimizer steps to compare.
        count: From a batch, by name, what its micro-batch might have to be weighted by; samples and labels are counted
            anyway.
        dropout: Whether dropout stays on; its masks differ between micro-batches and the whole batch.
        tolerance: As in `batchproof.check_gradients`; if None, 2e-2 in mixed precision.
        options: For ``Accelerator``, such as ``mixed_precision``.  It is on the CPU unless one was made before, or with
            ``cpu=False``.

    Returns:
        A `batchproof.GradientCheck`; printed, it is the report.

    Raises:
        BatchproofError: accelerate is missing, or the loader has no batch size or less than two micro-batches.
    """
    try:
        import accelerate
    except ImportError as error:
        raise needs("accelerate", error) from None
    if not callable(train):
        raise BatchproofError(f"train is a function that runs one epoch, not {type(train).__name__}")
    samples = of_loader(loader, accumulation_steps, windows, count)

    def accelerator_of(steps: int) -> Any:
        return accelerate.Accelerator(gradient_accumulation_steps=steps, **_options(options))

    def run(recorder: GradientRecorder, batch_size: int, steps: int) -> None:
        with own_state():
            accelerator = accelerator_of(steps)
            prepared = accelerator.prepare(model, Capture(recorder), samples.loader(batch_size, recorder))
            train(accelerator, *prepared)

    with own_state():
        mixed = accelerator_of(accumulation_steps).mixed_precision != "no"
    return compare(
        module(model), run, samples, dropout=dropout, tolerance=tolerance, mixed=mixed,
        ran=f"{getattr(train, '__name__', 'train')} with accelerate {accelerate.__version__}",
    )  # fmt: skip


def _options(given: dict[str, Any]) -> dict[str, Any]:
    from accelerate.state import AcceleratorState

    # one that was made before has settled the device for the whole process
    return given if AcceleratorState._shared_state else {"cpu": True, **given}
