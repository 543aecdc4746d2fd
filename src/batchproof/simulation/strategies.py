"""Ways to the values of a span's batches: through their states, all at once, or by calling the function on each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from batchproof.derive import OneByOne, State
from batchproof.errors import BatchproofError
from batchproof.explanation import Samples
from batchproof.ground.threads import Stopped, in_threads
from batchproof.simulation.chunks import Chunk, Round
from batchproof.simulation.direct import DrawStates
from batchproof.simulation.target_function import States, Trial

#: So many states are finished at once; fewer where they are large.
AT_ONCE, STATE_BYTES, SAMPLES_AT_ONCE = 1 << 14, 32 << 20, 1 << 26
#: The states of a span may have so many bytes: several spans are drawn ahead.
SPAN_BYTES = 4 << 20
#: A function that keeps samples takes its pooled values on about so many, in each group.
POOLED_SAMPLES = 4096
#: A batch that the function is called on may have so many bytes.
MOST_BYTES = 1 << 28


class StrategyFailed(Exception):
    """This way does not lead to the values; another has to be tried."""


@dataclass(frozen=True)
class BatchValues:
    """Some batches of a group: their values, (batches, components), and their samples, as a state or as they are."""

    group: int
    values: Tensor
    n: int  # samples in all of them
    state: State | None = None
    samples: Samples | None = None


#: The function's values on some batches of a span, by calling it on them.
Rescue = Callable[[Chunk, Sequence[int]], Tensor]


def by_direct_states(trial: Trial, draw: DrawStates, of: Round) -> Iterator[BatchValues]:
    """States drawn from their own distribution.

    Raises:
        StrategyFailed: states do not suffice for some value, and batches of this size can be drawn.
    """

    def give_up(span: Chunk, numbers: Sequence[int]) -> Tensor:
        raise StrategyFailed

    drawn = ((span, draw(span.batches, of.size, span.generator())) for span in of.spans(AT_ONCE))
    return _finished(trial, drawn, of.size, give_up if of.size <= trial.population.chunk else None, room=AT_ONCE)


def by_drawn_states(trial: Trial, of: Round, check: Callable[[], None]) -> Iterator[BatchValues]:
    """Every sample drawn, and the batches of a span folded at once; in threads, as drawing is most of the work.

    Raises:
        StrategyFailed: batches cannot be folded, or finished, at once.
    """
    size, chunk = of.size, trial.population.chunk

    def work(span: Chunk, stop: threading.Event) -> States:
        if size > chunk:
            return _fold_long(trial, span, stop)
        try:
            return trial.fold(trial.population.draw(span.samples, span.generator()), span.batches, size)
        except OneByOne as error:
            raise StrategyFailed from error

    def call(span: Chunk, numbers: Sequence[int]) -> Tensor:
        leaves = trial.population.draw(span.samples, span.generator())
        return torch.stack([trial.value(trial.population.batch(leaves, number, size)) for number in numbers])

    assert trial.plan is not None
    drawn = in_threads(work, of.spans(min(chunk // size, SPAN_BYTES // max(1, trial.plan.nbytes))), of.threads, check)
    return _finished(trial, drawn, size, call if size <= chunk else None)


def by_calls(trial: Trial, of: Round, check: Callable[[], None]) -> Iterator[BatchValues]:
    """Every sample drawn, and the function called on each batch; the check is made between calls.

    Raises:
        BatchproofError: a batch would not fit in memory.
    """
    size, population = of.size, trial.population
    if size * population.sample_bytes > MOST_BYTES:
        raise BatchproofError(
            f"a batch of {size:,} samples is too large to call {trial.title} on, which keeps its samples "
            f"({trial.reason}): leave that batch size out"
        )
    at_once = population.chunk if trial.plan is not None else min(population.chunk, POOLED_SAMPLES)
    for span in of.spans(at_once // size):
        leaves = population.draw(span.samples, span.generator())
        values = []
        for number in range(span.batches):
            check()
            values.append(trial.value(population.batch(leaves, number, size)))
        state = None if trial.plan is None else trial.whole(leaves, span.samples)
        samples = population.all(leaves, span.samples) if trial.plan is None else None
        yield BatchValues(span.group, torch.stack(values), span.samples, state, samples)


def _fold_long(trial: Trial, span: Chunk, stop: threading.Event) -> States:
    """The state of one batch that is too long to be drawn at once."""
    generator, left = span.generator(), span.size
    parts: list[State] = []
    while left:
        if stop.is_set():
            raise Stopped
        n = min(left, trial.population.chunk)
        parts = [trial.join([*parts, trial.whole(trial.population.draw(n, generator), n)])]
        left -= n
    if parts[0].lengths:
        raise StrategyFailed
    return [leaf.unsqueeze(0) for leaf in parts[0].leaves]


def _finished(
    trial: Trial, drawn: Iterator[tuple[Chunk, States]], size: int, rescue: Rescue | None, room: int = 0
) -> Iterator[BatchValues]:
    """The values of states, taken for many at once.

    Those of the first span are taken alone, unless there is room for more: a way that fails should fail soon.
    """
    block: States = []
    spans: list[Chunk] = []
    filled = 0
    for span, states in drawn:
        if filled + span.batches > room and spans:
            yield from _values(trial, [leaf[:filled] for leaf in block], spans, size, rescue)
            block, spans, filled, room = [], [], 0, _at_once(states, size)
        if not spans:
            # in one block: small tensors that live on among the large ones that come and go would scatter the memory
            room = max(room, span.batches)
            block = [leaf.new_empty((room, *leaf.shape[1:])) for leaf in states]
        for kept, leaf in zip(block, states, strict=True):
            kept[filled : filled + span.batches] = leaf
        spans.append(span)
        filled += span.batches
    if spans:
        yield from _values(trial, [leaf[:filled] for leaf in block], spans, size, rescue)


def _at_once(states: States, size: int) -> int:
    """How many states to finish at once: bounded in number, in bytes, and in samples that went into them."""
    weight = sum(leaf[0].nbytes for leaf in states)
    return max(1, min(AT_ONCE, STATE_BYTES // max(1, weight), SAMPLES_AT_ONCE // size))


def _values(
    trial: Trial, states: States, spans: list[Chunk], size: int, rescue: Rescue | None
) -> Iterator[BatchValues]:
    try:
        values, sound = trial.finish_many(states, size)
    except Exception as error:
        if rescue is not None:
            raise StrategyFailed from error
        values, sound = trial.finish_each(states, size)
    values[~sound] = torch.nan
    start = 0
    for group, own in groupby(spans, key=lambda span: span.group):
        first = start
        for span in own:
            lost = (~sound[start : start + span.batches]).nonzero().flatten()
            if rescue is not None and len(lost):
                values[start + lost] = rescue(span, lost.tolist())
            start += span.batches
        mine = slice(first, start)
        yield BatchValues(
            group, values[mine], (start - first) * size, trial.merged([leaf[mine] for leaf in states], size)
        )
