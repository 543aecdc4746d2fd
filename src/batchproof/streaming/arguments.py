"""Read a call's arguments: which tensors carry samples, how many, and what is the same for all batches.

Arguments are trees of tensors, numpy arrays and lists. A list of numbers or strings is one column of samples.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError

Dims = int | tuple[int | None, ...]


@dataclass(frozen=True)
class Layout:
    """The structure of a call: its tree, and each leaf's name and batch dimension (None: the same for all batches)."""

    skeletons: tuple[Any, ...]  # one for each argument: its containers, every leaf a zero
    names: tuple[str, ...]
    dims: tuple[int | None, ...]
    keywords: tuple[str, ...]


@dataclass
class Call:
    """One batch: the leaves of its arguments and the number of samples."""

    layout: Layout
    leaves: list[Any]
    n: int

    @property
    def columns(self) -> list[Any]:
        """The leaves that carry samples."""
        return [leaf for leaf, dim in zip(self.leaves, self.layout.dims, strict=True) if dim is not None]

    def all_tensors(self) -> bool:
        return all(isinstance(leaf, torch.Tensor) for leaf in self.columns)


def check_batch_dim(batch_dim: Any) -> Dims:
    """An int, or one per argument as a tuple; raise BatchproofError where it is something else."""
    given: Any = tuple(batch_dim) if isinstance(batch_dim, (list, tuple)) else batch_dim
    entries = given if isinstance(given, tuple) else (given,)
    if entries == (None,) or not all(entry is None or type(entry) is int for entry in entries):
        raise BatchproofError(f"batch_dim={batch_dim!r}: expected an int, or a tuple of int or None per argument")
    dims: Dims = given
    return dims


def is_column(leaf: Any) -> bool:
    """A list with no tensor or array in it: an entry for each sample, not a tree."""
    return isinstance(leaf, list) and all(
        isinstance(item, (int, float, str, bool)) or is_column(list(item) if isinstance(item, tuple) else item)
        for item in leaf
    )


def is_array(leaf: Any) -> bool:
    return type(leaf).__module__.partition(".")[0] == "numpy" and hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def read(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], batch_dim: Dims) -> Call:
    """The leaves of a call.

    Raises:
        BatchproofError: an argument has no batch dimension, is empty, or disagrees on the number of samples.
    """
    if isinstance(batch_dim, tuple) and len(batch_dim) != len(args):
        raise BatchproofError(
            f"batch_dim names {len(batch_dim)} positional arguments, the call has {len(args)}; give one per argument"
        )
    names = parameter_names(fn, len(args))
    leaves: list[Any] = []
    dims: list[int | None] = []
    labels: list[str] = []
    skeletons = []
    for position, value in enumerate([*args, *kwargs.values()]):
        named = position < len(args)
        label = names[position] if named else list(kwargs)[position - len(args)]
        dim = batch_dim if isinstance(batch_dim, int) else batch_dim[position] if named else 0
        parts, _ = pytree.tree_flatten_with_path(value, is_leaf=is_column)
        skeletons.append(pytree.tree_map(lambda leaf: 0, value, is_leaf=is_column))
        for path, part in parts:
            leaves.append(part)
            labels.append(f"'{label}{pytree.keystr(path)}'")
            dims.append(_dim_of(part, dim, labels[-1]))
    layout = Layout(tuple(skeletons), tuple(labels), tuple(dims), tuple(kwargs))
    return Call(layout, leaves, _count(leaves, layout))


def _dim_of(leaf: Any, dim: int | None, label: str) -> int | None:
    if dim is None:
        return None
    if is_column(leaf):
        return 0
    if not isinstance(leaf, torch.Tensor) and not is_array(leaf):
        return None
    if not -leaf.ndim <= dim < leaf.ndim:
        raise BatchproofError(
            f"argument {label} of shape {tuple(leaf.shape)} has no dimension {dim} to hold the batch; "
            "give batch_dim one entry per argument, None for what all batches share"
        )
    return dim % int(leaf.ndim)


def length(leaf: Any, dim: int) -> int:
    return len(leaf) if isinstance(leaf, list) else int(leaf.shape[dim])


def samples_in(leaves: Sequence[Any], dims: Sequence[int | None]) -> int:
    """The number of samples that leaves carry."""
    return next(length(leaf, dim) for leaf, dim in zip(leaves, dims, strict=True) if dim is not None)


def shape_of(leaf: Any) -> str:
    return f"a list of {len(leaf)}" if isinstance(leaf, list) else f"shape {tuple(leaf.shape)}"


