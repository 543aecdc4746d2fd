"""From the two runs to the verdict: run both, compare, and put into words what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import assert_never

from batchproof.errors import BatchproofError
from batchproof.gradients.check import causes
from batchproof.gradients.check.between import not_compared, passed_over
from batchproof.gradients.check.diagnose import diagnose, is_rounding
from batchproof.gradients.check.findings import Diagnosis
from batchproof.gradients.check.over_ranks import counted_on, same_everywhere
from batchproof.gradients.check.record import for_each_pass
from batchproof.gradients.check.result import GradientCheck, ParameterGradient
from batchproof.gradients.check.runs import ComparedRuns, Pair, first_off, pairs_of
from batchproof.ground.text import listed

#: A ratio this near to 1 is no factor to tell somebody.
AS_ONE = 1e-2
#: Numbers that a step returns are the same up to this share.
SAME_NUMBER = 1e-4


def conclude(subject: ComparedRuns, target: str, ran: str = "", notes: Sequence[str] = ()) -> GradientCheck:
    """Run both, compare, and put into words what was found."""
    pairs = pairs_of(subject)
    first = pairs[0]
    for name, numbers in subject.counts.items():
        if len(for_each_pass(numbers, first.passes * first.world)) != first.passes * first.world:
            dropped = passed_over(pairs)
            if dropped:
                break  # which is why they are fewer
            raise BatchproofError(
                f"weights[{name!r}] has {len(numbers)} numbers for {first.passes * first.world} backward passes of "
                "accumulated"
            )
    notes = list(notes)
    found = Diagnosis(not_compared(subject, pairs))
    differs = any(pair.off for pair in pairs)
    if differs and is_rounding(subject, pairs):
        differs = False
        notes.append("the two differ by what float32 rounds by: something in one of them is computed in float32")
    if differs and not found.findings:
        found = diagnose(subject, pairs)
    if any(same_everywhere(pair.accumulated) for pair in pairs):
        notes.append("all ranks saw the same samples: a mistake that depends on their data cannot show")
    notes += filter(None, (_said(subject, pair) for pair in pairs))
    shown = first_off(pairs)
    return GradientCheck(
        target=f"{target}: {_micro_batches(subject.configured or shown.passes, shown.world)} against one batch",
        ok=not differs and not found.findings,
        summary=_failed(found, pairs) if found.findings else _passed(pairs),
        findings=tuple(found.findings),
        parameters=tuple(sorted(_rows(shown, is_same=not differs), key=_badness)),
        windows=tuple(pair.whole if differs else replace(pair.whole, off=0) for pair in pairs),
        weights=found.weights,
        alternatives=tuple(found.alternatives),
        tolerance=subject.tolerance.largest,
        ran=ran,
        notes=(*notes, *found.notes),
        ranks=shown.world,
    )


def _said(subject: ComparedRuns, pair: Pair) -> str:
    """Whether the number that a step returns depends on how the batch is cut, and which mean of the ranks' is right."""
    whole, parts = pair.full.said, pair.accumulated.said
    if not whole or not parts or all(_is_near(part, whole[0]) for part in parts):
        return ""
    where = " on the ranks" if len(parts) > 1 else " of the micro-batches"
    cut = listed([f"{part:.6g}" for part in parts])
    said = f"the number that the step returns depends on the cut: {whole[0]:.6g} of the whole batch, {cut}{where}"
    weights = {"counted alike": [1.0] * len(parts)}
    weights |= {f"weighted by {name}": numbers for name, numbers in counted_on(subject, pair).items()}
    for how, numbers in weights.items():
        total = math.fsum(numbers)
        if len(parts) == len(numbers) > 1 and total:
            mean = math.fsum(n * part for n, part in zip(numbers, parts, strict=True)) / total
            if _is_near(mean, whole[0]):
                return f"{said}, whose mean, {how}, is that of the whole batch"
    return said


def _is_near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SAME_NUMBER)


def _rows(pair: Pair, *, is_same: bool) -> list[ParameterGradient]:
    return [replace(row, is_same=row.is_same or is_same) for row in pair.rows]


def _badness(row: ParameterGradient) -> tuple[bool, float]:
    """The worst first; among equals the order of the model stays."""
    # to three digits: one factor for all is no order
    return row.is_same, 0.0 if row.is_same or math.isnan(row.difference) else -float(f"{row.difference:.2e}")


def _passed(pairs: Sequence[Pair]) -> str:
    largest = max(pair.whole.difference for pair in pairs)
    to = f"to {largest:.0e}" if largest else "to the last bit"
    rows = len(pairs[0].rows)
    everywhere = f"all {rows:,} parameters" if rows > 1 else "its parameter"
    steps = f" and {len(pairs)} optimizer steps" if len(pairs) > 1 else ""
    return f"the gradient is that of the whole batch {to}, in {everywhere}{steps}"


def _failed(found: Diagnosis, pairs: Sequence[Pair]) -> str:
    finding, pair = found.findings[0], first_off(pairs)
    titles = ", and ".join(one.title for one in found.findings)
    code = finding.code
    match code:
        case "random-state":
            return f"could not compare: {finding.title} move the gradient"
        case "nondeterministic":
            return "could not compare: the same run gives another gradient each time"
        case "not-compared":
            return f"nothing was compared: both runs made {_micro_batches(pair.passes)} on the same samples"
        case "one-parameter" | "some-parameters" | "shared-parameter":
            names = causes.some([row.name for row in pair.off])
            return f"the gradient of {names} is not that of the whole batch: {titles}"
        case "missing-gradient" | "non-finite":
            return f"the gradient{_where(pairs)} is not that of the whole batch: {titles}"
        case (
            "missing-division" | "divided-twice" | "constant-factor" | "empty-micro-batches" | "clipped"
            | "ragged-last-window" | "mean-of-means" | "coupled" | "another-gradient" | "batch-norm"
            | "changed-between" | "cleared-between" | "counted-again" | "dropped-micro-batches" | "fresh-masks"
            | "mean-of-rank-means" | "not-reduced" | "other-samples" | "rank-denominator" | "reduced-twice"
            | "rounding" | "running-total" | "scaled-between" | "stepped-between" | "term-added-again"
            | "two-denominators" | "world-size"
        ):  # fmt: skip
            return f"the gradient{_where(pairs)} {_amount(pair)}: {titles}"
        case _:
            assert_never(code)


def _amount(pair: Pair) -> str:
    """How far the gradient is from the right one: by a factor, where it points the same way."""
    if pair.whole.cosine > 1 - 1e-6 and abs(pair.whole.ratio - 1) > AS_ONE:
        return f"is {causes.times(pair.whole.ratio)} that of the whole batch"
    return f"is not that of the whole batch, off by {causes.share(pair.whole.difference)}"


def _where(pairs: Sequence[Pair]) -> str:
    """Which optimizer steps differ, if not all do."""
    off = [index for index, pair in enumerate(pairs, start=1) if pair.off]
    if len(off) == len(pairs):
        return ""
    if off == [len(pairs)]:
        return " of the last optimizer step"
    return f" of optimizer step {off[0]}" + (f" and {len(off) - 1} more" if len(off) > 1 else "")


def _micro_batches(count: int, world: int = 1) -> str:
    said = f"{count} micro-batches" if count > 1 else "1 backward pass" if count else "no backward pass"
    return f"{said} on each of {world} ranks" if world > 1 else said
