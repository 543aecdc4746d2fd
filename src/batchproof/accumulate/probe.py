"""Refuse a forward pass in which samples meet: change some, and see whether the outputs of others move.

A normalisation by the batch, a router with a capacity, attention over the batch, a codebook that follows the data are
all seen alike.  It is looked at once for each model and way to call it, with a handful of forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from batchproof.accumulate.changes import LARGE, SMALL, Samples, find_samples, put_together
from batchproof.accumulate.coupling import refuse_coupling
from batchproof.accumulate.job import Job
from batchproof.accumulate.meeting import first_that_mixes, first_that_remembers
from batchproof.accumulate.outputs import variables
from batchproof.accumulate.repeats import room_for
from batchproof.accumulate.replay import Moment
from batchproof.accumulate.undisturbed import awake, undisturbed, undropped
from batchproof.errors import BatchproofError
from batchproof.streaming.arguments import Call

#: A model that cannot be judged by the micro-batches of one call may be by those of the next, so often.
TIMES = 3
#: Numbers that are compared at once.
CHUNK = 1 << 22

_left: WeakKeyDictionary[Any, dict[Any, int]] = WeakKeyDictionary()

MIXES = (
    "{} makes the outputs of a sample depend on the other samples of its micro-batch, so micro-batches cannot give the "
    "whole batch's gradient: let it look at each sample alone, move what joins samples into the loss, or pass "
    "allow_coupling=True for the gradient of the micro-batches as they are"
)
REMEMBERS = (
    "{} keeps something of the samples of a micro-batch that the outputs of the next one depend on, so micro-batches "
    "cannot give the whole batch's gradient: put it in eval mode, or pass allow_coupling=True for the gradient of the "
    "micro-batches as they come"
)
NOT_SHARED = (
    "an output that batch_dim=None calls the same for all micro-batches changes with their samples: give it a row for "
    "each sample, or compute it in the loss"
)


def looked_at(job: Job, outputs: Callable[[Any], Call], forward: Callable[[Any], Any]) -> Look | None:
    """What looks at the first micro-batches, None for a model that has been looked at."""
    owner = job.modules[0] if job.modules else getattr(forward, "__code__", type(forward))
    mode = tuple(sum(part.training for part in module.modules()) for module in job.modules)
    key = getattr(forward, "__code__", type(forward)), mode
    left = _left.setdefault(owner, {})
    return Look(job, outputs, forward, left, key) if left.setdefault(key, TIMES) else None


@dataclass
class Look:
    """Shown micro-batches until it could see whether their samples meet.

    Attributes:
        left: for each way to call the model, how often it may still be looked at.
        single: a micro-batch of one sample, which the next is put together with.
    """

    job: Job
    outputs: Callable[[Any], Call]
    forward: Callable[[Any], Any]
    left: dict[Any, int]
    key: Any
    single: Any = None

    def __call__(self, micro_batch: Any) -> bool:
        """Whether it need not be shown more; raise BatchproofError where an output depends on other samples."""
        start = self.job.replay.moment()
        with torch.enable_grad(), undisturbed(self.job.modules, self.forward):
            judged = self.judged(Trial(self.job, self.outputs, self.forward, start), micro_batch)
        self.job.replay.at(start)
        if judged is not None:
            self.left[self.key] = 0 if judged else self.left[self.key] - 1
        return judged is not None

    def judged(self, trial: Trial, micro_batch: Any) -> bool | None:
        """Whether it could be seen that no samples meet; None where more have to come."""
        first = trial.plain(micro_batch)
        refuse_coupling(variables(first), self.job.modules, self.job.replay)
        samples = find_samples(micro_batch, first.n, trial.batch_dim(first))
        if samples is not None and samples.n == 1:
            before, self.single = self.single, samples.copied()
            if before is None:
                return None
            samples = _both(trial, before, micro_batch)
        if samples is None or samples.n == 1:
            return False
        with awake(self.job.modules):
            seen = _without_memory(trial, samples)
            return seen is not None and _apart(trial, samples, seen)


def _both(trial: Trial, one: Any, other: Any) -> Samples | None:
    """Two micro-batches of one sample as one of two."""
    both = put_together([one, other])
    seen = None if both is None else trial.tried(lambda: put_together([one, other]))
    return None if seen is None else find_samples(both, seen.n, 0)


@dataclass(frozen=True)
class Seen:
    """What forward gave: a row of numbers for each sample from each output, and what all samples share."""

    rows: list[Tensor]
    shared: list[Tensor]
    n: int
    room: float

    @classmethod
    def of(cls, call: Call) -> Seen:
        rows, shared = list[Tensor](), list[Tensor]()
        for leaf, dim in zip(call.leaves, call.layout.dims, strict=True):
            if isinstance(leaf, Tensor) and dim is not None:
                rows.append(leaf.detach().movedim(dim, 0).reshape(call.n, -1))
            elif isinstance(leaf, Tensor) and leaf.requires_grad:
                shared.append(leaf.detach().reshape(1, -1))
        return cls(rows, shared, call.n, room_for(variables(call)))

    def moved(self, after: Seen) -> Tensor | None:
        """Which samples' outputs have become others; None where they cannot be compared."""
        if [one.shape for one in self.rows] != [one.shape for one in after.rows]:
            return None
        marks = torch.zeros(self.n, dtype=torch.bool)
        for a, b in zip(self.rows, after.rows, strict=True):
            marks |= _moved(a, b, self.room)
        return marks

    def same(self, again: Seen) -> bool:
        """Whether nothing has become another thing."""
        marks = self.moved(again)
        return marks is not None and not bool(marks.any())

    def shared_moved(self, after: Seen) -> bool:
        """Whether what all samples share has become another thing."""
        pairs = zip(self.shared, after.shared, strict=False)
        return any(a.shape != b.shape or bool(_moved(a, b, self.room).any()) for a, b in pairs)


