"""What the file itself shows of a loss: that it is a mean, and over how many samples."""

from __future__ import annotations

import ast

from batchproof.scripts.lint.fixes.edits import text_of
from batchproof.scripts.lint.fixes.scope import assigned, names_in
from batchproof.scripts.lint.rule import call_of
from batchproof.scripts.lint.source import SourceFile
from batchproof.scripts.source import AverageSite, callee_of, is_torch_loss, last_word

_ELSEWHERE = ("weight", "ignore_index", "reduction", "size_average", "reduce", "pos_weight")


def is_a_mean(tree: ast.Module, site: AverageSite) -> bool:
    """Whether the file itself shows it: a loss of torch, an object of one, or a function of this file."""
    call = call_of(site)
    if call is None:
        return False
    if _is_plain_loss(call) and isinstance(call.func, ast.Attribute):
        return True
    name = callee_of(call)
    made = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and _sets(node, name)]
    if made:
        return all(isinstance(value, ast.Call) and _is_plain_loss(value) for value in made)
    origin = site.added.origin
    return origin is not None and any(
        isinstance(node, ast.FunctionDef) and node.name == name and any(part is origin for part in ast.walk(node))
        for node in tree.body
    )


def _sets(node: ast.Assign, name: str) -> bool:
    return any(last_word(target) == name for target in node.targets)


def _is_plain_loss(call: ast.Call) -> bool:
    """``nn.MSELoss()`` or ``F.mse_loss(pred, y)``, with nothing that would make it another mean."""
    if (
        isinstance(call.func, ast.Attribute)
        and call.func.attr in ("to", "cuda", "cpu")
        and isinstance(call.func.value, ast.Call)
    ):
        return _is_plain_loss(call.func.value)
    return is_torch_loss(callee_of(call)) and all(keyword.arg not in _ELSEWHERE for keyword in call.keywords)


#: Methods that leave the number of samples as it is.
_HARMLESS = {"to", "cuda", "cpu", "float", "long", "double", "half", "int", "detach", "type", "contiguous", "clone"}
_MADE_UP = {"enumerate", "tqdm", "zip", "trange", "track"}


def size_of(source: SourceFile, loop: ast.For, call: ast.expr | None, until: ast.stmt) -> str | None:
    """``len(y)`` of the target that a loss compares with.

    The target is a part of the batch that the loop takes apart (``for x, y in loader``): the second argument of the
    loss, or the first.  A batch that stays whole may be a dict, whose length is how many entries it has.
    """
    if not isinstance(call, ast.Call) or call.keywords or not 1 <= len(call.args) <= 2:
        return None
    parts = parts_of_batch(loop)
    changed = _set_between(loop, call, until)
    for argument in reversed(call.args):
        base = _bare(argument)
        if isinstance(base, ast.Name) and base.id in parts - changed:
            return f"len({base.id})"
        if isinstance(base, ast.Subscript) and _is_part(base, loop) and not names_in(base.value) & changed:
            return f"len({text_of(source, base)})"
    return None


def parts_of_batch(loop: ast.For) -> set[str]:
    """The names that hold a part of a batch: unpacked by the loop, or from the batch in its body."""
    target = _batch_target(loop)
    parts = names_in(target) if isinstance(target, (ast.Tuple, ast.List)) else set()
    whole = {target.id} if isinstance(target, ast.Name) else set()
    for statement in ast.walk(loop):
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            continue
        left, right = statement.targets[0], statement.value
        if isinstance(left, (ast.Tuple, ast.List)) and isinstance(right, ast.Name) and right.id in whole:
            parts |= names_in(left)
        elif isinstance(left, ast.Name) and isinstance(bare := _bare(right), ast.Subscript) and _is_part(bare, loop):
            parts.add(left.id)
    return parts - whole


def as_long_as(loop: ast.For, size: str) -> set[str]:
    """The names whose length is this size as well: the parts of one batch; of several loaders' only the same name."""
    target = _batch_target(loop)
    together = any(callee_of(node) == "zip" for node in ast.walk(loop.iter))
    nested = isinstance(target, (ast.Tuple, ast.List)) and any(not isinstance(part, ast.Name) for part in target.elts)
    if together or nested:
        return {size.removeprefix("len(").removesuffix(")")}
    return parts_of_batch(loop)


def _batch_target(loop: ast.For) -> ast.expr:
    """What the loop calls its batch, without the number that ``enumerate`` puts before it."""
    called = loop.iter
    numbered = False
    while isinstance(called, ast.Call) and called.args and callee_of(called) in _MADE_UP:
        numbered = numbered or callee_of(called) == "enumerate"
        called = called.args[0]
    if numbered and isinstance(loop.target, ast.Tuple) and len(loop.target.elts) == 2:
        return loop.target.elts[1]
    return loop.target


def _is_part(node: ast.Subscript, loop: ast.For) -> bool:
    """``batch["label"]``."""
    target = _batch_target(loop)
    return (
        isinstance(target, ast.Name)
        and isinstance(node.value, ast.Name)
        and node.value.id == target.id
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, (str, int))
    )


def _bare(node: ast.expr) -> ast.expr:
    """``y`` of ``y.float().to(device)``."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _HARMLESS:
        node = node.func.value
    return node


def _set_between(loop: ast.For, call: ast.expr, until: ast.stmt) -> set[str]:
    """The names that get another value after the loss has been computed."""
    begin, end = (call.end_lineno or 0, call.end_col_offset or 0), (until.lineno, until.col_offset)
    later = [
        statement
        for statement in ast.walk(loop)
        if isinstance(statement, ast.stmt) and begin < (statement.lineno, statement.col_offset) < end
    ]
    return assigned(later)
