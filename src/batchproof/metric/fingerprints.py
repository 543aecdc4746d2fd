"""Prints of a function and of what was derived from it: states merge, and a saved one loads, where these agree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch

from batchproof.derive import Free, Kind, Op, Ref, Size, StatePlan, leaves, record
from batchproof.ground.batch import Batch, rebuild
from batchproof.ground.isolation import held_by, quiet
from batchproof.ground.tensors import raw_bytes
from batchproof.metric.stream import Stream

DEPTH = 4  # how far to look into objects


def _once(print_of: Callable[[StatePlan], str]) -> Callable[[StatePlan], str]:
    """A print that each plan has once: every merge asks for it."""
    known: WeakKeyDictionary[StatePlan, str] = WeakKeyDictionary()

    @wraps(print_of)
    def found(plan: StatePlan) -> str:
        if plan not in known:
            known[plan] = print_of(plan)
        return known[plan]

    return found


@_once
def program_print(plan: StatePlan) -> str:
    """The operations, what flows where, and the Python numbers in them: what decides what a state means.

    A number that follows the number of samples is printed as such. One that is used after the merge and may have been
    read from the first samples says nothing: the function itself runs there, with its own numbers.
    """
    program = plan.program
    read, lines = False, list[Any]()
    for number, op in enumerate(program.ops):
        read |= not op.outputs and any(program.values[index].kind is not Kind.SHARED for index in op.inputs)
        lines.append((op.name, *_arguments(op, read and number in plan.after)))
    kept = [(leaf.merge.name, tuple(leaf.shape), str(leaf.dtype), leaf.points) for leaf in plan.leaves]
    inputs = [str(program.values[index].dtype) for index in program.inputs]
    return hashlib.sha256(repr((lines, kept, plan.kept, plan.lengths, inputs)).encode()).hexdigest()


def sample_print(fn: Callable[..., Any], sample: Batch) -> str | None:
    """What a function does to one sample: the operations, the numbers in them and the tensors that it holds.

    None where it cannot be recorded.
    """
    if not sample.all_tensors():
        return None

    def flat(*tensors: torch.Tensor) -> Any:
        args, kwargs = rebuild(sample.layout, tensors)
        return fn(*args, **kwargs)

    try:
        with torch.inference_mode(False), quiet(fn):
            run = record(flat, [leaf.clone() for leaf in sample.leaves])
    except Exception:  # noqa: BLE001 - whatever keeps it from being recorded, nothing is known then
        return None
    lines = [(op.name, op.outputs, *_arguments(op, False)) for op in run.ops]
    digest = hashlib.sha256(repr(lines).encode())
    for index, tensor in sorted(run.captured.items()):
        digest.update(repr((index, tuple(tensor.shape))).encode() + raw_bytes(tensor))
    return digest.hexdigest()


def _arguments(op: Op, loose: bool) -> Iterator[Any]:
    for name, leaf in [("", leaf) for leaf in leaves(op.args)] + [*_named(op.kwargs)]:
        if isinstance(leaf, Ref):
            yield name, leaf.index
        elif isinstance(leaf, (Size, Free)):
            yield name, "follows"
        elif isinstance(leaf, torch.device):
            yield name, "device"
        elif loose and isinstance(leaf, (int, float, complex)):
            yield name, "number"
        else:
            yield name, repr(leaf)


def _named(kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(kwargs.items()):
        yield from ((name, leaf) for leaf in leaves(value))


@_once
def centres_print(plan: StatePlan) -> str:
    """Where the plan keeps its sums."""
    digest = hashlib.sha256()
    for index, parts in sorted(plan.centred.items()):
        for at in parts.centres:
            digest.update(repr((index, sorted(at.free.items()), at.powers, at.factor)).encode())
            steps = [direction.step for direction in at.directions]
            digest.update(repr([(direction.index, direction.free) for direction in at.directions]).encode())
            for stat in [
                *(stat for _, stat in sorted(at.stats.items())),
                *(step for step in steps if step is not None),
            ]:
                digest.update(raw_bytes(stat))
    return digest.hexdigest()


def shared_print(stream: Stream) -> str:
    """The tensors that a function takes from outside its samples: states merge only where these agree."""
    digest = hashlib.sha256()
    if stream.plan is not None and stream.plan.program is not None:
        for index, tensor in sorted(stream.plan.program.captured.items()):
            digest.update(repr((index, str(tensor.dtype), tuple(tensor.shape))).encode() + raw_bytes(tensor))
    if stream.first is not None:
        for leaf, dim in zip(stream.first.leaves, stream.first.layout.dims, strict=True):
            if dim is None:
                digest.update(raw_bytes(leaf) if isinstance(leaf, torch.Tensor) else repr(leaf).encode())
    return digest.hexdigest()


def same_function(a: Any, b: Any) -> bool:
    """Whether two callables run the same code on the same held values, as far as can be told."""
    return _same(a, b, 0)


def _same(a: Any, b: Any, depth: int) -> bool:
    if a is b or depth > DEPTH:
        return True
    if isinstance(a, torch.nn.Module) or isinstance(b, torch.nn.Module):
        return type(a) is type(b) and _alike(list(a.state_dict().items()), list(b.state_dict().items()), depth)
    codes = getattr(a, "__code__", None), getattr(b, "__code__", None)
    if any(codes):
        return codes[0] == codes[1] and _alike(held_by(a), held_by(b), depth + 1)
    if hasattr(a, "func") and hasattr(b, "func"):
        return _same(a.func, b.func, depth) and _alike(held_by(a)[1:], held_by(b)[1:], depth)
    if type(a) is not type(b) or getattr(a, "__name__", None) != getattr(b, "__name__", None):
        return False
    return _alike(getattr(a, "__dict__", None), getattr(b, "__dict__", None), depth + 1)


def _alike(a: Any, b: Any, depth: int) -> bool:
    if a is b or depth > DEPTH:
        return True
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_alike(x, y, depth) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key], depth) for key in a)
    if isinstance(a, (bool, int, float, complex, str, bytes)) or isinstance(b, (bool, int, float, complex, str, bytes)):
        return type(a) is type(b) and bool(a == b)
    return type(a) is type(b) and _same(a, b, depth + 1)
