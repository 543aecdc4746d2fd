"""Record what a function does to a batch: a straight line of ATen operations.

The function runs for real, so reading values in Python (``.item()``, ``if``) is fine.  It runs inside
``torch.func.functionalize``, so writes in place and aliases arrive here as new values.  While it runs, every floating
tensor is kept in float64 although the function still reads the dtype that its user sees: that way "does it add?" can
be asked at rounding level.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from batchproof.derive.decompose import at_once, decomposition
from batchproof.derive.dtype_illusion import Surface, unrecorded
from batchproof.derive.recording import Op, RandomFunction, Read, Recording, Ref, call, leaves, replace, widen
from batchproof.derive.site import OUTERMOST, CallSite, call_site
from batchproof.ground.place import Statement


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation below autograd and functionalisation; decomposes the steps named in ``split``.

    Subclasses say what `execute` does with an operation.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler at the first operation: 1.3 s

    def __init__(self, split: frozenset[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.split = split
        self.step = -1
        self.refusal: Exception | None = None
        self.depth = 0
        self.wide: dict[int, torch.Tensor] = {}  # by the id of a narrow tensor from outside, what stands for it
        self.narrow: dict[int, torch.Tensor] = {}  # by the id of that, the tensor from outside

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # below scripted code, what we ask of tensors would be taken for its own
            return self.dispatch(func, args, kwargs or {})

    def dispatch(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Do one operation, written out in simpler ones where it has to be."""
        if self.depth == 0:
            self.step += 1
        named = self.step in self.split
        rule = decomposition(func, self.depth, named) if self.splits(func, args, kwargs) else None
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
        if torch.Tag.nondeterministic_seeded in func.tags and not _drops_nothing(func, args, kwargs):
            self.refuse(RandomFunction(Statement("random numbers are drawn", f" at {call_site()}")))
        functional = _functional(func)
        if functional is None:
            return self.execute(func, args, kwargs)
        # a kernel of torch's own writes in place, below functionalisation, into a tensor that it has just made
        result = self.execute(functional, args, kwargs)
        self.overwrite(args[0], result)
        return args[0]

    def splits(self, func: Any, args: Any, kwargs: Any) -> bool:
        """Whether an operation is to be written out in simpler ones."""
        return self.step in self.split or at_once(func, args, kwargs)

    def overwrite(self, old: torch.Tensor, new: torch.Tensor) -> None:
        """The tensor `old` holds from now on what `new` holds."""
        raise NotImplementedError

    def execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError

    def refuse(self, why: Exception) -> None:
        """Stop the run for good: a function that catches every exception goes on, but its result does not count."""
        self.refusal = self.refusal or why
        raise why

    def asked(self, tensor: torch.Tensor) -> None:
        """Python asks how large a tensor is."""

    def rounded(self) -> None:
        """The function works under autocast."""

    def widened(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy at its widest that stands for a tensor from outside."""
        if id(tensor) not in self.wide:
            with unrecorded():
                self.wide[id(tensor)] = wide = widen(tensor.detach())
            self.narrow[id(wide)] = tensor
        return self.wide[id(tensor)]

    def origin(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor from outside that one stands for, or is."""
        return self.narrow.get(id(tensor), tensor)


def _drops_nothing(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a kernel that may draw (attention, rrelu) is asked to drop nothing out, or not to train."""
    given = {argument.name: argument.default_value for argument in func._schema.arguments}
    given |= {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    return given.get("dropout_p") == 0 or given.get("training") is False


def _functional(func: Any) -> Any | None:
    """The form without side effects of an operation that writes into its first argument."""
    name, overload = func._schema.name.split("::")[-1], func._overloadname
    if not name.endswith("_") or name.startswith("__") or func._schema.name.split("::")[0] != "aten":
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    return getattr(packet, overload, None) if packet is not None else None


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees a plain run.

    Attributes:
        written: where the function writes into a tensor that it did not make and was not given, if it does.
        reads: whether Python reads values.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = {id(tensor) for tensor in inputs}
        self.alive: list[Any] = list(inputs)
        self.storages = {_storage(tensor) for tensor in inputs}
        self.written: CallSite | None = None
        self.reads = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        foreign = [
            position
            for position, tensor in enumerate(args)
            if isinstance(tensor, torch.Tensor) and _storage(tensor) not in self.storages
        ]
        writes = {
            i
            for i, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        }
        if "batch_norm" in func.__name__ and "backward" not in func.__name__:
            writes |= {3, 4} if True in args[5:6] else set()
        if writes.intersection(foreign) and self.written is None:
            self.written = call_site()
        result = func(*args, **kwargs)
        self.reads |= isinstance(result, (bool, int, float, complex))
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
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse tensors have none; their own id will do
        return id(tensor)


#: What is answered to Python where it reads a value, in order: None for what the samples say, and numbers for each of
#: the batches that are recorded.
Way = tuple[Any, ...]


def answers(ways: Sequence[Way], number: int) -> list[Way]:
    """What Python is told on one of the batches: numbers are others on each, so that none is taken for fixed."""
    return [tuple(told[number] if isinstance(told, tuple) else told for told in way) for way in ways]


class OperationRecorder(Tape):  # type: ignore[no-untyped-call]
    """Writes down every operation. Of large values that samples reach, only the shape stays once they are used up."""

    def __init__(
        self, inputs: Sequence[torch.Tensor], split: frozenset[int], batched: Collection[int] = frozenset()
    ) -> None:
        super().__init__(split)
        self.ahead: list[Any] = []  # answers to come
        self.run = Recording()
        self.index: dict[int, int] = {}
        self.alive: list[torch.Tensor] = []  # an id means a tensor only while that tensor lives
        self.run.inputs = tuple(self.add(tensor) for tensor in inputs)
        self.reached = {self.run.inputs[position] for position in batched}
        self.large: set[int] = set()

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

    def rounded(self) -> None:
        self.run.rounds = True

    def ref(self, tensor: torch.Tensor) -> Ref:
        """The value of a tensor; one that no operation made is a capture (a closure, a parameter, a constant)."""
        index = self.index.get(id(tensor))
        if index is None:
            tensor = self.origin(tensor)
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
            result = self.answer(inputs, result) if result is flat[0] else result
            self.run.reads.extend(Read(index, site, result) for index in inputs)
        named = iter(outputs)
        returned = replace(result, torch.Tensor, lambda leaf: Ref(next(named)))
        self.run.ops.append(Op(func, template[0], template[1], inputs, outputs, site, self.step, returned))
        if not self.reached.isdisjoint(inputs):
            self.reached.update(outputs)
            self.large.update(index for index in outputs if values[index].nbytes >= LARGE)
        if self.large:
            self.spare()
        return result

    def answer(self, inputs: Sequence[int], seen: Any) -> Any:
        """What Python is told where it reads a value."""
        told = self.ahead.pop(0) if self.ahead else None
        return seen if told is None else told

    def spare(self) -> None:
        """Let go of large values that nothing else holds any more: the function cannot use them again."""
        for index in list(self.large):
            tensor = self.run.tensors[index]
            # two names of ours, and the list; below Python, one owner
            if sys.getrefcount(tensor) <= 3 and tensor._use_count() == 1:  # type: ignore[attr-defined]
                self.forget(index)

    def forget(self, index: int) -> None:
        tensor = self.run.tensors[index]
        self.index.pop(id(tensor), None)
        self.run.tensors[index] = outline(tensor)
        self.large.discard(index)


#: Bytes of a value that is not held longer than it is used.
LARGE = 1 << 16


def outline(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor's shape, strides and dtype, without its memory."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def functionalized(fn: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> Any:
    """Call ``fn(*inputs)`` with writes in place and aliases turned into new values, below autograd.

    `torch.func.functionalize` would do the same inside of a transform of functorch, where a function may neither ask
    for gradients nor call an `autograd.Function` of the usual kind.
    """
    wrapped = [torch._to_functional_tensor(tensor) for tensor in inputs]
    torch._enable_functionalization(reapply_views=True)
    try:
        result = fn(*wrapped)
        return pytree.tree_map(_from_functional, result)
    finally:
        torch._disable_functionalization()  # type: ignore[no-untyped-call]


def _from_functional(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor) or not torch._is_functional_tensor(leaf):
        return leaf
    torch._functionalize_sync(leaf)
    return torch._from_functional_tensor(leaf)


@contextmanager
def uncompiled() -> Iterator[None]:
    """What is compiled or scripted runs as its operations, one by one: a compiler would look through the recorder."""
    with ExitStack() as stack:
        stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
        if "torch._dynamo" in sys.modules:  # which takes a second to import, and without it nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def run_under(tape: Tape, fn: Callable[..., Any], inputs: Sequence[torch.Tensor], shown: torch.dtype | None) -> Any:
    """Call ``fn(*inputs)`` with every operation going through the tape."""

    def surfaced(*tensors: torch.Tensor) -> Any:
        with Surface(shown, tape):
            return fn(*tensors)

    OUTERMOST.add(surfaced.__code__)
    with (
        uncompiled(),
        torch.enable_grad(),
        tape,
    ):  # which the function may take inside: the inputs themselves ask for none
        result = functionalized(surfaced, inputs)
    if tape.refusal is not None:
        raise tape.refusal
    return result


def record(
    fn: Callable[..., Any],
    inputs: Sequence[torch.Tensor],
    split: frozenset[int] = frozenset(),
    shown: torch.dtype | None = None,
    pure: bool = False,
    batched: Collection[int] = frozenset(),
    ways: Sequence[Way] = ((),),
) -> Recording:
    """Run ``fn`` on tensors and write down every operation.

    Args:
        fn: the function, of the tensors alone.
        inputs: tensors; they are copied where their type is narrow, and never written to.
        split: the function's operations that are to be written out in simpler ones.
        shown: the floating dtype that the function believes in.
        pure: whether ``fn`` is known to write nothing in place (then it may use ``vmap``).
        batched: the positions of tensors that carry samples: of large values made of them only the shapes are kept.
        ways: what Python is told where it reads values; one run for each, which follow one another in the recording.

    Raises:
        Unrecordable: the function leaves torch, or does something that cannot be recorded.
        RandomFunction: the function draws random numbers.
    """
    tape = OperationRecorder([widen(tensor.detach()) for tensor in inputs], split, batched)
    tensors = tape.run.tensors[: len(inputs)]
    ends = []
    for way in ways:
        tape.ahead = list(way)
        if pure:
            with torch.no_grad(), tape:
                result = fn(*tensors)
        else:
            result = run_under(tape, fn, tensors, shown)
        flat, spec = pytree.tree_flatten(result)
        ends.append([Ref(tape.index[id(leaf)]) if id(leaf) in tape.index else leaf for leaf in flat])
        if len(ends) == 1:
            tape.run.spec, tape.run.first = spec, len(tape.run.ops)
    tape.run.result, *tape.run.others = ends
    returned = {leaf.index for end in ends for leaf in end if isinstance(leaf, Ref)}
    for index in tape.reached - returned:
        if tape.run.tensors[index].nbytes >= LARGE:
            tape.forget(index)
    return tape.run
