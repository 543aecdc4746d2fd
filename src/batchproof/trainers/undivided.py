"""Why a ``transformers.Trainer`` leaves out the division, and what makes it divide."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

#: Whether the loss is divided already, said by hand; the Trainer concludes it otherwise.  Not in all versions.
SWITCH = "loss_is_scaled_for_ga"
STILL_A_MEAN = (
    "a Trainer that divides does so by the number of micro-batches: where they hold different numbers of labels, a "
    "mean of the micro-batches' means remains. Only a loss divided by num_items_in_batch has none"
)


def why_not_divided(trainer: Any, *, tokens: bool) -> Iterator[str]:
    """Who was to divide and does not; with a loss over ``tokens`` also what remains once the Trainer divides."""
    import transformers

    usual, said = transformers.Trainer, getattr(trainer, SWITCH, None)
    leaves_it = said if said is not None else trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None
    # where the Trainer divides the loss itself multiplies; and what a step of one's own leaves to whom is not known
    if not leaves_it or _is_own(trainer.training_step, usual.training_step):
        return
    if said:
        yield f"trainer.{SWITCH} is set, so the Trainer does not divide; the loss is not divided either"
    elif _is_own(trainer.compute_loss, usual.compute_loss):
        yield _own_loss(trainer)
    elif trainer.compute_loss_func is not None:
        yield _loss_function(trainer)
    else:
        yield (
            f"{_left_to_the_model(trainer.model)}, so the Trainer leaves the division to the model, whose loss does "
            "not use num_items_in_batch. trainer.model_accepts_loss_kwargs = False makes the Trainer divide"
        )
    if tokens:
        yield STILL_A_MEAN


def _is_own(method: Any, usual: Any) -> bool:
    return getattr(method, "__func__", method) is not usual


def _own_loss(trainer: Any) -> str:
    kind = type(trainer).__name__
    given = trainer.compute_loss_func is not None
    why = "compute_loss_func is given" if given else _left_to_the_model(trainer.model)
    if hasattr(trainer, SWITCH):
        switch = f"{SWITCH} = False in the class makes the Trainer divide"
    else:
        switch = "trainer.model_accepts_loss_kwargs = False makes the Trainer divide" if not given else ""
    return (
        f"{why}, so the Trainer takes the loss as divided already, and {kind}.compute_loss gives one that is not. Let "
        f"it divide the sum of the loss by num_items_in_batch{_or(switch)}"
    )


def _loss_function(trainer: Any) -> str:
    name = getattr(trainer.compute_loss_func, "__name__", type(trainer.compute_loss_func).__name__)
    switch = f"trainer.{SWITCH} = False makes the Trainer divide" if hasattr(trainer, SWITCH) else ""
    return (
        f"the Trainer leaves the division to compute_loss_func, and {name} does not divide by num_items_in_batch. Let "
        f"it divide the sum of the loss by that{_or(switch)}; trainer.model_accepts_loss_kwargs changes nothing here"
    )


def _or(switch: str) -> str:
    return f", or: {switch}" if switch else ""


def _left_to_the_model(model: Any) -> str:
    """From what the Trainer concludes that the model divides."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if getattr(inner, "accepts_loss_kwargs", False):
        return "the model has accepts_loss_kwargs = True"
    if any(one.kind is one.VAR_KEYWORD for one in inspect.signature(inner.forward).parameters.values()):
        return "the model's forward takes **kwargs"
    return "trainer.model_accepts_loss_kwargs is True"
