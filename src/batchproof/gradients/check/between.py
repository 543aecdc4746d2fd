"""What has to hold before anything is weighed: the runs differ as they should, ``.grad`` is the sum of the passes."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence

import torch

from batchproof.gradients.check import loop_causes
from batchproof.gradients.check.calls import ModelCall, seen, shapes
from batchproof.gradients.check.factors import Findings, configured_of
from batchproof.gradients.check.least_squares import made_of
from batchproof.gradients.check.measure import combined, distance, norm, product
from batchproof.gradients.check.record import Gradients
from batchproof.gradients.check.runs import ComparedRuns, Pair, first_off, room_for

#: A pass that counts for less than this share of the one that counts most is missing; or so many rounding units.
MISSING, ROUNDING = 1e-3, 8


def not_compared(subject: ComparedRuns, pairs: Sequence[Pair]) -> Findings:
    """Both runs did the same: as many backward passes over the same samples."""
    if max(pair.passes for pair in pairs) > max(len(pair.full.passes) // pair.full.world for pair in pairs):
        return []
    if any(pair.world != pair.full.world for pair in pairs):
        return []
    if any(pair.whole.difference or _batches(pair.full.calls) != _batches(pair.accumulated.calls) for pair in pairs):
        return []
    return [loop_causes.not_compared(max(pair.passes for pair in pairs), configured_of(subject, pairs))]


def _batches(calls: Sequence[ModelCall]) -> list[tuple[int, ...]]:
    return [call.rows for call in calls if call.has_graph]


def other_samples(pairs: Sequence[Pair]) -> Findings:
    """The micro-batches do not hold the samples of the whole batch."""
    pair = first_off(pairs)
    full, accumulated = seen(pair.full.calls), seen(pair.accumulated.calls)
    if pair.full.world > 1:
        full = type(full)({row: number / pair.full.world for row, number in full.items()})
    common = full.keys() & accumulated.keys()
    if not common or shapes(pair.full.calls) != shapes(pair.accumulated.calls):
        return []  # padded to another length, say: a sample of one run cannot be found in the other
    missing, extra = full.keys() - common, accumulated.keys() - common
    most, least = (pick(accumulated[row] / full[row] for row in common) for pick in (max, min))
    if not missing and not extra and most == least:
        return []
    again = sum(accumulated[row] > least * full[row] for row in common)
    return [loop_causes.other_samples(len(missing), len(extra), len(full), again)]


def other_numbers(pairs: Sequence[Pair]) -> Findings:
    """The model saw more rows in one run than in the other, which cannot be told from each other one by one."""
    pair = first_off(pairs)
    full, accumulated = (sum(seen(window.calls).values()) for window in (pair.full, pair.accumulated))
    full //= pair.full.world
    if not full or not accumulated or full == accumulated:
        return []
    return [loop_causes.other_numbers(full, accumulated)]


def passed_over(pairs: Sequence[Pair]) -> Findings:
    """Weights moved between the passes, or forward passes that no backward pass came back to."""
    pair = first_off(pairs)
    found: Findings = []
    if pair.accumulated.stepped:
        return [loop_causes.stepped_between(pair.passes)]
    calls = [call for call in pair.accumulated.calls if call.has_graph]
    covered = {row for call in calls if call.reached for row in call.rows}
    left = [number for number, call in enumerate(calls, start=1) if not (call.reached or _is_in(call, covered))]
    full = [call for call in pair.full.calls if call.has_graph]
    if calls and 0 < len(left) < len(calls) and all(call.reached for call in full):
        found.append(loop_causes.dropped(left, len(calls)))
    return found


def _is_in(call: ModelCall, covered: Container[int]) -> bool:
    """Whether the samples of a forward pass went through another one, too: this one was made for something else."""
    return bool(call.rows) and all(row in covered for row in call.rows)


def not_the_sum(subject: ComparedRuns, pairs: Sequence[Pair]) -> Findings:
    """``.grad`` at the end is not what the backward passes brought, up to one factor."""
    pair = first_off(pairs)
    passes, total = pair.accumulated.passes, pair.accumulated.total
    limit = room_for(subject, pair)
    if not any(passes) or not norm(total) or pair.accumulated.on_ranks:
        return []
    if multiple_of(total, combined(passes, [1.0] * len(passes)), limit) is not None:
        return []
    for kept in _runs(len(passes)):
        some = combined([passes[place] for place in kept], [1.0] * len(kept))
        if multiple_of(total, some, limit) is not None:
            return [loop_causes.cleared([n + 1 for n in range(len(passes)) if n not in kept], len(passes))]
    weights = made_of(total, passes, limit)
    if weights is None:
        return [loop_causes.changed_between(len(passes))]
    return by_weights(weights, blur_of(subject))


def _runs(count: int) -> Iterator[range]:
    """The last passes, the first ones, and each alone."""
    yield from (range(start, count) for start in range(count - 1, 0, -1))
    yield from (range(end) for end in range(1, count))
    yield from (range(place, place + 1) for place in range(1, count - 1))


def multiple_of(one: Gradients, other: Gradients, limit: float) -> float | None:
    """Which multiple of another a gradient is; None where it is none."""
    size = norm(other) ** 2
    factor = product(one, other) / size if size else 0.0
    return factor if factor and distance(combined([other], [factor]), one) <= limit else None


def blur_of(subject: ComparedRuns) -> float:
    """How sharply weights of passes can be told from each other."""
    return max(MISSING, ROUNDING * max(torch.finfo(parameter.dtype).eps for parameter in subject.parameters.values()))


def by_weights(weights: Sequence[float], blur: float) -> Findings:
    """From how often each pass counts in ``.grad``: some not at all, some more often, or none alike."""
    largest = max(map(abs, weights))
    lost = [number for number, weight in enumerate(weights, start=1) if abs(weight) < blur * largest]
    kept = [weight for weight in weights if abs(weight) >= blur * largest]
    if lost and max(kept) - min(kept) < blur * largest:
        return [loop_causes.cleared(lost, len(weights))]
    smallest = min(map(abs, kept))
    often = [weight / smallest for weight in weights]
    # what was there before is added again: the earlier a pass, the more often it counts
    if not lost and often == sorted(often, reverse=True) and all(abs(n - round(n)) < blur * n for n in often):
        return [loop_causes.counted_again([round(n) for n in often])]
    return [loop_causes.scaled_between([weight / largest for weight in weights])]


def fresh_masks(pairs: Sequence[Pair]) -> bool:
    """Whether a forward pass without a graph and the one with a graph gave something else for the same samples."""
    for pair in pairs:
        calls = pair.accumulated.calls
        bare = {call.rows: call.output for call in calls if not call.has_graph and call.rows}
        for call in calls:
            first = bare.get(call.rows) if call.has_graph else None
            if first and call.output and not _close(first, call.output):
                return True
    return False


def _close(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-6) for a, b in zip(one, other, strict=True)
    )
