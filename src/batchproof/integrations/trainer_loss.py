"""A Hugging Face ``Trainer``'s own loss of a batch, computed once more and leaving no trace in the Trainer."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch

from batchproof.ground.isolation import preserved

IGNORED = -100
#: Up to which a loss that is computed again, of pieces, is the same: with numbers of 32 bits, and with shorter ones.
ROUNDING, COARSE_ROUNDING = 1e-5, 2e-2


class TrainerLoss:
    """What ``trainer.compute_loss`` gives for a batch on this rank alone, and what the batch holds."""

    def __init__(self, trainer: Any, compute_loss: Callable[..., Any]) -> None:
        self.trainer = trainer
        self.compute_loss = compute_loss
        self.world: int = trainer.args.world_size
        self.rounding = COARSE_ROUNDING if _is_coarse(trainer) else ROUNDING

    def why_not(self) -> str:
        """Why a batch's loss cannot be computed once more; empty where it can."""
        trainer = self.trainer
        if trainer.args.n_gpu > 1:
            return "the model runs on several devices of one process; use torchrun"
        sharded = getattr(trainer, "is_fsdp_enabled", False) or getattr(trainer, "is_deepspeed_enabled", False)
        if sharded or getattr(trainer.accelerator, "parallelism_config", None) is not None:
            return "the model is sharded over ranks, so that none computes a batch alone"
        return ""

    def __call__(self, model: Any, inputs: Mapping[str, Any], items: int | None = None) -> float:
        """The loss of a batch, not scaled for other ranks; ``items`` is what it is told as ``num_items_in_batch``."""
        alone = self._alone()
        bound = getattr(self.compute_loss, "__self__", None) is self.trainer
        compute = self.compute_loss.__func__.__get__(alone) if bound else self.compute_loss  # type: ignore[attr-defined]
        told = {} if items is None else {"num_items_in_batch": items}
        with torch.no_grad(), preserved(), self.trainer.compute_loss_context_manager():
            loss = compute(self.trainer.accelerator.unwrap_model(model), dict(inputs), return_outputs=False, **told)
        return float(loss.detach().double().mean())

    def items(self, inputs: Mapping[str, Any]) -> int:
        """What this rank's batch counts for in ``num_items_in_batch``."""
        return int(self._alone()._get_num_items_in_batch([inputs], self.trainer.args.device))

    def _alone(self) -> Any:
        """A copy of the trainer that knows no other ranks, and whose notes are its own."""
        alone = copy.copy(self.trainer)
        alone.args = copy.copy(self.trainer.args)
        alone.args.average_tokens_across_devices = False
        for name, value in vars(self.trainer).items():
            if name.startswith("_") and isinstance(value, (dict, list, set, deque)):
                vars(alone)[name] = _copied(value)
        return alone

    def units(self, inputs: Mapping[str, Any]) -> dict[str, int]:
        """What a batch's loss might be a mean over: how many of each there are."""
        found: dict[str, int] = {}
        name = next((name for name in self.trainer.label_names if name in inputs), "labels")
        labels = inputs.get(name)
        if isinstance(labels, torch.Tensor) and labels.ndim:
            if labels.is_floating_point():
                found["values of labels"] = labels.numel()
            else:
                found["labels"] = int((labels != IGNORED).sum())
                if labels.ndim > 1:
                    found["labels after the first"] = int((labels[:, 1:] != IGNORED).sum())
                    found["places for labels"] = labels.numel()
        found["samples"] = rows_of(inputs)
        mask = inputs.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.ndim == 2:
            found["tokens"] = int(mask.sum())
        return found

    def sparse(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Two samples, one of which has lost all labels but its first and its last: means over other things differ."""
        labels = inputs.get("labels")
        if not isinstance(labels, torch.Tensor) or labels.ndim != 2 or labels.is_floating_point() or len(labels) < 2:
            return None
        fewer = labels[:2].clone()
        places = (labels[0] != IGNORED).nonzero().flatten().tolist()
        if len(places) < 3:
            return None
        fewer[0] = IGNORED
        for place in (places[0], places[-1]):
            fewer[0, place] = labels[0, place]
        return {**cut(inputs, 0, 2), "labels": fewer}


def rows_of(inputs: Mapping[str, Any]) -> int:
    """How many samples a batch holds.

    Raises:
        ValueError: its tensors disagree.
    """
    found = {len(value) for value in inputs.values() if isinstance(value, torch.Tensor) and value.ndim}
    if len(found) != 1:
        raise ValueError("the tensors of a batch have different numbers of rows, so that it cannot be cut")
    return found.pop()


def cut(inputs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    """Some samples of a batch."""
    return {
        name: value[start:stop] if isinstance(value, torch.Tensor) and value.ndim else value
        for name, value in inputs.items()
    }


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any] | None:
    """The samples of two batches; None where these differ in more than their number."""
    if shapes(first) != shapes(second):
        return None
    return {
        name: torch.cat([value, second[name]]) if isinstance(value, torch.Tensor) and value.ndim else value
        for name, value in first.items()
    }


def shapes(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What two batches must have in common to be joined."""
    return {
        name: value.shape[1:] if isinstance(value, torch.Tensor) and value.ndim else type(value)
        for name, value in inputs.items()
    }


def _is_coarse(trainer: Any) -> bool:
    """Whether the model computes with fewer digits than 32 bits have."""
    args = trainer.args
    short = any(getattr(args, name, False) for name in ("bf16", "fp16", "bf16_full_eval", "fp16_full_eval"))
    dtypes = {p.dtype for p in trainer.model.parameters() if p.is_floating_point()}
    return short or bool(dtypes - {torch.float32, torch.float64}) or torch.get_float32_matmul_precision() != "highest"


def _copied(notes: Any) -> Any:
    try:
        return copy.deepcopy(notes)
    except Exception:  # noqa: BLE001 - what is in there may be anything, such as tensors of a graph
        return copy.copy(notes)
