"""What several ranks made of their gradients: whether all have the same, and how it is made of what each brought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from batchproof.gradients.check import rank_causes
from batchproof.gradients.check.between import MISSING, blur_of, by_weights, multiple_of
from batchproof.gradients.check.calls import seen
from batchproof.gradients.check.factors import AS_COUNTED, Findings
from batchproof.gradients.check.least_squares import made_of
from batchproof.gradients.check.measure import combined, distance, norm, product
from batchproof.gradients.check.record import Gradients, Window
from batchproof.gradients.check.runs import ComparedRuns, Pair, first_off, room_for


def over_ranks(subject: ComparedRuns, pairs: Sequence[Pair]) -> Findings:
    """What went wrong where gradients went from rank to rank."""
    pair = first_off(pairs)
    window, limit = pair.accumulated, room_for(subject, pair)
    if not window.on_ranks or not any(window.passes):
        return []
    own = [_sum_of(window, rank) for rank in range(window.world)]
    totals = window.on_ranks
    if any(distance(total, totals[0]) > limit for total in totals):
        return _apart(subject, pair, own)
    if (factor := multiple_of(totals[0], combined(own, [1.0] * len(own)), limit)) is not None:
        return _as_one(pair, factor)
    weights = made_of(totals[0], own, limit)
    if weights is not None:
        return _of_some(weights)
    return _of_steps(subject, window, limit)


def _of_steps(subject: ComparedRuns, window: Window, limit: float) -> Findings:
    """What went wrong from one micro-batch to the next, on all ranks alike or on each in its own way."""
    steps = made_of(window.total, _steps(window), limit)
    if steps is not None and _grow(steps, window.world):
        return [rank_causes.reduced_each_time(window.world)]
    weights = steps if steps is not None else made_of(window.total, window.passes, limit)
    return [] if weights is None else by_weights(weights, blur_of(subject))


def _sum_of(window: Window, rank: int) -> Gradients:
    """What all passes of one rank brought."""
    passes = [brought for brought, of in zip(window.passes, window.ranks, strict=True) if of == rank]
    return combined(passes, [1.0] * len(passes))


def _steps(window: Window) -> list[Gradients]:
    """What the first passes of all ranks brought, what the second ones did, and so on."""
    of_rank: dict[int, int] = {}
    steps: list[list[Gradients]] = []
    for brought, rank in zip(window.passes, window.ranks, strict=True):
        place = of_rank[rank] = of_rank.get(rank, -1) + 1
        steps.extend([] for _ in range(place + 1 - len(steps)))
        steps[place].append(brought)
    return [combined(passes, [1.0] * len(passes)) for passes in steps]


def _grow(weights: Sequence[float], world: int) -> bool:
    """Whether each step counts as many times the next one as there are ranks."""
    pairs = list(pairwise(weights))
    return bool(pairs) and all(math.isclose(a, world * b, rel_tol=AS_COUNTED) for a, b in pairs)


def _apart(subject: ComparedRuns, pair: Pair, own: Sequence[Gradients]) -> Findings:
    """Ranks end with different gradients."""
    window, limit = pair.accumulated, room_for(subject, pair)
    totals = window.on_ranks
    if all(_along(total, mine) <= limit for total, mine in zip(totals, own, strict=True)):
        return [rank_causes.not_reduced(window.world)]
    if all(_along(total, totals[0]) <= limit for total in totals):
        factors = [product(total, totals[0]) / norm(totals[0]) ** 2 for total in totals]
        return [rank_causes.own_denominators(factors, _fitting(subject, pair, factors))]
    return [rank_causes.ranks_differ(max(distance(total, totals[0]) for total in totals))]


def _along(one: Gradients, other: Gradients) -> float:
    """How far a gradient is from the nearest multiple of another, as a share of its own size."""
    size = norm(other) ** 2
    return distance(combined([other], [product(one, other) / size]), one) if size else math.inf


def _fitting(subject: ComparedRuns, pair: Pair, factors: Sequence[float]) -> list[str]:
    """The counts that ranks were divided by."""
    found = []
    for name, totals in counted_on(subject, pair).items():
        if all(totals) and all(
            math.isclose(factor * total, factors[0] * totals[0], rel_tol=AS_COUNTED)
            for factor, total in zip(factors, totals, strict=True)
        ):
            found.append(name)
    return found


def counted_on(subject: ComparedRuns, pair: Pair) -> dict[str, list[float]]:
    """By name, what each rank counted."""
    window = pair.accumulated
    counts = {name: list(numbers) for name, numbers in subject.counts.items()} or window.counts
    return {
        name: [
            sum(n for n, of in zip(numbers, window.ranks, strict=False) if of == rank) for rank in range(window.world)
        ]
        for name, numbers in counts.items()
    }


def _as_one(pair: Pair, factor: float) -> Findings:
    """All ranks count alike in the gradient that they have in common, and this many times."""
    world = pair.world
    is_larger = pair.whole.cosine > 1 - AS_COUNTED and math.isclose(pair.whole.ratio, world, rel_tol=AS_COUNTED)
    return [rank_causes.reduced_twice(world)] if is_larger and math.isclose(factor, world, rel_tol=AS_COUNTED) else []


def _of_some(weights: Sequence[float]) -> Findings:
    """All ranks have the same gradient, in which some count otherwise than others."""
    largest = max(map(abs, weights))
    lost = [rank for rank, weight in enumerate(weights) if abs(weight) < MISSING * largest]
    return [rank_causes.ranks_lost(lost, len(weights))] if lost else []


def same_everywhere(window: Window) -> bool:
    """Whether all ranks saw the same samples."""
    if window.world < 2 or not window.calls:
        return False
    calls = [call for call in window.calls if call.has_graph]
    share = len(calls) // window.world
    ranks = [seen(calls[rank * share : (rank + 1) * share]) for rank in range(window.world)]
    return bool(ranks[0]) and all(rank == ranks[0] for rank in ranks)
