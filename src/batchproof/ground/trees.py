"""Open the containers that arguments come in, so that tensors and single values are left, and put them together again.

torch knows lists, tuples and dictionaries. A mapping of another type, a dataclass or an object with tensors in its
attributes becomes a `Box` of its parts; one that cannot be put together again as it was is refused by name.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from pickle import dumps
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from batchproof.errors import BatchproofError
from batchproof.ground import tensors

#: How deep, and among how many things, to look for tensors in an object.
DEPTH, MOST = 6, 2000
_BASES: tuple[Any, ...] = (OrderedDict, dict, SimpleNamespace, object)  # what it may build on, and be made again from
_SINGLE = (bool, int, float, complex, str, bytes, type(None), Enum, torch.dtype, torch.device, torch.layout)
_CODE = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type, partial, torch.nn.Module)


@dataclasses.dataclass(frozen=True)
class Box:
    """An opened container: its type, the entries of a mapping first, then its attributes, by name."""

    kind: type
    keys: tuple[Any, ...]
    entries: int
    parts: list[Any]


def _names(box: Box) -> Iterator[Any]:
    for place, key in enumerate(box.keys):
        if place < box.entries:
            yield pytree.MappingKey(key)
        elif key == "data" and issubclass(box.kind, UserDict):
            yield _Unnamed()
        else:
            yield pytree.GetAttrKey(key)


class _Unnamed:
    """The dictionary inside a `UserDict`, which its user never names."""

    def __str__(self) -> str:
        return ""


pytree.register_pytree_node(
    Box,
    lambda box: (box.parts, (box.kind, box.keys, box.entries)),
    lambda parts, about: Box(about[0], about[1], about[2], list(parts)),
    flatten_with_keys_fn=lambda box: (
        list(zip(_names(box), box.parts, strict=True)),
        (box.kind, box.keys, box.entries),
    ),
)


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array of numpy's kind: it has a shape and a dtype."""
    return type(leaf).__module__.partition(".")[0] == "numpy" and hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def is_plain(item: Any) -> bool:
    """A number, a text, or a list or dictionary of such: no tensor, no array, no object."""
    if isinstance(item, (list, tuple)):
        return all(is_plain(part) for part in item)
    if type(item) is dict:
        return all(is_plain(part) for part in item.values())
    return item is None or isinstance(item, (int, float, str, bool)) or (is_array(item) and item.shape == ())


def is_column(leaf: Any) -> bool:
    """A list with no tensor or array in it: an entry for each sample, not a tree."""
    return isinstance(leaf, list) and is_plain(leaf) and (not leaf or any(item is not None for item in leaf))


def opened(value: Any, label: str) -> Any:
    """A tree with every container that torch does not know as a `Box`.

    Raises:
        BatchproofError: there are tensors in an object that cannot be put together again, or some that cannot be cut.
    """
    return _opened(value, label, ())


