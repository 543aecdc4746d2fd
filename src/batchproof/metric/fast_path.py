"""The fold of batches of one signature: checked, run, and its values' shapes looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from batchproof.derive import Folding, Leaf, StatePlan, check_shapes, to_bytes
from batchproof.errors import BatchproofError
from batchproof.ground.batch import Batch, one_sample, tensors_of
from batchproof.ground.tensors import version
from batchproof.metric.answers import Answer, Answers
from batchproof.metric.grouped_state import Packing

Fold = Callable[[Sequence[Any]], Any]
Folded = tuple[list[torch.Tensor], list[int], int]
Answering = Callable[[Sequence[Any]], "tuple[Folded, Answers] | None"]

#: Of smaller tensors it takes less time to compute something again than to watch every operation of the function.
LEAST_KNOWN = 1 << 14


@dataclass
class Variant:
    """The plan for batches of one signature (sequences padded to one length, say), and its fold."""

    plan: StatePlan
    example: Batch
    used: list[tuple[torch.Tensor, torch.Tensor, int]] = field(default_factory=list)  # captured tensors, as they were
    beside: StatePlan | None = None  # the plan for another shape that this one was compared with

    # A state that is only loaded, merged and finished never folds: the code is written when a batch comes.

    @cached_property
    def packing(self) -> Packing:
        """Which leaves are held as one vector."""
        return Packing(self.plan)

    @cached_property
    def _code(self) -> Callable[..., Any]:
        return self.plan.fold.compile()

    @cached_property
    def fast(self) -> Fold:
        """The fold of a call's arguments, None for those that need a closer look."""
        return fast_fold(self.plan, self.example, self.packing, self.plan.captured)

    @cached_property
    def answering(self) -> Answering | None:
        """The fold of a call's arguments, and what the function would compute again; None where that is nothing."""
        return answering(self.plan, self.example, self.packing, self.plan.captured)

    def fold(self, batch: Batch) -> Folded:
        """A batch's values, packed, the lengths of its selections, and its number of samples."""
        values, lengths = fold_by(self.plan, self._code, tensors_of(batch)[0], self.plan.captured)
        return self.packing.pack(values), lengths, batch.n

    @cached_property
    def data(self) -> bytes:
        """The plan as bytes: each sync and each checkpoint sends them."""
        return to_bytes(self.plan)


def unfoldable(error: Exception) -> BatchproofError:
    """The refusal of a batch on which a fold raises."""
    return BatchproofError(
        f"this batch does not fit what was derived from the first ones ({type(error).__name__}: {error}): "
        "the function's sizes depend on the data; use state='rows' to keep the samples"
    )


def variant_of(plan: StatePlan, call: Batch) -> Variant:
    """A plan made ready to fold batches that are like one."""
    used = [(t, t.detach().clone(), version(t)) for i, t in plan.captured.items() if i in plan.folds]
    return Variant(plan, one_sample(call), used)


def fold_by(
    plan: StatePlan, fold: Callable[..., Any], tensors: Sequence[torch.Tensor], captured: dict[int, torch.Tensor]
) -> tuple[list[torch.Tensor], list[int]]:
    """A batch's statistics and the lengths of its selections, by the fold of its plan.

    Raises:
        BatchproofError: it does not fit what the plan was derived from.
    """
    try:
        with no_autocast(tensors[0]):
            values, lengths = fold(tensors, captured)
    except Exception as error:
        raise unfoldable(error) from error
    check_shapes(plan, values)
    return values, lengths


@contextmanager
def no_autocast(tensor: torch.Tensor) -> Iterator[None]:
    """Switch autocast off on a tensor's device."""
    kind = tensor.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            yield
    else:
        yield


