"""How the values of two states become one. Each way is an object, and everything else asks it.

A new way is one class or object here, and its line in `MERGES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Combine = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class Merge(ABC):
    """How the values of two states become one.

    Attributes:
        name: What it is called in a plan's leaves and in a saved state.
        word: What a printed plan says is done to the values.
        noun: What a merged value is called in a sentence.
        collective: The ``torch.distributed.ReduceOp`` that does it over processes; empty where values are gathered.
    """

    name: str
    word: str
    noun: str
    collective: str = ""

    #: Whether a merged value's derivative by each of its parts is one: the derivative of a part is that of the whole.
    linear = False

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return repr(self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return merge_named, (self.name,)

    @abstractmethod
    def identity(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """The value that merges with any to that one: the state of no samples."""

    @abstractmethod
    def combiner(self, dtype: torch.dtype) -> Combine | None:
        """What makes one value of two; None where values are better collected, and joined at the end."""

    @abstractmethod
    def reduce(self, stacked: Tensor) -> Tensor:
        """One value of many that lie along the first dimension."""

    def join(self, parts: Sequence[Tensor], dim: int = 0) -> Tensor:
        """One value of several; ``dim`` is the dimension that samples lie along, where the values hold samples."""
        return parts[0] if len(parts) == 1 else self.reduce(torch.stack(list(parts)))

    @abstractmethod
    def scatter(self, kept: Tensor, slots: Tensor, values: Tensor) -> None:
        """Merge each of many values into one of many that are kept, in place: all three have one dimension."""

    def takes_out(self, dtype: torch.dtype) -> bool:
        """Whether the combiner takes ``out=``, a tensor to put the result in: large values then need no new memory."""
        return False

    def describe(self, rest: str) -> str:
        """A merged value in words, of which the rest is given: what is merged, and where."""
        return f"{self.noun}{rest}"

    def to_wires(self, value: Tensor) -> list[tuple[str, Tensor]]:
        """What is sent between processes for a value, each tensor with the collective that merges it."""
        return [(self.collective, _parts(value))]

    def from_wires(self, value: Tensor, merged: Iterator[Tensor]) -> Tensor:
        """The merged value, of the tensors that came back; ``value`` is what was sent."""
        found = next(merged)
        return (torch.view_as_complex(found.contiguous()) if value.is_complex() else found).to(value.dtype)


def _parts(value: Tensor) -> Tensor:
    """A complex tensor by its real and imaginary parts; others as they are."""
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


class Sum(Merge):
    """Values are added."""

    linear = True

    def identity(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.zeros(tuple(shape), dtype=dtype, device=device)

    def combiner(self, dtype: torch.dtype) -> Combine:
        return _add_by_parts if dtype.is_complex else torch.add

    def reduce(self, stacked: Tensor) -> Tensor:
        return stacked.sum(0, dtype=stacked.dtype)  # narrow whole numbers wrap around as the function's own sum does

    def scatter(self, kept: Tensor, slots: Tensor, values: Tensor) -> None:
        if kept.is_complex():
            for own, theirs in zip(_parts(kept).unbind(-1), _parts(values).unbind(-1), strict=True):
                own.scatter_add_(0, slots, theirs)
        else:
            kept.scatter_add_(0, slots, values)

    def takes_out(self, dtype: torch.dtype) -> bool:
        return not dtype.is_complex


def _add_by_parts(kept: Tensor, value: Tensor) -> Tensor:
    """Torch multiplies what it adds by one, which makes of an infinite part next to NaN a NaN as well."""
    return torch.view_as_complex(torch.add(_parts(kept), _parts(value.to(kept.dtype))))


@dataclass(frozen=True, eq=False, repr=False)
class Extreme(Merge):
    """The largest value is kept, or the smallest."""

    smallest: bool = False

    def worst(self, dtype: torch.dtype) -> float:
        """The number that any other replaces."""
        if dtype.is_floating_point:
            return float("inf") if self.smallest else float("-inf")
        info = torch.iinfo(dtype)
        return info.max if self.smallest else info.min

    def identity(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full(tuple(shape), self.worst(dtype), dtype=dtype, device=device)

    def combiner(self, dtype: torch.dtype) -> Combine:
        choose = torch.minimum if self.smallest else torch.maximum
        return lambda kept, value: choose(kept, value.to(kept.dtype))

    def reduce(self, stacked: Tensor) -> Tensor:
        return stacked.amin(0) if self.smallest else stacked.amax(0)

    def scatter(self, kept: Tensor, slots: Tensor, values: Tensor) -> None:
        kept.scatter_reduce_(0, slots, values, "amin" if self.smallest else "amax")

    def to_wires(self, value: Tensor) -> list[tuple[str, Tensor]]:
        """Backends compare a NaN as they like: where there is one goes beside, as a maximum."""
        if not value.is_floating_point():
            return super().to_wires(value)
        known = torch.where(value.isnan(), self.worst(value.dtype), value)
        return [(self.collective, known), ("MAX", value.isnan())]

    def from_wires(self, value: Tensor, merged: Iterator[Tensor]) -> Tensor:
        found = super().from_wires(value, merged)
        return torch.where(next(merged) > 0, float("nan"), found) if value.is_floating_point() else found


@dataclass(frozen=True, eq=False, repr=False)
class Truth(Merge):
    """Whether it holds for any, or for all."""

    for_all: bool = False

    def identity(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full(tuple(shape), self.for_all, dtype=torch.bool, device=device)

    def combiner(self, dtype: torch.dtype) -> Combine:
        return torch.logical_and if self.for_all else torch.logical_or

    def reduce(self, stacked: Tensor) -> Tensor:
        return stacked.all(0) if self.for_all else stacked.any(0)

    def scatter(self, kept: Tensor, slots: Tensor, values: Tensor) -> None:
        which = "amin" if self.for_all else "amax"
        kept.view(torch.uint8).scatter_reduce_(0, slots, values.view(torch.uint8), which)

    def describe(self, rest: str) -> str:
        return self.noun

    def to_wires(self, value: Tensor) -> list[tuple[str, Tensor]]:
        """Both as maxima, so that they share a collective with where there was a NaN."""
        return [(self.collective, ~value if self.for_all else value)]

    def from_wires(self, value: Tensor, merged: Iterator[Tensor]) -> Tensor:
        found = next(merged) > 0
        return ~found if self.for_all else found


class Concatenation(Merge):
    """Samples are kept, one after another."""

    linear = True

    def identity(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(0, dtype=dtype, device=device)

    def combiner(self, dtype: torch.dtype) -> None:
        return None

    def reduce(self, stacked: Tensor) -> Tensor:
        return stacked.flatten(0, 1)  # where samples lie along the first dimension

    def scatter(self, kept: Tensor, slots: Tensor, values: Tensor) -> None:
        raise NotImplementedError("rows are collected, and merged into nothing")

    def join(self, parts: Sequence[Tensor], dim: int = 0) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


SUM = Sum("sum", "add", "sum", "SUM")
MAX = Extreme("max", "maximum", "largest", "MAX")
MIN = Extreme("min", "minimum", "smallest", "MIN", smallest=True)
ANY = Truth("any", "or", "yes-or-no", "MAX")
ALL = Truth("all", "and", "yes-or-no", "MAX", for_all=True)
ROWS = Concatenation("rows", "keep", "rows")

MERGES = {merge.name: merge for merge in (SUM, MAX, MIN, ANY, ALL, ROWS)}


def merge_named(name: str) -> Merge:
    """The merge of a name, as it stands in a plan's leaves and in a saved state."""
    return MERGES[name]
