"""Arithmetic on values: what a sum, a product, a quotient, a root or a mean of them is."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables, suspicions
from batchproof.scripts.source.frames import Contribution
from batchproof.scripts.source.index import as_written
from batchproof.scripts.source.name_tables import name_set
from batchproof.scripts.source.site import Divisor, Quantity, Topic, Weight
from batchproof.scripts.source.totals import Accumulated, Averaged, Items, LoopTotal, Pool
from batchproof.scripts.source.values import (
    BatchRows,
    Const,
    Count,
    CountedThing,
    Fixed,
    Length,
    Position,
    Stat,
    Unknown,
    Value,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


def binary(run: Interpreter, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    """What ``left op right`` holds."""
    if isinstance(left, Const) and isinstance(right, Const):
        return _constant(node, op, left, right)
    if isinstance(left, Accumulated) or isinstance(right, Accumulated):
        return of_totals(run, node, op, left, right)
    if isinstance(left, Pool) or isinstance(right, Pool):
        return Pool(node)
    if isinstance(left, Items) and left.array and not left.entries:
        left = Const(left.node, 0)
    if isinstance(right, Items) and right.array and not right.entries:
        right = Const(right.node, 0)
    if isinstance(left, Items) and isinstance(right, Items) and isinstance(op, ast.Add):
        return Items(node, (left.items + right.items)[:200], left.entries + right.entries, left.created_in)
    if isinstance(left, Stat) or isinstance(right, Stat):
        return _stats(run, node, op, left, right)
    if (
        (isinstance(left, (Count, Position)) or isinstance(right, (Count, Position)))
        and not isinstance(left, BatchRows)
        and not isinstance(right, BatchRows)
    ):
        return _counts(run, node, op, left, right)
    if isinstance(left, BatchRows) or isinstance(right, BatchRows):
        return _rows(run, node, op, left, right)
    if left.is_of_batch() or right.is_of_batch():
        return Unknown(node, _name(left) or _name(right), True)
    if isinstance(left, Fixed) or isinstance(right, Fixed):
        return Fixed(node)
    return Unknown(node, floored=_is_floored(node, op))


def _is_floored(node: ast.expr, op: ast.operator) -> bool:
    """``n // size``; ``(n + size - 1) // size`` and ``-(-n // size)`` count the short batch as well."""
    return (
        isinstance(op, ast.FloorDiv)
        and isinstance(node, ast.BinOp)
        and not isinstance(node.left, (ast.BinOp, ast.UnaryOp))
    )


def _name(value: Value) -> str:
    return value.name if isinstance(value, Unknown) else ""


_ON_NUMBERS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def _constant(node: ast.expr, op: ast.operator, left: Const, right: Const) -> Value:
    a, b = left.value, right.value
    if not (isinstance(a, (int, float)) and isinstance(b, (int, float))):
        return Const(node, None) if not isinstance(a, (list, tuple)) else Unknown(node)
    combine = _ON_NUMBERS.get(type(op))
    try:
        return Const(node, combine(a, b) if combine is not None else 0)
    except (ArithmeticError, ValueError):
        return Const(node, 0)


