"""What an attribute holds: of an instance, a loader, a batch, a module."""

from __future__ import annotations

import ast
from dataclasses import replace

from batchproof.scripts.source import calls, meters, name_tables, stats
from batchproof.scripts.source.interpreter import Reading
from batchproof.scripts.source.site import Quantity
from batchproof.scripts.source.subscripts import as_loader, hugging_face_loss, named
from batchproof.scripts.source.values import (
    Averaged,
    Binding,
    Const,
    Count,
    Dataset,
    Function,
    Instance,
    Items,
    Library,
    LoaderValue,
    Mapping,
    Meter,
    MetricObject,
    Of,
    Pool,
    Rows,
    Shape,
    Stat,
    Total,
    Unknown,
    Value,
    is_of_batch,
)


def attribute(run: Reading, node: ast.Attribute) -> Value:
    base = run.evaluate(run, node.value)
    found = attribute_of(run, base, node.attr, node)
    if isinstance(found, (Unknown, Const)):
        here = run.frame.scope.find(ast.unparse(node)) if not isinstance(base, Instance) else None
        if here is not None:
            return here.value
    if isinstance(found, Const) and name_tables.reads_as_batch_size(node.attr):
        return Count(node, Of.CONFIGURED, number=found.value if isinstance(found.value, int) else None)
    return found


def attribute_of(run: Reading, base: Value, name: str, node: ast.expr) -> Value:
    if isinstance(base, Library):
        return Library(node, f"{base.path}.{name}")
    if isinstance(base, Instance):
        return _of_instance(run, base, name, node)
    if isinstance(base, Meter):
        return meters.read_meter(run, base, name, node)
    if isinstance(base, LoaderValue):
        return _of_loader(base, name, node)
    if isinstance(base, Rows):
        return _of_rows(run, base, name, node)
    if isinstance(base, (Stat, Total, Averaged)):
        if name == "shape":
            return Shape(node, base)
        return base
    if isinstance(base, Mapping):
        if name in base.entries:
            return base.entries[name].value
        return Unknown(node, name)
    if isinstance(base, (MetricObject, Pool)):
        return base if isinstance(base, Pool) else Unknown(node, name)
    if isinstance(base, Items):
        if name == "shape":
            return Shape(node, base)
        return base if name in {"T", "data"} else Unknown(node, name)
    of_batch = is_of_batch(base)
    if name == "shape":
        return Shape(node, base)
    if (of_batch or (isinstance(base, Unknown) and base.parameter and run.batch_loop() is not None)) and name == "loss":
        return hugging_face_loss(run, node)
    if name in run.index.arguments and not of_batch:
        return argument(run, name, node)
    return named(name, node, of_batch)


def argument(run: Reading, name: str, node: ast.AST) -> Value:
    """What the command line defaults to; a batch size that stands there is the user's to choose."""
    if name_tables.reads_as_batch_size(name):
        return Count(node, Of.CONFIGURED)
    return Const(node, run.index.arguments[name])


def _of_loader(base: LoaderValue, name: str, node: ast.expr) -> Value:
    if name in {"dataset", "data_source", "examples"}:
        return base.dataset or Dataset(node)
    if name == "batch_size":
        return Count(node, Of.CONFIGURED, number=base.loader.batch_size)
    if name in {"num_batches", "n_batches", "nbatch"}:
        return Count(node, Of.BATCHES)
    if name in {"n", "num_samples", "num_examples"}:
        return Count(node, Of.DATASET)
    if name in {"sampler", "batch_sampler"}:
        return base.sampler or Unknown(node, name)
    return named(name, node)


def _of_rows(run: Reading, base: Rows, name: str, node: ast.expr) -> Value:
    if name == "shape":
        return Shape(node, base)
    if name == "loss":
        return hugging_face_loss(run, node)
    if name == "num_graphs":
        return Count(node, Of.GRAPHS, run.batch_loop())
    if name in {"batch_size", "num_samples"}:
        return Count(node, Of.SAMPLES, run.batch_loop())
    if name in {"num_nodes", "num_edges", "ndata"}:
        return Count(node, Of.ELEMENTS, run.batch_loop())
    if name in {"T", "data", "mT"}:
        return base
    if "loss" in name:
        return stats.stat(run, node, Quantity.UNKNOWN)
    return Rows(node, mask="mask" in name, output=base.output)


def _of_instance(run: Reading, base: Instance, name: str, node: ast.expr) -> Value:
    binding = base.attributes.get(name)
    if binding is not None:
        value = binding.value
        if isinstance(value, Unknown) and name_tables.reads_as_batch_size(name) and not value.of_batch:
            return Count(node, Of.CONFIGURED)
        if isinstance(value, Stat) and value.loop is not None and not run.is_open(value.loop):
            return replace(value, loop=None)  # another method may have kept it, and more than one batch of it
        return as_loader(value, name)
    definition = base.of.definition if base.of is not None else None
    seen = 0
    while definition is not None and seen < 8:
        method = run.index.methods.get(definition, {}).get(name)
        if method is not None:
            scope = base.of.scope if base.of is not None else None
            bound = Function(node, method, scope or run.module, me=base)
            if any(isinstance(d, ast.Name) and d.id in {"property", "cached_property"} for d in method.decorator_list):
                return calls.call_function(run, bound, node, [], {})
            return bound
        assigned = run.index.assigned.get(definition, {}).get(name)
        if assigned:
            base.attributes[name] = Binding(Unknown(node, name))
            value = calls.in_method(run, base, assigned[-1])
            base.attributes[name] = Binding(value, (), None)
            return _of_instance(run, base, name, node)
        definition, seen = _parent(run, definition), seen + 1
    if name in run.index.arguments:
        return argument(run, name, node)
    return named(name, node)


def _parent(run: Reading, definition: ast.ClassDef) -> ast.ClassDef | None:
    for parent in definition.bases:
        if isinstance(parent, ast.Name) and parent.id in run.index.classes:
            found = run.index.classes[parent.id]
            return found if found is not definition else None
    return None
