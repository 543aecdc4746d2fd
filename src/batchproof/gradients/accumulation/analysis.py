"""A loss as sums over samples: what its gradient depends on, and how it flows back from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from batchproof.derive import ROWS, Diverged, Slope, State, StatePlan, check_finishes, check_folds, slope
from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.grad_store import nodes_of
from batchproof.gradients.accumulation.outputs import EMPTY, check_loss, loss_of, with_gradient
from batchproof.ground.batch import Batch, copied, same, signature, tensors_of
from batchproof.ground.isolation import quiet
from batchproof.metric import GroupedState, Stream, Variant, fold_by, no_autocast, typed

#: A derivative is a sum of the known directions where what is left of it is less than this share.
ROUNDING = 1e-11
#: Sums around a statistic are kept at fixed centres. A gradient loses so much of its digits where these are far from
#: the statistic that the loss is learned anew for the next one; or that it is not made this way.
FAR, TOO_FAR = 3e2, 1e4
Grads = list[Tensor | None]


@dataclass(frozen=True)
class Folded:
    """The statistics of one micro-batch, with their graph.

    Attributes:
        shape: what its samples are like.
        shared: by name, the arguments that carry no samples.
    """

    values: list[Tensor]
    lengths: list[int]
    n: int
    shape: Any
    shared: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A loss on all micro-batches.

    Attributes:
        value: the loss.
        leaves: its derivative by each merged statistic, None where no gradient flows.
        direct: its derivative by its own parameters, as far as it does not go through the statistics.
    """

    value: Tensor
    leaves: Grads
    direct: dict[Tensor, Tensor]


@dataclass
class MergedStatistics:
    """The statistics of all micro-batches so far, in which shapes their samples came, and what they share."""

    state: GroupedState
    shapes: set[Any] = field(default_factory=set)
    shared: dict[str, Any] = field(default_factory=dict)

    def add(self, part: Folded) -> None:
        """Take in a micro-batch.

        Raises:
            BatchproofError: what is shared by all micro-batches is something else in this one.
        """
        if self.shapes:
            check_shared(part.shared, self.shared)
        self.shared = self.shared or part.shared
        self.state.add(0, self.state.packing.pack([value.detach() for value in part.values]), part.lengths, part.n)
        self.shapes.add(part.shape)


