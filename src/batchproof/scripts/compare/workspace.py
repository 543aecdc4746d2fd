"""A run's own view of the script's folder: what it writes there is no other run's, and is gone when the run is over.

On Linux a run sees the folder through an overlay in a mount namespace of its own: every path is as it was, nothing is
copied, and what is written goes elsewhere, whoever writes it: Python, C code, or a program that the script starts.
Where the system does not allow that, the run works in a copy.  A folder that is too large to copy is shared, and the
runs are made one after the other.

``python -m batchproof.scripts.compare.workspace FOLDER ROOT...`` ends with 0 where an overlay is allowed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: How a run is kept from the folder: see above.
Kind = Literal["overlay", "copy", "shared"]

#: What may be copied for each run: files, and bytes.
MOST_FILES, MOST_BYTES = 20_000, 1 << 29
#: Folders of tools: they are linked to, not copied.
TOOLS = (".git", ".hg", ".batchproof", "node_modules")

_NEW_NAMESPACE, _NEW_USER = 0x00020000, 0x10000000  # unshare(2)
_RECURSIVE, _PRIVATE = 0x4000, 0x40000  # mount(2)
_CAPABILITIES = 0x20080522  # capget(2): the version whose sets are of 64 bits


@dataclass(frozen=True)
class Workspace:
    """How runs are kept apart.

    Attributes:
        roots: the folders that each has for itself.
        kind: how.
    """

    roots: tuple[Path, ...] = ()
    kind: Kind = "shared"


def roots_of(script: Path | None) -> tuple[Path, ...]:
    """The folders that are a run's own: the repository, or else the folder, of this directory and of the script."""
    here = _top(Path.cwd())
    beside = _top(script.resolve().parent) if script is not None else here
    if beside.is_relative_to(here):
        return (here,)
    return (beside,) if here.is_relative_to(beside) else (here, beside)


def _top(folder: Path) -> Path:
    return next((above for above in (folder, *folder.parents) if (above / ".git").exists()), folder)


def kind_of(roots: Sequence[Path], jobs: int) -> Kind:
    """How runs can be kept apart here.

    Args:
        roots: folders that each run is to have for itself.
        jobs: how many runs go on at once.
    """
    if _overlay_is_allowed(roots):
        return "overlay"
    size = _size(roots)
    room = shutil.disk_usage(tempfile.gettempdir()).free
    return "copy" if size is not None and size * jobs < room / 2 else "shared"


def _overlay_is_allowed(roots: Sequence[Path]) -> bool:
    if sys.platform != "linux":
        return False
    with tempfile.TemporaryDirectory(prefix="batchproof-") as layers:
        asked = [sys.executable, "-m", __name__, layers, *map(str, roots)]
        return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def _size(roots: Sequence[Path]) -> int | None:
    """Of all files that a copy would take; None where they are too many, or too large."""
    files = size = 0
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if not _is_of_tools(Path(folder, name))]
            files += len(names)
            size += sum(_length(os.path.join(folder, name)) for name in names)
            if files > MOST_FILES or size > MOST_BYTES:
                return None
    return size


def _length(file: str) -> int:
    try:
        return os.lstat(file).st_size
    except OSError:
        return 0


def _is_of_tools(folder: Path) -> bool:
    return folder.name in TOOLS or (folder / "pyvenv.cfg").is_file()


# ---------------------------------------------------------------------- in the process that makes the run


def overlay(roots: Sequence[str], layers: str) -> None:
    """From now on, this process and those that it starts write to the layers instead of to the roots.

    Raises:
        OSError: that is not allowed here.
    """
    for root in roots:
        _refuse_what_an_overlay_hides(root, layers)
    here = os.getcwd()
    libc = ctypes.CDLL(None, use_errno=True)
    is_own_user = libc.unshare(_NEW_NAMESPACE) != 0
    if is_own_user:
        _enter_user_namespace(libc)
    _check(libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None))
    for number, root in enumerate(roots):
        upper, work = (os.path.join(layers, f"{number}.{name}") for name in ("upper", "work"))
        os.makedirs(upper)
        os.makedirs(work)
        options = f"lowerdir={root},upperdir={upper},workdir={work}" + (",userxattr" if is_own_user else "")
        _check(libc.mount(b"overlay", os.fsencode(root), b"overlay", 0, os.fsencode(options)))
    if is_own_user:
        _drop_rights(libc)
    os.chdir(here)  # the folder that we were in lies below the overlay