def _count(leaves: Sequence[Any], layout: Layout) -> int:
    first: tuple[str, Any, int] | None = None
    for leaf, label, dim in zip(leaves, layout.names, layout.dims, strict=True):
        if dim is None:
            continue
        n = length(leaf, dim)
        if n == 0:
            raise BatchproofError(f"the batch is empty: argument {label} has {shape_of(leaf)}; skip such a batch")
        if first is None:
            first = label, leaf, n
        elif n != first[2]:
            raise BatchproofError(
                f"argument {label} ({shape_of(leaf)}, batch dimension {dim}) has {n} samples where "
                f"argument {first[0]} ({shape_of(first[1])}) has {first[2]}; batch_dim=None marks what batches share"
            )
    if first is None:
        raise BatchproofError(
            "no argument carries samples: expected a tensor, an array or a list with a batch dimension"
        )
    return first[2]


def bound(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raise TypeError, as a call would, where the function does not take these arguments."""
    try:
        taken = inspect.signature(fn.forward if isinstance(fn, torch.nn.Module) else fn)
    except (TypeError, ValueError):
        return
    taken.bind(*args, **kwargs)


def parameter_names(fn: Callable[..., Any], count: int) -> list[str]:
    """The names of the first positional parameters, numbered where the function does not name them."""
    try:
        target = fn.forward if isinstance(fn, torch.nn.Module) else fn
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [plain[i] if i < len(plain) else f"#{i + 1}" for i in range(count)]


def signature(call: Call) -> tuple[Any, ...]:
    """What must be alike for two batches to be folded by the same code."""
    parts: list[Any] = [call.layout.keywords]
    for leaf, dim in zip(call.leaves, call.layout.dims, strict=True):
        if isinstance(leaf, torch.Tensor):
            rest = tuple(leaf.shape) if dim is None else (*leaf.shape[:dim], *leaf.shape[dim + 1 :])
            parts.append((leaf.dtype, leaf.device, rest, dim))
        else:
            parts.append(type(leaf) if dim is not None else ("fixed", repr(leaf)))
    return tuple(parts)


def by_shape(calls: Sequence[Call]) -> list[list[Call]]:
    """Batches whose samples have one shape together, the most samples first."""
    groups: dict[Any, list[Call]] = {}
    for call in calls:
        groups.setdefault(signature(call), []).append(call)
    return sorted(groups.values(), key=lambda group: sum(call.n for call in group), reverse=True)


def rebuild(layout: Layout, leaves: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call from its leaves."""
    values, start = [], 0
    for skeleton in layout.skeletons:
        tree = pytree.tree_structure(skeleton)
        values.append(pytree.tree_unflatten(list(leaves[start : start + tree.num_leaves]), tree))
        start += tree.num_leaves
    count = len(values) - len(layout.keywords)
    return values[:count], dict(zip(layout.keywords, values[count:], strict=True))


def keep(call: Call) -> Call:
    """A copy whose samples the caller can no longer change."""
    return Call(call.layout, [copied(leaf) for leaf in call.leaves], call.n)


def copied(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        with torch.inference_mode(False):
            return leaf.detach().clone()
    if isinstance(leaf, list):
        return list(leaf)
    return leaf.copy() if is_array(leaf) else leaf


def join(calls: Sequence[Call]) -> Call:
    """Several batches as one.

    Raises:
        BatchproofError: their samples have different shapes.
    """
    first = calls[0]
    if len(calls) == 1:
        return first
    leaves: list[Any] = []
    for position, dim in enumerate(first.layout.dims):
        parts = [call.leaves[position] for call in calls]
        leaves.append(parts[0] if dim is None else _concatenate(parts, dim, first.layout.names[position]))
    return Call(first.layout, leaves, sum(call.n for call in calls))


def _concatenate(parts: list[Any], dim: int, label: str) -> Any:
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    shapes = {(*part.shape[:dim], *part.shape[dim + 1 :]) for part in parts}
    if len(shapes) > 1:
        raise BatchproofError(
            f"argument {label} came with samples of different shapes, {' and '.join(map(str, sorted(shapes)[:3]))}: "
            "they are kept and cannot be put together; pad them to one length"
        )
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts, dim)
    import numpy

    if any(isinstance(part, numpy.ma.MaskedArray) for part in parts):
        return numpy.ma.concatenate(parts, dim)  # type: ignore[no-untyped-call]
    return numpy.concatenate(parts, dim)


def one_sample(call: Call) -> Call:
    """The first sample of a batch: what later batches must be like."""
    leaves = []
    for leaf, dim in zip(call.leaves, call.layout.dims, strict=True):
        if dim is None:
            leaves.append(leaf)
        elif isinstance(leaf, torch.Tensor):
            leaves.append(leaf.detach().narrow(dim, 0, 1).clone())
        else:
            leaves.append(leaf[:1])
    return Call(call.layout, leaves, 1)


def tensors_of(call: Call) -> tuple[list[torch.Tensor], tuple[int | None, ...]]:
    """The tensors of a call and their batch dimensions; other leaves are fixed."""
    pairs = [
        (leaf, dim) for leaf, dim in zip(call.leaves, call.layout.dims, strict=True) if isinstance(leaf, torch.Tensor)
    ]
    return [leaf for leaf, _ in pairs], tuple(dim for _, dim in pairs)