@dataclass
class LossAnalysis:
    """A loss as sums over samples.

    Attributes:
        stream: holds the plan, and those for outputs of other shapes.
        flags: for each leaf of the outputs, whether a gradient flows through it.
        shape: the kinds of operations in the loss's own graph, on the samples that this was learned from.
        sources: tensors from outside that the centres of sums were chosen by, as they were.
        wanted: for each leaf of the plan, whether a gradient flows through it.
        sizes: for each number in those leaves, how large its gradient by the outputs is: the unit of its weight.
        directions: the derivative of the loss by those numbers is a weighted sum of these rows, on any batch; None
            where there are too many of them, or where a number of each sample is kept.
        proportional: kinds of graphs, of model and loss, whose gradient is known to grow with what it is made from.
        far: whether samples have come that lie far from those that this was learned from.
        alike: pairs of plans, for samples of two shapes, that one state serves.
    """

    stream: Stream
    flags: tuple[bool, ...]
    shape: tuple[str, ...]
    sources: list[tuple[Tensor, Tensor]]
    wanted: tuple[bool, ...] = ()
    sizes: Tensor = field(default_factory=lambda: torch.ones(0))
    directions: Tensor | None = None
    proportional: set[tuple[str, ...]] = field(default_factory=set)
    far: bool = False
    folds: dict[Any, tuple[StatePlan, Any]] = field(default_factory=dict)
    alike: set[tuple[int, int]] = field(default_factory=set)

    @property
    def plan(self) -> StatePlan:
        """The plan by which the outputs are folded."""
        return self.stream.state_plan

    @property
    def statistics(self) -> int:
        """How many numbers the gradient depends on."""
        return self.sizes.numel()

    @property
    def keeps_rows(self) -> bool:
        """Whether something that a gradient flows through is kept for each sample."""
        return any(leaf.merge is ROWS and want for leaf, want in zip(self.plan.leaves, self.wanted, strict=True))

    def empty(self) -> MergedStatistics:
        """The statistics of no samples."""
        assert self.stream.first is not None
        return MergedStatistics(GroupedState.empty(self.plan, self.stream.first.columns[0].device, 1))

    def fold(self, call: Batch, own: dict[Tensor, Tensor]) -> Folded:
        """The statistics of a micro-batch, with a graph if gradients are on.

        Args:
            call: a micro-batch's outputs.
            own: for the loss's own parameters, the variables that take their place.
        """
        key = signature(call)
        if key not in self.folds:
            plan = self.stream.variant(call, alone=True).plan
            self.folds[key] = plan, plan.fold.compile()
        plan, fold = self.folds[key]
        captured = {index: own.get(tensor, tensor) for index, tensor in plan.captured.items()}
        return Folded(*fold_by(plan, fold, tensors_of(call)[0], captured), call.n, key, shared_of(call))

    def slope(self, state: GroupedState, total: MergedStatistics) -> Found:
        """The loss on a merged state, and its derivatives.

        Args:
            state: merged over ranks.
            total: this rank's: the shapes that samples came in, for all of which the loss must be the same, and what
                batches share.

        Raises:
            Diverged: on all samples the loss goes another way, or what it takes from outside has changed.
        """
        if any(now.shape != then.shape or not torch.equal(now, then) for now, then in self.sources):
            raise Diverged("a tensor that the loss takes from outside has changed")
        if state.n == 0:
            raise BatchproofError(EMPTY)
        kept, lengths, n = state.merged([0])
        found, slopes = [], []
        plans = self._plans(total.shapes)
        for plan, variant in plans:
            tensors, dims = tensors_of(_with_shared(variant.example, total.shared))
            own = {i: tensor for i, tensor in plan.captured.items() if tensor.requires_grad}
            with torch.inference_mode(False), quiet(self.stream.fn), no_autocast(tensors[0]):
                one = slope(plan, State(kept, lengths, n), tensors, dims, self.wanted, list(own))
            self.far |= one.lost > FAR
            if not one.lost <= TOO_FAR:
                raise Diverged("samples lie too far from those that it was learned from, and too few digits are left")
            check_loss(one.value)
            direct = {own[index]: grad.to(own[index].dtype) for index, grad in one.captured.items()}
            found.append(Found(typed(one.value, plan), one.leaves, direct))
            slopes.append(one)
        if len(plans) > 1:
            self._check_shapes([plan for plan, _ in plans], slopes)
        return found[0]

    def _check_shapes(self, plans: Sequence[StatePlan], slopes: Sequence[Slope]) -> None:
        """Raise Diverged where the loss depends on which of the shapes samples came in."""
        for plan in plans[1:]:
            pair = id(plans[0]), id(plan)
            if pair not in self.alike:
                check_folds(plans[0], plan)
                self.alike.add(pair)
        check_finishes(plans, [one.run for one in slopes], [one.value for one in slopes])

    def fits(self, flags: Sequence[bool]) -> bool:
        """Whether a gradient flows through the same outputs as when this was learned."""
        return tuple(flags) == self.flags

    def holds(self) -> bool:
        """Whether it is still good for the next batch.

        The loss's graph must be the same: its values do not show a `no_grad` or a freeze.
        """
        assert self.stream.training_rows is not None
        if self.far:
            return False
        try:
            return graph_of(self.stream.fn, self.stream.training_rows, self.flags) == self.shape
        except Exception:  # noqa: BLE001 - learning anew will show it
            return False

    def own(self) -> dict[Tensor, Tensor]:
        """Variables to take the place of the loss's own parameters, so that their gradients can be told apart."""
        plans = [variant.plan for variant in self.stream.variants.values()]
        tensors = dict.fromkeys(t for plan in plans for t in plan.captured.values() if t.requires_grad)
        return {tensor: tensor.detach().requires_grad_() for tensor in tensors}

    def _plans(self, shapes: set[Any]) -> list[tuple[StatePlan, Variant]]:
        """The plans for samples of these shapes; any will do where there are no samples."""
        variants = self.stream.variants
        met = [variant for key, variant in variants.items() if key in shapes] or list(variants.values())[:1]
        return [(variant.plan, variant) for variant in met]

    def cotangents(self, direction: Tensor) -> Grads:
        """One number for each statistic, as a tensor for each leaf."""
        start, found = 0, list[Tensor | None]()
        for leaf, want in zip(self.plan.leaves, self.wanted, strict=True):
            shape = leaf.state_shape
            length = prod(shape) if want else 0
            found.append(direction[start : start + length].reshape(shape) if want else None)
            start += length
        return found

    def weights(self, found: Grads) -> list[float] | None:
        """How a derivative is made of the known directions, or None where it is not."""
        assert self.directions is not None
        aim, known = flat(found) * self.sizes, self.directions * self.sizes
        if not bool(aim.isfinite().all()):  # the solver would raise
            return None
        units = known.norm(dim=1)  # far apart where sums are: the solver would take the small ones for none
        scaled = torch.linalg.lstsq((known / units.unsqueeze(1)).T, aim.unsqueeze(1)).solution.squeeze(1)
        rest = aim - scaled / units @ known
        return (scaled / units).tolist() if bool(rest.norm() <= ROUNDING * aim.norm()) else None

    def pull(self, part: Folded, cotangents: Grads, retain: bool = False) -> None:
        """Backward from a micro-batch's statistics."""
        values, grads = _ends(part, cotangents)
        if values:
            torch.autograd.backward(values, grads, retain_graph=retain)

    def gradients(self, part: Folded, cotangents: Grads, variables: Sequence[Tensor], by: float) -> list[Tensor]:
        """The gradients by some variables, times ``by``; nothing is put into ``.grad``, and the graph stays."""
        values, grads = _ends(part, cotangents)
        if not values:
            return []
        scaled = [grad * by for grad in grads]
        found = torch.autograd.grad(values, variables, scaled, retain_graph=True, materialize_grads=True)
        return [grad.to_dense() if grad.is_sparse else grad for grad in found]


