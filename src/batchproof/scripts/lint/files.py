"""The files that are to be linted, in an order that does not change."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from batchproof.errors import BatchproofError

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
