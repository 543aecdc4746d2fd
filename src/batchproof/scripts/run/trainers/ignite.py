"""Ignite: metrics that average what an engine's function gives, or a loss of it, over the engine's epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from batchproof.scripts.run.trace import is_tensor

if TYPE_CHECKING:
    from batchproof.scripts.run.formula import Formula
    from batchproof.scripts.run.trainers.averages import Position, TrainerAverages


@dataclass
class _Ignite:
    """What is going on in engines.

    Attributes:
        averages: to be told.
        engines: those that call their function now, the innermost last.
        attached: by metric, the engines that it averages for, each with the name and the line of the script.
        formulas: by metric, the function of its loss, or why it cannot be called again.
    """

    averages: TrainerAverages
    engines: list[Any] = field(default_factory=list)
    attached: WeakKeyDictionary[Any, list[tuple[Any, str, Position]]] = field(default_factory=WeakKeyDictionary)
    formulas: WeakKeyDictionary[Any, Formula | str] = field(default_factory=WeakKeyDictionary)

    def fires(self, engine: Any, event: str) -> None:
        """An engine is at an event, whose handlers are about to be called."""
        key = ("ignite", id(engine))
        if event in ("EPOCH_STARTED", "COMPLETED", "EXCEPTION_RAISED") and engine in self.engines:
            self.engines.remove(engine)  # its last epoch was not completed
        if event == "EPOCH_STARTED":
            self.engines.append(engine)
            self.averages.begins(key, engine.state.dataloader, trains=_trains(engine))
        elif event == "ITERATION_STARTED" and engine in self.engines:
            self.averages.step(key, engine.state.batch)
        elif event == "EPOCH_COMPLETED" and engine in self.engines:
            self.engines.remove(engine)
            self.averages.ends(key)

    def attaches(self, metric: Any, engine: Any, name: str, usage: Any) -> None:
        """A metric is to average for an engine."""
        at = self.averages.position()
        if at is None:
            return
        kind = type(metric).__name__
        if kind == "RunningAverage":
            alpha = getattr(metric, "alpha", None)
            what = f"a running average (alpha {alpha}), which follows the last batches"
            self.averages.note(f"{name}: {what}: there is no value on all samples that it should have")
        elif kind in ("Average", "Loss") and _is_over_epoch(usage):
            self.attached.setdefault(metric, []).append((engine, name, at))
            if kind == "Loss":
                self.averages.says(("ignite", id(engine)), name, metric._loss_fn)

    def _of(self, metric: Any) -> tuple[object, str, Position] | None:
        """The pass that a metric averages over now."""
        for engine, name, at in self.attached.get(metric, ()):
            if self.engines and engine is self.engines[-1]:
                return ("ignite", id(engine)), name, at
        return None

    def adds(self, metric: Any, output: Any) -> None:
        """A value goes into ``Average``."""
        known = self._of(metric)
        if known is not None:
            key, name, at = known
            self.averages.add(key, name, output, at)

    def scores(self, metric: Any, output: Any, value: Any) -> None:
        """A loss of predictions and targets goes into ``Loss``."""
        known = self._of(metric)
        if known is None:
            return
        key, name, at = known
        batch = list(output[:2])
        loss = self.formulas.get(metric)
        if loss is None:
            loss = self.formulas[metric] = _formula(metric._loss_fn)
        whole = all(map(is_tensor, batch)) and len(output) == 2
        formula = loss if whole else "its loss is called with more than two tensors"
        self.averages.add_of(key, name, value, at, metric._batch_size(batch[1]), formula, batch if whole else [])

    def completed(self, metric: Any, engine: Any, name: str) -> None:
        """A metric is computed."""
        if any(each is engine and own == name for each, own, _ in self.attached.get(metric, ())):
            self.averages.average(("ignite", id(engine)), name, engine.state.metrics.get(name))

    def started(self, metric: Any, engine: Any) -> None:
        """A metric begins anew."""
        for each, name, _ in self.attached.get(metric, ()):
            if each is engine:
                self.averages.drop(("ignite", id(engine)), name)


def _trains(engine: Any) -> bool:
    """Whether an engine's function computes gradients."""
    code = getattr(engine._process_function, "__code__", None)
    return code is not None and "backward" in code.co_names


