"""Schemes 1 and 2: the gradient of each micro-batch is made at once, and put right at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from batchproof.derive import Diverged
from batchproof.gradients.accumulation.analysis import Folded, LossAnalysis, flat
from batchproof.gradients.accumulation.context import Job, fold, settle
from batchproof.gradients.accumulation.determinism import room_for
from batchproof.gradients.accumulation.grad_store import added, nodes_of, scale
from batchproof.gradients.accumulation.micro_batches import ForwardPasses
from batchproof.gradients.accumulation.outputs import variables
from batchproof.gradients.accumulation.sharding import own_code
from batchproof.ground.batch import Batch

#: A gradient is tried at this many times its size too, on this many numbers at most: it takes their memory twice.
GROWN = 2.0**13
TRIED = 1 << 20


class Unsuited(Diverged):
    """The model, not the loss, keeps gradients from being put together at the end."""


def once(job: Job, passes: ForwardPasses, analysis: LossAnalysis) -> Tensor:
    """Schemes 1 and 2: one pass."""
    sums = Sums(job, analysis)
    for call in passes.once():
        sums.add(call)
        del call
    return sums.finish()


class Sums:
    """Statistics of micro-batches, and their gradient in each direction that the loss's derivative may have."""

    def __init__(self, job: Job, analysis: LossAnalysis) -> None:
        assert analysis.directions is not None
        self.job = job
        self.analysis = analysis
        self.total = analysis.empty()
        self.own = analysis.own()
        self.cotangents = [analysis.cotangents(direction) for direction in analysis.directions]
        self.grads: list[Mapping[Tensor, Tensor]] = [{} for _ in self.cotangents]

    @property
    def variables(self) -> list[Tensor]:
        """All that has a gradient: parameters of the model, and stand-ins for the loss's own."""
        return [*self.job.ledger.before, *self.own.values()]

    def add(self, call: Batch) -> None:
        """Take in a micro-batch and free its graph.

        Raises:
            Diverged: it cannot be folded as what was learned says.
        """
        first = not self.total.shapes
        part = fold(self.job, self.analysis, call, self.own, self.total)
        if first:
            self.check_model(part, room_for(variables(call)))
        if len(self.cotangents) == 1:  # straight into .grad
            with self.job.backward():
                self.analysis.pull(part, self.cotangents[0])
            return
        if self.job.ranks.pairs:
            raise Unsuited("a graph through shards can be gone back through only once")
        for number, cotangents in enumerate(self.cotangents):
            self.show(self.grads[number])
            try:
                with self.job.backward():
                    self.analysis.pull(part, cotangents, retain=number < len(self.cotangents) - 1)
            except RuntimeError as error:
                if "donated" not in str(error):
                    raise
                raise Unsuited("the graph of a compiled model can be gone back through only once") from None
            self.grads[number] = self.shown()
        self.show({})

    def check_model(self, part: Folded, room: float) -> None:
        """Raise Unsuited where the model's gradient is not proportional to what it is made from, and cannot be scaled.

        A hook or a backward of its own may clip it. Each kind of graph is tried once, at two sizes.
        """
        graph = tuple(type(node).__name__ for node in nodes_of(part.values))
        if self.job.ranks.pairs:
            if own_code(graph):
                raise Unsuited("the model has a backward of its own, which may clip gradients by their size")
            return  # a graph through shards can be gone back through only once
        if any("BackwardHook" in kind for kind in graph):
            raise Unsuited("the model has a backward hook, which must see the gradient as it is")
        if graph not in self.analysis.proportional:
            if not self._is_proportional(part, room):
                raise Unsuited("the model's own backward clips or changes gradients by their size")
            self.analysis.proportional.add(graph)

    def _is_proportional(self, part: Folded, room: float) -> bool:
        """Whether a gradient grows by a power of two as its cause does, which rounds nothing by itself."""
        try:
            tried = _smallest(self.variables)
            small, large = (self.analysis.gradients(part, self.cotangents[0], tried, by) for by in (1.0, GROWN))
        except RuntimeError:  # the graph can be gone through only once
            return True
        off = [torch.zeros(())]
        for a, b in zip(small, large, strict=True):
            finite = a.isfinite() & b.isfinite()  # in half precision the larger one may overflow
            gap, size = (torch.where(finite, x, 0).abs().sum().cpu() for x in (a * GROWN - b, a * GROWN))
            off.append(gap / size if size > 0 else gap)
        return bool(torch.stack(off).amax() <= room)

    def show(self, grads: Mapping[Tensor, Tensor]) -> None:
        """Put these into ``.grad``, to be added to."""
        for variable in self.variables:
            variable.grad = grads.get(variable)

    def shown(self) -> Mapping[Tensor, Tensor]:
        """What is in ``.grad``."""
        made = {variable: variable.grad for variable in self.variables if variable.grad is not None}
        return WeakTensorKeyDictionary(made)

    def finish(self) -> Tensor:
        """The loss on all micro-batches; its gradient is put together.

        Raises:
            Diverged: on all samples the loss goes another way, or its derivative has another direction.
        """
        found = self.analysis.slope(self.job.ranks.merged(self.total.state), self.total)
        weights = self.analysis.weights(found.leaves)
        if weights is None:
            raise Diverged("on all samples the loss's derivative by its sums has another direction, or is not finite")
        if len(weights) == 1:
            self.grads[0] = self.shown()
            if weights[0]:  # a scale of the loss that overflowed must not be met again
                self.analysis.directions = flat(found.leaves).unsqueeze(0)
        for grads, weight in zip(self.grads, weights, strict=True):
            scale(list(grads.values()), weight)
        self.show(self.grads[0])
        for grads in self.grads[1:]:
            for variable, grad in grads.items():
                variable.grad = grad if variable.grad is None else added(variable.grad, grad)
        return settle(self.job, self.analysis, self.own, found)


def _smallest(variables: Sequence[Tensor]) -> list[Tensor]:
    """As many variables as hold few numbers; biases, mostly, which every layer has."""
    chosen: list[Tensor] = []
    count = 0
    for variable in sorted(variables, key=Tensor.numel):
        count += variable.numel()
        if chosen and count > TRIED:
            break
        chosen.append(variable)
    return chosen
