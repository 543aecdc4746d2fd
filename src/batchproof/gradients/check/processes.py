"""Processes of this machine that are joined by gloo, as the ranks of a training are: one call on each."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from batchproof.errors import BatchproofError

#: A rank that waits for another gives up after this time; and after a failure the others get a moment to notice.
WAIT, GRACE = timedelta(seconds=120), 5.0
POLL = 0.005
#: In the words of gloo, and of a process that was ended after another had failed.
LOST = "gloo"
APART = "ranks do not send and wait for the same things: one was left waiting"

Work = Callable[[], Any]


def on_ranks(work: Work, world: int) -> list[Any]:
    """What ``work`` gives in each of ``world`` new processes, in their order.

    They are copies of this one where that can be had (fork), so the work may be any function. Beside a GPU, whose
    threads a copy cannot go on with, they begin anew, and the work must be picklable.

    Raises:
        BatchproofError: It failed on a rank: which, and with what.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise BatchproofError(
            "ranks= starts processes of its own, and this one is a rank already: call it outside torchrun, or check "
            "without ranks= on every rank"
        )
    if not torch.distributed.is_available():
        raise BatchproofError("ranks= needs torch.distributed, which this torch was built without")
    folder = Path(tempfile.mkdtemp(prefix="batchproof-ranks-"))
    try:
        return _run(work, world, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(work: Work, world: int, folder: Path) -> list[Any]:
    can_fork = "fork" in multiprocessing.get_all_start_methods() and not torch.cuda.is_available()
    context: Any = multiprocessing.get_context("fork" if can_fork else "spawn")
    sys.stdout.flush()
    sys.stderr.flush()
    processes = [context.Process(target=_rank, args=(work, rank, world, str(folder))) for rank in range(world)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forking beside threads: a copy runs with one thread
            for process in processes:
                process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        _end(processes)
        raise BatchproofError(
            f"beside a GPU ranks= begins new processes, and what they are to do cannot be sent there ({error}): let "
            "step, wrap and model be made of functions and classes of a module, or hide the GPU (CUDA_VISIBLE_DEVICES=)"
        ) from None
    try:
        _wait(processes)
    finally:
        _end(processes)
    answers = [_answer(folder / f"{rank}", process, can_fork) for rank, process in enumerate(processes)]
    failures = [str(value) for failed, value in answers if failed]
    if failures:
        # a rank that failed by itself, and not because another had gone
        raise BatchproofError(next((text for text in failures if LOST not in text.lower()), f"{APART}: {failures[0]}"))
    if can_fork:
        _import_too(answers[0][1][1])
    return [value for _, (value, _) in answers]


def _import_too(names: list[str]) -> None:
    """What a copy of this process imported of torch, so that later copies have it: it takes them seconds."""
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)


def _wait(processes: list[Any]) -> None:
    """Until all have ended; once one has failed, not much longer."""
    end = float("inf")
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        if end == float("inf") and any(process.exitcode not in (None, 0) for process in processes):
            end = time.monotonic() + GRACE
        time.sleep(POLL)


def _end(processes: list[Any]) -> None:
    for process in processes:
        if process.pid is not None:
            if process.is_alive():
                process.kill()
            process.join()


def _answer(path: Path, process: Any, can_fork: bool) -> tuple[bool, Any]:
    """Whether a rank failed, and what it gave or with what it failed."""
    if path.exists():
        answer: tuple[bool, Any] = pickle.loads(path.read_bytes())
        return answer
    again = "" if can_fork else "; a script that starts new processes needs if __name__ == '__main__'"
    return True, f"rank {path.name} ended without a result (exit status {process.exitcode}){again}"


def _rank(work: Work, rank: int, world: int, folder: str) -> None:
    """One process: joins the others, works, and ends without what Python does at an exit: that is its origin's."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    status = 1
    before = set(sys.modules)
    try:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world, timeout=WAIT
        )
        value = work()
        imported = [name for name in sys.modules if name.startswith("torch.") and name not in before]
        answer: tuple[bool, Any] = (False, (value, imported))
        status = 0
    except BatchproofError as error:
        answer = (True, str(error))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller is told
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        answer = (True, f"rank {rank} of {world} failed at {where}: {type(error).__name__}: {error}")
    temporary = Path(folder) / f"{rank}.part"
    temporary.write_bytes(pickle.dumps(answer))
    temporary.rename(Path(folder) / f"{rank}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
