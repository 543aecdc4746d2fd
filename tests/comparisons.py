"""Comparisons made by hand: worlds whose numbers are known in closed form, in place of runs."""

from __future__ import annotations

import atexit
import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from batchproof.ground.place import Place
from batchproof.scripts.compare import plan
from batchproof.scripts.compare.comparison import Comparison
from batchproof.scripts.compare.conclude import conclude
from batchproof.scripts.compare.plan import Question
from batchproof.scripts.compare.record import RunOutcome, Setting
from batchproof.scripts.compare.scheduler import CompletedRuns, ScriptCommand
from batchproof.scripts.compare.workers import Workers
from batchproof.scripts.run import Epoch, MeasuredAccumulator, Observation, ScriptRun

ADDS = Place("train.py", 12, "running += loss.item()")
SAMPLES = 320


@dataclass(frozen=True)
class World:
    """A script whose loss falls from 1 + floor to the floor: each update takes a share of what is left.

    Attributes:
        phase: of the number that it reports.
        averaging: what averaging adds, by batch size.
        short: what a short last batch adds, by batch size.
        rate: the learning rate that the script sets, by batch size.
        noise: what the gradients' noise adds, by batch size and seed.
        training: whether the number is measured while the weights change.
        scored: how many samples evaluation scores, by batch size.
        tail: what the samples that are left out would add.
        statistics: what the batch's statistics in the model add, by batch size.
        is_sum: whether the loss is a sum.
        seen: what a run shows.
        fails: the error, by batch size.
    """

    phase: Any = "training"
    averaging: Callable[[int], float] = lambda size: 0.0
    short: Callable[[int], float] = lambda size: 0.0
    rate: Callable[[int], float] = lambda size: 0.01
    noise: Callable[[int, int], float] = lambda size, seed: 0.0
    training: bool = True
    scored: Callable[[int], int] = lambda size: SAMPLES
    tail: float = 0.0
    statistics: Callable[[int], float] = lambda size: 0.0
    is_sum: bool = False
    seen: tuple[Observation, ...] = ()
    fails: Callable[[int], str] = lambda size: ""

    def loss(self, updates: int, rate: float) -> float:
        return 0.5 + math.exp(-updates * rate)

    def run(self, setting: Setting) -> RunOutcome:
        size = setting.batch_size
        if self.fails(size):
            return RunOutcome(setting, failed=self.fails(size))
        own = math.ceil(SAMPLES / size)
        updates = setting.updates[0] if setting.updates else own
        step = self.rate(size) * setting.learning_rate * (size if self.is_sum else 1)
        settled = self.loss(updates, step) + self.noise(size, setting.seed)
        exact = math.fsum(self.loss(n, step) for n in range(updates)) / updates if self.training else settled
        samples = SAMPLES
        if self.phase == "evaluation":
            samples = SAMPLES if "tail" in setting.repairs else self.scored(size)
            exact += 0.0 if samples == SAMPLES else -self.tail * (SAMPLES - samples)
            exact += 0.0 if "statistics" in setting.repairs else self.statistics(size)
        weighted = exact + self.averaging(size)
        averaged = weighted + self.short(size)
        values = Epoch(
            1, averaged, exact, averaged, weighted, averaged, settled if self.training else None,
            sizes=((size, own - 1), (samples - size * (own - 1), 1)), dataset=SAMPLES,
        )  # fmt: skip
        row = MeasuredAccumulator(
            "loss", "total", ("loss",), ADDS, self.phase, "a mean", self.is_sum, self.is_sum,
            "the square root is taken in each batch", epochs=(values,),
        )  # fmt: skip
        run = ScriptRun(
            "train.py",
            (row,),
            self.seen,
            updates=(updates,),
            steps=updates,
            learning_rate=self.rate(size),
            loaders=2,
            seconds=1.0,
        )
        return RunOutcome(setting, run)


def made(world: World, question: Question) -> CompletedRuns:
    """All runs that the question needs."""
    done: dict[Setting, RunOutcome] = {}
    while todo := [setting for setting in plan.needed(question, done) if setting not in done]:
        for setting in todo:
            done[setting] = replace(world.run(replace(setting, again=False)), setting=setting)
    return CompletedRuns(done)


def comparison(world: World, *sizes: int, **changes: Any) -> Comparison:
    """What compare says of a world."""
    question = Question(sizes or (16, 64, 128), **{"seeds": 1, **changes})
    return conclude(ScriptCommand("train.py"), question, made(world, question), None, 1.0)


_SHARED: list[Workers] = []


@contextlib.contextmanager
def shared_slots(count: int, environment: Mapping[str, str]) -> Iterator[Workers]:
    """The same servers for all tests of a process: importing torch takes longer than a test's runs."""
    if not _SHARED:
        _SHARED.append(Workers(2, {**environment, "OMP_NUM_THREADS": "1"}))
        atexit.register(_SHARED[0].end)
    yield _SHARED[0]
