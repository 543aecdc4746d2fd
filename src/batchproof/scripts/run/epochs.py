"""One pass of an accumulator over a loader: what each batch added, and in the end an `Epoch`, and why it is off."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from batchproof.ground.text import first_line
from batchproof.scripts.run.evaluate import broadcast, grows, number
from batchproof.scripts.run.filler import RowWatch
from batchproof.scripts.run.formula import Formula, Unmeasured, same_function
from batchproof.scripts.run.origins import NOWHERE, PassOrigin
from batchproof.scripts.run.pooled import Batches, BatchInputs
from batchproof.scripts.run.registry import AccumulatorPlace
from batchproof.scripts.run.result import TOLERANCE, Epoch
from batchproof.scripts.source import AverageSite, Divisor, Quantity, Weight

#: What an average may be multiplied by on its way: percent, thousandths.
SCALES = (1.0, 100.0, 1000.0)
_AFTER = {"sqrt": math.sqrt, "exp": math.exp, "log": math.log, "log10": math.log10, "log2": math.log2}


@dataclass
class Pass:
    """What came in since the accumulator had its first value.

    Attributes:
        values: what each batch added, before its weight.
        weights: what each was multiplied by; None where there is no weight.
        counts: how many samples each batch has; None where that is not known.
        batches: the arguments of what is added.
        problem: why there will be no exact value.
        printed: the average, where it was read.
        inputs: what the batches were computed from; None unless it was asked for.
    """

    place: AccumulatorPlace
    number: int
    origin: PassOrigin = NOWHERE
    values: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    counts: list[int | None] = field(default_factory=list)
    batches: Batches | None = None
    problem: str = ""
    printed: Any = None
    after: str = ""
    divisor: Divisor = Divisor.UNKNOWN
    ended: bool = False
    steps: int = 0
    updates: int = 0
    loader: int | None = None
    dataset: int | None = None
    duplicates: int = 0
    inputs: BatchInputs | None = None
    rows: RowWatch | None = None
    copies: int = 0  # samples at the end that only fill the last batch
    targets: list[Any] = field(default_factory=list)  # how many each of these is a mean over
    given: list[Any] | None = None  # what the formula should give, where that is not what was added
    may_weigh: bool = False  # whether each batch may count as often as it has samples: what is printed tells
    across: bool = False  # samples lie along the second dimension of what comes from the loader

    def fails(self, error: BaseException) -> None:
        """No exact value; what was kept for it is let go."""
        self.problem = self.problem or first_line(error) or type(error).__name__
        self.batches = None

    def take(self, formula: Formula, batch: list[Any], versions: list[int | None], count: int) -> None:
        """A batch's arguments."""
        try:
            if self.batches is None:
                self.batches = Batches(formula, self.values if self.given is None else self.given)
            elif self.batches.formula is not formula and not same_function(self.batches.formula, formula):
                raise Unmeasured("batches take different ways through the loop")
            self.batches.add(batch, versions, count)
        except Exception as error:  # noqa: BLE001 - the script goes on
            self.fails(error)


def epoch_of(
    done: Pass, is_sum: bool | None, settled: float | None, exact: float | None, scale: float | None = None
) -> Epoch:
    """The pass as numbers.

    Args:
        done: what came in.
        is_sum: whether a batch's value is a sum over its samples.
        settled: the formula on all samples with the last weights.
        exact: the formula on all samples.
        scale: 100 for percent; None where what is printed tells.
    """
    values = as_numbers(done.values)
    are_numbers = all(map(is_number, done.values))
    counts = [count for count in done.counts if count is not None]
    known = len(counts) == len(values) and bool(values)
    weights = _weights(done, values)
    reckoned = _reckon(done, is_sum, scale)
    printed = reckoned.printed
    finish = _AFTER.get(done.after)

    def shown(value: float | None) -> float | None:
        if value is None or finish is None:
            return value
        try:
            return float(finish(value))
        except (ValueError, OverflowError):
            return math.nan

    guessed = is_sum is not None and exact is None and done.across  # then a sum may be one over time
    singles = values
    if is_sum and known:
        singles = [value / count for value, count in zip(values, counts, strict=True)]
    scale = reckoned.scale
    return Epoch(
        number=done.number,
        printed=shown(printed),
        exact=shown(reckoned.exact(exact)),
        mean=shown(scale * _mean(singles)) if are_numbers else None,
        weighted=shown(scale * _mean(singles, counts)) if known and are_numbers and not guessed else None,
        averaged=shown(scale * _mean(singles, weights)) if are_numbers else None,
        settled=shown(reckoned.exact(settled)),
        sizes=run_lengths(counts if known else []) or ((0, len(values)),),
        steps=done.steps,
        updates=done.updates,
        loader=done.loader,
        dataset=done.dataset,
        undefined=sum(not math.isfinite(value) for value in values) if are_numbers else 0,
        duplicates=done.duplicates,
        reason=done.problem if are_numbers else _not_a_number(done.values),
    )


