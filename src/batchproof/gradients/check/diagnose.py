"""From two runs' gradients to the causes: each is tried by the numbers, the plainest first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from batchproof.errors import BatchproofError
from batchproof.explanation import Finding
from batchproof.gradients.check import causes
from batchproof.gradients.check.determinism import batch_norms, drops, in_evaluation, without_dropout
from batchproof.gradients.check.least_squares import weigh
from batchproof.gradients.check.measure import Tolerance, distance, norm, rows, whole
from batchproof.gradients.check.record import GradientRecorder, Parameters, Window, record
from batchproof.gradients.check.result import GradientCode, MicroBatchWeights, ParameterGradient, WindowGradient

#: Code that trains, and says to the recorder where its windows end.
Run = Callable[[GradientRecorder], None]
#: The relative difference up to which a weight is taken for a ratio of counts.
AS_COUNTED = 1e-3
#: Off parameters stand out only where they are fewer than this share of all.
FEW = 1 / 3
#: What is said where no cause was found.
NOT_NAMED: tuple[GradientCode, ...] = ("coupled", "another-gradient")
ROUND_NORMS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class ComparedRuns:
    """What is checked: the two runs, and the parameters that they fill."""

    full: Run
    accumulated: Run
    parameters: Parameters
    model: torch.nn.Module | None
    tied: Mapping[str, Sequence[str]]
    tolerance: Tolerance
    #: micro-batches of a window that is not the last, where it is known
    configured: int | None = None
    #: counts given by the caller, for the only window
    counts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    #: how the caller gives counts, in words
    option: str = causes.WEIGHTS


@dataclass(frozen=True)
class Pair:
    """One optimizer step: the full gradient, the accumulated one, and both beside each other."""

    full: Window
    accumulated: Window
    rows: list[ParameterGradient]
    whole: WindowGradient

    @property
    def off(self) -> list[ParameterGradient]:
        """The parameters that differ."""
        return [row for row in self.rows if not row.is_same]

    @property
    def passes(self) -> int:
        """Backward passes of the accumulated gradient."""
        return self.whole.passes

    @property
    def filled(self) -> int:
        """Those of them that bring something."""
        return self.accumulated.filled


@dataclass
class Diagnosis:
    """The causes, the strongest evidence first, and what goes with them."""

    findings: list[Finding[GradientCode]] = field(default_factory=list)
    weights: MicroBatchWeights | None = None
    alternatives: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def pairs_of(subject: ComparedRuns, *, keep_passes: bool = False) -> list[Pair]:
    """Both runs from the same state, window by window.

    Raises:
        BatchproofError: A run left no gradient, or the runs do not have the same number of windows.
    """
    full = record(subject.full, subject.parameters, subject.model)
    accumulated = record(subject.accumulated, subject.parameters, subject.model, keep_passes=keep_passes)
    if len(full) != len(accumulated):
        raise BatchproofError(
            f"the optimizer stepped {len(full)} times with the whole batches and {len(accumulated)} times with "
            "micro-batches: the two runs do not go through the same samples"
        )
    for name, windows in (("whole-batch", full), ("accumulated", accumulated)):
        if not windows:
            raise BatchproofError(f"the {name} run ended without an optimizer step: there is no gradient to compare")
        if not all(window.total for window in windows):
            raise BatchproofError(f"the {name} run left no gradient in any parameter of the model")
    return [_pair(one, other, subject.tolerance) for one, other in zip(full, accumulated, strict=True)]


def _pair(full: Window, accumulated: Window, tolerance: Tolerance) -> Pair:
    found = rows(full.total, accumulated.total, tolerance)
    off = sum(not row.is_same for row in found)
    return Pair(full, accumulated, found, whole(full.total, accumulated.total, len(accumulated.passes), off))


def diagnose(subject: ComparedRuns, pairs: list[Pair]) -> Diagnosis:
    """Why they differ.  What takes further runs is tried last."""
    found = Diagnosis()
    found.findings = (
        _not_finite(pairs)
        or _short_last(subject, pairs)
        or _one_factor(subject, pairs, counted=True)
        or _few_parameters(subject, pairs, counted=True)
    )
    if not found.findings:
        _by_running_again(subject, pairs, found)
    return found


def first_off(pairs: Sequence[Pair]) -> Pair:
    """The first window that differs, or else the first."""
    return next((pair for pair in pairs if pair.off), pairs[0])


def _not_finite(pairs: list[Pair]) -> list[Finding[GradientCode]]:
    rows = [row for pair in pairs for row in pair.rows]
    full = _names(row for row in rows if row.full is not None and not math.isfinite(row.full))
    accumulated = _names(row for row in rows if row.accumulated is not None and not math.isfinite(row.accumulated))
    if not full and not accumulated:
        return []
    where = "in both runs" if full and accumulated else f"in the {'whole-batch' if full else 'accumulated'} run only"
    return [causes.not_finite(full or accumulated, where)]


def _missing(pairs: list[Pair]) -> list[Finding[GradientCode]]:
    off = [row for pair in pairs for row in pair.off]
    found = []
    for run, names in (
        ("accumulated", _names(row for row in off if row.accumulated is None)),
        ("whole-batch", _names(row for row in off if row.full is None)),
    ):
        if names:
            found.append(causes.missing_gradient(names, run))
    return found


def _names(rows: object) -> list[str]:
    return list(dict.fromkeys(row.name for row in rows))  # type: ignore[attr-defined]


def _configured(subject: ComparedRuns, pairs: Sequence[Pair]) -> int:
    return subject.configured or max(pair.passes for pair in pairs)


def _short_last(subject: ComparedRuns, pairs: list[Pair]) -> list[Finding[GradientCode]]:
    """Only the last window is off, by the share of its micro-batches."""
    last, configured = pairs[-1], _configured(subject, pairs)
    if any(pair.off for pair in pairs[:-1]) or not 0 < last.passes < configured:
        return []
    factor = last.passes / configured
    return [causes.ragged(last.passes, configured)] if _is_factor(last, factor, subject.tolerance) else []


def _is_factor(pair: Pair, factor: float, tolerance: Tolerance) -> bool:
    """Whether the accumulated gradient is this multiple of the full one, in every parameter."""
    return all(row.is_same for row in rows(pair.full.total, pair.accumulated.total, tolerance, factor))


def _one_factor(subject: ComparedRuns, pairs: list[Pair], *, counted: bool = False) -> list[Finding[GradientCode]]:
    """In every window that is off, one factor for all parameters; if ``counted`` one that equals something."""
    off = [pair for pair in pairs if pair.off]
    first, several = off[0], any(pair.passes > 1 for pair in off)

    def is_everywhere(factor: Callable[[Pair], float]) -> bool:
        return all(factor(pair) and _is_factor(pair, factor(pair), subject.tolerance) for pair in off)

    if several and is_everywhere(lambda pair: pair.passes):
        return [causes.missing_division(_numbers(off))]
    if several and is_everywhere(lambda pair: 1 / pair.passes if pair.passes else 0):
        return [causes.divided_twice(_numbers(off))]
    part = next((pair for pair in off if 0 < pair.filled < pair.passes), None)
    if part is not None and is_everywhere(lambda pair: pair.filled / pair.passes):
        return [causes.empty_micro_batches(part.filled, part.passes)]
    if part is not None and is_everywhere(lambda pair: pair.filled):
        return [
            causes.missing_division_by_filled([pair.filled for pair in off]),
            causes.empty_micro_batches(part.filled, part.passes, "once divided by all of them "),
        ]
    if not is_everywhere(lambda pair: pair.whole.ratio):
        return []
    for which, size in (("accumulated", first.whole.accumulated), ("full", first.whole.full)):
        near = [number for number in ROUND_NORMS if math.isclose(size, number, rel_tol=1e-5)]
        if near:
            return [causes.clipped(near[0], which)]
    called = _called(off, subject)
    return [causes.constant_factor([pair.whole.ratio for pair in off], called)] if called or not counted else []


def _numbers(pairs: Sequence[Pair]) -> str:
    """``4``, or ``4 (in the last window 2)``."""
    first, last = pairs[0].passes, pairs[-1].passes
    return f"{first}" if first == last else f"{first} (in the last window {last})"


def _called(pairs: Sequence[Pair], subject: ComparedRuns) -> list[str]:
    """What the factor equals, in every one of these windows, among the numbers at hand."""
    first, *others = [_called_in(pair, subject) for pair in pairs]
    return [text for name, text in first.items() if all(name in other for other in others)]


def _called_in(pair: Pair, subject: ComparedRuns) -> dict[str, str]:
    """What a window's factor equals: by name, and with the number."""
    ratio = pair.whole.ratio
    numbers: dict[str, float] = {"the number of micro-batches": pair.passes}
    if subject.configured:
        numbers["the configured number of micro-batches"] = subject.configured
    for name, counts in (subject.counts or pair.accumulated.counts).items():
        numbers[f"all {name}"] = sum(counts)
        if len(set(counts)) == 1:
            numbers[f"the {name} of a micro-batch"] = counts[0]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        numbers["the world size"] = torch.distributed.get_world_size()
    forms: dict[str, Callable[[float], float]] = {
        "{}": lambda n: n, "1 over {}": lambda n: 1 / n, "the square of {}": lambda n: n * n,
        "1 over the square of {}": lambda n: 1 / (n * n),
    }  # fmt: skip
    found = {
        form.format(name): f"{form.format(name)} ({number:g})"
        for form, of in forms.items()
        for name, number in numbers.items()
        if number > 1 and math.isclose(ratio, of(number), rel_tol=AS_COUNTED)
    }
    power = math.log2(abs(ratio))
    if not found and ratio > 0 and abs(power) >= 8 and abs(power - round(power)) < 1e-6:
        found["a power of 2"] = "a power of 2, as the scale of a GradScaler that was not taken out"
    return found


