"""What was learned of losses in earlier calls, so that a training loop learns each of them once."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchproof.gradients.accumulation.analyse import analyse
from batchproof.gradients.accumulation.analysis import LossAnalysis
from batchproof.gradients.accumulation.samples import enough, joinable, training_rows_of
from batchproof.ground.batch import Batch

#: Losses that are remembered. Each holds on to its function, and to what that closes over.
MOST = 8


@dataclass
class SeenFunction:
    """One loss function, the samples seen of it so far, and what was learned from them.

    Attributes:
        training_rows: the samples, as long as they are too few.
        analysis: of them; a text where all outputs have to be kept, and why.
        token: names the samples that it was last learned from, the same on all ranks that learned it together.
    """

    loss_fn: Callable[..., Any]
    training_rows: list[Batch] = field(default_factory=list)
    analysis: LossAnalysis | str | None = None
    token: str = ""

    def enough(self, calls: Sequence[Batch]) -> bool:
        """Whether these and the samples of earlier calls suffice to learn from."""
        calls = [*self.training_rows, *calls]
        return enough(*calls) if joinable(calls) else enough(training_rows_of(calls))

    def study(self, calls: Sequence[Batch], flags: tuple[bool, ...]) -> None:
        """Learn from samples; or lay them by where there are too few of them, but can be put together without that."""
        calls = [*self.training_rows, *calls]
        training_rows = training_rows_of(calls)
        if enough(training_rows) or not joinable(calls):
            analysis = analyse(self.loss_fn, training_rows, flags)
            # a refusal on outputs that carry no gradient says nothing of others
            self.analysis, self.training_rows = (
                analysis if isinstance(analysis, LossAnalysis) or any(flags) else None,
                [],
            )
        else:
            self.training_rows = calls

    def check(self) -> None:
        """Forget a loss that no longer takes its gradient the same way."""
        if isinstance(self.analysis, LossAnalysis) and not self.analysis.holds():
            self.forget()

    def forget(self) -> None:
        """The loss has changed: learn it anew."""
        self.analysis, self.training_rows, self.token = None, [], ""


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
