"""A model in double precision for a while, and in its own with its numbers moved by the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from batchproof.ground.isolation import reachable

_NARROW = (torch.float16, torch.bfloat16, torch.float32)
_WIDER = dict.fromkeys(_NARROW, torch.float64) | {torch.complex32: torch.complex128, torch.complex64: torch.complex128}


class _Widened(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What asks for a narrower floating type gets float64: RMSNorm and rotary embeddings compute in float32.

    Without it a model in double precision still rounds as in single precision, and rounding could not be told by it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.narrowing: list[str] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: _wider(value) for name, value in (kwargs or {}).items()}
        args = tuple(_wider(value) for value in args)
        if func is torch.ops.aten._softmax.default and len(args) > 2 and args[2]:
            args = (args[0], args[1], False)  # half_to_float
        if func is torch.ops.aten._grouped_mm.default and args[0].dtype is torch.float64:
            return _grouped_product(*args, **kwargs)
        result = func(*args, **kwargs)
        if _is_narrow(result) and any(_is_wide(value) for value in args):
            self.narrowing.append(str(func))
        return result


def _wider(value: Any) -> Any:
    return _WIDER.get(value, value) if isinstance(value, torch.dtype) else value


def _is_narrow(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in _WIDER


def _is_wide(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_is_wide(part) for part in value)
    return isinstance(value, Tensor) and value.dtype in (torch.float64, torch.complex128)


def _grouped_product(rows: Tensor, matrices: Tensor, offs: Tensor | None = None, *rest: Any, **more: Any) -> Tensor:
    """Each group of rows by a matrix of its own: experts, for which torch has no kernel in float64."""
    if offs is None or rows.ndim != 2 or matrices.ndim != 3:
        made: Tensor = torch.ops.aten._grouped_mm.default(rows, matrices, offs, *rest, **more)
        return made
    out = rows.new_zeros(rows.shape[0], matrices.shape[2])
    start = 0
    for matrix, end in zip(matrices, offs.tolist(), strict=True):
        out[start:end] = rows[start:end] @ matrix
        start = end
    return out


@contextmanager
def in_double(target: Callable[..., Any]) -> Iterator[list[str]]:
    """Every module that the target can reach computes in float64 meanwhile, and has its own numbers again afterwards.

    Yields:
        The operations that gave narrower numbers from float64: into a table of float32, say.  What they touch is no
        more exact than in single precision.

    Parameters and buffers stay the objects that they are. Tensors that a module holds as plain attributes stay in their
    type.
    """
    default = torch.get_default_dtype()
    with _replaced(_floating(target), Tensor.double):
        try:
            torch.set_default_dtype(torch.float64)
            with _Widened() as mode:
                yield mode.narrowing
        finally:
            torch.set_default_dtype(default)


@contextmanager
def in_bfloat16(target: Callable[..., Any]) -> Iterator[None]:
    """Every module that the target can reach holds its numbers in bfloat16 meanwhile, as ``model.bfloat16()`` does."""
    with _replaced(_floating(target), Tensor.bfloat16):
        yield


def floating_types(target: Callable[..., Any]) -> set[torch.dtype]:
    """The floating types of what the target's modules hold."""
    return {tensor.dtype for tensor in _floating(target)}


@contextmanager
def weights_nudged(target: Callable[..., Any]) -> Iterator[bool]:
    """The tables of embeddings moved by one unit in the last place: what a model of whole numbers takes as input.

    Where there is none, all weights are.

    Yields:
        Whether there are any.
    """
    tables = [
        module.weight
        for module in _modules(target)
        if isinstance(module, torch.nn.Embedding) and _is_plain(module.weight)
    ]
    tables = tables or [tensor for tensor in _floating(target) if _is_plain(tensor)]
    with _replaced(tables, nudged):
        yield bool(tables)


def nudged(tensor: Tensor) -> Tensor:
    """Every second number moved up to the next one of its type, the others down."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return tensor
    up = (torch.arange(tensor.numel(), device=tensor.device) % 2 == 0).reshape(tensor.shape)
    infinity = torch.tensor(torch.inf, dtype=tensor.dtype, device=tensor.device)
    moved = torch.where(up, torch.nextafter(tensor, infinity), torch.nextafter(tensor, -infinity))
    return torch.where(tensor == 0, tensor, moved)  # beside 0 lies a number that is as good as 0


def can_widen(target: Callable[..., Any]) -> bool:
    """Whether the target's modules can compute in float64: their parameters are plain tensors."""
    modules = list(_modules(target))
    tensors = [tensor for module in modules for tensor in (*module.parameters(False), *module.buffers(False))]
    return all(_is_plain(tensor) for tensor in tensors) and all(tensor.device.type != "mps" for tensor in tensors)


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout is torch.strided and not tensor.is_quantized


def _modules(target: Any) -> Iterator[torch.nn.Module]:
    seen: set[int] = set()
    roots = [target] if isinstance(target, torch.nn.Module) else reachable(target)
    for root in roots:
        if isinstance(root, torch.nn.Module):
            for module in root.modules():
                if id(module) not in seen:
                    seen.add(id(module))
                    yield module


def _floating(target: Any) -> list[Tensor]:
    return [
        tensor
        for module in _modules(target)
        for tensor in (*module.parameters(False), *module.buffers(False))
        if tensor.is_floating_point()
    ]


@contextmanager
def _replaced(tensors: Iterable[Tensor], change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Other numbers in some tensors, which are the same objects, for a while."""
    held: dict[int, tuple[Tensor, Tensor]] = {}
    try:
        for tensor in tensors:
            if id(tensor) not in held:
                held[id(tensor)] = (tensor, tensor.data)
                tensor.data = change(tensor.data)
        yield
    finally:
        for tensor, data in held.values():
            tensor.data = data
