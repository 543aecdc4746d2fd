"""States drawn from their own distribution, where it is known: a batch of 10^12 costs no more than one of 10.

Two cases.  A state that is linear in (n, Σe, Σe²) of normal errors: Σe is normal, and Σe² - (Σe)²/n, independent of
it, is gamma distributed (Cochran, Mathematical Proceedings of the Cambridge Philosophical Society 30 (1934) 178-191).
And any sum over resampled rows: how often each row is drawn is multinomial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from batchproof.derive import POLYNOMIAL, SUM, Kind, OneByOne, Op, Program, Ref, StatePlan, base_name, fold_many
from batchproof.simulation.distributions import Distribution
from batchproof.simulation.population import Population
from batchproof.simulation.target_function import Trial

#: (number of batches, their size, generator) -> for each leaf of the plan the states, batches first.
DrawStates = Callable[[int, int, torch.Generator], list[Tensor]]

#: A multinomial draw costs about so many times the number of rows as drawing a sample does.
DEARER = 8
_EXACT = 1e-9
#: The states of all rows, one by one, may have so many bytes.
MOST_BYTES = 64 << 20


def direct_draw(trial: Trial) -> DrawStates | None:
    """What draws states of the function's plan, or None where their distribution is not known."""
    plan, population = trial.plan, trial.population
    if plan is None or plan.lengths or any(leaf.merge is not SUM for leaf in plan.leaves):
        return None
    if population.rows is not None:
        return _multinomial(plan, population)
    if isinstance(population.errors, Distribution) and population.errors.name == "normal":
        return _normal_moments(plan, population, population.errors)
    return None


def pays(population: Population, size: int) -> bool:
    """Whether drawing a state takes less work than drawing its samples."""
    return population.rows is None or size > DEARER * population.rows.n


def _singly(plan: StatePlan, tensors: Sequence[Tensor], dims: Sequence[int | None], n: int) -> list[Tensor] | None:
    """The states of single samples, samples first; None where they cannot be had."""
    wide = [t.double() if t.is_floating_point() else t for t in tensors]
    try:
        return fold_many(plan, wide, dims, n, 1)(wide)
    except OneByOne:
        return None


def _multinomial(plan: StatePlan, population: Population) -> DrawStates | None:
    rows = population.rows
    assert rows is not None
    if rows.n * plan.nbytes > MOST_BYTES:
        return None
    singly = _singly(plan, rows.leaves, rows.dims, rows.n)
    if singly is None:
        return None
    weights = [state.reshape(rows.n, -1).double() for state in singly]

    def draw(batches: int, size: int, generator: torch.Generator) -> list[Tensor]:
        counts = _counts(rows.n, batches, size, generator)
        return [_typed(counts @ weight, state, batches) for weight, state in zip(weights, singly, strict=True)]

    return draw


def _is_polynomial(program: Program, folds: frozenset[int]) -> bool:
    """Whether the values that the fold makes are polynomials in the samples."""
    fold = [op for op in program.ops if folds.intersection(op.outputs)]
    return all(base_name(op) in POLYNOMIAL and not _by_samples(program, op) for op in fold)


def _by_samples(program: Program, op: Op) -> bool:
    """Whether samples stand under a fraction bar, or in an exponent that is no whole number."""
    name, second = base_name(op), op.args[1] if len(op.args) > 1 else None
    if name == "div":
        return isinstance(second, Ref) and program.values[second.index].kind is not Kind.SHARED
    return name == "pow" and not (isinstance(second, (int, float)) and second in (1, 2))


def _counts(rows: int, batches: int, size: int, generator: torch.Generator) -> Tensor:
    """(batches, rows): how often each row is among `size` drawn; each count binomial in what the ones before left."""
    left = torch.full((batches,), float(size), dtype=torch.float64)
    counts = torch.empty(rows, batches, dtype=torch.float64)
    for row in range(rows - 1):
        share = torch.full_like(left, 1 / (rows - row))
        counts[row] = torch.binomial(left, share, generator=generator)
        left -= counts[row]
    counts[rows - 1] = left
    return counts.T


def _typed(sums: Tensor, single: Tensor, batches: int) -> Tensor:
    return sums.reshape(batches, *single.shape[1:]).to(single.dtype)


def _normal_moments(plan: StatePlan, population: Population, errors: Distribution) -> DrawStates | None:
    """The coefficients of 1, e and e² in the state of one sample, if it has no other terms.

    The fold makes polynomials of low degree only, so what holds at generic errors holds at all.
    """
    if not _is_polynomial(plan.program, plan.folds):
        return None
    assert population.arrange is not None
    generator = torch.Generator().manual_seed(0)
    z = torch.cat([torch.tensor([0.0, 1.0, -1.0]).double(), 3 * torch.randn(64, generator=generator).double()])
    singly = _singly(plan, population.arrange(z * errors.scale), population.some.dims, len(z))
    if singly is None:
        return None
    coefficients = []
    for state in singly:
        zero, plus, minus = state[0].double(), state[1].double(), state[2].double()
        found = zero, (plus - minus) / 2, (plus + minus) / 2 - zero
        at = z.reshape(-1, *[1] * zero.ndim)
        gap = (found[0] + found[1] * at + found[2] * at.square() - state).abs()
        if not bool((gap <= _EXACT * state.double().abs().amax(0)).all()):
            return None
        coefficients.append(found)

    def draw(batches: int, size: int, generator: torch.Generator) -> list[Tensor]:
        sums = _moments(batches, size, generator)
        return [_combined(found, sums, state) for found, state in zip(coefficients, singly, strict=True)]

    return draw


def _combined(coefficients: Sequence[Tensor], sums: Sequence[Tensor], like: Tensor) -> Tensor:
    """Term by term: a matrix product may round otherwise from one call to the next."""
    batches = len(sums[0])
    terms = [total.reshape(batches, *[1] * c.ndim) * c for c, total in zip(coefficients, sums, strict=True)]
    return (terms[0] + terms[1] + terms[2]).to(like.dtype)


def _moments(batches: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(batches,) each: n, Σz and Σz² of standard normal z."""
    mean = torch.randn(batches, generator=generator, dtype=torch.float64) / size**0.5
    around = torch.zeros(batches, dtype=torch.float64)
    if size > 1:
        shape = torch.full((batches,), (size - 1) / 2, dtype=torch.float64)
        around = 2 * torch._standard_gamma(shape, generator=generator)
    return torch.full_like(mean, size), size * mean, around + size * mean.square()
