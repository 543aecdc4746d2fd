"""Whether a loss is known to be a mean, rather than only called like one."""

from __future__ import annotations

import ast

from batchproof.scripts.lint.fixes.scope import last_name
from batchproof.scripts.lint.rule import call_of
from batchproof.scripts.source import AverageSite, is_torch_loss

_ELSEWHERE = ("weight", "ignore_index", "reduction", "size_average", "reduce", "pos_weight")


def is_a_mean(tree: ast.Module, site: AverageSite) -> bool:
    """Whether the file itself shows it: a loss of torch, an object of one, or a function of this file."""
    call = call_of(site)
    if call is None:
        return False
    if _is_plain_loss(call) and isinstance(call.func, ast.Attribute):
        return True
    name = last_name(call.func)
    made = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and _sets(node, name)]
    if made:
        return all(isinstance(value, ast.Call) and _is_plain_loss(value) for value in made)
    origin = site.added.origin
    return origin is not None and any(
        isinstance(node, ast.FunctionDef) and node.name == name and any(part is origin for part in ast.walk(node))
        for node in tree.body
    )


def _sets(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, (ast.Name, ast.Attribute)) and last_name(target) == name for target in node.targets)


def _is_plain_loss(call: ast.Call) -> bool:
    """``nn.MSELoss()`` or ``F.mse_loss(pred, y)``, with nothing that would make it another mean."""
    if (
        isinstance(call.func, ast.Attribute)
        and call.func.attr in ("to", "cuda", "cpu")
        and isinstance(call.func.value, ast.Call)
    ):
        return _is_plain_loss(call.func.value)
    return is_torch_loss(last_name(call.func)) and all(keyword.arg not in _ELSEWHERE for keyword in call.keywords)
