"""A sum around a statistic at the centre of the end, made of the sums that were kept at fixed centres."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from batchproof.derive.operators import VIEWS, base_name
from batchproof.derive.summand import Centre, Direction, Summand, SummandRows
from batchproof.derive.weights import equilibrated


@dataclass
class Level:
    """Probes at one distance from the data: weights found on them are exact where the statistic lies as far."""

    probes: list[SummandRows]
    inverse: torch.Tensor  # (elements, centres, probes)


@dataclass
class Taylor:
    """Weights in closed form: powers of the statistics' moves.

    Where a statistic does not move in the expansion (a standard deviation that divides), the sum must be proportional
    to a function of it, which a probe shows.
    """

    probe: SummandRows | None
    there: torch.Tensor  # the sum on the probe at the centre, (elements)

    def weights(
        self, part: Summand, centres: Sequence[Centre], at: Centre, shared: dict[int, torch.Tensor]
    ) -> torch.Tensor:
        """(elements or 1, centres): how the sum, or with ``at.powers`` its coefficient, is made of those kept."""
        base = centres[0]
        moves = [_move(at, base, direction) for direction in base.directions]
        ratio: Any = 1.0
        if self.probe is not None:
            still = Centre(dict(at.stats), dict(at.free))
            for direction in base.directions:
                known, own = (still.free, base.free) if direction.free else (still.stats, base.stats)
                known[direction.index] = own[direction.index]
            ratio = part.run(still, self.probe, shared).reshape(-1) / self.there
        columns = []
        for centre in centres:
            weight: Any = ratio * (centre.factor / at.factor) if at.powers else ratio * centre.factor
            for number, power in enumerate(centre.powers):
                less = at.powers[number] if at.powers else 0
                weight = weight * math.comb(power, less)
                for _ in range(power - less):
                    weight = weight * moves[number]
            columns.append(torch.as_tensor(weight, dtype=torch.float64, device=self.there.device).reshape(-1))
        size = max(column.shape[0] for column in columns)
        return torch.stack([column.expand(size) for column in columns], 1)


def _move(at: Centre, base: Centre, direction: Direction) -> Any:
    if direction.free:
        return at.free[direction.index] - base.free[direction.index]
    return (at.stats[direction.index] - base.stats[direction.index]).reshape(-1)


@dataclass
class CentredSum:
    """A conditional sum that is kept at fixed centres, and what finds the weights at another one."""

    summand: Summand
    centres: list[Centre]
    levels: list[Level]
    taylor: Taylor | None = None
    noise: float = 1.0  # how many times a rounding of the kept sums grows in one near them

    def around(self, centres: list[Centre], shared: dict[int, torch.Tensor]) -> CentredSum:
        """The sum kept at other centres, of the same kind.

        Args:
            centres: as many as there are.
            shared: the values that no sample reaches.
        """
        taylor = self.taylor
        if taylor is not None and taylor.probe is not None:
            base = Centre(centres[0].stats, centres[0].free)
            taylor = replace(taylor, there=self.summand.run(base, taylor.probe, shared).reshape(-1))
        levels = []
        for level in self.levels:
            table = torch.stack([self.summand.sums(centres, rows, shared) for rows in level.probes], 1)
            levels.append(Level(level.probes, equilibrated(table)))
        return replace(self, centres=centres, levels=levels, taylor=taylor)

    def combine(
        self, at: Centre, kept: torch.Tensor, shared: dict[int, torch.Tensor], nudge: float = 0.0
    ) -> CombinedSum:
        """The sum at a centre, made of the kept ones.

        Args:
            at: the centre.
            kept: (centres, ...), the sums.
            shared: the values that no sample reaches.
            nudge: relative change put on the total, to see whether a result rests on lost digits.
        """
        flat = kept.reshape(kept.shape[0], -1).T
        if self.taylor is not None:
            weights = self.taylor.weights(self.summand, self.centres, at, shared)
            return weigh_sums(
                weights.expand_as(flat), kept, torch.zeros_like(flat[:, 0]), nudge, at, _shifts(self.summand)
            )
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        for level in self.levels:
            sums = torch.cat([self.summand.sums([at], rows, shared) for rows in level.probes], 1)
            weights = (level.inverse @ sums.unsqueeze(-1)).squeeze(-1)
            noise = (level.inverse.abs() @ sums.detach().abs().unsqueeze(-1)).squeeze(-1)
            found.append((weights, (noise * flat.detach().abs()).sum(1)))
        weights, noise = found[0]
        for others, less in found[1:]:
            better = less < noise
            weights = torch.where(better.unsqueeze(1), others, weights)
            noise = torch.where(better, less, noise)
        return weigh_sums(weights, kept, noise, nudge, at, _shifts(self.summand))


def _any_of(at: Centre, test: Callable[[torch.Tensor], torch.Tensor], elements: int) -> torch.Tensor:
    """For each element of a sum, whether a statistic of its own, or of all, is such."""
    found = torch.zeros(elements, dtype=torch.bool)
    for stat in at.stats.values():
        is_such = test(stat).reshape(-1)
        found = found.to(stat.device) | (is_such if len(is_such) in (1, elements) else is_such.any())
    return found


#: Of the bound on the rounding of weights, what is met: it adds up as if all errors had one sign.
MET = 1 / 64


#: Of a sum that cancels to less than this, nothing is known but that it is small.
NOTHING = 1e-12


@dataclass(frozen=True)
class CombinedSum:
    """A centred sum at one centre, made of those at others. Tensors throughout, so that `vmap` can make many."""

    total: torch.Tensor
    overflows: torch.Tensor
    cancels: torch.Tensor  # the worst ratio of its terms' size to the total; infinite where that is zero


def _shifts(part: Summand) -> bool:
    """Whether statistics are only added to samples and taken from them."""
    still = set(part.stats)
    for op in part.ops:
        if still.isdisjoint(op.inputs):
            continue
        if base_name(op) in VIEWS:
            still.update(op.outputs)
        elif base_name(op) not in ("add", "sub", "rsub"):
            return False
    return not part.free


def weigh_sums(
    weights: torch.Tensor, kept: torch.Tensor, noise: torch.Tensor, nudge: float, at: Centre, shifts: bool
) -> CombinedSum:
    """Weigh the sums kept at the centres.

    Where a statistic is infinite, a total that is not finite is not known: with samples of both signs,
    ``(x * s).sum()`` is infinity less infinity for the function, and one infinity for the sums;
    ``(x * s).square().sum()`` is infinite where the sums give no number. Nor is one that is no number where the
    statistic is finite: a sum that was kept overflowed.

    Args:
        weights: (elements, centres).
        kept: (centres, ...), the sums.
        noise: (elements), how large the numbers are that the weights, times the sums, were made from.
        nudge: relative change put on the total, to see whether a result rests on lost digits.
        at: the centre.
        shifts: whether statistics are only added to samples and taken from them.
    """
    flat = kept.reshape(kept.shape[0], -1).T
    terms = weights * flat
    total, size = terms.sum(1), torch.maximum(terms.abs().sum(1), MET * noise)
    sound = torch.isfinite(size)
    vanishes = sound & (total.abs() <= NOTHING * size)
    total = torch.where(vanishes, total - total.detach(), total)  # zero, and its gradient still there
    none = torch.zeros_like(size)
    cancels = torch.where((size == 0) | ~sound, none, size / total.abs())
    if nudge:
        total = total + torch.where(sound, torch.where(vanishes, NOTHING, nudge) * size, none)
    unknown, infinite = (_any_of(at, test, len(total)) for test in (torch.isnan, torch.isinf))
    lost = ~torch.isfinite(total) & ~torch.isfinite(weights).all(1) & ~unknown
    if shifts:  # infinity less infinity: no number, where a sample is infinite as its mean is
        lost &= torch.isinf(total) | torch.isfinite(flat).all(1)
    lost = lost | (torch.isnan(total) & ~torch.isnan(flat).any(1) & ~unknown & ~infinite)
    cancels = torch.where(lost, torch.inf, cancels)
    if nudge:
        total = torch.where(lost, torch.where(torch.isnan(total), 1.0, torch.nan), total)
    worst = cancels.amax() if cancels.numel() else cancels.sum()
    return CombinedSum(total.reshape(kept.shape[1:]), ~torch.isfinite(terms).all(), worst)


@dataclass
class Extremes:
    """The largest ``|x - s|``: of x, the smallest and the largest are enough. Kept as (-min, max), both maxima."""

    summand: Summand
    row: int
    dim: int
    centres: tuple[Centre, ...] = ()

    def at(self, kept: torch.Tensor, centre: Centre, shared: dict[int, torch.Tensor]) -> torch.Tensor:
        rows = torch.cat([-kept[0], kept[1]], self.dim)
        return self.summand.run(centre, SummandRows({self.row: rows}, 2, {}), shared)
