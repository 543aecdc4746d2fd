"""Sums around a batch statistic, kept at a few fixed centres.

A variance sums (y - s)^2 around a mean s that is known only at the end. As a function of s the summand has finite rank:
M(row, s) = w_1(s) M(row, s_1) + ... + w_K(s) M(row, s_K), the same weights for every row.  So it is enough to keep the
sums at K fixed centres s_k; the weights at the s of the end are found on a few probe rows.  (y - s)^2 has rank 3,
(x - s)(y - t) rank 4, exp(x - s) rank 1.

Only operations that are analytic in s are let through (`kinds`), and the rank is found on generic rows and centres: an
identity between analytic functions that holds at generic points holds everywhere.  Centres lie near the data, so this
is also the numerically stable, shifted form of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.func import vmap

from batchproof.derive.kind import MERGEABLE, ROWLIKE, Kind
from batchproof.derive.operators import VIEWS, base_name
from batchproof.derive.powers import NoPolynomial, NoRule, Polynomial, Powers, apply, moved
from batchproof.derive.program import Program
from batchproof.derive.recording import Free, Op, Ref, Size, call, leaves, outputs_of, replace, widen_constant

MOST_CENTRES = 8
PROBES = 15
MOST_WIDE, WIDE_PROBES = 15, 3  # rows far from the data: so many are tried, so few must have a value
FAR_CENTRES = 15
ATTEMPTS = 3
_FIT = 11  # probes that fit the weights; the others test them
MOST_POWERS = 9
DISTANCES = (1.0, 32.0, 1e3, 3e4)  # of the probes that weights are found on
CLOSER = (1e-6, 1e-3)  # where the data are all alike, and show no scale
SPARE = 3  # so many more of them than weights


@dataclass(frozen=True)
class Slice:
    """The operations between unconditional rows and a conditional sum."""

    leaf: int
    ops: tuple[Op, ...]
    rows: tuple[int, ...]
    stats: tuple[int, ...]
    free: tuple[int, ...]
    lengths: tuple[tuple[int, int], ...]

    def run(self, at: Centre, rows: Rows, shared: dict[int, torch.Tensor]) -> torch.Tensor:
        env: dict[int, torch.Tensor] = {**shared, **rows.values, **at.stats}

        def look(leaf: Any) -> Any:
            if isinstance(leaf, Ref):
                return env[leaf.index]
            if isinstance(leaf, Free):
                return at.free[leaf.position]
            return leaf.at(rows.n, rows.lengths)

        for op in self.ops:
            func = op.func.overloadpacket if any(isinstance(x, Free) for x in leaves((op.args, op.kwargs))) else op.func
            result = call(func, op.args, op.kwargs, look)
            env.update(outputs_of(op, result))
        return env[self.leaf]

    def expand(self, at: Centre, rows: Rows, shared: dict[int, torch.Tensor]) -> Polynomial:
        """The sum as a polynomial in the moves of the statistics from a centre.

        Raises:
            NoPolynomial: a statistic that moves enters by an operation without a rule.
        """
        count = len(at.directions)
        moving: dict[tuple[bool, int], Any] = {}
        for number, direction in enumerate(at.directions):
            moving.setdefault((direction.free, direction.index), {})[number] = direction.step
        env: dict[int, Any] = {**shared, **rows.values, **at.stats}
        env |= {i: moved(env[i], moves, count) for (free, i), moves in moving.items() if not free}
        device = next(iter(env.values())).device if env else None
        numbers = dict(at.free)
        for (free, position), moves in moving.items():
            if free:
                value = torch.as_tensor(at.free[position], dtype=torch.float64, device=device)
                numbers[position] = moved(value, moves, count)
        products: dict[tuple[int, int], torch.Tensor] = {}

        def look(leaf: Any) -> Any:
            if isinstance(leaf, Ref):
                return env[leaf.index]
            return numbers[leaf.position] if isinstance(leaf, Free) else leaf.at(rows.n, rows.lengths)

        for op in self.ops:
            given: Any = replace(replace((op.args, op.kwargs), (Ref, Size, Free), look), torch.dtype, widen_constant)
            if any(isinstance(leaf, Polynomial) for leaf in leaves(given)):
                env[op.outputs[0]] = apply(op, given[0], given[1], products)
                continue
            func = op.func.overloadpacket if any(isinstance(x, Free) for x in leaves((op.args, op.kwargs))) else op.func
            env.update(outputs_of(op, call(func, given[0], given[1], look)))
        found = env[self.leaf]
        if not isinstance(found, Polynomial):
            raise NoPolynomial(frozenset(range(count)))
        try:
            units = {powers: (factor, found.unit(powers)) for powers, (factor, _) in found.terms.items()}
        except NoRule:
            raise NoPolynomial(frozenset()) from None
        return Polynomial(found.shape, {**units})

    def sums(self, centres: Sequence[Centre], rows: Rows, shared: dict[int, torch.Tensor]) -> torch.Tensor:
        """What is kept of some rows at each centre, (elements, centres)."""
        if not centres[0].powers:
            return torch.stack([self.run(at, rows, shared).reshape(-1) for at in centres], 1)
        found = self.expand(centres[0], rows, shared)
        return torch.stack([found.unit(at.powers).reshape(-1) for at in centres], 1)


@dataclass(frozen=True)
class Direction:
    """How a statistic moves from a centre: by a step, or by one everywhere (None)."""

    index: int  # of the value; of a Free number, its position
    free: bool
    step: torch.Tensor | None


@dataclass
class Centre:
    """A point s: a value for every statistic that a conditional sum depends on.

    With ``powers`` it stands for a coefficient, up to a number, of the sum as a polynomial in its moves from there.
    """

    stats: dict[int, torch.Tensor]
    free: dict[int, Any]
    powers: Powers = ()
    directions: tuple[Direction, ...] = ()
    factor: float = 1.0  # of the coefficient: it is kept without


@dataclass
class Rows:
    """A few rows, as the slice takes them."""

    values: dict[int, torch.Tensor]
    n: int
    lengths: dict[tuple[int, int], int]


@dataclass
class Level:
    """Probes at one distance from the data: weights found on them are exact where the statistic lies as far."""

    probes: list[Rows]
    inverse: torch.Tensor  # (elements, centres, probes)


@dataclass
class Taylor:
    """Weights in closed form: powers of the statistics' moves.

    Where a statistic does not move in the expansion (a standard deviation that divides), the sum must be proportional
    to a function of it, which a probe shows.
    """

    probe: Rows | None
    there: torch.Tensor  # the sum on the probe at the centre, (elements)

    def weights(
        self, part: Slice, centres: Sequence[Centre], at: Centre, shared: dict[int, torch.Tensor]
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
class Centred:
    """A conditional sum that is kept at fixed centres, and what finds the weights at another one."""

    slice: Slice
    centres: list[Centre]
    levels: list[Level]
    taylor: Taylor | None = None
    noise: float = 1.0  # how many times a rounding of the kept sums grows in one near them

    def combined(self, at: Centre, kept: torch.Tensor, shared: dict[int, torch.Tensor], nudge: float = 0.0) -> Combined:
        """The sum at a centre, made of the kept ones.

        Args:
            at: the centre.
            kept: (centres, ...), the sums.
            shared: the values that no sample reaches.
            nudge: relative change put on the total, to see whether a result rests on lost digits.
        """
        flat = kept.reshape(kept.shape[0], -1).T
        if self.taylor is not None:
            weights = self.taylor.weights(self.slice, self.centres, at, shared)
            return combined(weights.expand_as(flat), kept, torch.zeros_like(flat[:, 0]), nudge, at, _shifts(self.slice))
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        for level in self.levels:
            sums = torch.cat([self.slice.sums([at], rows, shared) for rows in level.probes], 1)
            weights = (level.inverse @ sums.unsqueeze(-1)).squeeze(-1)
            noise = (level.inverse.abs() @ sums.detach().abs().unsqueeze(-1)).squeeze(-1)
            found.append((weights, (noise * flat.detach().abs()).sum(1)))
        weights, noise = found[0]
        for others, less in found[1:]:
            better = less < noise
            weights = torch.where(better.unsqueeze(1), others, weights)
            noise = torch.where(better, less, noise)
        return combined(weights, kept, noise, nudge, at, _shifts(self.slice))


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
class Combined:
    """A centred sum at one centre, made of those at others. Tensors throughout, so that `vmap` can make many."""

    total: torch.Tensor
    overflows: torch.Tensor
    cancels: torch.Tensor  # the worst ratio of its terms' size to the total; infinite where that is zero


def _shifts(part: Slice) -> bool:
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


def combined(
    weights: torch.Tensor, kept: torch.Tensor, noise: torch.Tensor, nudge: float, at: Centre, shifts: bool
) -> Combined:
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
    return Combined(total.reshape(kept.shape[1:]), ~torch.isfinite(terms).all(), worst)


@dataclass
class Extremes:
    """The largest ``|x - s|``: of x, the smallest and the largest are enough. Kept as (-min, max), both maxima."""

    slice: Slice
    row: int
    dim: int
    centres: tuple[Centre, ...] = ()

    def at(self, kept: torch.Tensor, centre: Centre, shared: dict[int, torch.Tensor]) -> torch.Tensor:
        rows = torch.cat([-kept[0], kept[1]], self.dim)
        return self.slice.run(centre, Rows({self.row: rows}, 2, {}), shared)


def find_extremes(program: Program, leaf: int) -> Extremes | None:
    """How to keep a conditional maximum, or None."""
    part = conditional_slice(program, leaf)
    if len(part.rows) != 1 or part.lengths or part.free:
        return None
    return Extremes(part, part.rows[0], program.values[part.rows[0]].dim)


def conditional_slice(program: Program, leaf: int) -> Slice:
    """The operations from unconditional rows to a conditional sum."""
    values = program.values
    ops: set[int] = set()
    rows: set[int] = set()
    stats: set[int] = set()
    free: set[int] = set()
    lengths: set[tuple[int, int]] = set()
    todo = [leaf]
    while todo:
        number = values[todo.pop()].op
        if number is None or number in ops:
            continue
        ops.add(number)
        op = program.ops[number]
        for part in leaves((op.args, op.kwargs)):
            if isinstance(part, Free):
                free.add(part.position)
            elif isinstance(part, Size) and part.of is not None:
                lengths.add(part.of)
            elif isinstance(part, Ref):
                value = values[part.index]
                if value.kind in ROWLIKE and value.given:
                    todo.append(part.index)
                elif value.kind in ROWLIKE:
                    rows.add(part.index)
                elif value.kind in (Kind.STAT, *MERGEABLE):
                    stats.add(part.index)
    ordered = tuple(program.ops[number] for number in sorted(ops))
    return Slice(leaf, ordered, tuple(sorted(rows)), tuple(sorted(stats)), tuple(sorted(free)), tuple(sorted(lengths)))


def find_centres(
    program: Program,
    leaf: int,
    subsets: Sequence[tuple[dict[int, torch.Tensor], int]],
    shared: dict[int, torch.Tensor],
    powers: bool = True,
) -> Centred | None:
    """Centres and probes for a conditional sum, or None where no small number of centres does.

    Args:
        program: classified.
        leaf: the conditional sum.
        subsets: small batches as run on their own: every value of the program, and the number of samples.
        shared: the values that no sample reaches.
        powers: whether power sums around one centre will do, where there are such; else, of a few draws of centres, the
            one is taken that keeps most digits.
    """
    part = conditional_slice(program, leaf)
    best: Centred | None = None
    for attempt in range(ATTEMPTS):
        generator = torch.Generator().manual_seed(len(part.ops) + attempt)
        found = _drawn_centres(program, part, subsets, shared, generator, powers)
        if found is not None and powers:
            return found
        if found is not None and (best is None or found.noise < best.noise):
            best = found
    return best


def _drawn_centres(
    program: Program,
    part: Slice,
    subsets: Sequence[tuple[dict[int, torch.Tensor], int]],
    shared: dict[int, torch.Tensor],
    generator: torch.Generator,
    powers: bool,
) -> Centred | None:
    """Centres and probes of one draw: some take an exponential out of the range of float64, and show nothing."""
    near = _near(program, part, subsets, generator)
    far = [_far(at, generator) for at in near[:FAR_CENTRES]]
    probes = [_generic(part, values, n, generator, wide=False) for values, n in subsets[:PROBES]]
    wide = [_generic(part, values, n, generator, wide=True) for values, n in subsets[:MOST_WIDE]]
    found = _table(part, [*near, *far], probes + wide, shared)
    if found is None:
        return None
    table, centres, all_probes = found
    probes = [probe for probe in all_probes if any(probe is other for other in probes)]
    if len(all_probes) - len(probes) < WIDE_PROBES:
        return None
    count_near = sum(any(at is other for other in near) for at in centres)
    if len(probes) < PROBES - 2 or count_near < 4 or len(centres) - count_near < 3:
        return None
    if bool((table == 0).all(2).all(1).any()):
        return None  # nothing was summed there: nothing shows how it moves
    rows = probes, all_probes[len(probes) :]
    polynomial = _powers(part, subsets, near[0], table, centres, rows, shared, generator) if powers else None
    if polynomial is not None:
        return polynomial
    order = _spread(table[:, :, :count_near])
    for count in range(1, min(MOST_CENTRES, count_near - 2) + 1):
        chosen = order[:count]
        tests = [number for number in range(len(centres)) if number not in chosen]
        if _predicts(table, chosen, tests, len(probes)):
            kept = table[:, : len(probes), chosen]
            noise = _noise(kept, table[:, : len(probes), [n for n in tests if n < count_near]])
            return Centred(part, [centres[number] for number in chosen], [Level(probes, _inverse(kept))], noise=noise)
    return None


def _noise(kept: torch.Tensor, others: torch.Tensor) -> float:
    """How much larger the terms are, at worst, that a sum at another centre near the data is made of."""
    weights = _inverse(kept) @ others
    terms, size = (kept.abs() @ weights.abs()).amax(1), others.abs().amax(1).clamp(min=1e-300)
    return float((terms / size).amax())


def _powers(
    part: Slice,
    subsets: Sequence[tuple[dict[int, torch.Tensor], int]],
    near: Centre,
    table: torch.Tensor,
    tests: Sequence[Centre],
    probes: tuple[Sequence[Rows], Sequence[Rows]],
    shared: dict[int, torch.Tensor],
    generator: torch.Generator,
) -> Centred | None:
    """The sum kept as power sums around one centre, or None where it is no polynomial in the statistics.

    Args:
        part: the conditional sum.
        subsets: as `find_centres` takes them.
        near: a centre near the data, with every statistic moved away from where it may have no value.
        table: (elements, probes, centres), the sum on probes at test centres.
        tests: those centres.
        probes: those probes: near the data, and far from it.
        shared: the values that no sample reaches.
        generator: of the chance in probes.
    """
    for repeats in (1, 2):
        at = _expansion(part, subsets[-1][0], near, repeats, probes[0][0], shared, generator)
        if at is None:
            return None
        terms = part.expand(at, probes[0][0], shared).terms
        centres = [Centre(at.stats, at.free, powers, at.directions, factor) for powers, (factor, _) in terms.items()]
        kept = torch.stack([part.sums(centres, rows, shared) for rows in (*probes[0], *probes[1])], 1)
        if kept.dtype is not torch.float64 or not bool(torch.isfinite(kept).all()):
            return None
        taylor = _taylor(part, centres, table, kept, tests, probes[0], shared) if repeats == 1 else None
        if taylor is not None and len(centres) <= MOST_POWERS:
            return Centred(part, centres, [], taylor)
        chosen = _independent(kept[:, : len(probes[0])])
        kept, centres = kept[:, :, chosen], [centres[number] for number in chosen]
        if 0 < len(centres) <= MOST_POWERS and _foretells(table, kept, len(probes[0])):
            levels = _levels(part, centres, subsets, shared, generator)
            return Centred(part, centres, levels) if levels else None
    return None


def _taylor(
    part: Slice,
    centres: list[Centre],
    table: torch.Tensor,
    kept: torch.Tensor,
    tests: Sequence[Centre],
    probes: Sequence[Rows],
    shared: dict[int, torch.Tensor],
) -> Taylor | None:
    """Weights in closed form, if they give the sum on every probe at every test centre."""
    elements = table.shape[0]
    sizes = [centres[0].stats[d.index].numel() for d in centres[0].directions if not d.free]
    if any(size not in (1, elements) for size in sizes):
        return None
    moving = {(d.index, d.free) for d in centres[0].directions}
    still = [(i, False) for i in part.stats] + [(p, True) for p in part.free]
    probe = probes[0] if any(one not in moving for one in still) else None
    there = part.run(Centre(centres[0].stats, centres[0].free), probes[0], shared).reshape(-1)
    taylor = Taylor(probe, there)
    try:
        weights = torch.stack([taylor.weights(part, centres, at, shared).expand(elements, -1) for at in tests], 2)
    except RuntimeError:  # a statistic without a value for each element
        return None
    gap, size = (kept @ weights - table).abs(), kept.abs() @ weights.abs()
    return taylor if bool((gap <= 1e-13 * size + 1e-300).all()) else None


def _expansion(
    part: Slice,
    whole: dict[int, torch.Tensor],
    near: Centre,
    repeats: int,
    probe: Rows,
    shared: dict[int, torch.Tensor],
    generator: torch.Generator,
) -> Centre | None:
    """The centre to expand around, and as many statistics as the rules let move; None if there is none."""
    moving = [(index, False) for index in part.stats] + [(position, True) for position in part.free]
    while moving:
        directions = []
        for index, free in moving:
            like = torch.zeros(()) if free else near.stats[index]
            count = repeats if like.numel() > 1 or like.dtype.is_complex else 1
            steps = [None] if repeats == 1 else [_step(like, generator) for _ in range(count)]
            directions += [Direction(index, free, step) for step in steps]
        stats = {i: _rounded(whole[i], near.stats[i]) if (i, False) in moving else near.stats[i] for i in part.stats}
        at = Centre(stats, near.free, (), tuple(directions))
        try:
            part.expand(at, probe, shared)
        except NoPolynomial as refusal:
            stuck = {(directions[number].index, directions[number].free) for number in refusal.directions}
            moving = [one for one in moving if one not in stuck] if stuck else []
            continue
        except RuntimeError:  # shapes that a rule did not foresee
            return None
        return at
    return None


def _step(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    step = 0.5 + torch.rand(like.shape, generator=generator, dtype=torch.float64)
    if like.dtype.is_complex:
        step = torch.complex(step, torch.randn(like.shape, generator=generator, dtype=torch.float64))
    return step.to(like.device)


def _rounded(stat: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """The statistic of the first batch, rounded so that it is the same on every machine."""
    wide = _wide(stat)
    if wide.dtype.is_complex or not bool(torch.isfinite(wide).all()):
        return near
    narrow = wide.float().double()
    away = (near - wide).abs()
    return torch.where((narrow - wide).abs() <= away, narrow, wide)


def _independent(table: torch.Tensor) -> list[int]:
    """Columns that no others make up, (elements, probes, columns)."""
    scale = table.abs().amax((0, 1)).clamp(min=1e-300)
    columns = (table / scale).reshape(-1, table.shape[2]).clone()
    sizes = columns.norm(dim=0).clamp(min=1e-300)
    columns, chosen = columns / sizes, list[int]()
    for number in range(table.shape[2]):
        rest = columns[:, number].clone()
        for _ in range(2):
            for other in chosen:
                rest = rest - columns[:, other] * (columns[:, other] @ rest)
        if float(rest.norm()) > 1e-9 and bool((table[:, :, number] != 0).any()):
            columns[:, number] = rest / rest.norm()
            chosen.append(number)
    return chosen


def _foretells(table: torch.Tensor, kept: torch.Tensor, near: int) -> bool:
    """Whether weights fitted on some probes give the sums on the others, at every centre tried.

    Args:
        table: (elements, probes, centres), the sums.
        kept: (elements, probes, coefficients).
        near: how many of the probes are near the data; the first `_FIT` are fitted.
    """
    fit = equilibrated(kept[:, :_FIT])
    weights, noise = fit @ table[:, :_FIT], fit.abs() @ table[:, :_FIT].abs()
    gap, size = (kept @ weights - table).abs(), kept.abs() @ noise
    moves = (table - kept[:, :, :1]).abs()
    parts = (slice(0, near), slice(near, None))
    return all(
        bool((gap[:, p].amax(1) <= 1e-10 * moves[:, p].amax(1) + 1e-13 * size[:, p].amax(1) + 1e-300).all())
        for p in parts
    )


def _levels(
    part: Slice,
    centres: list[Centre],
    subsets: Sequence[tuple[dict[int, torch.Tensor], int]],
    shared: dict[int, torch.Tensor],
    generator: torch.Generator,
) -> list[Level]:
    """Probes near the data and far from it, on which weights are found."""
    levels = []
    alike = all(_width(values[i]) == 0 for values, _ in subsets[-1:] for i in part.rows)
    for distance in (*(CLOSER if alike else ()), *DISTANCES):
        some = subsets[: len(centres) + SPARE]
        probes = [_away(part, values, n, distance, generator) for values, n in some]
        try:
            table = torch.stack([part.sums(centres, rows, shared) for rows in probes], 1)
        except RuntimeError:  # outside an operation's domain
            continue
        if bool(torch.isfinite(table).all()):
            levels.append(Level(probes, equilibrated(table)))
    return levels


def _away(part: Slice, values: dict[int, torch.Tensor], n: int, distance: float, generator: torch.Generator) -> Rows:
    """Rows so many times as far from the data's middle as its ends are."""

    def spread(x: torch.Tensor) -> torch.Tensor:
        finite = x[torch.isfinite(x)] if x.dtype.is_floating_point else x[:0]
        if not finite.numel():
            return _jitter(x, generator)
        low, high = float(finite.min()), float(finite.max())
        width = _width(x) or 0.1 * abs(low) or 1.0
        noise = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        middle, share = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        away: torch.Tensor = (low + high) / 2 + distance * width * (3 * middle - 1.5 + (0.3 + share) * (2 * noise - 1))
        return away

    picks = _picks(part, values)
    rows = {i: _pick(values[i], picks[i], generator) if i in picks else spread(values[i]) for i in part.rows}
    return Rows(rows, n, {key: values[key[0]].shape[key[1]] for key in part.lengths})


