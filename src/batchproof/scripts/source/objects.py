"""Losses, metrics and loaders of a library: as they are built, and what they return for a batch."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.site import Loader, Quantity
from batchproof.scripts.source.values import (
    AbstractValue,
    Const,
    Count,
    Dataset,
    Invocation,
    LoaderValue,
    LossFunction,
    MetricObject,
)

if TYPE_CHECKING:
    pass


_METRIC_LIBRARIES = (
    "torchmetrics", "torcheval", "ignite.metrics", "evaluate.", "monai.metrics", "datasets.load_metric"
)  # fmt: skip


def loss_function(
    node: ast.AST, name: str, arguments: list[AbstractValue], keywords: dict[str, AbstractValue]
) -> LossFunction:
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
    if name == "MulticlassAccuracy" and "torchmetrics" in path and _by_class(node):
        known = Quantity.NONLINEAR, "the mean over classes of each class's accuracy"
    quantity, why = known if known is not None else (Quantity.UNKNOWN, "")
    return MetricObject(node, name, quantity, why)


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
    spread = any(k.arg is None for k in node.keywords) or any(isinstance(a, ast.Starred) for a in node.args)
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
