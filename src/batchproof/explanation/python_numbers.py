"""Where numbers that Python computes stop being means or sums: ``math.sqrt(mse.item())``, an F1 of counts.

No recorded program holds them.  So the function runs on all samples and on parts of them while the numbers that its
own lines assign and return are noted.  A line is to blame where what it was given is a mean, a sum, a count or fixed,
and what it gives is none of these.
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Literal

import torch

from batchproof.explanation.result import Code, Finding
from batchproof.explanation.samples import Samples
from batchproof.explanation.statement import cause_of, names_of, statement_at
from batchproof.explanation.trace import is_users
from batchproof.ground import components
from batchproof.ground.isolation import seed_all
from batchproof.ground.place import place

#: Into so many parts of one size: smaller ones where none of a quarter comes to a limit (``max(bias, 0.0)``).
PARTS = (4, 32)
#: At most so many lines are noted.
MOST_NOTES = 20_000
#: How the number of all samples follows from those of equal parts.  fixed: it is the same.  size, count: those are
#: the same, and their sum is it.
Following = Literal["fixed", "size", "count", "mean", "sum", "other"]
RETURNED = "return"


@dataclass(frozen=True)
class Note:
    """What a line assigned to a name, or returned."""

    code: CodeType
    line: int
    name: str
    depth: int
    value: torch.Tensor


def python_cause(
    target: Callable[..., Any], samples: Samples, path: str, tolerance: float, seed: int
) -> Finding[Code] | None:
    """The first line on the way to a value of the result at which it is no mean or sum of samples any more.

    Args:
        target: the function.
        samples: to call it with.
        path: to that value, in what it returns.
        tolerance: relative difference below which two numbers are the same.
        seed: before each call.

    Returns:
        The cause, or None where no line of the user's own could be watched.
    """
    counts = [count for count in PARTS if count <= samples.n]
    found = (_cause_on_parts(target, samples, path, tolerance, seed, count) for count in counts)
    return next(filter(None, found), None)


def _cause_on_parts(
    target: Callable[..., Any], samples: Samples, path: str, tolerance: float, seed: int, count: int
) -> Finding[Code] | None:
    size = samples.n // count
    whole = samples.first(count * size)
    runs = [_run(target, part, path, seed) for part in (whole, *(_part(whole, k, size) for k in range(count)))]
    if any(not run for run in runs):
        return None
    notes, followings = runs[0], _followings(runs, tolerance)
    blamed = _blamed(notes, followings, len(notes) - 1)
    if blamed is None:
        return None
    note = notes[blamed]
    given = {name: followings[index] for name, index in _given(notes, blamed).items()}
    statement = statement_at(note.code, note.line)
    return cause_of(statement, given, set(note.code.co_varnames), place(note.code.co_filename, note.line))


def _part(samples: Samples, number: int, size: int) -> Samples:
    return samples.cut(number * size, (number + 1) * size)


def _run(target: Callable[..., Any], samples: Samples, path: str, seed: int) -> list[Note]:
    """Call it, and note what its lines give.  Nothing, where it fails or notes too much."""
    args, kwargs = samples.all()
    watcher, before = _Watcher(path), sys.gettrace()
    seed_all(seed)
    sys.settrace(watcher.enter)
    try:
        target(*args, **kwargs)
    except Exception:  # noqa: BLE001 - on parts of the samples it may fail: that is found elsewhere
        return []
    finally:
        sys.settrace(before)
    last = watcher.notes[-1:]
    ended = bool(last) and last[0].depth == 1 and last[0].name == RETURNED
    return watcher.notes if ended and len(watcher.notes) < MOST_NOTES else []


class _Watcher:
    """Notes the numbers that the lines of the user's own functions assign and return."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.notes: list[Note] = []
        self.depth = 0

    def enter(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if not is_users(frame.f_code.co_filename) or frame.f_code.co_name in ("<genexpr>", "<listcomp>"):
            return None
        self.depth += 1
        seen: dict[str, Any] = {}
        line = frame.f_lineno

        def step(frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
            nonlocal line
            for name, value in list(frame.f_locals.items()):
                if name not in seen or seen[name] is not value:
                    seen[name] = value
                    self.note(frame.f_code, line, name, value)
            if event == "return":
                self.note(frame.f_code, frame.f_lineno, RETURNED, arg)
                self.depth -= 1
            line = frame.f_lineno
            return step

        return step

    def note(self, code: CodeType, line: int, name: str, value: Any) -> None:
        if name == RETURNED and self.depth == 1:
            value = dict(components.leaves(value)).get(self.path)
        found = _few_numbers(value)
        if found is not None and len(self.notes) < MOST_NOTES:
            self.notes.append(Note(code, line, name, self.depth, found))


def _few_numbers(value: Any) -> torch.Tensor | None:
    """A number, or as few as a result has; None for samples, and for anything else."""
    if isinstance(value, bool) or not (isinstance(value, numbers.Number) or components.is_numeric(value)):
        return None
    size = getattr(value, "numel", lambda: getattr(value, "size", 1))()
    return components.values(value) if 0 < size <= components.MOST else None


def _followings(runs: Sequence[list[Note]], tolerance: float) -> list[Following]:
    """For each note of the first run, which is of all samples, how it follows from those of the parts."""
    whole, *parts = [_keyed(run) for run in runs]
    found: list[Following] = []
    for key, value in whole.items():
        values = [part[key] for part in parts if key in part and part[key].shape == value.shape]
        found.append(_following(value, torch.stack(values), tolerance) if len(values) == len(parts) else "other")
    return found


def _keyed(notes: Sequence[Note]) -> dict[tuple[Any, ...], torch.Tensor]:
    """By line and name, and by how often it was noted before: from the last on, as loops are of any length."""
    counted: dict[tuple[Any, ...], int] = {}
    keys = []
    for note in reversed(notes):
        same = (note.code, note.line, note.name, note.depth)
        counted[same] = counted.get(same, 0) + 1
        keys.append((*same, counted[same]))
    return {key: note.value for key, note in zip(reversed(keys), notes, strict=True)}


def _following(whole: torch.Tensor, parts: torch.Tensor, tolerance: float) -> Following:
    room = tolerance * torch.maximum(whole.abs(), parts.abs().amax(0))

    def agrees(value: torch.Tensor) -> bool:
        return bool(((value - whole).abs() <= room).all())

    alike = bool(((parts - parts[0]).abs() <= room).all())
    if alike and agrees(parts[0]):
        return "fixed"
    if agrees(parts.sum(0)):
        return "count" if alike else "sum"
    return "size" if alike else "mean" if agrees(parts.mean(0)) else "other"


def _blamed(notes: Sequence[Note], followings: Sequence[Following], index: int) -> int | None:
    """From a number that is no mean or sum back to the line that made it so."""
    while followings[index] in ("other", "size"):
        inner = _returned_within(notes, index)
        before = [position for position in (*_given(notes, index).values(), *inner) if followings[position] == "other"]
        if not before:
            return index
        index = min(before)  # precision and recall make an F1: the first of both is the line to blame
    return None


def _given(notes: Sequence[Note], index: int) -> dict[str, int]:
    """The names that a note's statement reads, and the note that gave each its number."""
    note = notes[index]
    found = {}
    for name in names_of(statement_at(note.code, note.line)):
        earlier = [k for k in _of_the_frame(notes, index) if notes[k].name == name]
        if earlier:
            found[name] = earlier[0]
    return found


def _of_the_frame(notes: Sequence[Note], index: int) -> Iterator[int]:
    """The notes before, the latest first, of the same call of the same function."""
    note = notes[index]
    for k in range(index - 1, -1, -1):
        if notes[k].depth < note.depth or (notes[k].depth == note.depth and notes[k].name == RETURNED):
            return
        if notes[k].depth == note.depth and notes[k].code is note.code:
            yield k


def _returned_within(notes: Sequence[Note], index: int) -> Iterator[int]:
    """What functions of the user's returned while the line of a note ran."""
    depth = notes[index].depth
    for k in range(index - 1, -1, -1):
        if notes[k].depth <= depth:
            return
        if notes[k].depth == depth + 1 and notes[k].name == RETURNED:
            yield k
