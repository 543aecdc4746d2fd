"""Which rules are asked for, and where: ``[tool.batchproof.lint]`` of the nearest pyproject.toml, and the options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.scripts.lint.rules import CODES

KEYS = ("select", "ignore", "exclude", "per-file-ignores", "baseline")
FILE = "pyproject.toml"


@dataclass(frozen=True)
class Settings:
    """What one pyproject.toml asks for.

    Attributes:
        select: codes, or their beginnings; ``"BP"`` is all of them.
        ignore: the same, taken away again.
        exclude: patterns of files and folders that are not linted.
        per_file_ignores: patterns, and what is taken away in the files that they match.
        baseline: the file of the findings that are known.
        folder: what the patterns are relative to.
    """

    select: tuple[str, ...] = ("BP",)
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    baseline: Path | None = None
    folder: Path | None = None

    def excludes(self, path: str) -> bool:
        """Whether a file is left out."""
        return any(self._matches(path, pattern) for pattern in self.exclude)

    def codes(self, path: str) -> frozenset[str]:
        """The rules that a file is held against."""
        ignored = list(self.ignore)
        for pattern, codes in self.per_file_ignores:
            if self._matches(path, pattern):
                ignored += codes
        return frozenset(code for code in CODES if code.startswith(self.select) and not code.startswith(tuple(ignored)))

    def with_options(self, select: tuple[str, ...], ignore: tuple[str, ...]) -> Settings:
        """The command line has the last word: its selection replaces what the file selects and ignores."""
        chosen = replace(self, select=select, ignore=()) if select else self
        return replace(chosen, ignore=(*chosen.ignore, *ignore))

    def _matches(self, path: str, pattern: str) -> bool:
        """Whether a pattern matches the path from the settings' folder, one of its parents, or a name in it."""
        relative = os.path.relpath(path, self.folder or Path.cwd()).replace(os.sep, "/")
        names = relative.split("/")
        pattern = pattern.removeprefix("./").rstrip("/")
        if "/" not in pattern:
            return any(fnmatchcase(name, pattern) for name in names)
        return any(fnmatchcase("/".join(names[: index + 1]), pattern) for index in range(len(names)))


def codes_in(given: Iterable[str], what: str) -> tuple[str, ...]:
    """Codes and families as they were typed: ``BP101``, ``bp2``, ``ALL``.

    >>> codes_in(["BP101,bp2"], "--select")
    ('BP101', 'BP2')

    Raises:
        BatchproofError: no rule begins with one of them.
    """
    found = []
    for code in ",".join(given).replace(" ", ",").split(","):
        wanted = code.upper().replace("ALL", "BP")
        if wanted and not any(known.startswith(wanted) for known in CODES):
            raise BatchproofError(f"{what}: there is no rule {code}{meant(wanted, CODES)}")
        found += [wanted] if wanted else []
    return tuple(found)


def settings_of() -> Callable[[str], Settings]:
    """What gives a file's settings: those of the nearest pyproject.toml at or above it that has any."""
    known: dict[Path, Settings] = {}

    def of(path: str) -> Settings:
        folder = Path(path).absolute().parent
        asked = []
        for above in (folder, *folder.parents):
            if above in known:
                found = known[above]
                break
            asked.append(above)
            read = _read(above / FILE)
            if read is not None:
                found = read
                break
        else:
            found = Settings()
        known.update(dict.fromkeys(asked, found))
        return found

    return of


def _read(path: Path) -> Settings | None:
    """The settings in a file; None where it has none."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if b"batchproof" not in content:  # most have nothing to say, and a parser takes its time to load
        return None
    table = _toml(path, content).get("tool", {}).get("batchproof", {}).get("lint")
    if table is None:
        return None
    shown = _shown(path)
    if not isinstance(table, dict):
        raise BatchproofError(f"{shown}: tool.batchproof.lint is not a table")
    for key in table:
        if key not in KEYS:
            raise BatchproofError(f"{shown}: [tool.batchproof.lint] has no key {key}{meant(key, KEYS)}")
    select = codes_in(_texts(table, "select", shown), f"{shown}: select") if "select" in table else ("BP",)
    per_file = table.get("per-file-ignores", {})
    if not isinstance(per_file, dict):
        raise BatchproofError(f"{shown}: per-file-ignores takes a table of patterns, each with a list of codes")
    baseline = table.get("baseline")
    if baseline is not None and not isinstance(baseline, str):
        raise BatchproofError(f'{shown}: baseline takes a file, as in "lint-baseline.json", not {baseline!r}')
    return Settings(
        select=select,
        ignore=codes_in(_texts(table, "ignore", shown), f"{shown}: ignore"),
        exclude=tuple(_texts(table, "exclude", shown)),
        per_file_ignores=tuple(
            (pattern, codes_in(_texts(per_file, pattern, shown), f"{shown}: per-file-ignores")) for pattern in per_file
        ),
        baseline=None if baseline is None else path.parent / baseline,
        folder=path.parent,
    )


def _toml(path: Path, content: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise BatchproofError(
                f"{_shown(path)} cannot be read on Python 3.10 without tomli: pip install tomli"
            ) from None
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:
        raise BatchproofError(f"{_shown(path)}: {error}") from None


def _texts(table: dict[str, Any], key: str, shown: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise BatchproofError(f'{shown}: {key} takes a list of texts, as in ["BP101"], not {value!r}')
    return value


def _shown(path: Path) -> str:
    """From here where it lies below, in full elsewhere."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def meant(name: str, known: Sequence[str]) -> str:
    """What was probably meant, as the end of a sentence; nothing where no name is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""
