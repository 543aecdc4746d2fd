"""A plan as data: operators by name, numbers, centres and constants, and no sample, nor code of the user's.

A plan that was saved is not derived again: it takes the function it was derived from, and is ready. Nothing of it is
executed to be read. What the fold does is written out as code anew, from operators of torch that are known by name.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.centred_sum import CentredSum, Extremes, Level, Taylor
from batchproof.derive.fold import SumsAtOnce
from batchproof.derive.groups import OfGroups
from batchproof.derive.kind import Kind
from batchproof.derive.loops import Following, Loop, LoopStep, Meeting
from batchproof.derive.merge import Merge, merge_named
from batchproof.derive.plan import Leaf, StatePlan, Verified
from batchproof.derive.program import Program, ProgramValue
from batchproof.derive.recording import Free, Op, Read, Ref, Size
from batchproof.derive.site import CallSite
from batchproof.derive.summand import Centre, Direction, Summand, SummandRows
from batchproof.errors import BatchproofError
from batchproof.ground.tensors import of_raw_bytes, raw_bytes

#: Changes whenever data of the one before cannot be read.
VERSION = 1
#: What a plan is made of; data names a class by its place.
CLASSES: tuple[type, ...] = (
    Ref, Size, Free, Op, Read, Program, ProgramValue, CallSite, Leaf, Verified, Centre, Direction, Summand,
    SummandRows, CentredSum, Extremes, Level, Taylor, SumsAtOnce, LoopStep, Meeting, Following,
)  # fmt: skip
#: Fields that are not saved, with what stands in their place: what is shown nowhere, and what data was seen to be.
FORGOTTEN: dict[type, dict[str, Any]] = {Read: {"seen": None}, Program: {"spec": None}}
#: What of a plan its data holds: all but the function. The folds are written out anew.
FIELDS = tuple(field.name for field in dataclasses.fields(StatePlan) if field.name != "fn")


def to_bytes(plan: StatePlan) -> bytes:
    """A plan as bytes, of which `of_bytes` makes it again.

    Raises:
        BatchproofError: it holds what has no name, such as an operator that was made at run time.
    """
    writer = _Writer()
    fields = {name: getattr(plan, name) for name in FIELDS}
    fields["constants"] = _taken_by_sums(plan)
    loop = plan.fn
    parts = [loop.steps, loop.captured, loop.result, _structure(loop.spec)] if isinstance(loop, Loop) else None
    data = {
        "version": VERSION,
        "loop": writer.encoded(parts),
        "plan": writer.encoded(fields),
        "sites": writer.sites,
        "tensors": [(str(t.dtype)[6:], list(t.shape)) for t in writer.tensors],
    }
    text = zlib.compress(json.dumps(data, separators=(",", ":")).encode())
    return b"".join([len(text).to_bytes(8, "little"), text, *map(raw_bytes, writer.tensors)])


def of_bytes(data: bytes, fn: Callable[..., Any], device: torch.device) -> StatePlan:
    """The plan of which `to_bytes` made these bytes.

    Args:
        data: the bytes.
        fn: the function of tensors that it was derived from.
        device: that its tensors are to be on.

    Raises:
        BatchproofError: these are bytes of something else, or of another version.
    """
    try:
        end = 8 + int.from_bytes(data[:8], "little")
        found = json.loads(zlib.decompress(data[8:end]))
        version = found["version"]
    except (ValueError, KeyError, TypeError, zlib.error):
        raise BatchproofError("the saved plan cannot be read: these are not the bytes of a plan") from None
    if version != VERSION:
        raise BatchproofError(
            f"the saved plan is of another version of batchproof (its format is {version}, and this version reads "
            f"{VERSION}): load it with the version that saved it"
        )
    reader = _Reader(found["sites"], list(_tensors(found["tensors"], data[end:], device)), device)
    fields = reader.decoded(found["plan"])
    if fields["group"] > 1:
        fn = OfGroups(fn, fields["dims"])
    if found["loop"] is not None:
        steps, captured, result, structure = reader.decoded(found["loop"])
        spec = pytree.treespec_loads(structure)
        fn = Loop(fn, fields["dims"], fields["shown"], tuple(steps), captured, tuple(result), spec)
    return StatePlan(**fields, fn=fn)


def with_function(plan: StatePlan, fn: Callable[..., Any]) -> StatePlan:
    """The plan with another function of tensors in the place of the one that it was derived from."""

    def wrapped(old: Callable[..., Any]) -> Callable[..., Any]:
        return dataclasses.replace(old, fn=wrapped(old.fn)) if isinstance(old, (Loop, OfGroups)) else fn

    return dataclasses.replace(plan, fn=wrapped(plan.fn))


def _structure(spec: Any) -> str:
    try:
        return pytree.treespec_dumps(spec)
    except (NotImplementedError, ValueError) as error:
        raise BatchproofError(f"this state cannot be saved: of what its function returns, {error}") from None


def _taken_by_sums(plan: StatePlan) -> dict[int, torch.Tensor]:
    """The values that no sample reaches, where sums around statistics are made of them."""
    taken = {i for parts in plan.centred.values() for op in parts.summand.ops for i in op.inputs}
    return {index: value for index, value in plan.constants.items() if index in taken}


def _tensors(shapes: list[Any], raw: bytes, device: torch.device) -> Iterator[torch.Tensor]:
    start = 0
    for name, shape in shapes:
        dtype = _attribute(name)
        stop = start + torch.Size(shape).numel() * dtype.itemsize
        yield of_raw_bytes(raw[start:stop], dtype, shape).to(device)
        start = stop


class _Writer:
    """Values as what JSON has, and apart from it tensors and places in the code."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self.sites: list[tuple[Any, ...]] = []
        self.known: dict[int, int] = {}
        self.numbers: dict[CallSite, int] = {}

    def encoded(self, value: Any) -> Any:
        """A list whose first entry says what follows; numbers, words and None as they are."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, torch.Tensor):
            if id(value) not in self.known:
                self.known[id(value)] = len(self.tensors)
                self.tensors.append(value)
            return ["T", self.known[id(value)]]
        if isinstance(value, CallSite):
            number = self.numbers.setdefault(value, len(self.sites))
            if number == len(self.sites):
                self.sites.append(dataclasses.astuple(value))
            return ["L", number]
        if type(value) in _NUMBERS:
            fields = (self.encoded(getattr(value, name)) for name in _FIELDS[type(value)])
            return ["C", _NUMBERS[type(value)], *fields]
        if type(value) in _CONTAINERS:
            return [_CONTAINERS[type(value)], *map(self.encoded, value)]
        if isinstance(value, dict):
            return ["d", *(self.encoded(part) for item in value.items() for part in item)]
        return self._named(value)

    def _named(self, value: Any) -> list[Any]:
        if isinstance(value, torch._ops.OpOverload):
            return ["O", str(value)]
        if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
            return ["A", str(value).removeprefix("torch.")]
        if isinstance(value, torch.device):
            return ["D"]
        if isinstance(value, Kind):
            return ["K", value.name]
        if isinstance(value, Merge):
            return ["M", value.name]
        if isinstance(value, complex):
            return ["Z", value.real, value.imag]
        if isinstance(value, type) and value in _TYPES.values():
            return ["Y", value.__name__]
        raise BatchproofError(
            f"this state cannot be saved: its plan holds a {type(value).__name__}, which has no name to be found by"
        )


class _Reader:
    """What `_Writer` wrote, as values again."""

    def __init__(self, sites: list[Any], tensors: list[torch.Tensor], device: torch.device) -> None:
        self.sites = [CallSite(*site) for site in sites]
        self.tensors = tensors
        self.device = device

    def decoded(self, data: Any) -> Any:
        """The value."""
        if not isinstance(data, list):
            return data
        mark, rest = data[0], data[1:]
        if mark == "C":
            kind = CLASSES[rest[0]]
            fields = dict(zip(_FIELDS[kind], map(self.decoded, rest[1:]), strict=True))
            return kind(**fields, **FORGOTTEN.get(kind, {}))
        if mark in _MADE:
            return _MADE[mark](map(self.decoded, rest))
        if mark == "d":
            parts = list(map(self.decoded, rest))
            return dict(zip(parts[::2], parts[1::2], strict=True))
        return self._named(mark, rest)

    def _named(self, mark: str, rest: list[Any]) -> Any:
        match mark:
            case "T":
                return self.tensors[rest[0]]
            case "L":
                return self.sites[rest[0]]
            case "O":
                return _operator(rest[0])
            case "A":
                return _attribute(rest[0])
            case "D":
                return self.device
            case "K":
                return Kind[rest[0]]
            case "M":
                return merge_named(rest[0])
            case "Z":
                return complex(*rest)
            case "Y":
                return _TYPES[rest[0]]
        raise BatchproofError(f"the saved plan cannot be read: it holds a {mark!r}")


_NUMBERS = {kind: number for number, kind in enumerate(CLASSES)}
#: The fields of each class that are saved.
_FIELDS = {
    kind: tuple(field.name for field in dataclasses.fields(kind) if field.name not in FORGOTTEN.get(kind, {}))
    for kind in CLASSES
}
_CONTAINERS: dict[type, str] = {tuple: "t", list: "l", set: "s", frozenset: "f", torch.Size: "t"}
_MADE: dict[str, Callable[..., Any]] = {"t": tuple, "l": list, "s": set, "f": frozenset}
_TYPES: dict[str, type] = {kind.__name__: kind for kind in (bool, int, float, complex, str, type(None))}


def _attribute(name: str) -> Any:
    """``float32``, ``strided``: a dtype, a layout or a memory format of torch, and nothing else that it has."""
    found = getattr(torch, name, None)
    if not isinstance(found, (torch.dtype, torch.layout, torch.memory_format)):
        raise BatchproofError(f"the saved plan cannot be read: this version of torch has no {name}")
    return found


@cache
def _operator(name: str) -> Any:
    """``aten.add.Tensor``, as an operator; only an operator can be named."""
    space, _, rest = name.partition(".")
    packet, _, overload = rest.rpartition(".")
    found = getattr(getattr(getattr(torch.ops, space), packet), overload, None)
    if not isinstance(found, torch._ops.OpOverload):
        raise BatchproofError(f"the saved plan cannot be read: this version of torch has no operator {name}")
    return found