def _refuse_what_an_overlay_hides(root: str, layers: str) -> None:
    """Other file systems below the folder; and names that a mount's options cannot hold."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        points = [line.split()[4] for line in mounts]
    inside = root.rstrip("/") + "/"
    if any(point.startswith(inside) for point in points) or layers.startswith(inside):
        raise OSError(f"other file systems lie below {root}")
    if set(root + layers) & set(",:\\"):
        raise OSError(f"a mount cannot name {root}")


def _enter_user_namespace(libc: ctypes.CDLL) -> None:
    """One in which this user, under the same number, may mount."""
    user, group = os.getuid(), os.getgid()
    _check(libc.unshare(_NEW_USER | _NEW_NAMESPACE))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path("/proc/self", name).write_text(text, encoding="utf-8")


def _drop_rights(libc: ctypes.CDLL) -> None:
    """What the namespace allows beyond what the user may do: a file that is read-only stays so."""
    header, nothing = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    _check(libc.capset(header, nothing))


def _check(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Copies:
    """Copies of the roots, and the paths in them.

    Args:
        roots: what is copied.
        layers: the folder that the copies go to.
    """

    def __init__(self, roots: Sequence[str], layers: str) -> None:
        self._pairs = [(root, os.path.join(layers, str(number), Path(root).name)) for number, root in enumerate(roots)]

    def make(self) -> None:
        """Copy; from now on this process, and those that it starts, find their modules in the copies."""
        here = os.getcwd()
        for root, copy in self._pairs:
            _copy(root, copy, root)
        os.chdir(self.there(here))
        sys.path[:] = map(self.there, sys.path)
        for name in ("PWD", "PYTHONPATH"):
            if name in os.environ:
                os.environ[name] = os.pathsep.join(map(self.there, os.environ[name].split(os.pathsep)))

    def there(self, path: str) -> str:
        """A path in a root as the one in its copy; any other as it is."""
        for root, copy in self._pairs:
            if path == root or path.startswith(root.rstrip(os.sep) + os.sep):
                return copy + path[len(root.rstrip(os.sep)) :]
        return path

    def back(self, text: str) -> str:
        """A text that names the copies, about the roots."""
        for root, copy in self._pairs:
            text = text.replace(copy, root)
        return text


def _copy(source: str, target: str, root: str) -> None:
    os.makedirs(target)
    for entry in os.scandir(source):
        place = os.path.join(target, entry.name)
        if entry.is_symlink():
            os.symlink(_outside(entry.path, root), place)
        elif entry.is_dir():
            if _is_of_tools(Path(entry.path)):
                os.symlink(entry.path, place)
            else:
                _copy(entry.path, place, root)
        elif entry.is_file():  # no sockets, no pipes
            shutil.copy2(entry.path, place)


def _outside(link: str, root: str) -> str:
    """What a link points to: a copy of it, if it is in the copy; the same file, if it leaves the root."""
    target = os.readlink(link)
    whole = os.path.normpath(os.path.join(os.path.dirname(link), target))
    return target if not os.path.isabs(target) and Path(whole).is_relative_to(root) else whole


def remove(folder: Path) -> None:
    """A folder and all in it, whatever a script has done to its modes."""

    def again(function: object, path: str, error: object) -> None:
        for name in (os.path.dirname(path), path):
            os.chmod(name, 0o700)
        shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.unlink(path)

    for _ in range(2):  # a process that was just ended may have written meanwhile
        if folder.exists():
            with contextlib.suppress(OSError):
                shutil.rmtree(folder, onerror=again)


if __name__ == "__main__":
    try:
        overlay(sys.argv[2:], sys.argv[1])
    except OSError as error:
        sys.exit(str(error))
