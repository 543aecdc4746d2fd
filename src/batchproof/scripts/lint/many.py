"""Many files, each with the rules that its folder's settings ask for, on all processors where that pays."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from batchproof.scripts.lint.config import Settings, settings_of
from batchproof.scripts.lint.files import walk

Codes = tuple[str, ...]
Result = TypeVar("Result")

#: With fewer files than this, starting processes takes longer than they save.
WORTH_PROCESSES = 60
_AT_ONCE = 8


@dataclass(frozen=True)
class Task:
    """A file to lint.

    Attributes:
        path: the file, as it is shown.
        codes: the rules that it is held against; None where the settings exclude it.
    """

    path: str
    codes: frozenset[str] | None


def tasks(paths: Iterable[str], select: Codes, ignore: Codes) -> Iterator[Task]:
    """The files under these paths; the options have the last word over the settings.

    Raises:
        BatchproofError: there is no such file, or a pyproject.toml says something that is not understood.
    """
    settings_at = settings_of()
    for path in walk(paths):
        yield _task(path, settings_at(path).with_options(select, ignore))


def task(path: str, select: Codes, ignore: Codes) -> Task:
    """What to do with a text that would have this path."""
    return _task(path, settings_of()(path).with_options(select, ignore))


def _task(path: str, settings: Settings) -> Task:
    return Task(path, None if settings.excludes(path) else settings.codes(path))


def each(work: Callable[[Task], Result], todo: Sequence[Task]) -> Iterator[Result]:
    """What a function of a module's top level makes of each task, in their order."""
    if len(todo) < WORTH_PROCESSES or (os.cpu_count() or 1) == 1:
        yield from map(work, todo)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # a caller's threads and locks stay out of what is started anew; Ctrl-C is the parent's to answer
    ignored = (signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=signal.signal, initargs=ignored)
    try:
        yield from pool.map(work, todo, chunksize=_AT_ONCE)
    finally:
        pool.shutdown(cancel_futures=True)
