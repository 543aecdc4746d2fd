"""One run on several ranks of this machine: forks that find in their environment what ``torchrun`` puts there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.scripts.run import load

#: Seconds that ranks may go on when one of them has failed, and how often to look.
GRACE, MOMENT = 2.0, 0.02


def on_ranks(count: int, run: Callable[[], int], output: Path) -> int:
    """Make a run on several ranks; the first status that is not 0.

    Args:
        count: how many.
        run: what each of them does.
        output: what the first writes; where another rank fails, what that one wrote.
    """
    environment = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "TORCHELASTIC_RUN_ID": "batchproof",
    }
    os.environ.update(environment)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    running = [_forked(rank, run) for rank in range(count)]
    status = _waited(running)
    if status:
        _tell_of_failure(output)
    return status


def _forked(rank: int, run: Callable[[], int]) -> int:
    import torch

    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // int(os.environ["WORLD_SIZE"])))
        status = run()
    finally:
        os._exit(status)


def _waited(running: list[int]) -> int:
    """Until all have ended; when one fails, or the first is done, the others soon are ended.

    They may wait for one that failed, and torch may hang as it takes its group of processes apart.
    """
    leader, first, until, is_late = running[0], 0, float("inf"), False
    while running:
        for process in list(running):
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended:
                continue
            running.remove(process)
            code = os.waitstatus_to_exitcode(status)
            if process == leader or (code and not first):
                until = min(until, time.monotonic() + GRACE)
            first = first or (code if not is_late else 0)
        if time.monotonic() > until:
            for process in running:
                os.kill(process, signal.SIGKILL)
            is_late, until = True, float("inf")
        time.sleep(MOMENT)
    return first


def _tell_of_failure(output: Path) -> None:
    """Put the results of the rank whose script failed where those of the run are looked for."""
    for file in sorted(output.parent.glob(f"{output.stem}*{output.suffix}")):
        try:
            if (found := load(file)).failed or found.status:
                if file != output:
                    shutil.copyfile(file, output)
                return
        except BatchproofError:
            continue
    output.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
