"""What a model or a function holds from one call to the next: buffers, attributes, what lies in its lists and dicts."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any, Literal

import torch

from batchproof.ground.isolation import reachable, refill, seed_all

HeldKind = Literal["buffer", "attribute", "variable"]
#: How far to look into what an attribute holds.
DEPTH = 3
_CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.nn.Parameter)
#: What torch keeps in every module: tables, which are no state of the model's own.
_TORCHS = frozenset(vars(torch.nn.Module())) - {"training"}
#: Those of them that hold hooks. transformers hooks its layers when hidden states are first asked for, and notes it in
#: an attribute: put back alone, that would have them hooked twice.
_HOOKS = tuple(sorted(name for name in _TORCHS if "_hooks" in name))
_NOTHING = object()


@dataclass(frozen=True)
class HeldThing:
    """One thing that a call may change, as it was.

    Attributes:
        name: Its full name: ``"norm.running_mean"``.
        kind: What it is.
        has_changed: Whether it is another one by now.
        restore: Makes it what it was.
        added: The attributes that there are by now and were not.
    """

    name: str
    kind: HeldKind
    has_changed: Callable[[], bool]
    restore: Callable[[], None]
    added: Callable[[], list[str]] = list

    @property
    def full_name(self) -> str:
        """Its name, or that of the first attribute that is new."""
        return next((_joined(self.name, key) for key in self.added()), self.name)


def read_held(target: Any) -> list[HeldThing]:
    """All that a target holds, as it is now."""
    found = list(_of_cells(target))
    seen: set[int] = set()
    roots = [("", target)] if isinstance(target, torch.nn.Module) else list(_roots(target))
    for path, root in roots:
        if isinstance(root, torch.nn.Module):
            for name, module in root.named_modules():
                found += _of_module(_joined(path, name), module, seen)
        else:
            found += _of_value(path, root, "variable", seen, 1)
    return found


@contextmanager
def held_still(target: Any) -> Iterator[list[HeldThing]]:
    """What a target holds is afterwards what it was."""
    held = read_held(target)
    try:
        yield held
    finally:
        restore(held)


@contextmanager
def same_start(target: Any, seed: int, held: Sequence[HeldThing] | None = None) -> Iterator[None]:
    """Each run starts from the same random numbers (dropout is no coupling), and from what the target held.

    Args:
        target: What is run.
        seed: Of all generators.
        held: What it holds, where that was read before and has been put back since: reading takes longer than a run.
    """
    held = read_held(target) if held is None else held
    seed_all(seed)
    try:
        yield
    finally:
        restore(held)


def restore(held: Sequence[HeldThing]) -> None:
    """Make all of it what it was."""
    for thing in held:
        if thing.has_changed():
            thing.restore()


def _roots(target: Any) -> Iterator[tuple[str, Any]]:
    """What a function can reach: its modules, and the objects and containers that it was given."""
    for thing in reachable(target):
        if not isinstance(thing, (FunctionType, MethodType)):
            yield "", thing


def _of_cells(target: Any) -> Iterator[HeldThing]:
    """The variables of an outer function: ``nonlocal`` binds them anew, and what they hold may change."""
    code, cells = getattr(target, "__code__", None), getattr(target, "__closure__", None) or ()
    seen: set[int] = set()
    for name, cell in zip(code.co_freevars if code is not None else (), cells, strict=False):
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            continue

        def has_changed(cell: Any = cell, value: Any = value) -> bool:
            return cell.cell_contents is not value

        def put_back(cell: Any = cell, value: Any = value) -> None:
            cell.cell_contents = value

        yield HeldThing(name, "variable", has_changed, put_back)
        yield from _of_value(name, value, "variable", seen, DEPTH)


def _of_module(name: str, module: torch.nn.Module, seen: set[int]) -> Iterator[HeldThing]:
    if id(module) in seen:
        return
    seen.add(id(module))
    for key, buffer in module._buffers.items():
        yield from _entry(module._buffers, key, _joined(name, key), "buffer")
        if buffer is not None:
            yield from _of_value(_joined(name, key), buffer, "buffer", seen, 0)
    own = vars(module)
    yield from (_hooks(own[key], _joined(name, key)) for key in _HOOKS if isinstance(own.get(key), dict))
    yield from _attributes(own, name, seen, DEPTH, "attribute", _TORCHS)


def _hooks(table: dict[int, Any], name: str) -> HeldThing:
    before = dict(table)
    return HeldThing(name, "attribute", lambda: before.keys() != table.keys(), lambda: refill(table, before))


def _attributes(
    own: dict[str, Any], name: str, seen: set[int], depth: int, kind: HeldKind, without: frozenset[str] = frozenset()
) -> Iterator[HeldThing]:
    """The values of a table of attributes, those that are new in it, and what lies inside of them."""
    before = frozenset(own)
    for key, value in list(own.items()):
        if key not in without:
            yield from _entry(own, key, _joined(name, key), kind)
            yield from _of_value(_joined(name, key), value, kind, seen, depth)

    def added() -> list[str]:
        return [key for key in own if key not in before]

    def drop() -> None:
        for key in added():
            del own[key]

    yield HeldThing(name, kind, lambda: not before.issuperset(own), drop, added)


def _entry(table: dict[str, Any], key: str, name: str, kind: HeldKind) -> Iterator[HeldThing]:
    """Which object an attribute is."""
    value = table[key]
    yield HeldThing(
        name, kind, lambda: table.get(key, _NOTHING) is not value, lambda: table.__setitem__(key, value)
    )  # fmt: skip


def _of_value(name: str, value: Any, kind: HeldKind, seen: set[int], depth: int) -> Iterator[HeldThing]:
    """What is in an object: the numbers of a tensor, the parts of a container, the attributes of anything else."""
    if isinstance(value, (*_PLAIN, type, ModuleType, FunctionType, MethodType, torch.nn.Module)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield from _of_tensor(name, value, kind)
    elif isinstance(value, torch.Generator):
        state = value.get_state()

        def rewind() -> None:
            value.set_state(state)

        yield HeldThing(name, kind, lambda: not torch.equal(value.get_state(), state), rewind)
    elif depth and type(value) in _CONTAINERS:
        yield from _of_container(name, value, kind, seen, depth)
    elif depth and _has_attributes(value):
        yield from _attributes(vars(value), name, seen, depth - 1, kind)


def _has_attributes(value: Any) -> bool:
    """Whether it is an object with a state of its own: not one of torch's (compiled code) nor a logger."""
    library = type(value).__module__.partition(".")[0]
    return isinstance(getattr(value, "__dict__", None), dict) and library not in ("torch", "logging")


def _of_container(name: str, value: Any, kind: HeldKind, seen: set[int], depth: int) -> Iterator[HeldThing]:
    content = copy.copy(value)
    parts = list(content.values()) if isinstance(content, dict) else list(content)
    identities = _identities(value)

    def refill() -> None:
        value.clear()
        (value.extend if isinstance(value, (list, deque)) else value.update)(content)

    yield HeldThing(name, kind, lambda: _identities(value) != identities, refill)
    for part in parts[:100]:
        yield from _of_value(name, part, kind, seen, depth - 1)


def _of_tensor(name: str, value: torch.Tensor, kind: HeldKind) -> Iterator[HeldThing]:
    if value.layout is not torch.strided or value.is_quantized or value.device.type == "meta":
        return
    with torch.no_grad():
        content = value.detach().clone()

    def has_changed() -> bool:
        return not _same(value.detach(), content)

    def put_back() -> None:
        with torch.no_grad():
            value.detach().copy_(content)

    yield HeldThing(name, kind, has_changed, put_back)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())  # NaN is as it was where it was NaN


def _identities(value: Any) -> list[int]:
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
    return [id(part) for part in parts]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
