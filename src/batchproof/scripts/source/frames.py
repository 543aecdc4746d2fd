"""What an abstract run keeps beside its values: names and their scopes, open loops, functions that are being read."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batchproof.scripts.source.site import Average, Loader, Phase

if TYPE_CHECKING:
    from batchproof.scripts.source.callables import Instance
    from batchproof.scripts.source.values import Value

#: How many statements are read in one file: calls into the same helpers multiply.
MOST_STATEMENTS = 40_000
#: How many of them in one function and what it calls, before further calls of it are passed over.
MOST_IN_ONE = 2_000
#: How deep calls are followed.
MOST_CALLS = 12


@dataclass(eq=False)
class Binding:
    """What a name holds, since which statement, and inside which loops that statement stands."""

    value: Value
    created_in: tuple[int, ...] = ()
    statement: ast.AST | None = None


@dataclass(eq=False)
class Scope:
    """Names, and the scope around them."""

    names: dict[str, Binding] = field(default_factory=dict)
    outer: Scope | None = None

    def find(self, name: str) -> Binding | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


@dataclass(eq=False)
class BatchLoop:
    """A loop over batches, as it is being found out."""

    node: ast.For | ast.AsyncFor | ast.While | ast.comprehension | ast.FunctionDef | ast.AsyncFunctionDef
    iterable: ast.expr | None = None
    text: str = ""
    over: list[Value] = field(default_factory=list)  # what the iterable held, each time the loop was read
    loaders: list[Loader] = field(default_factory=list)
    backward: bool = False
    evaluating: bool = False  # no_grad, eval(), or a name that says so
    single: bool = False  # a dimension for the batch is added in the loop
    of_one: bool = False  # it is asserted that a batch is one sample
    equal: bool = False
    turns: str = ""  # of `range(n)`: what n is
    step: str = ""  # of `range(0, n, size)`: what size is
    full: bool = False  # a batch that is not full is passed over
    weighs: bool = False  # the trainer weighs what is logged by the batch's size

    @property
    def phase(self) -> Phase:
        if self.backward:
            return Phase.TRAINING
        return Phase.EVALUATION if self.evaluating else Phase.UNKNOWN

    def loader(self) -> Loader:
        """One loader for a loop that is read with several: what is true of all of them."""
        first = next((loader for loader in self.loaders if loader.built is not None), self.loaders[0])
        drops = {loader.drops_last for loader in self.loaders}
        sizes: set[int | None] = {loader.batch_size for loader in self.loaders}
        drops_last = drops.pop() if len(drops) == 1 else (False if False in drops else None)
        return replace(first, drops_last=drops_last, batch_size=sizes.pop() if len(sizes) == 1 else None)


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
    handed: set[int] = field(default_factory=set)  # all that it was given, by their marks
    evaluating: bool = False
    first_rank: bool = False  # what is read is done by the first rank only
    keyed: set[str] = field(default_factory=set)
    branches: list[str] = field(default_factory=list)  # of `if flag == "test"` that are being read, what they say
    set_for_evaluation: dict[str, tuple[ast.AST, str]] = field(default_factory=dict)  # names that are True there


@dataclass(eq=False)
class Contribution:
    """What one statement adds to an accumulator in each batch."""

    name: str
    statement: ast.AST
    value: Value
    loop: BatchLoop
    function: str = ""
    starts: dict[int, ast.AST] = field(default_factory=dict)
    averages: dict[int, Average] = field(default_factory=dict)
    reported: dict[str, None] = field(default_factory=dict)
    labels: dict[str, None] = field(default_factory=dict)  # what is printed before its average
    written: ast.expr | None = None  # what is added, as its statement has it
    window: bool = False
    listed: bool = False
    spread: bool = False  # one item for each row, by ``extend``
    late: bool = False  # a trainer adds it, where no statement shows
    taken: ast.AST | None = None  # the statement that averages it first
    scalar: bool = False  # it was averaged like a number


def report_as(entries: tuple[Contribution, ...], name: str) -> None:
    """Note a name under which the average of these contributions is reported."""
    for entry in entries:
        entry.reported.setdefault(name)


def note_after(entries: tuple[Contribution, ...], averages: tuple[Average, ...], name: str) -> None:
    """Note that a nonlinear function was applied to an average."""
    nodes = {id(average.node) for average in averages}
    for entry in entries:
        for key in nodes & entry.averages.keys():
            if not entry.averages[key].after:
                entry.averages[key] = replace(entry.averages[key], after=name)
