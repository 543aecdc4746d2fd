"""What ``compare`` found, as plain frozen data.  Nothing here draws anything, and nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from batchproof.ground.place import Place
from batchproof.ground.text import counted
from batchproof.report.result import Result
from batchproof.scripts.compare.record import Axis
from batchproof.scripts.compare.split import DifferenceCause, Mean
from batchproof.scripts.run import Phase

Verdict = Literal["the same", "normal", "mostly normal", "partly wrong", "wrong", "could not tell"]
WORST_FIRST: tuple[Verdict, ...] = ("wrong", "partly wrong", "mostly normal", "normal", "the same", "could not tell")


@dataclass(frozen=True)
class Part:
    """What one cause adds to the difference; over the seeds.

    Attributes:
        cause: which.
        mean: how much.
        is_mistake: whether the number moves although the model is the same.
    """

    cause: DifferenceCause
    mean: Mean
    is_mistake: bool


@dataclass(frozen=True)
class ComparisonRow:
    """One number at one batch size.

    Attributes:
        size: the batch size, or how many ranks.
        reported: what the script reports.
        exact: on the same predictions, all together; None where there is no exact value.
        settled: exact, with the weights at the end of the pass; None where it was not measured.
        controlled: the same after as many updates as the first batch size has, at its learning rate.
        difference: of what is reported, from the first batch size; None at the first itself.
        parts: what the difference is made of; empty at the first.
        updates: optimizer steps in the passes that led here.
        steps: optimizer steps in the last of them.
        learning_rate: that the script set.
        batches: over which the number is averaged.
        samples: that they have.
        left_out: samples of the data that were not scored.
        seeds: over how many.
        epoch: the pass that is compared.
    """

    size: int
    reported: Mean
    exact: Mean | None = None
    settled: Mean | None = None
    controlled: Mean | None = None
    difference: Mean | None = None
    parts: tuple[Part, ...] = ()
    updates: int = 0
    steps: int = 0
    learning_rate: float | None = None
    batches: int = 0
    samples: int = 0
    left_out: int = 0
    seeds: int = 1
    epoch: int = 0

    def part(self, cause: DifferenceCause) -> Mean | None:
        """What a cause adds; None where that was not measured."""
        return next((part.mean for part in self.parts if part.cause is cause), None)


@dataclass(frozen=True)
class Rescaled:
    """A control run: the number at a batch size if the learning rate had followed it.

    Attributes:
        size: the batch size.
        rule: ``"linear"`` or ``"square root"``.
        factor: what the learning rate was multiplied by.
        reported: the number then.
        gone: which share of the difference is gone: below 0 where it is larger than before, to whichever side; None
            where there is hardly any difference.
    """

    size: int
    rule: str
    factor: float
    reported: Mean
    gone: Mean | None = None


@dataclass(frozen=True)
class ComparedNumber:
    """One number that the script reports.

    Attributes:
        name: as the script calls it.
        phase: whether the weights change on the way.
        epoch: which pass was compared.
        epochs: how many there were.
        place: the statement that adds a batch.
        rows: one for each batch size, the first among them.
        rescaled: control runs with another learning rate.
        no_exact: why it has no exact value, as half a sentence; empty where it has one.
        is_total: whether it is a total over the batches that nothing divides.
        verdict: in a word or two.
        headline: the answer in a sentence.
        by: what the rows differ in.
    """

    name: str
    phase: Phase
    epoch: int
    epochs: int
    place: Place | None
    rows: tuple[ComparisonRow, ...]
    rescaled: tuple[Rescaled, ...] = ()
    no_exact: str = ""
    is_total: bool = False
    verdict: Verdict = "could not tell"
    headline: str = ""
    by: Axis = "batch size"

    def at(self, row: ComparisonRow) -> str:
        """A row in words: ``batch 16``, ``2 ranks``."""
        return f"batch {row.size:,}" if self.by == "batch size" else counted(row.size, "rank")

    @property
    def farthest(self) -> ComparisonRow:
        """The row that differs most from the first; one without a value differs the most of all."""

        def distance(row: ComparisonRow) -> float:
            if row.difference is None:
                return -1.0
            return math.inf if math.isnan(row.difference.value) else abs(row.difference.value)

        return max(self.rows, key=distance)


@dataclass(frozen=True)
class Advice:
    """One thing to know or to change.

    Attributes:
        title: in a few words.
        text: what happens, in a sentence without its full stop.
        place: at which line.
        remedy: what to write or do instead; empty where nothing need be done.
        is_mistake: whether something is wrong.
    """

    title: str
    text: str
    place: Place | None = None
    remedy: str = ""
    is_mistake: bool = False


@dataclass(frozen=True)
class Failure:
    """A run that came to no end.

    Attributes:
        run: which, in words.
        size: its batch size.
        error: its last line.
    """

    run: str
    size: int
    error: str


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """What a script reports at several batch sizes, and why it differs.

    Attributes:
        target: the script with its arguments.
        sizes: the batch sizes, or numbers of ranks, that were asked for, the base first.
        seeds: how many were run.
        numbers: what it reports, in the script's order.
        headline: the answer in a sentence.
        advice: what is wrong, and what to change, the most important first.
        failures: runs that came to no end.
        notes: what else to know.
        runs: how many there were, control runs among them.
        cached: how many of them were made earlier.
        interrupted: whether Ctrl-C ended it.
        seconds: how long it took.
        fix: commands that repair what is wrong; empty where none does.
        by: what the runs differ in.
    """

    target: str
    sizes: tuple[int, ...]
    seeds: int
    numbers: tuple[ComparedNumber, ...]
    headline: str
    advice: tuple[Advice, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    runs: int = 0
    cached: int = 0
    interrupted: bool = False
    seconds: float = 0.0
    fix: tuple[str, ...] = ()
    by: Axis = "batch size"
    SCHEMA: ClassVar[str] = "batchproof/compare/1"

    @property
    def main(self) -> ComparedNumber | None:
        """The number that the headline is about: the first of those with the worst verdict."""
        told = [number for number in self.numbers if len(number.rows) > 1]
        return min(told or self.numbers, key=lambda number: WORST_FIRST.index(number.verdict), default=None)

    @property
    def exit_status(self) -> int:
        """0: nothing is wrong.  1: a number depends on the batch size by mistake.  2: could not tell."""
        if any(advice.is_mistake for advice in self.advice):
            return 1
        return 0 if any(number.verdict != "could not tell" for number in self.numbers) else 2
