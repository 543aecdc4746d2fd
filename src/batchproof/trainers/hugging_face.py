"""Check a ``transformers.Trainer``."""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.gradients.check import GradientCheck, GradientRecorder
from batchproof.trainers.compare import Capture, compare, needs
from batchproof.trainers.process_state import own_state
from batchproof.trainers.samples import Count, EpochSamples, of_dataset
from batchproof.trainers.undivided import why_not_divided

DEFAULT_STEPS = 4
#: Nothing is logged, saved, evaluated, clipped or sent anywhere, and every batch is made in this process.
QUIET = {
    "auto_find_batch_size": False, "dataloader_num_workers": 0, "dataloader_persistent_workers": False,
    "dataloader_pin_memory": False, "dataloader_prefetch_factor": None, "disable_tqdm": True, "eval_on_start": False,
    "eval_strategy": "no", "full_determinism": False, "load_best_model_at_end": False, "logging_strategy": "no",
    "max_grad_norm": 0.0, "max_steps": -1, "num_train_epochs": 1, "push_to_hub": False, "save_strategy": "no",
}  # fmt: skip


def check(
    trainer: Any,
    accumulation_steps: int | None = None,
    *,
    windows: int = 3,
    count: Count | None = None,
    dropout: bool = False,
    tolerance: float | None = None,
) -> GradientCheck:
    """Compare the gradients of a ``transformers.Trainer`` that accumulates with those of whole batches.

    >>> from transformers import Trainer, TrainingArguments                     # doctest: +SKIP
    >>> from batchproof.trainers import hugging_face                            # doctest: +SKIP
    >>> args = TrainingArguments("out", per_device_train_batch_size=2)          # doctest: +SKIP
    >>> trainer = Trainer(model, args, train_dataset=data)                      # doctest: +SKIP
    >>> hugging_face.check(trainer, accumulation_steps=4).cause                 # doctest: +SKIP
    'missing-division'

    The trainer's own ``train`` runs, on a copy that shares its model: on the first windows of an epoch and on its last,
    in the order of the data set, with an optimizer that steps nowhere.  Your callbacks are not called, and nothing is
    logged, evaluated, saved or sent.  The trainer, the model, its gradients and the random state are as before
    afterwards.

    Args:
        trainer: The ``Trainer``, or of a subclass; or a function without arguments that makes one.  Its
            ``per_device_train_batch_size`` is that of a micro-batch.
        accumulation_steps: Micro-batches for one optimizer step; the trainer's own if None, or 4 where it has 1.
        windows: How many optimizer steps to compare.
        count: From a batch, by name, what its micro-batch might have to be weighted by; samples, labels and unmasked
            positions are counted anyway.
        dropout: Whether dropout stays on; its masks differ between micro-batches and the whole batch.
        tolerance: As in `batchproof.check_gradients`; if None, 2e-2 in mixed precision.

    Returns:
        A `batchproof.GradientCheck`; printed, it is the report.

    Raises:
        BatchproofError: transformers is missing, it is no trainer, it has no training data, or several processes train.
    """
    trainer = usable(trainer)
    samples = samples_of(trainer, steps_of(trainer, accumulation_steps), windows, count)
    return check_on(trainer, samples, dropout=dropout, tolerance=tolerance)


def usable(trainer: Any) -> Any:
    """The trainer, or the one that a function makes.

    Raises:
        BatchproofError: transformers is missing, it is no trainer, it has no training data, or several processes train.
    """
    try:
        import transformers
    except ImportError as error:
        raise needs("transformers", error) from None
    if not isinstance(trainer, transformers.Trainer):
        made = trainer() if callable(trainer) else trainer
        if not isinstance(made, transformers.Trainer):
            raise BatchproofError(f"the trainer is a transformers.Trainer or makes one, not {type(made).__name__}")
        trainer = made
    if trainer.train_dataset is None:
        raise BatchproofError("the trainer has no train_dataset to take samples from")
    if trainer.args.world_size > 1 or trainer.args.n_gpu > 1:
        raise BatchproofError("this check is for one process and one device: set CUDA_VISIBLE_DEVICES to one GPU")
    return trainer


