"""From two runs' gradients to the causes: each is tried by the numbers, the plainest first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from batchproof.gradients.check import causes
from batchproof.gradients.check.between import fresh_masks, not_the_sum, other_samples, passed_over
from batchproof.gradients.check.determinism import batch_norms, drops, in_evaluation, without_dropout
from batchproof.gradients.check.factors import Findings, few_parameters, one_factor, short_last
from batchproof.gradients.check.findings import Diagnosis
from batchproof.gradients.check.measure import FLOAT32, distance
from batchproof.gradients.check.over_ranks import over_ranks
from batchproof.gradients.check.parts import by_parts
from batchproof.gradients.check.record import KEEPING, PLAIN, Change, Window
from batchproof.gradients.check.result import GradientCode
from batchproof.gradients.check.runs import ComparedRuns, Pair, first_off, pairs_of

#: What is said where no cause was found.
NOT_NAMED: tuple[GradientCode, ...] = ("coupled", "another-gradient")
#: In float64, what is left of a difference that is rounding is a smaller share than this.
LEFT = 1e-3
#: Rounding does not make more than this share of a gradient, but for sums of very many passes in narrow types.
MOST_ROUNDING = 0.5


def diagnose(subject: ComparedRuns, pairs: list[Pair]) -> Diagnosis:
    """Why they differ.  What takes further runs is tried last."""
    found = Diagnosis()
    found.findings = (
        _not_finite(pairs)
        or short_last(subject, pairs)
        or _plain_factor(subject, pairs)
        or few_parameters(subject, pairs, counted=True)
    )
    if not found.findings:
        _by_running_again(subject, pairs, found)
    return found


def _plain_factor(subject: ComparedRuns, pairs: list[Pair]) -> Findings:
    """One factor that was counted; of ranks, only once it is known how their gradients were put together."""
    return [] if first_off(pairs).world > 1 else one_factor(subject, pairs, counted=True)


def is_rounding(subject: ComparedRuns, pairs: Sequence[Pair]) -> bool:
    """Whether gradients in float64 differ by no more than float32 rounds by: something has been through it."""
    if subject.tolerance.given or not subject.tolerance.is_wide:
        return False
    off = [row for pair in pairs for row in pair.off]
    return all(row.difference <= FLOAT32 and row.full is not None and row.accumulated is not None for row in off)


def _not_finite(pairs: list[Pair]) -> Findings:
    rows = [row for pair in pairs for row in pair.rows]
    full = _names(row for row in rows if row.full is not None and not math.isfinite(row.full))
    accumulated = _names(row for row in rows if row.accumulated is not None and not math.isfinite(row.accumulated))
    if not full and not accumulated:
        return []
    where = "in both runs" if full and accumulated else f"in the {'whole-batch' if full else 'accumulated'} run only"
    return [causes.not_finite(full or accumulated, where)]


def _missing(pairs: list[Pair]) -> Findings:
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


def _by_running_again(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    """Is a run the same twice?  Does dropout or BatchNorm do it?  By which weights would it be right?"""
    apart, limit = first_off(pairs).whole.difference, subject.tolerance.with_slack
    repeat, noise = _noise(subject, pairs)
    if repeat > limit:
        found.findings = [causes.nondeterministic(apart, repeat)]
        found.alternatives = ["another loss or another weighting: cannot be told before the run is repeatable"]
        return
    if noise <= limit:
        _without_noise(subject, found)
    elif not drops(subject.model):
        _random(found, apart, noise)
    else:
        with without_dropout(subject.model):
            quiet = pairs_of(subject)
            if not any(pair.off for pair in quiet):
                found.findings = [causes.fresh_masks(apart) if fresh_masks(pairs) else causes.dropout(apart, noise)]
            elif (left := _noise(subject, quiet)[1]) > limit:
                _random(found, first_off(quiet).whole.difference, left, is_off=True)
            else:
                found.notes.append("dropout is off where the cause was sought, and on in the rows above")
                _without_noise(subject, found)


def _noise(subject: ComparedRuns, pairs: Sequence[Pair]) -> tuple[float, float]:
    """How far the same run moves a gradient, and how far other random numbers do, in either of the two runs."""
    full, accumulated = [pair.full for pair in pairs], [pair.accumulated for pair in pairs]
    seeds = [Change(seed=seed) for seed in (1, 2)]
    again, *others = subject.full([PLAIN, *seeds])
    noise = [_moved(other, full) for other in others]
    noise += [_moved(other, accumulated) for other in subject.accumulated(seeds)]
    return _moved(again, full), max(noise)


def _moved(windows: Sequence[Window], since: Sequence[Window]) -> float:
    """The largest distance of a window's gradient from what it was, on any rank."""
    return max(
        min(distance(total, before.total) for total in window.on_ranks or [window.total])
        for window, before in zip(windows, since, strict=False)
    )


def _random(found: Diagnosis, apart: float, noise: float, *, is_off: bool = False) -> None:
    found.findings = [causes.random(apart, noise, is_off)]
    found.alternatives = ["another loss or another weighting: cannot be told while the run is random"]


def _without_noise(subject: ComparedRuns, found: Diagnosis) -> None:
    """The same two runs, now that nothing in them is random: what differs is a rule."""
    pairs = pairs_of(subject, KEEPING)
    found.findings = (
        _missing(pairs)
        or short_last(subject, pairs)
        or over_ranks(subject, pairs)
        or one_factor(subject, pairs)
        or _rounding(subject, pairs)
        or passed_over(pairs)
        or few_parameters(subject, pairs)
        or not_the_sum(subject, pairs)
        or other_samples(pairs)
    )
    if not found.findings:
        _without_batch_norm(subject, pairs, found)
    if not found.findings:
        by_parts(subject, pairs, found)


def _rounding(subject: ComparedRuns, pairs: Sequence[Pair]) -> Findings:
    """In float64 nothing is left of the difference, or next to nothing."""
    apart = max(pair.whole.difference for pair in pairs)
    if subject.tolerance.is_wide or subject.model is None or apart > MOST_ROUNDING:
        return []
    try:
        wide = pairs_of(subject, Change(wide=True))
    except Exception:  # noqa: BLE001 - something in the runs is float32 by name
        return []
    left = max(pair.whole.difference for pair in wide)
    return [causes.rounding(apart, left)] if left <= LEFT * apart else []


def _without_batch_norm(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    """The same with BatchNorm in evaluation mode: is it all, or is there a cause beside it?"""
    norms = batch_norms(subject.model)
    if not norms:
        return
    with in_evaluation(norms):
        still = pairs_of(subject, KEEPING)
    if not any(pair.off for pair in still):
        found.findings = [causes.batch_norm(list(norms))]
        return
    if _moved([pair.full for pair in still], [pair.full for pair in pairs]) <= subject.tolerance.with_slack:
        return  # it was in evaluation mode already, or is not used
    rest = Diagnosis(short_last(subject, still) or one_factor(subject, still))
    if not rest.findings:
        by_parts(subject, still, rest)
    if rest.findings[0].code in NOT_NAMED:
        found.alternatives.append(
            f"BatchNorm in training mode ({causes.some(list(norms))}) may have a part in it, and is not all: in "
            "evaluation mode the gradients differ too"
        )
        return
    found.findings = [*rest.findings, causes.batch_norm(list(norms), "the above is all that is left")]
    found.weights, found.alternatives = rest.weights, rest.alternatives
    found.notes.append("BatchNorm is in evaluation mode where the cause was sought, and not in the rows above")
