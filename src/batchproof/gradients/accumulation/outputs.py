"""What a forward pass hands to the loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.ground.batch import Batch, Dims, bound, read, rebuild

ALREADY_A_LOSS = (
    "{} is one number and no batch of samples, as a loss that was computed already: hand over what the loss is "
    "computed from, such as logits and labels, and the loss itself as loss_fn"
)
A_LOSS_BESIDE = (
    "{} holds a loss that the model has computed from its labels already: call the model without them, or hand over "
    "only what loss_fn takes, such as logits and labels"
)
EMPTY = "micro_batches is empty: there is nothing to take a gradient of"


def read_outputs(loss_fn: Callable[..., Any], outputs: Any, batch_dim: Dims) -> Batch:
    """The arguments of the loss: a tuple or list gives positional ones, a mapping keywords, else it is the only one.

    Raises:
        BatchproofError: the loss does not take these arguments, or they hold no samples.
    """
    if isinstance(outputs, Mapping):
        args, kwargs = (), dict(outputs)
    else:
        args, kwargs = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,), {}
    return read_loss_arguments(loss_fn, args, kwargs, batch_dim, "what forward returned")


def read_loss_arguments(
    loss_fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], batch_dim: Dims, what: str = "this"
) -> Batch:
    """The arguments of the loss, as a call of it gives them."""
    given = (*args, *kwargs.values())
    if len(given) == 1 and isinstance(given[0], Tensor) and given[0].ndim == 0:
        raise BatchproofError(ALREADY_A_LOSS.format(what))
    try:
        bound(loss_fn, args, kwargs)
    except TypeError as error:
        which = ", ".join(map(str, kwargs)) if kwargs else f"{len(args)} argument{'s' if len(args) != 1 else ''}"
        raise BatchproofError(
            f"the loss cannot be called with {what}, {which} ({error}): {_name(loss_fn)} takes {_parameters(loss_fn)}"
        ) from None
    try:
        return read(loss_fn, args, kwargs, batch_dim)
    except BatchproofError as error:
        if any(_has_loss(arg) for arg in (kwargs, *given)):
            raise BatchproofError(A_LOSS_BESIDE.format(what)) from None
        raise BatchproofError(f"{what} is no batch of samples: {error}") from None


def _has_loss(argument: Any) -> bool:
    """Whether it is what a model gives that was called with its labels."""
    loss = argument.get("loss") if isinstance(argument, Mapping) else None
    return isinstance(loss, Tensor) and loss.ndim == 0


def uncompiled(loss_fn: Callable[..., Any]) -> Callable[..., Any]:
    """A loss as it was before ``torch.compile``: a compiled one hides its operations."""
    original: Callable[..., Any] = getattr(loss_fn, "_torchdynamo_orig_callable", None) or loss_fn
    module = vars(original).get("_modules", {}).get("_orig_mod") if isinstance(original, torch.nn.Module) else None
    return original if module is None else module


def carries_gradient(call: Batch) -> tuple[bool, ...]:
    """For each leaf, whether a gradient flows through it."""
    return tuple(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in call.leaves)


def with_gradient(call: Batch, flags: Sequence[bool]) -> Batch:
    """A copy that is no longer connected to the model, with variables where a gradient flows."""

    def variable(leaf: Any, flag: bool) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.detach().clone().requires_grad_() if flag else leaf.detach()

    return Batch(call.layout, [variable(leaf, flag) for leaf, flag in zip(call.leaves, flags, strict=True)], call.n)


def loss_of(loss_fn: Callable[..., Any], call: Batch) -> Any:
    """The loss itself, called on a batch."""
    # a loss may write into what a model hands over, but not into a variable
    leaves = [leaf.clone() if isinstance(leaf, Tensor) and leaf.requires_grad else leaf for leaf in call.leaves]
    args, kwargs = rebuild(call.layout, leaves)
    return loss_fn(*args, **kwargs)


def check_loss(loss: Any) -> None:
    """Raise BatchproofError where a loss is not one real number with a gradient."""
    if not isinstance(loss, Tensor):
        raise BatchproofError(
            f"the loss must return one tensor with one number, to be differentiated; it returned a "
            f"{type(loss).__name__}{' (a Python number has no gradient)' if isinstance(loss, (int, float)) else ''}"
        )
    if loss.numel() != 1 or not loss.is_floating_point():
        raise BatchproofError(
            f"the loss must return one real number; it returned {loss.dtype} of shape {tuple(loss.shape)}: "
            "reduce it, with .mean() or .sum()"
        )


def variables(call: Batch) -> list[Tensor]:
    """The leaves that a gradient flows through."""
    return [leaf for leaf in call.leaves if isinstance(leaf, Tensor) and leaf.requires_grad]


def size_of(call: Batch) -> int:
    """Bytes of a batch's tensors."""
    return sum(leaf.nbytes for leaf in call.columns if isinstance(leaf, torch.Tensor))


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__name__", type(fn).__name__))


def _parameters(fn: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(fn.forward if isinstance(fn, torch.nn.Module) else fn))
    except (TypeError, ValueError):
        return "other ones"