def _moved(before: Tensor, after: Tensor, room: float) -> Tensor:
    """For each row, whether it is another one."""
    if not before.numel():
        return torch.zeros(len(before), dtype=torch.bool)
    step = max(1, CHUNK // before[0].numel())
    pairs = list(zip(torch.split(before, step), torch.split(after, step), strict=True))
    if not (before.is_floating_point() or before.is_complex()):
        return torch.cat([(a != b).any(1) for a, b in pairs]).cpu()
    sizes = torch.stack([torch.where(a.isfinite(), a, 0).abs().amax() for a, _ in pairs])
    limit = room * float(sizes.amax())
    same = [(a == b) | ((a != a) & (b != b)) | ((a - b).abs() <= limit) for a, b in pairs]
    return torch.cat([~part.all(1) for part in same]).cpu()


@dataclass(frozen=True)
class Trial:
    """Forward passes of our own, each from where the first one of the call begins."""

    job: Job
    outputs: Callable[[Any], Call]
    forward: Callable[[Any], Any]
    start: Moment

    def plain(self, micro_batch: Any) -> Call:
        """What forward gives, and the traces that it leaves in buffers."""
        self.job.replay.at(self.start)
        return self.outputs(micro_batch)

    def batch_dim(self, call: Call) -> int:
        """The dimension of outputs that counts samples, which is that of inputs mostly."""
        return next((dim for dim in call.layout.dims if dim is not None), 0)

    def seen(self, *micro_batches: Any) -> Seen:
        """The last one's outputs; those before it leave their traces, but draw no random numbers."""
        self.job.replay.at(self.start)
        with undisturbed(self.job.modules, self.forward):
            for micro_batch in micro_batches:
                self.start.generators.put_back()
                call = self.outputs(micro_batch)
            return Seen.of(call)

    def tried(self, *made: Callable[[], Any]) -> Seen | None:
        """The same; None where forward does not take what is no micro-batch of the user's."""
        try:
            return self.seen(*(make() for make in made))
        except Exception as error:
            try:
                self.seen(*(make() for make in made))
            except Exception:  # noqa: BLE001 - it is the data then, which we made
                return None
            raise error from None  # one that does not come again is the user's own


@dataclass(frozen=True)
class Change:
    """Some samples, and how to make a micro-batch in which these are others."""

    rows: Sequence[int]
    make: Callable[[], Any]

    def reaches(self, samples: Samples, before: Seen, after: Seen) -> bool | None:
        """Whether outputs of other samples moved; None where that cannot be seen."""
        marks = before.moved(after)
        if marks is None:
            return None
        if _in_order(samples, before):
            marks[list(self.rows)] = False
            return bool(marks.any())
        return int(marks.sum()) > len(self.rows) * (before.n // samples.n)


def _in_order(samples: Samples, seen: Seen) -> bool:
    """Whether outputs are known to be in the order of the samples: forward hands some of these on, labels mostly."""
    if seen.n != samples.n:
        return False
    telling = [rows for rows in samples.rows() if bool((rows[1:] != rows[:-1]).any())]
    return any(rows.shape == out.shape and torch.equal(rows.to(out), out) for rows in telling for out in seen.rows)


def _changes(samples: Samples) -> Iterator[Change]:
    middle, last = samples.n // 2, samples.n - 1
    front, back = range(middle), range(middle, samples.n)
    ways: list[tuple[Sequence[int], Callable[[], Any]]] = [
        (front, lambda: samples.shaken(front, LARGE)),
        (back, lambda: samples.shaken(back, -LARGE)),
        (front, lambda: samples.shaken(front, SMALL)),
        (front, lambda: samples.crowded(front, by=last)),
        (back, lambda: samples.crowded(back, by=0)),
    ]
    yield from (Change(rows, make) for rows, make in ways if make() is not None)


def _without_memory(trial: Trial, samples: Samples) -> Seen | None:
    """What forward gives, if it gives the same after other samples; None where it does not give the same at all."""
    before, second = trial.seen(samples.copied()), trial.seen(samples.copied(), samples.copied())
    if before.same(second):
        return before
    if not before.same(trial.seen(samples.copied())):
        return None
    for change in _changes(samples):
        after = trial.tried(change.make, samples.copied)
        if after is not None and not second.same(after):
            trial.plain(samples.copied())
            raise BatchproofError(REMEMBERS.format(first_that_remembers(trial.job.modules, trial.job.replay)))
    return before


def _apart(trial: Trial, samples: Samples, before: Seen) -> bool:
    """Whether changes were seen, and none moved what is not its own."""
    judged = False
    for change in _changes(samples):
        after = trial.tried(change.make)
        reaches = None if after is None else change.reaches(samples, before, after)
        if after is None or reaches is None:
            continue
        judged = True
        if reaches or before.shared_moved(after):
            if not _certain(trial, samples, before, change):
                return False
            raise BatchproofError(MIXES.format(_named(trial, samples, before, change)) if reaches else NOT_SHARED)
    return judged


def _certain(trial: Trial, samples: Samples, before: Seen, change: Change) -> bool:
    """Whether it was not chance, nor the dropout of samples that take other places, nor a graph between the samples."""
    if not before.same(trial.seen(samples.copied())):
        return False
    with undropped(trial.job.modules):
        plain, after = trial.tried(samples.copied), trial.tried(change.make)
    if plain is None or after is None:
        return False
    if not (change.reaches(samples, plain, after) or plain.shared_moved(after)):
        return False
    if samples.n == 2:
        return True
    fewer = trial.tried(lambda: samples.first(samples.n - 1))
    return fewer is not None and fewer.n * samples.n == before.n * (samples.n - 1)


def _named(trial: Trial, samples: Samples, before: Seen, change: Change) -> str:
    def run(changed: bool) -> Any:
        return trial.seen(change.make() if changed else samples.copied())

    with undropped(trial.job.modules):
        return first_that_mixes(trial.job.modules, run, samples.n, change.rows, before.room)
