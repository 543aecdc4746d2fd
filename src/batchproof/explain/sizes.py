"""What averaging over batches reports at each batch size, on the user's own samples.  Knows nothing of causes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from batchproof.explain.explanation import Curve, Reading

Score = Callable[[int, int], torch.Tensor]
Progress = Callable[[str, int, int], None]
#: The batch sizes to try, of so many samples.
Sizes = Callable[[int], list[int]]

CALLS = 2048
FEWEST_CALLS = 32
SECONDS = 1.0
GROUPS = 8


@dataclass(frozen=True)
class Row:
    """One batch size, every component: what the batches gave, and what their samples give together."""

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
    score: Score, n: int, sizes: Sequence[int], progress: Progress | None = None
) -> tuple[torch.Tensor, list[Row]]:
    """The exact value, and one row for each batch size."""
    exact = score(0, n)
    rows = []
    for position, size in enumerate(sizes):
        if progress is not None:
            progress(f"batches of {size}", position, len(sizes))
        rows.append(_row(score, n, size, exact))
    return exact, rows


def _row(score: Score, n: int, size: int, exact: torch.Tensor) -> Row:
    starts = list(range(0, n, size))
    allowed = _allowed(score, size, len(starts), n)
    sampled = allowed < len(starts)
    # the samples are shuffled: the first batches are as good a draw as any, and they are whole
    chosen = starts[:allowed]
    stop = min(n, chosen[-1] + size)
    values, lengths, undefined, raised = _values(score, chosen, size, n, like=exact)
    whole = values[lengths == size]
    weights = lengths.double()[:, None]
    weighted = (values * weights).sum(0) / weights.sum()
    mean, dropped = values.mean(0), whole.mean(0) if len(whole) else torch.full_like(exact, math.nan)
    together, error = exact, None
    if sampled and not undefined:
        # what these samples give together serves as a control variate: it takes out their own luck
        together = score(0, stop)
        luck = exact - together
        mean, weighted, dropped = mean + luck, weighted + luck, dropped + luck
        error = _standard_error(score, values, chosen, size, n)
    last = 0 if sampled or n % size == 0 else n % size
    return Row(
        size, len(chosen), len(starts), last, mean, weighted, dropped,
        values.sum(0), values.abs().mean(0), together, error, undefined, raised,
    )  # fmt: skip


def _values(
    score: Score, starts: Sequence[int], size: int, n: int, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, int, str | None]:
    """Each batch's values; NaN where the function raised or returned another shape."""
    found, undefined, raised = [], 0, None
    for start in starts:
        try:
            value = score(start, min(n, start + size))
        except Exception as error:  # noqa: BLE001 - a function that fails on small batches is a finding
            raised = raised or _one_line(error)
            value = torch.full_like(like, math.nan)
        if value.shape != like.shape:
            raised = raised or f"returns {len(value)} numbers instead of {len(like)}"
            value = torch.full_like(like, math.nan)
        undefined += bool((~value.isfinite() & like.isfinite()).any())
        found.append(value)
    lengths = torch.tensor([min(n, start + size) - start for start in starts])
    return torch.stack(found), lengths, undefined, raised


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


def _standard_error(score: Score, values: torch.Tensor, starts: Sequence[int], size: int, n: int) -> torch.Tensor:
    per = len(starts) // GROUPS
    gaps = []
    for group in range(GROUPS):
        mine = starts[group * per : (group + 1) * per]
        gaps.append(values[group * per : (group + 1) * per].mean(0) - score(mine[0], min(n, mine[-1] + size)))
    return torch.stack(gaps).std(0) / math.sqrt(GROUPS)


def _one_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def curve(
    exact: torch.Tensor, rows: Sequence[Row], names: Sequence[str], which: int, tolerance: float, **about: object
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


def _reading(row: Row, which: int) -> Reading:
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
