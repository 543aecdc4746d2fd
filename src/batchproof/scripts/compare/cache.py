"""Runs that were made before: kept under ``.batchproof/cache``, and used again while nothing that they read changed.

An entry's name says what was run: the script's text and that of the modules beside it that it imports, its arguments,
the setting, the versions.  The entry itself lists the data files that the run opened, with their sizes and times.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.report import save
from batchproof.report.result import from_plain
from batchproof.scripts.compare.record import RunOutcome, Setting
from batchproof.version import VERSION

FOLDER = Path(".batchproof") / "cache"
#: Raised when entries written before say something else than they do now.
FORMAT = 3
#: Bytes; a longer file is not read to see whether it changed.
LONG = 1 << 22


@dataclass(frozen=True)
class Cache:
    """The kept runs of one script with its arguments.

    Attributes:
        folder: where; None keeps nothing.
        key: of script and arguments.
    """

    folder: Path | None
    key: str = ""

    def read(self, setting: Setting) -> RunOutcome | None:
        """The run with this setting; None where there is none that still holds."""
        if self.folder is None:
            return None
        try:
            entry = json.loads(self._path(setting).read_text(encoding="utf-8"))
            if any(stamp(path) != seen for path, seen in entry["files"].items()):
                return None
            outcome: RunOutcome = from_plain(RunOutcome, entry["outcome"])
            return replace(outcome, cached=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # it was never there, or somebody has been at it: the run is made again

    def write(self, outcome: RunOutcome, files: dict[str, Any]) -> None:
        """Keep a run that came to its end; a cache that cannot be written is none."""
        if self.folder is None or outcome.failed:
            return
        entry = json.dumps({"outcome": asdict(outcome), "files": files})
        with contextlib.suppress(OSError, BatchproofError):
            self.folder.mkdir(parents=True, exist_ok=True)
            ignore = self.folder.parent / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            save.write(self._path(outcome.setting), entry.encode())

    def _path(self, setting: Setting) -> Path:
        assert self.folder is not None
        return self.folder / f"{digest([self.key, repr(setting)])}.json"


def key_of(script: Path, arguments: Sequence[str], more: Iterable[str] = ()) -> str:
    """What a run depends on, but for its setting and its data."""
    texts = [f"{path.name}\n{path.read_text(encoding='utf-8', errors='replace')}" for path in local_modules(script)]
    versions = [str(FORMAT), VERSION, _torch_version(), sys.version]
    return digest([*versions, str(script.resolve()), *arguments, "", *more, "", *texts])


def stamp(path: str) -> list[int | str] | None:
    """By which a file that changed is known: its content, or its time where it is long; None where there is no file."""
    file = Path(path)
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size > LONG:
            return [status.st_size, status.st_mtime_ns]
        return [status.st_size, hashlib.sha256(file.read_bytes()).hexdigest()]
    except OSError:
        return None


def local_modules(script: Path) -> list[Path]:
    """The script, and every module beside it that it imports, in turn."""
    found: list[Path] = []
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.append(path)
            waiting += _imported(path, script.parent)
    return [found[0], *sorted(found[1:])]


def _imported(path: Path, root: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (file for alias in node.names for file in _files(root, alias.name))
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1] if node.level and node.level <= len(path.parents) else root
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
            yield from (file for name in names for file in _files(folder, name))


def _files(root: Path, name: str) -> Iterator[Path]:
    """A module's own file, and those of the packages that it lies in."""
    parts = [part for part in name.split(".") if part]
    for count in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:count])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                yield path


def digest(texts: Iterable[str]) -> str:
    """A short name for texts."""
    whole = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogateescape")
        whole.update(len(encoded).to_bytes(8, "big") + encoded)
    return whole.hexdigest()[:32]


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""
