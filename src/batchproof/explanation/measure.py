"""What averaging over batches reports at each batch size, on the user's own samples.  Knows nothing of causes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from batchproof.explanation.result import Curve, Reading
from batchproof.ground.text import error_line

Score = Callable[[int, int], torch.Tensor]
Progress = Callable[[str, int, int], None]
#: The batch sizes to try, of so many samples.
Sizes = Callable[[int], list[int]]

CALLS = 2048
FEWEST_CALLS = 32
SECONDS = 1.0
#: Batches are tried in runs of so many neighbours.
NEIGHBOURS = 4
#: Where many are affordable in so many runs; what their samples give together is a guide only where they are long.
RUNS, LONG = 32, 16
#: Below this, relative to the values, a difference is one of rounding.
ROUNDING = 1e-6


@dataclass(frozen=True)
class SizeValues:
    """One batch size, every component: what the batches gave, and what their samples give together.

    Of a function that adds over batches ``total`` and ``together`` are the same.
    """

    size: int
    batches: int
    of: int
    last: int
    mean: torch.Tensor
    weighted: torch.Tensor
    dropped: torch.Tensor
    total: torch.Tensor
    magnitude: torch.Tensor
    together: torch.Tensor
    standard_error: torch.Tensor | None
    undefined: int
    raised: str | None


def default_sizes(n: int) -> list[int]:
    """1, 2, 4, ... and n."""
    return [*(2**power for power in range((n - 1).bit_length())), n]


def to_try(given: Sequence[int] | None, marked: int | None, n: int) -> list[int]:
    """The sizes that were asked for, or the usual ones, and the reader's own: those that ``n`` samples can show."""
    wanted = {*(given or default_sizes(n)), *([] if marked is None else [marked])}
    return sorted(size for size in wanted if size <= n) or [n]


def workable(score: Score, n: int, seconds: float = 1.0) -> int:
    """How many samples one call can take in reasonable time: all, unless the work grows like their square."""
    size = min(n, 2048)
    while size < n:
        start = time.perf_counter()
        score(0, size)
        if 5 * (time.perf_counter() - start) > seconds:
            return size
        size = min(n, 2 * size)
    return n


def measure(
    score: Score, n: int, sizes: Sequence[int], progress: Progress | None = None, shuffled: bool = True
) -> tuple[torch.Tensor, list[SizeValues]]:
    """The exact value, and one row for each batch size.

    Args:
        score: what the samples from one number to another give.
        n: how many there are.
        sizes: of batches.
        progress: told of each size.
        shuffled: whether the samples are in random order. They are not where a function depends on their order.
    """
    exact = score(0, n)
    rows = []
    for position, size in enumerate(sizes):
        if progress is not None:
            progress(f"batches of {size}", position, len(sizes))
        allowed = _allowed(score, size, math.ceil(n / size), n)
        if allowed * size < n:
            rows.append(_sampled(score, n, size, exact, allowed, shuffled))
        else:
            rows.append(_row(score, n, size, exact))
    return exact, rows


def _row(score: Score, n: int, size: int, exact: torch.Tensor) -> SizeValues:
    starts = range(0, n, size)
    values, undefined, raised = _values(score, [(start, min(n, start + size)) for start in starts], like=exact)
    last = n % size
    whole = values[:-1] if last else values
    weights = torch.tensor([min(n, start + size) - start for start in starts]).double()[:, None]
    return SizeValues(
        size, len(values), len(values), last,
        values.mean(0), (values * weights).sum(0) / weights.sum(),
        whole.mean(0) if len(whole) else torch.full_like(exact, math.nan),
        values.sum(0), values.abs().mean(0), exact, None, undefined, raised,
    )  # fmt: skip


