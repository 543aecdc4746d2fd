"""The language of recordings: operations, their arguments, and how to run one again.

It knows nothing of batches: `classify` compares several recordings and says what each value is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from batchproof.derive.site import CallSite

WIDE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}


class Unrecordable(Exception):
    """The function cannot be recorded; the message says why, with the user's line."""


class AnotherPath(Unrecordable):
    """The function takes other operations on another number of samples, as a loop over them does."""


class RandomFunction(Exception):
    """The function draws random numbers; the message says where."""


@dataclass(frozen=True)
class Ref:
    """An operation's argument that is the value of that index."""

    index: int


@dataclass(frozen=True)
class Size:
    """A whole number that follows a length: ``scale * length + offset``.

    The length is the number of samples, or the size of dimension ``dim`` of value ``of`` where a selection decides it.
    """

    scale: int
    offset: int
    of: tuple[int, int] | None = None

    def at(self, n: int, lengths: dict[tuple[int, int], int]) -> int:
        return self.scale * (n if self.of is None else lengths[self.of]) + self.offset


@dataclass(frozen=True)
class Free:
    """A Python number that is neither fixed nor a length: known only when the function itself runs."""

    position: int


@dataclass
class Op:
    """One recorded operation."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    site: CallSite
    step: int  # which of the function's own operations this belongs to: decompositions share one
    result: Any = None  # a value, or several in a list or tuple, None where a gradient was not asked for

    @property
    def name(self) -> str:
        return str(self.func)


@dataclass
class Read:
    """A value that Python read: `if`, `.item()`, `.tolist()`."""

    value: int
    site: CallSite
    seen: Any = None


@dataclass
class Recording:
    """One run: operations with the numbers of this run, and every tensor that was seen."""

    ops: list[Op] = field(default_factory=list)
    tensors: list[torch.Tensor] = field(default_factory=list)
    inputs: tuple[int, ...] = ()
    captured: dict[int, torch.Tensor] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    result: list[Any] = field(default_factory=list)
    spec: Any = None
    others: list[list[Any]] = field(default_factory=list)  # the results of other ways
    first: int = 0  # how many of the operations are those of the first way
    asked: set[int] = field(default_factory=set)  # values whose size Python looked at
    rounds: bool = False  # whether the function works under autocast: in float64 that does not show


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are the same constant: -0.0 is another one than 0.0."""
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device or not torch.equal(a, b):
        return False
    if a.dtype.is_complex:
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    return not a.dtype.is_floating_point or torch.equal(a.signbit(), b.signbit())


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor, its floating type at its widest."""
    wide = WIDE.get(tensor.dtype)
    return tensor if wide is None else tensor.to(wide)


def widen_constant(value: Any) -> Any:
    """An argument of an operation, a floating type at its widest."""
    return WIDE.get(value, value) if isinstance(value, torch.dtype) else value


def call(func: Any, args: Any, kwargs: Any, value: Callable[[Any], Any]) -> Any:
    """Run an operation on a template, floating results at their widest."""
    slots = (Ref, Size, Free)
    args = replace(replace(args, slots, value), torch.dtype, widen_constant)
    kwargs = replace(replace(kwargs, slots, value), torch.dtype, widen_constant)
    result = func(*args, **kwargs)
    if isinstance(result, torch.Tensor):
        if "empty" in func.__name__:  # never read before it is written; but it must be the same each time
            result = torch.zeros_like(result)
        return widen(result)
    return replace(result, torch.Tensor, widen)


def replace(tree: Any, kind: Any, by: Callable[[Any], Any]) -> Any:
    """Replace the leaves of a type in an operation's arguments."""
    if isinstance(tree, kind):
        return by(tree)
    if type(tree) is tuple:
        return tuple([replace(leaf, kind, by) for leaf in tree])
    if type(tree) is list:
        return [replace(leaf, kind, by) for leaf in tree]
    if type(tree) is dict:
        return {key: replace(leaf, kind, by) for key, leaf in tree.items()}
    return tree


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves of an operation's arguments or results, in order."""
    if isinstance(tree, (tuple, list)):
        for leaf in tree:
            yield from leaves(leaf)
    elif isinstance(tree, dict):
        for leaf in tree.values():
            yield from leaves(leaf)
    else:
        yield tree


def shown_dtype(tensors: Sequence[torch.Tensor]) -> torch.dtype | None:
    """The narrow floating dtype that the user's function believes in, where there is one."""
    floating = {tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point}
    return floating.pop() if len(floating) == 1 and floating <= {*WIDE} else None


def outputs_of(op: Op, result: Any) -> dict[int, torch.Tensor]:
    """The values that an operation made, by index."""
    made = (leaf for leaf in leaves(result) if isinstance(leaf, torch.Tensor))
    return dict(zip(op.outputs, made, strict=False))
