"""One gradient to be made: what is set aside for it, and what each micro-batch and the end add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from batchproof.derive import Diverged
from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.analysis import Folded, Found, LossAnalysis, MergedStatistics
from batchproof.gradients.accumulation.coupling import refuse_coupling
from batchproof.gradients.accumulation.grad_store import Ledger, leaves_of
from batchproof.gradients.accumulation.outputs import carries_gradient
from batchproof.gradients.accumulation.ranks import Ranks
from batchproof.gradients.accumulation.replay import Replay
from batchproof.gradients.accumulation.sharding import is_sharded
from batchproof.gradients.accumulation.wrappers import refuse_shards, undisturbed
from batchproof.ground.batch import Batch


@dataclass
class Job:
    """One gradient to be made."""

    loss_fn: Callable[..., Any]
    ledger: Ledger
    ranks: Ranks
    modules: Sequence[torch.nn.Module]  # that forward runs, as far as they can be found
    replay: Replay  # of these
    allow_coupling: bool

    def open(self, outputs: Sequence[Tensor], own: Iterable[Tensor] = ()) -> None:
        """Before a backward pass: set gradients aside, but for some; the first time, look for what couples samples."""
        if not self.ledger.before and not self.allow_coupling:
            refuse_coupling(outputs, self.modules, self.replay)
        self.ledger.reach(outputs, own, self.ranks.shards_behind(outputs))
        refuse_shards(self.ledger.fresh)

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Around a backward pass: where parameters are reached for the first time, their gradients must stay here.

        Those of shards need not, but what becomes of them must be a multiple of their sum over ranks.
        """
        fresh, self.ledger.fresh = self.ledger.fresh, []
        with undisturbed([parameter for parameter in fresh if not is_sharded(parameter)]), self.ranks.measuring():
            yield

    def close(self, loss: Tensor, common: Sequence[Tensor]) -> Tensor:
        """All gradients are made: add those of other ranks, and what was there before."""
        self.ranks.add_up(self.ledger, common, loss)
        self.ledger.close()
        return loss.detach()


def fold(
    job: Job, analysis: LossAnalysis, call: Batch, own: dict[Tensor, Tensor], total: MergedStatistics | None = None
) -> Folded:
    """A micro-batch's statistics, added to a state, and its parameters' gradients set aside.

    Raises:
        Diverged: it cannot be folded as what was learned says.
    """
    if torch.is_grad_enabled() and not analysis.fits(carries_gradient(call)):
        raise Diverged("a gradient flows through other outputs than before")
    try:
        part = analysis.fold(call, own)
    except BatchproofError as refusal:
        raise Diverged(str(refusal)) from refusal
    if torch.is_grad_enabled():
        job.open([value for value in part.values if value.requires_grad], own.values())
    if total is not None:
        total.add(part)
    return part


def settle(job: Job, analysis: LossAnalysis, own: dict[Tensor, Tensor], found: Found) -> Tensor:
    """Give the loss's own parameters their gradient, once, and close."""
    total = {tensor: variable.grad for tensor, variable in own.items() if variable.grad is not None}
    if job.ranks.number == 0:
        for tensor, grad in found.direct.items():
            total[tensor] = total[tensor] + grad if tensor in total else grad
    job.ledger.reach(list(own))
    if total:
        torch.autograd.backward(list(total), list(total.values()))
    return job.close(found.value, list(leaves_of(list(own))))
