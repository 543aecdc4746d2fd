"""What a run reads, writes and asks for beyond its own folder, noted while it goes on, in all of its processes.

Python says what it is about to open, list or start (`sys.addaudithook`), and a forked loader worker says it too.  What
C code does by itself is not heard: for that, the whole of the script's folder counts as read (`inputs.py`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchproof.scripts.compare.inputs import Stamp, is_covered, stamp

#: Folders that no change is expected in.  Not all of Python's prefix: it may be /usr, and a project in /usr/src/app.
_INSTALLED = tuple(
    str(Path(folder)) + os.sep
    for folder in {path for name, path in sysconfig.get_paths().items() if name != "data"} | {"/proc", "/dev", "/sys"}
)
#: What a run may do whose result cannot be known from files: other programs read what they like.
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
_CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.truncate", "os.link", "os.symlink")


@dataclass(frozen=True)
class Noted:
    """What one run did beyond its own folder.

    Attributes:
        read: files and folders, each with the stamp that it had at first.
        written: files and folders.
        unknowable: why what it depends on cannot be known; empty where it can.
    """

    read: dict[str, Stamp] = field(default_factory=dict)
    written: tuple[str, ...] = ()
    unknowable: str = ""


def load(notes: Path) -> Noted:
    """What `FileWatch` noted in all processes of a run; what one wrote itself it need not have found."""
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else []
    read: dict[str, Stamp] = {}
    written: dict[str, None] = {}
    unknowable = ""
    for kind, what, *more in map(json.loads, lines):
        if kind == "read" and what not in written:
            read.setdefault(what, more[0])
        elif kind == "write":
            written[what] = None
        elif kind == "unknowable":
            unknowable = unknowable or what
    return Noted(read, tuple(written), unknowable)


class FileWatch:
    """Notes, from now on, for this process and those that it forks.

    Args:
        notes: the file that they go to.
        own: folders that the run has for itself, and that are gone after it.
        known: folders that `inputs.snapshot` looks through.
    """

    def __init__(self, notes: Path, own: Iterable[str], known: Iterable[str]) -> None:
        self._file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._own, self._known = tuple(own), tuple(known)
        self._noted: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """Listen."""
        from multiprocessing import util

        sys.addaudithook(self._hears)
        start: Any = util.spawnv_passfds  # Python does not say that it starts itself anew

        def spawnv_passfds(*details: Any) -> Any:
            self._note("unknowable", "it starts other programs")
            return start(*details)

        util.spawnv_passfds = spawnv_passfds  # type: ignore[assignment]

    def _hears(self, event: str, details: tuple[Any, ...]) -> None:
        with contextlib.suppress(Exception):  # what is raised here would stop the script
            if event == "open":
                path, mode, flags = (*details, None, None, None)[:3]
                self._touches("write" if _writes(mode, flags) else "read", path)
            elif event in ("os.listdir", "os.scandir"):
                self._touches("read", details[0] if details and details[0] is not None else ".")
            elif event in _CHANGES:
                for path in details[:2]:
                    self._touches("write", path)
            elif event in _PROGRAMS:
                self._note("unknowable", "it starts other programs")
            elif event == "socket.connect" and isinstance(details[1], tuple):
                self._note("unknowable", "it uses the network")

    def _touches(self, kind: str, path: object) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.path.join(os.getcwd(), os.fsdecode(path))
        if (kind, name) in self._noted:
            return
        self._noted.add((kind, name))
        real = os.path.realpath(_source_of(name))
        if is_installed(real):
            return
        if kind == "read" and not is_covered(real, self._known):
            self._note(kind, real, stamp(real))
        elif kind == "write" and not any(_is_below(real, folder) for folder in self._own):
            self._note(kind, real)

    def _note(self, *words: object) -> None:
        os.write(self._file, f"{json.dumps(words)}\n".encode("utf-8", "surrogatepass"))


def is_installed(name: str) -> bool:
    """Whether a file is none of the script's own: a part of Python, of a package, or of the system."""
    return name.startswith(_INSTALLED)


def _is_below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(folder.rstrip(os.sep) + os.sep)


def _source_of(name: str) -> str:
    """A module's source, not what was compiled from it."""
    if name.endswith(".pyc"):
        with contextlib.suppress(ValueError, NotImplementedError):
            return importlib.util.source_from_cache(name)
    return name


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
