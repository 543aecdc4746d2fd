"""Record what a function does to a batch: a straight line of ATen operations.

The function runs for real, so reading values in Python (``.item()``, ``if``) is fine.  It runs inside
``torch.func.functionalize``, so writes in place and aliases arrive here as new values.  While it runs, every floating
tensor is kept in float64 although the function still reads the dtype that its user sees: that way "does it add?" can
be asked at rounding level.

This file knows nothing of batches: `kinds` compares several recordings and says what each value is.
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.func import functionalize
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from batchproof.derive.decompose import at_once, decomposition

WIDE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}


class Unrecordable(Exception):
    """The function cannot be recorded; the message says why, with the user's line."""


class RandomFunction(Exception):
    """The function draws random numbers; the message says where."""


@dataclass(frozen=True)
class Site:
    """A line of the user's code."""

    file: str = "?"
    line: int = 0
    text: str = ""
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f"   {self.text}" if self.text else "")


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
    site: Site
    step: int  # which of the function's own operations this belongs to: decompositions share one

    @property
    def name(self) -> str:
        return str(self.func)


@dataclass
class Read:
    """A value that Python read: `if`, `.item()`, `.tolist()`."""

    value: int
    site: Site
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
    asked: set[int] = field(default_factory=set)  # values whose size Python looked at


_TORCH = str(Path(torch.__file__).parent) + os.sep
_OURS = str(Path(__file__).parent.parent) + os.sep
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep


_SURFACED: dict[str, Any] = {}  # the code object below which the user's function runs


def call_site() -> Site:
    """The innermost line that belongs neither to torch nor to batchproof nor to the standard library."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if frame.f_code is _SURFACED.get("code"):
            return Site()  # nothing further out belongs to the function
        library = name.startswith((_TORCH, _OURS)) or (name.startswith(_STDLIB) and "site-packages" not in name)
        if not library and not name.startswith("<frozen"):
            text = linecache.getline(name, frame.f_lineno).strip()
            return Site(name, frame.f_lineno, text, frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return Site()


_LENGTH = {"__len__", "size", "numel", "nelement", "__iter__"}
_SHAPE = torch.Tensor.shape.__get__  # type: ignore[attr-defined]
_ESCAPES = {"numpy", "__array__", "data_ptr", "untyped_storage", "storage", "_typed_storage", "__dlpack__"}
_DTYPE = torch.Tensor.dtype.__get__  # type: ignore[attr-defined]


class Surface(TorchFunctionMode):
    """What the function may ask of a tensor in Python while it is recorded."""

    def __init__(self, shown: torch.dtype | None, asked: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self.shown = shown
        self.asked = asked

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == _DTYPE:
            real = func(*args)
            return self.shown if self.shown is not None and WIDE[self.shown] is real else real
        name = getattr(func, "__name__", "")
        if func == _SHAPE or name in _LENGTH:
            self.asked(_unwrapped(args[0]))
        if name in _ESCAPES:
            raise Unrecordable(f"the samples leave torch ({name}) at {call_site()}")
        if name == "tolist":
            return _tolist(args[0])
        if func is torch.nn.functional.batch_norm:
            return batch_norm(*args, **kwargs)
        if func is torch.nn.functional.instance_norm:
            return instance_norm(*args, **kwargs)
        if name == "fill_diagonal_" and args[0].ndim == 2:
            return args[0].masked_fill_(torch.eye(*args[0].shape, dtype=torch.bool, device=args[0].device), args[1])
        if name == "one_hot":
            return one_hot(*args, **kwargs)
        if func is torch.tensor and not isinstance(args[0], torch.Tensor):
            data = pytree.tree_map(lambda leaf: _tolist(leaf) if isinstance(leaf, torch.Tensor) else leaf, args[0])
            return func(data, *args[1:], **kwargs)
        return func(*args, **kwargs)


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
    out = (x - mean.reshape(shape)) / torch.sqrt(var.reshape(shape) + eps)
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
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    var, mean = torch.var_mean(x, list(range(2, x.ndim)), correction=0, keepdim=True)
    shape = [1, -1] + [1] * (x.ndim - 2)
    out = (x - mean) / torch.sqrt(var + eps)
    out = out if weight is None else out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def _unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor that the tape sees for one that the function holds."""
    functorch = torch._C._functorch
    if functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return torch._from_functional_tensor(tensor) if torch._is_functional_tensor(tensor) else tensor


