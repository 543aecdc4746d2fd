"""Check a plain training loop."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from batchproof.errors import BatchproofError
from batchproof.gradients.check import GradientCheck, GradientRecorder
from batchproof.trainers.compare import compare, module
from batchproof.trainers.samples import Count, of_loader


def check(
    model: torch.nn.Module,
    loss_fn: Callable[[Any, Any], Tensor],
    loader: DataLoader[Any],
    accumulation_steps: int = 4,
    *,
    step: Callable[[list[Any], int], object] | None = None,
    windows: int = 3,
    count: Count | None = None,
    dropout: bool = False,
    tolerance: float | None = None,
) -> GradientCheck:
    """Compare the gradients of a loop that accumulates over micro-batches with those of whole batches.

    >>> import torch
    >>> from batchproof.trainers import loop
    >>> data = torch.utils.data.TensorDataset(torch.randn(12, 3), torch.randn(12))
    >>> loader = torch.utils.data.DataLoader(data, batch_size=2)         # 6 micro-batches: 4 and 2
    >>> model = torch.nn.Linear(3, 1)
    >>> def loss_fn(model, batch):
    ...     x, y = batch
    ...     return (model(x)[:, 0] - y).square().mean()
    >>> found = loop.check(model, loss_fn, loader, accumulation_steps=4)
    >>> found.cause, [round(window.ratio, 3) for window in found.windows]
    ('ragged-last-window', [1.0, 0.5])

    The loop that is checked divides the loss of each micro-batch by ``accumulation_steps`` and calls ``backward``; hand
    over your own as ``step``.  The samples are taken in their order: the first windows of an epoch and its last one, so
    that what an epoch leaves over is checked too.  No optimizer steps.  Model, gradients and random state are as before
    afterwards.

    Args:
        model: The module that is trained.
        loss_fn: From the model and a batch, the scalar loss.
        loader: Gives micro-batches.  Its samples, batch size and collate function are used, not its order.
        accumulation_steps: Micro-batches for one optimizer step.
        step: Leaves the gradient of a list of micro-batches; takes the list and ``accumulation_steps``.
        windows: How many optimizer steps to compare.
        count: From a batch, by name, what its micro-batch might have to be weighted by:
            ``lambda batch: {"class weights": float(weight[batch[1]].sum())}``.  Samples and labels are counted anyway.
        dropout: Whether dropout stays on; its masks differ between micro-batches and the whole batch.
        tolerance: As in `batchproof.check_gradients`; under ``torch.autocast`` pass 2e-2.

    Returns:
        A `batchproof.GradientCheck`; printed, it is the report.

    Raises:
        BatchproofError: The loader has no batch size, or less than two micro-batches, or ``loss_fn`` gives no scalar.
    """
    samples = of_loader(loader, accumulation_steps, windows, count)

    def backward(batches: list[Any], steps: int) -> None:
        for batch in batches:
            loss: object = loss_fn(model, batch)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                raise BatchproofError(f"loss_fn gives a loss with one number to call backward() on, not {_kind(loss)}")
            (loss / steps).backward()  # type: ignore[no-untyped-call]

    def train(recorder: GradientRecorder, batch_size: int, steps: int) -> None:
        batches = iter(samples.loader(batch_size, recorder))
        while window := list(islice(batches, steps)):
            (step or backward)(window, steps)
            recorder.close()
            for parameter in recorder.parameters.values():
                parameter.grad = None

    ran = "a plain loop" if step is None else f"the loop's own {getattr(step, '__name__', 'step')}"
    return compare(module(model), train, samples, dropout=dropout, tolerance=tolerance, ran=ran)


def _kind(loss: object) -> str:
    return f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
