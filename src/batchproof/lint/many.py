"""Many files, each with the rules that its folder's settings ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batchproof.lint.config import Settings, settings_of
from batchproof.lint.files import walk

Codes = tuple[str, ...]


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
    """The same for a text that would have this path."""
    return _task(path, settings_of()(path).with_options(select, ignore))


def _task(path: str, settings: Settings) -> Task:
    return Task(path, None if settings.excludes(path) else settings.codes(path))
