"""Ask the engine for the function's exact form, and the program for the reasons.  The only door from here to `derive`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from batchproof.derive import Plan, derive
from batchproof.derive.samples import Batch, few
from batchproof.errors import BatchproofError
from batchproof.explain.branches import branches
from batchproof.explain.explanation import Finding, Keep
from batchproof.explain.samples import Samples
from batchproof.explain.verdict import Reasons, reasons
from batchproof.explain.words import kept_words


@dataclass(frozen=True)
class Structure:
    """What the function's code says, whatever the samples happen to show."""

    causes: list[Finding] = field(default_factory=list)
    proved: bool = False
    keep: Keep | None = None
    notes: tuple[str, ...] = ()


def structure(target: Callable[..., Any], samples: Samples) -> Structure:
    """Derive a plan; a function that torch cannot record is explained by measurement alone."""
    flat = _flatten(target, samples)
    if flat is None:
        return Structure(notes=("its inputs are not tensors: its operations cannot be read",))
    fn, tensors, dims = flat
    try:
        plan = derive(fn, tensors, dims)
    except BatchproofError as error:
        return Structure(notes=(str(error).splitlines()[0],))
    read = Reasons() if plan.program is None else reasons(plan.program, _sizes(plan, tensors, dims))
    causes = [*branches(fn, tensors, dims), *read.causes]
    notes = () if plan.program is not None or plan.reason is None else (f"its operations could not be read: {plan.reason}",)
    return Structure(causes, read.proved, _keep(plan), notes)


def _flatten(
    target: Callable[..., Any], samples: Samples
) -> tuple[Callable[..., Any], list[torch.Tensor], list[int | None]] | None:
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

    return fn, [samples.leaves[slot] for slot in slots], [samples.dims[slot] for slot in slots]


def _sizes(plan: Plan, tensors: Sequence[torch.Tensor], dims: Sequence[int | None]) -> list[int]:
    """The numbers of samples that the program was recorded on."""
    known = getattr(plan.program, "sizes", None)
    if known:
        return list(known)
    n = few(Batch(list(tensors), tuple(dims))).n
    return [n, n + 3, 2 * n + 1]


def _keep(plan: Plan) -> Keep:
    return Keep(
        what=kept_words(plan.leaves) if plan.is_constant_size else "the samples",
        nbytes=plan.nbytes,
        row_nbytes=plan.row_nbytes,
        partitions=plan.verified.partitions,
        error=plan.verified.error if plan.verified.partitions else None,
        reason=plan.reason or "",
    )
