"""Many states of one size, finished at once: what `Plan.finish` does with one, done to all of them under `vmap`.

The function itself runs once, on the first of the states. That gives the operations between state and result with the
Python numbers of this number of samples. They serve for every other state of as many samples, unless a number that
comes from samples leaves torch on the way: then a branch may hang on it, and each state needs a run of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.func import vmap
from torch.utils import _pytree as pytree

from batchproof.derive.diverged import Diverged
from batchproof.derive.evaluate import is_numeric
from batchproof.derive.finish import Finisher, State
from batchproof.derive.plan import NUDGE, StatePlan, agree, cancels
from batchproof.derive.rerun import Rerun, target_of
from batchproof.ground.tensors import close
from batchproof.ground.text import first_line

#: A run on one of so many states is tried for the operations.
TRIED = 6


class OneByOne(Exception):
    """These states cannot be finished at once; the message says why."""


@dataclass(frozen=True)
class FinishedValues:
    """What the function returns for each of many states.

    Attributes:
        leaves: one tensor for each number or tensor in the result, the states along its first dimension.
        sound: for each state, whether its digits suffice. The function has to be called where they do not.
    """

    leaves: list[torch.Tensor]
    sound: torch.Tensor


def finish_many(
    plan: StatePlan, leaves: Sequence[torch.Tensor], shared: Sequence[torch.Tensor], dims: Sequence[int | None], n: int
) -> FinishedValues:
    """The function's value for each of many states of ``n`` samples.

    Args:
        plan: of a state without kept rows.
        leaves: for each leaf of the plan its merged values, the states along the first dimension.
        shared: as `Plan.finish` takes them.
        dims: the inputs' batch dimensions.
        n: the number of samples in each state.

    Raises:
        OneByOne: Python reads numbers that come from samples, or an operation cannot be done to many at once.
        BatchproofError: as `Plan.finish`.
    """
    if plan.lengths:
        raise OneByOne("how many samples it selects differs from batch to batch")
    count = leaves[0].shape[0] if leaves else 0

    def alone(number: int, nudge: float = 0.0) -> tuple[Any, Finisher]:
        return plan.run(State([leaf[number] for leaf in leaves], [], n), shared, dims, n, nudge)

    result, run = _first(alone, count)
    if run.reads_data:
        raise OneByOne("it reads a number in Python")
    targets = targets_of(run, result)
    wide = computed_with(plan, leaves)
    values, sound = mapped(lambda nudge: _finisher(plan, run, targets, nudge), wide, count)
    check_extremes(values, sound, alone)
    return FinishedValues(values, sound)


def targets_of(run: Finisher, result: Any) -> list[Any]:
    """What stands for the numbers of a result when the run that gave it is done again."""
    return [target_of(run, leaf) for leaf in pytree.tree_leaves(result) if is_numeric(leaf)]


def computed_with(plan: StatePlan, leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Leaves as the function computes with them."""
    return [leaf.computed_with(kept) for leaf, kept in zip(plan.leaves, leaves, strict=True)]


def mapped(
    finisher: Callable[[float], Callable[..., Any]], states: Sequence[torch.Tensor], count: int
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What a finish gives for many states, and for each whether its digits suffice.

    Args:
        finisher: by how much sums are nudged to what finishes one state: (results, whether lost for good, digits lost).
        states: side by side along the first dimension.
        count: how many.

    Raises:
        OneByOne: an operation cannot be done to many at once.
    """
    try:
        with no_fallback_warning():
            values, unsound, lost = vmap(finisher(0.0))(*states)
            sound = ~unsound
            if bool((cancels(lost) & sound).any()):
                nudged, _, _ = vmap(finisher(NUDGE))(*states)
                sound &= ~cancels(lost) | _near(values, nudged, count)
    except Exception as error:
        raise OneByOne(f"it cannot be done to many at once ({first_line(error)})") from error
    return values, sound


@contextmanager
def no_fallback_warning() -> Iterator[None]:
    """Where `vmap` falls back to a loop, torch would advise its own developers on stderr."""
    set_enabled = torch._C._functorch._set_vmap_fallback_warning_enabled  # type: ignore[attr-defined]
    set_enabled(False)
    try:
        yield
    finally:
        set_enabled(True)  # torch's default; it can be set and not asked


def _first(alone: Callable[[int], tuple[Any, Finisher]], count: int) -> tuple[Any, Finisher]:
    """A run on a state whose digits suffice: one of the first will do."""
    refusal: Diverged | None = None
    for number in range(min(count, TRIED)):
        try:
            return alone(number)
        except Diverged as error:
            refusal = error
    raise refusal or Diverged("there is no state")


def _finisher(plan: StatePlan, run: Finisher, targets: Sequence[Any], nudge: float) -> Callable[..., Any]:
    """The operations of a run as a function of one state's leaves: (results, whether lost for good, digits lost)."""
    fixed = {index: run.values[index] for index in run.real if run.unreached(index)}
    steps = [step for step in run.script if not step.shared]

    def one(*state: torch.Tensor) -> Any:
        again = Rerun(plan, run, dict(zip(plan.kept, state, strict=True)), fixed, nudge)
        results = again.run(steps, targets)
        return results, torch.stack(again.unsound).any(), torch.stack(again.lost).amax()

    return one


def _near(values: Sequence[torch.Tensor], nudged: Sequence[torch.Tensor], count: int) -> torch.Tensor:
    """For each state, whether two results agree."""
    near = torch.ones(count, dtype=torch.bool)
    for a, b in zip(values, nudged, strict=True):
        a, b = _real(a).reshape(count, -1), _real(b).reshape(count, -1)
        near &= agree(a, b).all(1)
    return near


def _real(value: torch.Tensor) -> torch.Tensor:
    return (torch.view_as_real(value) if value.is_complex() else value).double()


def check_extremes(
    values: Sequence[torch.Tensor], sound: torch.Tensor, alone: Callable[[int], tuple[Any, Finisher]]
) -> None:
    """The states with the smallest and the largest value must give what they give alone."""
    indices = sound.nonzero().flatten()
    if not len(indices):
        return
    sums = torch.stack([_real(value).reshape(len(sound), -1).sum(1) for value in values]).sum(0)[indices]
    for number in {int(indices[sums.argmin()]), int(indices[sums.argmax()])}:
        singly = [leaf for leaf in pytree.tree_leaves(alone(number)[0]) if is_numeric(leaf)]
        for many, one in zip(values, singly, strict=True):
            a, b = many[number], torch.as_tensor(one).to(many.dtype)
            if not close(a, b, absolute=1e-300):
                raise OneByOne("done to many at once, its operations give another value")
