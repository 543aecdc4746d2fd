"""What the user's function may ask of a tensor in Python while it is recorded.

It reads the dtype that its user sees, although the numbers are float64. So are those that it takes from outside its
arguments (a layer's weights): torch would not let float64 meet float32. What leaves torch is refused. A few of torch's
own functions do not go with recording: others that do the same stand in for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from batchproof.derive.recording import WIDE, Unrecordable, replace
from batchproof.derive.site import call_site
from batchproof.ground.place import Statement

_LENGTH = {"__len__", "size", "numel", "nelement", "__iter__"}
_SHAPE = torch.Tensor.shape.__get__  # type: ignore[attr-defined]
_ESCAPES = {"numpy", "__array__", "data_ptr", "untyped_storage", "storage", "_typed_storage", "__dlpack__"}
_ESCAPES |= {"nbytes"}  # it would tell that numbers are wide
#: What these say follows from dtypes and ranks alone, and so from those that the function sees.
_OF_DTYPE = {"element_size", "itemsize", "type", "result_type"}
_DTYPE = torch.Tensor.dtype.__get__  # type: ignore[attr-defined]


@contextmanager
def unrecorded() -> Iterator[None]:
    """What is done here is no part of the recorded run."""
    functionalize = torch._C.DispatchKeySet(torch._C.DispatchKey.Functionalize)
    with torch._C._ExcludeDispatchKeyGuard(functionalize), _disable_current_modes():
        yield


class Listener(Protocol):
    """Who is told what the function asks."""

    def asked(self, tensor: torch.Tensor) -> None:
        """Python asks how large a tensor is."""

    def widened(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor that stands for a narrow one from outside."""

    def rounded(self) -> None:
        """The function works under autocast, which leaves float64 as it is."""

    def refuse(self, why: Exception) -> None:
        """Stop the run for good."""


class Surface(TorchFunctionMode):
    """What the function may ask of a tensor in Python while it is recorded.

    Args:
        shown: the floating dtype that it reads, None for the real one.
        listener: is told.
    """

    def __init__(self, shown: torch.dtype | None, listener: Listener) -> None:
        super().__init__()
        self.shown = shown
        self.listener = listener

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == _DTYPE:
            real = func(*args)
            return self.shown if self.shown is not None and WIDE[self.shown] is real else real
        if torch._C._is_any_autocast_enabled():
            self.listener.rounded()
        name = getattr(func, "__name__", "")
        if func == _SHAPE or name in _LENGTH:
            self.listener.asked(_unwrapped(args[0]))
        attribute = name in ("__get__", "__set__")
        if attribute:
            name = func.__self__.__name__
        else:
            args, kwargs = replace(args, torch.Tensor, self.widest), replace(kwargs, torch.Tensor, self.widest)
        if name in _OF_DTYPE and not (name == "type" and len(args) + len(kwargs) > 1):
            return func(*replace(args, torch.Tensor, self.outline), **replace(kwargs, torch.Tensor, self.outline))
        if name in _ESCAPES:
            self.listener.refuse(Unrecordable(Statement(f"the samples leave torch ({name})", f" at {call_site()}")))
        instead = _INSTEAD.get(func) or _INSTEAD.get(name, func)
        return instead(*args, **kwargs)

    def outline(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the dtype that the function reads, and of the same rank."""
        dtype = self.shown if self.shown is not None and WIDE[self.shown] is tensor.dtype else tensor.dtype
        with unrecorded():
            return torch.empty([0] * tensor.ndim, dtype=dtype, device=tensor.device)

    def widest(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor as the function's operations take it: what they made themselves is wide already."""
        return self.listener.widened(tensor) if tensor.dtype in WIDE and _is_plain(tensor) else tensor


def one_hot(tensor: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
    """torch's own takes another path where a tensor has no memory; this one is the same everywhere."""
    if tensor.numel() and tensor.min().item() < 0:
        raise RuntimeError("Class values must be non-negative.")
    if tensor.numel():
        top = int(tensor.max().item()) + 1
        if num_classes != -1 and top > num_classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
        num_classes = top if num_classes == -1 else num_classes
    classes = torch.arange(num_classes, device=tensor.device, dtype=tensor.dtype)
    return (tensor.unsqueeze(-1) == classes).to(torch.int64)


def batch_norm(
    x: torch.Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """torch's own takes its running statistics by address, which does not go with functionalisation."""
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, var = running_mean, running_var
    if training or mean is None:
        var, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
    out: torch.Tensor = (x - mean.reshape(shape)) / torch.sqrt(var.reshape(shape) + eps)
    out = out if weight is None else out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def instance_norm(
    x: torch.Tensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Instance normalisation written out: torch's own takes its running statistics by address."""
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    var, mean = torch.var_mean(x, list(range(2, x.ndim)), correction=0, keepdim=True)
    shape = [1, -1] + [1] * (x.ndim - 2)
    out = (x - mean) / torch.sqrt(var + eps)
    out = out if weight is None else out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor comes from outside of the recorded run, which wraps its own."""
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and _unwrapped(tensor) is tensor


def _unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor that the tape sees for one that the function holds."""
    functorch = torch._C._functorch
    if functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return torch._from_functional_tensor(tensor) if torch._is_functional_tensor(tensor) else tensor


def _tolist(tensor: torch.Tensor) -> Any:
    return tensor.item() if tensor.ndim == 0 else [_tolist(row) for row in tensor]


def _fill_diagonal(tensor: torch.Tensor, value: Any, wrap: bool = False) -> torch.Tensor:
    if tensor.ndim != 2 or wrap:
        return tensor.fill_diagonal_(value, wrap)
    return tensor.masked_fill_(torch.eye(*tensor.shape, dtype=torch.bool, device=tensor.device), value)


def _tensor(data: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``torch.tensor`` of a list with tensors in it reads them in C, unseen."""
    if not isinstance(data, torch.Tensor):
        data = pytree.tree_map(lambda leaf: _tolist(leaf) if isinstance(leaf, torch.Tensor) else leaf, data)
    return torch.tensor(data, *args, **kwargs)


#: Functions of torch, or the names of methods, that do not go with recording, and what does the same.
_INSTEAD: dict[Any, Callable[..., Any]] = {
    torch.nn.functional.batch_norm: batch_norm,
    torch.nn.functional.instance_norm: instance_norm,
    torch.tensor: _tensor,
    "fill_diagonal_": _fill_diagonal,
    "one_hot": one_hot,
    "tolist": _tolist,
}
