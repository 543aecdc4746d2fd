"""Lightning: ``self.log`` in a step is averaged over the epoch, each batch weighted by its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from batchproof.scripts.run.trainers.averages import Position, TrainerAverages


#: A step's name, and the loader's number where there are several.
PassKey = tuple[str, int | None]


@dataclass
class _Lightning:
    """What is going on in a trainer.

    Attributes:
        averages: to be told.
        passes: by the step's name, and the loader's number where there are several: the key of the pass.
        logging: the calls of ``self.log`` that are being made: the value and the line.
        metrics: by the identity of what keeps an average (its hash changes with its state): which one it is.
    """

    averages: TrainerAverages
    now: PassKey | None = None
    logging: list[tuple[Any, Position | None]] = field(default_factory=list)
    metrics: dict[int, tuple[Any, PassKey, str]] = field(default_factory=dict)

    def begins(self, trainer: Any, batch: Any, number: int | None) -> None:
        """A step is about to be called with a batch."""
        if trainer.sanity_checking:
            self.now = None
            return
        name = "training" if trainer.training else "validation" if trainer.validating else "test"
        if trainer.training and number is not None:
            name = "validation"
        key = self.now = name, number
        if not self.averages.has_begun(key):
            self.averages.begins(key, _loader(trainer, name, number), trains=name == "training")
        self.averages.step(key, batch)

    def adds(self, metric: Any, batch_size: int) -> None:
        """A logged value goes into an average."""
        meta = metric.meta
        if not (metric.is_tensor and meta.on_epoch and meta.is_mean_reduction and self.logging and self.now):
            return
        value, at = self.logging[-1]
        if at is None or not meta.fx.startswith(f"{self.now[0]}_step"):
            return
        name = meta.name
        if meta.add_dataloader_idx and meta.dataloader_idx is not None:
            name += f"/dataloader_idx_{meta.dataloader_idx}"
        self.metrics[id(metric)] = ref(metric), self.now, name
        self.averages.add(self.now, name, value, at, weight=batch_size)

    def averaged(self, metric: Any, value: Any) -> None:
        """An average was computed."""
        known = self._average_of(metric)
        if known is None:
            return
        key, name = known
        if self.averages.has_begun(key):
            self.averages.ends(key)
        self.averages.average(key, name, value)

    def dropped(self, metric: Any) -> None:
        """What was added is forgotten, whether or not an average was computed of it."""
        known = self._average_of(metric)
        if known is not None:
            self.averages.drop(*known)

    def _average_of(self, metric: Any) -> tuple[PassKey, str] | None:
        held, key, name = self.metrics.get(id(metric), (None, None, ""))
        return (key, name) if held is not None and key is not None and held() is metric else None


def _loader(trainer: Any, name: str, number: int | None) -> Any:
    if name == "training":
        return trainer.train_dataloader
    loaders = trainer.val_dataloaders if name == "validation" else trainer.test_dataloaders
    if isinstance(loaders, (list, tuple)):
        return loaders[number or 0]
    return loaders


def _module(averages: TrainerAverages, module: ModuleType) -> None:
    here = _of(averages)

    def make(own: Callable[..., Any]) -> Callable[..., Any]:
        def log(module: Any, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
            here.logging.append((value, averages.position()))
            try:
                return own(module, name, value, *args, **kwargs)
            finally:
                here.logging.pop()

        return log

    averages.in_place_of(module.LightningModule, "log", make)


def _connector(averages: TrainerAverages, module: ModuleType) -> None:
    here = _of(averages)
    kind = getattr(module, "_LoggerConnector", None) or module.LoggerConnector

    def make(own: Callable[..., Any]) -> Callable[..., Any]:
        def on_batch_start(connector: Any, batch: Any, dataloader_idx: int | None = None) -> Any:
            result = own(connector, batch, *(() if dataloader_idx is None else (dataloader_idx,)))
            averages.quietly(here.begins, connector.trainer, batch, dataloader_idx)
            return result

        return on_batch_start

    averages.in_place_of(kind, "on_batch_start", make)


def _result(averages: TrainerAverages, module: ModuleType) -> None:
    here = _of(averages)
    kind = getattr(module, "_ResultMetric", None) or module.ResultMetric

    def update(own: Callable[..., Any]) -> Callable[..., Any]:
        def update(metric: Any, value: Any, batch_size: int) -> Any:
            averages.quietly(here.adds, metric, batch_size)
            return own(metric, value, batch_size)

        return update

    def compute(own: Callable[..., Any]) -> Callable[..., Any]:
        def compute(metric: Any) -> Any:
            value = own(metric)
            averages.quietly(here.averaged, metric, value)
            return value

        return compute

    def reset(own: Callable[..., Any]) -> Callable[..., Any]:
        def reset(metric: Any) -> Any:
            averages.quietly(here.dropped, metric)
            return own(metric)

        return reset

    averages.in_place_of(kind, "update", update)
    averages.in_place_of(kind, "compute", compute)
    averages.in_place_of(kind, "reset", reset)


def _of(averages: TrainerAverages) -> _Lightning:
    found: _Lightning = averages.adapters.setdefault("lightning", _Lightning(averages))
    return found


_PARTS = {
    "core.module": _module,
    "trainer.connectors.logger_connector.logger_connector": _connector,
    "trainer.connectors.logger_connector.result": _result,
}
#: What to do once a module is imported.
WATCHES = {
    f"{package}.{name}": watch
    for package in ("lightning.pytorch", "pytorch_lightning")
    for name, watch in _PARTS.items()
}
