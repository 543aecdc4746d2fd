"""Leave what is somebody else's as it was: random generators, a model's buffers and flags, what a function holds."""

from __future__ import annotations

import copy
import functools
import io
import logging
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

DEPTH = 4  # how far to look into what a function holds


@contextmanager
def quiet(fn: Callable[..., Any]) -> Iterator[None]:
    """Calls made for our own sake leave what a function holds as it was: buffers, attributes, lists it appends to."""
    things = reachable(fn)
    buffers = [buffer for thing in things if isinstance(thing, torch.nn.Module) for buffer in thing.buffers()]
    values = [buffer.clone() for buffer in buffers]
    held = [(thing, copy.copy(thing)) for thing in things if isinstance(thing, (dict, list, set))]
    held += [(vars(thing), dict(vars(thing))) for thing in things if _has_attributes(thing)]
    try:
        yield
    finally:
        for container, content in held:
            refill(container, content)
        with torch.no_grad():
            for buffer, old in zip(buffers, values, strict=True):
                if not torch.equal(buffer, old):
                    buffer.copy_(old)


@contextmanager
def muted() -> Iterator[io.StringIO]:
    """What is printed meanwhile goes into what is yielded, and nothing is logged."""
    heard, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(heard), redirect_stderr(heard):
            yield heard
    finally:
        logging.disable(level)


def refill(container: Any, content: Any) -> None:
    """Make a list, dict or set hold what it held, in that order: the same object, which others may hold too."""
    if isinstance(container, list):
        container[:] = content
    else:
        container.clear()
        container.update(content)


def remembers(fn: Callable[..., Any], run: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether a call changed something that a function holds (a counter, a list of values); and what the call gave."""
    tables = [(thing, _content(thing)) for thing in reachable(fn) if isinstance(thing, (dict, list, set))]
    tables += [(vars(thing), _content(vars(thing))) for thing in reachable(fn) if _has_attributes(thing)]
    result = run()
    return any(_content(table) != content for table, content in tables), result


def _content(table: Any) -> list[int]:
    """The identities of what a container holds."""
    parts = [*table.keys(), *table.values()] if isinstance(table, dict) else list(table)
    return [id(part) for part in parts]


def _has_attributes(thing: Any) -> bool:
    """Whether a call may set attributes of it; a class's are not its own to reset."""
    return isinstance(getattr(thing, "__dict__", None), dict) and not isinstance(thing, (type, ModuleType))


def reachable(fn: Any) -> list[Any]:
    """What a callable holds, names, or can reach through what it holds."""
    found: list[Any] = []
    seen: set[int] = set()
    todo = [(fn, 0)]
    while todo:
        thing, depth = todo.pop()
        plain = thing is None or isinstance(thing, (int, float, str, bytes, torch.Tensor, type, ModuleType))
        if plain or id(thing) in seen or depth > DEPTH:
            continue
        seen.add(id(thing))
        found.append(thing)
        todo += [(part, depth + 1) for part in _parts(thing)]
    return found


def outermost(fn: Any) -> list[torch.nn.Module]:
    """The modules that a callable can reach and that are no part of another such."""
    modules = [thing for thing in reachable(fn) if isinstance(thing, torch.nn.Module)]
    inner = {part for module in modules for part in list(module.modules())[1:]}
    return [module for module in modules if module not in inner]


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, (list, tuple, set)):
        return list(thing)[:100]
    if isinstance(thing, dict):
        return list(thing.values())[:100]
    parts = held_by(thing)
    code = getattr(thing, "__code__", None)
    if code is not None:
        named = getattr(thing, "__globals__", {})
        parts += [value for name in code.co_names if isinstance(value := named.get(name), torch.nn.Module)]
    if isinstance(thing, torch.nn.Module) or callable(thing) or _has_attributes(thing):
        parts += list(getattr(thing, "__dict__", {}).values())
    return parts


def held_by(fn: Any) -> list[Any]:
    """What a callable carries: bound arguments, its object, its defaults, the variables that it closes over."""
    held: list[Any] = [getattr(fn, "__self__", None)]
    if isinstance(fn, functools.partial):
        held += [fn.func, *fn.args, *fn.keywords.values()]
    held += [*(getattr(fn, "__defaults__", None) or ()), *(getattr(fn, "__kwdefaults__", None) or {}).values()]
    for cell in getattr(fn, "__closure__", None) or ():
        with suppress(ValueError):  # not filled yet
            held.append(cell.cell_contents)
    return held


# ------------------------------------------------------------------ random generators and modules


@dataclass(frozen=True)
class RandomState:
    """The states of torch's generators, Python's, and NumPy's if it is in use."""

    cpu: torch.Tensor
    cuda: list[torch.Tensor]
    python: Any
    numpy: Any

    @classmethod
    def read(cls) -> RandomState:
        """Now."""
        numpy = sys.modules.get("numpy")
        return cls(
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if cuda_in_use() else [],
            random.getstate(),
            None if numpy is None else numpy.random.get_state(),
        )

    def same(self, other: RandomState) -> bool:
        """Whether no number lies between the two."""
        pairs = zip([self.cpu, *self.cuda], [other.cpu, *other.cuda], strict=False)
        return (
            all(torch.equal(mine, theirs) for mine, theirs in pairs)
            and self.python == other.python
            and repr(self.numpy) == repr(other.numpy)
        )

    def put_back(self) -> None:
        """As it was read."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


def cuda_in_use() -> bool:
    """Whether a CUDA generator may have been drawn from; asking it otherwise would start CUDA."""
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


@contextmanager
def preserved(target: object = None) -> Iterator[None]:
    """Restore the random generators, and of a module the buffers, gradients and train flags, on the way out."""
    generators = RandomState.read()
    module = target if isinstance(target, torch.nn.Module) else None
    kept = _read_module(module) if module is not None else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        generators.put_back()
        if module is not None and kept is not None:
            _restore_module(module, kept)


@contextmanager
def no_graph() -> Iterator[None]:
    """Switch gradients off, and leave no weights behind that autocast has cast meanwhile.

    In an autocast region, torch 2.9 and older keep a weight that was cast without a graph and hand it to the next pass,
    in which the weight then gets no gradient, in silence.
    """
    try:
        with torch.no_grad():
            yield
    finally:
        torch.clear_autocast_cache()


@contextmanager
def evaluating(target: object) -> Iterator[None]:
    """Every module that a target can reach is in eval mode meanwhile."""
    roots = [target] if isinstance(target, torch.nn.Module) else reachable(target)
    modules = [part for root in roots if isinstance(root, torch.nn.Module) for part in root.modules()]
    flags = [(module, module.training) for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def seed_all(seed: int) -> None:
    """Start every random generator that a function may draw from."""
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if cuda_in_use():
        torch.cuda.manual_seed_all(seed)


ModuleState = tuple[list[tuple[dict[str, Any], str, Any, Any]], list[tuple[torch.nn.Module, bool]]]


def _read_module(module: torch.nn.Module) -> ModuleState:
    buffers = [
        (owner._buffers, name, buffer, None if buffer is None else buffer.clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
    ]
    return buffers, [(owner, owner.training) for owner in module.modules()]


def _restore_module(module: torch.nn.Module, kept: ModuleState) -> None:
    buffers, flags = kept
    for table, name, buffer, content in buffers:
        if buffer is not None:
            with torch.no_grad():
                buffer.copy_(content)
        table[name] = buffer
    for owner, training in flags:
        owner.training = training
