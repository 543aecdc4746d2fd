"""The schemes: each puts the gradient on all micro-batches into ``.grad`` and gives the loss on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from batchproof.accumulate.coupling import refuse_coupling
from batchproof.accumulate.learned import Cut, Folded, Found, Learned, Total, flat
from batchproof.accumulate.ledger import COMPILED, Ledger, added, leaves_of, nodes_of, scale
from batchproof.accumulate.outputs import carries_gradient, check_loss, loss_of, size_of, variables, with_gradient
from batchproof.accumulate.ranks import Ranks
from batchproof.accumulate.replay import Moment, Replay
from batchproof.derive.finish import Diverged
from batchproof.errors import BatchproofError
from batchproof.streaming.arguments import Call, keep
from batchproof.streaming.folding import no_autocast

#: The second pass must give what the first gave, but for kernels that round in another way without a graph.
REPEATS = {torch.float64: 1e-9, torch.complex128: 1e-9}
NARROW_REPEATS = 1e-3
HALF_REPEATS = 2e-2
EMPTY = "micro_batches is empty: there is nothing to take a gradient of"
OTHER_OUTPUTS = (
    "a gradient flows through an output of forward that had none in the first micro-batch: give it one there too "
    "(a sum over parameters times 0, say), or detach it in all"
)
NO_GRADIENT = "no gradient flows from the loss to any parameter: none of them has requires_grad, or forward detaches"


class Unsuited(Diverged):
    """The model, not the loss, keeps gradients from being put together at the end."""


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
        self.ledger.reach(outputs, own)

    def close(self, loss: Tensor, common: Sequence[Tensor]) -> Tensor:
        """All gradients are made: add those of other ranks, and what was there before."""
        self.ranks.add_up(self.ledger, common, loss)
        self.ledger.close()
        return loss.detach()


@dataclass
class Loop:
    """The micro-batches, and the forward pass over each."""

    outputs: Callable[[Any], Call]
    micro_batches: Iterable[Any]
    replay: Replay

    def once(self) -> Iterator[Call]:
        """The outputs of each micro-batch, with their graph."""
        for micro_batch in self.micro_batches:
            yield self.outputs(micro_batch)

    def first(self, moments: list[Moment], graph_of_first: bool) -> Iterator[Call]:
        """The outputs of each without a graph (but for the first one's, if asked), and from where each began."""
        self.begin = self.replay.moment()
        for micro_batch in self.micro_batches:
            with torch.set_grad_enabled(graph_of_first and not moments):
                moments.append(self.replay.moment())
                call = self.outputs(micro_batch)
            yield call
            del call

    def again(self, moments: Sequence[Moment]) -> Iterator[Call]:
        """The same once more with a graph, each forward pass from where it began the first time.

        Raises:
            BatchproofError: the micro-batches are not there a second time.
        """
        self.replay.at(self.begin)  # a loader shuffles anew, as it did
        count = 0
        for micro_batch in self.micro_batches:
            if count < len(moments):
                self.replay.at(moments[count])
                yield self.outputs(micro_batch)
            count += 1
        if count != len(moments):
            raise BatchproofError(
                f"micro_batches gave {len(moments)} micro-batches in the first pass and {count} in the second, which "
                "this loss needs: pass a list of them"
            )


def once(job: Job, loop: Loop, learned: Learned) -> Tensor:
    """Schemes 1 and 2: one pass."""
    sums = Sums(job, learned)
    for call in loop.once():
        sums.add(call)
        del call
    return sums.finish()


class Sums:
    """Statistics of micro-batches, and their gradient in each direction that the loss's derivative may have."""

    def __init__(self, job: Job, learned: Learned) -> None:
        assert learned.directions is not None
        self.job = job
        self.learned = learned
        self.total = learned.empty()
        self.own = learned.own()
        self.cotangents = [learned.cotangents(direction) for direction in learned.directions]
        self.grads: list[Mapping[Tensor, Tensor]] = [{} for _ in self.cotangents]

    @property
    def variables(self) -> list[Tensor]:
        """All that has a gradient: parameters of the model, and stand-ins for the loss's own."""
        return [*self.job.ledger.before, *self.own.values()]

    def add(self, call: Call) -> None:
        """Take in a micro-batch and free its graph.

        Raises:
            Diverged: it cannot be folded as what was learned says.
        """
        first = not self.total.shapes
        part = fold(self.job, self.learned, call, self.own, self.total)
        if first and any("BackwardHook" in type(node).__name__ for node in nodes_of(part.values)):
            raise Unsuited("the model has a backward hook, which must see the gradient as it is")
        if len(self.cotangents) == 1:  # straight into .grad
            self.learned.pull(part, self.cotangents[0])
            return
        for number, cotangents in enumerate(self.cotangents):
            self.show(self.grads[number])
            try:
                self.learned.pull(part, cotangents, retain=number < len(self.cotangents) - 1)
            except RuntimeError as error:
                if "donated" not in str(error):
                    raise
                raise Unsuited("the graph of a compiled model can be gone back through only once") from None
            self.grads[number] = self.shown()
        self.show({})

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
        found = self.learned.slope(self.job.ranks.merged(self.total.state), self.total.shapes)
        weights = self.learned.weights(found.leaves)
        if weights is None:
            raise Diverged("on all samples the loss's derivative by its sums has another direction, or is not finite")
        if len(weights) == 1:
            self.grads[0] = self.shown()
            if weights[0]:  # a scale of the loss that overflowed must not be met again
                self.learned.directions = flat(found.leaves).unsqueeze(0)
        for grads, weight in zip(self.grads, weights, strict=True):
            scale(list(grads.values()), weight)
        self.show(self.grads[0])
        for grads in self.grads[1:]:
            for variable, grad in grads.items():
                variable.grad = grad if variable.grad is None else added(variable.grad, grad)
        return settle(self.job, self.learned, self.own, found)


def twice(job: Job, loop: Loop, learned: Learned) -> Tensor:
    """Scheme 3, on statistics: once without a graph for their sums, then back from each micro-batch's share."""
    total, second, own = learned.empty(), learned.empty(), learned.own()
    moments: list[Moment] = []
    room = 0.0
    with torch.no_grad():
        for call in loop.first(moments, graph_of_first=False):
            fold(job, learned, call, {}, total)
            del call
    end = loop.replay.moment()
    found = learned.slope(job.ranks.merged(total.state), total.shapes)
    cut = Cut(learned.plan, found.leaves, job.ranks.starts(total.state))
    for call in loop.again(moments):
        part = fold(job, learned, call, own, second)
        room = room or room_for(variables(call))
        learned.pull(part, cut.next(part))
        del call, part
    if total.shapes:
        pairs = zip(second.state.merged([0])[0], total.state.merged([0])[0], strict=True)
        check_repeats([differs(*pair) for pair in pairs], room)
    loop.replay.at(end)
    return settle(job, learned, own, found)


def joined(job: Job, loop: Loop) -> tuple[Tensor, int]:
    """Scheme 3, on outputs: the loss itself is called on all of them, then back from each micro-batch's share.

    Returns:
        The loss, and the bytes that were kept of each sample.
    """
    moments: list[Moment] = []
    calls: list[Call] = []
    flags: tuple[bool, ...] = ()
    for call in loop.first(moments, graph_of_first=True):  # which shows the outputs that carry a gradient
        flags = flags or carries_gradient(call)
        calls.append(keep(call))
        del call
    end = loop.replay.moment()
    loss, nbytes = back_from_outputs(job, calls, flags, loop.again(moments))
    loop.replay.at(end)
    return loss, nbytes


def back_from_outputs(
    job: Job, calls: Sequence[Call], flags: tuple[bool, ...], connected: Iterable[Call]
) -> tuple[Tensor, int]:
    """The loss on all outputs, and its gradient handed back to those same outputs with their graph."""
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
            torch.autograd.backward([outputs[number] for number in flowing], [grads[number] for number in flowing])
        start += call.n
        del call, outputs
    check_repeats(errors, room)
    return job.close(loss, common), size_of(whole) // whole.n


def loss_on_all(job: Job, whole: Call) -> tuple[Tensor, list[Tensor]]:
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


def share(whole: Call, start: int, n: int) -> tuple[list[Tensor], list[Tensor]]:
    """One micro-batch's part of all outputs, and of their gradient; what all batches share takes its gradient once."""
    values, grads = [], []
    for leaf, dim in zip(whole.leaves, whole.layout.dims, strict=True):
        if isinstance(leaf, Tensor) and leaf.requires_grad:
            grad = torch.zeros_like(leaf) if leaf.grad is None or (dim is None and start) else leaf.grad
            values.append(leaf if dim is None else leaf.narrow(dim, start, n))
            grads.append(grad if dim is None else grad.narrow(dim, start, n))
    return values, grads


def variables_of(call: Call, flags: Sequence[bool]) -> list[Tensor]:
    """The outputs that a gradient flows through."""
    return [leaf for leaf, flag in zip(call.leaves, flags, strict=True) if flag]


def fold(job: Job, learned: Learned, call: Call, own: dict[Tensor, Tensor], total: Total | None = None) -> Folded:
    """A micro-batch's statistics, added to a state, and its parameters' gradients set aside.

    Raises:
        Diverged: it cannot be folded as what was learned says.
    """
    if torch.is_grad_enabled() and not learned.fits(carries_gradient(call)):
        raise Diverged("a gradient flows through other outputs than before")
    try:
        part = learned.fold(call, own)
    except BatchproofError as refusal:
        raise Diverged(str(refusal)) from refusal
    if torch.is_grad_enabled():
        job.open([value for value in part.values if value.requires_grad], own.values())
    if total is not None:
        total.add(part)
    return part


def settle(job: Job, learned: Learned, own: dict[Tensor, Tensor], found: Found) -> Tensor:
    """Give the loss's own parameters their gradient, once, and close."""
    total = {tensor: variable.grad for tensor, variable in own.items() if variable.grad is not None}
    if job.ranks.number == 0:
        for tensor, grad in found.direct.items():
            total[tensor] = total[tensor] + grad if tensor in total else grad
    job.ledger.reach(list(own))
    if total:
        torch.autograd.backward(list(total), list(total.values()))
    return job.close(found.value, list(leaves_of(list(own))))


def differs(now: Tensor, then: Tensor) -> Tensor:
    """By what share of its size a tensor differs from what it was; left on its device."""
    now, then = (x.detach() if x.dtype in REPEATS else x.detach().float() for x in (now, then))
    if now.shape != then.shape:
        return torch.full((), float("inf"), device=now.device)
    same = (now == then) | ((now != now) & (then != then))
    finite = torch.where(then.isfinite(), then, torch.zeros_like(then))
    off = torch.where(same, torch.zeros_like(then), now - then)
    error: Tensor = off.norm() / finite.norm().clamp_min(1e-30)
    return error.nan_to_num(float("inf")).double()


def room_for(outputs: Sequence[Tensor]) -> float:
    """By how much outputs may differ from one pass to the other."""
    narrow = {output.dtype for output in outputs}
    for node in nodes_of(outputs):
        hidden = {torch.half} if type(node).__name__ == COMPILED else set()
        narrow |= hidden | {made.dtype for made in node._input_metadata}
    if narrow & {torch.half, torch.bfloat16}:
        return HALF_REPEATS
    return max((REPEATS.get(output.dtype, NARROW_REPEATS) for output in outputs), default=NARROW_REPEATS)


def check_repeats(errors: Sequence[Tensor], room: float) -> None:
    """Raise BatchproofError where the second pass gave other outputs than the first."""
    if errors and not bool(torch.stack(list(errors)).amax() <= room):
        raise BatchproofError(
            "forward gave other outputs in the second pass, which this loss needs: it must give the same for the same "
            "micro-batch (random numbers of torch, numpy and random are replayed, and buffers put back), and "
            "micro_batches must come in the same order: pass a list of them"
        )
