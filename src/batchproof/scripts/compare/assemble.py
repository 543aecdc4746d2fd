"""From outcomes to numbers: which readings belong together, and their parts over the seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from batchproof.scripts.compare import plan
from batchproof.scripts.compare.comparison import ComparedNumber, ComparisonRow, Part, Rescaled
from batchproof.scripts.compare.plan import Done, Question
from batchproof.scripts.compare.record import PassReading, RunOutcome, Setting
from batchproof.scripts.compare.split import (
    DifferenceCause,
    Mean,
    SeedReadings,
    controlled_value,
    mean,
    mean_parts,
    parts,
)
from batchproof.scripts.run import Epoch, Phase

#: A difference of a smaller share of the number is none.
NOTHING = 1e-6
#: A difference of fewer standard errors may be noise.
CLEAR = 2.0


@dataclass(frozen=True)
class Key:
    """One number of a script: a name may be reported more than once in an epoch."""

    name: str
    phase: Phase
    place: int


def numbers(question: Question, done: Done, report: str | None, epoch: int | None) -> list[ComparedNumber]:
    """Every number that the base run and another one report."""
    base = done.get(plan.base_of(question, done))
    if base is None or base.failed:
        return []
    keys = [key for key, reading in _keyed(base, base) if report is None or report in (reading.name, *reading.aliases)]
    keys = list(dict.fromkeys(keys))
    return [_Tabled(question, done, key, epoch).number() for key in keys]


def names(outcome: RunOutcome) -> list[str]:
    """What a run reports."""
    return list(dict.fromkeys(reading.name for reading in outcome.readings))


def _keyed(outcome: RunOutcome, base: RunOutcome) -> Iterator[tuple[Key, PassReading]]:
    """By the names of the base run: what is one number there is one at every batch size."""
    seen: Counter[tuple[str, Phase, int]] = Counter()
    for reading in outcome.readings_like(base):
        at = (reading.name, reading.phase, reading.epoch)
        yield Key(reading.name, reading.phase, seen[at]), reading
        seen[at] += 1


def is_clear(difference: Mean, scale: float) -> bool:
    """Whether two numbers differ by more than rounding and noise."""
    return abs(difference.value) > max(NOTHING * abs(scale), CLEAR * (difference.standard_error or 0.0))


class _Tabled:
    """One number, gathered from all runs."""

    def __init__(self, question: Question, done: Done, key: Key, epoch: int | None) -> None:
        self.question, self.done, self.key = question, done, key
        self.base = plan.base_of(question, done)
        self.is_at_end = epoch is None
        lasts = self._last_epochs()
        self.takes_last = self._is_named_at_odds() or (self.is_at_end and len(set(lasts)) > 1)
        self.epochs = 1 if self.takes_last else min(lasts)
        self.epoch = self.epochs if epoch is None else min(epoch, self.epochs)
        self.repairs = plan.repairs_of(question, done)
        self.cuts = [cut for cut in question.cuts if self._reading(cut) is not None]
        self.seeds = self._seeds()

    def number(self) -> ComparedNumber:
        """With its rows; the words come later."""
        first = self._reading(self.base)
        assert first is not None
        return ComparedNumber(
            self.key.name,
            self.key.phase,
            self.epoch,
            self.epochs,
            first.place,
            tuple(map(self._row, self.cuts)),
            tuple(self._rescaled()),
            "" if first.values.exact is not None else first.values.reason or "no loop that adds it up was recognised",
            by=self.question.by,
        )

    def _last_epochs(self) -> list[int]:
        """To which each plain run came: one that stops early, or after so many steps, has a number of its own."""
        found = [self._readings(cut) for cut in self.question.cuts]
        return [max(reading.epoch for reading in readings) for readings in found if readings]

    def _is_named_at_odds(self) -> bool:
        """Whether runs give a variable another number of values: they are not one for each epoch, and the last counts.

        A total has as many as there are batches.
        """
        found = [self._readings(setting) for setting in self.done]
        counts = {len(readings) for readings in found if readings and readings[0].row is None}
        return len(counts) > 1

    def _reading(self, setting: Setting | None) -> PassReading | None:
        found = self._readings(setting) if setting is not None else []
        if self.takes_last:
            return found[-1] if found else None
        return next((reading for reading in found if reading.epoch == self.epoch), None)

    def _readings(self, setting: Setting) -> list[PassReading]:
        """All its passes in one run."""
        outcome = self.done.get(setting)
        if outcome is None or outcome.failed:
            return []
        return [reading for key, reading in _keyed(outcome, self.done[self.base]) if key == self.key]

    def _seeds(self) -> list[int]:
        """Those of which all runs are done, or at least all plain ones: every row is over the same seeds."""
        tried = range(plan.seeds(self.question, self.done))
        plain = [s for s in tried if all(self._reading(replace(cut, seed=s)) is not None for cut in self.cuts)]
        wanted = plan.needed(self.question, self.done)
        full = [s for s in plain if all(setting in self.done for setting in wanted if setting.seed == s)]
        return full or plain

    def _run(self, cut: Setting, seed: int) -> SeedReadings:
        plain = replace(cut, seed=seed)
        reading = self._reading(plain)
        assert reading is not None
        outcome, base = self.done[plain], self.done[replace(self.base, seed=seed)]
        is_controlled = cut != self.base and self.question.controls
        ratio = plan.rate_ratio(outcome, base)
        same = {
            DifferenceCause.UPDATES: plan.has_same_updates(outcome, base),
            DifferenceCause.RATE: ratio is None or plan.is_one(ratio),
        }
        return SeedReadings(
            plain=reading,
            whole=self._reading(replace(plain, repairs=("tail",))) if "tail" in self.repairs else None,
            repaired=self._reading(replace(plain, repairs=self.repairs)) if "statistics" in self.repairs else None,
            updates=self._control(plan.same_updates(outcome, base, self.repairs), base) if is_controlled else None,
            rate=self._control(plan.same_rate(outcome, base, self.repairs), base) if is_controlled else None,
            is_same=frozenset(cause for cause, holds in same.items() if holds),
        )

    def _control(self, setting: Setting | None, base: RunOutcome) -> PassReading | None:
        """The reading of a run that did hold the number of updates: one that stops early may end at another."""
        control = self.done.get(setting) if setting is not None else None
        if control is None or control.failed or _falls_short(control):
            return None
        if self.is_at_end and not plan.has_same_updates(control, base):
            return None
        return self._reading(setting)

    def _row(self, cut: Setting) -> ComparisonRow:
        runs = [self._run(cut, seed) for seed in self.seeds]
        readings = [run.plain for run in runs]
        outcome, reading = self.done[replace(cut, seed=self.seeds[0])], readings[0]
        row = ComparisonRow(
            cut.column,
            mean([reading.reported for reading in readings]),
            _mean_if_all(readings, lambda values: values.exact),
            _mean_if_all(readings, lambda values: values.settled),
            mean([controlled_value(run) for run in runs]) if self.question.controls else None,
            updates=outcome.run.steps
            if reading.row is None or self.is_at_end
            else sum(_steps(outcome, epoch) for epoch in range(1, self.epoch + 1)),
            steps=0 if reading.row is None else _steps(outcome, reading.epoch),
            epoch=reading.epoch,
            learning_rate=outcome.run.learning_rate,
            batches=reading.values.batches,
            samples=reading.values.samples,
            left_out=reading.left_out,
            seeds=len(self.seeds),
        )
        if cut == self.base:
            return row
        bases = [self._run(self.base, seed) for seed in self.seeds]
        pairs = list(zip(runs, bases, strict=True))
        found = mean_parts([parts(run, base) for run, base in pairs])
        return replace(
            row,
            difference=mean([run.plain.reported - base.plain.reported for run, base in pairs]),
            parts=tuple(Part(cause, part, cause.is_mistake) for cause, part in found.items()),
        )

    def _rescaled(self) -> Iterator[Rescaled]:
        base = mean([self._run(self.base, seed).plain.reported for seed in self.seeds])
        for cut in self.cuts:
            own = mean([self._run(cut, seed).plain.reported for seed in self.seeds])
            for rule, factor in plan.factors(cut, self.base).items():
                settings = [replace(cut, seed=seed, learning_rate=factor) for seed in self.seeds]
                readings = [reading for setting in settings if (reading := self._reading(setting)) is not None]
                if cut == self.base or len(readings) < len(self.seeds):
                    continue
                scaled = mean([reading.reported for reading in readings])
                gap, left = abs(own.value - base.value), abs(scaled.value - base.value)
                gone = Mean(1 - left / gap) if gap > NOTHING * abs(base.value) else None
                yield Rescaled(cut.column, rule, factor, scaled, gone)


def _steps(outcome: RunOutcome, epoch: int) -> int:
    """Optimizer steps in an epoch: those that a number of its training counts, or else those of a training pass."""
    counted = [reading.values.updates for reading in outcome.readings if reading.epoch == epoch]
    if any(counted):
        return max(counted)
    return outcome.run.updates[epoch - 1] if len(outcome.run.updates) >= epoch else 0


def _mean_if_all(readings: Sequence[PassReading], pick: Callable[[Epoch], float | None]) -> Mean | None:
    values = [value for value in (pick(reading.values) for reading in readings) if value is not None]
    return mean(values) if len(values) == len(readings) else None


def _falls_short(control: RunOutcome) -> bool:
    """Whether a pass made fewer updates than it was to: a trainer's loop over its loader ends as it does."""
    wanted = control.setting.updates
    return any(made < asked for made, asked in zip(control.run.updates, wanted, strict=False))
