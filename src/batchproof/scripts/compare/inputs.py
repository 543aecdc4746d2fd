"""What a run may depend on, seen from outside: files with their times, the environment, what is installed.

All of the script's folder counts, whether a run reads it or not: what C code, loader workers and other programs read,
and whether a file is there at all, cannot be heard from within Python.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batchproof.version import VERSION

#: By which a file or a folder that changed is known; None where there is none.
Stamp = Any
#: A folder with more files is not looked through.
MOST_FILES = 100_000
#: Bytes; of a longer file, the times count.
LONG = 1 << 16
#: Folders that a tool keeps, and that no script's number depends on, unless it is seen to read them.
IGNORED = frozenset({".git", ".hg", ".batchproof", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
#: Variables that differ from one shell to the next.
_OF_THE_SHELL = frozenset(
    "_ COLUMNS COLORTERM DISPLAY LINES LS_COLORS OLDPWD PS1 PS2 PWD SHLVL TERM TERM_PROGRAM TERM_PROGRAM_VERSION "
    "TERM_SESSION_ID TMUX TMUX_PANE STY WINDOW WINDOWID XAUTHORITY DBUS_SESSION_BUS_ADDRESS GPG_AGENT_INFO GPG_TTY "
    "SSH_AGENT_PID SSH_AUTH_SOCK SSH_CLIENT SSH_CONNECTION SSH_TTY INVOCATION_ID JOURNAL_STREAM".split()
)
_OF_SESSIONS = ("XDG_SESSION_", "PYTEST_", "BATCHPROOF_")


@dataclass(frozen=True)
class ReadFolders:
    """What lies in the folders that runs read, as it was at the start.

    Attributes:
        folders: which.
        own: files in them that are written by whoever asks.
        name: by which other contents are known; None where that is too much to look through.
        times: by which any change since the start is known.
    """

    folders: tuple[Path, ...]
    own: frozenset[str] = frozenset()
    name: str | None = None
    times: str | None = None

    def begin(self) -> ReadFolders:
        """As they are now."""
        times = snapshot(self.folders, self.own, stamp)
        name = snapshot(self.folders, self.own, content) if times is not None else None
        return replace(self, name=name, times=times)

    def hold(self) -> bool:
        """Whether they are as they were."""
        return self.name is not None and snapshot(self.folders, self.own, stamp) == self.times


def stamp(path: str) -> Stamp:
    """A file's size and times, the names in a folder with theirs; no content is read."""
    try:
        status = os.stat(path)
        if os.path.isdir(path):
            return sorted(_entry(entry) for entry in os.scandir(path) if entry.name not in IGNORED)
        return _times(status)
    except OSError:
        return None


def _entry(entry: os.DirEntry[str]) -> list[Any]:
    return [entry.name, *(_times(entry.stat()) if entry.is_file() else [])]


def _times(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def is_covered(file: str, roots: Iterable[str]) -> bool:
    """Whether `snapshot` looks at a file."""
    for root in roots:
        start = root.rstrip(os.sep) + os.sep
        if file == root or file.startswith(start):
            return not IGNORED & set(file[len(start) :].split(os.sep))
    return False


def content(path: str) -> Stamp:
    """What is in a short file, which may be written anew and be the same; of a longer one, its `stamp`."""
    try:
        status = os.stat(path)
        if status.st_size > LONG or not stat.S_ISREG(status.st_mode):
            return stamp(path)
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def snapshot(roots: Sequence[Path], own: Collection[str], about: Callable[[str], Stamp]) -> str | None:
    """A short name for all that lies in folders; None where that is too much to look through.

    Args:
        roots: the folders; a file among them counts, too.
        own: files that are written by whoever asks.
        about: what counts of each.
    """
    found: list[str] = []
    for file in _files(roots):
        if file not in own:
            found.append(file if file.endswith(os.sep) else f"{file} {about(file)}")
        if len(found) > MOST_FILES:
            return None
    return digest(sorted(found))


def _files(roots: Sequence[Path]) -> Iterator[str]:
    """Every file, and every folder, whose links are followed, once."""
    seen: set[str] = set()
    waiting = [str(root) for root in roots]
    while waiting:
        path = waiting.pop()
        if not os.path.isdir(path):
            yield path
            continue
        real = os.path.realpath(path)
        if real in seen or os.path.isfile(os.path.join(path, "pyvenv.cfg")):
            continue
        seen.add(real)
        yield path + os.sep
        try:
            waiting += [entry.path for entry in os.scandir(path) if entry.name not in IGNORED]
        except OSError:
            continue  # it cannot be read, not by a run either


def redirected() -> Iterator[Path]:
    """The files that this process prints to."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{stream}")
            if os.path.isfile(name):
                yield Path(name)


def environment() -> list[str]:
    """The variables that a script may read."""
    return sorted(
        f"{name}={value}"
        for name, value in os.environ.items()
        if name not in _OF_THE_SHELL and not name.startswith(_OF_SESSIONS)
    )


def installed() -> list[str]:
    """Every distribution, with its version, as its folder's name says it, and its time; and this one's own files."""
    found = [VERSION, sys.version, sys.executable]
    for folder in dict.fromkeys(sys.path):
        try:
            entries = [entry for entry in os.scandir(folder or ".") if entry.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        found += sorted(f"{entry.path} {entry.stat().st_mtime_ns}" for entry in entries)
    return [*found, str(snapshot([Path(__file__).parents[2]], (), stamp))]


def named_in(script: Path | None, arguments: Iterable[str]) -> list[Path]:
    """Files and folders elsewhere that the script's text or its arguments name."""
    texts = [
        *arguments,
        *(text for file in (local_modules(script) if script is not None else ()) for text in _texts(file)),
    ]
    found = (os.path.expanduser(part) for text in texts for part in (text, text.partition("=")[2]))
    return [Path(path).resolve() for path in dict.fromkeys(found) if _is_of_somebody(path)]


def _is_of_somebody(path: str) -> bool:
    """Whether there is such a file or folder, and it is neither one of the system's own nor one that we are in."""
    try:
        whole = os.path.realpath(path)
        return os.path.exists(whole) and whole.count(os.sep) > 1 and not Path.cwd().is_relative_to(whole)
    except ValueError:
        return False


def _texts(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 1000:
            yield node.value


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
            yield from (file for alias in node.names for file in _module_files(root, alias.name))
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1] if node.level and node.level <= len(path.parents) else root
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
            yield from (file for name in names for file in _module_files(folder, name))


def _module_files(root: Path, name: str) -> Iterator[Path]:
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
