"""The ways that a function can take: what else it does to samples where Python reads another answer than it does now.

``if positives.sum() == 0: return 1`` goes one way on the first samples and may go the other on all of them.  So the
function is told answers until each has been both true and false, and what it then does to samples is recorded.  One run
tells as many answers as it can: ten bins that are skipped while they are empty take two runs, not a thousand.  What the
samples would say hardly matters, so that two processes with other samples find the same ways in the same order.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.operators import base_name
from batchproof.derive.record import OperationRecorder, Way, run_under
from batchproof.derive.recording import Read, Ref, Unrecordable, leaves, widen
from batchproof.derive.samples import TensorBatch
from batchproof.derive.site import CallSite, is_library
from batchproof.ground.place import Statement
from batchproof.ground.text import error_line

#: So many runs are spent on finding ways.
MOST_RUNS = 48
#: After so many answers the samples decide again: a loop until convergence that is told to go on would never end.
MOST_TOLD = 128
#: Two answers may matter only together: so many runs are told at random.
DRAWS = 12
#: What is told may lead where no end is: a run of so many times the operations of the samples' own is given up.
MOST_TIMES, SPARE_OPERATIONS = 20, 2000
#: So many are spent on all runs together: a few seconds. A loop over samples in Python takes that many in one run.
MOST_OPERATIONS = 30_000
#: So many numbers that Python reads are tried: a function that turns samples into Python numbers reads any number.
MOST_NUMBERS = 12
#: What is told in place of a number, on batches of different sizes.
ZERO, WHOLE = (0, 0, 0), (3, 5, 8)


@dataclass(frozen=True)
class NumberRead:
    """A number that Python reads: its place among all that is read, its content, and what the samples say."""

    place: int
    question: int
    seen: Any


class _Explorer(OperationRecorder):  # type: ignore[no-untyped-call]
    """Answers what Python reads, and notes by content what is read and what is done to samples.

    Args:
        batch: to run on.
        tell: the answer to a question, of its content and what the samples say.
        numbers: what is told where a number is read, by its content.
        most: operations, after which it is given up.
    """

    def __init__(self, batch: TensorBatch, tell: Tell, numbers: dict[int, tuple[Any, ...]], most: float) -> None:
        batched = {position for position, dim in enumerate(batch.dims) if dim is not None}
        super().__init__([widen(tensor.detach()) for tensor in batch.tensors], frozenset(), batched)
        self.tell = tell
        self.numbers = numbers
        self.most = most
        self.n = batch.n
        self.content: dict[int, int] = {index: hash(("input", index)) for index in self.run.inputs}
        self.way: list[Any] = []
        self.answers: list[tuple[int, bool]] = []
        self.read: list[NumberRead] = []
        self.done: set[int] = set()  # to samples, by content, as far as the value or an answer hangs on it

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = super().execute(func, args, kwargs)
        if len(self.run.ops) > self.most:
            self.refuse(Unrecordable("no end was seen"))
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

    def steps(self) -> tuple[Any, ...]:
        return tuple(op.func for op in self.run.ops)

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
        question = hash(tuple(self.content_of(Ref(index)) for index in inputs))
        if not isinstance(seen, bool):
            self.read.append(NumberRead(len(self.way), question, seen))
            told = tuple(map(type(seen), self.numbers[question])) if question in self.numbers else None
            self.way.append(told)
            return told[0] if told else seen
        if len(self.way) >= MOST_TOLD:
            self.way.append(None)
            return seen
        self.way.append(self.tell(question, seen))
        self.answers.append((question, self.way[-1]))
        return self.way[-1]


Tell = Callable[[int, bool], bool]
Explore = Callable[..., _Explorer]


_REDUCTIONS = frozenset(
    """sum mean amax amin max min any all prod var std var_mean logsumexp mm bmm dot mv addmm bincount histc
