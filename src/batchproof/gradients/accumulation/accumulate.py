"""accumulate: the loss and the gradient on all micro-batches together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from functools import partial
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from batchproof.derive import Diverged
from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.analysis import LossAnalysis
from batchproof.gradients.accumulation.cache import SeenFunction, known
from batchproof.gradients.accumulation.context import Job
from batchproof.gradients.accumulation.coupling import refuse_coupling
from batchproof.gradients.accumulation.grad_store import Ledger
from batchproof.gradients.accumulation.meeting import look, looked_at, to_look_at
from batchproof.gradients.accumulation.micro_batches import ForwardPasses, MicroBatches
from batchproof.gradients.accumulation.one_pass import Unsuited, once
from batchproof.gradients.accumulation.outputs import EMPTY, carries_gradient, read_outputs, uncompiled, variables
from batchproof.gradients.accumulation.ranks import Ranks
from batchproof.gradients.accumulation.replay import Replay
from batchproof.gradients.accumulation.scheme import Scheme, choose, on_outputs, on_statistics, reason
from batchproof.gradients.accumulation.starting import Start
from batchproof.gradients.accumulation.two_passes import joined, twice
from batchproof.ground.batch import Batch, Dims, check_batch_dim, keep
from batchproof.ground.isolation import outermost

Made = tuple[Batch, tuple[bool, ...]]  # outputs, and for each leaf whether a gradient flows through it


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
    It is added to what ``.grad`` holds, as ``backward`` does.  The cheapest scheme that is exact is used.

    Args:
        loss_fn: a function or module of the model's outputs, tensors of any shape and dtype whose first dimension
            counts samples. It returns one real number as a tensor.
        forward: of one micro-batch; returns the arguments of ``loss_fn``: a tuple or list of them, a dictionary of
            keyword arguments, or one tensor. It is called once or twice for each micro-batch, and a few times more for
            the first one of a model, to see whether its samples depend on each other.
        micro_batches: a list, or whatever can be gone through twice in the same order. An iterator will do for losses
            that need one pass.
        group: a process group of ``torch.distributed``, whose samples count as one batch; that of the model if it is a
            ``DistributedDataParallel``.
        batch_dim: the dimension of outputs that counts samples; or one for each positional argument of ``loss_fn``,
            None for what all micro-batches share.
        allow_coupling: whether a model that normalises samples by their micro-batch is accepted as it is.

    Returns:
        The loss on all micro-batches, in the dtype that ``loss_fn`` gives, with no graph. Its attribute ``scheme`` is a
        `Scheme`, which prints how the gradient was made and why.

    Raises:
        BatchproofError: Samples of a micro-batch depend on each other in the model (BatchNorm in training mode, by
            name; others as far as replacing some of the first samples shows). Or the loss is random or returns no
            number, no gradient flows to any parameter, the loss needs a second pass and an iterator has none, or
            ``forward`` gives something else in it. ``.grad`` is as it was before. What ``loss_fn`` and ``forward``
            raise themselves passes through untouched, and ``.grad`` is as it was then, too.
    """
    for name, thing in (("loss_fn", loss_fn), ("forward", forward)):
        if not callable(thing):
            raise BatchproofError(f"{name} must be a function or a module, not {type(thing).__name__}")
    batch_dim = check_batch_dim(batch_dim)
    loss_fn = uncompiled(loss_fn)
    modules = outermost(forward)

    def outputs(micro_batch: Any) -> Batch:
        return read_outputs(loss_fn, forward(micro_batch), batch_dim)

    ranks = Ranks(group, [*modules, *outermost(loss_fn)])
    parts = MicroBatches(micro_batches)
    replay = Replay(modules)
    job = Job(loss_fn, Ledger(), ranks, modules, replay, allow_coupling)
    passes = ForwardPasses(outputs, parts, replay)
    # all ranks take part in a forward pass of shards, so none can make passes of its own
    looks = not allow_coupling and not ranks.is_sharded and to_look_at(forward, modules)
    first = partial(_first_look if looks else _first, job, passes, forward)
    with ranks.alone(), torch.enable_grad():
        try:
            loss, scheme = _made(job, passes, parts, known(loss_fn), first, looks)
        except BaseException as error:
            job.ledger.undo()
            if isinstance(error, Exception):
                ranks.give_up(error)
            raise
    loss.scheme = scheme  # type: ignore[attr-defined]
    return loss