def scale_of(done: Pass, is_sum: bool | None) -> float:
    """100 where what is printed is percent of what was added up, 1 otherwise."""
    return _reckon(done, is_sum, None).scale


def _reckon(done: Pass, is_sum: bool | None, scale: float | None) -> _Reckoned:
    values = as_numbers(done.values)
    weights = _weights(done, values)
    total = math.fsum(value * weight for value, weight in zip(values, weights, strict=True))
    counts = [count for count in done.counts if count is not None]
    samples = sum(counts) if len(counts) == len(values) and values else None
    printed = None if done.printed is None else as_number(done.printed)
    return _Reckoned(done, printed, total, math.fsum(weights), samples, len(values), is_sum, scale)


def _weights(done: Pass, values: Sequence[float]) -> list[float]:
    weights = as_numbers(done.weights)
    if len(weights) == len(values):
        return weights
    counts = [float(count) for count in done.counts if count is not None]
    if done.may_weigh and len(counts) == len(values) and done.printed is not None:
        printed = as_number(done.printed)
        if not _same(_mean(values), printed) and _same(_mean(values, counts), printed):
            return counts
    return [1.0] * len(values)


@dataclass(frozen=True)
class _Reckoned:
    """How the script gets from what was added to what it reports: its divisor, and a factor such as 100."""

    done: Pass
    printed: float | None
    total: float
    weight: float
    samples: int | None
    batches: int
    is_sum: bool | None
    given: float | None = None

    @property
    def divisor(self) -> float | None:
        """What the total was divided by."""
        return self.total / self.printed if self.printed and math.isfinite(self.printed) and self.total else None

    @property
    def scale(self) -> float:
        """100 for percent, 1 otherwise."""
        if self.given is not None:
            return self.given
        divisor = self.divisor
        if divisor is None:
            return 1.0
        known = [self.weight, self.batches, self.samples, self.done.dataset, self.done.loader]
        for scale in SCALES:
            if any(count and math.isclose(divisor * scale, count, rel_tol=1e-5) for count in known):
                return scale
        return 1.0

    def exact(self, value: float | None) -> float | None:
        """The formula's value on all samples, in the unit of what is printed."""
        if value is None:
            return None
        if not self.is_sum:
            return self.scale * value
        divisor, samples = self.divisor, self.samples
        if divisor is not None:
            if self.done.divisor is Divisor.NOTHING:
                return value
            by_samples = samples is not None and math.isclose(divisor * self.scale, samples, rel_tol=1e-6)
            if by_samples or self.done.divisor in (Divisor.WEIGHTS, Divisor.SAMPLES):
                return value / divisor / self._originals
        return self.scale * value / samples / self._originals if samples else None

    @property
    def _originals(self) -> float:
        """The part of the samples that are no copies."""
        return 1 - self.done.copies / self.samples if self.samples and self.done.copies else 1.0


def exact_value(done: Pass) -> tuple[float | None, bool | None]:
    """The formula on all samples, and whether it is a sum; the pass says why where there is none."""
    if done.batches is None or done.problem:
        return None, _sum_by_kind(done)
    first = done.batches.kept[0] if done.batches.kept else None
    try:
        if done.batches.count != len(done.values):
            raise Unmeasured("not every batch was seen")
        _leave_out_copies(done)
        value = done.batches.value()
    except Exception as error:  # noqa: BLE001 - the script goes on
        done.fails(error)
        return None, _sum_by_kind(done)
    formula = done.batches.formula
    if formula.is_sum is None and first is not None:
        formula.is_sum = grows(formula, first)
    if formula.broadcasts is None and first is not None:
        formula.broadcasts = broadcast(formula, first)
    return value, formula.is_sum if formula.is_sum is not None else _sum_by_kind(done)


def _leave_out_copies(done: Pass) -> None:
    """Of samples that only fill the last batch.

    Raises:
        Unmeasured: it cannot be told whether there are any.
    """
    if done.rows is None or done.batches is None:
        return
    copies, why = done.rows.copies()
    if why:
        raise Unmeasured(why)
    done.copies = done.batches.copies = copies


def settled_value(done: Pass, exact: float | None) -> float | None:
    """The formula on the same samples with the weights as they are now; None where that cannot be computed."""
    if done.updates == 0:
        return exact
    if done.inputs is None or done.problem:
        return None
    try:
        return done.inputs.value()
    except Exception as error:  # noqa: BLE001 - the script goes on
        done.inputs.problem = first_line(error) or type(error).__name__
        return None


def is_average(done: Pass, value: Any) -> bool:
    """Whether a number is the plain or the weighted mean of what was added."""
    values, weights = as_numbers(done.values), as_numbers(done.weights)
    means = [_mean(values), *([_mean(values, weights)] if len(weights) == len(values) else [])]
    return any(math.isclose(as_number(value), mean, rel_tol=1e-5) for mean in means)


