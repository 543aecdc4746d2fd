"""``compute_metrics`` of a Hugging Face ``Trainer`` made from a function: exact, and without keeping the logits."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError
from batchproof.integrations.eval_loss import EvalLoss, ExactEvalLoss
from batchproof.metric import Exact, exact

__all__ = ["ComputeMetrics", "EvalLoss", "ExactEvalLoss", "compute_metrics"]

Each = Literal["sample", "token", "next token"]
IGNORED = -100
MAIN_INPUTS = ("input_ids", "pixel_values", "input_values", "input_features")


def compute_metrics(
    fn: Callable[..., Any] | Mapping[str, Callable[..., Any]], *, each: Each = "sample", **options: Any
) -> ComputeMetrics:
    """For ``Trainer(compute_metrics=)``: values on the whole evaluation set, with no logits kept where that can be.

    >>> import torch
    >>> from batchproof.integrations.transformers import compute_metrics
    >>> def accuracy(logits, labels):
    ...     return (logits.argmax(-1) == labels).float().mean()
    >>> metrics = compute_metrics({"accuracy": accuracy})
    >>> args = TrainingArguments("out", batch_eval_metrics=True)                # doctest: +SKIP
    >>> Trainer(model, args, compute_metrics=metrics, ...)                      # doctest: +SKIP

    With ``batch_eval_metrics=True`` the Trainer hands over each batch and forgets it, and each is folded into the
    state of `batchproof.exact`. With ``False`` it collects all logits and hands them over once: the values are equal.

    Args:
        fn: A function of the predictions and the labels as tensors (tuples of them, where the model or the data set has
            several), or a dict of such by name. It also gets ``inputs`` and ``losses``, where it has parameters of
            these names and ``include_for_metrics`` asks for them.
        each: What a row is. ``"sample"``: predictions and labels are as the model gives them, with label -100 where
            there is padding. ``"token"``: a row for each label that is not -100, of token classification or masked
            language models. ``"next token"``: likewise, with the predictions at each place held against the label of
            the next, of causal language models.
        options: Those of `batchproof.exact`.

    Returns:
        What the Trainer calls. It starts anew after each evaluation.

    Raises:
        BatchproofError: An option is not one of the above, or as `batchproof.exact` raises; in an evaluation, where it
            cannot be known that each sample came once.
    """
    if each not in ("sample", "token", "next token"):
        raise BatchproofError(f"each={each!r}: expected 'sample', 'token' or 'next token'")
    functions = dict(fn) if isinstance(fn, Mapping) else {getattr(fn, "__name__", type(fn).__name__): fn}
    if not functions:
        raise BatchproofError("compute_metrics takes at least one function")
    return ComputeMetrics(functions, each, options)


class ComputeMetrics:
    """Metrics of a Trainer's evaluation, made by `compute_metrics`."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], each: Each, options: Mapping[str, Any]) -> None:
        self.each = each
        self.functions = {name: _OfLeaves(fn) for name, fn in functions.items()}
        self.metrics: dict[str, Exact] = {name: exact(fn, **options) for name, fn in self.functions.items()}
        self._samples = 0

    def __call__(self, eval_pred: Any, compute_result: bool | None = None) -> dict[str, Any]:
        """Take in a batch, or with ``compute_result=None`` the whole evaluation set.

        Returns:
            The values by name, where it is the last batch; a function that returns a dict gives several. Otherwise {}.
        """
        if compute_result is None:
            self.reset()
        try:
            for part in _parts(eval_pred, whole=compute_result is None):
                self._update(part)
            if compute_result is False:
                return {}
            if compute_result:
                _check_number(self._samples)
            values = {name: metric.compute() for name, metric in self.metrics.items()}
        except BaseException:
            self.reset()
            raise
        self.reset()
        return _flat(values)

    def reset(self) -> None:
        """Forget what came of an evaluation that did not end."""
        self._samples = 0
        for metric in self.metrics.values():
            metric.reset()

    def _update(self, part: dict[str, Any]) -> None:
        predictions, labels = _tensors(part["predictions"]), _tensors(part["labels"])
        rows = _rows(labels)
        if rows == 0:
            return  # a last batch that was all repeats
        more = {name: _tensors(part[name]) for name in ("inputs", "losses") if part[name] is not None}
        if self.each != "sample":
            predictions, labels = _of_tokens(predictions, labels, shifted=self.each == "next token")
            more = {}
        elif any(_rows(value) != rows for value in more.values()):
            raise BatchproofError("over ranks the Trainer gives compute_metrics the inputs of one rank alone")
        self._samples += rows
        if _rows(labels) == 0:
            return  # no token of this batch has a label
        for name, metric in self.metrics.items():
            metric.update(*self.functions[name].leaves(predictions, labels, more))


