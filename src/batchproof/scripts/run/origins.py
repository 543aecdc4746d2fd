"""Where a pass comes from: which call of the loop's function, over which loader, and what its result is given to.

A function that scores a loader is called for the validation data and for the test data: these are two numbers, each
with epochs of its own. Calls are told apart by where they stand, up to the script itself, where their names are, too.
"""

from __future__ import annotations

import ast
import inspect
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_HERE = str(Path(__file__).parent)
#: Calls that are followed from a loop to the script.
MOST_CALLS = 60
#: The line in which it begins and ends, the column.
Position = tuple[int | None, int | None, int | None, int | None]


@dataclass(frozen=True)
class NamedCall:
    """A call in the source.

    Attributes:
        names: what its value is given to.
        arguments: variables that it is given.
        word: the first string that it is given: ``run_epoch("test")``; may be empty.
    """

    names: tuple[str, ...]
    arguments: tuple[str, ...]
    word: str = ""


def call_sites(tree: ast.AST) -> dict[Position, NamedCall]:
    """The calls of a file, by their position.

    >>> sites = call_sites(ast.parse("val, acc = score(loader)"))
    >>> sites[1, 1, 11, 24]
    NamedCall(names=('val', 'acc'), arguments=('loader',), word='')
    """
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found: dict[Position, NamedCall] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            arguments = tuple(ast.unparse(part) for part in given if isinstance(part, (ast.Name, ast.Attribute)))
            position = node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
            words = (part.value for part in given if isinstance(part, ast.Constant) and isinstance(part.value, str))
            found[position] = NamedCall(tuple(_given_to(node, parents)), arguments, next(words, ""))
    return found


def _given_to(node: ast.AST, parents: dict[int, ast.AST]) -> Iterator[str]:
    """What a value is assigned to, appended to, or kept under."""
    holder = parents.get(id(node))
    while holder is not None and not isinstance(holder, ast.stmt):
        if isinstance(holder, ast.keyword) and holder.arg:
            yield holder.arg
        if isinstance(holder, ast.Call) and isinstance(holder.func, ast.Attribute):
            yield ast.unparse(holder.func.value)
        if isinstance(holder, ast.NamedExpr):
            yield holder.target.id
        if isinstance(holder, ast.Dict):
            yield from (
                str(key.value)
                for key, value in zip(holder.keys, holder.values, strict=True)
                if value is node and isinstance(key, ast.Constant)
            )
        node, holder = holder, parents.get(id(holder))
    if isinstance(holder, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        for target in holder.targets if isinstance(holder, ast.Assign) else [holder.target]:
            parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
            yield from map(ast.unparse, parts)


@dataclass(frozen=True)
class PassOrigin:
    """Where a pass comes from.

    Attributes:
        path: the calls that lead to the loop, the innermost first.
        names: what the values of these calls are given to.
        loader: which loader, by the order in which they were seen; None where that cannot be told.
        argument: the loader, as a caller wrote it; may be empty.
        given: variables that the loop's function is called with.
        word: a string that the loop's function is called with; may be empty.
        words: variables by which the loop picks its data, as in ``loaders[phase]``, and the strings that they are.
    """

    path: tuple[tuple[int, int], ...] = ()
    names: tuple[str, ...] = ()
    loader: int | None = None
    argument: str = ""
    word: str = ""
    words: tuple[tuple[str, str], ...] = ()
    given: tuple[str, ...] = ()


#: Of a pass whose loop was not seen to begin.
NOWHERE = PassOrigin()


@dataclass
class PassOrigins:
    """What tells passes apart."""

    calls: dict[str, dict[Position, NamedCall]] = field(default_factory=dict)  # by file
    _positions: dict[CodeType, list[Position]] = field(default_factory=dict)
    _loaders: dict[int, tuple[Any, int]] = field(default_factory=dict)
    _seen: int = 0

    def of(self, frame: FrameType | None, loader: Any, words: tuple[tuple[str, Any], ...]) -> PassOrigin:
        """The origin of a pass that begins in a frame.

        Args:
            frame: of the function with the loop.
            loader: what it takes its batches from.
            words: variables by which the loop picks its data, or keeps its average, and what they are.
        """
        words = tuple((name, value) for name, value in words if isinstance(value, str))
        path: list[tuple[int, int]] = []
        names: list[str] = []
        argument = word = ""
        given: tuple[str, ...] = ()
        frame = frame.f_back if frame is not None else None
        while frame is not None and len(path) < MOST_CALLS and not frame.f_code.co_filename.startswith(_HERE):
            path.append((id(frame.f_code), frame.f_lasti))
            site = self._site(frame)
            if site is not None:
                names += (_with_value(name, frame) for name in site.names)
                argument = argument or next((name for name in site.arguments if _is(frame, name, loader)), "")
                if len(path) == 1:
                    word, given = site.word, site.arguments
            frame = frame.f_back
        return PassOrigin(tuple(path), tuple(names), self._number(loader), argument, word, words, given)

    def _site(self, frame: FrameType) -> NamedCall | None:
        sites = self.calls.get(frame.f_code.co_filename)
        if sites is None or not hasattr(frame.f_code, "co_positions"):
            return None
        positions = self._positions.get(frame.f_code)
        if positions is None:
            positions = self._positions[frame.f_code] = list(frame.f_code.co_positions())
        return sites.get(positions[frame.f_lasti // 2])

    def _number(self, loader: Any) -> int | None:
        """The same number for the same loader; None for what cannot be known again once it is gone."""
        held = self._loaders.get(id(loader))
        if held is not None and held[0]() is loader:
            return held[1]
        try:
            known = weakref.ref(loader)
        except TypeError:
            return None
        self._seen += 1
        self._loaders[id(loader)] = known, self._seen
        return self._seen


def _with_value(name: str, frame: FrameType) -> str:
    """``results[val]`` for ``results[part]``, where that is what ``part`` is."""
    if not name.endswith("]"):
        return name
    base, _, key = name[:-1].rpartition("[")
    value = _value(frame, key)
    return f"{base}[{value}]" if key.isidentifier() and isinstance(value, str) else name


def _is(frame: FrameType, name: str, thing: Any) -> bool:
    return thing is not None and _value(frame, name) is thing


def _value(frame: FrameType, name: str) -> Any:
    """A variable, or an attribute that is in its object's own table: no property is asked.

    Before Python 3.13 those of a function are left alone: to look at them would keep them alive, and change what
    ``locals()`` gave to the script.
    """
    first, *rest = name.split(".")
    code = frame.f_code
    if sys.version_info < (3, 13) and code.co_flags & inspect.CO_OPTIMIZED:
        is_local = first in (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
        value = None if is_local else frame.f_globals.get(first)
    else:
        value = frame.f_locals.get(first, frame.f_globals.get(first))
    for attribute in rest:
        value = getattr(value, "__dict__", {}).get(attribute)
    return value
