"""Reports as files.  A file appears whole or not at all: a failure leaves what was there before."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from batchproof.report.result import Result


def html(found: Result, path: str | os.PathLike[str]) -> None:
    """Save a report as one HTML file that needs nothing else.

    >>> import batchproof, pathlib, tempfile, torch
    >>> from batchproof.report import save
    >>> found = batchproof.explain(lambda x: x.square().mean().sqrt(), torch.arange(100.0), mark=16)
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> save.html(found, folder / "report.html")
    >>> (folder / "report.html").read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'

    Raises:
        BatchproofError: the file cannot be written.
    """
    from batchproof.report.html import page

    writable(path)
    write(Path(path), page(found).encode())


def png(found: Result, path: str | os.PathLike[str]) -> None:
    """Save a report as a picture; needs matplotlib, as ``pip install "batchproof[plot]"`` brings it.

    Raises:
        BatchproofError: the file cannot be written, or matplotlib is not installed.
    """
    from batchproof.report.png import png as painted

    writable(path)
    write(Path(path), painted(found))


def data(found: Result, path: str | os.PathLike[str]) -> None:
    """Save what a report is made of, as JSON.

    Raises:
        BatchproofError: the file cannot be written.
    """
    writable(path)
    write(Path(path), (json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n").encode())


def writable(path: str | os.PathLike[str]) -> None:
    """Refuse a path that cannot be written, before the work for it begins.

    Raises:
        BatchproofError: why it cannot.
    """
    path = Path(path)
    if path.is_dir():
        raise BatchproofError(f"cannot write {path}: it is a directory")
    if not path.parent.is_dir():
        raise BatchproofError(f"cannot write {path}: there is no directory {path.parent}")
    if path.exists() and not os.access(path, os.W_OK):
        raise BatchproofError(f"cannot write {path}: permission denied")
    if not path.exists() and not os.access(path.parent, os.W_OK):
        raise BatchproofError(f"cannot write {path}: permission denied in {path.resolve().parent}")


def write(path: Path, content: bytes) -> None:
    """Put this into a file; a file that was there keeps its mode.

    Raises:
        BatchproofError: the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)  # a pipe or a device is not to be replaced by a file
            return
        # a link goes on pointing where it did
        path = path.resolve()
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(content)
            if path.exists():
                shutil.copymode(path, temporary)
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise BatchproofError(f"cannot write {path}: {error.strerror or error}") from error
