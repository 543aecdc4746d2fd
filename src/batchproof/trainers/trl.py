"""Check a trainer of TRL: supervised, of preferences, or of rollouts that it generates itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.gradients.check import GradientCheck
from batchproof.ground.isolation import preserved
from batchproof.trainers.compare import needs
from batchproof.trainers.hugging_face import apart, check_on, samples_of, steps_of, usable
from batchproof.trainers.process_state import own_state
from batchproof.trainers.samples import Count, EpochSamples


def check(
    trainer: Any,
    accumulation_steps: int | None = None,
    *,
    windows: int = 3,
    count: Count | None = None,
    dropout: bool = False,
    tolerance: float | None = None,
) -> GradientCheck:
    """Compare the gradients of a trainer of TRL that accumulates with those of whole batches.

    >>> from trl import GRPOConfig, GRPOTrainer                                 # doctest: +SKIP
    >>> from batchproof.trainers import trl                                     # doctest: +SKIP
    >>> args = GRPOConfig("out", loss_type="bnpo", per_device_train_batch_size=2, use_cpu=True, bf16=False,
    ...                   gradient_accumulation_steps=4, num_generations=2)     # doctest: +SKIP
    >>> trainer = GRPOTrainer(model, reward, args, data, processing_class=tokenizer)  # doctest: +SKIP
    >>> trl.check(trainer).cause                                                # doctest: +SKIP
    'mean-of-means'

    The trainer's own ``train`` runs, on a copy that shares its model, with an optimizer that steps nowhere, as in
    `batchproof.trainers.hugging_face.check`.  A trainer of rollouts (GRPO, RLOO) generates and scores them once, by its
    own code; the same ones are then trained on in whole batches and in micro-batches.  The trainer, the model, its
    gradients and the random state are as before afterwards.

    Args:
        trainer: ``SFTTrainer``, ``DPOTrainer``, ``KTOTrainer``, ``RewardTrainer``, ``GRPOTrainer``, ``RLOOTrainer`` or
            of a subclass; or a function without arguments that makes one.  Its ``per_device_train_batch_size`` is that
            of a micro-batch.
        accumulation_steps: Micro-batches for one optimizer step; the trainer's own if None, or 4 where it has 1.
        windows: How many optimizer steps to compare; of rollouts, how many times to generate.
        count: From a batch, by name, what its micro-batch might have to be weighted by; samples, labels and tokens of
            completions are counted anyway.
        dropout: Whether dropout stays on; its masks differ between micro-batches and the whole batch.
        tolerance: As in `batchproof.check_gradients`; if None, 2e-2 in mixed precision.

    Returns:
        A `batchproof.GradientCheck`; printed, it is the report.

    Raises:
        BatchproofError: TRL is missing, it is no trainer of TRL, it has too few samples, or several processes train.
    """
    try:
        import trl
    except ImportError as error:
        raise needs("trl", error) from None
    trainer = usable(trainer)
    if not any(kind.__module__.partition(".")[0] == "trl" for kind in type(trainer).__mro__):
        raise BatchproofError(
            f"the trainer is one of TRL's, not {type(trainer).__name__}: batchproof.trainers.hugging_face takes any"
        )
    pairs = isinstance(trainer, trl.DPOTrainer)

    def counts(batch: Any) -> dict[str, float]:
        return {**_completions(batch, pairs), **(count(batch) if count is not None else {})}

    steps = steps_of(trainer, accumulation_steps)
    ran = f"{type(trainer).__name__} of trl {trl.__version__}"
    if hasattr(trainer, "_generate_and_score_completions"):
        samples = _rollouts(trainer, steps, windows, counts)
        return check_on(trainer, samples, dropout=dropout, tolerance=tolerance, ran=ran, prepare=_on_rollouts)
    samples = samples_of(trainer, steps, windows, counts)
    return check_on(trainer, samples, dropout=dropout, tolerance=tolerance, ran=ran)


def _completions(batch: Any, pairs: bool) -> dict[str, float]:
    """Tokens of the completions: of pairs also of the chosen ones, which are the first half of a batch."""
    mask = batch.get("completion_mask") if isinstance(batch, Mapping) else None
    if not isinstance(mask, Tensor):
        return {}
    found = {"completion tokens": float(mask.sum())}
    if pairs:
        found["chosen tokens"] = float(mask[: len(mask) // 2].sum())
    return found


# ---------------------------------------------------------------------- rollouts


def _rollouts(trainer: Any, steps: int, windows: int, count: Count) -> EpochSamples:
    """What the trainer generates and scores from the first prompts of an epoch, for each optimizer step by itself.

    Raises:
        BatchproofError: An optimizer step does not take whole groups of a prompt, or there are too few prompts.
    """
    size, group = trainer.args.per_device_train_batch_size, trainer.num_generations
    for name, number, least in (("accumulation_steps", steps, 2), ("windows", windows, 1)):
        if type(number) is not int or number < least:
            raise BatchproofError(f"{name} is a whole number from {least} on, not {number!r}")
    if size * steps % group:
        raise BatchproofError(
            f"an optimizer step of {steps} micro-batches of {size} does not take whole groups of {group} completions "
            "for each prompt: let accumulation_steps times the batch size be a multiple of num_generations"
        )
    each = size * steps // group
    prompts = list(islice(iter(trainer.train_dataset), each * windows))
    parts = [prompts[start : start + each] for start in range(0, len(prompts) - each + 1, each)]
    if not parts:
        raise BatchproofError(f"the trainer has {len(prompts)} prompts, and one optimizer step takes {each}")
    with own_state(), preserved(trainer.model):
        trainer.model.train()
        probe = apart(trainer)
        items = [one for part in parts for one in _generated(probe, [prompt for prompt in part for _ in range(group)])]
    return EpochSamples(items, size, steps, _as_batch, count, items)


@dataclass(frozen=True)
class _Rollout:
    """One completion of a prompt, and what its trainer says of all of an optimizer step, such as their tokens."""

    own: dict[str, Any]
    of_all: dict[str, Tensor]


def _generated(probe: Any, prompts: list[Any]) -> list[_Rollout]:
    batch = {name: value for name, value in probe._generate_and_score_completions(prompts).items() if value is not None}
    of_all = {name: value for name, value in batch.items() if isinstance(value, Tensor) and value.ndim == 0}
    own = {name: value for name, value in batch.items() if name not in of_all}
    return [_Rollout({name: value[row] for name, value in own.items()}, of_all) for row in range(len(prompts))]


def _as_batch(rollouts: list[_Rollout]) -> dict[str, Any]:
    """Rollouts of one optimizer step as the trainer has them."""
    batch: dict[str, Any] = dict(rollouts[0].of_all)
    for name, first in rollouts[0].own.items():
        values = [rollout.own[name] for rollout in rollouts]
        batch[name] = torch.stack(values) if isinstance(first, Tensor) else values
    return batch


def _on_rollouts(probe: Any) -> None:
    """Rollouts that are there are taken as they come, in batches of the size that the run has."""
    from transformers import Trainer

    probe.args.remove_unused_columns = False
    probe.args.steps_per_generation = probe.args.gradient_accumulation_steps
    probe._step = 0
    probe.get_train_dataloader = lambda: Trainer.get_train_dataloader(probe)
    probe._prepare_inputs = lambda inputs: Trainer._prepare_inputs(probe, inputs)
