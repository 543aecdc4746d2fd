"""By which weights would the micro-batches give the whole batch's gradient?  Found by least squares."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch

from batchproof.gradients.check.measure import Tolerance, combined, distance, norm, product
from batchproof.gradients.check.record import Gradients
from batchproof.gradients.check.result import MicroBatchWeights

#: With fewer numbers in the gradient than this for each pass, some weights always fit.
NUMBERS_PER_PASS = 2


def weigh(
    full: Gradients, passes: Sequence[Gradients], counts: dict[str, list[float]], tolerance: Tolerance
) -> MicroBatchWeights | None:
    """What each pass should have counted; None where no weights give the full gradient, or where all would.

    Counts are tried first, each alone and each in place of another: a token mean that was weighted by samples.
    """
    limit = tolerance.with_slack
    counts = {name: numbers for name, numbers in counts.items() if len(numbers) == len(passes)}

    def fits(candidates: Iterable[tuple[str, list[float]]]) -> dict[str, list[float]]:
        tried = ((name, _scaled(full, passes, shares)) for name, shares in candidates)
        return {name: factors for name, factors in tried if distance(combined(passes, factors), full) <= limit}

    fitting = fits(counts.items()) or fits(_in_place(counts))
    factors = next(iter(fitting.values()), None) or _solved(full, passes)
    if factors is None:
        return None
    residual = distance(combined(passes, factors), full)
    if residual > limit:
        return None
    return MicroBatchWeights(
        tuple(factors), residual, tuple(fitting), {name: tuple(numbers) for name, numbers in counts.items()}
    )


def _in_place(counts: dict[str, list[float]]) -> Iterator[tuple[str, list[float]]]:
    for (wanted, numbers), (used, others) in itertools.permutations(counts.items(), 2):
        if all(others):
            yield f"{wanted} in place of {used}", [n / other for n, other in zip(numbers, others, strict=True)]


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
