"""What else is doubtful: a value of the last batch that is reported, loaders, divisions of a loss."""

from __future__ import annotations

import ast

from batchproof.sites import knowledge
from batchproof.sites.reading import Reading
from batchproof.sites.values import Stat

_REPORTS = frozenset("print info log debug warning write add_scalar add_scalars append format log_metric writerow set_description set_postfix logger".split())


def stale(run: Reading, node: ast.expr) -> None:
    """A number of one batch that is printed, kept or returned after its loop: that of the last batch."""
    if run.statements == 0:
        return
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in _REPORTS:
            return
        parts: list[ast.expr] = [*node.args, *(k.value for k in node.keywords)]
    else:
        parts = list(node.elts) if isinstance(node, ast.Tuple) else [node]
    for part in parts:
        for name_node in ast.walk(part):
            if not isinstance(name_node, ast.Name):
                continue
            binding = run.frame.scope.names.get(name_node.id)
            if binding is None or not isinstance(binding.value, Stat):
                continue
            loop = binding.value.loop
            if loop is None or run.is_open(loop) or loop.equal or loop.weighs:
                continue
            if knowledge.reads_as_no_result(name_node.id):
                continue
            run.doubt("only the last batch", run.frame.statement or node, f"{name_node.id} holds the value of the loop's last batch")
            return


def in_call(run: Reading, node: ast.Call) -> None:
    return None
