"""The derivative of a function's value by its merged state, and by the tensors that it takes from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from batchproof.derive.diverged import Diverged
from batchproof.derive.finish import Finisher, State
from batchproof.derive.plan import StatePlan
from batchproof.derive.recording import widen
from batchproof.derive.rerun import Rerun, target_of


@dataclass(frozen=True)
class Slope:
    """What the function returns on a merged state, and how that changes with what it is made of.

    Attributes:
        value: what the function returns.
        leaves: for each leaf of the plan, the derivative of the value by it, None where it was not asked for.
        captured: the derivative by each tensor from outside that was asked for, as far as it is used after the sums.
        lost: how much of a sum cancels where it is moved from the centres that it was kept at.
        run: how the function came to what it returns.
    """

    value: Any
    leaves: list[Tensor | None]
    captured: dict[int, Tensor]
    lost: float
    run: Finisher


def slope(
    plan: StatePlan,
    state: State,
    shared: Sequence[Tensor],
    dims: Sequence[int | None],
    wanted: Sequence[bool],
    learned: Sequence[int],
) -> Slope:
    """Differentiate the end of a function, from its merged state to its value.

    Args:
        plan: of the function.
        state: merged.
        shared: as `Plan.finish` takes them.
        dims: the inputs' batch dimensions.
        wanted: for each leaf, whether its derivative is asked for.
        learned: the captured values that have a gradient of their own.

    Raises:
        Diverged: as `Plan.finish`; or a learned tensor is another one now.
    """
    value, run = plan.finished(state, shared, dims, state.n)
    for index, then in plan.captured.items():
        now = run.kept.get(-1 - index) if index in run.real else None
        if now is not None and now is not then and (now.requires_grad or then.requires_grad):
            raise Diverged("a tensor with a gradient that the function takes from outside is another one now")
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [_variable(leaf) if want else leaf.detach() for leaf, want in zip(state.leaves, wanted, strict=True)]
        own = {index: _variable(run.values[index]) for index in learned if index in run.real}
        number = _again(plan, run, leaves, own, value)
        asked = [leaf for leaf, want in zip(leaves, wanted, strict=True) if want] + list(own.values())
        grads = torch.autograd.grad(number, asked, materialize_grads=True) if number.requires_grad else None
        filled = iter(grads or [torch.zeros_like(x) for x in asked])
    by_leaf = [next(filled) if want else None for want in wanted]
    return Slope(value, by_leaf, dict(zip(own, filled, strict=True)), run.lost, run)


def _variable(tensor: Tensor) -> Tensor:
    return widen(tensor.detach()).clone().requires_grad_()


def _again(plan: StatePlan, run: Finisher, leaves: Sequence[Tensor], own: dict[int, Tensor], value: Any) -> Tensor:
    """The function's value, with a graph down to the state and to the tensors from outside."""
    fixed = {index: run.values[index] for index in run.real if run.given(index)}
    again = Rerun(plan, run, dict(zip(plan.kept, leaves, strict=True)), {**fixed, **own})
    return again.run(run.script, [target_of(run, leaf) for leaf in pytree.tree_leaves(value)])[0]
