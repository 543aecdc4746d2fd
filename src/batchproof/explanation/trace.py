"""Record each operation of a run, with what it gave, the module it ran in, and the user's line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from batchproof.ground import components
from batchproof.ground.held_state import same_start
from batchproof.ground.place import OWN_FOLDER, Place, place

#: Only the shape of the argument matters.  (Dropout fills an ``empty_like`` with its mask: what lay there is noise.)
_SHAPE_ONLY = ("_like", "new_empty", "new_zeros", "new_ones", "new_full")
_STANDARD = str(Path(os.__file__).parent)
_HIDDEN = (str(Path(torch.__file__).parent), OWN_FOLDER, "<frozen")


@dataclass(frozen=True)
class TraceStep:
    """One operation that the data reach: copies of its results, and the steps that its inputs come from."""

    op: str
    module: str
    place: Place | None
    results: tuple[torch.Tensor, ...]
    sources: tuple[int, ...]


@dataclass
class RunTrace:
    """The steps of one run, and for each numeric leaf of the result the step that made it (-1: an input, or none)."""

    steps: list[TraceStep] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; to say so costs an import of torch._dynamo, more than a second."""
        return False

    def __init__(self, run: RunTrace, modules: list[str], inputs: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run = run
        self.modules = modules
        self.made_by: Any = WeakTensorKeyDictionary()
        for tensor in inputs:
            self.made_by[tensor] = -1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        known = [self.made_by.get(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        sources = tuple(sorted({source for source in known if source is not None}))
        if sources and not func._schema.name.endswith(_SHAPE_ONLY):
            self._note(func, sources, [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)])
        return result

    def _note(self, func: Any, sources: tuple[int, ...], results: list[torch.Tensor]) -> None:
        copies = tuple(tensor.detach().clone() for tensor in results)
        module = self.modules[-1] if self.modules else ""
        self.run.steps.append(TraceStep(str(func.overloadpacket), module, _place(), copies, sources))
        for tensor in results:
            self.made_by[tensor] = len(self.run.steps) - 1


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The lines whose operations draw random numbers, of any generator."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: list[Place | None] = []
        self.running = modules
        self.modules: dict[str, None] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.places.append(_place())
            self.modules[self.running[-1] if self.running else ""] = None
        return func(*args, **(kwargs or {}))


def is_users(file: str) -> bool:
    """Whether a file belongs to no library: neither to an installed one nor to Python's own."""
    return not file.startswith((*_HIDDEN, _STANDARD)) and "site-packages" not in file


def find_draws(target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> list[Place | None]:
    """Call the target and see where torch draws random numbers: each line, None where it is none of the user's."""
    mode = _Draws()
    with mode:
        _watched(target, args, kwargs)
    return mode.places


def drawing_modules(target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], seed: int) -> list[str]:
    """The modules in which a call draws random numbers, in the order in which they run."""
    with _module_names(target) as running, same_start(target, seed), torch.no_grad():
        mode = _Draws(running)
        with mode:
            _watched(target, args, kwargs)
    return list(mode.modules)


def watch(target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> RunTrace:
    """Call the target and record what it does."""
    run = RunTrace()
    inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    with _module_names(target) as modules:
        mode = _Watch(run, modules, inputs)
        with mode:
            result = _watched(target, args, kwargs)
    run.ends = [
        mode.made_by.get(leaf, -1) if isinstance(leaf, torch.Tensor) else -1 for _, leaf in components.leaves(result)
    ]
    return run


def _watched(target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The frame above which nothing belongs to the user's function."""
    return target(*args, **kwargs)


@contextmanager
def _module_names(target: object) -> Iterator[list[str]]:
    """The names of the modules that are running, innermost last."""
    stack: list[str] = []
    handles = []
    if isinstance(target, torch.nn.Module):
        for name, module in target.named_modules():

            def enter(_module: Any, _args: Any, name: str = name) -> None:
                stack.append(name)

            def leave(_module: Any, _args: Any, _output: Any) -> None:
                stack.pop()

            handles.append(module.register_forward_pre_hook(enter, prepend=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


@lru_cache(4096)
def _place_of(file: str, line: int, _folder: str) -> Place:
    """A line as it is called from a folder: a loop asks for the same one at each of its turns."""
    return place(file, line)


def _place() -> Place | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _watched.__code__:
        if not frame.f_code.co_filename.startswith(_HIDDEN):
            return _place_of(frame.f_code.co_filename, frame.f_lineno, str(Path.cwd()))
        frame = frame.f_back
    return None
