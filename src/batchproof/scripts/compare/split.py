"""The difference of a reported number between two batch sizes, as parts that add up to it.

Between what a run reports and what the base run is worth lie a few numbers, each with one cause fewer than the one
before: the batches' own values weighted by their samples, the exact value on the same predictions, with the pass's last
weights, with the base's number of updates, at its learning rate.  A part is what one step of this ladder differs by
between the two runs; what is left after the last step is the rest.  A number that could not be measured is left out of
the ladder, and its part with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from batchproof.scripts.compare.record import PassReading


class DifferenceCause(str, Enum):
    """Why the number differs, in the order of the ladder."""

    ONE_RANK = "one rank's samples"
    RANK_MEANS = "mean of rank means"
    SHORT_BATCH = "short last batch"
    ARITHMETIC = "arithmetic"
    COPIES = "samples twice"
    LEFT_OUT = "samples left out"
    STATISTICS = "statistics of the batch"
    TRAINING = "measured while training"
    UPDATES = "fewer updates"
    RATE = "learning rate"
    REST = "rest"

    @property
    def is_mistake(self) -> bool:
        """Whether the number moves although the model is the same."""
        return self in (
            *OF_RANKS,
            DifferenceCause.SHORT_BATCH,
            DifferenceCause.ARITHMETIC,
            DifferenceCause.LEFT_OUT,
            DifferenceCause.STATISTICS,
        )


#: What ranks bring in, as `RankValues.parts` calls it.
OF_RANKS = {
    DifferenceCause.ONE_RANK: "one rank",
    DifferenceCause.RANK_MEANS: "mean of ranks",
    DifferenceCause.COPIES: "copies",
}


@dataclass(frozen=True)
class SeedReadings:
    """The readings of one number at one batch size from one seed; None where there was no such run.

    Attributes:
        plain: the script as it is.
        whole: with no samples left out in evaluation.
        repaired: with nothing of the batch in the model in evaluation, and no samples left out.
        updates: repaired, with as many updates as the base.
        rate: the same at the base's learning rate, too.
        is_same: the causes that cannot be one: the base has as many updates, or the same learning rate.
    """

    plain: PassReading
    whole: PassReading | None = None
    repaired: PassReading | None = None
    updates: PassReading | None = None
    rate: PassReading | None = None
    is_same: frozenset[DifferenceCause] = frozenset()


Parts = dict[DifferenceCause, float]


def parts(run: SeedReadings, base: SeedReadings) -> Parts:
    """What each cause adds to the number, in the ladder's order; a cause that was not measured has no part.

    The rest is what remains: with it, all parts together are the difference.
    """
    steps, worth = _steps(run)
    base_steps, _ = _steps(base)
    of_ranks = {cause for cause in OF_RANKS if cause in steps or cause in base_steps}
    if of_ranks:  # one process has none of them
        steps, base_steps = ({**dict.fromkeys(of_ranks, 0.0), **own} for own in (steps, base_steps))
    found = {cause: steps[cause] - base_steps[cause] for cause in steps if cause in base_steps}
    for cause, control in ((DifferenceCause.UPDATES, run.updates), (DifferenceCause.RATE, run.rate)):
        if control is not None and _worth(control).kind == worth.kind:
            found[cause] = worth.value - _worth(control).value
            worth = _worth(control)
        elif cause in run.is_same:
            found[cause] = 0.0
    difference = run.plain.reported - base.plain.reported
    found[DifferenceCause.REST] = difference - math.fsum(found.values())
    return found


@dataclass(frozen=True)
class _Worth:
    """What a run's model is worth, by the best number that was measured of it."""

    value: float
    kind: str


def _worth(reading: PassReading) -> _Worth:
    for kind in ("settled", "exact"):
        value = getattr(reading.values, kind)
        if value is not None:
            return _Worth(value, kind)
    return _Worth(reading.reported, "reported")


def _steps(run: SeedReadings) -> tuple[Parts, _Worth]:
    """How much each cause that lies in the run alone makes up, and what is left of the number without them."""
    plain, found = run.plain, {}
    if plain.values.exact is not None:
        amounts = plain.values.ranks.parts if plain.values.ranks is not None else {}
        found.update({cause: amounts[name] for cause, name in OF_RANKS.items() if amounts})
        found[DifferenceCause.SHORT_BATCH] = _short_batch(plain)
        found[DifferenceCause.ARITHMETIC] = plain.reported - plain.values.exact - math.fsum(found.values())
    last = plain
    for cause, reading in ((DifferenceCause.LEFT_OUT, run.whole), (DifferenceCause.STATISTICS, run.repaired)):
        if reading is not None and reading.values.exact is not None and last.values.exact is not None:
            found[cause] = last.values.exact - reading.values.exact
            last = reading
    if last.values.exact is not None and last.values.settled is not None:
        found[DifferenceCause.TRAINING] = last.values.exact - last.values.settled
    elif last.phase == "evaluation":
        found[DifferenceCause.TRAINING] = 0.0
    return found, _worth(last)


def controlled_value(run: SeedReadings) -> float:
    """What the run's model is worth with nothing of the batch size left but the noise of its gradients."""
    for control in (run.rate, run.updates):
        if control is not None:
            return _worth(control).value
    return _steps(run)[1].value


def _short_batch(reading: PassReading) -> float:
    """Of sums, a short batch's own value is a smaller one: there the weights alone say nothing."""
    if reading.averaged is None or reading.values.weighted is None or reading.is_sum:
        return 0.0
    return reading.averaged - reading.values.weighted


@dataclass(frozen=True)
class Mean:
    """A number over the seeds: its mean, and how far that mean may be off.

    Attributes:
        value: the mean.
        standard_error: of it; None with one seed.
    """

    value: float
    standard_error: float | None = None


def mean(values: Sequence[float]) -> Mean:
    """Over the seeds."""
    count = len(values)
    centre = math.fsum(values) / count
    if count < 2:
        return Mean(centre)
    return Mean(centre, math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (count - 1) / count))


def mean_parts(each: Sequence[Parts]) -> dict[DifferenceCause, Mean]:
    """Over the seeds, of the causes that were measured from every one: the rest takes in what the others lack."""
    shared = [cause for cause in DifferenceCause if all(cause in found for found in each)]
    if not each:
        return {}
    rests = [math.fsum(part for cause, part in found.items() if cause not in shared[:-1]) for found in each]
    columns = {cause: [found[cause] for found in each] for cause in shared}
    return {cause: mean(rests if cause is DifferenceCause.REST else column) for cause, column in columns.items()}
