"""The ways that a function can take: what else it does to samples where Python reads another answer than it does now.

``if positives.sum() == 0: return 1`` goes one way on the first samples and may go the other on all of them.  So the
function is run again with its answers turned round, and what it does then to samples is recorded beside the rest.  One
run turns as many answers as it can: ten bins that are skipped while they are empty take two runs, not a thousand.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.operators import base_name
from batchproof.derive.program import Ref, Unrecordable, leaves, widen
from batchproof.derive.record import Recorder, Way, run_under
from batchproof.derive.samples import Batch
from batchproof.derive.site import is_library

#: So many runs are spent on finding ways.
MOST_RUNS = 48
#: Where the last so many still found new ones, there is no end in sight: a loop until convergence.
LAST_RUNS = 12
#: A function that reads more numbers than this turns samples into Python numbers; which of them decide is not tried.
MOST_NUMBERS = 12
#: What is answered in place of a zero, on batches of different sizes; other numbers are replaced by zero.
WHOLE, REAL = (3, 5, 8), (0.37, 0.61, 0.83)


class _Explorer(Recorder):  # type: ignore[no-untyped-call]
    """Answers a read by what is to be turned, and notes by content what is read and what is done to samples."""

    def __init__(self, batch: Batch, turned: Callable[[int, Any], Any], number: int = -1) -> None:
        batched = {position for position, dim in enumerate(batch.dims) if dim is not None}
        super().__init__([widen(tensor.detach()) for tensor in batch.tensors], frozenset(), batched)
        self.turned = turned
        self.number = number  # the read whose number is replaced
        self.n = batch.n
        self.content: dict[int, int] = {index: hash(("input", index)) for index in self.run.inputs}
        self.way: list[Any] = []
        self.answers: list[tuple[int, bool]] = []
        self.done: set[int] = set()  # to samples, by content, as far as the value or an answer hangs on it

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = super().execute(func, args, kwargs)
        op = self.run.ops[-1]
        parts = (self.content_of(leaf) for leaf in leaves((op.args, list(op.kwargs.items()))))
        content = hash((op.func, *parts))
        for place, output in enumerate(op.outputs):
            self.content[output] = hash((content, place))
        return result

    def finish(self, result: Any) -> None:
        """Look back from the value, and from what was read on the way, to what was done to samples."""
        merged = self.merged()
        live = {self.index[id(leaf)] for leaf in pytree.tree_leaves(result) if id(leaf) in self.index}
        live |= {read.value for read in self.run.reads}
        for op in reversed(self.run.ops):
            if live.isdisjoint(op.outputs):
                continue
            live.update(op.inputs)
            if not (self.reached - merged).isdisjoint(op.inputs):
                self.done.update(self.content[output] for output in op.outputs)

    def merged(self) -> set[int]:
        """Values that are no samples any more: single numbers, sums over samples, and what is made of such."""
        found: set[int] = set()
        for op in self.run.ops:
            reached = [index for index in op.inputs if index in self.reached]
            for output in op.outputs:
                shape = self.run.tensors[output].shape
                over = base_name(op) in _REDUCTIONS and self.n not in shape
                if reached and (not shape or over or found.issuperset(reached)):
                    found.add(output)
        return found

    def content_of(self, leaf: Any) -> Any:
        if not isinstance(leaf, Ref):
            return repr(leaf)
        if leaf.index not in self.content:  # taken from outside
            tensor = self.run.captured[leaf.index]
            small = tensor.numel() <= 64 and tensor.device.type != "meta"
            self.content[leaf.index] = hash((tensor.dtype, repr(tensor.tolist())) if small else id(tensor))
        return self.content[leaf.index]

    def answer(self, inputs: Sequence[int], seen: Any) -> Any:
        place = len(self.way)
        if isinstance(seen, bool):
            key = hash(tuple(self.content_of(Ref(index)) for index in inputs))
            seen = self.turned(key, seen)
            self.answers.append((key, seen))
            self.way.append(seen)
        elif place == self.number:
            self.way.append(_other_numbers(seen))
            seen = self.way[-1][0]
        else:
            self.way.append(None)
        return seen


_REDUCTIONS = frozenset(
    """sum mean amax amin max min any all prod var std var_mean logsumexp mm bmm dot mv addmm bincount histc
