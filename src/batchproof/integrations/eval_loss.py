"""A Hugging Face ``Trainer``'s ``eval_loss`` on the whole evaluation set, beside the mean of batch means that it logs.

A batch's loss is a mean over something: label tokens, samples. What, is found by cutting batches: the number by which
the pieces must be weighted to give their batch. Where none fits, the loss is not a mean, and no number is given.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchproof.errors import BatchproofError
from batchproof.integrations.mean_of_pieces import MeanOfPieces
from batchproof.integrations.packages import require
from batchproof.integrations.repeats import own_rows
from batchproof.integrations.trainer_loss import TrainerLoss

if TYPE_CHECKING:
    TrainerCallback: Any = object
else:
    try:
        from transformers import TrainerCallback
    except ImportError:
        TrainerCallback = object


@dataclass(frozen=True)
class EvalLoss:
    """The loss of one evaluation; printed, a line.

    Attributes:
        printed: What the Trainer logs.
        exact: The loss on the whole evaluation set; None where it is not known.
        unit: What it is a mean over.
        number: How many of these there are.
        reason: Why there is no exact loss.
    """

    printed: float
    exact: float | None
    unit: str = ""
    number: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.exact is None:
            return f"eval_loss {self.printed:.4f}; no exact value: {self.reason}"
        off = (self.printed - self.exact) / self.exact if self.exact else 0.0
        over = f"the mean over {self.number:,} {self.unit}"
        return f"eval_loss {self.printed:.4f}, exact {self.exact:.4f} ({off:+.2%}), {over}"


class ExactEvalLoss(TrainerCallback):  # type: ignore[misc]
    """A callback that logs the exact loss of each evaluation beside the Trainer's, as ``eval_exact_loss``.

    >>> from transformers import Trainer                                        # doctest: +SKIP
    >>> from batchproof.integrations.transformers import ExactEvalLoss          # doctest: +SKIP
    >>> trainer = Trainer(model, args, eval_dataset=data, callbacks=[ExactEvalLoss()])     # doctest: +SKIP
    >>> trainer.evaluate()                                                      # doctest: +SKIP
    {'eval_loss': 2.071, 'eval_exact_loss': 2.093, ...}

    The Trainer averages the means of batches, each repeated by its number of samples, so its ``eval_loss`` depends on
    ``per_device_eval_batch_size`` where batches have different numbers of label tokens. The exact loss does not. It is
    in what `evaluate` returns, in ``state.log_history`` and in ``metric_for_best_model="eval_exact_loss"``. It is made
    of the losses that the Trainer computes; a few batches are computed once more in pieces, to find what the loss is a
    mean over.

    Where that cannot be found (a loss that couples the samples of a batch, class weights, a model that is sharded, or
    a Trainer that does not use its own ``compute_loss``), a warning says why, and there is no number.

    Attributes:
        found: The last evaluation's `EvalLoss`; None before the first.
    """

    def __init__(self) -> None:
        require("transformers", "transformers")
        self.found: EvalLoss | None = None
        self._pieces: MeanOfPieces | None = None
        self._said: set[str] = set()

    def on_init_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Attach to the Trainer that is being made."""
        trainer = _calling_trainer(self)
        if trainer is not None:
            self.attach(trainer)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Attach to a Trainer that got this callback later."""
        self.on_init_end(args, state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Say so where an evaluation came before this was attached."""
        trainer = _calling_trainer(self)
        if trainer is not None and not _is_attached(self, trainer):
            self._say("the callback came after the trainer was made; pass callbacks=[ExactEvalLoss()]")
            self.attach(trainer)

    def attach(self, trainer: Any) -> ExactEvalLoss:
        """Measure a trainer's evaluations from now on; needed only for a callback that was added to it later.

        Returns:
            This callback.
        """
        if not isinstance(trainer, require("transformers", "transformers").Trainer):
            raise BatchproofError(f"attach takes a transformers.Trainer, not {type(trainer).__name__}")
        if not _is_attached(self, trainer):
            loss = TrainerLoss(trainer, trainer.compute_loss)
            trainer.compute_loss = self._watched_loss(trainer, trainer.compute_loss)
            trainer.prediction_step = self._watched_step(trainer.prediction_step)
            trainer.evaluation_loop = _Watched(self, loss, trainer.evaluation_loop)
        return self

    def _watched_loss(self, trainer: Any, compute_loss: Callable[..., Any]) -> Callable[..., Any]:
        def watched(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self._pieces is None:
                return compute_loss(model, inputs, *args, **kwargs)
            given = dict(inputs)  # a label smoother takes the labels out
            result = compute_loss(model, inputs, *args, **kwargs)
            loss = result[0] if isinstance(result, tuple) else result
            items = kwargs.get("num_items_in_batch", args[1] if len(args) > 1 else None)
            self._pieces.take(model, given, loss, items, lambda rows: _own_rows(trainer, rows))
            return result

        return watched

    def _watched_step(self, prediction_step: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            result = prediction_step(*args, **kwargs)
            if self._pieces is not None and result[0] is not None:
                self._pieces.stepped(result[0])
            return result

        return watched

    def evaluated(self, loss: TrainerLoss, run: Callable[[], Any], prefix: str) -> Any:
        """Run an evaluation loop; its exact loss is among the metrics that it returns."""
        self._pieces = pieces = MeanOfPieces(loss)
        try:
            output = run()
        finally:
            self._pieces = None
        printed = output.metrics.get(f"{prefix}_loss")
        if printed is None:
            return output
        try:
            value, unit, number = pieces.result()
        except BatchproofError as refused:
            self.found = EvalLoss(printed, None, reason=str(refused))
            self._say(str(refused))
            return output
        self.found = EvalLoss(printed, value, unit, number)
        output.metrics[f"{prefix}_exact_loss"] = value
        return output

    def _say(self, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            warnings.warn(f"no exact eval_loss: {reason}", stacklevel=2)


class _Watched:
    """A Trainer's ``evaluation_loop``, with its exact loss."""

    def __init__(self, callback: ExactEvalLoss, loss: TrainerLoss, loop: Callable[..., Any]) -> None:
        self.callback, self.loss, self.loop = callback, loss, loop
        self.__signature__ = inspect.signature(loop)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self.__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        prefix = bound.arguments.get("metric_key_prefix", "eval")
        return self.callback.evaluated(self.loss, lambda: self.loop(*args, **kwargs), prefix)


def _is_attached(callback: ExactEvalLoss, trainer: Any) -> bool:
    loop = vars(trainer).get("evaluation_loop")
    return isinstance(loop, _Watched) and loop.callback is callback


def _calling_trainer(callback: Any) -> Any:
    """The Trainer whose code is calling: callbacks are told of everything but the Trainer itself."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        found = frame.f_locals.get("self")
        handler = getattr(found, "callback_handler", None)
        if handler is not None and hasattr(found, "evaluation_loop") and callback in handler.callbacks:
            return found
        frame = frame.f_back
    return None


def _own_rows(trainer: Any, rows: int) -> int:
    if trainer.args.world_size == 1:
        return rows
    return own_rows(trainer.callback_handler.eval_dataloader, rows)
