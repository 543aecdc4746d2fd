"""Whose samples a state holds, so that samples which reach a process on two ways are counted once.

A state is this process's own samples, and those that came from others by `sync`. Samples are known by the log that they
were written to: a log is one stream's updates from a beginning (a new metric, a reset, a state that was loaded) on,
and a position in it says how many of them. A position is only ever reached with the same samples, so two states that
name a log share its samples as far as the shorter of the two goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from batchproof.errors import BatchproofError
from batchproof.ground.batch import Batch
from batchproof.metric.grouped_state import GroupedState
from batchproof.metric.reservoir import NOTHING, Sample

Rows = list[tuple[int, Batch]]  # (group, batch)
Part = GroupedState | Rows
Clock = dict[str, int]  # for each log, how much of it is held


@dataclass(frozen=True)
class Past:
    """What a stream held when it was last synced, merged or loaded; nothing of it is ever written to.

    Attributes:
        held: all samples.
        own: those of them that are this process's; the same object where all are, None where that is not known.
        clock: of ``held``.
        owned: of ``own``.
        sample: a few of ``held``.
    """

    held: Part
    own: Part | None
    clock: Clock
    owned: Clock
    sample: Sample = NOTHING


@dataclass(frozen=True)
class Origin:
    """What a rank says of the samples that it holds.

    Attributes:
        clock: of what it held when it was last synced, merged or loaded.
        owned: of its own samples.
        forgotten: logs that it has reset: a state that another rank still has of them does not count.
        log: that its updates since then went to.
        start: where in the log they begin.
        stop: where they end.
    """

    clock: Clock = field(default_factory=dict)
    owned: Clock = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()
    log: str = ""
    start: int = 0
    stop: int = 0

    @property
    def held(self) -> Clock:
        """Of all that it holds now."""
        return self.clock | ({self.log: self.stop} if self.stop > self.start else {})


Share = Literal["own", "held", "since", "none"]


def shares(ranks: Sequence[Origin]) -> list[Share]:
    """What each rank has to give, so that all samples are there and each of them once.

    The own samples of every rank, where each has samples of its own, and these are all that there are. Otherwise what
    one rank holds in all and what came to the others since: after a checkpoint of one rank was loaded by all, say, or
    when fewer ranks go on than were before.

    Raises:
        BatchproofError: it cannot be told apart which samples are the same.
    """
    if _apart(ranks) and _covered(ranks):
        return ["own"] * len(ranks)
    for first, rank in enumerate(ranks):
        rest = [_since(other, rank.held) for other in ranks]
        if all(share is not None for number, share in enumerate(rest) if number != first):
            return ["held" if number == first else share or "none" for number, share in enumerate(rest)]
    raise BatchproofError(
        "the ranks hold states that share some of their samples (copies of one metric that were synced with others, or "
        "one checkpoint loaded by several ranks, at different times): they cannot be told apart; load the same "
        "checkpoint on all ranks or each rank's own, or call reset first"
    )


def _apart(ranks: Sequence[Origin]) -> bool:
    """Whether no two ranks own samples of one log."""
    logs = [log for rank in ranks for log, position in rank.owned.items() if position]
    return len(logs) == len(set(logs))


def _covered(ranks: Sequence[Origin]) -> bool:
    """Whether all that some rank holds is some rank's own, or was forgotten by the rank whose own it was."""
    known = {log for rank in ranks for log in (*rank.owned, *rank.forgotten)}
    return all(log in known for rank in ranks for log in rank.clock)


def _since(rank: Origin, held: Clock) -> Share | None:
    """What a rank has beside what is held elsewhere; None where that is no part of its own."""
    if any(held.get(log, 0) < position for log, position in rank.clock.items()):
        return None
    there = held.get(rank.log, 0)
    if rank.stop == rank.start or there >= rank.stop:
        return "none"
    return "since" if there == rank.start else None


def renamed(past: Past, taken: Clock) -> Past:
    """A past to be merged with another one; samples that both hold count twice, as they would in a list."""
    names = {log: log for log in {*past.clock, *past.owned}}
    while any(name in taken for name in names.values()):
        names = {log: name + "+" if name in taken else name for log, name in names.items()}
    clock = {names[log]: position for log, position in past.clock.items()}
    owned = {names[log]: position for log, position in past.owned.items()}
    return Past(past.held, past.own, clock, owned, past.sample)


def both(a: Part | None, b: Part | None) -> Any:
    """Two parts of one kind, together; later updates of either do not change it."""
    if a is None or b is None:
        one = b if a is None else a
        return one.clone() if isinstance(one, GroupedState) else one
    if isinstance(a, GroupedState) and isinstance(b, GroupedState):
        total = a.clone()
        total.absorb(b)
        return total
    assert isinstance(a, list)
    assert isinstance(b, list)
    return [*a, *b]


def size(part: Part | None) -> int:
    """The number of samples in a part."""
    if part is None:
        return 0
    return part.n if isinstance(part, GroupedState) else sum(call.n for _, call in part)