def _rows(run: Interpreter, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    rows = [v for v in (left, right) if isinstance(v, BatchRows)]
    pairs = any(r.pairs for r in rows)
    if isinstance(op, ast.MatMult) and isinstance(node, ast.BinOp) and len(rows) == 2 and is_transposed(node.right):
        return BatchRows(node, pairs=True)
    if len(rows) == 2 and isinstance(op, (ast.Sub, ast.Add, ast.Mult)):
        a, b = rows
        if {a.columns, b.columns} == {0, 1} and (a.output or b.output):
            run.suspect(Topic.BROADCAST_SHAPES, node, "one side has a column for each sample and the other has none")
    columns = max((r.columns for r in rows if r.columns is not None), default=None)
    boolean = isinstance(op, (ast.BitAnd, ast.BitOr))
    mask = all(r.mask for r in rows) and (boolean or len(rows) == 2)
    selected = any(r.selected for r in rows)
    return BatchRows(
        node,
        mask=mask,
        pairs=pairs,
        selected=selected,
        rescaled=any(r.rescaled for r in rows),
        columns=columns,
        output=any(r.output for r in rows),
    )


def is_transposed(node: ast.expr) -> bool:
    """``x.t()``, ``x.T``, ``x.transpose(0, 1)``."""
    if isinstance(node, ast.Attribute):
        return node.attr == "T"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "t":
            return True
        if node.func.attr in {"transpose", "permute", "swapaxes"}:
            where = [a.value for a in node.args if isinstance(a, ast.Constant)]
            return sorted(where, key=str) == [0, 1]
    return False


def _stats(run: Interpreter, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    if isinstance(op, (ast.Add, ast.Sub)):
        if isinstance(left, Stat) and isinstance(right, Stat):
            return left.plus(right, node)
        one = left if isinstance(left, Stat) else right
        other = right if one is left else left
        assert isinstance(one, Stat)
        if isinstance(other, BatchRows) and one.quantity is not Quantity.COUNT:
            return _rows(run, node, op, left, right) if not other.output else one.derived(node)
        return one.derived(node)
    if isinstance(op, ast.Pow):
        if isinstance(left, Stat) and isinstance(right, Const) and right.value == 1:
            return left.derived(node)
        return (left if isinstance(left, Stat) else right).nonlinear(node, "a power")
    if isinstance(op, ast.Mult):
        return _product(run, node, left, right)
    if isinstance(op, (ast.Div, ast.FloorDiv)):
        return _quotient(run, node, left, right)
    one = left if isinstance(left, Stat) else right
    assert isinstance(one, Stat)
    return one.derived(node)


def _product(run: Interpreter, node: ast.expr, left: Value, right: Value) -> Value:
    one, other = (left, right) if isinstance(left, Stat) else (right, left)
    on_left = one is left
    assert isinstance(one, Stat)
    if one.steps is not None and isinstance(node, ast.BinOp):
        factor = node.right if on_left else node.left
        if as_written(factor) == as_written(one.steps):
            return one.derived(node, steps=None)
    if isinstance(other, Stat):
        return _product_of_stats(run, node, one, other, on_left)
    if isinstance(other, Count):
        if other.inverse:
            return _per_sample(one, other, node)
        if one.quantity in {Quantity.SUM, Quantity.COUNT} and other.of is not CountedThing.CONFIGURED:
            return one.derived(node)
        return _weighted(one, other, node, weight_of(run, other), on_left)
    if isinstance(other, BatchRows) and not (other.mask and one.quantity is not Quantity.COUNT):
        return BatchRows(node, output=one.quantity is not Quantity.COUNT)
    weight = _weight_by_name(other) if isinstance(other, Unknown) and other.of_batch else None
    return _weighted(one, other, node, weight, on_left) if weight is not None else one.derived(node)


def _product_of_stats(run: Interpreter, node: ast.expr, one: Stat, other: Stat, on_left: bool) -> Value:
    if other.quantity is Quantity.COUNT and one.quantity is not Quantity.COUNT:
        return _weighted(one, other, node, Weight.OWN, on_left)
    if one.quantity is Quantity.COUNT and other.quantity is not Quantity.COUNT:
        return _weighted(other, one, node, Weight.OWN, not on_left)
    if one.quantity is Quantity.UNKNOWN:
        return other.derived(node)
    if other.quantity is Quantity.UNKNOWN:
        return one.derived(node)
    return run.stat(node, Quantity.NONLINEAR, "two statistics of the batch are multiplied")


def _weight_by_name(factor: Unknown) -> Weight | None:
    if name_tables.reads_as_tokens(factor.name):
        return Weight.OWN
    return Weight.SAMPLES if name_tables.reads_as_samples(factor.name) else None


def weight_of(run: Interpreter, count: Count) -> Weight:
    """What a count is as the weight of a mean."""
    if count.of is CountedThing.SAMPLES:
        return Weight.SAMPLES
    if count.of is CountedThing.GRAPHS:
        return Weight.OTHER if _averages_nodes(run) else Weight.SAMPLES
    if count.of is CountedThing.CONFIGURED:
        return Weight.CONFIGURED
    return Weight.OTHER if count.of is CountedThing.KEYS else Weight.OWN


def _averages_nodes(run: Interpreter) -> bool:
    """Whether the file's model convolves graphs, and never pools their nodes."""
    words = run.index.words
    if any(word in _POOLS or "pool" in word.lower() or "readout" in word.lower() for word in words):
        return False
    return any(word.endswith("Conv") and not word.startswith("Conv") for word in words)


_POOLS = name_set("scatter scatter_mean scatter_add segment Set2Set GlobalAttention AttentionalAggregation")


def _weighted(value: Stat, factor: Value, node: ast.expr, weight: Weight, on_left: bool) -> Stat:
    if value.weight is not Weight.NONE or value.twice:
        return replace(value, node=node, twice=False)
    plain, weight_node = value.plain, None
    if isinstance(node, ast.BinOp):
        plain, weight_node = (node.left, node.right) if on_left else (node.right, node.left)
    return replace(value, node=node, plain=plain, weight=weight, weight_node=weight_node, factor=factor)


def _per_sample(value: Stat, count: Count, node: ast.expr) -> Stat:
    """A statistic over a count of its batch."""
    if value.weight is not Weight.NONE:
        if count.of in {CountedThing.SAMPLES, CountedThing.GRAPHS, CountedThing.CONFIGURED}:
            return value.derived(node, weight=Weight.NONE, weight_node=None, factor=None)
        return replace(value, node=node, plain=node)
    if value.quantity in {Quantity.SUM, Quantity.COUNT}:
        if count.of in {CountedThing.SAMPLES, CountedThing.CONFIGURED, CountedThing.GRAPHS, CountedThing.KEYS}:
            return value.derived(node, quantity=Quantity.MEAN, why="")
        if count.of is CountedThing.ELEMENTS:
            return value.derived(node, quantity=Quantity.RATIO, why=_BY_COUNT, origin=node)
    if (
        value.quantity is Quantity.MEAN
        and not value.named
        and count.of in {CountedThing.SAMPLES, CountedThing.CONFIGURED}
    ):
        return value.derived(node, twice=True)
    return value.derived(node)


def _quotient(run: Interpreter, node: ast.expr, left: Value, right: Value) -> Value:
    if not isinstance(left, Stat):
        assert isinstance(right, Stat)
        return _over_stat(node, left, right)
    suspicions.accumulation(run, node, left)
    if isinstance(node, ast.BinOp) and _is_accumulation(run, node.right, right):
        return left.derived(node, steps=node.right)
    if isinstance(right, Stat):
        return _quotient_of_stats(run, node, left, right)
    if isinstance(right, Count) and right.of not in _COUNTS_OF_LOADER:
        return _per_sample(left, right, node)
    if isinstance(right, BatchRows):
        return BatchRows(node)
    if isinstance(right, Count) or (isinstance(right, Unknown) and isinstance(node, ast.BinOp) and _averages(right)):
        divided_node = node.right if isinstance(node, ast.BinOp) else None
        return replace(left, node=node, divided=right, divided_node=divided_node)
    if isinstance(right, Unknown) and isinstance(node, ast.BinOp) and right.of_batch and left.quantity in _SUMS:
        if not name_tables.reads_as_tokens(right.name):
            return left.derived(node, quantity=Quantity.MEAN)
        return left.derived(node, quantity=Quantity.RATIO, why=_BY_COUNT)
    return left.derived(node)


def _is_accumulation(run: Interpreter, node: ast.expr, by: Value) -> bool:
    """``loss / steps`` where every ``steps`` batches something is done: ``if (i + 1) % steps == 0``."""
    loop = run.batch_loop()
    mentions = run.index.mentions.get(loop.node) if loop is not None else None
    text = ast.unparse(node)
    if isinstance(by, (Stat, BatchRows)) or (isinstance(by, Count) and by.of is not CountedThing.CONFIGURED):
        return False
    if isinstance(by, Const) and not (isinstance(by.value, int) and by.value > 1) and by.value is not None:
        return False
    return (mentions is not None and text in mentions.moduli) or _accumulates(text)


def _over_stat(node: ast.expr, left: Value, right: Stat) -> Value:
    if isinstance(left, BatchRows):
        rescaled = left.rescaled or right.quantity in {Quantity.MEAN, Quantity.SUM, Quantity.COUNT}
        return BatchRows(node, mask=left.mask, pairs=left.pairs, rescaled=rescaled, output=left.output)
    if right.quantity is Quantity.COUNT and not isinstance(left, Const):
        return right.derived(node, quantity=Quantity.RATIO, why="the denominator differs from batch to batch")
    return right.nonlinear(node, "the reciprocal")


def _quotient_of_stats(run: Interpreter, node: ast.expr, left: Stat, right: Stat) -> Value:
    pair = left.quantity, right.quantity
    nonlinear = left.quantity is Quantity.NONLINEAR and right.quantity in {Quantity.MEAN, Quantity.NONLINEAR}
    if nonlinear or left.quantity is Quantity.COUPLED or pair == (Quantity.UNKNOWN, Quantity.UNKNOWN):
        return left.derived(node)
    return run.stat(node, Quantity.RATIO, "its denominator is a sum over the batch that differs from batch to batch")


def _averages(count: Unknown) -> bool:
    """Whether a name says how many batches there are, or how many samples in all."""
    kind = divisor_by_name(count)
    if kind not in {Divisor.BATCHES, Divisor.DATASET} or count.of_batch or name_tables.reads_as_tokens(count.name):
        return False
    return kind is Divisor.DATASET or not _accumulates(count.name)


_COUNTS_OF_LOADER = frozenset({CountedThing.BATCHES, CountedThing.DATASET, CountedThing.PADDED})
_SUMS = frozenset({Quantity.SUM, Quantity.COUNT})
_BY_COUNT = "the sum is divided by a count that differs from batch to batch"


def _accumulates(name: str) -> bool:
    words = name_tables.plain(name)
    return "accum" in words or "grad" in words or "micro" in words or "sub" in words or "virtual" in words


def _counts(run: Interpreter, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    if isinstance(left, Position) or isinstance(right, Position):
        return _positions(node, op, left, right)
    one, other = (left, right) if isinstance(left, Count) else (right, left)
    assert isinstance(one, Count)
    if isinstance(op, ast.Mult):
        return _times_count(run, node, one, other, on_left=one is left)
    if isinstance(op, (ast.Div, ast.FloorDiv)):
        of_loader = _count_over(node, one, right) if one is left else _over_count(node, left, one)
        if isinstance(of_loader, Count) and of_loader.of is CountedThing.BATCHES and not of_loader.inverse:
            of_loader.floored = _is_floored(node, op)
        return of_loader
    if isinstance(op, (ast.Add, ast.Sub)):
        return Count(node, one.of, one.loop)
    return Fixed(node)


def _times_count(run: Interpreter, node: ast.expr, one: Count, other: Value, on_left: bool) -> Value:
    if isinstance(other, Count):
        pair = {one.of, other.of}
        if pair == {CountedThing.BATCHES, CountedThing.CONFIGURED}:
            return Count(node, CountedThing.PADDED)
        samples = CountedThing.SAMPLES in pair
        return Count(node, CountedThing.SAMPLES if samples else CountedThing.ELEMENTS, one.loop)
    if (
        isinstance(other, Unknown)
        and run.batch_loop() is not None
        and one.of is not CountedThing.BATCHES
        and (other.is_of_batch() or name_tables.reads_as_loss(other.name) or other.name in {"val", "value"})
    ):
        loss = run.stat(node, Quantity.UNKNOWN, origin=other.node)
        return _product(run, node, one, loss) if on_left else _product(run, node, loss, one)
    number = other.value if isinstance(other, Const) else None
    if one.of is CountedThing.BATCHES and isinstance(number, int) and number >= 8:
        return Count(node, CountedThing.PADDED)
    return Count(node, one.of, one.loop, inverse=one.inverse)


def _count_over(node: ast.expr, left: Count, right: Value) -> Value:
    number = right.value if isinstance(right, Const) else None
    configured = isinstance(right, Count) and right.of is CountedThing.CONFIGURED
    if left.of is CountedThing.DATASET and (configured or (isinstance(number, int) and number >= 4)):
        return Count(node, CountedThing.BATCHES)
    return Fixed(node) if isinstance(right, (Count, Fixed)) else Count(node, left.of, left.loop)


def _over_count(node: ast.expr, left: Value, right: Count) -> Value:
    if not isinstance(left, Unknown):
        return Count(node, right.of, right.loop, inverse=True)
    return Count(node, CountedThing.BATCHES) if right.of is CountedThing.CONFIGURED else Unknown(node)


def _positions(node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    place = left if isinstance(left, Position) else right
    assert isinstance(place, Position)
    other = right if place is left else left
    if isinstance(op, (ast.Add, ast.Sub)):
        if isinstance(other, Const):
            return Position(node, place.loop, True, place.offset)
        return Position(node, place.loop, place.counts, place.offset)
    if isinstance(op, ast.Mult) and isinstance(other, Count):
        return Count(node, CountedThing.PADDED)
    if isinstance(op, (ast.Div, ast.FloorDiv)) and place is left and place.offset:
        return Position(node, place.loop, True)
    return Fixed(node)


def of_totals(run: Interpreter, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    if isinstance(op, ast.Add) and isinstance(left, LoopTotal) and not left.entries and right.is_of_batch():
        return replace(left, node=node, taken_in=right)
    if isinstance(op, (ast.Div, ast.FloorDiv)):
        if isinstance(left, LoopTotal):
            return divide(run, node, left, right, node.right if isinstance(node, ast.BinOp) else None)
        if isinstance(right, LoopTotal) and not isinstance(left, Averaged):
            # 1 / total
            return replace(right, node=node, weighted=None) if isinstance(left, (Count, Const, Unknown)) else Pool(node)
        return replace(left if isinstance(left, Averaged) else right, node=node)
    if isinstance(left, LoopTotal) and isinstance(right, LoopTotal):
        return replace(left, node=node, weighted=right) if isinstance(op, ast.Mult) else left.plus(right, node)
    if isinstance(left, Averaged) and isinstance(right, Averaged):
        return left.plus(right, node)
    one, other = (left, right) if isinstance(left, Accumulated) else (right, left)
    if isinstance(op, ast.Pow):
        return one.nonlinear(node, "a power")
    if isinstance(one, LoopTotal) and isinstance(op, ast.Mult) and isinstance(other, Count) and other.inverse:
        return divide(run, node, one, replace(other, inverse=False), None)
    if isinstance(op, ast.Mult) and isinstance(node, ast.BinOp):
        _multiply_back(one, node.right if one is left else node.left)
    is_added = isinstance(op, (ast.Add, ast.Sub)) and isinstance(other, LoopTotal)
    return replace(other if is_added else one, node=node)


def _multiply_back(total: Value, factor: ast.expr) -> None:
    """``total / len(loader) * steps`` of what was divided by ``steps``."""
    for entry in total.contributions:
        value = entry.value
        if isinstance(value, Stat) and value.steps is not None and ast.unparse(value.steps) == ast.unparse(factor):
            entry.value = replace(value, steps=None)


def divide(run: Interpreter, node: ast.AST, total: LoopTotal, by: Value, by_node: ast.expr | None) -> Value:
    """A total over a count."""
    divisor = divisor_of(run, total, by, by_node)
    if isinstance(by, LoopTotal) and by.listed and any(entry in total.entries for entry in by.entries):
        total.mark_scalars()
    if _only_scales(run, total, by, by_node):
        return replace(total, node=node)
    number = isinstance(by, (Const, Fixed))
    own = isinstance(by, LoopTotal)
    if _is_never_read(run, node):
        return Averaged(node, total.entries)
    return Averaged(node, total.entries, run.record_average(total.entries, node, divisor, by_node, number, own))


def _is_never_read(run: Interpreter, node: ast.AST) -> bool:
    """Whether the quotient is bound to a name of a function that nothing reads."""
    statement, function = run.frame.statement, run.frame.function
    if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) or run.frame.scope is run.module:
        return False
    target: ast.expr | None = None
    if isinstance(statement, ast.Assign) and statement.value is node and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, ast.AugAssign) and statement is node:
        target = statement.target
    return isinstance(target, ast.Name) and not run.index.is_read(target.id, function)


def _only_scales(run: Interpreter, total: LoopTotal, by: Value, by_node: ast.expr | None) -> bool:
    """Whether a total over it is still a total: a percentage, the number of ranks, a time."""
    number = by.value if isinstance(by, Const) and isinstance(by.value, (int, float)) else None
    if number is not None and (number <= 1 or number in {2, 4, 10, 100, 1000}):
        return not any(run.is_open(entry.loop) for entry in total.entries)
    if isinstance(by, (Unknown, Const)) and by_node is not None and name_tables.reads_as_ranks(ast.unparse(by_node)):
        return True
    return isinstance(by, Fixed) and not total.listed


def divisor_of(run: Interpreter, total: LoopTotal, by: Value, by_node: ast.expr | None) -> Divisor:
    if isinstance(by, (Count, Unknown)) and by.length_of is not None and _is_length_of_loop(total, by.length_of):
        return Divisor.BATCHES
    if by_node is not None and any(entry.loop.turns == ast.unparse(by_node) for entry in total.entries):
        return Divisor.BATCHES
    if isinstance(by_node, ast.BinOp) and isinstance(by_node.op, (ast.FloorDiv, ast.Div)):
        size = ast.unparse(by_node.right)
        if any(entry.loop.step == size for entry in total.entries):
            return Divisor.BATCHES
    if isinstance(by, Count):
        if by.of in {CountedThing.CONFIGURED, CountedThing.PADDED}:
            return Divisor.CONFIGURED
        return {CountedThing.BATCHES: Divisor.BATCHES, CountedThing.DATASET: Divisor.DATASET}.get(
            by.of, Divisor.UNKNOWN
        )
    if isinstance(by, Position):
        return Divisor.CONFIGURED if by.offset else Divisor.BATCHES
    if isinstance(by, LoopTotal):
        return _divisor_of_total(total, by)
    if isinstance(by, Unknown):
        return divisor_by_name(by, by_node)
    return Divisor.UNKNOWN


def _is_length_of_loop(total: LoopTotal, length: Length) -> bool:
    """Whether a loop that added to the total goes over what a length was taken of, perhaps before the loop began."""
    return any(
        entry.loop.text == length.text or any(value is length.value for value in entry.loop.over)
        for entry in total.entries
    )


def _divisor_of_total(total: LoopTotal, by: LoopTotal) -> Divisor:
    if by.listed and any(entry in total.entries for entry in by.entries):
        return Divisor.SAMPLES if any(entry.spread for entry in by.entries) else Divisor.BATCHES
    kinds = {_counted(entry, by.listed) for entry in by.entries}
    if len(kinds) != 1:
        kinds -= {Divisor.UNKNOWN}
    kind = kinds.pop() if len(kinds) == 1 else Divisor.UNKNOWN
    if (
        kind is Divisor.BATCHES
        and not by.listed
        and all(isinstance(e.value, Stat) and e.value.quantity is Quantity.COUNT for e in total.entries)
    ):
        return Divisor.SAMPLES  # who counts each batch as one takes it for a sample
    if kind is Divisor.WEIGHTS or kind is Divisor.UNKNOWN:
        weights = {
            as_written(e.value.weight_node) for e in total.entries if isinstance(e.value, Stat) and e.value.weight_node
        }
        added = {as_written(entry.value.node) for entry in by.entries}
        if weights and weights <= added:
            return Divisor.WEIGHTS
    return kind


def _counted(entry: Contribution, listed: bool) -> Divisor:
    value = entry.value
    if listed:
        return Divisor.SAMPLES if entry.spread else Divisor.BATCHES
    if isinstance(value, Const):
        return Divisor.BATCHES if isinstance(value.value, (int, float)) and value.value == 1 else Divisor.UNKNOWN
    if isinstance(value, Count):
        if value.of in {CountedThing.SAMPLES, CountedThing.GRAPHS}:
            return Divisor.SAMPLES
        return Divisor.CONFIGURED if value.of is CountedThing.CONFIGURED else Divisor.WEIGHTS
    if isinstance(value, (BatchRows, Stat, Unknown)):
        return Divisor.WEIGHTS
    return Divisor.UNKNOWN


def divisor_by_name(by: Unknown, node: ast.expr | None = None) -> Divisor:
    """By what a name says where nothing else is known: ``num_batches``, ``n_samples``."""
    name = by.name or (ast.unparse(node) if node is not None else "")
    words = name_tables.plain(name)
    if "dataset" in words or "data_size" in words:
        return Divisor.DATASET
    if name_tables.reads_as_tokens(name):
        return Divisor.WEIGHTS
    if name_tables.reads_as_batches(name):
        return Divisor.BATCHES
    if name_tables.reads_as_samples(name):
        return Divisor.DATASET
    return Divisor.UNKNOWN
