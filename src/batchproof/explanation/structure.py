"""Ask the engine for the function's exact form, and its program for the reasons why batches differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from batchproof.derive import Plan, Program, RandomFunction, Unrecordable, derive, program_of
from batchproof.errors import BatchproofError
from batchproof.explanation.branches import branches
from batchproof.explanation.causes import Reasons, reasons
from batchproof.explanation.counts import counter
from batchproof.explanation.curvature import Bend, bend
from batchproof.explanation.influence import Influence
from batchproof.explanation.result import Code, Finding, Keep
from batchproof.explanation.samples import Samples
from batchproof.explanation.words import kept_words
from batchproof.ground.place import Place, statement_of
from batchproof.ground.text import error_line, first_line


def _unknown(which: int) -> None:
    """Of a function without a plan it is not known how it bends."""


@dataclass(frozen=True)
class Structure:
    """What the function's code says, whatever the samples happen to show.

    Attributes:
        causes: why a number is no mean of samples.
        proved: the structure alone makes it a mean.
        keep: the state that makes it exact.
        notes: what else to know.
        refused: no exact form was found, for a reason of the function's own.
        bend: how one number of its result, by its place among all, bends as a function of the batch's means.
    """

    causes: list[Finding[Code]] = field(default_factory=list)
    proved: bool = False
    keep: Keep | None = None
    notes: tuple[str, ...] = ()
    refused: bool = False
    bend: Callable[[int], Bend | None] = _unknown


def structure(target: Callable[..., Any], samples: Samples, leaf: int | None = None) -> Structure:
    """Derive a plan; a function that torch cannot record is explained by measurement alone.

    Args:
        target: the function.
        samples: to record it on.
        leaf: which of the leaves of its result is to be explained; all of them if None.
    """
    flat = _flatten(target, samples)
    if flat is None:
        return Structure(notes=("its inputs are not tensors: its operations cannot be read",))
    fn, tensors, dims, names = flat
    try:
        plan = derive(fn, tensors, dims)
    except Exception as error:  # noqa: BLE001 - it ran on the samples; on a few of them, drawn again, it need not
        why = first_line(statement_of(error).claim) if isinstance(error, BatchproofError) else error_line(error)
        return Structure(notes=(f"no exact form: {why}",), refused=isinstance(error, BatchproofError))
    read, program = Reasons(), _own_program(plan, fn, tensors, dims)
    if program is not None:
        read = reasons(program, counter(program, fn, tensors, dims), Influence(program, fn, tensors, dims), names, leaf)
    causes = [*read.causes, *branches(fn, tensors, dims)]
    return Structure(causes, read.proved, _keep(plan), bend=partial(bend, plan, fn, tensors, dims))


def harmful_place(target: Callable[..., Any], samples: Samples) -> Place | None:
    """The line where a function first stops being a mean over samples; None where none is known."""
    detached = replace(samples, leaves=tuple(_detached(leaf) for leaf in samples.leaves))
    causes = structure(target, detached).causes
    return next((cause.place for cause in causes if not cause.harmless), None)


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, torch.Tensor) else leaf


def _own_program(
    plan: Plan, fn: Callable[..., Any], tensors: list[torch.Tensor], dims: list[int | None]
) -> Program | None:
    """What the function does on the samples; the plan knows what else it may do."""
    if plan.program is None or not any(plan.program.ways):
        return plan.program
    try:
        return program_of(fn, tensors, dims)
    except (Unrecordable, RandomFunction):
        return None


def _flatten(
    target: Callable[..., Any], samples: Samples
) -> tuple[Callable[..., Any], list[torch.Tensor], list[int | None], list[str]] | None:
    """The target as a function of tensors alone."""
    slots = [index for index, leaf in enumerate(samples.leaves) if isinstance(leaf, torch.Tensor)]
    if any(dim is not None and index not in slots for index, dim in enumerate(samples.dims)):
        return None

    def fn(*tensors: torch.Tensor) -> Any:
        given = list(samples.leaves)
        for slot, tensor in zip(slots, tensors, strict=True):
            given[slot] = tensor
        args, kwargs = samples.arrange(given)
        return target(*args, **kwargs)

    named = [samples.names[slot] for slot in slots]
    return fn, [samples.leaves[slot] for slot in slots], [samples.dims[slot] for slot in slots], named


def _keep(plan: Plan) -> Keep:
    return Keep(
        what=kept_words(plan.leaves) if plan.is_constant_size else "the samples",
        nbytes=plan.nbytes,
        row_nbytes=plan.row_nbytes,
        partitions=plan.verified.partitions,
        error=plan.verified.error if plan.verified.partitions else None,
        reason=first_line(statement_of(plan.reason or "").claim),
    )
