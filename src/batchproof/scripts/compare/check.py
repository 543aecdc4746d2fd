"""Whether a run has something to compare: asked of the first, before hours go into the others.

A total over batches that nothing divides falls as batches grow, since there are fewer of them. No average of it is
reported, so that nothing of this is measured; the source alone tells.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.ground.place import Place
from batchproof.scripts.compare.assemble import names
from batchproof.scripts.compare.blank import BLANK
from batchproof.scripts.compare.record import RunOutcome
from batchproof.scripts.compare.scheduler import ScriptCommand

#: How `Run.notes` speaks of them.
BY_TRAINER = ": averaged by a trainer"
LOOKED_FOR = (
    "looked for totals or lists that a loop over batches adds to, and for their averages (total / len(loader), "
    "np.mean(losses), meter.avg)"
)


def check(script: ScriptCommand, outcome: RunOutcome, epoch: int | None) -> None:
    """Whether a run has something to compare.

    Raises:
        BatchproofError: it has not; the message says what was looked for.
    """
    title = script.target
    if not outcome.run.loaders and not script.has_blank:
        raise BatchproofError(
            f"{title} builds no DataLoader whose batch size could be set: put {BLANK} where its arguments say the "
            f"batch size, as in batchproof compare {title} --batch-size 16,64 -- --batch-size {BLANK}"
        )
    found = names(outcome)
    known = {alias for reading in outcome.readings for alias in (reading.name, *reading.aliases)}
    if script.report is not None and script.report not in known:
        has = f"it reports {', '.join(found)}" if found else f"{LOOKED_FOR}, and found none"
        raise BatchproofError(f"{title} gives no variable and no key of a log {script.report!r} a number; {has}")
    if not found:
        of_trainer = _averaged_by_trainer(outcome)
        if of_trainer:
            raise BatchproofError(
                f"{title} leaves its averages to a trainer: say which number is meant, as in --report {of_trainer[-1]}"
            )
        where = f"found {outcome.run.places}, and none of them ran" if outcome.run.places else "found none"
        raise BatchproofError(
            f"{title} reports no number that batchproof recognises: {LOOKED_FOR}, and {where}; {_to_name(script)}"
        )
    last = max(reading.epoch for reading in outcome.readings)
    if epoch is not None and not 1 <= epoch <= last:
        raise BatchproofError(f"--epoch {epoch}: {title} has the epochs 1 to {last}" if last > 1 else
                              f"--epoch {epoch}: {title} has one epoch")  # fmt: skip


def _to_name(script: ScriptCommand) -> str:
    """What to ask for instead."""
    for name, place in () if script.as_module else totals(Path(script.target)).items():
        return f"line {place.line} adds up {name}, which nothing divides: --report {name} compares that total"
    return "name the variable that holds the number, as in --report train_loss"


def _averaged_by_trainer(outcome: RunOutcome) -> list[str]:
    """The names of what a method that a trainer calls gives it to average."""
    notes = [note.partition(BY_TRAINER) for note in outcome.run.notes]
    return [name for names, found, _ in notes if found for name in names.split(", ")]


def totals(script: Path) -> dict[str, Place]:
    """Names that a loop over batches adds values to, and that no expression divides, each with that line."""
    try:
        text = script.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError):
        return {}
    lines = text.splitlines()
    divided = set(_divided(tree))
    found: dict[str, Place] = {}
    for add in _additions(tree):
        name = ast.unparse(add.target)
        if name not in divided:
            found.setdefault(name, Place(script.name, add.lineno, lines[add.lineno - 1].strip()))
    return found


def _additions(tree: ast.Module) -> Iterator[ast.AugAssign]:
    """``total += loss.item()`` and the like, in a loop."""
    for loop in ast.walk(tree):
        if not isinstance(loop, ast.For):
            continue
        for node in ast.walk(loop):
            if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and _is_of_batch(node.value):
                yield node


def _is_of_batch(value: ast.expr) -> bool:
    """Whether a value was taken from a tensor, or goes by the name of a loss."""
    for node in ast.walk(value):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "item":
            return True
        if isinstance(node, ast.Name) and "loss" in node.id.lower():
            return True
    return False


def _divided(tree: ast.Module) -> Iterator[str]:
    """What is divided, and what leaves a function: its caller may divide that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.FloorDiv)):
            yield from _names(node.left)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Div, ast.FloorDiv)):
            yield ast.unparse(node.target)
        elif isinstance(node, (ast.Return, ast.Yield)) and node.value is not None:
            yield from _names(node.value)


def _names(value: ast.expr) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            yield ast.unparse(node)