def _made(
    job: Job, passes: ForwardPasses, parts: MicroBatches, about: SeenFunction, first: Callable[[Any], Made], looks: bool
) -> tuple[Tensor, Scheme]:
    """The gradient, by the cheapest scheme that is exact."""
    start = passes.replay.moment()
    _check_lengths(job, parts)
    about.check()
    if any(token != about.token for token in job.ranks.gathered(about.token)):
        about.forget()  # ranks that learned it apart centre their sums elsewhere
    if about.analysis is None:
        _study(job, passes, parts, about, first)
        passes.replay.at(start)
    elif looks:
        for micro_batch in parts.peek():
            first(micro_batch)
            break
        passes.replay.at(start)
    analysis, replayable = about.analysis, job.ranks.every(parts.replayable)
    if not isinstance(analysis, LossAnalysis):
        return _joined(job, passes, analysis or "too few samples have come yet to learn more of it", replayable)
    number = choose(analysis, replayable)
    if number is None:
        raise BatchproofError(ONCE.format(reason(analysis)))
    try:
        loss = (twice if number == 3 else once)(job, passes, analysis)
    except Diverged as why:
        if not isinstance(why, Unsuited):
            about.forget()
        job.ledger.undo()
        job.ranks.give_up(why)
        job.ranks.told = False  # all begin again
        passes.replay.at(start)
        return _joined(job, passes, str(why), replayable)
    return loss, on_statistics(number, analysis)


def _check_lengths(job: Job, parts: MicroBatches) -> None:
    """Raise BatchproofError where ranks would wait for each other in a forward pass."""
    if not job.ranks.is_sharded:
        return
    lengths = job.ranks.gathered(len(parts.parts) if isinstance(parts.parts, Sized) else None)
    if len(set(lengths)) > 1:
        raise BatchproofError(
            f"ranks have {', '.join(map(str, lengths))} micro-batches, and all have to take part in each forward pass "
            "of a model that is sharded: give each as many"
        )


ONCE = (
    "this loss needs two passes over micro_batches ({}), and an iterator can be gone through only once: "
    "pass a list of them"
)


def _joined(job: Job, passes: ForwardPasses, why: str, replayable: bool) -> tuple[Tensor, Scheme]:
    if not replayable:
        raise BatchproofError(ONCE.format(why))
    loss, row_nbytes = joined(job, passes)
    return loss, on_outputs(why, row_nbytes)


def _study(
    job: Job, passes: ForwardPasses, parts: MicroBatches, about: SeenFunction, first: Callable[[Any], Made]
) -> None:
    """Learn from the outputs of as many micro-batches as it takes; their gradients are not needed yet."""
    calls: list[Batch] = []
    flags: tuple[bool, ...] = ()
    for micro_batch in parts.peek():
        if calls:
            call = keep(passes.bare(micro_batch, passes.replay.moment()))
        else:
            call, flags = first(micro_batch)
        calls.append(call)
        if job.ranks.every(about.enough(calls)) if job.ranks.is_sharded else about.enough(calls):
            break
    everything = [call for rank in job.ranks.calls(calls) for call in rank]
    if not everything:
        raise BatchproofError(EMPTY)
    about.study(everything, next(known for known in job.ranks.gathered(flags) if known))
    about.token = job.ranks.gathered(uuid4().hex)[0]


def _first(job: Job, passes: ForwardPasses, forward: Callable[[Any], Any], micro_batch: Any) -> Made:
    """The first micro-batch's outputs, which are made with a graph to see where a gradient flows."""
    call = passes.outputs(micro_batch)
    if not job.allow_coupling:
        refuse_coupling(variables(call), job.modules, job.replay)
    return keep(call), carries_gradient(call)


def _first_look(job: Job, passes: ForwardPasses, forward: Callable[[Any], Any], micro_batch: Any) -> Made:
    """The same of a model that was not seen before: its samples must not meet."""
    start = Start(passes.replay, job.modules, forward)
    call = passes.outputs(micro_batch)
    refuse_coupling(variables(call), job.modules, job.replay)
    judged = look(lambda other: passes.bare(other, start.moment), start, micro_batch, call, job.modules)
    made = keep(call), carries_gradient(call)
    del call
    looked_at(forward, job.modules, judged())
    return made