def _tolist(tensor: torch.Tensor) -> Any:
    return tensor.item() if tensor.ndim == 0 else [_tolist(row) for row in tensor]


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """The same tensor, floating types at their widest."""
    wide = WIDE.get(tensor.dtype)
    return tensor if wide is None else tensor.to(wide)


def widen_constant(value: Any) -> Any:
    return WIDE.get(value, value) if isinstance(value, torch.dtype) else value


class Tape(TorchDispatchMode):
    """Sees each operation below autograd and functionalisation; decomposes the steps named in ``split``.

    Subclasses say what `execute` does with an operation.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler at the first operation: 1.3 s

    def __init__(self, split: frozenset[int]) -> None:
        super().__init__()
        self.split = split
        self.step = -1
        self.depth = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.depth == 0:
            self.step += 1
        splits = self.step in self.split or at_once(func, args, kwargs)
        rule = decomposition(func, self.depth) if splits else None
        if rule is not None:
            self.depth += 1
            try:
                with self:
                    result = rule(*args, **kwargs)
            finally:
                self.depth -= 1
            if result is not NotImplemented:
                return result
        if func is torch.ops.aten.copy_.default:
            return args[0]  # functionalisation writing back into the caller's tensor, which stays as it is
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise RandomFunction(f"random numbers are drawn at {call_site()}")
        functional = _functional(func)
        if functional is None:
            return self.execute(func, args, kwargs)
        # a kernel of torch's own writes in place, below functionalisation, into a tensor that it has just made
        result = self.execute(functional, args, kwargs)
        self.overwrite(args[0], result)
        return args[0]

    def overwrite(self, old: torch.Tensor, new: torch.Tensor) -> None:
        """The tensor `old` holds from now on what `new` holds."""
        raise NotImplementedError

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError

    def asked(self, tensor: torch.Tensor) -> None:
        """Python asks how large a tensor is."""


def _functional(func: Any) -> Any | None:
    """The form without side effects of an operation that writes into its first argument."""
    name, overload = func._schema.name.split("::")[-1], func._overloadname
    if not name.endswith("_") or name.startswith("__") or func._schema.name.split("::")[0] != "aten":
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    return getattr(packet, overload, None) if packet is not None else None


class Watch(TorchDispatchMode):
    """Sees a plain run, to tell whether the function writes into tensors that it did not make and was not given."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.known = {id(tensor) for tensor in inputs}
        self.alive: list[Any] = list(inputs)
        self.storages = {_storage(tensor) for tensor in inputs}
        self.written: Site | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        foreign = [position for position, tensor in enumerate(args) if isinstance(tensor, torch.Tensor)
                   and _storage(tensor) not in self.storages]
        writes = {i for i, argument in enumerate(func._schema.arguments)
                  if argument.alias_info is not None and argument.alias_info.is_write}
        if "batch_norm" in func.__name__ and "backward" not in func.__name__:
            writes |= {3, 4} if True in args[5:6] else set()
        if writes.intersection(foreign) and self.written is None:
            self.written = call_site()
        result = func(*args, **kwargs)
        if func is torch.ops.aten.lift_fresh.default:  # a constant that the function makes on the way
            self.alive.append(args[0])
            self.storages.add(_storage(args[0]))
        for leaf in leaves(result):
            if isinstance(leaf, torch.Tensor) and not any(leaf is arg for arg in args):
                self.alive.append(leaf)
                if not any(_storage(leaf) == _storage(args[position]) for position in foreign):
                    self.storages.add(_storage(leaf))
        return result


