"""Scheme 3: a first pass without a graph, for the sums or the outputs; then back from each micro-batch's share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.analysis import Cut, LossAnalysis, check_shared, shared_of
from batchproof.gradients.accumulation.context import Job, fold, settle
from batchproof.gradients.accumulation.determinism import check_repeats, differs, room_for
from batchproof.gradients.accumulation.grad_store import leaves_of
from batchproof.gradients.accumulation.micro_batches import ForwardPasses
from batchproof.gradients.accumulation.outputs import (
    EMPTY,
    carries_gradient,
    check_loss,
    loss_of,
    size_of,
    variables,
    with_gradient,
)
from batchproof.ground.batch import Batch, keep
from batchproof.metric import no_autocast

OTHER_OUTPUTS = (
    "a gradient flows through an output of forward that had none in the first micro-batch: give it one there too "
    "(a sum over parameters times 0, say), or detach it in all"
)
NO_GRADIENT = "no gradient flows from the loss to any parameter: none of them has requires_grad, or forward detaches"


def twice(job: Job, passes: ForwardPasses, analysis: LossAnalysis) -> Tensor:
    """Scheme 3, on statistics: once without a graph for their sums, then back from each micro-batch's share."""
    total, second, own = analysis.empty(), analysis.empty(), analysis.own()
    room = 0.0
    with torch.no_grad():
        for call in passes.first(graph_of_first=False):
            fold(job, analysis, call, {}, total)
            del call
    found = analysis.slope(job.ranks.merged(total.state), total)
    cut = Cut(analysis.plan, found.leaves, job.ranks.starts(total.state))
    for call in passes.again():
        part = fold(job, analysis, call, own, second)
        room = room or room_for(variables(call))
        with job.backward():
            analysis.pull(part, cut.next(part))
        del call, part
    if total.shapes:
        pairs = zip(second.state.merged([0])[0], total.state.merged([0])[0], strict=True)
        check_repeats([differs(*pair) for pair in pairs], room)
    return settle(job, analysis, own, found)


def joined(job: Job, passes: ForwardPasses) -> tuple[Tensor, int]:
    """Scheme 3, on outputs: the loss itself is called on all of them, then back from each micro-batch's share.

    Returns:
        The loss, and the bytes that were kept of each sample.
    """
    calls: list[Batch] = []
    flags: tuple[bool, ...] = ()
    for call in passes.first(graph_of_first=True):  # which shows the outputs that carry a gradient
        flags = flags or carries_gradient(call)
        calls.append(keep(call))
        del call
    return back_from_outputs(job, calls, flags, passes.again())


def back_from_outputs(
    job: Job, calls: Sequence[Batch], flags: tuple[bool, ...], connected: Iterable[Batch]
) -> tuple[Tensor, int]:
    """The loss on all outputs, and its gradient handed back to those same outputs with their graph."""
    for call in calls[1:]:
        check_shared(shared_of(call), shared_of(calls[0]))
    if not any(job.ranks.gathered(len(calls))):
        raise BatchproofError(EMPTY)
    everything, start = job.ranks.joined(calls)
    flags = tuple(map(any, zip(*filter(None, job.ranks.gathered(flags)), strict=True)))
    whole = with_gradient(everything, flags)
    loss, common = loss_on_all(job, whole)
    errors, room = [], 0.0
    for call in connected:
        if any(now and not then for now, then in zip(carries_gradient(call), flags, strict=True)):
            raise BatchproofError(OTHER_OUTPUTS)
        outputs = variables_of(call, flags)
        job.open(outputs)
        room = room or room_for(outputs)
        values, grads = share(whole, start, call.n)
        errors += [differs(*pair) for pair in zip(outputs, values, strict=True)]
        flowing = [number for number, output in enumerate(outputs) if output.requires_grad]
        if flowing:
            with job.backward():
                torch.autograd.backward([outputs[number] for number in flowing], [grads[number] for number in flowing])
        start += call.n
        del call, outputs
    check_repeats(errors, room)
    return job.close(loss, common), size_of(whole) // whole.n


def loss_on_all(job: Job, whole: Batch) -> tuple[Tensor, list[Tensor]]:
    """The loss, the gradient of its own parameters in place, and which these are; that of the outputs is on them."""
    outputs = variables(whole)
    with torch.enable_grad(), no_autocast(whole.columns[0]):
        loss = loss_of(job.loss_fn, whole)
    check_loss(loss)
    common = [leaf for leaf in leaves_of([loss]) if all(leaf is not output for output in outputs)]
    if not loss.requires_grad:
        raise BatchproofError(NO_GRADIENT)
    job.ledger.hold(common)
    # the loss's own parameters take their gradient once, not once for every rank
    torch.autograd.backward(loss, inputs=[*outputs, *(common if job.ranks.number == 0 else [])])
    return loss, common


def share(whole: Batch, start: int, n: int) -> tuple[list[Tensor], list[Tensor]]:
    """One micro-batch's part of all outputs, and of their gradient; what all batches share takes its gradient once."""
    values, grads = [], []
    for leaf, dim in zip(whole.leaves, whole.layout.dims, strict=True):
        if isinstance(leaf, Tensor) and leaf.requires_grad:
            grad = torch.zeros_like(leaf) if leaf.grad is None or (dim is None and start) else leaf.grad
            values.append(leaf if dim is None else leaf.narrow(dim, start, n))
            grads.append(grad if dim is None else grad.narrow(dim, start, n))
    return values, grads


def variables_of(call: Batch, flags: Sequence[bool]) -> list[Tensor]:
    """The outputs that a gradient flows through."""
    return [leaf for leaf, flag in zip(call.leaves, flags, strict=True) if flag]
