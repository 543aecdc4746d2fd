"""What was rewritten, by number: the rewritten script names these numbers, and the measuring looks them up."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from typing import Any

from batchproof.ground.place import Place, short
from batchproof.scripts.source import AverageSite, Quantity

#: The name that rewritten code reaches the measuring by.  A builtin: a script's own namespace stays its own.
NAME = "__batchproof__"


class Kept(ast.Call):
    """``__batchproof__.keep(7, expression)``: the expression's value, noted under a number on its way."""

    number: int

    @property
    def inner(self) -> ast.expr:
        """The expression as the script has it."""
        return self.args[1]


@dataclass
class RewrittenFile:
    """One file that was rewritten.

    Attributes:
        file: its path.
        lines: its text, line by line.
        names: the namespace that it runs in.
    """

    file: str
    lines: list[str]
    names: dict[str, Any]

    def place(self, number: int) -> Place:
        """One of its lines, as reports show it."""
        text = self.lines[number - 1].strip() if 0 < number <= len(self.lines) else ""
        return Place(short(self.file), number, text)


@dataclass
class AccumulatorPlace:
    """One of the script's accumulators.

    Attributes:
        root: the added expression, rewritten.
        meter: the object that is called with what a batch adds, as written; empty where there is none.
        shared: which of its averages are those of other accumulators, too: ``{k: mean(v) for k, v in log.items()}``.
        handed: its values are handed to a trainer, which averages them: no expression of the script is its root.
        may_weigh: each batch's value is written down once for each sample, or as often as a batch is long.
        key: the variable that says under which key a batch's value is put; empty where there is none.
        keyed: it is what another place adds under one key.
    """

    number: int
    source: RewrittenFile
    site: AverageSite
    loop: int
    root: Kept
    meter: str = ""
    shared: frozenset[int] = frozenset()
    handed: bool = False
    may_weigh: bool = False
    key: str = ""
    keyed: bool = False


@dataclass
class LoopPlace:
    """One loop over batches."""

    number: int
    source: RewrittenFile
    line: int
    sites: list[int] = field(default_factory=list)
    trains: bool = False
    takes: frozenset[str] = frozenset()  # the variables that it takes from its loader
    node_is_while: bool = False
    variables: tuple[str, ...] = ()  # by which it picks its data, or its averages are kept: `loaders[phase]`


@dataclass
class Node:
    """One kept expression."""

    source: RewrittenFile
    kept: Kept | None  # None for what `loss += penalty` leaves in `loss`
    assigned: tuple[str, ...]
    changed: ast.AugAssign | None = None


@dataclass
class Registry:
    """All that was rewritten, over all files."""

    nodes: list[Node] = field(default_factory=list)
    places: list[AccumulatorPlace] = field(default_factory=list)
    loops: list[LoopPlace] = field(default_factory=list)
    reports: list[tuple[RewrittenFile, int]] = field(default_factory=list)  # where a number asked for by name is given
    files: dict[str, RewrittenFile] = field(default_factory=dict)  # by their paths
    logged: list[tuple[str, AverageSite]] = field(default_factory=list)  # what is handed to a trainer, by file

    @property
    def lengths(self) -> tuple[int, ...]:
        """How much there is of each."""
        return len(self.nodes), len(self.places), len(self.loops), len(self.reports)

    def cut(self, lengths: tuple[int, ...]) -> None:
        """Forget what came after: a file that could not be rewritten."""
        nodes, places, loops, reports = lengths
        del self.nodes[nodes:], self.places[places:], self.loops[loops:], self.reports[reports:]


def part_of(whole: AccumulatorPlace, number: int, key: str, of_table: bool) -> AccumulatorPlace:
    """The place of what is added under one key.

    Args:
        whole: the place of all keys.
        number: of its own.
        key: the key.
        of_table: whether a batch adds a table, and not one value after another.
    """

    def named(name: str) -> str:
        if whole.key and f"[{whole.key}]" in name:
            return name.replace(f"[{whole.key}]", f"[{key}]")
        return f"{name}[{key}]"

    site = whole.site
    added = replace(site.added, quantity=Quantity.UNKNOWN, why="", origin=None)  # those of the keys together
    own = replace(site, name=named(site.name), reported=tuple(map(named, site.reported)), added=added, labels=())
    return replace(whole, number=number, site=own, shared=frozenset(), handed=of_table, key="", keyed=True)
