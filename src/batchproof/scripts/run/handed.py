"""What a script hands to a trainer that averages it: what it logs, and what functions return that the trainer calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from batchproof.scripts.run.slices import Function, Functions
from batchproof.scripts.source import AverageSite

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_of_trainer(site: AverageSite) -> bool:
    """Whether a trainer averages: the "loop" is a method that it calls once for each batch."""
    return isinstance(site.loop.node, _FUNCTIONS)


def logging_functions(tree: ast.Module) -> Iterator[Function]:
    """The methods that log something: ``self.log("loss", loss)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, _FUNCTIONS) and method.args.args and any(True for _ in logged_values(method)):
                    yield method


def logged_values(method: Function) -> Iterator[ast.expr]:
    """What a method logs."""
    me = method.args.args[0].arg
    for node in ast.walk(method):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in ("log", "log_dict") or getattr(node.func.value, "id", "") != me:
            continue
        place, word = (1, "value") if node.func.attr == "log" else (0, "dictionary")
        yield from node.args[place : place + 1]
        yield from (keyword.value for keyword in node.keywords if keyword.arg == word)


def functions_of_engines(tree: ast.Module, functions: Functions) -> Iterator[Function]:
    """The functions that an engine calls for each batch: ``Engine(train_step)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0]
            if name.endswith("Engine"):
                yield from functions.by_name.get(getattr(first, "attr", getattr(first, "id", "")), ())


_GATHERS = {"gather", "gather_for_metrics", "all_gather", "cpu", "detach"}


def repeated(node: ast.expr) -> ast.expr | None:
    """What is written down once for each sample: ``loss`` of ``accelerator.gather_for_metrics(loss.repeat(8))``.

    >>> ast.unparse(repeated(ast.parse("gather(out.loss.repeat(n)).cpu()", mode="eval").body))
    'out.loss'
    """
    found: ast.expr | None = node
    while isinstance(found, ast.Call):
        name = getattr(found.func, "attr", getattr(found.func, "id", ""))
        if name == "repeat" and isinstance(found.func, ast.Attribute) and len(found.args) == 1:
            return found.func.value
        if name not in _GATHERS or len(found.args) > 1:
            return None
        found = found.args[0] if found.args else getattr(found.func, "value", None)
    return None
