"""What batches were added to, or joined in: running totals, averages, lists, dicts and meters."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.frames import Binding, Contribution, Scope, note_after
from batchproof.scripts.source.site import Average, Divisor, Quantity, Weight
from batchproof.scripts.source.values import (
    BatchRows,
    Const,
    Count,
    CountedThing,
    Fixed,
    Library,
    Shape,
    Stat,
    Unknown,
    Value,
    Whole,
    is_last_few,
    key_of,
    literal_index,
    text_of,
    worst,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


@dataclass(eq=False)
class Accumulated(Whole):
    """What batches were added to, one after the other."""

    entries: tuple[Contribution, ...] = ()

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        return self.entries

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> Value:
        return Fixed(node)


@dataclass(eq=False)
class LoopTotal(Accumulated):
    """A total that was not divided yet; ``listed`` where its batches can still be told apart."""

    listed: bool = False
    weighted: Value | None = None  # they were multiplied by these
    taken_in: Value | None = None  # what a function added that is being read with the total as it stood before

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> Value:
        return LoopTotal(node, self.entries, True)

    def mean(self, run: Interpreter, node: ast.expr) -> Value:
        if not self.listed:
            return self
        if any(entry.spread or isinstance(entry.value, Pool) for entry in self.entries):
            return Pool(node)
        self.mark_scalars()
        divisor = Divisor.WEIGHTS if self.weighted is not None else Divisor.BATCHES
        return Averaged(node, self.entries, run.record_average(self.entries, node, divisor, None, own=True))

    def mark_scalars(self) -> None:
        """Note that what was added is averaged like a number."""
        for entry in self.entries:
            entry.scalar = entry.scalar or not entry.spread

    def sum(self, run: Interpreter, node: ast.expr) -> Value:
        return replace(self, node=node, listed=False)

    def at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        return Fixed(node) if self.listed and is_last_few(node.slice) else self

    def item(self, target: ast.expr) -> Value:
        return self.entries[-1].value if self.listed and self.entries else self

    def plus(self, other: LoopTotal, node: ast.AST | None) -> LoopTotal:
        """Both totals in one."""
        entries = united(self.entries, other.entries)
        return LoopTotal(node, entries, self.listed and other.listed, self.weighted or other.weighted)


@dataclass(eq=False)
class Averaged(Accumulated):
    """A total after its division."""

    averages: tuple[Average, ...] = ()

    def mean(self, run: Interpreter, node: ast.expr) -> Value:
        return replace(self, node=node)

    def sum(self, run: Interpreter, node: ast.expr) -> Value:
        return self

    def nonlinear(self, node: ast.expr, what: str) -> Value:
        note_after(self.entries, self.averages, what)
        return replace(self, node=node)

    def plus(self, other: Averaged, node: ast.AST | None) -> Averaged:
        """Both averages in one."""
        return Averaged(node, united(self.entries, other.entries), self.averages + other.averages)


@dataclass(eq=False)
class Pool(Whole):
    """The rows of many batches, joined."""

    has_many = CountedThing.DATASET

    def mean(self, run: Interpreter, node: ast.expr) -> Value:
        return Fixed(node)

    def sum(self, run: Interpreter, node: ast.expr) -> Value:
        return Fixed(node)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        return self


@dataclass(eq=False)
class Meter(Value):
    """An average of what it is given, of a class that is not in the file."""

    name: str = ""
    slots: dict[str, list[Contribution]] = field(default_factory=dict)
    weighs: bool = True
    created_in: tuple[int, ...] = ()

    def read(self, run: Interpreter, name: str, node: ast.AST) -> Value:
        """``meter.avg``: the average of what went in; ``meter["loss"]``: a part of it."""
        if name in {"val", "last", "sum", "count", "cnt", "n", "sums"}:
            return Fixed(node)
        if name not in self.slots and name not in name_tables.METER_READS:
            return self
        slots = [self.slots[name]] if name in self.slots else list(self.slots.values())
        entries = tuple(entry for slot in slots for entry in slot)
        if not entries:
            return Fixed(node)
        averages = (
            run.record_average((entry,), node, divisor_of_meter(entry.value), None, own=True) for entry in entries
        )
        return Averaged(node, entries, tuple(average for pair in averages for average in pair))

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        return self.read(run, name, node)

    def at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        return self.read(run, key_of(node.slice), node)


@dataclass(eq=False)
class Items(Value):
    """A list, a tuple or an array: what it was written with, and what batches were added to it."""

    items: list[Value] = field(default_factory=list)
    entries: list[Contribution] = field(default_factory=list)
    created_in: tuple[int, ...] = ()
    array: bool = False
    start: ast.AST | None = None
    of_samples: bool = False  # one item for each sample of the batch
    tuple_: bool = False
    recent: bool = False  # only the last few are kept

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        return tuple(self.entries)

    @property
    def members(self) -> list[Value]:
        return self.items

    def is_of_batch(self, depth: int = 3) -> bool:
        return depth > 0 and any(item.is_of_batch(depth - 1) for item in self.items)

    def _length(self, run: Interpreter, node: ast.expr, of: ast.expr | None) -> Value:
        if self.entries:
            return LoopTotal(node, tuple(self.entries), True)
        if not self.items:
            return Count(node, CountedThing.BATCHES)
        if not self.is_of_batch():
            return Fixed(node)
        return Count(node, CountedThing.SAMPLES, run.batch_loop()) if self.of_samples else Const(node, len(self.items))

    def mean(self, run: Interpreter, node: ast.expr) -> Value:
        if self.entries and all(isinstance(entry.value, Mapping) for entry in self.entries):
            names = {name for entry in self.entries for name in getattr(entry.value, "entries", ())}
            columns = [self.column(run, name, node) for name in sorted(names) if name != "*"]
            return join_all([column.mean(run, node) for column in columns]) if columns else Unknown(node)
        if self.entries:
            return LoopTotal(self.node, tuple(self.entries), True).mean(run, node)
        return self._of_one_batch(run, node, Quantity.MEAN) or Unknown(node)

    def sum(self, run: Interpreter, node: ast.expr) -> Value:
        if self.entries:
            return LoopTotal(node, tuple(self.entries), False)
        return self._of_one_batch(run, node, Quantity.SUM) or Unknown(node, "", self.is_of_batch())

    def extreme(self, run: Interpreter, node: ast.expr, what: str) -> Value:
        return Fixed(node) if self.entries else self.mean(run, node)

    def _of_one_batch(self, run: Interpreter, node: ast.expr, quantity: Quantity) -> Value | None:
        """A list that was filled within one batch: of its samples, or of its parts."""
        if self.of_samples:
            return run.stat(node, quantity)
        stats = [item for item in self.items if isinstance(item, Stat)]
        if stats:
            return worst(stats).derived(node)
        return run.stat(node, quantity) if quantity is Quantity.MEAN and self.is_of_batch(4) else None

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        if name == "shape":
            return Shape(node, self)
        return self if name in {"T", "data"} else Unknown(node, name)

    def held(self, run: Interpreter, target: ast.expr) -> Binding | None:
        if not isinstance(target, ast.Subscript):
            return None
        index = literal_index(target.slice)
        if self.items and not self.array and index is not None and index < len(self.items):
            return Binding(self.items[index], self.created_in, self.start)
        here = run.frame.scope.find(ast.unparse(target))
        return here or Binding(Const(target, 0), self.created_in, self.start)

    def hold(self, key: ast.expr, value: Value) -> bool:
        """Take in an entry; whether that is all there is to do."""
        index = literal_index(key)
        if index is None and isinstance(value, Accumulated) and not isinstance(key, ast.Constant):
            self.add_entries(value.entries)
        if index is None or not 0 <= index < len(self.items):
            return False
        self.items[index] = value
        return True

    def add_entries(self, entries: Iterable[Contribution]) -> None:
        """Take in what batches added elsewhere, each once."""
        self.entries += [entry for entry in entries if entry not in self.entries]

    def at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        place = key.value if isinstance(key, Const) else None
        here = run.frame.scope.find(ast.unparse(node)) if self.array and isinstance(key, Const) else None
        if here is not None:
            return here.value
        column = text_of(key)
        if column and self.entries and all(isinstance(entry.value, Mapping) for entry in self.entries):
            return self.column(run, column, node)
        if not self.entries:
            if isinstance(place, int) and -len(self.items) <= place < len(self.items):
                return self.items[place]
            return self.items[0] if self.items else Unknown(node, "", self.of_samples)
        if is_last_few(node.slice):
            return Fixed(node)
        if place == -1 and not isinstance(node.slice, ast.Slice):
            return self.entries[-1].value
        return LoopTotal(node, tuple(self.entries), True)

    def column(self, run: Interpreter, name: str, node: ast.AST) -> Items:
        """Of a list of dicts, as a table's rows: what they hold under a name."""
        column = Items(node, [], [], self.created_in, start=self.start)
        for entry in self.entries:
            held = entry.value.entries.get(name) if isinstance(entry.value, Mapping) else None
            if held is None:
                continue
            key = (id(entry.statement), f'{entry.name}["{name}"]')
            if key not in run.entries:
                part = Contribution(key[1], entry.statement, held.value, entry.loop, entry.function, listed=True)
                part.starts, part.window = entry.starts, entry.window
                part.written = held.value.node if isinstance(held.value.node, ast.expr) else None
                run.entries[key] = part
            column.entries.append(run.entries[key])
        return column

    def part(self, run: Interpreter, place: int, target: ast.expr) -> Value:
        if self.entries:
            return LoopTotal(target, tuple(self.entries), True)
        return self.items[min(place, len(self.items) - 1)] if self.items else Unknown(target)

    def item(self, target: ast.expr) -> Value:
        if self.entries:
            return _read_again(self.entries[-1].value)
        if not self.items:
            return super().item(target)
        first = self.items[0]
        if isinstance(first, Const) and any(i.value != first.value for i in self.items if isinstance(i, Const)):
            return Unknown(target)  # `for batch_size in (1, 16, 64)`
        return first


