"""What an attribute holds; of an instance of a class of the file, what its methods keep there."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from batchproof.scripts.source import name_tables
from batchproof.scripts.source.frames import Binding
from batchproof.scripts.source.values import (
    AbstractValue,
    Const,
    Count,
    CountedThing,
    Function,
    Instance,
    Stat,
    Unknown,
    argument,
    as_loader,
    named,
)

if TYPE_CHECKING:
    from batchproof.scripts.source.interpreter import Interpreter


def attribute(run: Interpreter, node: ast.Attribute) -> AbstractValue:
    """``base.attr``."""
    base = run.evaluate(node.value)
    if isinstance(base, Instance):
        value = _of_instance(run, base, node.attr, node)
    else:
        value = base.attribute(run, node.attr, node)
        here = run.frame.scope.find(ast.unparse(node)) if isinstance(value, (Unknown, Const)) else None
        if here is not None:
            return here.value
    if isinstance(value, Const) and name_tables.reads_as_batch_size(node.attr):
        return Count(node, CountedThing.CONFIGURED, number=value.value if isinstance(value.value, int) else None)
    return value


def _of_instance(run: Interpreter, base: Instance, name: str, node: ast.expr) -> AbstractValue:
    binding = base.attributes.get(name)
    if binding is not None:
        return _kept(run, binding.value, name, node)
    for definition in lineage(run, base.definition):
        method = run.index.methods.get(definition, {}).get(name)
        if method is not None:
            bound = Function(node, method, base.scope or run.module, me=base)
            if any(isinstance(d, ast.Name) and d.id in {"property", "cached_property"} for d in method.decorator_list):
                return run.call(bound, node, [], {})
            return bound
        assigned = run.index.assigned.get(definition, {}).get(name)
        if assigned:
            base.attributes[name] = Binding(Unknown(node, name))
            value = run.in_method(base, assigned[-1])
            base.attributes[name] = Binding(value, (), None)
            return _kept(run, value, name, node)
    return argument(run, name, node) if name in run.index.arguments else named(name, node)


def _kept(run: Interpreter, value: AbstractValue, name: str, node: ast.expr) -> AbstractValue:
    if isinstance(value, Unknown) and name_tables.reads_as_batch_size(name) and not value.of_batch:
        return Count(node, CountedThing.CONFIGURED)
    if isinstance(value, Stat) and value.loop is not None and not run.is_open(value.loop):
        return replace(value, loop=None)  # another method may have kept it, and more than one batch of it
    return as_loader(value, name)


def lineage(run: Interpreter, definition: ast.ClassDef | None, most: int = 8) -> list[ast.ClassDef]:
    """A class, the first of its bases that stands in the file, that one's, and so on."""
    classes: list[ast.ClassDef] = []
    while definition is not None and definition not in classes and len(classes) < most:
        classes.append(definition)
        bases = (base.id for base in definition.bases if isinstance(base, ast.Name))
        definition = next((run.index.classes[base] for base in bases if base in run.index.classes), None)
    return classes
