"""Differences that are a question of weights: of the micro-batches, or of the terms that the loss is the sum of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from batchproof.gradients.check import causes, loop_causes, rank_causes
from batchproof.gradients.check.between import blur_of, other_numbers
from batchproof.gradients.check.factors import AS_COUNTED, configured_of, few_parameters
from batchproof.gradients.check.findings import Diagnosis
from batchproof.gradients.check.least_squares import weigh
from batchproof.gradients.check.measure import combined, distance, norm, product
from batchproof.gradients.check.record import Change, Gradients, for_each_pass
from batchproof.gradients.check.result import MicroBatchWeights
from batchproof.gradients.check.runs import ComparedRuns, Pair, first_off, pairs_of, room_for


def by_parts(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    """A few parameters, the weights of the micro-batches, or those of single terms."""
    found.findings = few_parameters(subject, pairs)
    if not found.findings:
        _weighed(subject, pairs, found)
    if not found.findings:
        _by_terms(subject, pairs, found)
    if not found.findings:
        found.findings = other_numbers(pairs)
    if not found.findings:
        _not_named(pairs, found)


def _weighed(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    pair = first_off(pairs)
    # a factor for all parameters is no question of weights
    passes, ranks = pair.accumulated.passes, pair.accumulated.ranks
    apart = distance(pair.accumulated.total, pair.full.total)
    weights = weigh(pair.full.total, passes, _counts(subject, pair), room_for(subject, pair), ranks)
    if weights is None:
        return
    weights = replace(weights, factors=tuple(factor / _counts_now(pair) for factor in weights.factors))
    if not weights.fits and _last_alone(weights.factors, blur_of(subject)):
        found.findings = [loop_causes.running_total(len(passes))]
        return
    several = len(passes) // max(1, len(next(iter(subject.counts.values()), passes)))
    if several > 1 and not weights.fits and (said := _in_turns(weights, several)):
        found.findings = [causes.two_denominators(said)]
        return
    found.weights = weights
    if _is_of_ranks(weights):
        found.findings = [rank_causes.mean_of_ranks(weights, apart, option=subject.option)]
        return
    found.findings = [causes.mean_of_means(weights, apart, option=subject.option)]
    if not weights.fits:
        found.alternatives.append("a nonlinear function of a mean, such as a root, has weights that equal no count")
        return
    # a mean of n means that were divided by d has factors that sum to d
    if not ranks and math.isclose(sum(weights.factors), 1, rel_tol=AS_COUNTED):
        direction = math.sqrt(max(0.0, 1 - pair.whole.cosine**2))
        found.findings = [
            causes.missing_division(f"about {len(passes)}"),
            causes.mean_of_means(weights, direction, "after that "),
        ]
    _ragged_too(subject, pairs, found)


def _counts(subject: ComparedRuns, pair: Pair) -> dict[str, list[float]]:
    """By name, one number for each pass."""
    passes = len(pair.accumulated.passes)
    given = {name: for_each_pass(numbers, passes) for name, numbers in subject.counts.items()}
    return given or pair.accumulated.counts


def _in_turns(weights: MicroBatchWeights, several: int) -> list[causes.TermSays]:
    """Where each micro-batch makes several passes: what its first is right by, what its second is, and so on."""
    said = []
    for turn in range(several):
        factors = weights.factors[turn::several]
        fits = [name for name, counts in weights.counts.items() if _are_alike(factors, counts[turn::several])]
        if not fits:
            return []
        is_right = _are_alike(factors, [1.0] * len(factors)) and math.isclose(factors[0], 1, rel_tol=AS_COUNTED)
        said.append(
            causes.TermSays(turn + 1, "a pass of its own", "right" if is_right else "weighted", " or ".join(fits))
        )
    return said


def _are_alike(factors: Sequence[float], counts: Sequence[float]) -> bool:
    """Whether one is a multiple of the other."""
    return all(
        math.isclose(factor * sum(counts), count * sum(factors), rel_tol=AS_COUNTED)
        for factor, count in zip(factors, counts, strict=True)
    )


def _counts_now(pair: Pair) -> float:
    """How much each pass counts in the gradient now: 1, and 1 over the world size where ranks are averaged."""
    together = combined(pair.accumulated.passes, [1.0] * len(pair.accumulated.passes))
    size = norm(together) ** 2
    return (product(pair.accumulated.total, together) / size if size else 1.0) or 1.0


def _last_alone(factors: Sequence[float], blur: float) -> bool:
    """Whether only the last pass should count: each goes back through those before it once more."""
    return len(factors) > 1 and all(abs(factor) < blur * abs(factors[-1]) for factor in factors[:-1])


def _is_of_ranks(weights: MicroBatchWeights) -> bool:
    """Whether the passes of one rank should all count alike, and those of another rank otherwise."""
    if not weights.ranks:
        return False
    if weights.fits:
        return weights.fits[0].endswith("of each rank")
    of: dict[int, list[float]] = {}
    for rank, factor in zip(weights.ranks, weights.factors, strict=True):
        of.setdefault(rank, []).append(factor)
    alike = all(math.isclose(min(factors), max(factors), rel_tol=AS_COUNTED) for factors in of.values())
    return alike and any(len(factors) > 1 for factors in of.values())


def _ragged_too(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    """Whether the short last window, beside its wrong weights, is divided by the micro-batches of a full one."""
    last, configured = pairs[-1], configured_of(subject, pairs)
    if not 0 < last.passes < configured:
        return
    weights = weigh(last.full.total, last.accumulated.passes, last.accumulated.counts, room_for(subject, last))
    if weights is not None and weights.fits and math.isclose(sum(weights.factors), configured, rel_tol=AS_COUNTED):
        found.findings.append(causes.ragged(last.passes, configured))


def _by_terms(subject: ComparedRuns, pairs: list[Pair], found: Diagnosis) -> None:
    """Each term of the loss by itself: which are right as they are, and by which weights the others would be."""
    names = first_off(pairs).accumulated.terms
    if len(names) < 2 or len(first_off(pairs).full.terms) != len(names):
        return
    number = pairs.index(first_off(pairs))
    said: list[causes.TermSays] = []
    for term, name in enumerate(names):
        pair = pairs_of(subject, Change(keep_passes=True, term=term))[number]
        says = _of_term(subject, pair)
        if says is None:
            found.alternatives.append(
                f"of the {len(names)} terms of the loss, term {term + 1} ({name}) is not right by any weights"
            )
            return
        said.append(causes.TermSays(term + 1, name, *says))
    if any(one.says == "added" for one in said):
        found.findings = [causes.term_added([one for one in said if one.says == "added"], first_off(pairs).passes)]
    if any(one.says == "weighted" for one in said):
        found.findings.append(causes.two_denominators(said))


def _of_term(subject: ComparedRuns, pair: Pair) -> tuple[causes.TermIs, str] | None:
    """Whether one term is right, is added whole by each pass, or is right by other weights, and by which."""
    full, total, limit = pair.full.total, pair.accumulated.total, room_for(subject, pair)
    if not norm(full) or not pair.off:
        return ("right", "") if not pair.off else None
    passes = pair.accumulated.passes
    if all(distance(one, full) <= limit for one in passes) and distance(total, _times(full, len(passes))) <= limit:
        return "added", ""
    weights = weigh(full, passes, _counts(subject, pair), limit, pair.accumulated.ranks)
    return None if weights is None else ("weighted", " or ".join(weights.fits))


def _times(gradients: Gradients, factor: float) -> Gradients:
    return combined([gradients], [factor])


def _not_named(pairs: list[Pair], found: Diagnosis) -> None:
    pair = first_off(pairs)
    passes = pair.accumulated.passes
    numbers = sum(gradient.numel() for gradient in pair.full.total.values())
    was_weighed = len(passes) > 1 and numbers > 2 * len(passes) and norm(pair.full.total) > 0
    found.findings = [causes.coupled(distance(pair.accumulated.total, pair.full.total), was_weighed)]
    found.alternatives += [
        "a loss that takes all samples of a batch together: contrastive, correlation, Dice, a balance loss",
        "terms of the loss that divide by different counts, each a mean of its own",
        "the two runs do not see the same samples, or see them padded to another length without a mask",
    ]
