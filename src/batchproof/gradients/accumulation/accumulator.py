"""Accumulator: the same for loops that cannot hand over their micro-batches, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from batchproof.derive import Diverged
from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.analysis import LossAnalysis
from batchproof.gradients.accumulation.cache import SeenFunction, known
from batchproof.gradients.accumulation.context import Job
from batchproof.gradients.accumulation.grad_store import Ledger
from batchproof.gradients.accumulation.one_pass import Sums, Unsuited
from batchproof.gradients.accumulation.outputs import EMPTY, carries_gradient, read_loss_arguments, uncompiled
from batchproof.gradients.accumulation.ranks import Ranks
from batchproof.gradients.accumulation.replay import Replay
from batchproof.gradients.accumulation.samples import joinable
from batchproof.gradients.accumulation.scheme import Scheme, choose, on_outputs, on_statistics, reason
from batchproof.gradients.accumulation.two_passes import back_from_outputs
from batchproof.ground.batch import Batch, Dims, check_batch_dim, keep
from batchproof.ground.isolation import outermost


class Accumulator:
    """The exact gradient of a loss over micro-batches, where the loop is not ours.

    >>> import torch, batchproof
    >>> model = torch.nn.Linear(3, 1)
    >>> def rmse(pred, real):
    ...     return (pred - real).square().mean().sqrt()
    >>> x, y = torch.randn(64, 3), torch.randn(64, 1)
    >>> acc = batchproof.Accumulator(rmse)
    >>> for part, target in zip(x.split(7), y.split(7)):
    ...     acc.backward(model(part), target)
    >>> loss = acc.finish()
    >>> torch.allclose(loss, rmse(model(x), y))
    True

    Until `finish` has been called, ``.grad`` is not what it should be: let no optimizer, no clipping and no hook look
    at it.  The first micro-batches of the first step are held with their graphs until 32 samples have come; with
    ``group=``, all of the first step.

    Attributes:
        scheme: how the last gradient was made, None before the first `finish`; prints as a report.
    """

    def __init__(
        self, loss_fn: Callable[..., Any], *, group: Any = None, batch_dim: Dims = 0, allow_coupling: bool = False
    ) -> None:
        if not callable(loss_fn):
            raise BatchproofError(f"loss_fn must be a function or a module, not {type(loss_fn).__name__}")
        self.loss_fn = loss_fn = uncompiled(loss_fn)
        self.group = group
        self.batch_dim = check_batch_dim(batch_dim)
        self.allow_coupling = allow_coupling
        self.scheme: Scheme | None = None
        self._about = known(loss_fn) if group is None else SeenFunction(loss_fn)  # ranks learn it together, not apart
        self._begin()

    def _begin(self) -> None:
        ranks = Ranks(self.group, outermost(self.loss_fn))
        self._job = Job(self.loss_fn, Ledger(), ranks, (), Replay(()), self.allow_coupling)
        self._waiting: list[Batch] = []  # with their graphs
        self._sums: Sums | None = None

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """Take in a micro-batch: the arguments of the loss, with their graph. It is freed, as by ``backward``.

        Raises:
            BatchproofError: the loss does not take these arguments; its gradient cannot be made in one pass; the model
                couples the samples of a batch. ``.grad`` is as before the first micro-batch then, and the next one is a
                first.
        """
        try:
            with torch.enable_grad():
                self._take(read_loss_arguments(self.loss_fn, args, kwargs, self.batch_dim))
        except BaseException:
            self.reset()
            raise

    def _take(self, call: Batch) -> None:
        self._waiting.append(call)
        if self._sums is None:
            self._sums = self._summing(call)
        try:
            while self._sums is not None and self._waiting:
                self._sums.add(self._waiting.pop(0))
        except Diverged as why:
            if not isinstance(why, Unsuited):
                self._about.forget()
            raise BatchproofError(IN_ONE_GO.format(why)) from None

    def _summing(self, call: Batch) -> Sums | None:
        """What adds up micro-batches, once enough of them have come to know what to add up."""
        if len(self._waiting) == 1:
            self._about.check()
        if self._about.analysis is None:
            if self._job.ranks.together:
                return None
            kept = [keep(waiting) for waiting in self._waiting]
            if not self._about.enough(kept):
                return None
            self._about.study(kept, carries_gradient(call))
        analysis = self._about.analysis
        if not isinstance(analysis, LossAnalysis):
            raise BatchproofError(IN_ONE_GO.format(analysis))
        if choose(analysis, replayable=False) is None:
            raise BatchproofError(IN_ONE_GO.format(reason(analysis)))
        return Sums(self._job, analysis)

    def finish(self, parameters: Iterable[Tensor] = ()) -> Tensor:
        """Put the gradient of the loss on all micro-batches since the last `finish` into ``.grad``.

        Args:
            parameters: the model's, in the same order on all ranks; needed only with ``group=``. The gradients of all
                parameters that were reached are finished, whether they are among these or not.

        Returns:
            The loss on all micro-batches, with no graph.

        Raises:
            BatchproofError: no micro-batch has come; or on all of them together the loss goes another way than on the
                first. ``.grad`` is as before the first micro-batch then.
        """
        try:
            self._job.ranks.know(parameters)
            with torch.enable_grad():
                loss = self._finished()
        except BaseException as error:
            ranks = self._job.ranks
            self.reset()
            if isinstance(error, Diverged):
                self._about.forget()
            if isinstance(error, Exception):
                ranks.give_up(error)
            if isinstance(error, Diverged):
                raise BatchproofError(IN_ONE_GO.format(error)) from None
            raise
        self._begin()
        return loss

    def _finished(self) -> Tensor:
        if self._sums is None and self._waiting and not self._job.ranks.together:
            self._sums = self._summing_few()
        sums, analysis = self._sums, self._about.analysis
        if sums is None:
            if self._waiting or not isinstance(analysis, LossAnalysis):
                return self._all_at_once()
            sums = Sums(self._job, analysis)  # of no micro-batch, on a rank that has none
        self.scheme = on_statistics(choose(sums.analysis, replayable=False) or 2, sums.analysis)
        return sums.finish()

    def _summing_few(self) -> Sums | None:
        """What adds up micro-batches that are few, and whose shapes keep them from being put together."""
        kept = [keep(call) for call in self._waiting]
        if joinable(kept):
            return None
        self._about.study(kept, carries_gradient(self._waiting[0]))
        sums = self._summing(self._waiting[0])
        while sums is not None and self._waiting:
            sums.add(self._waiting.pop(0))
        return sums

    def _all_at_once(self) -> Tensor:
        """So few samples that their graphs are all still there."""
        if not any(self._job.ranks.gathered(len(self._waiting))):
            raise BatchproofError(EMPTY)
        kept = [keep(call) for call in self._waiting]
        flags = carries_gradient(self._waiting[0]) if self._waiting else ()
        loss, row_nbytes = back_from_outputs(self._job, kept, flags, self._waiting)
        self.scheme = on_outputs("too few samples have come yet to learn more of it", row_nbytes)
        everything = [call for rank in self._job.ranks.calls(kept) for call in rank]
        self._about.study(everything, next(known for known in self._job.ranks.gathered(flags) if known))
        return loss

    def reset(self) -> None:
        """Drop the micro-batches since the last `finish`; ``.grad`` is as before them."""
        self._job.ledger.undo()
        self._begin()


IN_ONE_GO = (
    "the gradient of this loss cannot be made one micro-batch at a time ({}): use batchproof.accumulate, which goes "
    "through the micro-batches twice"
)