@dataclass(eq=False)
class Mapping(Value):
    entries: dict[str, Binding] = field(default_factory=dict)
    created_in: tuple[int, ...] = ()
    makes: str = ""  # what a defaultdict makes: "list", "float", "meter", "dict"
    template: ast.expr | None = None  # of a dict: as written

    def is_of_batch(self, depth: int = 3) -> bool:
        return depth > 0 and any(binding.value.is_of_batch(depth - 1) for binding in self.entries.values())

    def values(self) -> list[Value]:
        return [binding.value for binding in self.entries.values()]

    def read(self, run: Interpreter, key: str, node: ast.AST) -> Value:
        """What it holds under a key, or under any where the key is "*"."""
        if key in self.entries:
            return self.entries[key].value
        if "*" in self.entries:
            return self.entries["*"].value
        if key == "*" and self.entries:
            return join_all(self.values())
        if self.makes:
            default = self._default(run, node)
            self.entries[key] = Binding(default, self.created_in, self.node)
            return default
        return Unknown(node, key)

    def held(self, run: Interpreter, target: ast.expr) -> Binding | None:
        if not isinstance(target, ast.Subscript):
            return None
        key = key_of(target.slice)
        known = self.entries.get(key) or self.entries.get("*")
        if known is not None:
            return known
        if self.makes:
            return Binding(Const(target, 0), self.created_in, self.node)
        if key == "*" and self.entries:
            first = next(iter(self.entries.values()))
            return Binding(self.read(run, key, target), self.created_in, first.statement)
        return Binding(Unknown(target), self.created_in, self.node)

    def _default(self, run: Interpreter, node: ast.AST) -> Value:
        if self.template is not None:
            default = run.evaluate(self.template)
            if isinstance(default, (Mapping, Items)):
                default.created_in = self.created_in
            if isinstance(default, Mapping):
                for entry in default.entries.values():
                    entry.created_in = self.created_in
            return default
        if self.makes == "list":
            return Items(node, created_in=self.created_in, start=self.node)
        return Meter(node, "defaultdict", created_in=self.created_in) if self.makes == "meter" else Const(node, 0)

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        return self.entries[name].value if name in self.entries else Unknown(node, name)

    def mean(self, run: Interpreter, node: ast.expr) -> Value:
        """Of a table: that of each column."""
        means = [value.mean(run, node) for value in self.values() if isinstance(value, Items) and value.entries]
        return join_all(means) if means else Unknown(node)

    def at(self, run: Interpreter, key: Value, node: ast.Subscript) -> Value:
        return self.read(run, key_of(node.slice), node)


