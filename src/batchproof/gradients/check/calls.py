"""The forward passes of a model: which samples each saw, and whether a backward pass went back through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError
from batchproof.ground import trees

#: Inputs of more bytes are not looked at, and of an output only some numbers.
MOST_BYTES, NUMBERS = 1 << 26, 16


@dataclass
class ModelCall:
    """One forward pass.

    Attributes:
        has_graph: Whether gradients were on.
        rows: A number for each sample, which tells it from others; empty where there are none to be seen.
        shape: The shapes and types of a sample.
        output: Some numbers of what came out.
        reached: Whether a backward pass came to what it gave.
    """

    has_graph: bool
    rows: tuple[int, ...]
    shape: tuple[Any, ...]
    output: tuple[float, ...] = ()
    reached: bool = False


class CallLog:
    """Notes the calls of a model from outside it; its inputs are moved by a rounding unit, or widened, if asked."""

    def __init__(self, model: torch.nn.Module | None, nudge: int | None = None, *, wide: bool = False) -> None:
        self.model = model
        self.wide = wide
        self.generator = None if nudge is None else torch.Generator().manual_seed(nudge)
        self.calls: list[ModelCall] = []
        self.depth = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the calls meanwhile."""
        if self.model is None:
            yield
            return
        before = self.model.register_forward_pre_hook(self._enter, with_kwargs=True)
        after = self.model.register_forward_hook(self._leave)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def taken(self) -> list[ModelCall]:
        """The calls since the last time."""
        calls, self.calls, self.depth = self.calls, [], 0
        return calls

    def _enter(self, module: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        self.depth += 1
        if self.depth > 1:
            return None
        self.calls.append(ModelCall(torch.is_grad_enabled(), *_rows(list(_tensors((args, kwargs))))))
        if not self.wide and self.generator is None:
            return None
        return tuple(self._argument(arg) for arg in args), {name: self._argument(arg) for name, arg in kwargs.items()}

    def _argument(self, given: Any) -> Any:
        """What a model was given, with other numbers in it; as it is where it cannot be put together again."""
        try:
            return trees.closed(pytree.tree_map(self._changed, trees.opened(given, "input")))
        except BatchproofError:
            return given

    def _changed(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        if self.generator is None:
            return leaf.double()
        signs = torch.randint(0, 2, leaf.shape, generator=self.generator).mul_(2).sub_(1)
        return leaf * (1 + signs.to(leaf.device, leaf.dtype) * torch.finfo(leaf.dtype).eps)

    def _leave(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        self.depth = max(0, self.depth - 1)
        if self.depth or not self.calls:
            return
        call = self.calls[-1]
        for leaf in _tensors(output):
            if leaf.is_floating_point() and not call.output:
                flat = leaf.detach().reshape(-1)
                call.output = tuple(flat[:: max(1, flat.numel() // NUMBERS)].double().tolist())
            if leaf.requires_grad and leaf.grad_fn is not None:
                leaf.register_hook(lambda _, call=call: setattr(call, "reached", True))  # type: ignore[no-untyped-call]


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of an output or of arguments, also in an object that is a mapping of its own kind."""
    if isinstance(output, Tensor):
        yield output
    elif hasattr(output, "values") and callable(output.values):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from _tensors(part)


def _rows(tensors: Sequence[Tensor]) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A number for each sample and what samples are like; nothing where the tensors do not have one row for each."""
    tensors = [tensor for tensor in tensors if tensor.ndim and tensor.layout is torch.strided and tensor.numel()]
    if not tensors or hasattr(tensors[0], "full_tensor") or sum(tensor.nbytes for tensor in tensors) > MOST_BYTES:
        return (), ()
    n = len(tensors[0])
    of_samples = [tensor for tensor in tensors if len(tensor) == n]
    marks = torch.zeros(n, dtype=torch.int64)
    for place, tensor in enumerate(of_samples):
        flat = tensor.detach().cpu().contiguous().reshape(n, -1).view(torch.uint8).to(torch.int64)
        factors = torch.randint(1, 1 << 40, (flat.shape[1],), generator=torch.Generator().manual_seed(place))
        marks += (flat * factors).sum(1)
    return tuple(marks.tolist()), tuple((tuple(tensor.shape[1:]), tensor.dtype) for tensor in of_samples)


def seen(calls: Sequence[ModelCall]) -> Counter[int]:
    """How many times each sample went through the model with a graph."""
    return Counter(row for call in calls if call.has_graph for row in call.rows)


def shapes(calls: Sequence[ModelCall]) -> set[tuple[Any, ...]]:
    """What samples that went through the model with a graph were like."""
    return {call.shape for call in calls if call.has_graph}
