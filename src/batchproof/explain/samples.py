"""The example's samples, and how to cut batches out of them.  Knows nothing of what is called with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from batchproof.explain.explanation import Given
from batchproof.streaming.arguments import Call, Dims, Layout, join, length, read, rebuild
from batchproof.streaming.trees import is_array

Arguments = tuple[Sequence[Any], dict[str, Any]]


@dataclass(frozen=True)
class Samples:
    """``n`` samples: the leaves of the arguments, and what every batch is given besides."""

    layout: Layout
    leaves: tuple[Any, ...]
    fixed: dict[str, Any]
    n: int

    @property
    def dims(self) -> tuple[int | None, ...]:
        """For each leaf its batch dimension, None where all batches share it."""
        return self.layout.dims

    @property
    def names(self) -> tuple[str, ...]:
        """For each leaf the parameter that it belongs to."""
        return tuple(name.replace("'", "") for name in self.layout.names)

    def all(self) -> Arguments:
        """The arguments of one call on all samples: copies, as the target may write into them."""
        return self.arrange([leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves])

    def batch(self, lo: int, hi: int) -> Arguments:
        """The arguments of one call on the samples ``lo`` to ``hi``."""
        return self.cut(lo, hi).all()

    def first(self, count: int) -> Samples:
        """The first ``count`` samples."""
        return self.cut(0, min(count, self.n))

    def cut(self, lo: int, hi: int) -> Samples:
        """The samples ``lo`` to ``hi``."""
        leaves = tuple(_cut(leaf, dim, lo, hi) for leaf, dim in zip(self.leaves, self.dims, strict=True))
        return replace(self, leaves=leaves, n=hi - lo)

    def reorder(self, order: torch.Tensor) -> Samples:
        """The samples in another order, or a choice of them."""
        leaves = tuple(_pick(leaf, dim, order) for leaf, dim in zip(self.leaves, self.dims, strict=True))
        return replace(self, leaves=leaves, n=len(order))

    def shuffled(self, seed: int) -> Samples:
        """The samples in a random order."""
        return self.reorder(torch.randperm(self.n, generator=torch.Generator().manual_seed(seed)))

    def varied(self, seed: int) -> Samples:
        """Every floating number of the samples scaled down a little at random: other data, in the same domain."""
        generator = torch.Generator().manual_seed(seed)
        leaves = tuple(_scaled(leaf, dim, generator) for leaf, dim in zip(self.leaves, self.dims, strict=True))
        return replace(self, leaves=leaves)

    def double(self) -> Samples:
        """The same with every floating leaf in double precision."""
        return replace(self, leaves=tuple(_double(leaf) for leaf in self.leaves))

    def given(self, guessed: bool) -> tuple[Given, ...]:
        """A line on each input, for the report."""
        return tuple(Given(name, _describe(leaf), guessed) for name, leaf in zip(self.names, self.leaves, strict=True))

    def arrange(self, leaves: Sequence[Any]) -> Arguments:
        """These leaves in the places of the arguments."""
        args, kwargs = rebuild(self.layout, leaves)
        return args, kwargs | self.fixed


def gather(target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], batch_dim: Dims) -> Samples:
    """Find the samples of an example.  A keyword is cut with it if it has as many samples, and is fixed otherwise.

    Raises:
        BatchproofError: an argument has no batch dimension, or disagrees on the number of samples.
    """
    n = read(target, args, {}, batch_dim).n if args else None
    cut = {name: value for name, value in kwargs.items() if n is None or _holds(value, n)}
    call = read(target, args, cut, batch_dim)
    leaves = tuple(leaf.detach() if isinstance(leaf, torch.Tensor) else leaf for leaf in call.leaves)
    fixed = {name: value for name, value in kwargs.items() if name not in cut}
    return Samples(call.layout, leaves, fixed, call.n)


def together(parts: Sequence[Samples]) -> Samples:
    """The samples of several, laid out alike, as one."""
    joined = join([Call(part.layout, list(part.leaves), part.n) for part in parts])
    return replace(parts[0], leaves=tuple(joined.leaves), n=joined.n)


def _holds(value: Any, n: int) -> bool:
    if isinstance(value, torch.Tensor) or is_array(value):
        return bool(value.ndim) and int(value.shape[0]) == n
    return isinstance(value, list) and len(value) == n


def _cut(leaf: Any, dim: int | None, lo: int, hi: int) -> Any:
    if dim is None:
        return leaf
    if isinstance(leaf, torch.Tensor):
        return leaf.narrow(dim, lo, min(hi, length(leaf, dim)) - lo)
    return leaf[(slice(None),) * dim + (slice(lo, hi),)] if is_array(leaf) else leaf[lo:hi]


def _pick(leaf: Any, dim: int | None, order: torch.Tensor) -> Any:
    if dim is None:
        return leaf
    if isinstance(leaf, torch.Tensor):
        return leaf.index_select(dim, order.to(leaf.device))
    return leaf.take(order.numpy(), axis=dim) if is_array(leaf) else [leaf[index] for index in order.tolist()]


def _double(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
        return leaf.double()
    return leaf.astype("float64") if is_array(leaf) and leaf.dtype.kind == "f" else leaf


def _scaled(leaf: Any, dim: int | None, generator: torch.Generator) -> Any:
    if dim is None or not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
        return leaf
    factor = 0.5 + 0.5 * torch.rand(leaf.shape, generator=generator, dtype=torch.float64)
    return (leaf * factor.to(leaf.device)).to(leaf.dtype)


def _describe(leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')} {_shape(leaf.shape)}"
    if is_array(leaf):
        return f"{leaf.dtype} array {_shape(leaf.shape)}"
    return f"list of {len(leaf)}" if isinstance(leaf, list) else repr(leaf)


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