def _storage(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # sparse tensors have none; their own id will do
        return id(tensor)


class Recorder(Tape):
    def __init__(self, inputs: Sequence[torch.Tensor], split: frozenset[int]) -> None:
        super().__init__(split)
        self.run = Recording()
        self.index: dict[int, int] = {}
        self.alive: list[torch.Tensor] = []  # an id means a tensor only while that tensor lives
        self.run.inputs = tuple(self.add(tensor) for tensor in inputs)

    def add(self, tensor: torch.Tensor) -> int:
        self.run.tensors.append(tensor)
        self.index[id(tensor)] = len(self.run.tensors) - 1
        return len(self.run.tensors) - 1

    def overwrite(self, old: torch.Tensor, new: torch.Tensor) -> None:
        index = self.index[id(new)]
        if id(old) in self.index:  # what it held until now stays as it was
            self.run.tensors[self.index[id(old)]] = old.clone()
        old.copy_(new)
        self.index[id(old)] = index
        self.alive.append(old)

    def asked(self, tensor: torch.Tensor) -> None:
        if id(tensor) in self.index:
            self.run.asked.add(self.index[id(tensor)])

    def ref(self, tensor: torch.Tensor) -> Ref:
        """The value of a tensor; one that no operation made is a capture (a closure, a parameter, a constant)."""
        index = self.index.get(id(tensor))
        if index is None:
            index = self.add(tensor)
            self.alive.append(tensor)
            self.run.captured[index] = tensor
            self.run.tensors[index] = widen(tensor.detach())
        return Ref(index)

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        template = replace(args, torch.Tensor, self.ref), replace(kwargs, torch.Tensor, self.ref)
        values = self.run.tensors
        result = call(func, template[0], template[1], lambda ref: values[ref.index])
        flat = list(leaves(result))
        outputs = tuple(self.add(leaf) for leaf in flat if isinstance(leaf, torch.Tensor))
        inputs = tuple(leaf.index for leaf in leaves(template) if isinstance(leaf, Ref))
        site = call_site()
        if any(isinstance(leaf, (bool, int, float, complex)) for leaf in flat):
            self.run.reads.append(Read(inputs[0], site, result))
        self.run.ops.append(Op(func, template[0], template[1], inputs, outputs, site, self.step))
        return result


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


def run_under(tape: Tape, fn: Callable[..., Any], inputs: Sequence[torch.Tensor], shown: torch.dtype | None) -> Any:
    """Call ``fn(*inputs)`` with every operation going through the tape."""

    def surfaced(*tensors: torch.Tensor) -> Any:
        with Surface(shown, tape.asked):
            return fn(*tensors)

    _SURFACED["code"] = surfaced.__code__
    with torch.no_grad(), tape:
        return functionalize(surfaced)(*inputs)


def record(
    fn: Callable[..., Any],
    inputs: Sequence[torch.Tensor],
    split: frozenset[int] = frozenset(),
    shown: torch.dtype | None = None,
    pure: bool = False,
) -> Recording:
    """Run ``fn`` on tensors and write down every operation.

    Args:
        fn: the function, of the tensors alone.
        inputs: tensors; they are copied where their type is narrow, and never written to.
        split: the function's operations that are to be written out in simpler ones.
        shown: the floating dtype that the function believes in.
        pure: whether ``fn`` is known to write nothing in place (then it may use ``vmap``).

    Raises:
        Unrecordable: the function leaves torch, or does something that cannot be recorded.
        RandomFunction: the function draws random numbers.
    """
    tape = Recorder([widen(tensor.detach()) for tensor in inputs], split)
    tensors = tape.run.tensors[: len(inputs)]
    if pure:
        with torch.no_grad(), tape:
            result = fn(*tensors)
    else:
        result = run_under(tape, fn, tensors, shown)
    flat, tape.run.spec = pytree.tree_flatten(result)
    tape.run.result = [Ref(tape.index[id(leaf)]) if id(leaf) in tape.index else leaf for leaf in flat]
    return tape.run
