"""Differences that are one factor for the whole gradient, or a factor for a few parameters of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from batchproof.explanation import Finding
from batchproof.gradients.check import causes, rank_causes
from batchproof.gradients.check.result import GradientCode, ParameterGradient
from batchproof.gradients.check.runs import ComparedRuns, Pair, first_off, is_factor

Findings = list[Finding[GradientCode]]
#: The relative difference up to which a weight is taken for a ratio of counts.
AS_COUNTED = 1e-3
#: Off parameters stand out only where they are fewer than this share of all.
FEW = 1 / 3
#: The others are right where they differ by less than this share of what those differ by.
ALIKE = 0.1
ROUND_NORMS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


def configured_of(subject: ComparedRuns, pairs: Sequence[Pair]) -> int:
    """Micro-batches of a full window."""
    return subject.configured or max(pair.passes for pair in pairs)


def short_last(subject: ComparedRuns, pairs: list[Pair]) -> Findings:
    """Only the last window is off, by the share of its micro-batches."""
    last, configured = pairs[-1], configured_of(subject, pairs)
    if any(pair.off for pair in pairs[:-1]) or not 0 < last.passes < configured:
        return []
    factor = last.passes / configured
    return [causes.ragged(last.passes, configured)] if is_factor(last, factor, subject.tolerance) else []


def one_factor(subject: ComparedRuns, pairs: list[Pair], *, counted: bool = False) -> Findings:
    """In every window that is off, one factor for all parameters; if ``counted`` one that equals something."""
    off = [pair for pair in pairs if pair.off]
    first, several = off[0], any(pair.passes > 1 for pair in off)

    def is_everywhere(factor: Callable[[Pair], float]) -> bool:
        return all(factor(pair) and is_factor(pair, factor(pair), subject.tolerance) for pair in off)

    if first.world > 1 and first.world != first.passes:
        if is_everywhere(lambda pair: pair.world):
            return [rank_causes.world_size(first.world, is_larger=True)]
        if is_everywhere(lambda pair: 1 / pair.world):
            return [rank_causes.world_size(first.world, is_larger=False)]
    if several and is_everywhere(lambda pair: pair.passes):
        return [causes.missing_division(_numbers(off), _or_ranks(first))]
    if several and is_everywhere(lambda pair: 1 / pair.passes if pair.passes else 0):
        return [causes.divided_twice(_numbers(off), _or_ranks(first))]
    part = next((pair for pair in off if 0 < pair.filled < pair.passes * pair.world), None)
    if part is not None and is_everywhere(lambda pair: pair.filled / (pair.passes * pair.world)):
        return [causes.empty_micro_batches(part.filled, part.passes * part.world)]
    if part is not None and is_everywhere(lambda pair: pair.filled):
        return [
            causes.missing_division_by_filled([pair.filled for pair in off]),
            causes.empty_micro_batches(part.filled, part.passes * part.world, "once divided by all of them "),
        ]
    if not is_everywhere(lambda pair: pair.whole.ratio):
        return []
    for which, size in (("accumulated", first.whole.accumulated), ("full", first.whole.full)):
        near = [number for number in ROUND_NORMS if math.isclose(size, number, rel_tol=1e-5)]
        if near:
            return [causes.clipped(near[0], which)]
    called = _called(off, subject)
    return [causes.constant_factor([pair.whole.ratio for pair in off], called)] if called or not counted else []


def _or_ranks(pair: Pair) -> str:
    """What else there are as many of."""
    return " (there are as many ranks)" if pair.world == pair.passes > 1 else ""


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
    if pair.world > 1:
        numbers["the world size"] = pair.world
        numbers["the number of micro-batches on all ranks"] = pair.passes * pair.world
    for name, counts in (subject.counts or pair.accumulated.counts).items():
        numbers[f"all {name}"] = sum(counts)
        if len(set(counts)) == 1:
            numbers[f"the {name} of a micro-batch"] = counts[0]
        for rank in range(pair.world if pair.world > 1 else 0):
            own = sum(n for n, of in zip(counts, pair.accumulated.ranks, strict=False) if of == rank)
            if own and sum(counts) != own * pair.world:
                numbers[f"all {name} over those of rank {rank}"] = sum(counts) / own
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


def few_parameters(subject: ComparedRuns, pairs: list[Pair], *, counted: bool = False) -> Findings:
    """The others are right; if ``counted``, these few are off by the number of micro-batches."""
    pair = first_off(pairs)
    off = pair.off
    if not off or len(off) > max(1, FEW * len(pair.rows)) or len(off) == len(pair.rows) or _all_drift(pair):
        return []
    if counted and not all(_counted(row, pair.passes) for row in off):
        return []
    what = _of_one(off[0], pair) if len(off) == 1 else f"by up to {causes.share(max(row.difference for row in off))}"
    tied = [name for row in off for name in subject.tied.get(row.name, ())]
    return [causes.some_parameters([row.name for row in off], tied, what)]


def _all_drift(pair: Pair) -> bool:
    """Whether those that pass differ too, by less than is allowed but by as much as those that do not."""
    least = min(row.difference for row in pair.off)
    others = [row for row in pair.rows if row.is_same and row.full and row.difference * row.full > pair.room[row.name]]
    return any(row.difference > ALIKE * least for row in others)


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