def _few_parameters(subject: ComparedRuns, pairs: list[Pair], *, counted: bool = False) -> list[Finding[GradientCode]]:
    """The others are right; if ``counted``, these few are off by the number of micro-batches."""
    pair = first_off(pairs)
    off = pair.off
    if not off or len(off) > max(1, FEW * len(pair.rows)) or len(off) == len(pair.rows):
        return []
    if counted and not all(_counted(row, pair.passes) for row in off):
        return []
    what = _of_one(off[0], pair) if len(off) == 1 else f"by up to {causes.share(max(row.difference for row in off))}"
    tied = [name for row in off for name in subject.tied.get(row.name, ())]
    return [causes.some_parameters([row.name for row in off], tied, what)]


def _counted(row: ParameterGradient, passes: int) -> bool:
    """Whether the gradient is as many times too large, or too small, as there were backward passes."""
    factors = (passes, 1 / passes) if passes > 1 else ()
    return row.cosine > 1 - AS_COUNTED and any(math.isclose(row.ratio, n, rel_tol=AS_COUNTED) for n in factors)


def _of_one(row: ParameterGradient, pair: Pair) -> str:
    if abs(row.cosine - 1) < AS_COUNTED and math.isfinite(row.ratio):
        text = f"{causes.times(row.ratio)} what it should be"
        if pair.passes > 1 and math.isclose(row.ratio, pair.passes, rel_tol=AS_COUNTED):
            text += ", as if it were added once for each micro-batch"
        elif pair.passes > 1 and math.isclose(row.ratio, 1 / pair.passes, rel_tol=AS_COUNTED):
            text += ", as if it were divided once more"
        return text
    return f"by {causes.share(row.difference)}"


