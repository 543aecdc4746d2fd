"""Which runs a comparison needs: known little by little, since a control run is told what the plain runs did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isclose, sqrt

from batchproof.scripts.compare.record import STATISTICS, Axis, RunOutcome, Setting
from batchproof.scripts.run import Repair

#: Seeds that are tried where none were asked for, if all plain runs of one seed take no longer than this together.
SEEDS, BEARABLE = 3, 20.0

Done = Mapping[Setting, RunOutcome]


@dataclass(frozen=True)
class Question:
    """What is to be compared.

    Attributes:
        sizes: batch sizes; the first is what the others are compared with.
        seeds: how many; None leaves it to how long the runs take.
        controls: whether to run the script with something held fixed, too.
        ranks: numbers of processes to compare instead, at the one batch size of all of them together.
    """

    sizes: tuple[int, ...]
    seeds: int | None = None
    controls: bool = True
    ranks: tuple[int, ...] = ()

    @property
    def cuts(self) -> tuple[Setting, ...]:
        """What is compared, as it is run plainly: the first is what the others are compared with."""
        if self.ranks:
            return tuple(Setting(self.sizes[0] // count, ranks=count) for count in self.ranks)
        return tuple(map(Setting, self.sizes))

    @property
    def by(self) -> Axis:
        """What the runs differ in."""
        return "ranks" if self.ranks else "batch size"


def base_of(question: Question, done: Done) -> Setting:
    """What the others are compared with: the first at which the script does not fail."""
    works = (cut for cut in question.cuts if not (has := done.get(cut)) or not has.failed)
    return next(works, question.cuts[0])


def needed(question: Question, done: Done) -> list[Setting]:
    """Every run that is known to be needed by now, the earlier the more telling; those that are done among them."""
    found = [*question.cuts]
    base = base_of(question, done)
    if (first := done.get(base)) is not None and not first.failed:
        found.append(replace(base, again=True))
    for seed in range(seeds(question, done)):
        each = [replace(cut, seed=seed) for cut in question.cuts]
        found += each
        if question.controls:
            found += [setting for plain in each for setting in _controls(question, done, plain)]
    return list(dict.fromkeys(found))


def seeds(question: Question, done: Done) -> int:
    """How many."""
    if question.seeds is not None:
        return question.seeds
    first = [done.get(cut) for cut in question.cuts]
    took = [outcome.run.seconds for outcome in first if outcome is not None]
    return SEEDS if len(took) == len(first) and sum(took) <= BEARABLE else 1


def _controls(question: Question, done: Done, setting: Setting) -> list[Setting]:
    repairs = repairs_of(question, done)
    settings = _with_repairs(setting, repairs)
    first = base_of(question, done)
    plain, base = done.get(setting), done.get(replace(first, seed=setting.seed))
    if setting.plain == first or plain is None or base is None or plain.failed or base.failed:
        return settings
    same = (same_updates(plain, base, repairs), same_rate(plain, base, repairs))
    settings += [setting for setting in same if setting is not None]
    if plain.run.learning_rate:
        settings += [replace(setting, learning_rate=factor) for factor in factors(setting, first).values()]
    return settings


def repairs_of(question: Question, done: Done) -> tuple[Repair, ...]:
    """What evaluation gets wrong at some size: it is then put right in every control run."""
    found: list[Repair] = []
    plain = [outcome for setting, outcome in done.items() if setting.is_plain and setting.plain in question.cuts]
    if any(reading.phase == "evaluation" and reading.left_out for outcome in plain for reading in outcome.readings):
        found.append("tail")
    if any(seen.kind == STATISTICS for outcome in plain for seen in outcome.run.seen):
        found.append("statistics")
    return tuple(found)


def _with_repairs(setting: Setting, repairs: tuple[Repair, ...]) -> list[Setting]:
    """One repair after the other."""
    return [replace(setting, repairs=repairs[:count]) for count in range(1, len(repairs) + 1)]


def same_updates(plain: RunOutcome, base: RunOutcome, repairs: tuple[Repair, ...]) -> Setting | None:
    """The control run with the base's number of updates; None where they are as many anyway."""
    if not base.run.updates or not plain.run.updates or has_same_updates(plain, base):
        return None
    return replace(plain.setting, updates=base.run.updates, repairs=repairs)


def same_rate(plain: RunOutcome, base: RunOutcome, repairs: tuple[Repair, ...]) -> Setting | None:
    """The control run whose steps are as long as the base's, too; None where they are so anyway."""
    ratio = rate_ratio(plain, base)
    if ratio is None or is_one(ratio):
        return None
    same = same_updates(plain, base, repairs) or replace(plain.setting, repairs=repairs)
    return replace(same, learning_rate=1 / ratio)


def has_same_updates(plain: RunOutcome, base: RunOutcome) -> bool:
    """Whether both make as many updates, in passes as long or not."""
    return plain.run.steps == base.run.steps


def rate_ratio(plain: RunOutcome, base: RunOutcome) -> float | None:
    """How many times longer a step is than the base's at the same mean gradient; None where nothing steps."""
    if not plain.run.learning_rate or not base.run.learning_rate:
        return None
    return _per_mean(plain) / _per_mean(base)


def is_one(ratio: float) -> bool:
    """Whether two steps are as long, but for rounding."""
    return isclose(ratio, 1.0, rel_tol=1e-9)


def _per_mean(outcome: RunOutcome) -> float:
    """The learning rate for a mean over the batch: a sum's gradient is larger by the number of samples."""
    assert outcome.run.learning_rate is not None
    return outcome.run.learning_rate * (outcome.setting.batch_size if steps_with_sum(outcome) else 1)


def steps_with_sum(outcome: RunOutcome) -> bool:
    """Whether a step grows with the batch: the loss is a sum over it, and the optimizer goes as far as it is steep."""
    return outcome.run.follows_scale is not False and any(reading.trains_on_sum for reading in outcome.readings)


def factors(cut: Setting, base: Setting) -> dict[str, float]:
    """What a learning rate is multiplied by when it follows the batch size, by rule; ranks have one batch together."""
    if cut.ranks:
        return {}
    ratio = cut.batch_size / base.batch_size
    return {"linear": ratio, "square root": sqrt(ratio)}
