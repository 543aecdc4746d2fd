"""The operations of one finish, done again to other states: under `vmap`, or with a graph for gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from batchproof.derive.centred_sum import Extremes
from batchproof.derive.finish import Finisher, FinishStep
from batchproof.derive.plan import StatePlan
from batchproof.derive.recording import Ref, Size, call, outputs_of
from batchproof.derive.summand import Centre


def target_of(run: Finisher, leaf: Any) -> Any:
    """What stands for a leaf of a run's result when the run is done again."""
    known = isinstance(leaf, Tensor) and id(leaf) in run.index
    return Ref(run.index[id(leaf)]) if known else torch.as_tensor(leaf)


def _written(old: Tensor, new: Tensor, non_blocking: bool = False) -> Tensor:
    return new.to(old.dtype).expand_as(old)


#: What stands in for operations that have no derivative.
_DIFFERENTIABLE = {torch.ops.aten.copy.default: _written}


class Rerun:
    """One more run of a finish's operations.

    Attributes:
        lost: for each centred sum, how much of it cancels.
        unsound: for each, whether it left the range of float64.
    """

    def __init__(
        self,
        plan: StatePlan,
        run: Finisher,
        state: dict[int, Tensor],
        fixed: dict[int, Tensor],
        nudge: float = 0.0,
        n: Tensor | None = None,
    ) -> None:
        self.plan = plan
        self.n = n  # the number of samples, where steps name it
        self.free = run.free
        self.state = state
        self.nudge = nudge
        self.env = {**fixed, **{index: leaf for index, leaf in state.items() if index not in plan.centred}}
        self.lost = [torch.zeros((), dtype=torch.float64)]
        self.unsound = [torch.zeros((), dtype=torch.bool)]

    def run(self, steps: Sequence[FinishStep], targets: Sequence[Any]) -> list[Tensor]:
        """The values of targets, as `target_of` gives them."""
        for step in steps:
            result = call(_DIFFERENTIABLE.get(step.op.func, step.op.func), step.args, step.kwargs, self.value)
            self.env.update(outputs_of(step.op, result))
        return [self.value(target) if isinstance(target, Ref) else target for target in targets]

    def value(self, ref: Ref | Size) -> Tensor:
        if isinstance(ref, Size):
            assert self.n is not None
            return ref.scale * self.n + ref.offset
        if ref.index not in self.env:
            self.env[ref.index] = self.moved(ref.index)
        return self.env[ref.index]

    def moved(self, leaf: int) -> Tensor:
        """A sum kept at fixed centres, at the centre that this state has."""
        parts = self.plan.centred[leaf]
        at = Centre({index: self.value(Ref(index)) for index in parts.summand.stats}, self.free)
        if isinstance(parts, Extremes):
            return parts.at(self.state[leaf], at, self.env)
        found = parts.combine(at, self.state[leaf], self.env, self.nudge)
        self.lost.append(found.cancels)
        self.unsound.append(found.overflows)
        return found.total
