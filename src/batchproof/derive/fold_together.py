"""The folds of several functions of the same samples as one: what they share is computed once, and kept once.

The functions were written apart, and each has its own plan. Their folds are written with one `CodeWriter`, which names
each distinct expression once: ``argmax`` of the same logits, the same comparison, the same counts. Values of one name
are kept once. Those that look at nothing but what a `CountTable` counts are not computed at all: they follow from the
counts. `FoldTogether.spread` gives each function the values that its own fold would have given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from batchproof.derive.codegen import CodeWriter, FoldCode
from batchproof.derive.count_table import CountTable, expand, find_table, guard, sample_of
from batchproof.derive.fold import WrittenFold, sample_count, write_fold
from batchproof.derive.merge import ROWS, SUM, Merge
from batchproof.derive.plan import Leaf, StatePlan
from batchproof.ground.tensors import gap

#: A value that is kept by its own fold and by the one of all may differ in the order of additions.
ROUNDING = 1e-9

_NAME = re.compile(r"[a-z]\w*")


@dataclass(frozen=True)
class LeafSource:
    """Where a value of one function comes from.

    Attributes:
        place: of the value that is kept, among all.
        each: what one sample of each kind gives, where that one counts samples by their kind; None where it is the
            value itself.
    """

    place: int
    each: Tensor | None = None

    def value(self, kept: Sequence[Tensor], merge: Merge) -> Tensor:
        """The value, from all that are kept."""
        return kept[self.place] if self.each is None else expand(kept[self.place], self.each, merge)


@dataclass(frozen=True)
class PlanPart:
    """One function's values among those of all."""

    plan: StatePlan
    leaves: tuple[LeafSource, ...]
    lengths: tuple[LeafSource, ...]


