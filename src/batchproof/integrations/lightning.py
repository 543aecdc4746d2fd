"""Exact metrics in Lightning, with no change in the module: a callback that reads what its steps return."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from batchproof.errors import BatchproofError
from batchproof.ground import components
from batchproof.metric import Exact, exact

Stage = Literal["train", "val", "test"]
STAGES: tuple[Stage, ...] = get_args(Stage)


def _callback() -> Any:
    """The callback of the Lightning in use: one's does for the other's trainer as well."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            return import_module(name).Callback
        except ImportError:
            continue
    return object


Callback: Any = object if TYPE_CHECKING else _callback()


class ExactMetrics(Callback):  # type: ignore[misc]
    """Logs functions' values on all samples of an epoch, beside the averages that the module logs.

    >>> import torch
    >>> from batchproof.integrations.lightning import ExactMetrics
    >>> def rmse(pred, real):
    ...     return torch.sqrt(torch.mean((pred - real) ** 2))
    >>> exact = ExactMetrics({"rmse": rmse}, lambda outputs, batch: (outputs["pred"], batch[1]))  # doctest: +SKIP
    >>> # Trainer(callbacks=[exact]).fit(module, loader): "train_rmse_exact" and "val_rmse_exact" are logged

    What is logged reaches the logger, ``trainer.callback_metrics`` and with it checkpoints and early stopping. Over
    ranks it is the value on all ranks' samples, those included that a ``DistributedSampler`` repeats.

    Args:
        metrics: functions by name, as `batchproof.exact` takes them, or an `Exact` with its options. Of one that
            returns several numbers each is logged by its own name.
        inputs: from what a step returns and its batch to the functions' arguments: a tuple, a dict of them by name, or
            a single one.
        forward: whether ``inputs`` gets what the module's ``forward`` returns, in place of what the step does: for
            steps that return nothing, or the loss alone. Where a step calls the module more than once it is the first
            call's.
        stages: of ``"train"``, ``"val"`` and ``"test"``, those that are looked at.
        name: of what is logged.
        prog_bar: whether the progress bar shows it, too.

    Raises:
        BatchproofError: Lightning is missing, or an argument is not one of these. While it runs: ``inputs`` fails on
            what a step returned, or as `Exact.update`, `Exact.sync` and `Exact.compute` raise.
    """

    def __init__(
        self,
        metrics: Mapping[str, Callable[..., Any] | Exact],
        inputs: Callable[[Any, Any], Any],
        *,
        forward: bool = False,
        stages: tuple[Stage, ...] = STAGES,
        name: str = "{stage}_{name}_exact",
        prog_bar: bool = False,
    ) -> None:
        if Callback is object:
            raise BatchproofError("ExactMetrics needs lightning or pytorch_lightning, and neither can be imported")
        if not isinstance(metrics, Mapping) or not metrics:  # type: ignore[redundant-expr]
            raise BatchproofError('ExactMetrics takes functions by name, as {"rmse": rmse}')
        if not callable(inputs):
            raise BatchproofError("inputs must be a function of what a step returns and its batch")
        if not set(stages) <= set(STAGES):
            raise BatchproofError(f"stages={stages!r}: expected a tuple of 'train', 'val' and 'test'")
        self.metrics = {key: metric if isinstance(metric, Exact) else exact(metric) for key, metric in metrics.items()}
        self.inputs = inputs
        self.forward = forward
        self.stages = tuple(stages)
        self.name = name
        self.prog_bar = prog_bar
        self._epochs: dict[str, list[dict[str, Exact]]] = {}  # of each stage, for each of its loaders
        self._returned: list[Any] = []  # by the module's forward, in this step
        self._hook: Any = None

    # ------------------------------------------------------------------ an epoch

    def _begin(self, stage: Stage, module: Any, loaders: int) -> None:
        if stage not in self.stages:
            return
        self._epochs[stage] = [{key: _afresh(metric) for key, metric in self.metrics.items()} for _ in range(loaders)]
        if self.forward and self._hook is None:
            self._hook = module.register_forward_hook(lambda _module, _args, value: self._returned.append(value))

    def _take(self, stage: Stage, outputs: Any, batch: Any, loader: int = 0) -> None:
        if stage not in self._epochs:
            return
        if self.forward:
            outputs, self._returned = next(iter(self._returned), None), []
        args, kwargs = self._given(outputs, batch)
        for metric in self._epochs[stage][loader].values():
            metric.update(*args, **kwargs)

    def _given(self, outputs: Any, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            given = self.inputs(outputs, batch)
        except Exception as error:
            source = "the module's forward" if self.forward else "the step"
            hint = "" if self.forward else "; with forward=True it gets what the module's forward returns"
            raise BatchproofError(
                f"inputs raises {type(error).__name__} ({error}): {source} returned {_described(outputs)}{hint}"
            ) from error
        if isinstance(given, Mapping):
            return (), dict(given)
        return (tuple(given) if isinstance(given, (tuple, list)) else (given,)), {}

    def _end(self, stage: Stage, module: Any) -> None:
        loaders = self._epochs.pop(stage, [])
        for position, metrics in enumerate(loaders):
            for key, metric in metrics.items():
                self._log(module, self._title(stage, key, position, len(loaders)), metric)

    def _title(self, stage: Stage, key: str, position: int, loaders: int) -> str:
        title = self.name.format(stage=stage, name=key)
        return title if loaders == 1 else f"{title}/dataloader_idx_{position}"

    def _log(self, module: Any, title: str, metric: Exact) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            metric.sync()
        value = Exact.compute(metric)
        for name, number in zip(components.names(value), components.values(value), strict=True):
            # all ranks have this number, and the largest of equal ones is the same to the last digit
            module.log(
                title + name,
                number,
                prog_bar=self.prog_bar,
                on_step=False,
                on_epoch=True,
                sync_dist=True,
                reduce_fx="max",
                batch_size=1,
                add_dataloader_idx=False,
            )

    def _unhook(self) -> None:
        self._returned = []
        if self._hook is not None and not self._epochs:
            self._hook.remove()
            self._hook = None

    # ------------------------------------------------------------------ what Lightning calls

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave the module as it was, wherever training stopped."""
        self._epochs.clear()
        self._unhook()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self._begin("train", pl_module, 1)

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self._begin("val", pl_module, len(trainer.num_val_batches))

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin anew."""
        self._begin("test", pl_module, len(trainer.num_test_batches))

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Forget what the module returned outside of a step."""
        self._returned = []

    def on_validation_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Forget what the module returned outside of a step."""
        self._returned = []

    def on_test_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Forget what the module returned outside of a step."""
        self._returned = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Fold the batch in."""
        self._take("train", outputs, batch)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Fold the batch in."""
        self._take("val", outputs, batch, dataloader_idx)

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Fold the batch in."""
        self._take("test", outputs, batch, dataloader_idx)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the epoch."""
        self._end("train", pl_module)
        self._unhook()

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the epoch."""
        self._end("val", pl_module)
        self._unhook()

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the epoch."""
        self._end("test", pl_module)
        self._unhook()


def _afresh(metric: Exact) -> Exact:
    """A metric of the same function that has seen nothing."""
    return Exact(metric.fn, metric.over, metric.batch_dim, metric.state, metric.warmup)


def _described(outputs: Any) -> str:
    if isinstance(outputs, Mapping):
        return "a dict of " + ", ".join(map(str, outputs))
    if isinstance(outputs, torch.Tensor):
        return f"a tensor of shape {tuple(outputs.shape)}"
    return "nothing" if outputs is None else f"a {type(outputs).__name__}"
