"""``python -m batchproof.scripts.compare.server``: imports torch once, then makes run after run, each in a process.

It says "ready"; then a line on stdin names a job's file, and the line that comes back is the run's exit status.  Every
run is a fork of this process, which has imported modules and done nothing else: as fresh as one that was started, and
seconds sooner.  Where there is no fork, the run is made in this process itself, and the next one in a new one.
What a run is told stands in a file, and so does what comes of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import tempfile
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TextIO

from batchproof.scripts.compare import workspace
from batchproof.scripts.compare.descendants import end_descendants
from batchproof.scripts.compare.ranks import on_ranks
from batchproof.scripts.compare.watch import FileWatch

#: How often to look whether a run is over.
MOMENT = 0.02
#: Of the name of a folder for temporary files: loader workers open sockets there, whose names have some 100 characters.
LONGEST = 72
#: prctl(2): to be killed when the parent ends; to be the parent of what descendants leave behind.
_KILL_WITH_PARENT, _ADOPT = 1, 36


def serve() -> None:
    """Until stdin ends: with it, whatever still runs, and the folder of the last run."""
    _prctl(_ADOPT, 1)
    load()
    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    path = ""
    while line := sys.stdin.readline():
        path = line.strip()
        if not hasattr(os, "fork") or sys.platform == "darwin":  # there, libraries that torch uses do not survive it
            run(path)
            print(0, file=answers, flush=True)
            return
        status = _forked(path, answers)
        end_descendants(os.getpid())
        if status is None:
            break
        print(status, file=answers, flush=True)
    if path:
        workspace.remove(Path(path).parents[1])  # whoever asked was killed, and cannot do it


def _forked(path: str, answers: TextIO) -> int | None:
    """The status of a run; None where stdin ended before it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the threads of a linear algebra library, idle
        process = os.fork()
    if process == 0:
        _prctl(_KILL_WITH_PARENT, signal.SIGKILL)
        answers.close()
        run(path)
        os._exit(0)
    while not _has_ended(process):
        if select.select([0], [], [], MOMENT)[0]:
            return None  # nothing is asked while a run goes on: whoever asks is gone
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _has_ended(process: int) -> bool:
    """Without taking its status."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def load() -> None:
    """Import what every run needs: the imports are the work."""
    import torch._dynamo  # noqa: F401 - the first optimizer brings it in, and it takes longer than the rest of torch

    for module in ("metric", "scripts.run.launch", "scripts.run.epochs"):
        import_module(f"batchproof.{module}")


def run(job: str) -> int:
    """Make the run that a job's file describes, and give its exit status.

    Its output goes to a log, and what it read and wrote outside of its folder to a list.
    """
    asked = json.loads(Path(job).read_text(encoding="utf-8"))
    place = Path(job).parent
    os.chdir(asked["folder"])
    _redirect(asked["log"], asked["terminal"])
    copies = _isolate(asked["kind"], asked["roots"], place)
    try:
        from batchproof.report.result import from_plain
        from batchproof.scripts.run import Control, launch_quietly

        run = asked["run"]
        arguments = [copies.there(argument) for argument in run["arguments"]]
        control, output = from_plain(Control, run["control"]), Path(run["output"])
        own = [str(place), *(asked["roots"] if asked["kind"] == "overlay" else ())]
        FileWatch(Path(asked["notes"]), own, [str(place), *asked["roots"]]).begin()
        typed = copies.there(run["typed"])

        def once() -> int:
            try:
                return launch_quietly(typed, arguments, run["as_module"], control, output)
            except SystemExit as ended:
                return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            finally:
                _flush()

        return on_ranks(run["ranks"], once, output) if run["ranks"] else once()
    finally:
        _flush()
        for file in (run["output"], asked["log"]):
            _rewrite(Path(file), copies)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _isolate(kind: workspace.Kind, roots: Sequence[str], place: Path) -> workspace.Copies:
    """Give this process folders of its own: what it writes is no other run's."""
    temporary, layers = place / "t", place / "layers"
    temporary.mkdir()
    layers.mkdir()
    if len(str(temporary)) <= LONGEST:
        os.environ["TMPDIR"] = str(temporary)
        tempfile.tempdir = None  # what was found before
    if kind == "overlay":
        workspace.overlay(roots, str(layers))
    copies = workspace.Copies(roots if kind == "copy" else (), str(layers))
    copies.make()
    return copies


def _rewrite(file: Path, copies: workspace.Copies) -> None:
    """Let a file speak of the user's folders, not of their copies."""
    with contextlib.suppress(OSError):
        text = file.read_text(encoding="utf-8", errors="replace")
        if copies.back(text) != text:
            file.write_text(copies.back(text), encoding="utf-8")


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


if __name__ == "__main__":
    serve()
