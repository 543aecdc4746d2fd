"""Check a ``LightningModule`` and its trainer."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

from batchproof.errors import BatchproofError
from batchproof.gradients.check import GradientCheck, GradientRecorder
from batchproof.trainers.compare import Capture, compare, needs
from batchproof.trainers.samples import Count, of_loader

#: Nothing is logged, saved, evaluated or shown.
QUIET = {
    "accelerator": "cpu", "devices": 1, "enable_checkpointing": False, "enable_model_summary": False,
    "enable_progress_bar": False, "limit_val_batches": 0, "logger": False, "max_epochs": 1, "num_sanity_val_steps": 0,
}  # fmt: skip
FULL_PRECISION = ("32-true", "64-true")


def check(
    model: Any,
    loader: DataLoader[Any],
    accumulation_steps: int = 4,
    *,
    windows: int = 3,
    count: Count | None = None,
    dropout: bool = False,
    tolerance: float | None = None,
    **options: Any,
) -> GradientCheck:
    """Compare the gradients of a ``LightningModule`` that accumulates with those of whole batches.

    >>> from batchproof.trainers import lightning                               # doctest: +SKIP
    >>> lightning.check(model, loader, accumulation_steps=4).cause              # doctest: +SKIP
    'ragged-last-window'

    Lightning's own ``Trainer(accumulate_grad_batches=accumulation_steps).fit`` runs over one short epoch: the first
    windows of an epoch of ``loader`` and its last one, in the order of the samples, with an optimizer that steps
    nowhere.  Nothing is logged, validated or saved.  The module, its
    gradients and the random state are as before afterwards.

    Args:
        model: A ``LightningModule`` of ``lightning`` or ``pytorch_lightning``, with automatic optimization.
        loader: Gives micro-batches.  Its samples, batch size and collate function are used, not its order.
        accumulation_steps: Micro-batches for one optimizer step.
        windows: How many optimizer steps to compare.
        count: From a batch, by name, what its micro-batch might have to be weighted by; samples and labels are counted
            anyway.
        dropout: Whether dropout stays on; its masks differ between micro-batches and the whole batch.
        tolerance: As in `batchproof.check_gradients`; if None, 2e-2 in mixed precision.
        options: For ``Trainer``, such as ``precision`` or ``accelerator``; it runs on the CPU otherwise.

    Returns:
        A `batchproof.GradientCheck`; printed, it is the report.

    Raises:
        BatchproofError: Lightning is missing, it is no LightningModule, it optimizes by hand, or the loader has no
            batch size or less than two micro-batches.
    """
    package = _package(model)
    if not model.automatic_optimization:
        raise BatchproofError("the module optimizes by hand: check its step with batchproof.trainers.loop")
    samples = of_loader(loader, accumulation_steps, windows, count)

    def trainer(steps: int) -> Any:
        return package.Trainer(accumulate_grad_batches=steps, **{**QUIET, **options})

    def train(recorder: GradientRecorder, batch_size: int, steps: int) -> None:
        vars(model)["configure_optimizers"] = lambda: Capture(recorder)  # put back with all else
        with _silent(package):
            trainer(steps).fit(model, samples.loader(batch_size, recorder))

    version = importlib.import_module(package.__name__.partition(".")[0]).__version__
    ran = f"Trainer of {package.__name__.partition('.')[0]} {version}"
    with _silent(package):
        mixed = trainer(accumulation_steps).precision not in FULL_PRECISION
    return compare(model, train, samples, dropout=dropout, tolerance=tolerance, ran=ran, mixed=mixed)


@contextmanager
def _silent(package: Any) -> Iterator[None]:
    """It says nothing about the machine and about itself."""
    says = logging.getLogger(package.__name__)
    level = says.level
    says.setLevel(logging.ERROR)
    try:
        yield
    finally:
        says.setLevel(level)


def _package(model: Any) -> Any:
    """The package that the module's class comes from: both may be installed, and do not mix."""
    roots = [kind.__module__.partition(".")[0] for kind in type(model).__mro__]
    name = "pytorch_lightning" if "pytorch_lightning" in roots else "lightning.pytorch"
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise needs(name.partition(".")[0], error) from None
    if not isinstance(model, package.LightningModule):
        raise BatchproofError(f"the model is a LightningModule, not {type(model).__name__}")
    return package