scatter_add scatter_reduce index_add linalg_vector_norm""".split()
)


@dataclass
class _Found:
    """What has been found so far.

    Attributes:
        told: for each question, the answers that were tried.
        raising: the answers after which the function only raises.
        resting: those after which it raised beside others, which wait until another run has told those otherwise.
        failed: those that have waited.
        context: for each question, what was told before it was first asked.
        ways: what was told in each run, and what was then done to samples, by content.
        read: for each, the numbers that were read.
        steps: for each, the operations.
        runs: how many there were, those that raised among them.
        operations: in all of them.
    """

    told: dict[int, set[bool]] = field(default_factory=dict)
    raising: set[tuple[int, bool]] = field(default_factory=set)
    resting: set[tuple[int, bool]] = field(default_factory=set)
    failed: set[tuple[int, bool]] = field(default_factory=set)
    context: dict[int, dict[int, bool]] = field(default_factory=dict)
    ways: dict[Way, frozenset[int]] = field(default_factory=dict)
    read: dict[Way, list[NumberRead]] = field(default_factory=dict)
    steps: dict[Way, tuple[Any, ...]] = field(default_factory=dict)
    runs: int = 0
    operations: int = 0

    def missing(self, question: int) -> bool | None:
        """The answer to be tried next, true before false; None where there is none."""
        told = self.told.get(question, ())
        return next((answer for answer in self.leading(question) if answer not in told), None)

    def usual(self, question: int) -> bool:
        return next(iter(self.leading(question)), True)

    def leading(self, question: int) -> list[bool]:
        """The answers that may lead on."""
        return [answer for answer in (True, False) if (question, answer) not in self.raising | self.resting]

    def untold(self) -> list[int]:
        """Questions of which one answer was not tried."""
        return [
            question
            for question, told in self.told.items()
            if any(answer not in told and (question, answer) not in self.raising for answer in (True, False))
        ]

    def note(self, tape: _Explorer) -> bool:
        """Keep what a run showed; whether an answer was new."""
        self.asked(tape.answers)
        fresh = [(question, told) for question, told in tape.answers if told not in self.told[question]]
        for question, told in fresh:
            self.told[question].add(told)
        way = tuple(tape.way)
        self.ways.setdefault(way, frozenset(tape.done))
        self.read.setdefault(way, tape.read)
        self.steps.setdefault(way, tape.steps())
        self.resting.clear()
        return bool(fresh)

    def asked(self, answers: Sequence[tuple[int, bool]]) -> None:
        """Remember questions, and how they are come by."""
        before: dict[int, bool] = {}
        for question, told in answers:
            self.told.setdefault(question, set())
            self.context.setdefault(question, dict(before))
            before[question] = told

    def needed(self) -> list[Way]:
        """Ways, as short as can be, that together do all that is done to samples."""
        chosen: list[Way] = []
        for way in sorted(self.ways, key=len):
            if not chosen or self.ways[way] - self.done(chosen):
                chosen.append(way)
        for way in chosen[:-1]:
            others = [other for other in chosen if other != way]
            if self.ways[way] <= self.done(others):
                chosen = others
        return chosen

    def done(self, ways: Sequence[Way]) -> frozenset[int]:
        return frozenset[int]().union(*(self.ways[way] for way in ways))


def find_ways(fn: Callable[..., Any], batch: TensorBatch, shown: torch.dtype | None) -> list[Way]:
    """The ways of a function that do something to samples; one on which nothing is told where there are no others.

    Args:
        fn: the function, of the tensors alone.
        batch: to run it on.
        shown: the floating dtype that the function believes in.

    Raises:
        Unrecordable: there is a way that cannot be tried on this batch, or no end of them.
    """

    def explore(tell: Tell, numbers: dict[int, tuple[Any, ...]] | None = None) -> _Explorer:
        tape = _Explorer(batch, tell, numbers or {}, most)
        try:
            tape.finish(run_under(tape, fn, tape.run.tensors[: len(batch.tensors)], shown))
        finally:
            found.operations += len(tape.run.ops)
        return tape

    most, found = float("inf"), _Found()
    natural = explore(_as_seen)
    most = min(MOST_TIMES * len(natural.run.ops) + SPARE_OPERATIONS, MOST_OPERATIONS)
    endless = Unrecordable(Statement("it decides by its samples again and again", f", at {_last(natural.run.reads)}"))
    if len(natural.answers) >= MOST_TOLD:
        raise endless
    _search(explore, found)
    for draw in range(DRAWS if len(found.told) > 1 and found.operations < MOST_OPERATIONS else 0):
        _told_at_random(explore, found, Random(draw))
    found.note(natural)
    _try_numbers(explore, found)
    chosen = found.needed()
    if any(len(way) > MOST_TOLD for way in chosen) or found.operations > MOST_OPERATIONS:
        raise endless
    chosen = [_told_apart(explore, found, way) for way in chosen]
    return chosen if any(answer is not None for way in chosen for answer in way) else [()]


def _last(reads: Sequence[Read]) -> CallSite:
    return reads[-1].site if reads else CallSite()


def _search(explore: Explore, found: _Found) -> None:
    """Run until each question has had both answers."""
    while (found.runs == 0 or found.untold()) and found.runs < MOST_RUNS and found.operations < MOST_OPERATIONS:
        if not _all_told(explore, found):  # together they lead nowhere new: one at a time
            found.resting.clear()
            for question in found.untold():
                answer = found.missing(question)
                if answer is not None:
                    _one_told(explore, found, question, answer, found.context[question])


def _told_at_random(explore: Explore, found: _Found, random: Random) -> None:
    """Run with any answers, to the same question the same."""
    answers: dict[int, bool] = {}

    def tell(question: int, seen: bool) -> bool:
        drawn = random.choice(found.leading(question) or [seen])
        return answers.setdefault(question, drawn)

    with suppress(Exception):  # these answers do not go together
        found.note(explore(tell))


def _as_seen(question: int, seen: bool) -> bool:
    return seen


def _all_told(explore: Explore, found: _Found) -> bool:
    """Run with an answer that was not told yet to each question; whether that led on."""
    answers: list[tuple[int, bool]] = []
    new: list[tuple[int, bool]] = []

    def tell(question: int, seen: bool) -> bool:
        missing = found.missing(question)
        answers.append((question, found.usual(question) if missing is None else missing))
        new.extend(answers[-1:] if missing is not None else ())
        return answers[-1][1]

    found.runs += 1
    try:
        return found.note(explore(tell))
    except Exception:  # noqa: BLE001 - a function may raise anything on what cannot be
        found.asked(answers)
    if not new:
        return False
    if new[-1] in found.failed:
        _one_told(explore, found, *new[-1], {})
    found.resting.add(new[-1])
    found.failed.add(new[-1])
    return True


def _one_told(explore: Explore, found: _Found, question: int, answer: bool, context: dict[int, bool]) -> None:
    """Run with an answer to one question, after answers by which it is come to; all others as the samples say."""
    asked = False

    def tell(other: int, seen: bool) -> bool:
        nonlocal asked
        asked |= other == question
        return answer if other == question else context.get(other, seen)

    found.runs += 1
    try:
        found.note(explore(tell))
    except Exception as error:  # noqa: BLE001 - a function may raise anything on what cannot be
        if asked and not raised_by_itself(error):
            raise Unrecordable(
                f"on other samples it goes another way, which cannot be tried on the first ones ({error_line(error)})"
            ) from None
    if answer not in found.told[question]:
        found.raising.add((question, answer))


def raised_by_itself(error: Exception) -> bool:
    """Whether a line raises that is there to raise, or one of the function's own, and no operation of torch's."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, Unrecordable) or not frames:
        return False
    return not is_library(frames[-1].filename) or (frames[-1].line or "").startswith(("raise", "assert"))