def _by_running_again(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    """Is a run the same twice?  Does dropout or BatchNorm do it?  By which weights would it be right?"""
    apart, limit = first_off(pairs).whole.difference, subject.tolerance.with_slack
    again = record(subject.full, subject.parameters, subject.model)
    noise = _moved(again, [pair.full for pair in pairs])
    if noise > limit:
        found.findings = [causes.nondeterministic(apart, noise)]
        found.alternatives = ["another loss or another weighting: cannot be told before the run is repeatable"]
        return
    noise = _noise(subject, pairs)
    if noise <= limit:
        _without_noise(subject, found)
    elif not drops(subject.model):
        _random(found, apart, noise)
    else:
        with without_dropout(subject.model):
            quiet = pairs_of(subject)
            if not any(pair.off for pair in quiet):
                found.findings = [causes.dropout(apart, noise)]
            elif (left := _noise(subject, quiet)) > limit:
                _random(found, first_off(quiet).whole.difference, left, is_off=True)
            else:
                found.notes.append("dropout is off where the cause was sought, and on in the rows above")
                _without_noise(subject, found)


def _noise(subject: ComparedRuns, pairs: Sequence[Pair]) -> float:
    """How far other random numbers move a gradient; in both runs, because they may draw what the other does not."""
    full, accumulated = [pair.full for pair in pairs], [pair.accumulated for pair in pairs]
    return max(
        _moved(record(run, subject.parameters, subject.model, seed=seed), windows)
        for run, windows in ((subject.full, full), (subject.accumulated, accumulated))
        for seed in (1, 2)
    )


def _moved(windows: Sequence[Window], since: Sequence[Window]) -> float:
    """The largest distance of a window's gradient from what it was."""
    return max(distance(window.total, before.total) for window, before in zip(windows, since, strict=False))


def _random(found: Diagnosis, apart: float, noise: float, *, is_off: bool = False) -> None:
    found.findings = [causes.random(apart, noise, is_off)]
    found.alternatives = ["another loss or another weighting: cannot be told while the run is random"]


def _without_noise(subject: ComparedRuns, found: Diagnosis) -> None:
    """The same two runs, now that nothing in them is random: what differs is a rule."""
    pairs = pairs_of(subject, keep_passes=True)
    found.findings = _missing(pairs) or _short_last(subject, pairs) or _one_factor(subject, pairs)
    if not found.findings:
        _without_batch_norm(subject, pairs, found)
    if not found.findings:
        _by_parts(subject, pairs, found)


def _without_batch_norm(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    """The same with BatchNorm in evaluation mode: is it all, or is there a cause beside it?"""
    norms = batch_norms(subject.model)
    if not norms:
        return
    with in_evaluation(norms):
        still = pairs_of(subject, keep_passes=True)
    if not any(pair.off for pair in still):
        found.findings = [causes.batch_norm(list(norms))]
        return
    if _moved([pair.full for pair in still], [pair.full for pair in pairs]) <= subject.tolerance.with_slack:
        return  # it was in evaluation mode already, or is not used
    rest = Diagnosis(_short_last(subject, still) or _one_factor(subject, still))
    if not rest.findings:
        _by_parts(subject, still, rest)
    if rest.findings[0].code in NOT_NAMED:
        found.alternatives.append(
            f"BatchNorm in training mode ({causes.some(list(norms))}) may have a part in it, and is not all: in "
            "evaluation mode the gradients differ too"
        )
        return
    found.findings = [*rest.findings, causes.batch_norm(list(norms), "the above is all that is left")]
    found.weights, found.alternatives = rest.weights, rest.alternatives
    found.notes.append("BatchNorm is in evaluation mode where the cause was sought, and not in the rows above")


def _by_parts(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    """A few parameters, or the weights of the micro-batches."""
    found.findings = _few_parameters(subject, pairs)
    if not found.findings:
        _weighed(subject, pairs, found)


def _weighed(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    pair = first_off(pairs)
    # a factor for all parameters is no question of weights
    passes = pair.accumulated.passes
    counts = {name: list(numbers) for name, numbers in subject.counts.items()} or pair.accumulated.counts
    weights = weigh(pair.full.total, passes, counts, subject.tolerance)
    apart = distance(pair.accumulated.total, pair.full.total)
    if weights is None:
        numbers = sum(gradient.numel() for gradient in pair.full.total.values())
        was_weighed = len(passes) > 1 and numbers > 2 * len(passes) and norm(pair.full.total) > 0
        found.findings = [causes.coupled(apart, was_weighed)]
        found.alternatives += [
            "a loss that takes all samples of a batch together: contrastive, correlation, Dice, a balance loss",
            "the two runs do not see the same samples, or see them padded to another length without a mask",
        ]
        return
    found.weights = weights
    found.findings = [causes.mean_of_means(weights, apart, option=subject.option)]
    if not weights.fits:
        found.alternatives.append("a nonlinear function of a mean, such as a root, has weights that equal no count")
        return
    # a mean of n means that were divided by d has factors that sum to d
    if math.isclose(sum(weights.factors), 1, rel_tol=AS_COUNTED):
        direction = math.sqrt(max(0.0, 1 - pair.whole.cosine**2))
        found.findings = [
            causes.missing_division(f"about {len(passes)}"),
            causes.mean_of_means(weights, direction, "after that "),
        ]
    _ragged_too(subject, pairs, found)


def _ragged_too(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    """Whether the short last window, beside its wrong weights, is divided by the micro-batches of a full one."""
    last, configured = pairs[-1], _configured(subject, pairs)
    if not 0 < last.passes < configured:
        return
    weights = weigh(last.full.total, last.accumulated.passes, last.accumulated.counts, subject.tolerance)
    if weights is not None and weights.fits and math.isclose(sum(weights.factors), configured, rel_tol=AS_COUNTED):
        found.findings.append(causes.ragged(last.passes, configured))
