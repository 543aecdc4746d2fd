"""How a sum at one centre is made of those at others: weights by least squares, and whether they hold elsewhere."""

from __future__ import annotations

import torch

_FIT = 11  # probes that fit the weights; the others test them


def noise_gain(kept: torch.Tensor, others: torch.Tensor) -> float:
    """How much larger the terms are, at worst, that a sum at another centre near the data is made of."""
    weights = pseudo_inverse(kept) @ others
    terms, size = (kept.abs() @ weights.abs()).amax(1), others.abs().amax(1).clamp(min=1e-300)
    return float((terms / size).amax())


def independent_columns(table: torch.Tensor) -> list[int]:
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


def predicts_by_coefficients(table: torch.Tensor, kept: torch.Tensor, near: int) -> bool:
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


def equilibrated(table: torch.Tensor) -> torch.Tensor:
    """The pseudo-inverse, where columns differ widely in size."""
    size = table.abs().amax(1, keepdim=True)
    scale: torch.Tensor = torch.where(size > 0, size, torch.ones_like(size))
    found: torch.Tensor = pseudo_inverse(table / scale) / scale.transpose(1, 2)
    return found


def spread_order(table: torch.Tensor) -> list[int]:
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


def pseudo_inverse(table: torch.Tensor) -> torch.Tensor:
    """The pseudo-inverse of (elements, probes, centres), small singular values left out."""
    inverse: torch.Tensor = torch.linalg.pinv(table, rtol=1e-11)
    return inverse


def predicts(table: torch.Tensor, chosen: list[int], tests: list[int], near: int) -> bool:
    """Whether weights fitted on some probes give the sums on the others, at every other centre.

    The gap is held against how much the sum moves with the centre: a sum that hardly moves must be met as closely as
    rounding allows. Probes near the data (the first ones) and far from it are held to their own sizes.
    """
    fit = pseudo_inverse(table[:, :_FIT, chosen])
    weights = fit @ table[:, :_FIT, tests]
    for probes in (slice(0, near), slice(near, None)):
        kept, actual = table[:, probes][:, :, chosen], table[:, probes][:, :, tests]
        gap = (kept @ weights - actual).abs().amax(1)
        terms = (kept.abs() @ weights.abs()).amax(1)
        moves = (actual - kept[:, :, :1]).abs().amax(1)
        if not bool((gap <= 1e-9 * moves + 1e-12 * terms + 1e-300).all()):
            return False
    return True