def _width(x: torch.Tensor) -> float:
    """Half the range of values; zero where they are all alike."""
    finite = x[torch.isfinite(x)] if x.dtype.is_floating_point else x[:0]
    if not finite.numel():
        return 0.0
    low, high = float(finite.min()), float(finite.max())
    return (high - low) / 2 if high - low > 1e-9 * max(abs(low), abs(high)) else 0.0


def equilibrated(table: torch.Tensor) -> torch.Tensor:
    """The pseudo-inverse, where columns differ widely in size."""
    size = table.abs().amax(1, keepdim=True)
    scale: torch.Tensor = torch.where(size > 0, size, torch.ones_like(size))
    inverse: torch.Tensor = _inverse(table / scale) / scale.transpose(1, 2)
    return inverse


def _near(
    program: Program, part: Slice, subsets: Sequence[tuple[dict[int, torch.Tensor], int]], generator: torch.Generator
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
    part: Slice,
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


def _far(at: Centre, generator: torch.Generator) -> Centre:
    """A centre far from the data: an identity that holds only near it must show there."""

    def away(stat: torch.Tensor) -> torch.Tensor:
        power = 9 * torch.rand(stat.shape, generator=generator, dtype=torch.float64).to(stat.device) - 3
        sign = torch.where(torch.rand(stat.shape, generator=generator).to(stat.device) < 0.3, -1.0, 1.0)
        return stat * sign * 10**power

    factor = float(10 ** (9 * torch.rand((), generator=generator) - 3))
    return Centre({i: away(s) for i, s in at.stats.items()}, {p: v * factor for p, v in at.free.items()})


def _generic(part: Slice, values: dict[int, torch.Tensor], n: int, generator: torch.Generator, wide: bool) -> Rows:
    """Rows like a small batch's, with every relation between them broken; or, wide, far from the data at some scale."""
    spread = _scatter if wide else _jitter
    picks = _picks(part, values)
    rows = {i: _pick(values[i], picks[i], generator) if i in picks else spread(values[i], generator) for i in part.rows}
    return Rows(rows, n, {key: values[key[0]].shape[key[1]] for key in part.lengths})


def _picks(part: Slice, values: dict[int, torch.Tensor]) -> dict[int, int]:
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
            return x
        noise = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        return x.double() + 3 * noise  # a whole number that enters arithmetic may as well be any number
    finite = x[torch.isfinite(x)]
    if finite.numel() == 0:
        return x
    low, high = finite.min(), finite.max()
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    if float(high - low) > 1e-9 * float(finite.abs().max()):
        return (x + noise * 0.5 * (high - low) / 3).clamp(low, high)
    return x + noise.abs() * (0.1 * x.abs() + (x == 0))


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


def _table(part: Slice, centres: list[Centre], probes: list[Rows], shared: dict[int, torch.Tensor]) -> Any:
    """The sum on every probe at every centre, (elements, probes, centres); what has no finite value is left out."""
    rows = []
    for probe in probes:
        try:
            rows.append(_at_each(part, centres, probe, shared))
        except Exception:  # noqa: BLE001 - outside an operation's domain
            continue
    rows = [row for row in rows if row.dtype is torch.float64]
    if not rows:
        return None
    table = torch.stack(rows, 1)
    fine = torch.isfinite(table)
    # a centre so far away that an exponential overflows there on rows like the data's would take those rows with it
    usual = fine[:, :PROBES].all(0).double().mean(0) if table.shape[0] else torch.ones(table.shape[2])
    good_centres = [k for k in range(table.shape[2]) if float(usual[k]) >= 0.8]
    table, fine = table[:, :, good_centres], fine[:, :, good_centres]
    good_probes = [j for j in range(table.shape[1]) if bool(fine[:, j].all())]
    return table[:, good_probes], [centres[k] for k in good_centres], [probes[j] for j in good_probes]


def _at_each(part: Slice, centres: list[Centre], probe: Rows, shared: dict[int, torch.Tensor]) -> torch.Tensor:
    """The sum at every centre, (elements, centres)."""
    stats = [torch.stack([at.stats[i] for at in centres]) for i in part.stats]
    free = [torch.tensor([at.free[p] for at in centres], dtype=torch.float64) for p in part.free]

    def one(*point: torch.Tensor) -> torch.Tensor:
        at = Centre(dict(zip(part.stats, point, strict=False)), dict(zip(part.free, point[len(stats) :], strict=True)))
        return part.run(at, probe, shared).reshape(-1)

    try:
        return vmap(one, out_dims=1)(*stats, *free)
    except (RuntimeError, ValueError):  # an operation without a batching rule
        return torch.stack([part.run(at, probe, shared).reshape(-1) for at in centres], 1)


def _spread(table: torch.Tensor) -> list[int]:
    """The centres in an order that keeps the chosen ones far apart (pivoted Gram-Schmidt)."""
    scale = table.abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
    columns = (table / scale).reshape(-1, table.shape[2]).clone()
    order: list[int] = []
    for _ in range(table.shape[2]):
        norms = columns.square().sum(0)
        norms[order] = -1
        best = int(norms.argmax())
        order.append(best)
        direction = columns[:, best] / columns[:, best].norm().clamp(min=1e-300)
        columns = columns - direction[:, None] * (direction @ columns)[None]
    return order


def _inverse(table: torch.Tensor) -> torch.Tensor:
    inverse: torch.Tensor = torch.linalg.pinv(table, rtol=1e-11)
    return inverse


def _predicts(table: torch.Tensor, chosen: list[int], tests: list[int], near: int) -> bool:
    """Whether weights fitted on some probes give the sums on the others, at every other centre.

    The gap is held against how much the sum moves with the centre: a sum that hardly moves must be met as closely as
    rounding allows. Probes near the data (the first ones) and far from it are held to their own sizes.
    """
    fit = _inverse(table[:, :_FIT, chosen])
    weights = fit @ table[:, :_FIT, tests]
    for probes in (slice(0, near), slice(near, None)):
        kept, actual = table[:, probes][:, :, chosen], table[:, probes][:, :, tests]
        gap = (kept @ weights - actual).abs().amax(1)
        terms = (kept.abs() @ weights.abs()).amax(1)
        moves = (actual - kept[:, :, :1]).abs().amax(1)
        if not bool((gap <= 1e-9 * moves + 1e-12 * terms + 1e-300).all()):
            return False
    return True
