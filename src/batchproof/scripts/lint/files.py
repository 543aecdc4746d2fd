"""The files that are to be linted, in an order that does not change, each with the rules that its folder asks for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from batchproof.errors import BatchproofError
from batchproof.scripts.lint.config import Settings, settings_of

SUFFIXES = (".py", ".ipynb")
#: Folders that hold what others wrote, or what a tool made.  Those whose name begins with a dot are skipped, too.
SKIPPED = frozenset({"__pycache__", "build", "dist", "env", "node_modules", "site-packages", "venv"})


def walk(paths: Iterable[str]) -> Iterator[str]:
    """The scripts and notebooks under these paths, each once; a file that is named is taken whatever its name.

    Raises:
        BatchproofError: there is no such file.
    """
    seen: set[str] = set()
    for path in paths:
        if not os.path.lexists(path):
            raise BatchproofError(f"there is no file or folder {path}{_near(path)}")
        for found in _under(path) if Path(path).is_dir() else (path,):
            shown = found.removeprefix(f".{os.sep}")
            real = os.path.realpath(found)
            if real not in seen:
                seen.add(real)
                yield shown


def _under(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError:  # a folder that may not be read holds nothing that could be linted
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in SKIPPED and not (Path(entry.path) / "pyvenv.cfg").exists():
                yield from _under(entry.path)
        elif entry.name.endswith(SUFFIXES) and entry.is_file():
            yield entry.path


def _near(path: str) -> str:
    """What may have been meant."""
    from difflib import get_close_matches

    folder = Path(path).parent
    if not folder.is_dir():
        return ""
    near = get_close_matches(Path(path).name, [entry.name for entry in folder.iterdir()], 1)
    return f"; did you mean {os.path.join(os.path.dirname(path), near[0])}?" if near else ""  # noqa: PTH118, PTH120


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
        baseline: the file of the findings that are known.
    """

    path: str
    codes: frozenset[str] | None
    baseline: Path | None = None


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
    return Task(path, None if settings.excludes(path) else settings.codes(path), settings.baseline)


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
