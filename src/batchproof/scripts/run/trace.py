"""What one pass through a loop's body evaluated, in order: numbers of expressions, and their values."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

MOST_PARTS = 64


@dataclass
class Trace:
    """The values of kept expressions since the loop's body began.

    Attributes:
        numbers: which expressions, in the order in which they were evaluated.
        values: what they gave.
        versions: of tensors, how often they had been written to; None for all else.
        target: what the loop took from its loader.
        takes: the variables that it was put into.
        along: the dimension of its tensors along which samples lie.
        count: how many there are; None where that is not known.
        losses: single numbers that an installed model computed, by identity: the number, where the function that gave
            it was kept, and where what that was called with.
        per_target: of such a number that is a sum over targets divided by a number of items, what its mean over targets
            would be, and how many targets there are.
    """

    numbers: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    versions: list[int | None] = field(default_factory=list)
    target: Any = None
    takes: frozenset[str] = frozenset()
    along: int = 0
    count: int | None = None
    losses: dict[int, tuple[Any, int, tuple[int, ...]]] = field(default_factory=dict)
    per_target: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def clear(self) -> None:
        self.per_target.clear()
        self.losses.clear()
        self.numbers.clear()
        self.values.clear()
        self.versions.clear()

    def latest(self, number: int, before: int) -> int | None:
        """The last time that an expression was evaluated before a point."""
        for index in range(before - 1, -1, -1):
            if self.numbers[index] == number:
                return index
        return None


def parts(value: Any, depth: int = 3) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What a container or an object holds, each with the way to it: ``("logits",)``, ``(0, 1)``."""
    yield (), value
    if depth == 0:
        return
    for step, part in _held(value):
        for path, found in parts(part, depth - 1):
            yield (step, *path), found


def _held(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return [(key, part) for key, part in list(value.items())[:MOST_PARTS]]
    if isinstance(value, (tuple, list)):
        return list(enumerate(value[:MOST_PARTS]))
    table = getattr(value, "__dict__", None)
    if isinstance(table, dict) and not isinstance(value, type) and not _is_heavy(value):
        return [(Attribute(name), part) for name, part in list(table.items())[:MOST_PARTS]]
    return []


class Attribute(str):
    """A step to an attribute, not to an item."""


def _is_heavy(value: Any) -> bool:
    """Whether it is a tensor, a module or the like: nothing that a batch is held in."""
    kind = type(value)
    return (
        kind.__module__.partition(".")[0] in ("torch", "numpy", "builtins")
        or hasattr(value, "__code__")
        or any(base.__module__.startswith("torch.nn") for base in kind.__mro__)
    )


def is_a(thing: Any, module: str, name: str) -> bool:
    """Whether a thing is of a class of a module that may not be imported yet."""
    home = sys.modules.get(module)
    return home is not None and isinstance(thing, getattr(home, name))


def is_tensor(value: Any) -> bool:
    return is_a(value, "torch", "Tensor")


def is_batch(value: Any) -> bool:
    return is_tensor(value) and value.ndim > 0


def is_batch_holder(value: Any) -> bool:
    return is_batch(value) or any(is_batch(part) for _, part in parts(value))


def is_container(value: Any) -> bool:
    return isinstance(value, (tuple, list, dict)) or type(value).__module__.startswith("transformers.")


def is_plain(value: Any) -> bool:
    """Whether its identity says nothing."""
    return value is None or isinstance(value, (bool, int, str, bytes, type, ModuleType)) or callable(value)


def samples_of(target: Any, along: int = 0) -> int | None:
    """How many samples a batch has: the length of its first tensor."""
    first = _first_batch(target)
    return None if first is None or first.ndim <= along else int(first.shape[along])


def dimension_of(target: Any, size: Any) -> int:
    """Along which dimension of a loader's tensors samples lie: the second, where only that is as long as a batch."""
    first = _first_batch(target) if type(size) is int else None
    return int(first is not None and first.ndim > 1 and first.shape[0] != size and first.shape[1] == size)


def _first_batch(target: Any) -> Any:
    """The first tensor that is no single number."""
    if is_tensor(target):
        return target if target.ndim else None
    if isinstance(target, (tuple, list)):
        return next((first for part in target if (first := _first_batch(part)) is not None), None)
    if target is None or isinstance(target, (int, float, str)):
        return None
    return next((part for path, part in parts(target) if path and is_batch(part)), None)
