"""What can be called: functions and classes of the file, losses, metrics, loaders, and the call as it is read."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.frames import Binding, Scope
from batchproof.scripts.source.index import FunctionNode
from batchproof.scripts.source.site import Loader, Quantity, Topic
from batchproof.scripts.source.totals import Items, LoopTotal, Mapping, Pool
from batchproof.scripts.source.values import (
    _BY_MASK,
    _BY_PAIRS,
    BatchRows,
    Const,
    Count,
    Dataset,
    Fixed,
    LoaderValue,
    Unknown,
    Value,
    any_of_batch,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


@dataclass(eq=False)
class LossFunction(Value):
    """A loss of a library, ready to be called."""

    name: str = ""
    quantity: Quantity = Quantity.MEAN
    why: str = ""
    rows: bool = False  # reduction="none"

    def of(self, run: Interpreter, node: ast.expr, given: list[Value]) -> Value:
        """What it is for a prediction and a target."""
        if any(isinstance(value, (Pool, LoopTotal)) for value in given):
            return Pool(node)
        rows = [value for value in given if isinstance(value, BatchRows)]
        pairs = any(value.pairs for value in rows)
        if self.rows:
            return BatchRows(node, pairs=pairs)
        in_order = len(given) > 1 and isinstance(given[1], BatchRows) and given[1].order
        if in_order or (pairs and self.quantity is not Quantity.SUM):
            return run.stat(node, Quantity.COUPLED, _BY_PAIRS)
        if self.quantity is Quantity.MEAN and any(value.selected for value in rows):
            return run.stat(node, Quantity.RATIO, _BY_MASK)
        columns = {value.columns for value in given[:2] if isinstance(value, BatchRows)}
        if columns == {0, 1} and name_tables.is_elementwise(self.name):
            run.suspect(Topic.BROADCAST_SHAPES, node, "one side has a column for each sample and the other has none")
        stat = run.stat(node, self.quantity, self.why)
        stat.named = self.quantity is Quantity.MEAN and not name_tables.is_torch_loss(self.name)
        return stat


@dataclass(eq=False)
class MetricObject(Value):
    """An object that keeps what it needs over batches; ``quantity`` is what one call of it returns."""

    name: str = ""
    quantity: Quantity = Quantity.MEAN
    why: str = ""

    def of(self, run: Interpreter, node: ast.expr, given: list[Value]) -> Value:
        """What a call of it returns: the value of that batch."""
        if any(isinstance(value, (Pool, LoopTotal)) for value in given) or not any_of_batch(given):
            return Fixed(node)
        stat = run.stat(node, self.quantity, self.why)
        stat.kept = True
        return stat

    def attribute(self, run: Interpreter, name: str, node: ast.expr) -> Value:
        return Unknown(node, name)


@dataclass(eq=False)
class ExactObject(MetricObject):
    """What ``batchproof.exact`` makes of a function."""

    function: Value = field(default_factory=lambda: Unknown(None))


@dataclass(eq=False)
class MetricsObject(MetricObject):
    """Several metric objects by name: a call gives a dict of their values."""

    metrics: dict[str, MetricObject] = field(default_factory=dict)

    def of(self, run: Interpreter, node: ast.expr, given: list[Value]) -> Value:
        return Mapping(node, {key: Binding(metric.of(run, node, given)) for key, metric in self.metrics.items()})


@dataclass(eq=False, kw_only=True)
class Function(Value):
    """A function of the file; ``me`` of a method, and what ``partial`` gave it."""

    definition: FunctionNode | ast.Lambda
    scope: Scope
    me: Value | None = None
    given: tuple[Value, ...] = ()
    named: dict[str, Value] = field(default_factory=dict)


@dataclass(eq=False, kw_only=True)
class Class(Value):
    """A class of the file."""

    definition: ast.ClassDef
    scope: Scope


@dataclass(eq=False, kw_only=True)
class Instance(Value):
    """An object of a class of the file, and what its methods keep there."""

    of: Class
    attributes: dict[str, Binding] = field(default_factory=dict)

    def held(self, run: Interpreter, target: ast.expr) -> Binding | None:
        return self.attributes.get(target.attr) if isinstance(target, ast.Attribute) else None

    def method(self, node: ast.AST, definition: FunctionNode) -> Function:
        """One of its methods, bound to it."""
        return Function(node, definition=definition, scope=self.of.scope, me=self)


@dataclass(frozen=True, eq=False)
class Invocation:
    """A call as it is read: the last name of what is called, and what it is given."""

    node: ast.Call
    name: str
    arguments: list[Value]
    keywords: dict[str, Value]

    @property
    def first(self) -> Value | None:
        return self.arguments[0] if self.arguments else None

    @property
    def given(self) -> list[Value]:
        return [*self.arguments, *self.keywords.values()]

    def is_given_batch(self) -> bool:
        return any_of_batch(self.given)

    def dimension(self, at: int) -> object:
        """The dimension that is reduced: None for all, a number, a list of numbers, or ... where it is not known."""
        value = self.keywords.get("dim") or self.keywords.get("axis")
        if value is None:
            rest = self.arguments[at:]
            if len(rest) > 1 and all(isinstance(a, Const) and isinstance(a.value, int) for a in rest):
                return [a.value for a in rest if isinstance(a, Const)]
            value = rest[0] if rest else Const(None)
        if isinstance(value, Const):
            return value.value
        if isinstance(value, Items) and value.items and all(isinstance(item, Const) for item in value.items):
            return [item.value for item in value.items if isinstance(item, Const)]
        return ...


_METRIC_LIBRARIES = (
    "torchmetrics", "torcheval", "ignite.metrics", "evaluate.", "monai.metrics", "datasets.load_metric"
)  # fmt: skip


def loss_function(node: ast.AST, name: str, arguments: list[Value], keywords: dict[str, Value]) -> LossFunction:
    """One of torch's losses with what it was given: its reduction, its weights."""
    reduction = keywords.get("reduction")
    text = reduction.value if isinstance(reduction, Const) else None
    average = keywords.get("size_average")
    quantity, why, rows = Quantity.MEAN, "", False
    reduces = keywords.get("reduce")
    if text == "none" or (isinstance(reduces, Const) and reduces.value is False):
        rows = True
    elif text == "sum" or (isinstance(average, Const) and average.value is False):
        quantity, why = Quantity.SUM, "it sums over the batch"
    elif name_tables.takes_weights(name):
        weight = keywords.get("weight")
        if weight is None and arguments and name[:1].isupper():
            weight = arguments[0]
        if weight is not None and not (isinstance(weight, Const) and weight.value is None):
            quantity, why = Quantity.RATIO, "it divides by the sum of the class weights of the batch's targets"
        elif "ignore_index" in keywords:
            quantity, why = Quantity.RATIO, "it divides by how many targets of the batch are not ignored"
    return LossFunction(node, name, quantity, why, rows)


