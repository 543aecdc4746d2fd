"""Where the samples of a simulation come from: errors of a distribution, or the user's own rows, resampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.explanation import Samples, gather, guess_samples, role_of
from batchproof.ground import components
from batchproof.ground.batch import bound
from batchproof.ground.target import required, signature_of, title_of
from batchproof.ground.tensors import NEXT_TO_NOTHING, close
from batchproof.ground.trees import is_array
from batchproof.simulation.distributions import CHUNK, Distribution

Draw = Callable[[int, torch.Generator], list[Any]]
Arrange = Callable[[Tensor], list[Tensor]]

#: Targets, where a function needs them, spread so many times as far as the errors: R² is then 0.75 on normal errors.
SPREAD = 2.0
CHUNK_BYTES = 4 << 20
_LEARN = 64
_LONGEST = 100_000


@dataclass(frozen=True)
class Population:
    """What batches are drawn from.

    Attributes:
        text: what it is, for the report.
        some: a few samples, laid out as the function takes them.
        draw: makes the leaves of n samples.
        errors: what the function's errors are, where it is one of errors alone: for the closed forms.
        arrange: puts errors in the places where the function takes them, where it is one of errors alone.
        rows: the rows that are resampled, where they are.
        note: what the reader must know about it.
    """

    text: str
    some: Samples
    draw: Draw
    errors: Distribution | Tensor | None = None
    arrange: Arrange | None = None
    rows: Samples | None = None
    note: str = ""

    def all(self, leaves: Sequence[Any], n: int) -> Samples:
        """The n samples in the leaves."""
        return replace(self.some, leaves=tuple(leaves), n=n)

    def batch(self, leaves: Sequence[Any], number: int, size: int) -> Samples:
        """One of the batches of this size that lie one after another in the leaves."""
        return self.all(leaves, size * (number + 1)).cut(number * size, size * (number + 1))

    @property
    def sample_bytes(self) -> float:
        """What a sample weighs."""
        columns = zip(self.some.leaves, self.some.dims, strict=True)
        weights = [leaf.nbytes for leaf, d in columns if d is not None and isinstance(leaf, Tensor)]
        return sum(weights) / self.some.n or 8.0

    @property
    def chunk(self) -> int:
        """How many samples to draw at a time."""
        return max(1, min(CHUNK, int(CHUNK_BYTES / self.sample_bytes)))


def of_errors(fn: Callable[..., Any], distribution: Distribution) -> Population:
    """Errors of a distribution, in the places where the function takes them.

    A function of one argument is given the errors; one of a prediction and a target is given the errors as prediction
    and zeros as target if only their difference counts, and random targets otherwise.  For a function that takes
    something else (class labels), samples are guessed from the parameters' names and resampled.

    Raises:
        BatchproofError: no arguments that fit could be made.
    """
    names = [parameter.name for parameter in required(fn)] or ["errors"]
    if len(names) == 1:
        return _laid_out(fn, distribution, lambda e: [e])
    rows = _guess(fn)
    if len(names) != 2 or not _are_quantities(rows):
        return _guessed(fn, rows, distribution)
    flipped = role_of(names[0]) == "target" and role_of(names[1]) != "target"

    def pair(prediction: Tensor, target: Tensor) -> list[Tensor]:
        return [target, prediction] if flipped else [prediction, target]

    if _only_difference(lambda prediction, target: fn(*pair(prediction, target))):
        return _laid_out(fn, distribution, lambda e: pair(e, e.new_zeros(()).expand(len(e))))
    spread = SPREAD * distribution.scale

    def with_targets(n: int, generator: torch.Generator) -> list[Tensor]:
        errors = distribution.draw(n, generator)
        target = torch.randn(n, generator=generator, dtype=errors.dtype).mul_(spread)
        return pair(target + errors, target)

    text = f"{distribution} around normal targets of scale {spread:g}"
    return Population(text, _some(fn, with_targets), with_targets)


def listed(errors: Any) -> list[Any]:
    """The user's own samples as a list, one entry for each parameter.

    Raises:
        BatchproofError: they are neither tensors nor lists of numbers.
    """
    if isinstance(errors, (Tensor, list, tuple)) or is_array(errors):
        numbers = isinstance(errors, (list, tuple)) and errors and all(isinstance(x, Real) for x in errors)
        if numbers:
            return [torch.tensor(errors, dtype=torch.float64)]
        return list(errors) if isinstance(errors, (list, tuple)) else [errors]
    raise BatchproofError(
        "errors must be the name of a distribution, a tensor, or a tensor for each parameter, not a "
        f"{type(errors).__name__}"
    )


def as_errors(rows: Sequence[Any]) -> Tensor:
    """One tensor of errors; of a prediction and a target, their difference."""
    if not 1 <= len(rows) <= 2:
        raise BatchproofError(f"without a function, give errors or a prediction and a target, not {len(rows)} tensors")
    try:
        columns = [torch.as_tensor(row).detach().double() for row in rows]
        if columns[0].shape != columns[-1].shape:
            raise ValueError(f"shapes {tuple(columns[0].shape)} and {tuple(columns[-1].shape)} are not alike")
        return columns[0] if len(columns) == 1 else columns[0] - columns[1]
    except (TypeError, ValueError, RuntimeError) as error:
        raise BatchproofError(f"these are no errors: {error}") from None


def of_rows(fn: Callable[..., Any], title: str, rows: Sequence[Any]) -> Population:
    """The user's own samples, drawn with replacement, all arguments of a sample together.

    Raises:
        BatchproofError: they do not fit together or the function, hold NaN, or lie where they cannot be picked from.
    """
    try:
        bound(fn, rows, {})
    except TypeError as error:
        raise BatchproofError(f"{title} was given {len(rows)} arguments: {error}") from None
    for row in rows:
        if isinstance(row, Tensor) and (row.layout is not torch.strided or row.is_meta):
            raise BatchproofError("samples cannot be drawn from a sparse or meta tensor: make it dense first")
    samples = gather(signature_of(fn), rows, {}, 0)
    for name, leaf in zip(samples.names, samples.leaves, strict=True):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and not bool(leaf.isfinite().all()):
            row = int((~leaf.isfinite()).reshape(samples.n, -1).any(1).nonzero()[0]) + 1
            raise BatchproofError(
                f"{name} holds NaN or infinity (sample {row} of {samples.n}): take such rows out first"
            )
    return _resampled(fn, _widest(fn, samples), f"{samples.n:,} samples, drawn with replacement")


def _widest(fn: Callable[..., Any], samples: Samples) -> Samples:
    """In double precision, if the function takes that; one with parameters in single precision does not."""
    wide = samples.double()
    try:
        args, kwargs = wide.first(_LEARN).all()
        fn(*args, **kwargs)
    except Exception:  # noqa: BLE001 - what else it may raise shows later
        return samples
    return wide


def _resampled(fn: Callable[..., Any], samples: Samples, text: str) -> Population:
    def draw(n: int, generator: torch.Generator) -> list[Any]:
        return list(samples.reorder(torch.randint(samples.n, (n,), generator=generator)).leaves)

    errors = _errors_among(fn, samples)
    arrange: Arrange | None = None
    if errors is not None:
        arrange = (lambda e: [e]) if len(samples.leaves) == 1 else (lambda e: [e, torch.zeros_like(e)])
    some = samples.reorder(torch.randint(samples.n, (_LEARN,), generator=torch.Generator().manual_seed(0)))
    return Population(text, some, draw, errors, arrange, samples)


def _laid_out(fn: Callable[..., Any], distribution: Distribution, arrange: Arrange) -> Population:
    dtype = _taken(fn, arrange, distribution)

    def draw(n: int, generator: torch.Generator) -> list[Any]:
        return arrange(distribution.draw(n, generator).to(dtype))

    return Population(str(distribution), _some(fn, draw), draw, distribution, arrange)


def _taken(fn: Callable[..., Any], arrange: Arrange, distribution: Distribution) -> torch.dtype:
    """The precision in which the function takes errors: double, unless it has parameters in single."""
    errors = distribution.draw(_LEARN, torch.Generator().manual_seed(0))
    for dtype in (torch.float64, torch.float32):
        with suppress(Exception):
            fn(*arrange(errors.to(dtype)))
            return dtype
    return torch.float64


def _some(fn: Callable[..., Any], draw: Draw) -> Samples:
    return gather(signature_of(fn), draw(_LEARN, torch.Generator().manual_seed(0)), {}, 0)


def _guess(fn: Callable[..., Any]) -> tuple[Any, ...]:
    try:
        return guess_samples(fn)
    except BatchproofError as error:
        raise BatchproofError(f"{title_of(fn)} does not take a prediction and a target, and {error}") from error


def _guessed(fn: Callable[..., Any], rows: Sequence[Any], distribution: Distribution) -> Population:
    samples = gather(signature_of(fn), rows, {}, 0)
    given = ", ".join(f"{given.name} {given.what}" for given in samples.given(True))
    text = f"{samples.n:,} samples guessed from the parameters' names, drawn with replacement"
    found = _resampled(fn, _widest(fn, samples), text)
    return replace(found, note=f"{title_of(fn)} does not take {distribution}; it was given {given}: pass your own data")


def _are_quantities(rows: Sequence[Any]) -> bool:
    """Whether a prediction and a target are numbers of any size, and neither classes nor vectors."""
    return all(
        isinstance(row, Tensor) and row.ndim == 1 and row.is_floating_point() and len(torch.unique(row[:16])) > 2
        for row in rows
    )


def _only_difference(fn: Callable[[Tensor, Tensor], Any]) -> bool:
    generator = torch.Generator().manual_seed(0)
    try:
        for n in (2, 9):
            errors, target = torch.randn(2, n, generator=generator, dtype=torch.float64)
            a = components.values(fn(target + errors, target))
            b = components.values(fn(errors, torch.zeros_like(errors)))
            if not close(a, b, absolute=NEXT_TO_NOTHING):
                return False
    except Exception:  # noqa: BLE001 - it does not take such arguments: then it gets the ones that it was guessed to take
        return False
    return True


def _errors_among(fn: Callable[..., Any], samples: Samples) -> Tensor | None:
    """The errors in the user's samples, where the function is one of errors alone."""
    leaves = samples.leaves
    quantities = [isinstance(leaf, Tensor) and leaf.ndim == 1 and leaf.is_floating_point() for leaf in leaves]
    if not all(quantities) or len(leaves) > 2:
        return None
    first: Tensor = leaves[0].double()
    if len(leaves) == 1:
        return first
    errors = first - leaves[1].double()
    return errors if _only_difference(fn) and _same_here(fn, samples.first(_LONGEST), errors[:_LONGEST]) else None


def _same_here(fn: Callable[..., Any], samples: Samples, errors: Tensor) -> bool:
    """Whether on these samples, too, only the difference counts: no target marks a missing value."""
    args, kwargs = samples.all()
    try:
        a, b = components.values(fn(*args, **kwargs)), components.values(fn(errors.clone(), torch.zeros_like(errors)))
    except Exception:  # noqa: BLE001 - then theory is not asked
        return False
    return close(a, b, 1e-6)