def _try_numbers(explore: Explore, found: _Found) -> None:
    """Find ways that a number decides: ``if int(positives.sum()) == 0``."""
    read = dict.fromkeys((way, number.question) for way in found.needed() for number in found.read[way])
    if len(read) > MOST_NUMBERS:
        return
    for way, question in read:
        tried = []
        for told in (ZERO, WHOLE):
            try:
                tried.append((told, explore(_again(way, found), {question: told})))
            except Exception:  # noqa: BLE001 - a size that cannot be, most often
                continue
        if len({one.steps() for _, one in tried}) > 1:
            for told, one in tried:
                found.note(one)
                found.runs = 1
                _search(partial(explore, numbers={question: told}), found)


def _told_apart(explore: Explore, found: _Found, way: Way) -> Way:
    """A way on which numbers that enter what is done to samples are others on each batch.

    The largest label, say, is the same on batches of the same samples: it would pass for a constant.
    """
    apart = {
        number.question: _near(number.seen)
        for number in found.read[way]
        if way[number.place] is None and isinstance(number.seen, (int, float)) and math.isfinite(number.seen)
    }
    if not 0 < len(apart) <= MOST_NUMBERS:
        return way

    def matters(questions: Collection[int]) -> bool:
        """Whether other numbers change what is done to samples, and nothing else."""
        try:
            tried = [explore(_again(way, found), {q: apart[q][place:] for q in questions}) for place in (1, 2)]
        except Exception:  # noqa: BLE001 - what it is told cannot be: then it stays what the samples say
            return False
        alike = all(tape.steps() == found.steps[way] for tape in tried)
        return alike and any(tape.done != found.ways[way] for tape in tried)

    told = [question for question in apart if matters([question])] if len(apart) == 1 or matters(apart) else []
    places = {number.place: apart[number.question] for number in found.read[way] if number.question in told}
    return tuple(places.get(place, answer) for place, answer in enumerate(way))


def _near(seen: Any) -> tuple[Any, ...]:
    """A number, and two others near it; whole numbers, where it may be a count or a label."""
    step = 1 if seen == int(seen) else 0.1 * abs(seen)
    return seen, seen + step, seen + 3 * step


def _again(way: Way, found: _Found) -> Tell:
    """The answers of a run once more."""
    answers = iter([answer for answer in way if isinstance(answer, bool)])
    return lambda question, seen: next(answers, found.usual(question))