def metric_object(path: str, node: ast.AST) -> MetricObject | None:
    """A metric of a library that accumulates by itself."""
    if not any(library in path for library in _METRIC_LIBRARIES):
        return None
    name = name_tables.last_of(path)
    if name in {"load", "load_metric"} and isinstance(node, ast.Call) and node.args:
        text = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
        named = name_tables.by_name(text) if isinstance(text, str) else None
        return MetricObject(node, name, *(named or (Quantity.UNKNOWN, "")))
    if name in {"load", "load_metric", "combine", "MetricCollection", "Metric", "CompositionalMetric"}:
        return MetricObject(node, name, Quantity.UNKNOWN)
    if not name[:1].isupper():
        return None
    known = name_tables.by_name(name)
    given = node.keywords if isinstance(node, ast.Call) else []
    if any(k.arg == "squared" and isinstance(k.value, ast.Constant) and k.value.value is False for k in given):
        known = Quantity.NONLINEAR, "a root is taken of each batch"
    if name == "MulticlassAccuracy" and "torchmetrics" in path and _by_class(node):
        known = Quantity.NONLINEAR, "the mean over classes of each class's accuracy"
    quantity, why = known if known is not None else (Quantity.UNKNOWN, "")
    return MetricObject(node, name, quantity, why)


def metrics_object(call: Invocation) -> MetricObject:
    """``MetricCollection({"f1": F1Score(...)})``, of a dict, a list or one metric after the other."""
    first, named = call.first, {}
    if isinstance(first, Mapping):
        named = {key: binding.value for key, binding in first.entries.items()}
    else:
        parts = first.items if isinstance(first, Items) else call.arguments
        named = {part.name: part for part in parts if isinstance(part, MetricObject)}
    metrics = {key: metric for key, metric in named.items() if isinstance(metric, MetricObject)}
    return MetricsObject(call.node, call.name, Quantity.UNKNOWN, metrics=metrics)


def _by_class(node: ast.AST) -> bool:
    """``MulticlassAccuracy(3)`` averages over the classes, unless it is told otherwise."""
    given = node.keywords if isinstance(node, ast.Call) else []
    average = next((keyword.value for keyword in given if keyword.arg == "average"), None)
    return average is None or (isinstance(average, ast.Constant) and average.value == "macro")


def loader_of(call: Invocation) -> LoaderValue:
    """``DataLoader(...)`` with what it says about its last batch."""
    node, arguments, keywords = call.node, call.arguments, call.keywords
    drop = keywords.get("drop_last")
    batch = keywords.get("batch_size") or (arguments[1] if len(arguments) > 1 else None)
    size: int | None = None
    options = keywords.get("**")
    known = isinstance(options, Mapping) and "*" not in options.entries
    spread = (options is not None and not known) or any(isinstance(a, ast.Starred) for a in node.args)
    if isinstance(batch, Const) and isinstance(batch.value, int):
        size = batch.value
    elif isinstance(batch, Count):
        size = batch.number
    elif batch is None and not spread and "batch_sampler" not in keywords:
        size = 1
    drops: bool | None = False
    if isinstance(drop, Const):
        drops = bool(drop.value)
    elif drop is not None or spread or "batch_sampler" in keywords:
        drops = None
    dataset = keywords.get("dataset") or call.first
    loader = Loader(None, node, drops, size)
    return LoaderValue(node, loader, Dataset(node) if dataset is not None else None, keywords.get("sampler"))