def _sampled(score: Score, n: int, size: int, exact: torch.Tensor, allowed: int, shuffled: bool) -> SizeValues:
    """The same from some of the whole batches, in runs of neighbours: a run gives one value when taken together."""
    guided = shuffled and allowed >= RUNS * LONG
    per = allowed // RUNS if guided else NEIGHBOURS
    runs = _runs(n // size, per, allowed // per, shuffled, seed=size)
    spans = [(size * number, size * (number + 1)) for run in runs for number in range(run, run + per)]
    values, undefined, raised = _values(score, spans, like=exact)
    together, _, _ = _values(score, [(size * run, size * (run + per)) for run in runs], like=exact)
    mean, error = values.mean(0), None
    if not undefined:
        left, of_runs = 1 - len(spans) * size / n, values.reshape(len(runs), per, -1).mean(1)
        drawn = values if shuffled else of_runs
        error = (drawn.var(0) * (left / len(drawn))).sqrt()
        room = ROUNDING * values.abs().mean(0)
        is_mean = ((of_runs - together).abs() <= room).all(0) & ((mean - exact).abs() <= 4 * error)
        if bool(is_mean.any()):
            is_mean &= _splits(score, n, size, exact, room)
        mean, error = torch.where(is_mean, exact, mean), torch.where(is_mean, 0.0, error)
        if guided:
            tried, _, _ = _values(score, [(0, spans[-1][1])], like=exact)
            mean, error = _without_luck(mean, error, of_runs, together, tried[0], exact, left)
    return SizeValues(
        size, len(spans), math.ceil(n / size), 0, mean, mean, mean,
        values.sum(0), values.abs().mean(0), together.sum(0), error, undefined, raised,
    )  # fmt: skip


def _runs(batches: int, per: int, count: int, shuffled: bool, seed: int) -> list[int]:
    """The first batches of so many runs that do not overlap: of shuffled samples the first are as good as any."""
    if shuffled:
        return [per * run for run in range(count)]
    generator = torch.Generator().manual_seed(seed)
    start = int(torch.randint(batches % per + 1, (), generator=generator))
    return [start + per * int(run) for run in torch.randperm(batches // per, generator=generator)[:count]]


def _without_luck(
    mean: torch.Tensor,
    error: torch.Tensor,
    of_runs: torch.Tensor,
    together: torch.Tensor,
    tried: torch.Tensor,
    exact: torch.Tensor,
    left: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of all batches and its error, by regression on what samples give together, where that helps.

    Args:
        mean: of the batches that were tried.
        error: its own.
        of_runs: the mean of each run's batches.
        together: what each run's samples give at once.
        tried: what the samples of all runs give at once.
        exact: what all samples give.
        left: the share of batches that were not tried.
    """
    runs, middle = len(of_runs), together.mean(0)
    off = together - middle
    spread = off.square().sum(0)
    luck = exact - tried + (middle - tried) * left / (runs - 1)  # what few samples give is off like 1 over their number
    slope = torch.where(spread > 0, (off * of_runs).sum(0) / spread, 0.0)
    rest = (of_runs - of_runs.mean(0) - slope * off).square().sum(0) / (runs - 2)
    better = (rest * (left / runs + luck.square() / spread)).sqrt()
    # what grows with the number of samples (a sum, a maximum) is no guide to a mean
    one = spread / (runs - 1)
    level = (luck.square() <= 16 * one * left / runs) & ((tried - middle).square() <= one / 4)
    helps = level & (better < error)
    return torch.where(helps, mean + slope * luck, mean), torch.where(helps, better, error)


def _splits(score: Score, n: int, size: int, exact: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """Whether the samples, some quarter of them, a quarter of that, … give the mean of what their quarters give.

    Neighbours may be alike (data sorted by class), and then their root, say, is the mean of their roots.
    """
    generator = torch.Generator().manual_seed(n)
    first, batches, whole, holds = 0, n // size, exact, torch.ones_like(exact, dtype=torch.bool)
    while batches > NEIGHBOURS:
        cuts = [first + batches * quarter // 4 for quarter in range(5)]
        spans = [(size * lo, size * hi) for lo, hi in itertools.pairwise(cuts)]
        if first == 0 and batches == n // size:
            spans[-1] = (spans[-1][0], n)
        values, _, _ = _values(score, spans, like=exact)
        weights = torch.tensor([hi - lo for lo, hi in spans]).double()[:, None]
        holds &= ((values * weights).sum(0) / weights.sum() - whole).abs() <= room
        quarter = int(torch.randint(4, (), generator=generator))
        first, batches, whole = cuts[quarter], cuts[quarter + 1] - cuts[quarter], values[quarter]
    return holds


def _values(score: Score, spans: Sequence[tuple[int, int]], like: torch.Tensor) -> tuple[torch.Tensor, int, str | None]:
    """Each batch's values; NaN where the function raised or returned another shape."""
    found, undefined, raised = [], 0, None
    for lo, hi in spans:
        try:
            value = score(lo, hi)
        except Exception as error:  # noqa: BLE001 - a function that fails on small batches is a finding
            raised = raised or error_line(error)
            value = torch.full_like(like, math.nan)
        if value.shape != like.shape:
            raised = raised or f"returns {len(value)} numbers instead of {len(like)}"
            value = torch.full_like(like, math.nan)
        undefined += bool((~value.isfinite() & like.isfinite()).any())
        found.append(value)
    return torch.stack(found), undefined, raised


def _allowed(score: Score, size: int, batches: int, n: int) -> int:
    """How many batches of this size to try: all, or a power of two that takes a second or two."""
    if batches <= FEWEST_CALLS:
        return batches
    each = math.inf
    for _ in range(3):
        start = time.perf_counter()
        try:
            score(0, min(size, n))
        except Exception:  # noqa: BLE001 - counted later
            continue
        each = min(each, max(time.perf_counter() - start, 1e-6))
    affordable = min(CALLS, max(FEWEST_CALLS, 1 << int(math.log2(max(SECONDS / each, 1)))))
    return min(batches, affordable)


def curve(
    exact: torch.Tensor, rows: Sequence[SizeValues], names: Sequence[str], which: int, tolerance: float, **about: object
) -> Curve:
    """The rows of one component, as data for the report."""
    readings = tuple(_reading(row, which) for row in rows)
    magnitudes = [float(row.magnitude[which]) for row in rows if bool(row.magnitude[which].isfinite())]
    scale = max(abs(_finite(exact[which])), min(magnitudes, default=0.0))
    return Curve(
        exact=exact[which].item(),
        readings=readings,
        component=names[which] if len(names) > 1 else "",
        components=len(names),
        tolerance=tolerance,
        scale=scale,
        **about,  # type: ignore[arg-type]
    )


def _reading(row: SizeValues, which: int) -> Reading:
    return Reading(
        size=row.size,
        batches=row.batches,
        of=row.of,
        last=row.last,
        mean=row.mean[which].item(),
        weighted=row.weighted[which].item(),
        dropped=row.dropped[which].item(),
        standard_error=None if row.standard_error is None else _finite(row.standard_error[which]) or None,
        undefined=row.undefined,
        raised=row.raised,
    )


def _finite(value: torch.Tensor) -> float:
    number = value.item()
    return number if math.isfinite(number) else 0.0
