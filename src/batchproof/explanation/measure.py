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
#: The samples from one number to another.
Span = tuple[int, int]
Progress = Callable[[str, int, int], None]
#: The batch sizes to try, of so many samples.
Sizes = Callable[[int], list[int]]

#: Calls of the function for all batch sizes together, and how many of them each has at least.
CALLS = 2048
FEWEST_CALLS = 32
SECONDS = 1.0
#: Batches are tried in runs of so many neighbours.
NEIGHBOURS = 4
#: Below this, relative to the values, a difference is one of rounding.
ROUNDING = 1e-6


@dataclass(frozen=True)
class SizeValues:
    """One batch size, every component: what the batches gave, and what their samples give together.

    Of a function that adds over batches ``total`` and ``together`` are the same; ``whole`` is what the samples of its
    whole batches give at once, to be compared with ``dropped``.
    """

    size: int
    batches: int
    of: int
    last: int
    mean: torch.Tensor
    weighted: torch.Tensor
    dropped: torch.Tensor
    whole: torch.Tensor
    total: torch.Tensor
    magnitude: torch.Tensor
    spread: torch.Tensor
    together: torch.Tensor
    standard_error: torch.Tensor | None
    undefined: torch.Tensor
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
    for position, (size, share) in enumerate(zip(sizes, _shares(n, sizes), strict=True)):
        if progress is not None:
            progress(f"batches of {size}", position, len(sizes))
        allowed = min(_allowed(score, size, math.ceil(n / size), n), share)
        if allowed * size < n:
            rows.append(_sampled(score, n, size, exact, allowed, shuffled))
        else:
            rows.append(_row(score, n, size, exact))
    return exact, rows