scatter_add scatter_reduce index_add linalg_vector_norm""".split()
)


@dataclass
class _Found:
    """What has been found so far.

    Attributes:
        seen: for each answer, by content, the values that it has had.
        failed: those whose other value only raises.
        done: what is done to samples, by content.
        ways: those that do something to samples.
        late: after how many runs each was found.
    """

    seen: dict[int, set[bool]] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    ways: list[Way] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    runs: int = 0

    def open(self) -> list[int]:
        """Answers that have had one value."""
        return [key for key, seen in self.seen.items() if len(seen) == 1 and key not in self.failed]

    def note(self, tape: _Explorer) -> bool:
        """Keep a way that does something new to samples; whether an answer was new."""
        fresh = [(key, answer) for key, answer in tape.answers if answer not in self.seen.get(key, ())]
        for key, answer in fresh:
            self.seen.setdefault(key, set()).add(answer)
        if not self.ways or tape.done - self.done:
            self.ways.append(tuple(tape.way))
            self.late.append(self.runs)
        self.done |= tape.done
        return bool(fresh)


def find_ways(fn: Callable[..., Any], batch: Batch, shown: torch.dtype | None) -> list[Way]:
    """The ways of a function that do something to samples, the batch's own first.

    Args:
        fn: the function, of the tensors alone.
        batch: to run it on.
        shown: the floating dtype that the function believes in.

    Raises:
        Unrecordable: there is a way that cannot be tried on this batch, or no end of them.
    """

    def explored(turned: Callable[[int, Any], Any], number: int = -1) -> _Explorer:
        tape = _Explorer(batch, turned, number)
        tape.finish(run_under(tape, fn, tape.run.tensors[: len(batch.tensors)], shown))
        return tape

    first, found = explored(lambda key, seen: seen), _Found()
    found.note(first)
    while (wanted := found.open()) and found.runs < MOST_RUNS:
        if not _turned(explored, found, set(wanted)):  # together they lead nowhere new: one at a time
            for key in wanted:
                if not _turned(explored, found, {key}):
                    found.failed.add(key)
    if found.open() and any(run > MOST_RUNS - LAST_RUNS for run in found.late):
        raise Unrecordable(f"it decides by its samples again and again, at {first.run.reads[-1].site}")
    return found.ways + _ways_by_numbers(explored, first, found.done)


def _turned(explored: Callable[..., _Explorer], found: _Found, wanted: set[int]) -> bool:
    """Run with answers turned round where their other value was not met; whether that showed anything new."""
    last: list[int] = []

    def turn(key: int, seen: bool) -> bool:
        if key not in wanted or (not seen) in found.seen[key]:
            return seen
        last.append(key)
        return not seen

    found.runs += 1
    try:
        tape = explored(turn)
    except Exception as error:  # noqa: BLE001 - a function may raise anything on what cannot be
        if last and len(wanted) > 1:
            if not _turned(explored, found, {last[-1]}):
                found.failed.add(last[-1])
            return True
        if not raised_by_itself(error):
            raise Unrecordable(
                "on other samples it goes another way, which cannot be tried on the first ones "
                f"({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
            ) from None
        return False
    return found.note(tape)


def raised_by_itself(error: Exception) -> bool:
    """Whether a function's own line raises, and no operation of torch's."""
    frames = traceback.extract_tb(error.__traceback__)
    return not isinstance(error, Unrecordable) and bool(frames) and not is_library(frames[-1].filename)


def _ways_by_numbers(explored: Callable[..., _Explorer], first: _Explorer, done: set[int]) -> list[Way]:
    """Ways that a number decides: ``if int(positives.sum()) == 0``."""
    places = [place for place, answer in enumerate(first.way) if answer is None]
    if len(places) > MOST_NUMBERS:
        return []
    ways = []
    own = [op.func for op in first.run.ops]
    for place in places:
        try:
            tape = explored(lambda key, seen: seen, place)
        except Exception:  # noqa: BLE001 - a size that cannot be, most often
            continue
        if [op.func for op in tape.run.ops] != own and tape.done - done:
            ways.append(tuple(tape.way))
            done.update(tape.done)
    return ways


def _other_numbers(seen: Any) -> tuple[Any, ...]:
    if seen != 0:
        return (type(seen)(0),) * len(WHOLE)
    return WHOLE if isinstance(seen, int) else REAL
