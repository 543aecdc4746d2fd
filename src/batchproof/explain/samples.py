"""The example inputs, and how to cut batches out of them.  Knows nothing of what is called with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from batchproof.errors import BatchproofError
from batchproof.explain.explanation import Given

BatchDim = int | Sequence[int | None]
Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Samples:
    """``n`` samples: the flattened arguments, and for each leaf its batch dimension (None: shared by all batches)."""

    leaves: tuple[Any, ...]
    dims: tuple[int | None, ...]
    names: tuple[str, ...]
    specs: tuple[TreeSpec, ...]
    keywords: tuple[str, ...]
    n: int

    def call(self) -> Call:
        """The arguments of one call on all samples."""
        return self.arrange(self.leaves)

    def batch(self, lo: int, hi: int) -> Call:
        """The arguments of one call on the samples ``lo`` to ``hi``."""
        return self.arrange(tuple(_cut(leaf, dim, lo, hi) for leaf, dim in zip(self.leaves, self.dims, strict=True)))

    def first(self, count: int) -> Samples:
        """The first ``count`` samples."""
        leaves = tuple(_cut(leaf, dim, 0, count) for leaf, dim in zip(self.leaves, self.dims, strict=True))
        return replace(self, leaves=leaves, n=min(count, self.n))

    def reorder(self, order: torch.Tensor) -> Samples:
        """The samples in another order (or a choice of them)."""
        leaves = tuple(_pick(leaf, dim, order) for leaf, dim in zip(self.leaves, self.dims, strict=True))
        return replace(self, leaves=leaves, n=len(order))

    def shuffled(self, seed: int) -> Samples:
        """The samples in a random order."""
        return self.reorder(torch.randperm(self.n, generator=torch.Generator().manual_seed(seed)))

    def double(self) -> Samples:
        """The same with every floating leaf in double precision."""
        return replace(self, leaves=tuple(_double(leaf) for leaf in self.leaves))

    def given(self, guessed: bool) -> tuple[Given, ...]:
        """A line on each input, for the report."""
        return tuple(Given(name, _describe(leaf), guessed) for name, leaf in zip(self.names, self.leaves, strict=True))

    def arrange(self, leaves: Sequence[Any]) -> Call:
        """These leaves in the places of the arguments."""
        rest = iter(leaves)
        values = [tree_unflatten([next(rest) for _ in range(spec.num_leaves)], spec) for spec in self.specs]
        count = len(values) - len(self.keywords)
        return tuple(values[:count]), dict(zip(self.keywords, values[count:], strict=True))


def gather(target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], batch_dim: BatchDim) -> Samples:
    """Flatten the example and find its samples; an argument that does not fit the others is named in the error."""
    named = [*zip(parameter_names(target, len(args)), args, strict=True), *kwargs.items()]
    flat = [tree_flatten(value, is_leaf=_is_rows) for _, value in named]
    leaves = [leaf for part, _ in flat for leaf in part]
    labels = [label for (name, _), (part, _) in zip(named, flat, strict=True) for label in _labels(name, len(part))]
    wanted = [want for want, (part, _) in zip(_dims(args, kwargs, batch_dim), flat, strict=True) for _ in part]
    dims: list[int | None] = []
    n, leader = 0, ""
    for leaf, label, (dim, required) in zip(leaves, labels, wanted, strict=True):
        length = _length(leaf, dim)
        if length is None:
            _refuse_missing(leaf, label, dim, required and not isinstance(batch_dim, int))
        elif not leader:
            n, leader = length, label
        elif length != n and required:
            raise BatchproofError(
                f"{label} has {length} samples ({_describe(leaf)}, dimension {dim}) where {leader} has {n}; "
                f"if all batches share {label}, say so: batch_dim={_suggestion(args, n)}"
            )
        elif length != n:
            length = None
        dims.append(dim if length is not None else None)
    if not leader:
        raise BatchproofError("no argument has a batch dimension: pass tensors, arrays or lists of samples")
    if n == 0:
        raise BatchproofError(f"{leader} has no samples ({_describe(leaves[0])})")
    return Samples(tuple(_detached(leaf) for leaf in leaves), tuple(dims), tuple(labels), tuple(spec for _, spec in flat), tuple(kwargs), n)


def _dims(args: tuple[Any, ...], kwargs: dict[str, Any], batch_dim: BatchDim) -> Iterator[tuple[int | None, bool]]:
    """For each argument, its batch dimension, and whether it must have as many samples as the others."""
    if isinstance(batch_dim, int):
        yield from [(batch_dim, True)] * len(args) + [(batch_dim, False)] * len(kwargs)
        return
    if len(batch_dim) != len(args):
        raise BatchproofError(f"batch_dim has {len(batch_dim)} entries for {len(args)} positional arguments")
    yield from [(dim, dim is not None) for dim in batch_dim]
    yield from [(next((dim for dim in batch_dim if dim is not None), 0), False)] * len(kwargs)


def _labels(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}[{index}]" for index in range(count)]


def parameter_names(target: Callable[..., Any], count: int) -> list[str]:
    """The names of the first ``count`` positional parameters, ``argument 1`` … where they have none."""
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in positional][:count]
    return names + [f"argument {index + 1}" for index in range(len(names), count)]


def _is_rows(value: Any) -> bool:
    """A list of plain values (numbers, strings) is samples; a list of tensors is a container."""
    if not isinstance(value, (list, tuple)):
        return False
    return bool(value) and all(isinstance(item, (int, float, str, bytes)) or _is_rows(item) for item in value)


def _length(leaf: Any, dim: int | None) -> int | None:
    if dim is None:
        return None
    if isinstance(leaf, (torch.Tensor, np.ndarray)):
        return int(leaf.shape[dim]) if -leaf.ndim <= dim < leaf.ndim else None
    return len(leaf) if isinstance(leaf, (list, tuple)) and dim == 0 else None


def _refuse_missing(leaf: Any, label: str, dim: int | None, required: bool) -> None:
    if required and isinstance(leaf, (torch.Tensor, np.ndarray)):
        raise BatchproofError(f"{label} has no dimension {dim} ({_describe(leaf)}): its batch_dim should be None")


def _suggestion(args: tuple[Any, ...], n: int) -> str:
    found = [0 if any(_length(leaf, 0) == n for leaf in tree_flatten(arg, is_leaf=_is_rows)[0]) else None for arg in args]
    return repr(tuple(found))


def _cut(leaf: Any, dim: int | None, lo: int, hi: int) -> Any:
    if dim is None:
        return leaf
    if isinstance(leaf, torch.Tensor):
        hi = min(hi, leaf.shape[dim])
        return leaf.narrow(dim, lo, hi - lo)
    if isinstance(leaf, np.ndarray):
        return leaf[(slice(None),) * (dim % leaf.ndim) + (slice(lo, hi),)]
    return leaf[lo:hi]


def _pick(leaf: Any, dim: int | None, order: torch.Tensor) -> Any:
    if dim is None:
        return leaf
    if isinstance(leaf, torch.Tensor):
        return leaf.index_select(dim, order.to(leaf.device))
    if isinstance(leaf, np.ndarray):
        return leaf.take(order.numpy(), axis=dim)
    return type(leaf)(leaf[index] for index in order.tolist())


def _double(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
        return leaf.double()
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f":
        return leaf.astype(np.float64)
    return leaf


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, torch.Tensor) else leaf


def _describe(leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')} {_shape(leaf.shape)}"
    if isinstance(leaf, np.ndarray):
        return f"{leaf.dtype} array {_shape(leaf.shape)}"
    if isinstance(leaf, (list, tuple)):
        return f"list of {len(leaf)}"
    return repr(leaf) if isinstance(leaf, (int, float, str, bool, type(None))) else type(leaf).__name__


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