def _shares(n: int, sizes: Sequence[int]) -> list[int]:
    """How many batches of each size to try: all of the large ones, and of the small ones as many as are left."""
    shares: list[tuple[int, int]] = []
    left = CALLS
    for position, size in sorted(enumerate(sizes), key=lambda pair: -pair[1]):
        waiting = len(sizes) - len(shares)
        share = min(math.ceil(n / size), max(FEWEST_CALLS, left // waiting))
        shares.append((position, share))
        left -= share
    return [share for _, share in sorted(shares)]


def _row(score: Score, n: int, size: int, exact: torch.Tensor) -> SizeValues:
    starts = range(0, n, size)
    values, undefined, raised = _values(score, [(start, min(n, start + size)) for start in starts], like=exact)
    last = n % size
    full = values[:-1] if last else values
    whole = _values(score, [(0, n - last)], like=exact)[0][0] if last and len(full) > 1 else exact
    weights = torch.tensor([min(n, start + size) - start for start in starts]).double()[:, None]
    return SizeValues(
        size, len(values), len(values), last,
        values.mean(0), (values * weights).sum(0) / weights.sum(),
        full.mean(0) if len(full) else torch.full_like(exact, math.nan), whole,
        values.sum(0), values.abs().mean(0), _spread(values), exact, None, undefined, raised,
    )  # fmt: skip


def _sampled(score: Score, n: int, size: int, exact: torch.Tensor, allowed: int, shuffled: bool) -> SizeValues:
    """The same from some of the whole batches, in runs of neighbours: a run gives one value when taken together."""
    runs = _runs(n // size, allowed // NEIGHBOURS, shuffled, seed=size)
    spans = [(size * number, size * (number + 1)) for run in runs for number in range(run, run + NEIGHBOURS)]
    values, undefined, raised = _values(score, spans, like=exact)
    together, _, _ = _values(score, [(size * run, size * (run + NEIGHBOURS)) for run in runs], like=exact)
    of_runs = values.reshape(len(runs), NEIGHBOURS, -1)
    mean, error, left = values.mean(0), None, 1 - len(spans) * size / n
    if not bool(undefined.any()):
        drawn = values if shuffled else of_runs.mean(1)
        error = (drawn.var(0) * (left / len(drawn))).sqrt()
        # what is rare is mostly in no batch that was tried, and may be as frequent as one in so many
        splits, extreme = _descend(score, n, size, exact, usual=mean)
        error = torch.maximum(error, ((extreme - mean).abs() / len(spans)).nan_to_num())
        is_mean = splits & _averages(of_runs, together).all(0)
        if bool(is_mean.any()):
            is_mean &= _descend(score, n, size, exact)[0]
        mean, error = torch.where(is_mean, exact, mean), torch.where(is_mean, 0.0, error)
    return SizeValues(
        size, len(spans), math.ceil(n / size), 0, mean, mean, mean, exact,
        values.sum(0), values.abs().mean(0), _spread(values), together.sum(0), error, undefined, raised,
    )  # fmt: skip


def _runs(batches: int, count: int, shuffled: bool, seed: int) -> list[int]:
    """The first batches of so many runs that do not overlap: of shuffled samples the first are as good as any."""
    if shuffled:
        return [NEIGHBOURS * run for run in range(count)]
    generator = torch.Generator().manual_seed(seed)
    start = int(torch.randint(batches % NEIGHBOURS + 1, (), generator=generator))
    order = torch.randperm(batches // NEIGHBOURS, generator=generator)
    return [start + NEIGHBOURS * int(run) for run in order[:count]]


def _averages(values: torch.Tensor, together: torch.Tensor) -> torch.Tensor:
    """Whether the mean of each run's values is what its samples give at once, up to rounding."""
    return (values.mean(1) - together).abs() <= ROUNDING * values.abs().mean(1)


def _descend(
    score: Score, n: int, size: int, exact: torch.Tensor, usual: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Go from all samples to a quarter of them, to a quarter of that, … to one batch.

    Neighbours may be alike (data sorted by class), and then their root, say, is the mean of their roots; of parts of
    every length it is not.  The quarter that stands out holds the few samples that a limit or a root shows on.

    Args:
        score: what the samples from one number to another give.
        n: how many there are.
        size: of the batch at the end.
        exact: what all of them give.
        usual: what a batch gives as a rule: the quarter furthest from it is gone into, or one drawn by chance if None.

    Returns:
        Whether all gave the mean of what their quarters gave, and what the batch at the end gives.
    """
    generator = torch.Generator().manual_seed(n)
    first, batches, whole, holds = 0, n // size, exact, torch.ones_like(exact, dtype=torch.bool)
    while batches > 1:
        parts = min(batches, 4)
        cuts = [first + batches * part // parts for part in range(parts + 1)]
        spans = [(size * lo, size * hi) for lo, hi in itertools.pairwise(cuts)]
        if first == 0 and batches == n // size:
            spans[-1] = (spans[-1][0], n)
        values, _, _ = _values(score, spans, like=exact)
        weights = torch.tensor([hi - lo for lo, hi in spans]).double()[:, None]
        room = ROUNDING * values.abs().mean(0)
        holds &= ((values * weights).sum(0) / weights.sum() - whole).abs() <= room
        if usual is None:
            part = int(torch.randint(parts, (), generator=generator))
        else:
            part = int((values - usual).abs().nan_to_num().sum(1).argmax())
        first, batches, whole = cuts[part], cuts[part + 1] - cuts[part], values[part]
    return holds, whole


def _spread(values: torch.Tensor) -> torch.Tensor:
    return values.amax(0) - values.amin(0)


def _values(score: Score, spans: Sequence[Span], like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, str | None]:
    """Each batch's values; NaN where the function raised or returned another shape."""
    found, undefined, raised = [], torch.zeros_like(like, dtype=torch.int64), None
    for lo, hi in spans:
        try:
            value = score(lo, hi)
        except Exception as error:  # noqa: BLE001 - a function that fails on small batches is a finding
            raised = raised or error_line(error)
            value = torch.full_like(like, math.nan)
        if value.shape != like.shape:
            raised = raised or f"returns {len(value)} numbers instead of {len(like)}"
            value = torch.full_like(like, math.nan)
        undefined += ~value.isfinite() & like.isfinite()
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
        whole=row.whole[which].item(),
        standard_error=None if row.standard_error is None else _finite(row.standard_error[which]) or None,
        undefined=int(row.undefined[which]),
        raised=row.raised,
    )


def _finite(value: torch.Tensor) -> float:
    number = value.item()
    return number if math.isfinite(number) else 0.0
