"""A loss's value, and its gradient by what it is called with: a model's gradient follows from it by the chain rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from batchproof.derive import least_group
from batchproof.errors import BatchproofError
from batchproof.explanation.groups import Units, units_in
from batchproof.explanation.positions import Positions
from batchproof.explanation.samples import Grouping, Samples
from batchproof.ground import components
from batchproof.ground.isolation import seed_all

#: Relative difference of two gradients below which they are the same, by the type in which the loss computes.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-4}
COARSE = 2e-2

Gradients = list[Tensor]


@dataclass(frozen=True)
class LossSlope:
    """A loss on some samples: its value, and its gradient by each leaf that it is differentiated by.

    Attributes:
        value: The loss.
        gradients: By each leaf.
        size: What its rounding is measured against: a loss of 0 may be the sum of large terms.
    """

    value: float
    gradients: Gradients
    size: float = 0.0

    def __mul__(self, factor: float) -> LossSlope:
        gradients = [factor * gradient for gradient in self.gradients]
        return LossSlope(self.value * factor, gradients, self.size * abs(factor))

    def __add__(self, other: LossSlope) -> LossSlope:
        gradients = [a + b for a, b in zip(self.gradients, other.gradients, strict=True)]
        return LossSlope(self.value + other.value, gradients, self.size + other.size)

    def __sub__(self, other: LossSlope) -> LossSlope:
        return self + other * -1.0

    @property
    def norm(self) -> float:
        """Of the whole gradient."""
        return math.sqrt(self.along(self))

    @property
    def is_finite(self) -> bool:
        """Whether the value and the gradient are numbers."""
        whole = all(bool(gradient.isfinite().all()) for gradient in self.gradients)
        return whole and bool(torch.tensor(self.value).isfinite())

    def along(self, other: LossSlope) -> float:
        """The inner product of the two gradients."""
        return float(sum((a * b).sum() for a, b in zip(self.gradients, other.gradients, strict=True)))


@dataclass(frozen=True)
class SlopeMeasure:
    """The samples, in double precision where the loss takes it, and the leaves that it is differentiated by.

    Attributes:
        samples: With a graph that begins at them.
        by: Which leaves.
        tolerance: Relative difference below which two gradients are the same.
        seed: Set before every call.
    """

    samples: Samples
    by: tuple[int, ...]
    tolerance: float
    seed: int

    def at(self, fn: Callable[..., Any], some: Samples) -> LossSlope:
        """The value on some of the samples, however they were cut, and its gradient by all of them.

        Raises:
            BatchproofError: it returns no number.
        """
        seed_all(self.seed)
        args, kwargs = some.all()
        with torch.enable_grad():
            loss = first_number(fn(*args, **kwargs))
        sources = [self.samples.leaves[leaf] for leaf in self.by]
        value = float(loss.detach())
        if not (loss.requires_grad and sources):
            gradients = [torch.zeros_like(source, dtype=torch.float64) for source in sources]
            return LossSlope(value, gradients, abs(value))
        found: Sequence[Tensor | None] = torch.autograd.grad(loss, sources, allow_unused=True)
        pairs = list(zip(found, sources, strict=True))
        gradients = [torch.zeros_like(s).double() if g is None else g.double() for g, s in pairs]
        terms = sum((source.detach() * g).abs().sum() for g, source in zip(gradients, sources, strict=True))
        return LossSlope(value, gradients, abs(value) + float(terms))

    def same(self, one: LossSlope, other: LossSlope) -> bool:
        """Whether two values and their gradients are equal up to rounding."""
        apart = one - other
        return one.is_finite and (
            abs(apart.value) <= self.tolerance * max(one.size, other.size)
            and apart.norm <= self.tolerance * max(one.norm, other.norm)
        )

    def of_rows(self, slope: LossSlope, rows: Sequence[int]) -> LossSlope:
        """The gradient by these samples alone."""
        picked = torch.as_tensor(rows)
        gradients = []
        for leaf, gradient in zip(self.by, slope.gradients, strict=True):
            dim = self.samples.dims[leaf]
            gradients.append(gradient[:0] if dim is None else gradient.index_select(dim, picked.to(gradient.device)))
        return LossSlope(slope.value, gradients)


def slope_measure(fn: Callable[..., Any], samples: Samples, positions: Positions | None, seed: int) -> SlopeMeasure:
    """Samples to differentiate by, of as wide a type as the loss takes.

    Masks are not among the leaves that it is differentiated by, and every other floating leaf is.
    """
    masks = set() if positions is None else set(positions.ignored)
    by = tuple(
        leaf
        for leaf, value in enumerate(samples.leaves)
        if isinstance(value, Tensor) and value.is_floating_point() and leaf not in masks and not _is_flags(value)
    )

    def tracked(some: Samples) -> Samples:
        leaves = list(some.leaves)
        for leaf in by:
            leaves[leaf] = leaves[leaf].detach().clone().requires_grad_()
        return replace(some, leaves=tuple(leaves))

    narrow = tracked(samples)
    wide = tracked(samples.double())
    try:
        seed_all(seed)
        args, kwargs = wide.all()
        dtype = first_number(fn(*args, **kwargs)).dtype
        used = wide
    except BatchproofError:
        raise
    except Exception:  # noqa: BLE001 - parameters of its own in single precision: then as the user would call it
        args, kwargs = narrow.all()
        dtype = first_number(fn(*args, **kwargs)).dtype
        used = narrow
    types = [dtype, *(used.leaves[leaf].dtype for leaf in by)]
    return SlopeMeasure(used, by, max(TOLERANCE.get(kind, COARSE) for kind in types), seed)


def settled(fn: Callable[..., Any], measure: SlopeMeasure, positions: Positions) -> Positions | None:
    """The positions as the loss takes them; None where what looked like a mask is none.

    Args:
        fn: the loss.
        measure: what it is called with.
        positions: as the arguments' names and values show them.
    """
    whole = measure.at(fn, measure.samples)
    if not positions.trusted and bool(positions.counting(measure.samples).all()):
        if not _ignores(fn, measure, positions):
            return None
    elif not positions.trusted and not measure.same(whole, measure.at(fn, positions.refilled(measure.samples))):
        return None
    begun = measure.at(fn, positions.without_first(measure.samples))
    return replace(positions, start=1) if measure.same(whole, begun) else positions


def _ignores(fn: Callable[..., Any], measure: SlopeMeasure, positions: Positions) -> bool:
    """Whether a position that does not count has no gradient; where logits are of the next one, that before it."""
    column = measure.samples.leaves[positions.at[0]].shape[1] // 2
    try:
        found = measure.at(fn, positions.without(measure.samples, 0, column))
    except Exception:  # noqa: BLE001 - a label of -100 is no class of its own: nothing is ignored
        return False
    tables = [g for leaf, g in zip(measure.by, found.gradients, strict=True) if leaf in positions.at]
    return bool(tables) and any(
        all(not bool(table[0, place].any()) for table in tables)
        and any(bool(table[1:, place].any()) for table in tables)
        for place in (column, column - 1)
    )


def units_found(fn: Callable[..., Any], measure: SlopeMeasure) -> Units | None:
    """The rows of each group, where a loss fails on batches that split one; None where each sample stands alone."""
    samples = measure.samples

    def works(count: int) -> bool:
        try:
            return measure.at(fn, samples.first(count)).is_finite
        except Exception:  # noqa: BLE001 - it fails on a torn group: that is what is looked for
            return False

    size = None if samples.n < 4 or works(1) else least_group(works, min(samples.n, 64), 2)
    if size is None or samples.n % size:
        return None
    whole = measure.at(fn, samples)
    for grouping in (Grouping(size), Grouping(size, in_blocks=True)):
        units = units_in(grouping, samples.n)
        rows = torch.tensor(units)[torch.randperm(len(units), generator=torch.Generator().manual_seed(measure.seed))]
        mixed = measure.at(fn, samples.reorder(rows.T.flatten() if grouping.in_blocks else rows.flatten()))
        if measure.same(whole, mixed):
            return units
    return None


def first_number(result: Any) -> Tensor:
    """The loss: the first number of what was returned, one that has a gradient before all others.

    Raises:
        BatchproofError: there is none.
    """
    leaves = [leaf for _, leaf in components.leaves(result)]
    single = [torch.as_tensor(leaf, dtype=torch.float64 if isinstance(leaf, float) else None) for leaf in leaves]
    single = [leaf for leaf in single if leaf.numel() == 1]
    if not single:
        raise BatchproofError(f"loss_fn must return one number, and returned {type(result).__name__}")
    return next((leaf for leaf in single if leaf.requires_grad), single[0]).reshape(())


def _is_flags(value: Tensor) -> bool:
    return bool(((value == 0) | (value == 1)).all())