@dataclass
class FoldTogether:
    """Several folds as one; to a `GroupedState` and to the check of a batch it is like a plan.

    Attributes:
        leaves: what is kept.
        lengths: of selections, which are counted.
        fold: the code.
        captured: the tensors that the functions take from outside their arguments.
        parts: where each function finds its own values.
    """

    leaves: tuple[Leaf, ...]
    lengths: tuple[str, ...]
    fold: FoldCode
    captured: dict[int, Tensor]
    parts: tuple[PlanPart, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept, the count of samples included."""
        return 8 + sum(leaf.nbytes for leaf in self.leaves) + 8 * len(self.lengths)

    def spread(self, kept: Sequence[Tensor], lengths: Sequence[int]) -> list[tuple[list[Tensor], list[int]]]:
        """For each function the values of its leaves, in their own types, and the lengths of its selections."""
        counted = [torch.tensor(length) for length in lengths]
        found = []
        for part in self.parts:
            values = [
                source.value(kept, leaf.merge).to(leaf.dtype)
                for source, leaf in zip(part.leaves, part.plan.leaves, strict=True)
            ]
            found.append((values, [int(_length(source, kept, counted)) for source in part.lengths]))
        return found


def _length(source: LeafSource, kept: Sequence[Tensor], counted: Sequence[Tensor]) -> Tensor:
    return source.value(counted if source.each is None else kept, SUM)


def can_join(plan: StatePlan) -> bool:
    """Whether a plan's fold can be written together with others: its state adds up, whatever the order of batches."""
    return plan.group == 1 and all(leaf.merge is not ROWS for leaf in plan.leaves)


def fold_together(plans: Sequence[StatePlan], example: Sequence[Tensor]) -> FoldTogether | None:
    """The folds of several plans as one; None where that would not give what each of them gives.

    Args:
        plans: of functions of the same arguments, each one that `can_join`.
        example: a few samples, on which all are tried.
    """
    code = CodeWriter(plans[0].inputs)
    captured: list[Tensor] = []
    written = [_write(code, plan, captured) for plan in plans]
    lines = (f"n = {sample_count(plans[0].dims)}", *code.lines)
    shared = _Shared(lines, code.space, dict(enumerate(captured)), example[0].device)
    for plan, one in zip(plans, written, strict=True):
        shared.add_tables(plan, one)
    parts = tuple(shared.part(plan, one) for plan, one in zip(plans, written, strict=True))
    together = shared.together(parts)
    return together if _gives_the_same(together, example) else None


def _write(code: CodeWriter, plan: StatePlan, captured: list[Tensor]) -> WrittenFold:
    names = {}
    for index, tensor in plan.captured.items():
        place = next((place for place, known in enumerate(captured) if known is tensor), len(captured))
        captured[place:] = captured[place:] or [tensor]
        names[index] = f"w[{place}]"
    parts = plan.program, plan.kept, plan.lengths, plan.centred, plan.at_once
    return write_fold(code, *parts, plan.inputs, not plan.narrow, names)


class _Shared:
    """What is kept for all functions, while it is put together."""

    def __init__(
        self, lines: tuple[str, ...], space: dict[str, Any], captured: dict[int, Tensor], device: torch.device
    ) -> None:
        self.lines = lines
        self.space = space
        self.captured = captured
        self.device = device
        self.made = {line.partition(" = ")[0]: line.partition(" = ")[2] for line in lines}
        self.tables: dict[str, tuple[CountTable, tuple[str, ...], Leaf]] = {}  # by the name of the counts
        self.kept: dict[tuple[str, Merge], Leaf] = {}
        self.lengths: dict[str, None] = {}
        self.each: dict[tuple[str, str], Tensor | None] = {}

    def add_tables(self, plan: StatePlan, written: WrittenFold) -> None:
        """Look for tables among a function's leaves."""
        for index, name, leaf in zip(plan.kept, written.leaves, plan.leaves, strict=True):
            table = None if index in plan.centred else find_table(plan.program, index)
            if table is not None and all(root in written.names for root in table.roots):
                self.tables.setdefault(name, (table, tuple(written.names[root] for root in table.roots), leaf))

    def part(self, plan: StatePlan, written: WrittenFold) -> PlanPart:
        """Where a function finds its values; what it has alone is kept from now on."""
        leaves = [self._source(name, leaf) for name, leaf in zip(written.leaves, plan.leaves, strict=True)]
        return PlanPart(plan, tuple(leaves), tuple(map(self._length, written.lengths)))

    def _source(self, name: str, leaf: Leaf) -> LeafSource:
        found = self._from_counts(name)
        if found is None or found.each is None or tuple(found.each.shape[1:]) != leaf.state_shape:
            return LeafSource(self._place(name, leaf))
        return LeafSource(found.place, found.each.to(leaf.dtype))

    def _place(self, name: str, leaf: Leaf) -> int:
        """The place of a value among those kept; a count stays a whole number where one function keeps it so."""
        key = name, leaf.merge
        known = self.kept.get(key)
        if known is None or (known.dtype.is_floating_point and leaf.dtype is torch.int64):
            self.kept[key] = leaf
        return list(self.kept).index(key)

    def _length(self, expression: str) -> LeafSource:
        found = self._from_counts(expression)
        if found is not None:
            return found
        self.lengths.setdefault(expression)
        return LeafSource(list(self.lengths).index(expression))

    def _from_counts(self, expression: str) -> LeafSource | None:
        """Where a value follows from counts: from the table with the most kinds, and not from itself."""
        by_size = sorted(self.tables, key=lambda name: (-len(self.tables[name][1]), name))
        for table in by_size:
            if table == expression:
                return None
            each = self._of_each_kind(expression, table)
            if each is not None:
                leaf = self.tables[table][2]
                place = self._place(table, leaf)
                self._guard(table)
                return LeafSource(place, each)
        return None

    def _guard(self, table: str) -> None:
        """Watch that the roots of a table stay below their limits."""
        found, roots, leaf = self.tables[table]
        for root, limit, watched in zip(roots, found.limits, found.guarded, strict=True):
            if not watched:
                continue
            expression = guard(root, limit)
            name = next((name for name, made in self.made.items() if made == expression), f"g{len(self.made)}")
            if name not in self.made:
                self.made[name] = expression
                self.lines = (*self.lines, f"{name} = {expression}")
            self._place(name, Leaf(SUM, (limit,), torch.int64, 8 * limit, 1, leaf.site, "bincount"))

    def _of_each_kind(self, expression: str, table: str) -> Tensor | None:
        """What one sample of each kind gives, stacked; None where the value looks at more than the roots."""
        if (expression, table) not in self.each:
            self.each[expression, table] = self._tried(expression, table)
        return self.each[expression, table]

    def _tried(self, expression: str, table: str) -> Tensor | None:
        found, roots, _ = self.tables[table]
        lines = _behind(expression, self.made, set(roots))
        if lines is None:
            return None
        text = "\n    ".join([f"def one({', '.join(roots)}, w, n=1):", *lines, f"return {expression}"])
        space = dict(self.space)
        exec(compile(text, "<batchproof fold>", "exec"), space)
        kinds = found.kinds()
        try:
            with torch.inference_mode(False), torch.no_grad():
                samples = [sample_of(found, kind, self.device) for kind, _ in kinds]
                each = torch.stack([torch.as_tensor(space["one"](*sample, self.captured)) for sample in samples])
        except Exception:  # noqa: BLE001 - a kind that the function does not take: its fold has to see the samples
            return None
        every = torch.zeros((found.size, *each.shape[1:]), dtype=each.dtype, device=each.device)
        every[torch.tensor([place for _, place in kinds], device=each.device)] = each
        return every

    def together(self, parts: tuple[PlanPart, ...]) -> FoldTogether:
        """All of it."""
        names = tuple(name for name, _ in self.kept)
        fold = FoldCode(self.lines, names, tuple(self.lengths), self.space)
        return FoldTogether(tuple(self.kept.values()), tuple(self.lengths), fold, self.captured, parts)


def _behind(expression: str, made: dict[str, str], roots: set[str]) -> list[str] | None:
    """The lines from some roots to an expression; None where it looks at the samples in another way."""
    needed: set[str] = set()
    todo = [name for name in _NAME.findall(expression) if name in made or name == "x"]
    while todo:
        name = todo.pop()
        if name == "x":
            return None
        if name not in needed and name not in roots and name != "n":
            needed.add(name)
            todo += [other for other in _NAME.findall(made[name]) if other in made or other == "x"]
    return [f"{name} = {value}" for name, value in made.items() if name in needed]


def _gives_the_same(together: FoldTogether, example: Sequence[Tensor]) -> bool:
    """Whether each function gets from all folds as one what its own fold gives."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            spread = together.spread(*together.fold.compile()(example, together.captured))
            for part, (values, lengths) in zip(together.parts, spread, strict=True):
                own, counted = part.plan.fold.compile()(example, part.plan.captured)
                pairs = zip(values, own, part.plan.leaves, strict=True)
                if lengths != counted or not all(_same(mine, value, leaf) for mine, value, leaf in pairs):
                    return False
    except Exception:  # noqa: BLE001 - whatever it is, each function has its own fold
        return False
    return True


def _same(mine: Tensor, value: Any, leaf: Leaf) -> bool:
    own = torch.as_tensor(value).to(leaf.dtype)
    if mine.shape != own.shape:
        return False
    return gap(mine, own) <= ROUNDING if mine.is_floating_point() or mine.is_complex() else torch.equal(mine, own)
