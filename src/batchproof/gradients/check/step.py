"""A training step on a batch that is cut: over ranks, and on each of them into micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError
from batchproof.gradients.check.contents import IGNORED, contents, is_listed
from batchproof.gradients.check.processes import on_ranks
from batchproof.gradients.check.record import Change, GradientRecorder, Window, record, together
from batchproof.ground import trees

#: Leaves the gradient of a list of micro-batches in the model.
Step = Callable[[Any, list[Any]], object]
Wrap = Callable[[torch.nn.Module], Any]
Count = Callable[[Any], Mapping[str, float]]


@dataclass(frozen=True)
class CutStep:
    """A step, and what it is tried on.

    Attributes:
        step: Takes the model as it was wrapped, and a list of micro-batches.
        samples: One batch of all: tensors, or a list with an item for each sample.
        model: Whose gradients are compared.
        wrap: What is made of the model in each process, such as ``DistributedDataParallel``.
        count: From a micro-batch, what it might have to be weighted by.
    """

    step: Step
    samples: Any
    model: torch.nn.Module
    wrap: Wrap | None
    count: Count | None

    def windows(
        self, ranks: int | None, micro_batches: int, rank_dim: int, changes: Sequence[Change]
    ) -> list[list[Window]]:
        """What the step leaves where the batch is cut so, for each change; each rank has its own part."""
        parts = cut(self.samples, ranks or 1, micro_batches, rank_dim)
        if not all(size_of(part) and size_of(part, rank_dim) for own in parts for part in own):
            raise BatchproofError(
                f"{size_of(self.samples, rank_dim)} samples are too few for {ranks or 1} ranks with {micro_batches} "
                "micro-batches each"
            )
        if ranks is None:
            return _windows(self, parts[0], changes)
        of_ranks = on_ranks(partial(_on_this_rank, self, parts, changes), ranks)
        return [together(of_change) for of_change in zip(*of_ranks, strict=True)]


def cut_step(step: Any, samples: Any, model: Any, wrap: Any, count: Any) -> CutStep:
    """A step with what it is tried on.

    Raises:
        BatchproofError: It is no function, there are no samples, or the model is no module.
    """
    for name, thing in (("step", step), *((n, t) for n, t in (("wrap", wrap), ("count", count)) if t is not None)):
        if not callable(thing):
            raise BatchproofError(f"{name} is a function, not {type(thing).__name__}")
    if not isinstance(model, torch.nn.Module):
        raise BatchproofError(f"the model of a step is a module, not {type(model).__name__}")
    if callable(samples) or not size_of(samples):
        raise BatchproofError(
            "with ranks= or micro_batches= the second argument holds the samples of one batch: tensors with a row for "
            f"each, or a list with an item for each, not {type(samples).__name__}"
        )
    return CutStep(step, samples, model, wrap, count)


def _on_this_rank(job: CutStep, parts: list[list[Any]], changes: Sequence[Change]) -> list[list[Window]]:
    return _windows(job, parts[torch.distributed.get_rank()], changes)


def _windows(job: CutStep, mine: list[Any], changes: Sequence[Change]) -> list[list[Window]]:
    wrapped = job.model if job.wrap is None else job.wrap(job.model)
    parameters = {name: p for name, p in job.model.named_parameters() if p.requires_grad}

    def recorded(change: Change) -> list[Window]:
        said: list[float] = []

        def run(recorder: GradientRecorder) -> None:
            for part in mine:
                recorder.count({**counted(part), **(job.count(part) if job.count is not None else {})})
            value = job.step(job.model if wrapped is None else wrapped, mine)
            with suppress(TypeError, ValueError, RuntimeError):
                said.append(float(value))  # type: ignore[arg-type]
            recorder.close()

        windows = record(run, parameters, job.model, change)
        for window in windows:
            window.said = said[:1]
        return windows

    return [recorded(change) for change in changes]


def cut(samples: Any, ranks: int, micro_batches: int, rank_dim: int) -> list[list[Any]]:
    """For each rank its micro-batches: as even as they can be, the larger ones first."""
    return [
        [_part(own, micro_batches, number, 0) for number in range(micro_batches)]
        for own in (_part(samples, ranks, rank, rank_dim) for rank in range(ranks))
    ]


def size_of(samples: Any, dim: int = 0) -> int:
    """How many samples there are; along another dimension, how long they are."""
    if is_listed(samples):
        return len(samples) if dim == 0 else 0
    leaves = pytree.tree_leaves(trees.opened(samples, "samples"))
    return next((int(leaf.shape[dim]) for leaf in leaves if _has_dim(leaf, dim)), 0)


def _has_dim(leaf: Any, dim: int) -> bool:
    return (isinstance(leaf, Tensor) or trees.is_array(leaf)) and leaf.ndim > dim


def _part(samples: Any, pieces: int, number: int, dim: int) -> Any:
    """One of so many pieces; what is not as long as the samples is the same in each."""
    n = size_of(samples, dim)
    start, end = (place * (n // pieces) + min(place, n % pieces) for place in (number, number + 1))
    if is_listed(samples):
        return samples[start:end]

    def of(leaf: Any) -> Any:
        if _has_dim(leaf, dim) and leaf.shape[dim] == n:
            return leaf[(*[slice(None)] * dim, slice(start, end))]
        return leaf[start:end] if trees.is_column(leaf) and dim == 0 and len(leaf) == n else leaf

    return trees.closed(pytree.tree_map(of, trees.opened(samples, "samples"), is_leaf=trees.is_column))


def counted(part: Any) -> dict[str, float]:
    """What may be counted in a micro-batch: its samples, and labels that are not ignored."""
    found = {"samples": float(size_of(part)), **contents(part)}
    if "labels" in found or is_listed(part):
        return found
    for leaf in pytree.tree_leaves(trees.opened(part, "samples")):
        if isinstance(leaf, Tensor) and leaf.dtype is torch.int64 and leaf.ndim:
            labels = float((leaf != IGNORED).sum())
            if "labels" not in found or labels != leaf.numel():
                found["labels"] = labels
    return found
