"""The state of an abstract run: which loops are open, which function is being read, what was found so far."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from batchproof.scripts.source.index import Index
from batchproof.scripts.source.site import Average, Divisor, Doubt, Loader
from batchproof.scripts.source.values import BatchLoop, Binding, Entry, Instance, Scope, Stat, Unknown, Value

#: So many statements are read in one file: calls into the same helpers multiply.
MOST_STATEMENTS = 40_000
#: So many of them in one function and what it calls, before further calls of it are passed over.
MOST_IN_ONE = 2_000
#: So deep calls are followed.
MOST_CALLS = 12


@dataclass(eq=False)
class OpenLoop:
    """A loop that is being read: ``batch`` where it is over batches, ``samples`` where over the samples of one."""

    mark: int
    node: ast.AST
    frame: Frame
    batch: BatchLoop | None = None
    samples: bool = False


@dataclass(eq=False)
class Frame:
    """A function that is being read."""

    scope: Scope
    function: ast.AST
    name: str = ""
    me: Instance | None = None
    owner: ast.ClassDef | None = None
    returns: list[Value] = field(default_factory=list)
    yields: bool = False
    statement: ast.AST | None = None
    caller: Frame | None = None
    given: set[int] = field(default_factory=set)
    quiet: bool = False
    keyed: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Reading:
    index: Index
    module: Scope
    evaluate: Callable[[Reading, ast.expr], Value]
    execute: Callable[[Reading, list[ast.stmt]], bool]
    assign: Callable[[Reading, ast.expr, Value], None]
    frames: list[Frame] = field(default_factory=list)
    loops: list[OpenLoop] = field(default_factory=list)
    entries: dict[tuple[int, str], Entry] = field(default_factory=dict)
    batch_loops: dict[int, BatchLoop] = field(default_factory=dict)
    doubts: dict[tuple[str, int], Doubt] = field(default_factory=dict)
    stale: dict[int, int] = field(default_factory=dict)  # by what a last batch's value comes from: where it is reported
    read: set[ast.AST] = field(default_factory=set)
    spent: dict[ast.AST, int] = field(default_factory=dict)  # statements by function
    marks: int = 0
    statements: int = 0

    @property
    def frame(self) -> Frame:
        return self.frames[-1]

    def born(self) -> tuple[int, ...]:
        """The loops that are open now."""
        return tuple(loop.mark for loop in self.loops)

    def batch_loop(self) -> BatchLoop | None:
        """The innermost loop over batches that is open."""
        for loop in reversed(self.loops):
            if loop.batch is not None:
                return loop.batch
        return None

    def loops_over_batches(self) -> bool:
        return any(loop.batch is not None for loop in self.loops)

    def is_open(self, loop: BatchLoop) -> bool:
        return any(other.batch is loop for other in self.loops)

    def doubt(self, topic: str, node: ast.AST, why: str) -> None:
        self.doubts.setdefault((topic, id(node)), Doubt(topic, node, why))

    def bind(self, name: str, value: Value) -> None:
        self.frame.scope.names[name] = Binding(value, self.born(), self.frame.statement)


def open_for(run: Reading, born: tuple[int, ...]) -> OpenLoop | None:
    """The innermost loop over batches, or over samples, that something born there outlives."""
    for loop in reversed(run.loops):
        if (loop.batch is not None or loop.samples) and loop.mark not in born:
            return loop
    return None


def reported_as(run: Reading, entries: tuple[Entry, ...], name: str) -> None:
    if name:
        for entry in entries:
            entry.reported.setdefault(name)


def place_of(run: Reading, value: Value, loop: OpenLoop) -> tuple[ast.AST, str]:
    """The statement that adds a value: in the function that made it, where another was only handed it."""
    frame = run.frame
    known = _mark_of(value)
    while frame is not loop.frame and frame.caller is not None and known in frame.given:
        frame = frame.caller
    return frame.statement or loop.node, frame.name


def marks_of(values: list[Value]) -> set[int]:
    return {_mark_of(value) for value in values if isinstance(value, (Stat, Unknown))}


def _mark_of(value: Value) -> int:
    if isinstance(value, Stat):
        return id(value.origin)
    return id(value.node)


def record_average(
    run: Reading,
    entries: tuple[Entry, ...],
    node: ast.AST,
    divisor: Divisor,
    divisor_node: ast.expr | None,
    number: bool = False,
) -> tuple[Average, ...]:
    """Note that a total was divided; ``number`` where by a number that stands in the source."""
    found = []
    for entry in entries:
        inside = run.is_open(entry.loop)
        average = Average(node, divisor, divisor_node, inside, window=number and inside)
        entry.averages.setdefault(id(node), average)
        if entry.taken is None and run.frame.statement is not None:
            entry.taken = run.frame.statement
        found.append(average)
    return tuple(found)


def note_after(entries: tuple[Entry, ...], averages: tuple[Average, ...], name: str) -> None:
    """Note that a nonlinear function was applied to an average."""
    nodes = {id(average.node) for average in averages}
    for entry in entries:
        for key in nodes & entry.averages.keys():
            if not entry.averages[key].after:
                entry.averages[key] = replace(entry.averages[key], after=name)


def loader_of(loaders: list[Loader]) -> Loader:
    """One loader for a loop that is read with several: what is true of all of them."""
    if not loaders:
        return Loader(None)
    first = next((loader for loader in loaders if loader.built is not None), loaders[0])
    drops = {loader.drops_last for loader in loaders}
    sizes: set[int | None] = {loader.batch_size for loader in loaders}
    drops_last = drops.pop() if len(drops) == 1 else (False if False in drops else None)
    return replace(first, drops_last=drops_last, batch_size=sizes.pop() if len(sizes) == 1 else None)
