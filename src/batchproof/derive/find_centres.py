"""Sums around a batch statistic, kept at a few fixed centres.

A variance sums (y - s)^2 around a mean s that is known only at the end. As a function of s the summand has finite rank:
M(row, s) = w_1(s) M(row, s_1) + ... + w_K(s) M(row, s_K), the same weights for every row.  So it is enough to keep the
sums at K fixed centres s_k; the weights at the s of the end are found on a few probe rows.  (y - s)^2 has rank 3,
(x - s)(y - t) rank 4, exp(x - s) rank 1.

Only operations that are analytic in s are let through by `classify`, and the rank is found on generic rows and centres:
an identity between analytic functions that holds at generic points holds everywhere.  Centres lie near the data, so
this is also the numerically stable, shifted form of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.func import vmap

from batchproof.derive.centred_sum import CentredSum, Extremes, Level, Taylor
from batchproof.derive.powers import NoPolynomial
from batchproof.derive.probes import (
    PROBES,
    far_centre,
    generic_rows,
    half_range,
    near_centres,
    random_step,
    rounded_stat,
    rows_away,
)
from batchproof.derive.program import Program
from batchproof.derive.summand import Centre, Direction, Summand, SummandRows, conditional_slice
from batchproof.derive.weights import (
    equilibrated,
    independent_columns,
    noise_gain,
    predicts,
    predicts_by_coefficients,
    pseudo_inverse,
    spread_order,
)

MOST_CENTRES = 8
MOST_WIDE, WIDE_PROBES = 15, 3  # rows far from the data: so many are tried, so few must have a value
FAR_CENTRES = 15
ATTEMPTS = 3
MOST_POWERS = 9
DISTANCES = (1.0, 32.0, 1e3, 3e4)  # of the probes that weights are found on
CLOSER = (1e-6, 1e-3)  # where the data are all alike, and show no scale
SPARE = 3  # so many more of them than weights


def find_extremes(program: Program, leaf: int) -> Extremes | None:
    """How to keep a conditional maximum, or None."""
    part = conditional_slice(program, leaf)
    if len(part.rows) != 1 or part.lengths or part.free:
        return None
    return Extremes(part, part.rows[0], program.values[part.rows[0]].dim)


def find_centres(
    program: Program,
    leaf: int,
    subsets: Sequence[tuple[dict[int, torch.Tensor], int]],
    shared: dict[int, torch.Tensor],
    powers: bool = True,
) -> CentredSum | None:
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
    best: CentredSum | None = None
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
    part: Summand,
    subsets: Sequence[tuple[dict[int, torch.Tensor], int]],
    shared: dict[int, torch.Tensor],
    generator: torch.Generator,
    powers: bool,
) -> CentredSum | None:
    """Centres and probes of one draw: some take an exponential out of the range of float64, and show nothing."""
    near = near_centres(program, part, subsets, generator)
    far = [far_centre(at, generator) for at in near[:FAR_CENTRES]]
    probes = [generic_rows(part, values, n, generator, wide=False) for values, n in subsets[:PROBES]]
    wide = [generic_rows(part, values, n, generator, wide=True) for values, n in subsets[:MOST_WIDE]]
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
    order = spread_order(table[:, :, :count_near])
    for count in range(1, min(MOST_CENTRES, count_near - 2) + 1):
        chosen = order[:count]
        tests = [number for number in range(len(centres)) if number not in chosen]
        if predicts(table, chosen, tests, len(probes)):
            kept = table[:, : len(probes), chosen]
            noise = noise_gain(kept, table[:, : len(probes), [n for n in tests if n < count_near]])
            return CentredSum(
                part, [centres[number] for number in chosen], [Level(probes, pseudo_inverse(kept))], noise=noise
            )
    return None


def _powers(
    part: Summand,
    subsets: Sequence[tuple[dict[int, torch.Tensor], int]],
    near: Centre,
    table: torch.Tensor,
    tests: Sequence[Centre],
    probes: tuple[Sequence[SummandRows], Sequence[SummandRows]],
    shared: dict[int, torch.Tensor],
    generator: torch.Generator,
) -> CentredSum | None:
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
            return CentredSum(part, centres, [], taylor)
        chosen = independent_columns(kept[:, : len(probes[0])])
        kept, centres = kept[:, :, chosen], [centres[number] for number in chosen]
        if 0 < len(centres) <= MOST_POWERS and predicts_by_coefficients(table, kept, len(probes[0])):
            levels = _levels(part, centres, subsets, shared, generator)
            return CentredSum(part, centres, levels) if levels else None
    return None


def _taylor(
    part: Summand,
    centres: list[Centre],
    table: torch.Tensor,
    kept: torch.Tensor,
    tests: Sequence[Centre],
    probes: Sequence[SummandRows],
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
    part: Summand,
    whole: dict[int, torch.Tensor],
    near: Centre,
    repeats: int,
    probe: SummandRows,
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
            steps = [None] if repeats == 1 else [random_step(like, generator) for _ in range(count)]
            directions += [Direction(index, free, step) for step in steps]
        stats = {
            i: rounded_stat(whole[i], near.stats[i]) if (i, False) in moving else near.stats[i] for i in part.stats
        }
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


def _levels(
    part: Summand,
    centres: list[Centre],
    subsets: Sequence[tuple[dict[int, torch.Tensor], int]],
    shared: dict[int, torch.Tensor],
    generator: torch.Generator,
) -> list[Level]:
    """Probes near the data and far from it, on which weights are found."""
    levels = []
    alike = all(half_range(values[i]) == 0 for values, _ in subsets[-1:] for i in part.rows)
    for distance in (*(CLOSER if alike else ()), *DISTANCES):
        some = subsets[: len(centres) + SPARE]
        probes = [rows_away(part, values, n, distance, generator) for values, n in some]
        try:
            table = torch.stack([part.sums(centres, rows, shared) for rows in probes], 1)
        except RuntimeError:  # outside an operation's domain
            continue
        if bool(torch.isfinite(table).all()):
            levels.append(Level(probes, equilibrated(table)))
    return levels


def _table(part: Summand, centres: list[Centre], probes: list[SummandRows], shared: dict[int, torch.Tensor]) -> Any:
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


def _at_each(part: Summand, centres: list[Centre], probe: SummandRows, shared: dict[int, torch.Tensor]) -> torch.Tensor:
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
