"""From outcomes to a Simulation: which component is shown, what theory expects, and what it all says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from batchproof.ground.place import Place
from batchproof.report.estimates import Estimate
from batchproof.report.numbers import known_to, off_by
from batchproof.simulation import published
from batchproof.simulation.chunks import GROUPS
from batchproof.simulation.distributions import Distribution
from batchproof.simulation.result import CLEAR, Simulation, SimulationRow
from batchproof.simulation.run import SizeOutcome
from batchproof.simulation.target_function import Trial
from batchproof.simulation.theory import Theory, recognised

#: A ratio this near 1 is 1, up to rounding.
ROUNDING = 1e-6
#: Sizes at which the headline reads theory.
TYPICAL = (1, 16, 128)


def summarised(
    trial: Trial,
    outcomes: Sequence[SizeOutcome],
    batches: int,
    seed: int,
    place: Place | None,
    is_question: bool,
    interrupted: bool,
    seconds: float,
) -> Simulation:
    """What was simulated, as data for the report.

    Args:
        trial: what was.
        outcomes: one for each batch size.
        batches: how many of each size were asked for.
        seed: that was used.
        place: where the function is defined.
        is_question: whether it is the question's own loss; with its errors, the published figures go beside.
        interrupted: whether Ctrl-C ended it.
        seconds: that it took.
    """
    which = _component(outcomes)
    theory = _theory(trial, outcomes) if len(trial.names) == 1 else None
    compared = is_question and _is_published(trial.population.errors, batches)
    rows = tuple(_row(outcome, which, theory, compared) for outcome in outcomes)
    depends = _depends(rows, theory)
    return Simulation(
        target=trial.title,
        place=place,
        errors=trial.population.text,
        batches=batches,
        seed=seed,
        rows=rows,
        headline=_headline(trial.title.partition("(")[0], rows, depends, theory),
        depends=depends,
        expected_by=theory.by if theory is not None else "",
        formula=theory.text if theory is not None else "",
        published=published.SOURCE if compared else "",
        component=trial.names[which] if len(trial.names) > 1 else "",
        components=len(trial.names),
        notes=tuple(_notes(trial, rows, theory, is_question)),
        interrupted=interrupted,
        seconds=seconds,
    )


def _component(outcomes: Sequence[SizeOutcome]) -> int:
    """The one whose mean of per-batch values is farthest from the pooled value, noise apart."""
    gaps = torch.stack([(outcome.mean / outcome.pooled - 1).abs() for outcome in outcomes])
    noise = torch.stack([torch.nan_to_num(CLEAR * outcome.ratio_error) for outcome in outcomes])
    apart = torch.stack([(outcome.mean - outcome.pooled).abs() for outcome in outcomes])
    clear = apart > torch.stack([CLEAR * outcome.difference_error for outcome in outcomes])
    near_zero = torch.stack([outcome.pooled.abs() <= CLEAR * outcome.pooled_error for outcome in outcomes])
    gaps = torch.where(near_zero, torch.where(clear, 1.0, 0.0), torch.where(gaps > noise, gaps, 0.0))
    worst = torch.where(gaps.isfinite(), gaps, 0.0).amax(0)
    return int(worst.argmax())


def _typical_size(errors: Distribution | torch.Tensor) -> float:
    return errors.scale if isinstance(errors, Distribution) else float(errors.abs().mean()) or 1.0


def _theory(trial: Trial, outcomes: Sequence[SizeOutcome]) -> Theory | None:
    """What the function's values should be, where it is a well-known one.

    A function that had to be called on its batches does something else at some size than it was recorded to do.
    """
    population = trial.population
    if population.errors is None or population.arrange is None or any(outcome.how == "called" for outcome in outcomes):
        return None
    arrange = population.arrange

    def of_errors(errors: torch.Tensor) -> object:
        args, kwargs = population.some.arrange(arrange(errors))
        return trial.fn(*args, **kwargs)

    program = trial.plan.program if trial.plan is not None else None
    formula = recognised(of_errors, program, _typical_size(population.errors), [outcome.size for outcome in outcomes])
    return None if formula is None else Theory(formula, population.errors)


def _is_published(errors: object, batches: int) -> bool:
    usual = isinstance(errors, Distribution) and errors.name == "normal" and errors.scale == published.SCALE
    return usual and batches == published.BATCHES


def _row(outcome: SizeOutcome, which: int, theory: Theory | None, compared: bool) -> SimulationRow:
    size = outcome.size
    pooled, mean = float(outcome.pooled[which]), float(outcome.mean[which])
    expected = theory.expected(size) if theory is not None else None
    expected_pooled = theory.expected(outcome.pooled_samples) if theory is not None else None
    expected_ratio = expected / expected_pooled if expected is not None and expected_pooled else None
    return SimulationRow(
        size=size,
        batches=outcome.batches,
        pooled=Estimate(
            pooled,
            float(outcome.pooled_error[which]),
            expected_pooled,
            published.POOLED.get(size) if compared else None,
        ),
        mean=Estimate(mean, float(outcome.mean_error[which]), expected, published.MEAN.get(size) if compared else None),
        ratio=Estimate(
            mean / pooled if pooled else math.nan,
            float(outcome.ratio_error[which]),
            expected_ratio,
        ),
        how=outcome.how,
        undefined=int(outcome.undefined[which]),
        difference=Estimate(mean - pooled, float(outcome.difference_error[which])),
        pooled_samples=outcome.pooled_samples,
    )


def _is_off(row: SimulationRow) -> bool:
    """Whether the mean of per-batch values clearly differs from the pooled value."""
    if row.ratio.expected is not None:
        return abs(row.shortfall) > ROUNDING
    if math.isnan(row.ratio.value) or row.batches < GROUPS:
        return False  # so few batches do not show how large the noise is
    if row.is_near_zero:
        return abs(row.difference.value) > CLEAR * row.difference.standard_error
    return abs(row.shortfall) > max(ROUNDING, CLEAR * row.ratio.standard_error)


def _depends(rows: Sequence[SimulationRow], theory: Theory | None) -> bool | None:
    if theory is not None and any(abs(gap) > ROUNDING for _, gap in _typical(theory)):
        return True
    if any(_is_off(row) or row.undefined for row in rows):
        return True
    # of one batch, the mean is the pooled value whatever the function
    alike = [row.batches > 1 and abs(row.ratio.value - 1) <= ROUNDING for row in rows]
    return False if all(alike) else None


def _typical(theory: Theory) -> list[tuple[int, float]]:
    """How far the mean of per-batch values lies off at typical sizes, of those at which theory knows it."""
    limit = theory.expected(10**12)
    values = {size: theory.expected(size) for size in TYPICAL}
    if values[1] is None:  # a deviation around the batch's own mean needs two samples
        values = {2: theory.expected(2), **values}
    return [(size, value / limit - 1) for size, value in values.items() if value is not None and limit]


def _headline(name: str, rows: Sequence[SimulationRow], depends: bool | None, theory: Theory | None) -> str:
    """The answer with usual batch sizes first: nobody trains with batches of one sample."""
    if depends is False:
        return f"{name} is the same at every batch size: its average over batches is the value on all samples"
    if depends is None:
        return "could not tell: no batch size shows a difference beyond the noise; draw more batches"
    if all(row.undefined == row.batches for row in rows):
        return f"{name} depends on the batch size: batches of these sizes have no value"
    off = [row for row in rows if _is_off(row)]
    ends = list(dict.fromkeys([*off[:1], *off[-1:]]))
    if theory is None and any(row.is_near_zero for row in ends):
        return _in_units(name, ends)
    gaps = _gaps(rows, theory)
    if not gaps:
        some = next(row for row in rows if row.undefined)
        return (
            f"{name} depends on the batch size: {some.undefined:,} of {some.batches:,} batches of {some.size:,} have "
            "no value"
        )
    return f"averaged over batches, {name} is {off_by(gaps)}"


def _gaps(rows: Sequence[SimulationRow], theory: Theory | None) -> list[tuple[int, float]]:
    """How far the average over batches is off, at a few sizes: typical ones where theory knows them."""
    off = [row for row in rows if _is_off(row)]
    usual = [row for row in off if row.size >= TYPICAL[1]]
    shown = {row.size: -row.shortfall for row in rows}
    gaps = [(size, shown.get(size, gap)) for size, gap in _typical(theory)] if theory is not None else []
    return gaps or [(row.size, -row.shortfall) for row in dict.fromkeys([*off[:1], *usual[:1], *off[-1:]])]


def _in_units(name: str, rows: Sequence[SimulationRow]) -> str:
    """How far the means are off where the value on all samples is near 0, of which nothing is a fraction."""
    parts = []
    for row in sorted(rows, key=lambda row: row.size == 1):
        far = known_to(abs(row.difference.value), row.difference.standard_error)
        parts.append(f"{far} too {'high' if row.difference.value > 0 else 'low'} at batch size {row.size:,}")
    return f"averaged over batches, {name} is {', '.join(parts)}; the value on all samples is near 0"


def _notes(trial: Trial, rows: Sequence[SimulationRow], theory: Theory | None, is_question: bool) -> list[str]:
    found = []
    if is_question and theory is not None and theory.is_normal:
        low, high = theory.expected(16) or math.nan, theory.expected(128) or math.nan
        found.append(
            f"from batches of 16 to batches of 128 the mean of RMSEs rises by {high / low - 1:.1%}: a loss that goes "
            "from 0.6 to 1.0 there has another cause"
        )
    errors = trial.population.errors
    if isinstance(errors, Distribution) and errors.name == "t" and errors.parameter <= 2:
        found.append("these errors have no finite variance: the pooled value grows with the number of samples")
    elif isinstance(errors, Distribution) and errors.name == "t" and errors.parameter <= 4:
        found.append("squares of these errors have no finite variance: the standard errors of such values are rough")
    if trial.population.note:
        found.append(trial.population.note)
    limited = [row for row in rows if row.pooled_samples < row.size * row.batches]
    if limited:
        found.append(
            f"it keeps its samples ({trial.reason}): pooled values are means over groups of at least "
            f"{limited[0].pooled_samples:,} samples"
        )
    return found
