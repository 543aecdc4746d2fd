"""Where a sum around a statistic is looked at: centres near the data and far from them, and rows to sum there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from batchproof.derive.program import Program
from batchproof.derive.summand import Centre, Summand, SummandRows

PROBES = 15


def random_step(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A direction to move a statistic in, away from zero."""
    step = 0.5 + torch.rand(like.shape, generator=generator, dtype=torch.float64)
    if like.dtype.is_complex:
        step = torch.complex(step, torch.randn(like.shape, generator=generator, dtype=torch.float64))
    return step.to(like.device)


def rounded_stat(stat: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """The statistic of the first batch, rounded so that it is the same on every machine."""
    wide = _wide(stat)
    if wide.dtype.is_complex or not bool(torch.isfinite(wide).all()):
        return near
    narrow = wide.float().double()
    away = (near - wide).abs()
    return torch.where((narrow - wide).abs() <= away, narrow, wide)


def rows_away(
    part: Summand, values: dict[int, torch.Tensor], n: int, distance: float, generator: torch.Generator
) -> SummandRows:
    """Rows so many times as far from the data's middle as its ends are."""

    def spread(x: torch.Tensor) -> torch.Tensor:
        finite = x[torch.isfinite(x)] if x.dtype.is_floating_point else x[:0]
        if not finite.numel():
            return _jitter(x, generator)
        low, high = float(finite.min()), float(finite.max())
        width = half_range(x) or 0.1 * abs(low) or 1.0
        noise = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        middle, share = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        away: torch.Tensor = (low + high) / 2 + distance * width * (3 * middle - 1.5 + (0.3 + share) * (2 * noise - 1))
        return away

    picks = _picks(part, values)
    rows = {i: _pick(values[i], picks[i], generator) if i in picks else spread(values[i]) for i in part.rows}
    return SummandRows(rows, n, {key: values[key[0]].shape[key[1]] for key in part.lengths})


def half_range(x: torch.Tensor) -> float:
    """Half the range of values; zero where they are all alike."""
    finite = x[torch.isfinite(x)] if x.dtype.is_floating_point else x[:0]
    if not finite.numel():
        return 0.0
    low, high = float(finite.min()), float(finite.max())
    return (high - low) / 2 if high - low > 1e-9 * max(abs(low), abs(high)) else 0.0


def near_centres(
    program: Program, part: Summand, subsets: Sequence[tuple[dict[int, torch.Tensor], int]], generator: torch.Generator
) -> list[Centre]:
    """Centres near the data: statistics of small batches, each moved on its own.

    So no relation between them stays, nor a sameness of the data. They are rounded, to be the same in float32.
    """
    whole = subsets[-1][0]
    small = [values for values, _ in subsets[:PROBES]]
    spreads = {index: _spread_of(index, small, whole, part, program) for index in part.stats}
    centres = []
    for values in small:
        stats = {}
        for index in part.stats:
            stat, base = _wide(values[index]), _wide(whole[index])
            base = torch.where(torch.isfinite(base), base, torch.ones_like(base))
            stat = torch.where(torch.isfinite(stat), stat, base)
            noise = torch.randn(stat.shape, generator=generator, dtype=torch.float64).to(stat.device)
            moved = stat + noise * spreads[index]
            moved = torch.where((base > 0) & (moved <= 0), base * torch.exp(0.3 * noise), moved)
            stats[index] = moved.float().double()
        free = {}
        for position in part.free:
            seen = float(program.free[position][0])
            free[position] = seen * float(0.5 + torch.rand((), generator=generator)) if seen == seen else seen
        centres.append(Centre(stats, free))
    return centres


def _wide(stat: torch.Tensor) -> torch.Tensor:
    return stat if stat.dtype.is_complex else stat.double()


def _spread_of(
    index: int,
    small: Sequence[dict[int, torch.Tensor]],
    whole: dict[int, torch.Tensor],
    part: Summand,
    program: Program,
) -> torch.Tensor:
    """How far to move a statistic: as much as it differs between small batches, and never by nothing."""
    seen = torch.stack([_wide(values[index]) for values in small])
    seen = torch.where(torch.isfinite(seen), seen, _wide(whole[index]))
    spread = seen.std(0, correction=0) if seen.shape[0] > 1 else torch.zeros_like(seen[0])
    spread = torch.where(torch.isfinite(spread), spread, torch.zeros_like(spread))
    floor = 0.05 * seen.abs().amax(0)
    floor = torch.where(torch.isfinite(floor) & (floor > 0), floor, torch.full_like(floor, 0.5))
    alike = spread <= 1e-6 * seen.abs().amax(0)
    return torch.where(alike, floor, 0.5 * spread)


def far_centre(at: Centre, generator: torch.Generator) -> Centre:
    """A centre far from the data: an identity that holds only near it must show there."""

    def away(stat: torch.Tensor) -> torch.Tensor:
        power = 9 * torch.rand(stat.shape, generator=generator, dtype=torch.float64).to(stat.device) - 3
        sign = torch.where(torch.rand(stat.shape, generator=generator).to(stat.device) < 0.3, -1.0, 1.0)
        return stat * sign * 10**power

    factor = float(10 ** (9 * torch.rand((), generator=generator) - 3))
    return Centre({i: away(s) for i, s in at.stats.items()}, {p: v * factor for p, v in at.free.items()})


def generic_rows(
    part: Summand, values: dict[int, torch.Tensor], n: int, generator: torch.Generator, wide: bool
) -> SummandRows:
    """Rows like a small batch's, with every relation between them broken; or, wide, far from the data at some scale."""
    spread = _scatter if wide else _jitter
    picks = _picks(part, values)
    rows = {i: _pick(values[i], picks[i], generator) if i in picks else spread(values[i], generator) for i in part.rows}
    return SummandRows(rows, n, {key: values[key[0]].shape[key[1]] for key in part.lengths})


def _picks(part: Summand, values: dict[int, torch.Tensor]) -> dict[int, int]:
    """The rows that pick others by number, and how many there are to pick from."""
    found: dict[int, int] = {}
    for op in part.ops:
        name = op.func._schema.name.split("::")[-1]
        if name in ("gather", "index_select", "scatter_add", "index_add"):
            source, dim, picking = op.args[:3]
            found[picking.index] = values[source.index].shape[dim]
        elif name == "index":
            source = values[op.args[0].index]
            found |= {
                leaf.index: source.shape[d]
                for d, leaf in enumerate(op.args[1])
                if leaf is not None and values[leaf.index].dtype is torch.int64
            }
    return found


def _pick(x: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, max(size, 1), x.shape, generator=generator).to(x.device)


def _jitter(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if x.numel() == 0:
        return x
    if x.dtype is torch.bool:
        return torch.rand(x.shape, generator=generator).to(x.device) < 0.6
    if not x.dtype.is_floating_point:
        if x.dtype.is_complex:
            away = torch.complex(*torch.randn(2, *x.shape, generator=generator, dtype=torch.float64))
            return x + 0.3 * away.to(x.device) * x.abs().clamp(min=1e-6)
        noise = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        return x.double() + 3 * noise  # a whole number that enters arithmetic may as well be any number
    finite = x[torch.isfinite(x)]
    if finite.numel() == 0:
        return x
    low, high = finite.min(), finite.max()
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    if float(high - low) > 1e-9 * float(finite.abs().max()):
        return _reflected(x + noise * 0.5 * (high - low) / 3, low, high)
    return x + noise.abs() * (0.1 * x.abs() + (x == 0))


def _reflected(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Values within bounds. None lies on one: a bound is a sample, and probes are saved with a plan."""
    inside = torch.where(x < low, 2 * low - x, torch.where(x > high, 2 * high - x, x))
    return torch.where((inside < low) | (inside > high), (low + high) / 2, inside)


def _scatter(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Values at another scale than the data's: a term that only looks like a polynomial near the data shows there."""
    if x.numel() == 0 or not x.dtype.is_floating_point:
        return _jitter(x, generator)
    finite = x[torch.isfinite(x)]
    if finite.numel() == 0:
        return x
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    low, high = float(finite.min()), float(finite.max())
    draw = float(torch.rand((), generator=generator))
    if draw < 0.4 and low >= -1 and high <= 1:  # it may be a probability, a cosine
        unit = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        return unit if low >= 0 else 2 * unit - 1
    scale = 10 ** (6 * draw - 1)
    if low >= 0:
        return x * torch.exp(noise * (1 + 2 * draw)) + (x == 0) * noise.abs()
    width = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6)
    return (low + high) / 2 + noise * width * scale
