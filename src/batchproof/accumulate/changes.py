"""A micro-batch with some of its samples changed, whatever it is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from batchproof.streaming.trees import is_column

#: How deep to look for samples in what a micro-batch is made of.
DEPTH = 4
#: Changes of numbers, in units of their spread: one that turns decisions (which expert, which code), one that does not.
LARGE, SMALL = 2.0, 1e-2


@dataclass(frozen=True)
class Samples:
    """Where a micro-batch holds its samples.

    Attributes:
        micro_batch: itself.
        dims: for each of its leaves the dimension that counts samples, None where there is none.
        n: the number of samples.
    """

    micro_batch: Any
    dims: tuple[int | None, ...]
    n: int

    def copied(self) -> Any:
        """The same samples; forward may write into them."""
        return _with(self.micro_batch, lambda number, leaf: _own(leaf, leaf) if isinstance(leaf, Tensor) else leaf)

    def crowded(self, rows: Sequence[int], by: int) -> Any | None:
        """Some samples replaced by another one, which may not find room among so many; None if all are alike."""
        order = [by if row in rows else row for row in range(self.n)]
        return self._changed(lambda leaf, dim: _taken(leaf, dim, order))

    def shaken(self, rows: Sequence[int], by: float) -> Any | None:
        """The real numbers of some samples moved by so many times their spread; None where there are none."""
        return self._changed(lambda leaf, dim: _shaken(leaf, dim, rows, by))

    def rows(self) -> list[Tensor]:
        """The tensors that hold samples, as a row for each."""
        found = list[Tensor]()
        for leaf, dim in zip(leaves_of(self.micro_batch), self.dims, strict=True):
            if isinstance(leaf, Tensor) and dim is not None:
                found.append(leaf.detach().movedim(dim, 0).reshape(self.n, -1))
        return found

    def first(self, count: int) -> Any:
        """The first samples alone."""
        order = list(range(count))

        def one(number: int, leaf: Any) -> Any:
            dim = self.dims[number]
            return leaf if dim is None else _taken(leaf, dim, order)

        return _with(self.micro_batch, one)

    def _changed(self, change: Callable[[Any, int], Any]) -> Any | None:
        different = False

        def one(number: int, leaf: Any) -> Any:
            nonlocal different
            dim = self.dims[number]
            new = leaf if dim is None else change(leaf, dim)
            if isinstance(leaf, Tensor):
                different = different or not torch.equal(new, leaf)
                return _own(new, leaf)
            different = different or new != leaf
            return new

        found = _with(self.micro_batch, one)
        return found if different else None


def find_samples(micro_batch: Any, n: int, batch_dim: int) -> Samples | None:
    """The samples behind ``n`` rows of outputs: as many, or a whole fraction where forward flattens them."""
    leaves = list(leaves_of(micro_batch))
    sizes = {leaf.shape[0] if isinstance(leaf, Tensor) else len(leaf) for leaf in leaves if _has_samples(leaf)}
    for size in [n, *sorted((size for size in sizes if size and n % size == 0), reverse=True)]:
        dims = tuple(_dim(leaf, size, batch_dim) for leaf in leaves)
        if any(dim is not None for dim in dims):
            return Samples(micro_batch, dims, size)
    return None


def put_together(micro_batches: Sequence[Any]) -> Any | None:
    """Micro-batches of one sample each as one of several; None where they are not alike."""
    columns = [list(leaves_of(one)) for one in micro_batches]
    kinds = {tuple(_kind(leaf) for leaf in leaves) for leaves in columns}
    if len(kinds) > 1:
        return None

    def joined(number: int, leaf: Any) -> Any:
        parts = [leaves[number] for leaves in columns]
        if isinstance(leaf, Tensor):
            return torch.cat(parts) if leaf.ndim and len(leaf) == 1 else leaf
        return [item for part in parts for item in part]

    return _with(micro_batches[0], joined)


def leaves_of(thing: Any) -> Iterator[Any]:
    """The tensors and the lists of plain values that a thing is made of."""
    found: list[Any] = []

    def one(number: int, leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    _with(thing, one)
    return iter(found)


def _own(new: Tensor, leaf: Tensor) -> Tensor:
    """A copy of a tensor, which forward may differentiate by where it may by another."""
    return new.detach().clone().requires_grad_(leaf.requires_grad)


def _kind(leaf: Any) -> Any:
    return (leaf.dtype, leaf.device, leaf.shape) if isinstance(leaf, Tensor) else len(leaf)


def _has_samples(leaf: Any) -> bool:
    return leaf.ndim > 0 if isinstance(leaf, Tensor) else True


def _dim(leaf: Any, size: int, batch_dim: int) -> int | None:
    if not isinstance(leaf, Tensor):
        return 0 if len(leaf) == size else None
    if -leaf.ndim <= batch_dim < leaf.ndim and leaf.shape[batch_dim] == size:
        return batch_dim % leaf.ndim
    return 0 if leaf.ndim and leaf.shape[0] == size else None


def _taken(leaf: Any, dim: int, order: Sequence[int]) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.detach().index_select(dim, torch.tensor(order, device=leaf.device))
    return [leaf[place] for place in order]


def _shaken(leaf: Any, dim: int, rows: Sequence[int], by: float) -> Any:
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or not leaf.numel():
        return leaf
    finite = leaf.detach().double()
    finite = finite[finite.isfinite()]
    spread = float(finite.std(unbiased=False)) if finite.numel() else 0.0
    picked = torch.tensor(rows, device=leaf.device)
    old = leaf.detach().index_select(dim, picked)
    # every number by another amount, so that no sum over them stays as it is
    noise = torch.arange(old.numel(), dtype=torch.float64, device=leaf.device).add(1).mul(2.399963).sin()
    moved = old.double() + by * (spread or 1.0) * (noise.reshape(old.shape) + 0.3)
    return leaf.detach().clone().index_copy(dim, picked, moved.to(leaf.dtype))


def _with(thing: Any, leaf: Callable[[int, Any], Any]) -> Any:
    """A copy of a thing with other leaves, which are numbered."""
    count = 0

    def one(part: Any, depth: int) -> Any:
        nonlocal count
        if isinstance(part, Tensor) or (isinstance(part, list) and part and is_column(part)):
            count += 1
            return leaf(count - 1, part)
        return part if depth > DEPTH else _rebuilt(part, lambda inner: one(inner, depth + 1))

    return one(thing, 0)


def _rebuilt(thing: Any, one: Callable[[Any], Any]) -> Any:
    """A container with other parts; anything else as it is."""
    if isinstance(thing, (list, tuple)):
        parts = [one(part) for part in thing]
        return type(thing)(*parts) if hasattr(thing, "_fields") else type(thing)(parts)
    if isinstance(thing, Mapping):
        new: Any = copy.copy(thing)
        for name, part in thing.items():
            changed = one(part)
            if changed is not part:
                new[name] = changed
        return new
    held = getattr(thing, "__dict__", None)
    if not isinstance(held, dict) or callable(thing) or isinstance(thing, type):
        return thing
    changed_parts = {name: changed for name, part in held.items() if (changed := one(part)) is not part}
    if not changed_parts:
        return thing
    new = copy.copy(thing)
    vars(new).update(changed_parts)
    return new
