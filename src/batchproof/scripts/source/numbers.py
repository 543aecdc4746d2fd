"""Arithmetic on values: what a sum, a product, a quotient, a root or a mean of them is."""

from __future__ import annotations

import ast
from dataclasses import replace

from batchproof.scripts.source import name_tables, suspicions
from batchproof.scripts.source.interpreter import Reading
from batchproof.scripts.source.site import Divisor, Quantity, Weight
from batchproof.scripts.source.stats import derived, nonlinear, stat, worse
from batchproof.scripts.source.totals import divisor_by_name, of_totals
from batchproof.scripts.source.values import (
    Averaged,
    Const,
    Count,
    Fixed,
    Items,
    Of,
    Pool,
    Position,
    Rows,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
)


def binary(run: Reading, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    """What ``left op right`` holds."""
    if isinstance(left, Const) and isinstance(right, Const):
        return _constant(node, op, left, right)
    if isinstance(left, (Total, Averaged)) or isinstance(right, (Total, Averaged)):
        return of_totals(run, node, op, left, right)
    if isinstance(left, Pool) or isinstance(right, Pool):
        return Pool(node)
    if isinstance(left, Items) and left.array and not left.entries:
        left = Const(left.node, 0)
    if isinstance(right, Items) and right.array and not right.entries:
        right = Const(right.node, 0)
    if isinstance(left, Items) and isinstance(right, Items) and isinstance(op, ast.Add):
        return Items(node, (left.items + right.items)[:200], left.entries + right.entries, left.born)
    if isinstance(left, Stat) or isinstance(right, Stat):
        return _stats(run, node, op, left, right)
    if (
        (isinstance(left, (Count, Position)) or isinstance(right, (Count, Position)))
        and not isinstance(left, Rows)
        and not isinstance(right, Rows)
    ):
        return _counts(run, node, op, left, right)
    if isinstance(left, Rows) or isinstance(right, Rows):
        return _rows(run, node, op, left, right)
    if is_of_batch(left) or is_of_batch(right):
        return Unknown(node, _name(left) or _name(right), True)
    if isinstance(left, Fixed) or isinstance(right, Fixed):
        return Fixed(node)
    return Unknown(node)


def _name(value: Value) -> str:
    return value.name if isinstance(value, Unknown) else ""


def _constant(node: ast.expr, op: ast.operator, left: Const, right: Const) -> Value:
    a, b = left.value, right.value
    if not (isinstance(a, (int, float)) and isinstance(b, (int, float))):
        return Const(node, None) if not isinstance(a, (list, tuple)) else Unknown(node)
    try:
        if isinstance(op, ast.Add):
            return Const(node, a + b)
        if isinstance(op, ast.Sub):
            return Const(node, a - b)
        if isinstance(op, ast.Mult):
            return Const(node, a * b)
        if isinstance(op, ast.Div):
            return Const(node, a / b)
        if isinstance(op, ast.FloorDiv):
            return Const(node, a // b)
    except (ArithmeticError, ValueError):
        pass
    return Const(node, 0)


def _rows(run: Reading, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    rows = [v for v in (left, right) if isinstance(v, Rows)]
    pairs = any(r.pairs for r in rows)
    if isinstance(op, ast.MatMult) and isinstance(node, ast.BinOp) and len(rows) == 2 and is_transposed(node.right):
        return Rows(node, pairs=True)
    if len(rows) == 2 and isinstance(op, (ast.Sub, ast.Add, ast.Mult)):
        a, b = rows
        if {a.columns, b.columns} == {0, 1} and (a.output or b.output):
            run.doubt("broadcast shapes", node, "one side has a column for each sample and the other has none")
    columns = max((r.columns for r in rows if r.columns is not None), default=None)
    boolean = isinstance(op, (ast.BitAnd, ast.BitOr))
    mask = all(r.mask for r in rows) and (boolean or len(rows) == 2)
    selected = any(r.selected for r in rows)
    return Rows(
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


def _stats(run: Reading, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    if isinstance(op, (ast.Add, ast.Sub)):
        if isinstance(left, Stat) and isinstance(right, Stat):
            return worse(left, right, node)
        one = left if isinstance(left, Stat) else right
        other = right if one is left else left
        assert isinstance(one, Stat)
        if isinstance(other, Rows) and one.quantity is not Quantity.COUNT:
            return _rows(run, node, op, left, right) if not other.output else derived(one, node)
        return derived(one, node)
    if isinstance(op, ast.Pow):
        if isinstance(left, Stat) and isinstance(right, Const) and right.value == 1:
            return derived(left, node)
        return nonlinear(run, node, left if isinstance(left, Stat) else right, "a power")
    if isinstance(op, ast.Mult):
        return _product(run, node, left, right)
    if isinstance(op, (ast.Div, ast.FloorDiv)):
        return _quotient(run, node, left, right)
    one = left if isinstance(left, Stat) else right
    assert isinstance(one, Stat)
    return derived(one, node)


def _product(run: Reading, node: ast.expr, left: Value, right: Value) -> Value:
    one, other = (left, right) if isinstance(left, Stat) else (right, left)
    on_left = one is left
    assert isinstance(one, Stat)
    if isinstance(other, Stat):
        if other.quantity is Quantity.COUNT and one.quantity is not Quantity.COUNT:
            return _weighted(one, other, node, Weight.OWN, on_left)
        if one.quantity is Quantity.COUNT and other.quantity is not Quantity.COUNT:
            return _weighted(other, one, node, Weight.OWN, not on_left)
        if one.quantity is Quantity.UNKNOWN:
            return derived(other, node)
        if other.quantity is Quantity.UNKNOWN:
            return derived(one, node)
        return stat(run, node, Quantity.NONLINEAR, "two statistics of the batch are multiplied")
    if isinstance(other, Count):
        if other.inverse:
            return _per_sample(one, other, node)
        if one.quantity in {Quantity.SUM, Quantity.COUNT} and other.of is not Of.CONFIGURED:
            return derived(one, node)
        return _weighted(one, other, node, weight_of(run, other), on_left)
    if isinstance(other, Rows):
        if one.quantity is Quantity.COUNT:
            return Rows(node)
        return Rows(node, output=True) if not other.mask else derived(one, node)
    if isinstance(other, Unknown) and other.of_batch and name_tables.reads_as_tokens(other.name):
        return _weighted(one, other, node, Weight.OWN, on_left)
    if isinstance(other, Unknown) and other.of_batch and name_tables.reads_as_samples(other.name):
        return _weighted(one, other, node, Weight.SAMPLES, on_left)
    return derived(one, node)


def weight_of(run: Reading, count: Count) -> Weight:
    """What a count is as the weight of a mean."""
    if count.of is Of.SAMPLES:
        return Weight.SAMPLES
    if count.of is Of.GRAPHS:
        return Weight.OTHER if _averages_nodes(run) else Weight.SAMPLES
    if count.of is Of.CONFIGURED:
        return Weight.CONFIGURED
    return Weight.OTHER if count.of is Of.KEYS else Weight.OWN


def _averages_nodes(run: Reading) -> bool:
    """Whether the file's model convolves graphs, and never pools their nodes."""
    words = run.index.words
    if any(word in _POOLS or "pool" in word.lower() or "readout" in word.lower() for word in words):
        return False
    return any(word.endswith("Conv") and not word.startswith("Conv") for word in words)


_POOLS = frozenset("scatter scatter_mean scatter_add segment Set2Set GlobalAttention AttentionalAggregation".split())


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
        if count.of in {Of.SAMPLES, Of.GRAPHS, Of.CONFIGURED}:
            return derived(value, node, weight=Weight.NONE, weight_node=None, factor=None)
        return replace(value, node=node, plain=node)
    if value.quantity in {Quantity.SUM, Quantity.COUNT}:
        if count.of in {Of.SAMPLES, Of.CONFIGURED, Of.GRAPHS, Of.KEYS}:
            return derived(value, node, quantity=Quantity.MEAN, why="")
        if count.of is Of.ELEMENTS:
            why = "the sum is divided by a count that differs from batch to batch"
            return derived(value, node, quantity=Quantity.RATIO, why=why, origin=node)
    if value.quantity is Quantity.MEAN and not value.named and count.of in {Of.SAMPLES, Of.CONFIGURED}:
        return derived(value, node, twice=True)
    return derived(value, node)


def _quotient(run: Reading, node: ast.expr, left: Value, right: Value) -> Value:
    if not isinstance(left, Stat):
        assert isinstance(right, Stat)
        if isinstance(left, Rows):
            rescaled = left.rescaled or right.quantity in {Quantity.MEAN, Quantity.SUM, Quantity.COUNT}
            return Rows(node, mask=left.mask, pairs=left.pairs, rescaled=rescaled, output=left.output)
        if right.quantity is Quantity.COUNT and not isinstance(left, Const):
            return derived(right, node, quantity=Quantity.RATIO, why="the denominator differs from batch to batch")
        return nonlinear(run, node, right, "the reciprocal")
    suspicions.accumulation(run, node, left)
    if isinstance(right, Stat):
        if right.quantity is Quantity.UNKNOWN and left.quantity is Quantity.UNKNOWN:
            return derived(left, node)
        why = "its denominator is a sum over the batch that differs from batch to batch"
        if right.quantity in {Quantity.MEAN, Quantity.NONLINEAR} and left.quantity is Quantity.NONLINEAR:
            return derived(left, node)
        if left.quantity is Quantity.COUPLED:
            return derived(left, node)
        return stat(run, node, Quantity.RATIO, why)
    if isinstance(right, Count):
        if right.of in {Of.BATCHES, Of.DATASET, Of.PADDED}:
            return replace(
                left, node=node, divided=right, divided_node=node.right if isinstance(node, ast.BinOp) else None
            )
        return _per_sample(left, right, node)
    if isinstance(right, Rows):
        return Rows(node)
    if isinstance(right, Unknown) and isinstance(node, ast.BinOp):
        kind = divisor_by_name(right)
        if (
            kind in {Divisor.BATCHES, Divisor.DATASET}
            and not right.of_batch
            and not name_tables.reads_as_tokens(right.name)
            and (kind is Divisor.DATASET or not _accumulates(right.name))
        ):
            return replace(left, node=node, divided=right, divided_node=node.right)
        if left.quantity in {Quantity.SUM, Quantity.COUNT}:
            if right.of_batch and name_tables.reads_as_tokens(right.name):
                why = "the sum is divided by a count that differs from batch to batch"
                return derived(left, node, quantity=Quantity.RATIO, why=why)
            if right.of_batch:
                return derived(left, node, quantity=Quantity.MEAN)
    return derived(left, node)


def _accumulates(name: str) -> bool:
    words = name_tables.plain(name)
    return "accum" in words or "grad" in words or "micro" in words or "sub" in words


def _counts(run: Reading, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    if isinstance(left, Position) or isinstance(right, Position):
        return _positions(node, op, left, right)
    a = left.of if isinstance(left, Count) else None
    b = right.of if isinstance(right, Count) else None
    number = right.value if isinstance(right, Const) else left.value if isinstance(left, Const) else None
    one = left if isinstance(left, Count) else right
    assert isinstance(one, Count)
    if isinstance(op, ast.Mult):
        if {a, b} == {Of.BATCHES, Of.CONFIGURED}:
            return Count(node, Of.PADDED)
        if a is not None and b is not None:
            return Count(node, Of.ELEMENTS if Of.SAMPLES not in {a, b} else Of.SAMPLES, one.loop)
        other = right if one is left else left
        if (
            isinstance(other, Unknown)
            and run.batch_loop() is not None
            and one.of is not Of.BATCHES
            and (is_of_batch(other) or name_tables.reads_as_loss(other.name) or other.name in {"val", "value"})
        ):
            found = stat(run, node, Quantity.UNKNOWN, origin=other.node)
            return _product(run, node, found, one) if one is right else _product(run, node, one, found)
        if one.of is Of.BATCHES and isinstance(number, int) and number >= 8:
            return Count(node, Of.PADDED)
        return Count(node, one.of, one.loop)
    if isinstance(op, (ast.Div, ast.FloorDiv)):
        if a is Of.DATASET and (b is Of.CONFIGURED or (isinstance(number, int) and number >= 4)):
            return Count(node, Of.BATCHES)
        if a is None and b is not None:
            if isinstance(left, Const) or not isinstance(left, Unknown):
                return Count(node, b, one.loop, inverse=True)
            if b is Of.CONFIGURED:
                return Count(node, Of.BATCHES)
            return Unknown(node)
        if a is not None and b is not None:
            return Fixed(node)
        if isinstance(right, Fixed):
            return Fixed(node)
        return Count(node, one.of, one.loop)
    if isinstance(op, (ast.Add, ast.Sub)):
        if a is None or b is None or a is b:
            return Count(node, one.of, one.loop)
        return Count(node, a, one.loop)
    if isinstance(op, ast.Mod):
        return Fixed(node)
    return Fixed(node)


def _positions(node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    place = left if isinstance(left, Position) else right
    assert isinstance(place, Position)
    other = right if place is left else left
    if isinstance(op, (ast.Add, ast.Sub)):
        if isinstance(other, Const):
            return Position(node, place.loop, True, place.offset)
        return Position(node, place.loop, place.counts, place.offset)
    if isinstance(op, ast.Mult) and isinstance(other, Count):
        return Count(node, Of.PADDED)
    if isinstance(op, (ast.Div, ast.FloorDiv)) and place is left and place.offset:
        return Position(node, place.loop, True)
    return Fixed(node)
