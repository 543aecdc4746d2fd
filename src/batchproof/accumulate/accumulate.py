"""accumulate: the loss and the gradient on all micro-batches together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from batchproof.accumulate.coupling import refuse_coupling
from batchproof.accumulate.known import Known, known
from batchproof.accumulate.learned import Learned
from batchproof.accumulate.ledger import Ledger
from batchproof.accumulate.outputs import carries_gradient, read_outputs, variables
from batchproof.accumulate.passes import Job, combined, joined, scaled, twice
from batchproof.accumulate.ranks import Ranks
from batchproof.accumulate.replay import Replay
from batchproof.accumulate.scheme import Scheme, choose, described
from batchproof.accumulate.source import Source
from batchproof.derive.finish import Diverged
from batchproof.errors import BatchproofError
from batchproof.streaming.arguments import Call, Dims, keep
from batchproof.streaming.modules import outermost


def accumulate(
    loss_fn: Callable[..., Any],
    forward: Callable[[Any], Any],
    micro_batches: Iterable[Any],
    *,
    group: Any = None,
    batch_dim: Dims = 0,
    allow_coupling: bool = False,
) -> Tensor:
    """Put the gradient of ``loss_fn`` on all micro-batches together into ``.grad``, and return that loss.

    >>> import torch, batchproof
    >>> model = torch.nn.Linear(3, 1)
    >>> def rmse(pred, real):
    ...     return (pred - real).square().mean().sqrt()
    >>> x, y = torch.randn(64, 3), torch.randn(64, 1)
    >>> loss = batchproof.accumulate(rmse, lambda part: (model(part[0]), part[1]), list(zip(x.split(5), y.split(5))))
    >>> exact = model.weight.grad.clone()
    >>> model.zero_grad()
    >>> rmse(model(x), y).backward()
    >>> torch.allclose(exact, model.weight.grad)
    True

    The gradient is that of one large batch, whatever the micro-batches are: ragged, of one sample, without a label.
    It is added to what ``.grad`` holds, as ``backward`` does.  The cheapest scheme that is exact is used, and
    ``loss.scheme`` says which one and why.
    """
    for name, thing in (("loss_fn", loss_fn), ("forward", forward)):
        if not callable(thing):
            raise BatchproofError(f"{name} must be a function or a module, not {type(thing).__name__}")
    modules = outermost(forward)

    def outputs(micro_batch: Any) -> Call:
        return read_outputs(loss_fn, forward(micro_batch), batch_dim)

    ranks = Ranks(group, [*modules, *outermost(loss_fn)])
    source = Source(micro_batches)
    job = Job(loss_fn, outputs, source, Ledger(), Replay(modules), ranks, modules, allow_coupling)
    with ranks.alone():
        try:
            loss, scheme = _made(job, source, known(loss_fn))
        except BaseException:
            job.ledger.undo()
            raise
    loss.scheme = scheme  # type: ignore[attr-defined]
    return loss


def _made(job: Job, source: Source, about: Known) -> tuple[Tensor, Scheme]:
    """The gradient, by the cheapest scheme that is exact."""
    start = job.replay.moment()
    if about.learned is None:
        _study(job, source, about)
        job.replay.at(start)
    learned, replayable = about.learned, job.ranks.every(source.replayable)
    if not isinstance(learned, Learned):
        return _joined(job, learned or "there are too few samples yet to learn how it splits", replayable)
    number = choose(learned, replayable)
    try:
        if number is None:
            raise BatchproofError(_ONCE.format(described(3, learned).reason))
        loss = {1: scaled, 2: combined, 3: twice}[number](job, learned)
    except Diverged as why:
        about.forget()
        job.ranks.give_up()
        job.ledger.undo()
        job.replay.at(start)
        return _joined(job, str(why), replayable)
    return loss, described(number, learned)


_ONCE = (
    "this loss needs two passes over micro_batches ({}), and micro_batches is an iterator that can be gone through only "
    "once: pass a list of them"
)


def _joined(job: Job, reason: str, replayable: bool) -> tuple[Tensor, Scheme]:
    if not replayable:
        raise BatchproofError(_ONCE.format(reason))
    loss, row_nbytes = joined(job)
    return loss, described(3, reason, row_nbytes)


def _study(job: Job, source: Source, about: Known) -> None:
    """Learn from the outputs of as many micro-batches as it takes; their gradients are not needed yet."""
    calls: list[Call] = []
    flags: tuple[bool, ...] = ()
    for micro_batch in source.peek():
        with torch.set_grad_enabled(not calls):  # the first with a graph, to see which outputs carry a gradient
            call = job.outputs(micro_batch)
        if not calls:
            flags = carries_gradient(call)
            if not job.allow_coupling:
                refuse_coupling(variables(call), job.modules)
        calls.append(keep(call))
        del call
        if about.enough(calls):
            break
    everything = [call for rank in job.ranks.calls(calls) for call in rank]
    if not everything:
        raise BatchproofError("micro_batches is empty: there is nothing to take a gradient of")
    flags = next(known for known in job.ranks.gathered(flags) if known)
    about.study(everything, flags)