def shared_of(call: Batch) -> dict[str, Any]:
    """By name, the arguments that carry no samples."""
    named = zip(call.layout.names, call.layout.dims, call.leaves, strict=True)
    return {name: copied(leaf) for name, dim, leaf in named if dim is None}


def check_shared(now: dict[str, Any], then: dict[str, Any]) -> None:
    """Raise BatchproofError where micro-batches differ in what they share."""
    for name, leaf in now.items():
        if name not in then or not same(leaf, then[name]):
            raise BatchproofError(
                f"argument {name} is shared by all micro-batches (it carries no samples), and differs from that of the "
                "first one"
            )


def _with_shared(example: Batch, shared: dict[str, Any]) -> Batch:
    """A sample beside what its batches share now."""
    named = zip(example.layout.names, example.leaves, strict=True)
    return Batch(example.layout, [shared.get(name, leaf) for name, leaf in named], example.n)


def _ends(part: Folded, cotangents: Grads) -> tuple[list[Tensor], list[Tensor]]:
    """The statistics that a gradient flows back from, and what flows in there."""
    pairs = [
        (value, grad.to(value.dtype).reshape(value.shape))
        for value, grad in zip(part.values, cotangents, strict=True)
        if grad is not None and value.requires_grad
    ]
    return [value for value, _ in pairs], [grad for _, grad in pairs]


def graph_of(loss_fn: Callable[..., Any], training_rows: Batch, flags: Sequence[bool]) -> tuple[str, ...]:
    """The kinds of operations in a loss's own graph."""
    with torch.enable_grad(), quiet(loss_fn), no_autocast(training_rows.columns[0]):
        return tuple(type(node).__name__ for node in nodes_of([loss_of(loss_fn, with_gradient(training_rows, flags))]))


class Cut:
    """The derivatives of a merged state, handed out to micro-batches in order.

    Those by kept rows are cut up; those by sums are the same for all.
    """

    def __init__(self, plan: StatePlan, whole: Grads, starts: list[int]) -> None:
        self.plan = plan
        self.whole = whole
        self.starts = list(starts)

    def next(self, part: Folded) -> Grads:
        """The derivatives that belong to the next micro-batch."""
        cut: Grads = []
        for number, (leaf, grad, value) in enumerate(zip(self.plan.leaves, self.whole, part.values, strict=True)):
            if leaf.merge is ROWS and grad is not None:
                length = value.shape[leaf.dim]
                grad = grad.narrow(leaf.dim, self.starts[number], length)
                self.starts[number] += length
            cut.append(grad)
        return cut


def flat(found: Grads) -> Tensor:
    """Derivatives by all statistics, as one vector."""
    return torch.cat([grad.reshape(-1) for grad in found if grad is not None])
