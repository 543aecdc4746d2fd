"""The example's samples, and how to cut batches out of them.  Knows nothing of what is called with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from batchproof.explanation.result import Given
from batchproof.ground.batch import Batch, Dims, Layout, copied, join, length, read, rebuild
from batchproof.ground.trees import is_array, is_plain

Arguments = tuple[Sequence[Any], dict[str, Any]]


@dataclass(frozen=True)
class Grouping:
    """How samples belong together.

    Attributes:
        size: How many are in a group.
        in_blocks: Whether a batch holds the first of all groups, then the second of all, and so on.
    """

    size: int
    in_blocks: bool = False

    def __str__(self) -> str:
        what = "pairs" if self.size == 2 else f"groups of {self.size}"
        parts = "two halves" if self.size == 2 else f"{self.size} parts"
        return f"{what} (in {parts} of the batch)" if self.in_blocks else what


@dataclass
class Calls:
    """How often a target was called with samples."""

    count: int = 0


@dataclass(frozen=True)
class Samples:
    """``n`` samples: the leaves of the arguments, and what every batch is given besides.

    Where groups must stay whole each is one sample, along one more dimension until the target is called.
    """

    layout: Layout
    leaves: tuple[Any, ...]
    fixed: dict[str, Any]
    n: int
    grouping: Grouping = Grouping(1)
    calls: Calls = field(default_factory=Calls, compare=False)

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
        return self.arrange([_own(leaf) for leaf in self.leaves])

    def batch(self, lo: int, hi: int) -> Arguments:
        """The arguments of one call on the samples ``lo`` to ``hi``."""
        return self.cut(lo, hi).all()

    @property
    def floating(self) -> list[torch.Tensor]:
        """The tensors of floating numbers, those in lists included."""
        leaves = [leaf for leaf in self.leaves if not isinstance(leaf, list) or not is_plain(leaf)]
        return [leaf for leaf in tree_leaves(leaves) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]

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
        """The samples with every floating leaf in double precision."""
        return replace(self, leaves=tuple(_double(leaf) for leaf in self.leaves))

    def given(self, guessed: bool) -> tuple[Given, ...]:
        """A line on each input, for the report."""
        return tuple(Given(name, _describe(leaf), guessed) for name, leaf in zip(self.names, self.leaves, strict=True))

    @property
    def can_be_grouped(self) -> bool:
        """Whether all that carries samples is a tensor."""
        return all(
            isinstance(leaf, torch.Tensor) for leaf, dim in zip(self.leaves, self.dims, strict=True) if dim is not None
        )

    def grouped(self, grouping: Grouping) -> Samples:
        """As many whole groups as there are, each of them a sample."""
        groups = self.n // grouping.size
        first = self.first(groups * grouping.size)
        leaves = tuple(_gathered(leaf, dim, grouping) for leaf, dim in zip(first.leaves, self.dims, strict=True))
        return replace(self, leaves=leaves, n=groups, grouping=grouping)

    def arrange(self, leaves: Sequence[Any]) -> Arguments:
        """These leaves in the places of the arguments of one call, which is counted."""
        self.calls.count += 1
        if self.grouping.size > 1:
            leaves = [_spread_out(leaf, dim, self.grouping) for leaf, dim in zip(leaves, self.dims, strict=True)]
        args, kwargs = rebuild(self.layout, leaves)
        return args, kwargs | self.fixed


def gather(
    target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], batch_dim: Dims, tried: bool = True
) -> Samples:
    """Find the samples of an example.  A keyword is cut with it if it has as many samples, and is fixed otherwise.

    Args:
        target: whose arguments they are.
        args: the positional ones.
        kwargs: those by name.
        batch_dim: as `exact` takes it.
        tried: whether the target may be called, to see which of two readings of a list it takes.

    Raises:
        BatchproofError: an argument has no batch dimension, or disagrees on the number of samples.
    """
    call = read(target, args, kwargs, batch_dim, tried=tried)
    names = call.layout.names
    fixed = {
        name: value
        for name, value in kwargs.items()
        if all(dim is None for dim in _dims_of(name, names, call.layout.dims))
    }
    cut = {name: value for name, value in kwargs.items() if name not in fixed}
    if fixed:
        call = read(target, args, cut, _without(batch_dim, fixed), tried=tried)
    leaves = tuple(leaf.detach() if isinstance(leaf, torch.Tensor) else leaf for leaf in call.leaves)
    return Samples(call.layout, leaves, fixed, call.n)


def _dims_of(keyword: str, names: Sequence[str], dims: Sequence[int | None]) -> list[int | None]:
    """The batch dimensions of one argument's leaves."""
    own = re.compile(rf"'{re.escape(keyword)}(['\[.]|$)")
    return [dim for name, dim in zip(names, dims, strict=True) if own.match(name)]


def _without(batch_dim: Dims, names: Collection[str]) -> Dims:
    if not isinstance(batch_dim, dict):
        return batch_dim
    return {name: dim for name, dim in batch_dim.items() if name not in names}


def together(parts: Sequence[Samples]) -> Samples:
    """The samples of several, laid out alike, as one."""
    joined = join([Batch(part.layout, list(part.leaves), part.n) for part in parts])
    return replace(parts[0], leaves=tuple(joined.leaves), n=joined.n)


def _own(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.clone()
    return copied(leaf) if isinstance(leaf, list) else leaf


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
    if isinstance(leaf, list) and not is_plain(leaf):
        return [tree_map(_double, entry) for entry in leaf]
    return leaf.astype("float64") if is_array(leaf) and leaf.dtype.kind == "f" else leaf


def _scaled(leaf: Any, dim: int | None, generator: torch.Generator) -> Any:
    if isinstance(leaf, list) and dim is not None and not is_plain(leaf):
        return [tree_map(lambda part: _scaled(part, dim, generator), entry) for entry in leaf]
    if dim is None or not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
        return leaf
    factor = 0.5 + 0.5 * torch.rand(leaf.shape, generator=generator, dtype=torch.float64)
    return (leaf * factor.to(leaf.device)).to(leaf.dtype)


def _gathered(leaf: Any, dim: int | None, grouping: Grouping) -> Any:
    """A tensor with one more dimension: groups, and samples of a group."""
    if dim is None:
        return leaf
    if grouping.in_blocks:
        return leaf.unflatten(dim, (grouping.size, -1)).transpose(dim, dim + 1)
    return leaf.unflatten(dim, (-1, grouping.size))


def _spread_out(leaf: Any, dim: int | None, grouping: Grouping) -> Any:
    """The tensor as the target takes it."""
    if dim is None:
        return leaf
    return (leaf.transpose(dim, dim + 1) if grouping.in_blocks else leaf).flatten(dim, dim + 1)


def _describe(leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')} {_shape(leaf.shape)}"
    if is_array(leaf):
        return f"{leaf.dtype} array {_shape(leaf.shape)}"
    return f"list of {len(leaf)}" if isinstance(leaf, list) else repr(leaf)


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