def _formula(loss: Callable[..., Any]) -> Formula | str:
    """A loss of predictions and targets as a function that may be called again; why it may not."""
    from batchproof.scripts.run.formula import Formula
    from batchproof.scripts.run.purity import Opaque, may_be_called_again

    try:
        may_be_called_again(loss, None, "", [], through_models=False)
    except Opaque as reason:
        return str(reason)
    return Formula([], (0, 1), ((0, loss),), loss, "loss(y_pred, y)", ("y_pred", "y"), uses_model=True)


def _is_over_epoch(usage: Any) -> bool:
    """Whether a metric is reset as an epoch begins."""
    names = (type(usage).__name__, getattr(usage, "__name__", ""))
    return usage is None or usage == "epoch_wise" or "EpochWise" in names


def _watch_engine(averages: TrainerAverages, module: ModuleType) -> None:
    here = _of(averages)

    def make(own: Callable[..., Any]) -> Callable[..., Any]:
        def _fire_event(engine: Any, event_name: Any, *args: Any, **kwargs: Any) -> Any:
            averages.quietly(here.fires, engine, getattr(event_name, "name", ""))
            return own(engine, event_name, *args, **kwargs)

        return _fire_event

    averages.in_place_of(module.Engine, "_fire_event", make)


def _watch_metric(averages: TrainerAverages, module: ModuleType) -> None:
    here = _of(averages)

    def attach(own: Callable[..., Any]) -> Callable[..., Any]:
        def attach(metric: Any, engine: Any, name: str, *args: Any, **kwargs: Any) -> Any:
            averages.quietly(here.attaches, metric, engine, name, args[0] if args else kwargs.get("usage"))
            return own(metric, engine, name, *args, **kwargs)

        return attach

    def completed(own: Callable[..., Any]) -> Callable[..., Any]:
        def completed(metric: Any, engine: Any, name: str) -> Any:
            result = own(metric, engine, name)
            averages.quietly(here.completed, metric, engine, name)
            return result

        return completed

    def started(own: Callable[..., Any]) -> Callable[..., Any]:
        def started(metric: Any, engine: Any) -> Any:
            averages.quietly(here.started, metric, engine)
            return own(metric, engine)

        return started

    averages.in_place_of(module.Metric, "attach", attach)
    averages.in_place_of(module.Metric, "completed", completed)
    averages.in_place_of(module.Metric, "started", started)


def _watch_average(averages: TrainerAverages, module: ModuleType) -> None:
    here = _of(averages)

    def update(own: Callable[..., Any]) -> Callable[..., Any]:
        def update(metric: Any, output: Any) -> Any:
            averages.quietly(here.adds, metric, output)
            return own(metric, output)

        return update

    averages.in_place_of(module.VariableAccumulation, "update", update)


def _watch_loss(averages: TrainerAverages, module: ModuleType) -> None:
    here = _of(averages)

    def update(own: Callable[..., Any]) -> Callable[..., Any]:
        def update(metric: Any, output: Any) -> Any:
            loss, given = metric._loss_fn, []

            def noted(*args: Any, **kwargs: Any) -> Any:
                given.append(loss(*args, **kwargs))
                return given[-1]

            metric._loss_fn = noted
            try:
                result = own(metric, output)
            finally:
                metric._loss_fn = loss
            averages.quietly(here.scores, metric, output, given[-1].detach())
            return result

        return update

    averages.in_place_of(module.Loss, "update", update)


def _of(averages: TrainerAverages) -> _Ignite:
    found: _Ignite = averages.adapters.setdefault("ignite", _Ignite(averages))
    return found


#: What to do once a module is imported.
WATCHES = {
    "ignite.engine.engine": _watch_engine,
    "ignite.metrics.metric": _watch_metric,
    "ignite.metrics.accumulation": _watch_average,
    "ignite.metrics.loss": _watch_loss,
}
