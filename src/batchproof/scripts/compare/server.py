"""``python -m batchproof.scripts.compare.server``: imports torch once, then makes run after run, each in a process.

It says "ready"; then a line on stdin names a job's file, and the line that comes back is the run's exit status.  Every
run is a fork of this process, which has imported modules and done nothing else: as fresh as one that was started, and
seconds sooner.  Where there is no fork, the run is made in this process itself, and the next one in a new one.
What a run is told stands in a file, and so does what comes of it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import sysconfig
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO


def serve() -> None:
    """Until stdin ends."""
    load()
    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    while line := sys.stdin.readline():
        path = line.strip()
        if not hasattr(os, "fork") or sys.platform == "darwin":  # there, libraries that torch uses do not survive it
            run(path)
            print(0, file=answers, flush=True)
            return
        print(_forked(path, answers), file=answers, flush=True)


def _forked(path: str, answers: TextIO) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the threads of a linear algebra library, idle
        process = os.fork()
    if process == 0:
        answers.close()
        run(path)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


#: Folders that no change is expected in.  Not all of Python's prefix: it may be /usr, and a project in /usr/src/app.
_INSTALLED = tuple(
    str(Path(folder)) + os.sep
    for folder in {path for name, path in sysconfig.get_paths().items() if name != "data"} | {"/proc", "/dev", "/sys"}
)


def load() -> None:
    """Import what every run needs: the imports are the work."""
    import torch._dynamo  # noqa: F401 - the first optimizer brings it in, and it takes longer than the rest of torch

    for module in ("metric", "scripts.run.launch", "scripts.run.epochs"):
        import_module(f"batchproof.{module}")


def run(job: str) -> int:
    """Make the run that a job's file describes, and give its exit status.

    Its output goes to a log, and which files it opened to a list: an earlier run holds while they did not change.
    """
    asked = json.loads(Path(job).read_text(encoding="utf-8"))
    os.chdir(asked["folder"])
    _redirect(asked["log"], asked["terminal"])
    opened = _Opened()
    sys.addaudithook(opened.note)
    try:
        from batchproof.report.result import from_plain
        from batchproof.scripts.run import Control, launch_quietly

        run = asked["run"]
        control, output = from_plain(Control, run["control"]), Path(run["output"])
        return launch_quietly(run["typed"], run["arguments"], run["as_module"], control, output)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        Path(asked["files"]).write_text(json.dumps(opened.stamps()), encoding="utf-8")
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()


def _redirect(log: str, terminal: Sequence[int] | None) -> None:
    """What the script prints goes to a log; what it reads is empty, and a terminal where compare itself has one."""
    os.dup2(_empty_terminal(terminal) if terminal else os.open(os.devnull, os.O_RDONLY), 0)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open as long as the process lives


def _empty_terminal(size: Sequence[int]) -> int:
    """A terminal of that size, at which nobody types: some scripts ask how wide theirs is."""
    import fcntl
    import struct
    import termios

    ours, script = os.openpty()
    fcntl.ioctl(script, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    os.write(ours, b"\x04" * 64)  # every read ends at once
    return script


class _Opened:
    """Which files a run read and did not write."""

    def __init__(self) -> None:
        self._read: dict[str, None] = {}
        self._written: set[str] = set()

    def note(self, event: str, details: tuple[Any, ...]) -> None:
        """What Python says before it opens a file."""
        if event != "open":
            return
        path, mode, flags = (*details, None, None, None)[:3]
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = _source_of(str(Path.cwd() / os.fsdecode(path)))
        if is_installed(name):
            return
        if _writes(mode, flags):
            self._written.add(name)
        else:
            self._read.setdefault(name)

    def stamps(self) -> dict[str, Any]:
        """By which a change of them will be known."""
        from batchproof.scripts.compare.cache import stamp

        names = [name for name in self._read if name not in self._written]
        return {name: found for name in names if (found := stamp(name)) is not None}


def is_installed(name: str) -> bool:
    """Whether a file is none of the script's own: a part of Python, of a package, or of the system."""
    return name.startswith(_INSTALLED)


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


if __name__ == "__main__":
    serve()
