"""Hugging Face's Trainer: ``loss`` over the steps since it was last logged, ``eval_loss`` over an evaluation.

Models of transformers compute their loss themselves; how is noted wherever a measured loop calls them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchproof.scripts.run.trainers.averages import Position, TrainerAverages

_TRAINING = "training"


@dataclass
class _Trainer:
    """What is going on in a Trainer.

    Attributes:
        averages: to be told.
        evaluating: the names of the averages of evaluations that are being made.
    """

    averages: TrainerAverages
    evaluating: list[tuple[str, Position]] = field(default_factory=list)

    def loss(self, trainer: Any, inputs: Any, num_items: Any, compute: Callable[[], Any]) -> Any:
        """A batch's loss, as the Trainer asks for it: in training, or in an evaluation."""
        key: object = self.evaluating[-1][0] if self.evaluating else (_TRAINING, id(trainer))
        at = self.evaluating[-1][1] if self.evaluating else self.averages.position()
        if at is None:
            return compute()
        self.averages.quietly(self._step, trainer, key, inputs)
        result = self.averages.through_model(compute)
        loss = result[0] if isinstance(result, (tuple, list)) else result
        if loss is not None:
            self.averages.quietly(self._add, trainer, key, loss, at, num_items)
        return result

    def _step(self, trainer: Any, key: object, inputs: Any) -> None:
        if not self.evaluating and not self.averages.has_begun(key):
            self.averages.begins(key, trainer.callback_handler.train_dataloader, trains=True)
        self.averages.step(key, dict(inputs) if isinstance(inputs, Mapping) else inputs)

    def _add(self, trainer: Any, key: object, loss: Any, at: Position, num_items: Any) -> None:
        if self.evaluating:
            self.averages.add(key, self.evaluating[-1][0], loss, at, unit=self.averages.steps(key))
        elif _is_part(trainer, num_items):
            self.averages.add(key, "loss", loss, at, unit=int(trainer.state.global_step))
        else:
            micro = getattr(trainer, "current_gradient_accumulation_steps", trainer.args.gradient_accumulation_steps)
            self.averages.add(key, "loss", loss, at, weight=1 / micro)

    def logged(self, trainer: Any, logs: Any) -> None:
        """The Trainer reports something."""
        key = (_TRAINING, id(trainer))
        if isinstance(logs, Mapping) and "loss" in logs and self.averages.has_begun(key):
            self.averages.ends(key)
            self.averages.average(key, "loss", logs["loss"])


def _is_part(trainer: Any, num_items: Any) -> bool:
    """Whether a loss is divided by what all micro-batches of an optimizer step have, and they are added up."""
    scaled = getattr(trainer, "loss_is_scaled_for_ga", None)
    if scaled is None:
        accepts = getattr(trainer, "model_accepts_loss_kwargs", False) and num_items is not None
        scaled = accepts or getattr(trainer, "compute_loss_func", None) is not None
    return bool(scaled)


def _watch_trainer(averages: TrainerAverages, module: ModuleType) -> None:
    here = _Trainer(averages)

    def steps(own: Callable[..., Any]) -> Callable[..., Any]:
        def step(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            if "compute_loss" in vars(trainer) or _is_compiled(trainer):
                return own(trainer, *args, **kwargs)
            compute = trainer.compute_loss

            @functools.wraps(compute)
            def compute_loss(model: Any, inputs: Any, *more: Any, **words: Any) -> Any:
                call = functools.partial(compute, model, inputs, *more, **words)
                return here.loss(trainer, inputs, words.get("num_items_in_batch"), call)

            trainer.compute_loss = compute_loss
            try:
                return own(trainer, *args, **kwargs)
            finally:
                del trainer.compute_loss

        return step

    def evaluation(own: Callable[..., Any]) -> Callable[..., Any]:
        def loop(
            trainer: Any,
            dataloader: Any,
            description: str,
            prediction_loss_only: bool | None = None,
            ignore_keys: list[str] | None = None,
            metric_key_prefix: str = "eval",
            **words: Any,
        ) -> Any:
            name, at = f"{metric_key_prefix}_loss", averages.position()
            given = (dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
            if at is None:
                return own(trainer, *given, **words)
            averages.quietly(averages.begins, name, dataloader, False)
            here.evaluating.append((name, at))
            try:
                output = own(trainer, *given, **words)
            finally:
                here.evaluating.pop()
                averages.quietly(averages.ends, name)
            printed = (getattr(output, "metrics", None) or {}).get(name)
            if printed is None:
                averages.quietly(averages.drop, name, name)
            else:
                averages.quietly(averages.average, name, name, printed, True)
            return output

        return loop

    def log(own: Callable[..., Any]) -> Callable[..., Any]:
        def log(trainer: Any, logs: Any, *args: Any, **kwargs: Any) -> Any:
            averages.quietly(here.logged, trainer, logs)
            return own(trainer, logs, *args, **kwargs)

        return log

    averages.in_place_of(module.Trainer, "training_step", steps)
    averages.in_place_of(module.Trainer, "prediction_step", steps)
    averages.in_place_of(module.Trainer, "evaluation_loop", evaluation)
    averages.in_place_of(module.Trainer, "log", log)


def _is_compiled(trainer: Any) -> bool:
    return bool(getattr(trainer.args, "torch_compile", False))


def _watch_models(averages: TrainerAverages, module: ModuleType) -> None:
    kind = module.PreTrainedModel
    own, is_compiling = kind.__call__, module.torch.compiler.is_compiling

    @functools.wraps(own)
    def call(model: Any, *args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return own(model, *args, **kwargs)
        return averages.through_model(own, model, *args, **kwargs)

    kind.__call__ = call
    averages.undo.callback(delattr, kind, "__call__")


#: What to do once a module is imported.
WATCHES = {"transformers.trainer": _watch_trainer, "transformers.modeling_utils": _watch_models}
