"""Time several callables against each other in one run.

A machine's speed drifts, so every round runs all sides, each time from another one on, and a ratio is the median over
rounds of the ratio within a round.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping

Times = dict[str, list[float]]

CHUNK = 3e-4  # seconds that one side runs at a time: long beside the clock, short beside the drift


def side_by_side(sides: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Seconds per call of each side, one figure per round."""
    calls = {name: _calls_in_a_chunk(side) for name, side in sides.items()}
    names = list(sides)
    times: Times = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            start = number % len(names)
            for name in names[start:] + names[:start]:
                times[name].append(_seconds(sides[name], calls[name]))
    finally:
        gc.enable()
    return times


def _seconds(side: Callable[[], object], calls: int) -> float:
    repeats = range(calls)
    start = time.perf_counter()
    for _ in repeats:
        side()
    return (time.perf_counter() - start) / calls


def _calls_in_a_chunk(side: Callable[[], object]) -> int:
    for _ in range(50):
        side()
    return min(200, max(1, math.ceil(CHUNK / min(_seconds(side, 5) for _ in range(5)))))


def ratio(times: Times, ours: str, theirs: str) -> float:
    return statistics.median(a / b for a, b in zip(times[ours], times[theirs], strict=True))


def microseconds(times: Times, side: str) -> float:
    return 1e6 * statistics.median(times[side])


def geometric_mean(ratios: Iterable[float]) -> float:
    return statistics.geometric_mean(ratios)