def _read_again(value: Value) -> Value:
    """A batch's value that is taken off a list later is not the loop's last one."""
    if isinstance(value, Stat):
        return replace(value, loop=None)
    if isinstance(value, Items) and not value.entries:
        return replace(value, items=[_read_again(item) for item in value.items])
    return value


def divisor_of_meter(value: Value) -> Divisor:
    """What a meter divides by, of the weight that its values come with."""
    if isinstance(value, Stat) and value.weight is not Weight.NONE:
        by_weight = {Weight.SAMPLES: Divisor.SAMPLES, Weight.CONFIGURED: Divisor.CONFIGURED}
        return by_weight.get(value.weight, Divisor.WEIGHTS)
    return Divisor.BATCHES


#: Of two values that a name may hold, the one that says more comes later.
_SAYS = (Unknown, Const, Fixed, Count, Library, BatchRows, Items, Mapping, Stat, Averaged, LoopTotal)


def join(first: Value, second: Value) -> Value:
    """What a name holds after two branches."""
    if first is second:
        return first
    if isinstance(first, LoopTotal) and isinstance(second, LoopTotal):
        return first.plus(second, first.node)
    if isinstance(first, Const) and isinstance(second, Const) and _is_either(first.value, second.value):
        return Unknown(first.node)  # which of them, the source does not say
    if isinstance(first, Averaged) and isinstance(second, Averaged):
        return first.plus(second, first.node)
    if isinstance(first, Stat) and isinstance(second, Stat):
        return second if first.quantity is Quantity.UNKNOWN else first
    if (
        isinstance(first, Items)
        and isinstance(second, Items)
        and not (first.entries or second.entries)
        and len(first.items) == len(second.items)
    ):
        items = [join(a, b) for a, b in zip(first.items, second.items, strict=True)]
        return Items(first.node, items, [], first.created_in, first.array, first.start)
    return first if _says(first) >= _says(second) else second