def steps_of(trainer: Any, given: int | None) -> int:
    """Micro-batches for one optimizer step: as given, or the trainer's own where it has several."""
    own: int = trainer.args.gradient_accumulation_steps
    return given if given is not None else own if own > 1 else DEFAULT_STEPS


def samples_of(trainer: Any, steps: int, windows: int, count: Count | None) -> EpochSamples:
    """The samples of the first windows of an epoch and of its last, in the order of the data set."""
    size, drop_last = trainer.args.per_device_train_batch_size, trainer.args.dataloader_drop_last
    return of_dataset(trainer.train_dataset, size, steps, windows, trainer.data_collator, drop_last, count)


def check_on(
    trainer: Any,
    samples: EpochSamples,
    *,
    dropout: bool,
    tolerance: float | None,
    ran: str = "",
    prepare: Callable[[Any], None] = lambda _: None,
) -> GradientCheck:
    """Compare on these samples; ``prepare`` changes the copy of the trainer that runs."""
    import transformers

    args = trainer.args
    counted: set[str] = set()

    def train(recorder: GradientRecorder, batch_size: int, steps: int) -> None:
        verbosity = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity_error()
        try:
            with own_state(_precision(args)):
                probe = _probe(trainer, samples, recorder, batch_size, steps)
                prepare(probe)
                probe.train()
        finally:
            transformers.logging.set_verbosity(verbosity)
            counted.update(recorder.counted)

    found = compare(
        trainer.model, train, samples, dropout=dropout, tolerance=tolerance, mixed=_precision(args) != "no",
        ran=ran or f"{type(trainer).__name__} of transformers {transformers.__version__}",
    )  # fmt: skip
    if any(finding.code == "missing-division" for finding in found.findings):
        notes = why_not_divided(trainer, tokens="shifted labels" in counted)
        return dataclasses.replace(found, notes=(*found.notes, *notes))
    return found


def _precision(args: Any) -> str:
    """In which precision the Trainer runs the model: ``no`` where it is that of the parameters."""
    if args.bf16 or args.fp16:
        return "bf16" if args.bf16 else "fp16"
    # from the environment
    return getattr(args, "mixed_precision", None) or "no"


def _probe(trainer: Any, samples: EpochSamples, recorder: GradientRecorder, batch_size: int, steps: int) -> Any:
    """A copy of the trainer, with the same model and the same code, that trains on these samples and steps nowhere."""
    from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback, TrainerControl

    probe = apart(trainer)
    probe.args = copy.copy(trainer.args)
    sizes = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": steps}
    for name, value in {**QUIET, **sizes}.items():
        if hasattr(probe.args, name):
            setattr(probe.args, name, value)
    # its own accelerator: what is prepared for the check does not stay with the trainer's
    probe.create_accelerator_and_postprocess()
    probe.model_init = None
    probe.train_dataset, probe.eval_dataset = samples.data, None
    probe.data_collator = samples.counting(recorder)
    probe._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(samples.items)
    if hasattr(probe, "get_batch_sampler"):  # of sentence-transformers, which draws its batches by itself
        probe.get_batch_sampler = _in_order
    probe._train_batch_size = batch_size
    probe.optimizer = Capture(recorder)
    probe.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(probe.optimizer, _constant)
    probe.callback_handler = CallbackHandler(
        [DefaultFlowCallback()], probe.model, probe.processing_class, probe.optimizer, probe.lr_scheduler
    )
    probe.control = TrainerControl()
    probe.log = _silent
    return probe


def _in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> torch.utils.data.BatchSampler:
    return torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(dataset), batch_size, drop_last)


def apart(trainer: Any) -> Any:
    """A copy of a trainer with the same model, whose notes (metrics of each step, what was generated) are its own."""
    probe = copy.copy(trainer)
    for name, value in vars(trainer).items():
        if name.startswith("_") and isinstance(value, (dict, list, set, deque)):
            vars(probe)[name] = _copied(value)
    return probe


def _copied(notes: Any) -> Any:
    try:
        return copy.deepcopy(notes)
    except Exception:  # noqa: BLE001 - what is in there may be anything, such as tensors of a graph
        return copy.copy(notes)


_constant: Callable[[int], float] = lambda _: 1.0  # noqa: E731


def _silent(*_: Any, **__: Any) -> None:
    """Where a log would go."""
