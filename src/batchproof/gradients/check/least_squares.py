"""By which weights would the micro-batches give the whole batch's gradient?  Found by least squares."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from batchproof.gradients.check.measure import combined, distance, norm, product
from batchproof.gradients.check.record import Gradients
from batchproof.gradients.check.result import MicroBatchWeights

#: With fewer numbers in the gradient than this for each pass, some weights always fit.
NUMBERS_PER_PASS = 2


def weigh(
    full: Gradients,
    passes: Sequence[Gradients],
    counts: dict[str, list[float]],
    limit: float,
    ranks: Sequence[int] = (),
) -> MicroBatchWeights | None:
    """What each pass should have counted; None where no weights give the full gradient, or where all would.

    ``limit`` is the share of it that may be left.  Counts are tried first: those of each rank, each alone, and each in
    place of another, as a token mean that was weighted by samples.
    """
    counts = {name: numbers for name, numbers in counts.items() if len(numbers) == len(passes)}

    def fits(candidates: Iterable[_Weighting]) -> list[_Weighting]:
        scaled = (one._replace(shares=_scaled(full, passes, one.shares)) for one in candidates)
        return [one for one in scaled if distance(combined(passes, one.shares), full) <= limit]

    alone = (_Weighting(name, name, numbers) for name, numbers in counts.items())
    fitting = fits(_of_ranks(counts, ranks)) or fits(alone) or fits(_in_place(counts))
    factors = fitting[0].shares if fitting else _solved(full, passes)
    if factors is None:
        return None
    residual = distance(combined(passes, factors), full)
    if residual > limit:
        return None
    return MicroBatchWeights(
        factors=tuple(factors),
        residual=residual,
        fits=tuple(one.name for one in fitting),
        counts={name: tuple(numbers) for name, numbers in counts.items()},
        wanted=fitting[0].wanted if fitting else "",
        ranks=tuple(ranks),
    )


def made_of(total: Gradients, passes: Sequence[Gradients], limit: float) -> list[float] | None:
    """How often each pass counts in a gradient; None where it is no weighted sum of them, or many weights would do."""
    factors = _solved(total, passes)
    if factors is None or distance(combined(passes, factors), total) > limit:
        return None
    return factors


class _Weighting(NamedTuple):
    """Shares of the micro-batches, what they are called, and the count that is wanted in them."""

    name: str
    wanted: str
    shares: list[float]


def _of_ranks(counts: dict[str, list[float]], ranks: Sequence[int]) -> Iterator[_Weighting]:
    """What each rank counted in all its passes."""
    for name, numbers in counts.items() if ranks else ():
        totals = dict.fromkeys(ranks, 0.0)
        for rank, number in zip(ranks, numbers, strict=True):
            totals[rank] += number
        yield _Weighting(f"the {name} of each rank", name, [totals[rank] for rank in ranks])


def _in_place(counts: dict[str, list[float]]) -> Iterator[_Weighting]:
    for (wanted, numbers), (used, others) in itertools.permutations(counts.items(), 2):
        if all(others):
            shares = [n / other for n, other in zip(numbers, others, strict=True)]
            yield _Weighting(f"{wanted} in place of {used}", wanted, shares)


def _scaled(full: Gradients, passes: Sequence[Gradients], shares: list[float]) -> list[float]:
    """The multiple of these shares that comes nearest to the full gradient."""
    along = combined(passes, shares)
    size = norm(along) ** 2
    scale = product(full, along) / size if size else 0.0
    return [scale * share for share in shares]


def _solved(full: Gradients, passes: Sequence[Gradients]) -> list[float] | None:
    numbers = sum(gradient.numel() for gradient in full.values())
    if len(passes) < 2 or numbers < NUMBERS_PER_PASS * len(passes):
        return None
    # each pass to length 1, so that a micro-batch with a small gradient is solved for as well as the others
    sizes = [norm(one) for one in passes]
    if not all(sizes):
        return None
    gram = torch.tensor([[product(a, b) for b in passes] for a in passes], dtype=torch.float64)
    size = torch.tensor(sizes, dtype=torch.float64)
    gram = gram / size / size[:, None]
    if float(torch.linalg.eigvalsh(gram)[0]) < 1e-9:
        return None  # some passes are sums of others: many weights would do
    right = torch.tensor([product(one, full) for one in passes], dtype=torch.float64) / size
    found: list[float] = (torch.linalg.solve(gram, right) / size).tolist()
    return found
