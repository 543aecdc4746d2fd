"""What was learned of losses in earlier calls, so that a training loop learns each of them once."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchproof.gradients.accumulation.analyse import learn
from batchproof.gradients.accumulation.analysis import Learned
from batchproof.gradients.accumulation.samples import enough, joinable, lesson_of
from batchproof.ground.batch import Batch

#: Losses that are remembered. Each holds on to its function, and to what that closes over.
MOST = 8


@dataclass
class SeenFunction:
    """One loss function, the samples seen of it so far, and what was learned from them.

    Attributes:
        lesson: the samples, as long as they are too few.
        learned: from them; a text where all outputs have to be kept, and why.
        token: names the samples of the last lesson, the same on all ranks that had it together.
    """

    loss_fn: Callable[..., Any]
    lesson: list[Batch] = field(default_factory=list)
    learned: Learned | str | None = None
    token: str = ""

    def enough(self, calls: Sequence[Batch]) -> bool:
        """Whether these and the samples of earlier calls suffice to learn from."""
        calls = [*self.lesson, *calls]
        return enough(*calls) if joinable(calls) else enough(lesson_of(calls))

    def study(self, calls: Sequence[Batch], flags: tuple[bool, ...]) -> None:
        """Learn from samples; or lay them by where there are too few of them, but can be put together without that."""
        calls = [*self.lesson, *calls]
        lesson = lesson_of(calls)
        if enough(lesson) or not joinable(calls):
            learned = learn(self.loss_fn, lesson, flags)
            # a refusal on outputs that carry no gradient says nothing of others
            self.learned, self.lesson = learned if isinstance(learned, Learned) or any(flags) else None, []
        else:
            self.lesson = calls

    def check(self) -> None:
        """Forget a loss that no longer takes its gradient the same way."""
        if isinstance(self.learned, Learned) and not self.learned.holds():
            self.forget()

    def forget(self) -> None:
        """The loss has changed: learn it anew."""
        self.learned, self.lesson, self.token = None, [], ""


_known: OrderedDict[Any, SeenFunction] = OrderedDict()


def known(loss_fn: Callable[..., Any]) -> SeenFunction:
    """What is known of a loss; a function made anew from the same code and the same variables is the same loss."""
    key = identity(loss_fn)
    found = _known.pop(key, None) or SeenFunction(loss_fn)
    _known[key] = found
    while len(_known) > MOST:
        _known.popitem(last=False)
    return found


def identity(fn: Callable[..., Any]) -> Any:
    """A key that two callables share only if they compute the same from the same objects."""
    if isinstance(fn, functools.partial):
        return "partial", identity(fn.func), tuple(map(_part, fn.args)), _items(fn.keywords)
    owner = getattr(fn, "__self__", None)
    code = getattr(fn, "__code__", None)
    if code is None:
        return id(fn)
    cells = [_cell(cell) for cell in getattr(fn, "__closure__", None) or ()]
    defaults = tuple(map(_part, getattr(fn, "__defaults__", None) or ()))
    keywords = _items(getattr(fn, "__kwdefaults__", None) or {})
    return code, id(getattr(fn, "__globals__", None)), _part(owner), tuple(cells), defaults, keywords


def _items(table: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((name, _part(value)) for name, value in table.items())


def _cell(cell: Any) -> Any:
    try:
        return _part(cell.cell_contents)
    except ValueError:  # not filled yet
        return None


def _part(thing: Any) -> Any:
    """A number or a text by its value, anything else by which object it is."""
    plain = isinstance(thing, (int, float, complex, str, bytes, type(None)))
    return (type(thing), thing) if plain else id(thing)