def _opened(value: Any, label: str, inside: tuple[int, ...]) -> Any:
    def one(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            check_tensor(leaf, label)
        if isinstance(leaf, PackedSequence):
            raise BatchproofError(
                f"argument {label} is a PackedSequence, whose steps are not laid out by sample: pad it, with "
                "torch.nn.utils.rnn.pad_packed_sequence, and pass the lengths"
            )
        if _is_single(leaf) or not carries(leaf):
            return leaf
        if id(leaf) in inside or not _can_be_rebuilt(leaf):
            why = "refers to itself" if id(leaf) in inside else "cannot be taken apart and put together again"
            raise BatchproofError(
                f"argument {label} is a {type(leaf).__name__} with tensors in it, which {why}: pass its tensors, or a "
                "dict of them"
            )
        entries = dict(leaf) if isinstance(leaf, dict) else {}
        keys, parts = zip(*[*entries.items(), *attributes(leaf).items()], strict=True)
        return Box(type(leaf), keys, len(entries), [_opened(part, label, (*inside, id(leaf))) for part in parts])

    return pytree.tree_map(one, value, is_leaf=lambda leaf: is_column(leaf) or isinstance(leaf, PackedSequence))


def check_tensor(tensor: torch.Tensor, label: str) -> None:
    """Raise BatchproofError where a tensor is none of plain numbers, laid out by dimension."""
    if tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized and not _is_wrapped(tensor):
        return
    if tensor.is_nested:
        what, cure = "nested", "pad it, with .to_padded_tensor(0.0), and pass a mask"
    elif tensor.is_quantized:
        what, cure = "quantized", "pass it .dequantize()d"
    elif hasattr(tensor, "full_tensor"):
        what, cure = "distributed", "pass its .full_tensor(), or .to_local() and sync"
    elif hasattr(tensor, "get_mask"):
        what, cure = "masked", "pass its .get_data() and its .get_mask()"
    else:
        what, cure = f"{str(tensor.layout).removeprefix('torch.')}", "pass it .to_dense()"
    raise BatchproofError(f"argument {label} is a {what} tensor, whose samples cannot be cut apart: {cure}")


def _is_wrapped(tensor: torch.Tensor) -> bool:
    """Whether it stands for numbers that are kept elsewhere, or not all there."""
    return type(tensor) is not torch.Tensor and (hasattr(tensor, "full_tensor") or hasattr(tensor, "get_mask"))


def closed(tree: Any) -> Any:
    """The containers as they were; the inverse of `opened`."""
    return pytree.tree_map(
        lambda leaf: _rebuilt(leaf) if isinstance(leaf, Box) else leaf, tree, is_leaf=lambda leaf: isinstance(leaf, Box)
    )


def _rebuilt(box: Box) -> Any:
    parts = [closed(part) for part in box.parts]
    base: Any = next(known for known in _BASES if issubclass(box.kind, known))
    made = base.__new__(box.kind)
    pairs = list(zip(box.keys, parts, strict=True))
    for key, part in pairs[: box.entries]:
        base.__setitem__(made, key, part)
    own = getattr(made, "__dict__", None)
    for name, part in pairs[box.entries :]:
        if own is not None and name not in _slots(box.kind):
            own[name] = part
        else:
            object.__setattr__(made, name, part)
    return made


def _is_single(leaf: Any) -> bool:
    return isinstance(leaf, (*_SINGLE, *_CODE, torch.Tensor)) or is_array(leaf) or is_column(leaf)


def is_fixed(leaf: Any) -> bool:
    """Whether nothing in a leaf can change, or it is code, which is told apart by identity."""
    return isinstance(leaf, (*_SINGLE, *_CODE)) or type(leaf) is object or (callable(leaf) and not carries(leaf))


def _can_be_rebuilt(thing: Any) -> bool:
    """Whether an object is all in its entries and attributes, so that the same ones make the same object."""
    kind = type(thing)
    if any(base not in _BASES and not _is_heap_type(base) for base in kind.__mro__):
        return False
    ways = [(kind, "__reduce_ex__"), (kind, "__reduce__")]
    if any(getattr(of, way) not in [getattr(base, way) for base in _BASES] for of, way in ways):
        return False
    if getattr(thing, "__dict__", None) is thing:  # its attributes are its entries
        return False
    described = dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__") or issubclass(kind, UserDict)
    return described or getattr(kind, "__getstate__", None) is getattr(object, "__getstate__", None)


def _is_heap_type(kind: type) -> bool:
    """Whether a class was written in Python."""
    return bool(kind.__flags__ & 1 << 9)


def _slots(kind: type) -> list[str]:
    declared = [base.__dict__.get("__slots__", ()) for base in kind.__mro__]
    names = [name for slots in declared for name in ([slots] if isinstance(slots, str) else slots)]
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def attributes(thing: Any) -> dict[str, Any]:
    """What an object holds by name."""
    slots = [name for name in _slots(type(thing)) if hasattr(thing, name)]
    return {**(getattr(thing, "__dict__", None) or {}), **{name: getattr(thing, name) for name in slots}}


def carries(thing: Any) -> bool:
    """Whether there is a tensor or an array in an object, or more than can be looked through."""
    seen: set[int] = set()
    todo = [(thing, 0)]
    while todo:
        part, depth = todo.pop()
        if isinstance(part, torch.Tensor) or (is_array(part) and part.shape != ()):
            return True
        if id(part) in seen or depth > DEPTH or isinstance(part, (*_SINGLE, *_CODE)):
            continue
        seen.add(id(part))
        if len(seen) > MOST:
            return True
        todo += [(inner, depth + 1) for inner in _inside(part)]
    return False


def _inside(thing: Any) -> list[Any]:
    if isinstance(thing, Mapping) and isinstance(thing, dict):
        return [*thing.values(), *attributes(thing).values()]
    if isinstance(thing, (list, tuple, set, frozenset)):
        return list(thing)
    return list(attributes(thing).values())


def same(a: Any, b: Any) -> bool:
    """Whether two things have the same content: numbers by value, objects by what they hold, code by identity.

    Raises:
        TypeError: it cannot be told.
    """
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return tensors.same(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, _CODE) or type(a) is object or (callable(a) and not carries(a)):
        return a is b or (isinstance(a, MethodType) and bool(a == b))
    if is_array(a):
        import numpy

        return a.dtype == b.dtype and bool(numpy.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if isinstance(a, _SINGLE):
        return bool(a == b) or a != a
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and (a.keys() != b.keys() or not all(same(a[key], b[key]) for key in a)):
        return False
    return _same_object(a, b)


def _same_object(a: Any, b: Any) -> bool:
    mine, theirs = attributes(a), attributes(b)
    if _has_own_equality(type(a)) and not mine and not isinstance(a, dict):
        return bool(a == b)
    if mine or isinstance(a, dict):
        return mine.keys() == theirs.keys() and _within(a, lambda: all(same(mine[key], theirs[key]) for key in mine))
    return dumps(a) == dumps(b)


def _has_own_equality(kind: Any) -> bool:
    return kind.__eq__ is not object.__eq__


_open: set[int] = set()


def _within(thing: Any, run: Callable[[], bool]) -> bool:
    """Guard against an object that holds itself."""
    if id(thing) in _open:
        return True
    _open.add(id(thing))
    try:
        return run()
    finally:
        _open.discard(id(thing))


_known: WeakValueDictionary[str, type] = WeakValueDictionary()


def described(skeleton: Any) -> Any:
    """A skeleton with boxes as dictionaries of plain values, to be saved."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Box):
            return leaf
        name = f"{leaf.kind.__module__}:{leaf.kind.__qualname__}"
        _known[name] = leaf.kind
        return {_BOX: name, "keys": leaf.keys, "entries": leaf.entries, "parts": [described(p) for p in leaf.parts]}

    return pytree.tree_map(one, skeleton, is_leaf=lambda leaf: isinstance(leaf, Box))


_BOX = "<type>"


def restored(skeleton: Any) -> Any:
    """A skeleton from its description in plain containers.

    Raises:
        BatchproofError: a type is not there in this process.
    """

    def saved(leaf: Any) -> bool:
        return isinstance(leaf, dict) and _BOX in leaf

    def one(leaf: Any) -> Any:
        if not saved(leaf):
            return leaf
        parts = [restored(part) for part in leaf["parts"]]
        return Box(_type_of(leaf[_BOX]), tuple(leaf["keys"]), leaf["entries"], parts)

    return pytree.tree_map(one, skeleton, is_leaf=saved)


def _type_of(name: str) -> type:
    module, _, path = name.partition(":")
    found: Any = _known.get(name) or sys.modules.get(module)
    if isinstance(found, ModuleType):
        for part in path.split("."):
            found = getattr(found, part, None)
    if not isinstance(found, type):
        raise BatchproofError(f"the saved state holds arguments of type {path}: import {module} before it is loaded")
    return found
