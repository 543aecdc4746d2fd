"""Arithmetic on values: what a sum, a product, a quotient, a root or a mean of them is."""

from __future__ import annotations

import ast
from dataclasses import replace

from batchproof.sites import doubts, knowledge
from batchproof.sites.reading import Reading, note_after, record_average
from batchproof.sites.site import Divisor, Quantity, Weight
from batchproof.sites.values import (
    HARM,
    Averaged,
    Const,
    Count,
    Entry,
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


def stat(
    run: Reading, node: ast.expr | None, quantity: Quantity, why: str = "", origin: ast.AST | None = None
) -> Stat:
    return Stat(node, quantity, why, origin or node, call=node, plain=node, loop=run.batch_loop())


def derived(value: Stat, node: ast.expr, **changes: object) -> Stat:
    """The same statistic after something that does not change what it is."""
    return replace(value, **{"node": node, "call": node, "plain": node, **changes})  # type: ignore[arg-type]


def worse(first: Stat, second: Stat, node: ast.expr) -> Stat:
    """A sum of two statistics is as bad as the worse of them."""
    pair = {first.quantity, second.quantity}
    if pair == {Quantity.COUNT}:
        return derived(first, node)
    if pair <= {Quantity.SUM, Quantity.COUNT}:
        return derived(first, node, quantity=Quantity.SUM)
    if pair == {Quantity.SUM, Quantity.MEAN}:
        return derived(first if first.quantity is Quantity.MEAN else second, node)
    chosen = max(first, second, key=lambda s: HARM.index(s.quantity))
    return derived(chosen, node)


def binary(run: Reading, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    """What ``left op right`` holds."""
    if isinstance(left, Const) and isinstance(right, Const):
        return _constant(node, op, left, right)
    if isinstance(left, (Total, Averaged)) or isinstance(right, (Total, Averaged)):
        return _totals(run, node, op, left, right)
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
    if isinstance(left, (Count, Position)) or isinstance(right, (Count, Position)):
        if not isinstance(left, Rows) and not isinstance(right, Rows):
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
    if isinstance(op, ast.MatMult) and isinstance(node, ast.BinOp):
        if len(rows) == 2 and is_transposed(node.right):
            return Rows(node, pairs=True)
    if len(rows) == 2 and isinstance(op, (ast.Sub, ast.Add, ast.Mult)):
        a, b = rows
        if {a.columns, b.columns} == {0, 1} and (a.output or b.output):
            run.doubt("broadcast shapes", node, "one side has a column for each sample and the other has none")
    columns = max((r.columns for r in rows if r.columns is not None), default=None)
    boolean = isinstance(op, (ast.BitAnd, ast.BitOr))
    mask = all(r.mask for r in rows) and (boolean or len(rows) == 2)
    selected = any(r.selected for r in rows)
    return Rows(node, mask=mask, pairs=pairs, selected=selected, columns=columns, output=any(r.output for r in rows))


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
        if isinstance(other, Const):
            nothing = isinstance(op, ast.Add) and other.value in (0, 0.0)
            return derived(one, node) if nothing else derived(one, node, affine=True)
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
        if other.of is Of.WINDOW:
            return derived(one, node)
        if other.inverse:
            return _per_sample(one, other, node)
        if one.quantity in {Quantity.SUM, Quantity.COUNT} and other.of is not Of.CONFIGURED:
            return derived(one, node)
        return _weighted(one, other, node, weight_of(other, one), on_left)
    if isinstance(other, Rows):
        if one.quantity is Quantity.COUNT:
            return Rows(node)
        return Rows(node, output=True) if not other.mask else derived(one, node)
    if isinstance(other, Unknown) and other.of_batch and knowledge.reads_as_tokens(other.name):
        return _weighted(one, other, node, Weight.OWN, on_left)
    if isinstance(other, Unknown) and other.of_batch and knowledge.reads_as_samples(other.name):
        return _weighted(one, other, node, Weight.SAMPLES, on_left)
    return derived(one, node)


def weight_of(count: Count, of: Stat) -> Weight:
    if count.of is Of.SAMPLES:
        return Weight.SAMPLES
    if count.of is Of.GRAPHS:
        return Weight.OTHER if of.graphs else Weight.SAMPLES
    if count.of is Of.CONFIGURED:
        return Weight.CONFIGURED
    return Weight.OTHER if count.of is Of.KEYS else Weight.OWN


def _weighted(value: Stat, factor: Value, node: ast.expr, weight: Weight, on_left: bool) -> Stat:
    if value.weight is not Weight.NONE:
        return replace(value, node=node)
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
    return derived(value, node)


def _quotient(run: Reading, node: ast.expr, left: Value, right: Value) -> Value:
    if not isinstance(left, Stat):
        assert isinstance(right, Stat)
        if isinstance(left, Rows):
            return Rows(node, mask=left.mask, pairs=left.pairs, output=left.output)
        if right.quantity is Quantity.COUNT and not isinstance(left, Const):
            return derived(right, node, quantity=Quantity.RATIO, why="the denominator differs from batch to batch")
        return nonlinear(run, node, right, "the reciprocal")
    doubts.accumulation(run, node, left)
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
            return replace(left, node=node, divided=right, divided_node=node.right if isinstance(node, ast.BinOp) else None)
        return _per_sample(left, right, node)
    if isinstance(right, Rows):
        return Rows(node)
    if isinstance(right, Unknown) and isinstance(node, ast.BinOp):
        kind = divisor_by_name(right)
        if kind in {Divisor.BATCHES, Divisor.DATASET} and not right.of_batch and not knowledge.reads_as_tokens(right.name):
            if kind is Divisor.DATASET or not _accumulates(right.name):
                return replace(left, node=node, divided=right, divided_node=node.right)
        if left.quantity in {Quantity.SUM, Quantity.COUNT}:
            if right.of_batch and knowledge.reads_as_tokens(right.name):
                why = "the sum is divided by a count that differs from batch to batch"
                return derived(left, node, quantity=Quantity.RATIO, why=why)
            if right.of_batch:
                return derived(left, node, quantity=Quantity.MEAN)
    return derived(left, node)


def _accumulates(name: str) -> bool:
    words = knowledge.plain(name)
    return "accum" in words or "grad" in words or "micro" in words or "sub" in words


def nonlinear(run: Reading, node: ast.expr, value: Value, what: str) -> Value:
    """A nonlinear function of a value."""
    if isinstance(value, Averaged):
        note_after(value.entries, value.averages, what)
        return Averaged(node, value.entries, value.averages)
    if isinstance(value, Total):
        return value
    if not isinstance(value, Stat):
        return value
    if value.quantity in {Quantity.NONLINEAR, Quantity.COUPLED, Quantity.RUNNING}:
        return derived(value, node)
    return derived(value, node, quantity=Quantity.NONLINEAR, why=f"{what} is taken of each batch", origin=node)


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
        if isinstance(other, Unknown) and run.batch_loop() is not None and one.of is not Of.BATCHES:
            if is_of_batch(other) or knowledge.reads_as_loss(other.name) or other.name in {"val", "value"}:
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


def _totals(run: Reading, node: ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
    if isinstance(op, (ast.Div, ast.FloorDiv)):
        if isinstance(left, Total):
            return divide(run, node, left, right, node.right if isinstance(node, ast.BinOp) else None)
        if isinstance(left, Averaged):
            return Averaged(node, left.entries, left.averages)
        assert isinstance(right, (Total, Averaged))
        if isinstance(left, (Count, Const, Unknown)) and isinstance(right, Total):
            return Total(node, right.entries, right.listed)
        return Averaged(node, right.entries, right.averages) if isinstance(right, Averaged) else Pool(node)
    if isinstance(left, Total) and isinstance(right, Total):
        if isinstance(op, ast.Mult):
            return Total(node, left.entries, left.listed, weighted=right)
        extra = tuple(e for e in right.entries if e not in left.entries)
        return Total(node, left.entries + extra, left.listed and right.listed, left.weighted or right.weighted)
    if isinstance(left, Averaged) and isinstance(right, Averaged):
        extra = tuple(e for e in right.entries if e not in left.entries)
        return Averaged(node, left.entries + extra, left.averages + right.averages)
    one, other = (left, right) if isinstance(left, (Total, Averaged)) else (right, left)
    if isinstance(op, ast.Pow):
        return nonlinear(run, node, one, "a power")
    if isinstance(one, Averaged):
        if isinstance(op, (ast.Add, ast.Sub)) and isinstance(other, Total):
            return Total(node, other.entries, other.listed, other.weighted)
        return Averaged(node, one.entries, one.averages)
    assert isinstance(one, Total)
    if isinstance(op, ast.Mult) and isinstance(other, Count) and other.inverse:
        return divide(run, node, one, replace(other, inverse=False), None)
    return Total(node, one.entries, one.listed, one.weighted)


def divide(run: Reading, node: ast.AST, total: Total, by: Value, by_node: ast.expr | None) -> Value:
    """A total over a count."""
    divisor = divisor_of(run, total, by, by_node)
    if isinstance(by, Total) and by.listed and any(entry in total.entries for entry in by.entries):
        for entry in total.entries:
            entry.scalar = entry.scalar or not entry.spread
    number = isinstance(by, (Const, Fixed)) or (isinstance(by, Count) and by.of is Of.WINDOW)
    if isinstance(by, Const) and not any(run.is_open(e.loop) for e in total.entries):
        if isinstance(by.value, (int, float)) and (by.value <= 1 or by.value in {100, 100.0, 1000, 10, 2, 4}):
            return Total(node, total.entries, total.listed, total.weighted)
    if isinstance(by, Fixed) and not total.listed:
        return Total(node, total.entries, total.listed, total.weighted)
    averages = record_average(run, total.entries, node, divisor, by_node, number)
    return Averaged(node, total.entries, averages)


def divisor_of(run: Reading, total: Total, by: Value, by_node: ast.expr | None) -> Divisor:
    if isinstance(by, Count):
        if by.of in {Of.CONFIGURED, Of.PADDED}:
            return Divisor.CONFIGURED
        return {Of.BATCHES: Divisor.BATCHES, Of.DATASET: Divisor.DATASET}.get(by.of, Divisor.UNKNOWN)
    if isinstance(by, Position):
        return Divisor.CONFIGURED if by.offset else Divisor.BATCHES
    if isinstance(by, Total):
        return _divisor_of_total(total, by)
    if isinstance(by, Unknown):
        return divisor_by_name(by, by_node)
    return Divisor.UNKNOWN


def _divisor_of_total(total: Total, by: Total) -> Divisor:
    if by.listed and any(entry in total.entries for entry in by.entries):
        return Divisor.SAMPLES if any(entry.spread for entry in by.entries) else Divisor.BATCHES
    kinds = {_counted(entry, by.listed) for entry in by.entries}
    if len(kinds) != 1:
        kinds -= {Divisor.UNKNOWN}
    kind = kinds.pop() if len(kinds) == 1 else Divisor.UNKNOWN
    if kind is Divisor.BATCHES and not by.listed:
        if all(isinstance(e.value, Stat) and e.value.quantity is Quantity.COUNT for e in total.entries):
            return Divisor.SAMPLES  # who counts each batch as one takes it for a sample
    if kind is Divisor.WEIGHTS or kind is Divisor.UNKNOWN:
        weights = {_text(e.value.weight_node) for e in total.entries if isinstance(e.value, Stat) and e.value.weight_node}
        added = {_text(entry.value.node) for entry in by.entries}
        if weights and weights <= added:
            return Divisor.WEIGHTS
    return kind


def _text(node: ast.AST | None) -> str:
    return ast.unparse(node) if node is not None else ""


def _counted(entry: Entry, listed: bool) -> Divisor:
    value = entry.value
    if listed:
        return Divisor.SAMPLES if entry.spread else Divisor.BATCHES
    if isinstance(value, Const):
        return Divisor.BATCHES if isinstance(value.value, (int, float)) and value.value == 1 else Divisor.UNKNOWN
    if isinstance(value, Count):
        if value.of in {Of.SAMPLES, Of.GRAPHS}:
            return Divisor.SAMPLES
        return Divisor.CONFIGURED if value.of is Of.CONFIGURED else Divisor.WEIGHTS
    if isinstance(value, (Rows, Stat, Unknown)):
        return Divisor.WEIGHTS
    return Divisor.UNKNOWN


def divisor_by_name(by: Unknown, node: ast.expr | None = None) -> Divisor:
    """By what a name says where nothing else is known: ``num_batches``, ``n_samples``."""
    name = by.name or (ast.unparse(node) if node is not None else "")
    words = knowledge.plain(name)
    if "dataset" in words or "data_size" in words:
        return Divisor.DATASET
    if knowledge.reads_as_tokens(name):
        return Divisor.WEIGHTS
    if knowledge.reads_as_batches(name):
        return Divisor.BATCHES
    if knowledge.reads_as_samples(name):
        return Divisor.DATASET
    return Divisor.UNKNOWN


def mean_of(run: Reading, node: ast.expr, value: Value) -> Value:
    """``np.mean(value)``, ``value.mean()`` without a dimension."""
    if isinstance(value, Items) and value.entries:
        value = Total(value.node, tuple(value.entries), True)
    if isinstance(value, Total):
        if value.listed:
            if any(entry.spread or isinstance(entry.value, Pool) for entry in value.entries):
                return Pool(node)
            for entry in value.entries:
                entry.scalar = entry.scalar or not entry.spread
            divisor = Divisor.WEIGHTS if value.weighted is not None else Divisor.BATCHES
            averages = record_average(run, value.entries, node, divisor, None)
            return Averaged(node, value.entries, averages)
        return value
    if isinstance(value, Averaged):
        return Averaged(node, value.entries, value.averages)
    if isinstance(value, Items):
        return mean_of_items(run, node, value)
    if isinstance(value, Stat):
        if value.quantity is Quantity.COUNT:
            return derived(value, node, quantity=Quantity.MEAN)
        return derived(value, node)
    if isinstance(value, Rows):
        if value.selected:
            return stat(run, node, Quantity.RATIO, "how many samples the mask leaves differs from batch to batch")
        if value.pairs:
            return stat(run, node, Quantity.COUPLED, "it is a mean over pairs of the batch's samples")
        return stat(run, node, Quantity.MEAN)
    if isinstance(value, Unknown) and (value.of_batch or run.batch_loop() is not None):
        return stat(run, node, Quantity.MEAN)
    if isinstance(value, Pool):
        return Fixed(node)
    return Unknown(node)


def mean_of_items(run: Reading, node: ast.expr, value: Items) -> Value:
    """A mean over a list that was filled within one batch: of its samples, or of its parts."""
    found = [item for item in value.items if isinstance(item, Stat)]
    if value.of_samples:
        return stat(run, node, Quantity.MEAN)
    if found:
        chosen = max(found, key=lambda s: HARM.index(s.quantity))
        return derived(chosen, node)
    if any(is_of_batch(item) for item in value.items):
        return stat(run, node, Quantity.MEAN)
    return Unknown(node)


def sum_of(run: Reading, node: ast.expr, value: Value) -> Value:
    if isinstance(value, Items) and value.entries:
        return Total(node, tuple(value.entries), False)
    if isinstance(value, Total):
        return Total(node, value.entries, False, value.weighted)
    if isinstance(value, (Averaged, Stat)):
        return value
    if isinstance(value, Items):
        found = [item for item in value.items if isinstance(item, Stat)]
        if value.of_samples:
            return stat(run, node, Quantity.SUM)
        if found:
            chosen = max(found, key=lambda s: HARM.index(s.quantity))
            return derived(chosen, node)
        if any(is_of_batch(item) for item in value.items):
            return Unknown(node, "", True)
        return Unknown(node)
    if isinstance(value, Rows):
        return stat(run, node, Quantity.COUNT if value.mask else Quantity.SUM, "it is a sum over the batch")
    if isinstance(value, Unknown) and (value.of_batch or run.batch_loop() is not None):
        return stat(run, node, Quantity.SUM, "it is a sum over the batch")
    return Fixed(node) if isinstance(value, Pool) else Unknown(node)


def entries_of(value: Value) -> tuple[Entry, ...]:
    if isinstance(value, Total):
        return value.entries
    if isinstance(value, Items):
        return tuple(value.entries)
    if isinstance(value, Averaged):
        return value.entries
    return ()
