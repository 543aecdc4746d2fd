"""The gradients that were there before, set aside while new ones are made, and put back or added to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils.weak import WeakTensorKeyDictionary

from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.sharding import is_sharded
from batchproof.ground.isolation import outermost

END = torch._C._functions.AccumulateGrad  # type: ignore[attr-defined]  # where a graph gathers a gradient
COMPILED = "CompiledFunctionBackward"  # a node of a compiled graph, whose parameters are among its inputs


class Ledger:
    """Every parameter that was reached so far, and the gradient that it had.

    While it is open, a parameter's ``.grad`` holds only what was made since. Activations that a model makes leaves of
    (for reentrant checkpointing) are reached too, and are not kept alive.

    Attributes:
        before: the gradients.
        fresh: parameters that no backward pass has come to yet.
    """

    def __init__(self) -> None:
        self.fresh: list[Tensor] = []
        self.before: MutableMapping[Tensor, Tensor | None] = WeakTensorKeyDictionary()

    def reach(
        self, outputs: Sequence[Tensor], apart: Iterable[Tensor] = (), shards: Mapping[Tensor, Tensor] | None = None
    ) -> None:
        """Set aside the gradients of all parameters that these outputs were made from, but for some.

        What was put together of shards for a pass gathers no gradient itself: ``shards`` says where it goes.
        """
        others = {*apart, *(shards or ())}
        self.hold((shards or {}).values())
        self.hold(leaf for leaf in leaves_of(outputs) if leaf not in others)

    def hold(self, parameters: Iterable[Tensor]) -> None:
        """Set aside the gradients of these."""
        for parameter in parameters:
            if parameter not in self.before:
                _refuse_hooks(parameter)
                self.before[parameter] = parameter.grad
                self.fresh.append(parameter)
                parameter.grad = None

    @property
    def made(self) -> list[Tensor]:
        """The gradients made since."""
        return [parameter.grad for parameter in self.before if parameter.grad is not None]

    def undo(self) -> None:
        """Every gradient as it was."""
        for parameter, grad in self.before.items():
            parameter.grad = grad
        self.before.clear()

    def close(self) -> None:
        """Add what was made to what was there, as ``backward`` does."""
        for parameter, grad in self.before.items():
            made = parameter.grad
            if grad is None:
                continue
            if made is None:
                parameter.grad = grad
            elif grad.is_sparse or made.is_sparse:
                parameter.grad = added(grad, made)
            else:
                parameter.grad = grad.add_(made)
        self.before.clear()


def leaves_of(outputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """The tensors at the ends of a graph that gather a gradient."""
    yield from (output for output in outputs if output.grad_fn is None and output.requires_grad)
    for node in nodes_of(outputs):
        if type(node) is END:
            yield node.variable
        elif isinstance(node, BackwardCFunction) and type(node).__name__ != COMPILED:
            # reentrant checkpointing: the graph is made only on the way back
            yield from (p for module in outermost(node) for p in module.parameters() if p.requires_grad)


def nodes_of(outputs: Iterable[Tensor]) -> Iterator[Any]:
    """The nodes of a graph."""
    # a graph has thousands, and each micro-batch a graph of its own
    todo: list[Any] = [output.grad_fn for output in outputs if output.grad_fn is not None]
    seen: set[object] = {None, *todo}
    while todo:
        node = todo.pop()
        yield node
        for parent, _ in node.next_functions:
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)


def added(a: Tensor, b: Tensor) -> Tensor:
    """The sum of two gradients; torch adds what is sparse to what is dense, not the other way round."""
    return b + a if a.is_sparse else a + b


def scale(grads: Sequence[Tensor], factor: float) -> None:
    """Multiply gradients in place."""
    apart = [grad for grad in grads if grad.is_sparse or is_sharded(grad)]
    dense = [grad for grad in grads if not (grad.is_sparse or is_sharded(grad))]
    if dense:
        torch._foreach_mul_(dense, factor)
    for grad in apart:
        grad.mul_(factor)


def _refuse_hooks(parameter: Tensor) -> None:
    hooks = [parameter._backward_hooks, getattr(parameter, "_post_accumulate_grad_hooks", None)]
    called = [hook for table in hooks for hook in (table or {}).values()]
    if not all(getattr(hook, "only_looks", False) for hook in called):
        raise BatchproofError(
            f"a parameter of shape {tuple(parameter.shape)} has a gradient hook, which would see the gradients of "
            "single micro-batches, not the whole: remove the hook, and do its work after accumulate"
        )
