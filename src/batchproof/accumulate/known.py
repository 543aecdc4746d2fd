"""What was learned of losses in earlier calls, so that a training loop learns each of them once."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchproof.accumulate.learn import learn
from batchproof.accumulate.learned import Learned
from batchproof.accumulate.outputs import size_of
from batchproof.derive.samples import FEWEST_ROWS
from batchproof.streaming.arguments import Call, join, signature

#: Samples to learn from; fewer will do where they are large.
ENOUGH = 32
LARGE = 1 << 25
#: Losses that are remembered. Each holds on to its function, and to what that closes over.
MOST = 8


@dataclass
class Known:
    """One loss function, the samples seen of it so far, and what was learned from them.

    Attributes:
        lesson: the samples, as long as they are too few.
        learned: from them; a text where all outputs have to be kept, and why.
        token: names the samples of the last lesson, the same on all ranks that had it together.
    """

    loss_fn: Callable[..., Any]
    lesson: list[Call] = field(default_factory=list)
    learned: Learned | str | None = None
    token: str = ""

    def enough(self, calls: Sequence[Call]) -> bool:
        """Whether these and the samples of earlier calls suffice to learn from."""
        calls = self.learnable(calls)
        n = sum(call.n for call in calls)
        return n >= ENOUGH or (n >= FEWEST_ROWS and sum(size_of(call) for call in calls) >= LARGE)

    def learnable(self, calls: Sequence[Call]) -> list[Call]:
        """The samples of the shape that most have."""
        groups: dict[Any, list[Call]] = {}
        for call in [*self.lesson, *calls]:
            groups.setdefault(signature(call), []).append(call)
        return max(groups.values(), key=lambda group: sum(call.n for call in group), default=[])

    def study(self, calls: Sequence[Call], flags: tuple[bool, ...]) -> None:
        """Learn from samples, or lay them by where there are too few of them."""
        if self.enough(calls):
            self.learned, self.lesson = learn(self.loss_fn, join(self.learnable(calls)), flags), []
        else:
            self.lesson = [*self.lesson, *calls]

    def check(self) -> None:
        """Forget a loss that no longer takes its gradient the same way."""
        if isinstance(self.learned, Learned) and not self.learned.holds():
            self.forget()

    def forget(self) -> None:
        """The loss has changed: learn it anew."""
        self.learned, self.lesson, self.token = None, [], ""


_known: OrderedDict[Any, Known] = OrderedDict()


def known(loss_fn: Callable[..., Any]) -> Known:
    """What is known of a loss; a function made anew from the same code and the same variables is the same loss."""
    key = identity(loss_fn)
    found = _known.pop(key, None) or Known(loss_fn)
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