def fast_fold(
    plan: Folding, call: Batch, packing: Packing, captured: dict[int, torch.Tensor], also: Sequence[str] = ()
) -> Fold:
    """The short way for a batch of plain tensors that is like the first: checked and folded with little Python.

    Args:
        plan: by which it is folded.
        call: the first batch.
        packing: of the plan's values.
        captured: the tensors that the function takes from outside its arguments.
        also: the names of values in the fold that are wanted beside what is folded.
    """
    layout = call.layout
    flat = not layout.keywords and list(layout.skeletons) == [0] * len(call.leaves)
    if not flat or None in layout.dims or not call.all_tensors():
        return lambda args: None
    space: dict[str, Any] = {
        "Tensor": torch.Tensor,
        "folded": packing.fold(plan, also),
        "check": check_shapes,
        "plan": plan,
    }
    space["unpack"] = packing.unpack
    space |= {"autocast": torch.is_autocast_enabled, "captured": {i: t.detach() for i, t in captured.items()}}
    names = [f"a{i}" for i in range(len(call.leaves))]
    lines = [
        f"if len(args) != {len(names)} or autocast({call.leaves[0].device.type!r}): return None",
        f"{', '.join(names)}, = args",
        f"if not ({' and '.join(f'isinstance({name}, Tensor)' for name in names)}): return None",
        "shape = a0.shape",
        f"if len(shape) != {call.leaves[0].ndim}: return None",
        f"n = shape[{layout.dims[0]}]",
        "if n == 0: return None",
    ]
    sizes = [
        "".join("n, " if k == dim else f"{size}, " for k, size in enumerate(leaf.shape))
        for leaf, dim in zip(call.leaves, layout.dims, strict=True)
    ]
    for name, leaf, own in zip(names, call.leaves, sizes, strict=True):
        space |= {f"{name}_type": leaf.dtype, f"{name}_device": leaf.device}
        elsewhere = f"not {name}.is_cpu" if leaf.is_cpu else f"{name}.device != {name}_device"
        expected = "shape" if name != "a0" and own == sizes[0] else f"({own})"
        lines.append(f"if {name}.dtype is not {name}_type or {elsewhere} or {name}.shape != {expected}: return None")
        if leaf.dtype.is_floating_point or leaf.dtype.is_complex:
            lines.append(f"if {name}.requires_grad: {name} = {name}.detach()")
    known = ", known" if also else ""
    lines.append(f"values, lengths{known} = folded(({', '.join(names)},), captured)")
    for position, place in enumerate(packing.alone, len(packing.held) - len(packing.alone)):
        if not _fixed_shape(plan.leaves[place]):
            shape = tuple(plan.leaves[place].shape)
            lines.append(f"if values[{position}].shape != {shape}: check(plan, unpack(values))")
    lines.append("return (values, lengths, n), known" if also else "return values, lengths, n")
    exec("def fast(args):\n    " + "\n    ".join(lines), space)
    return space["fast"]  # type: ignore[no-any-return]


def _fixed_shape(leaf: Leaf) -> bool:
    """Whether a leaf has one shape whatever the data: all but counts per value seen."""
    return "bincount" not in leaf.what


def answering(plan: Folding, example: Batch, packing: Packing, captured: dict[int, torch.Tensor]) -> Answering | None:
    """The short way for a batch on which the function will be called: the fold, and what it has computed for that.

    None where it computes nothing that the function would compute again at some cost.
    """
    positions = plan.fold.positions()
    if not positions:
        return None
    fold = fast_fold(plan, example, packing, captured, [name for name, _, _ in positions])

    def folded(args: Sequence[Any]) -> tuple[Folded, Answers] | None:
        if len(args) != len(example.leaves) or not any(_is_large(args[place]) for _, place, _ in positions):
            return None
        found = fold(args)
        if found is None:
            return None
        values, known = found
        return values, Answers(
            [
                Answer(args[place], version(args[place]), dim, value)
                for (_, place, dim), value in zip(positions, known, strict=True)
            ]
        )

    return folded


def _is_large(arg: Any) -> bool:
    return isinstance(arg, torch.Tensor) and arg.is_cpu and arg.numel() >= LEAST_KNOWN
