"""The processes that a process started, and those that they did, whatever session they are in."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

#: How long to wait for processes that were killed to be gone.
PATIENCE = 2.0


def descendants(process: int) -> list[int]:
    """All of them, by number; none where the system does not list its processes in files."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # the name, in brackets, may hold anything
            parent = int(entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found, waiting = [], [process]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def end_descendants(process: int) -> None:
    """Kill them until there are none: one that is being killed may still start another."""
    deadline = time.monotonic() + PATIENCE
    while (found := descendants(process)) and time.monotonic() < deadline:
        for number in found:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        if process == os.getpid():
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        time.sleep(0.01)