def _sum_by_kind(done: Pass) -> bool:
    return done.place.site.added.quantity in (Quantity.SUM, Quantity.COUNT)


def run_lengths(counts: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Equal neighbours together: ``((16, 27), (10, 1))``."""
    return tuple((size, len(list(group))) for size, group in itertools.groupby(counts))


def _mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    if weights is None:
        weights = [1.0] * len(values)
    whole = math.fsum(weights)
    if not whole:
        return math.nan
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / whole


def _not_a_number(values: Sequence[Any]) -> str:
    """What is added in its place."""
    if any(isinstance(value, dict) for value in values):
        return "what is added is a table of several numbers"
    return "what is added is not a single number"


def is_number(value: Any) -> bool:
    """Whether a value that the script computed is a number at all, though it may be NaN."""
    if isinstance(value, torch.Tensor):
        return value.numel() == 1  # read nothing: on a GPU each read waits for it
    try:
        number(value)
    except Unmeasured:
        return False
    return True


def as_numbers(values: Sequence[Any]) -> list[float]:
    """Each as a number; tensors are read from their device all at once."""
    scalars = [value for value in values if isinstance(value, torch.Tensor) and value.numel() == 1]
    if scalars and len(scalars) == len(values) and len({(value.dtype, value.device) for value in scalars}) == 1:
        together = torch.stack([value.detach().reshape(()) for value in scalars])
        return [float(value) for value in together.tolist()]
    return [as_number(value) for value in values]


def as_number(value: Any) -> float:
    """A value that the script computed; NaN where it is no number."""
    try:
        return number(value)
    except Unmeasured:
        return math.nan


_REMEDIES = {
    Quantity.NONLINEAR: "compute it once, on all samples together, as batchproof.exact does",
    Quantity.RATIO: "add up numerators and denominators over the batches, and divide once",
    Quantity.COUPLED: "no averaging repairs it: keep the batch size fixed, and report it with the number",
}


def reason(done: Pass, epoch: Epoch, is_sum: bool | None) -> tuple[str, str]:
    """What happens and what to do, each as half a sentence; empty where nothing is wrong or nothing tells."""
    averaged, printed = epoch.averaged, epoch.printed
    if averaged is None or printed is None or epoch.is_exact is not False:
        return "", ""
    site = done.place.site
    if done.copies and _same(epoch.weighted, printed):
        copies = f"{done.copies:,} copies" if done.copies > 1 else "a copy"
        return f"{copies} to fill the last batch counted as samples", "leave the copies out"
    if done.batches is not None and done.batches.formula.broadcasts:
        shapes = done.batches.formula.broadcasts
        return f"{shapes} broadcast, so that every sample is compared with every other", "squeeze(1) one of them"
    if not _same(averaged, printed):
        return _of_divisor(done, epoch, is_sum)
    if not is_sum and _same(epoch.weighted, epoch.exact) and not _same(epoch.weighted, averaged):
        return _of_sizes(site, epoch)
    return site.added.why, _REMEDIES.get(site.added.quantity, "")


def _of_sizes(site: AverageSite, epoch: Epoch) -> tuple[str, str]:
    """The batches are right, and their weights are not."""
    short = len(epoch.sizes) == 2 and epoch.sizes[1][1] == 1
    which = f"the last batch, of {epoch.sizes[1][0]:,}," if short else "each batch, whatever its size,"
    if site.added.weight is Weight.NONE:
        return f"{which} counts as much as any other", "weight each batch by its number of samples"
    return f"{which} is weighted by something else than its number of samples", "weight it by how many samples it has"


def _of_divisor(done: Pass, epoch: Epoch, is_sum: bool | None) -> tuple[str, str]:
    """What was added is not divided by what was added up."""
    assert epoch.printed is not None
    assert epoch.averaged is not None
    if is_sum:
        return "sums over samples are not divided by how many samples there are", "divide by the number of samples"
    divisor = epoch.averaged * epoch.batches / epoch.printed if epoch.printed else math.nan
    if done.divisor is Divisor.DATASET or math.isclose(divisor, epoch.samples, rel_tol=1e-5):
        return (
            "means of batches are added up, and divided by the number of samples",
            "weight each batch by its number of samples, or divide by the number of batches",
        )
    if not done.weights and math.isclose(divisor, round(divisor), rel_tol=1e-5) and round(divisor) > 1:
        return (
            f"{epoch.batches:,} batches were added, and the total is divided by {round(divisor):,}",
            "count what is added",
        )
    return f"it is {epoch.printed / epoch.averaged:.4g} times the mean of what was added" if epoch.averaged else "", ""


def _same(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=5 * TOLERANCE)