class _OfLeaves:
    """A function of predictions and labels as one of their tensors: a tuple of two could be taken for two samples."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        if not callable(fn):
            raise BatchproofError(f"compute_metrics takes functions, not {type(fn).__name__}")
        self.fn = fn
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)
        self._form: Any = None

    def leaves(self, predictions: Any, labels: Any, more: dict[str, Any]) -> list[torch.Tensor]:
        """The tensors, and from now on this form of arguments."""
        named = {name: value for name, value in more.items() if _takes(self.fn, name)}
        leaves, self._form = pytree.tree_flatten((predictions, labels, named))
        return leaves

    def __call__(self, *leaves: torch.Tensor) -> Any:
        predictions, labels, named = pytree.tree_unflatten(list(leaves), self._form)
        return self.fn(predictions, labels, **named)


def _parts(eval_pred: Any, *, whole: bool) -> list[dict[str, Any]]:
    """What to take in, one after another: the lists that ``eval_do_concat_batches=False`` makes are batches."""
    if eval_pred.label_ids is None:
        raise BatchproofError("the evaluation set has no labels")
    given = {
        "predictions": eval_pred.predictions,
        "labels": eval_pred.label_ids,
        "inputs": _main(getattr(eval_pred, "inputs", None)),
        "losses": getattr(eval_pred, "losses", None),
    }
    if not (whole and isinstance(given["labels"], list)):
        return [given]
    return [
        {name: None if lists is None else lists[number] for name, lists in given.items()}
        for number in range(len(given["labels"]))
    ]


def _main(inputs: Any) -> Any:
    """The model's main input: in a batch the Trainer gives all that the model gets, of the whole set this alone."""
    if not isinstance(inputs, Mapping):
        return inputs
    return next((inputs[name] for name in MAIN_INPUTS if name in inputs), dict(inputs))


def _tensors(value: Any) -> Any:
    """Arrays as tensors, in tuples and dicts as they are."""
    if isinstance(value, Mapping):
        return {key: _tensors(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_tensors(part) for part in value)
    return torch.as_tensor(value)


def _rows(value: Any) -> int:
    while not isinstance(value, torch.Tensor):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return len(value)


def _of_tokens(predictions: Any, labels: Any, *, shifted: bool) -> tuple[Any, Any]:
    """A row for each label that is not -100."""
    if not isinstance(labels, torch.Tensor) or labels.ndim != 2:
        raise BatchproofError("each='token' takes one tensor of labels, of shape (samples, tokens)")
    start = 1 if shifted else 0
    chosen = labels[:, start:] != IGNORED
    length = labels.shape[1]

    def rows(part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(rows(one) for one in part)
        if not isinstance(part, torch.Tensor) or part.shape[:2] != labels.shape:
            shape = tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__
            raise BatchproofError(
                f"each='token': predictions of shape {shape} beside labels of shape {tuple(labels.shape)}; pass a "
                "preprocess_logits_for_metrics that leaves the logits alone"
            )
        return part[:, : length - start][chosen]

    return rows(predictions), labels[:, start:][chosen]


def _takes(fn: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(fn).parameters
    except ValueError:
        return False


def _check_number(samples: int) -> None:
    """Refuse where the batches were not the evaluation set, each sample once.

    The rest of an evaluation that was interrupted may be in the state, and a stream without a length, read by several
    processes, repeats samples.
    """
    state = sys.modules.get("accelerate.state")
    if state is None:
        return
    running = state.GradientState().active_dataloader
    if running is None:
        return
    ranks = state.PartialState().num_processes
    if ranks > 1 and running.remainder == -1 and not getattr(running, "_drop_last", False):
        raise BatchproofError("how many samples the evaluation set has is not known, and ranks repeat some of them")
    data = running.dataset
    if type(data).__name__ == "IterableDatasetShard":  # its own length is that of a rank, repeats included
        data = data.dataset
    try:
        expected = len(data)
    except TypeError:
        return
    if getattr(running, "_drop_last", False):
        expected -= expected % running.total_batch_size
    if samples != expected:
        raise BatchproofError(
            f"the evaluation set has {expected:,} samples, and {samples:,} came; if an evaluation was interrupted "
            "before, this is its rest, which is forgotten now: evaluate again"
        )


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers by name: as the Trainer logs them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        entries = value.items() if isinstance(value, Mapping) else [(name, value)]
        for key, entry in entries:
            if key in found:
                raise BatchproofError(f"two functions give a value of the name {key!r}")
            found[key] = entry.item() if isinstance(entry, torch.Tensor) and entry.numel() == 1 else entry
    return found