def _is_either(first: object, second: object) -> bool:
    return isinstance(first, bool) and isinstance(second, bool) and first is not second


def join_all(values: list[Value]) -> Value:
    """What a name holds after several branches."""
    value = values[0]
    for other in values[1:]:
        value = join(value, other)
    return value


def united(first: tuple[Contribution, ...], second: tuple[Contribution, ...]) -> tuple[Contribution, ...]:
    """The contributions of both, each once."""
    return first + tuple(entry for entry in second if entry not in first)


def _says(value: Value) -> int:
    if isinstance(value, Const) and value.value is None:
        return -1
    return _SAYS.index(type(value)) if type(value) in _SAYS else len(_SAYS)


def join_scopes(scope: Scope, one: dict[str, Binding], other: dict[str, Binding]) -> None:
    """Leave in a scope what its names hold after two branches."""
    if one is other:
        scope.names = one
        return
    names = dict(other)
    for name, binding in one.items():
        there = other.get(name)
        if there is None or there is binding:
            names[name] = binding
            continue
        value = join(binding.value, there.value)
        kept = binding if value is binding.value else there
        created_in = binding.created_in if len(binding.created_in) <= len(there.created_in) else there.created_in
        names[name] = Binding(value, created_in, kept.statement)
    scope.names = names
