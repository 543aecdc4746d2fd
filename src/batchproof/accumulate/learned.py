"""A loss as sums over samples: what its gradient hangs on, and how it flows back from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from batchproof.accumulate.outputs import check_loss
from batchproof.derive import Plan
from batchproof.derive.finish import Diverged, State
from batchproof.derive.fold import build
from batchproof.derive.gradient import Slope, slope
from batchproof.errors import BatchproofError
from batchproof.streaming.arguments import Call, signature, tensors_of
from batchproof.streaming.folding import check_shapes, no_autocast, unfoldable
from batchproof.streaming.modules import quiet
from batchproof.streaming.state import Slots
from batchproof.streaming.stream import Stream, typed

#: Two lists of derivatives point the same way where they differ by less than this.
PARALLEL = 1e-9
Grads = list[Tensor | None]


@dataclass(frozen=True)
class Folded:
    """The statistics of one micro-batch, with their graph."""

    values: list[Tensor]
    lengths: list[int]
    n: int


@dataclass
class Learned:
    """A loss as sums over samples.

    Attributes:
        stream: holds the plan, and those for outputs of other shapes.
        flags: for each leaf of the outputs, whether a gradient flows through it.
        sources: tensors from outside that the centres of sums were chosen by, as they were.
        wanted: for each leaf of the plan, whether a gradient flows through it.
        cotangents: the derivative of the loss by each such leaf, on the samples that this was learned from.
        fixed_direction: whether on other samples that derivative is the same but for a factor.
    """

    stream: Stream
    flags: tuple[bool, ...]
    sources: list[tuple[Tensor, Tensor]]
    wanted: tuple[bool, ...] = ()
    cotangents: Grads = field(default_factory=list)
    fixed_direction: bool = False
    folds: dict[Any, tuple[Plan, Any]] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        assert self.stream.plan is not None
        return self.stream.plan

    @property
    def statistics(self) -> int:
        """How many numbers the gradient hangs on."""
        return sum(t.numel() for t in self.cotangents if t is not None)

    @property
    def keeps_rows(self) -> bool:
        """Whether something that a gradient flows through is kept for each sample."""
        return any(leaf.merge == "rows" and want for leaf, want in zip(self.plan.leaves, self.wanted, strict=True))

    def empty(self) -> Slots:
        """A state of no samples."""
        assert self.stream.first is not None
        return Slots.empty(self.plan, self.stream.first.columns[0].device, 1)

    def fold(self, call: Call, own: dict[Tensor, Tensor]) -> Folded:
        """The statistics of a micro-batch, with a graph if gradients are on.

        Args:
            call: a micro-batch's outputs.
            own: for the loss's own parameters, the variables that take their place.
        """
        key = signature(call)
        if key not in self.folds:
            plan = self.stream.variant(call).plan
            self.folds[key] = plan, build(plan.source, dict(plan.space))
        plan, fold = self.folds[key]
        tensors = tensors_of(call)[0]
        captured = {index: own.get(tensor, tensor) for index, tensor in captured_by(plan).items()}
        try:
            with no_autocast(tensors[0]):
                values, lengths = fold(tensors, captured)
        except Exception as error:
            raise unfoldable(error) from error
        check_shapes(plan, values)
        return Folded(values, lengths, call.n)

    def slope(self, state: Slots) -> Slope:
        """The loss on a merged state, and its derivatives.

        Raises:
            Diverged: on all samples the loss goes another way, or what it takes from outside has changed.
        """
        if any(now.shape != then.shape or not torch.equal(now, then) for now, then in self.sources):
            raise Diverged("a tensor that the loss takes from outside has changed")
        kept, lengths, n = state.merged([0])
        if n == 0:
            raise BatchproofError("micro_batches is empty: there is nothing to take a gradient of")
        found = []
        for variant in self.stream.variants.values():
            plan = variant.plan
            tensors, dims = tensors_of(variant.example)
            learned = [i for i, tensor in captured_by(plan).items() if tensor.requires_grad]
            with torch.inference_mode(False), quiet(self.stream.fn), no_autocast(tensors[0]):
                one = slope(plan, State(kept, lengths, n), tensors, dims, self.wanted, learned)
            check_loss(one.value)
            found.append(Slope(typed(one.value, plan.dtypes), one.leaves, one.captured))
        first = found[0].value
        if any(not torch.allclose(other.value, first, rtol=1e-6, atol=0, equal_nan=True) for other in found[1:]):
            raise Diverged("micro-batches came with samples of different shapes, and the loss depends on which")
        return found[0]

    def fits(self, flags: Sequence[bool]) -> bool:
        """Whether a gradient flows through the same outputs as when this was learned."""
        return tuple(flags) == self.flags

    def own(self) -> dict[Tensor, Tensor]:
        """Variables to take the place of the loss's own parameters, so that their gradients can be told apart."""
        plans = [variant.plan for variant in self.stream.variants.values()]
        tensors = dict.fromkeys(t for plan in plans for t in captured_by(plan).values() if t.requires_grad)
        return {tensor: tensor.detach().requires_grad_() for tensor in tensors}

    def direct(self, found: Slope) -> dict[Tensor, Tensor]:
        """The part of the loss's derivative by its own parameters that does not go through its sums."""
        captured = captured_by(next(iter(self.stream.variants.values())).plan)
        return {captured[index]: grad.to(captured[index].dtype) for index, grad in found.captured.items()}

    def pull(self, part: Folded, cotangents: Grads) -> None:
        """Backward from a micro-batch's statistics."""
        pairs = [
            (value, grad.to(value.dtype).reshape(value.shape))
            for value, grad in zip(part.values, cotangents, strict=True)
            if grad is not None and value.requires_grad
        ]
        if pairs:
            torch.autograd.backward([value for value, _ in pairs], [grad for _, grad in pairs])


class Cut:
    """The derivatives of a merged state, handed out to micro-batches in order.

    Those by kept rows are cut up; those by sums are the same for all.
    """

    def __init__(self, plan: Plan, whole: Grads, starts: list[int]) -> None:
        self.plan = plan
        self.whole = whole
        self.starts = list(starts)

    def next(self, part: Folded) -> Grads:
        cut: Grads = []
        for number, (leaf, grad, value) in enumerate(zip(self.plan.leaves, self.whole, part.values, strict=True)):
            if leaf.merge == "rows" and grad is not None:
                length = value.shape[leaf.dim]
                grad = grad.narrow(leaf.dim, self.starts[number], length)
                self.starts[number] += length
            cut.append(grad)
        return cut


def captured_by(plan: Plan) -> dict[int, Tensor]:
    """The tensors that a function takes from outside its arguments."""
    assert plan.program is not None
    return plan.program.captured


def ratio(found: Grads, expected: Grads) -> float | None:
    """By how much one list of derivatives is a multiple of another, or None where it is not."""
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None]
    a, b = (torch.cat([pair[side].double().reshape(-1) for pair in pairs]) for side in (0, 1))
    factor = float((a @ b) / (b @ b))
    off = float((a - factor * b).abs().max())
    return factor if off <= PARALLEL * float(a.abs().max()) else None
