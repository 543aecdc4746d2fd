"""What several metrics of the same batches fold at once: the batches since the metrics were last read.

Each metric holds its own state, as if it were alone. Between two readings the batches are folded for all of them
together, and what came of it is given to each when one is asked for anything: see `SharedFold.give`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from batchproof.derive import Folding, FoldTogether, StatePlan, can_join, fold_together
from batchproof.ground.batch import signature, tensors_of
from batchproof.ground.text import counted, size_of
from batchproof.metric.answers import Answers
from batchproof.metric.fast_path import Folded, Variant, answering, fast_fold
from batchproof.metric.grouped_state import GROUPS, MOST_GROUPED_BYTES, GroupedState, Packing
from batchproof.metric.stream import Stream

T = TypeVar("T")


class SharedFold:
    """The batches that came since `give`, folded for several streams at once."""

    def __init__(self, streams: Sequence[Stream], together: FoldTogether) -> None:
        variant = _variant_of(streams[0])
        self.streams = list(streams)
        self.together = together
        self._lead = self.streams[0]
        self._plans = [_variant_of(stream).plan for stream in streams]
        self._device = variant.example.columns[0].device
        self._fold = fast_fold(together, variant.example, Packing(together), together.captured)
        self._answering = answering(together, variant.example, Packing(together), together.captured)
        self._start()
        self._link()

    def _start(self) -> None:
        self._held = GroupedState(self.together, GROUPS, self._device, [None] * GROUPS)
        self._updates = 0

    def ready(self, args: Sequence[Any]) -> Folded | None:
        """Fold a batch without changing the state; None where it needs a closer look, function by function."""
        try:
            return self._fold(args)  # type: ignore[no-any-return]
        except Exception:  # noqa: BLE001 - each function then says itself what is wrong with the batch
            return None

    def ready_to_call(self, args: Sequence[Any]) -> tuple[Folded, Answers | None] | None:
        """Fold a batch that the functions will be called on, as `ready` does, and say what is computed already."""
        try:
            found = self._answering(args) if self._answering is not None else None
        except Exception:  # noqa: BLE001 - as in `ready`
            return None
        ready = self.ready(args) if found is None else None
        return found if ready is None else (ready, None)

    def commit(self, folded: Folded, args: Sequence[Any], drawn: bool = False) -> None:
        """Merge a folded batch into the state.

        Args:
            folded: by `ready`.
            args: the batch, its samples not written to since.
            drawn: whether samples were drawn from it already, by `called`.
        """
        self._held.add((self._lead.updates + self._updates) % GROUPS, *folded)
        self._updates += 1
        if not drawn:
            self._lead.draw(args, folded[2])

    def called(self, args: Sequence[Any], n: int, call: Callable[[], T]) -> T:
        """What a call of the functions gives, as `Stream.called`."""
        return self._lead.called(args, n, call)

    def __str__(self) -> str:
        """What is folded together, in words."""
        values = sum(len(part.leaves) for part in self.together.parts)
        kept = len(self.together.leaves)
        return (
            f"{len(self.streams)} functions folded together: {counted(values, 'value')} kept as {kept}, "
            f"{size_of(self.together.nbytes)}"
        )

    def give(self) -> None:
        """Merge what is held here into each stream's own state, group by group, and go on from nothing."""
        if not self._updates:
            return
        held, updates = self._held, self._updates
        given = [GroupedState(_plan_of(stream), GROUPS, self._device, [None] * GROUPS) for stream in self.streams]
        for group in held.filled():
            leaves, lengths, n = held.merged([group])
            for own, (values, selected) in zip(given, self.together.spread(leaves, lengths), strict=True):
                own.add(group, own.packing.pack(values), selected, n)
        self._start()
        for stream, own in zip(self.streams, given, strict=True):
            assert stream.slots is not None
            stream.slots.absorb(own)
            stream.updates += updates

    def release(self) -> None:
        """Let the streams go on apart."""
        self.give()
        for stream in self.streams:
            stream.reservoir = stream.reservoir.copied()

    def rejoin(self) -> bool:
        """Go on together, where the streams have seen the same batches since `release`; whether they have."""
        same = len(group_alike({str(i): stream for i, stream in enumerate(self.streams)})) == len(self.streams)
        plans = [_variant_of(stream).plan for stream in self.streams] if same else []
        same = same and all(a is b for a, b in zip(plans, self._plans, strict=True))
        if same:
            self._link()
        return same

    def _link(self) -> None:
        """Draw samples for the end once: the streams have drawn the same ones, and would go on so."""
        for stream in self.streams:
            stream.reservoir = self._lead.reservoir


def _plan_of(stream: Stream) -> Folding:
    assert stream.slots is not None
    return stream.slots.plan


def group_alike(streams: Mapping[str, Stream]) -> list[str]:
    """The names of those streams that may fold their batches together, and have seen the same ones: most of them."""
    groups: dict[Any, list[str]] = {}
    for name, stream in streams.items():
        if _may_share(stream):
            groups.setdefault(_seen(stream), []).append(name)
    return max(groups.values(), key=len, default=[])


def _may_share(stream: Stream) -> bool:
    """Whether a stream's batches may be folded with those of others: it has a state that adds up, in groups."""
    plan = stream.plan
    return (
        stream.slots is not None
        and isinstance(plan, StatePlan)
        and can_join(plan)
        and plan.nbytes <= MOST_GROUPED_BYTES
        and len(stream.variants) == 1
    )


def _seen(stream: Stream) -> Any:
    """What streams have in common that have seen the same batches, as far as their states go."""
    drawn = stream.reservoir.seen, stream.reservoir.changes
    return signature(_variant_of(stream).example), *drawn, stream.updates % GROUPS


def share(streams: Sequence[Stream]) -> SharedFold | None:
    """One fold for several streams, as `group_alike` finds them; None where there is none for all."""
    if len(streams) < 2:
        return None
    rows = streams[0].training_rows
    assert rows is not None
    plans = [_variant_of(stream).plan for stream in streams]
    together = fold_together(plans, tensors_of(rows)[0])
    shared = None if together is None else SharedFold(streams, together)
    return shared if shared is not None and shared.ready(rows.leaves) is not None else None


def _variant_of(stream: Stream) -> Variant:
    return next(iter(stream.variants.values()))
