"""``python -m batchproof.scripts.compare.server``: imports torch once, then makes run after run, each in a process.

It says "ready"; then a line on stdin names a job's file, and the line that comes back is the run's exit status.  Every
run is a fork of this process, which has imported modules and done nothing else: as fresh as one that was started, and
seconds sooner.  Where there is no fork, the run is made in this process itself, and the next one in a new one.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TextIO


def serve() -> None:
    """Until stdin ends."""
    from batchproof.scripts.compare import child

    child.load()
    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    while line := sys.stdin.readline():
        path = line.strip()
        if not hasattr(os, "fork") or sys.platform == "darwin":  # there, libraries that torch uses do not survive it
            child.run(path)
            print(0, file=answers, flush=True)
            return
        print(_forked(path, answers), file=answers, flush=True)


def _forked(path: str, answers: TextIO) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the threads of a linear algebra library, idle
        process = os.fork()
    if process == 0:
        from batchproof.scripts.compare import child

        answers.close()
        child.run(path)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    serve()
