"""Ctrl-C at any moment: what is done is kept and right, nothing hangs, and simulate works the next time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import batchproof as bp
from batchproof.simulation import Simulation
from simulated import near, run

SIZES = [1, 3, 50]


def rmse(e: Tensor) -> Tensor:
    return e.square().mean().sqrt()


def stop_at(call: int) -> Callable[[str, float, float], None]:
    calls = 0

    def progress(text: str, done: float, total: float) -> None:
        nonlocal calls
        calls += 1
        assert text and 0 <= done <= total
        if calls == call:
            raise KeyboardInterrupt

    return progress


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "direct": (rmse, {}),
    "drawn": (rmse, {"direct": False, "threads": 2}),
    "called": (lambda e: e.median(), {"batches": 5}),
    "long": (rmse, {"errors": "laplace", "batch_sizes": [2, 70_000], "batches": 4, "threads": 3}),
}


@pytest.mark.parametrize("case", CASES)
def test_at_every_call_of_progress(case: str) -> None:
    fn, options = CASES[case]
    options = {"batch_sizes": [1, 50], "batches": 7, **options}
    calls = []
    whole = bp.simulate(fn, **options, progress=lambda *what: calls.append(what))
    assert calls[-1][1] == calls[-1][2]
    before = threading.active_count()
    for call in range(1, len(calls) + 1):
        try:
            part = bp.simulate(fn, **options, progress=stop_at(call))
        except KeyboardInterrupt:
            assert not any(done for _, done, _ in calls[: call - 1]), f"rows were lost at call {call}"
            continue
        assert threading.active_count() == before
        kept(part, whole, call == len(calls))
    assert bp.simulate(fn, **options).rows == whole.rows


def kept(part: Simulation, whole: Simulation, complete: bool) -> None:
    """Complete rows are the same, and the last one has fewer batches."""
    assert part.interrupted or (complete and part.rows == whole.rows)
    assert part.rows[:-1] == whole.rows[: len(part.rows) - 1]
    last, full = part.rows[-1], whole.rows[len(part.rows) - 1]
    assert last.size == full.size and 0 < last.batches <= full.batches
    if last.batches == full.batches:
        assert last.mean == full.mean
    assert last.undefined == 0 and last.pooled_samples <= last.size * last.batches
    assert abs(last.mean.value - full.mean.value) < 6 * (
        full.mean.standard_error * (full.batches / last.batches) ** 0.5
    )
    assert str(part) and part._repr_html_() and part.to_dict()


def test_in_the_middle_of_a_size() -> None:
    part = run(None, "normal", SIZES, 200, progress=stop_at(1 + 20 + 1 + 5), seed=3)
    whole = run(None, "normal", SIZES, 200, seed=3)
    assert part.interrupted and [row.batches for row in part.rows] == [200, 50]
    assert part.rows[0] == whole.rows[0]
    assert near(part.rows[1].mean, 92.13) and near(part.rows[1].pooled, 100)


def test_a_function_that_is_interrupted() -> None:
    """Ctrl-C that arrives in the user's own code."""
    for when in (1, 30, 140, 141, 200, 290):
        calls = 0

        def fn(e: Tensor, when: int = when) -> float:
            nonlocal calls
            calls += len(e) in (1, 3, 50)
            if calls == when:
                raise KeyboardInterrupt
            return float(e.abs().mean())

        try:
            part = run(fn, "normal", SIZES, 100)
        except KeyboardInterrupt:
            assert when < 40
            continue
        assert part.interrupted
        assert all(row.batches == 100 for row in part.rows[:-1])
        assert near(part.rows[0].mean, 79.79)


def test_an_exception_of_progress_is_the_callers() -> None:
    def progress(text: str, done: float, total: float) -> None:
        if done:
            raise LookupError("theirs")

    before = threading.active_count()
    for options in ({}, {"direct": False}):
        with pytest.raises(LookupError):
            run(None, "normal", SIZES, 200, progress=progress, **options)
    assert threading.active_count() == before
    assert len(run(None, "normal", SIZES, 50).rows) == 3


SIGNALS = """
import os, random, signal, sys, threading, time
import torch, batchproof

def rmse(e):
    return e.square().mean().sqrt()

def later(delay):
    thread = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    thread.daemon = True
    thread.start()
    return thread

random.seed(0)
handler = signal.getsignal(signal.SIGINT)
for options in ({}, {"direct": False}, {"fn": lambda e: e.median(), "batches": 150}):
    options = {"fn": rmse, "batch_sizes": [1, 3, 50], "batches": 2000, **options}
    begun = time.perf_counter()
    whole = batchproof.simulate(**options)
    took = time.perf_counter() - begun
    for _ in range(ROUNDS):
        found = timer = None
        try:
            timer = later(random.uniform(0, 1.1 * took))
            found = batchproof.simulate(**options)
            timer.join()
            time.sleep(0.002)
        except KeyboardInterrupt:
            pass
        while timer is None or timer.is_alive():
            try:
                timer.join()
                time.sleep(0.002)
            except KeyboardInterrupt:
                pass
        if found is not None:
            assert found.interrupted or len(found.rows) == 3, "rows are missing, and nothing says so"
            for a, b in zip(found.rows, whole.rows):
                if a.batches == b.batches:
                    assert a == b, (a, b)
                else:
                    assert a is found.rows[-1] or a == found.rows[-1]
                    assert a.undefined == 0 and a.batches < b.batches
                    room = 7 * b.mean.standard_error * (b.batches / a.batches) ** 0.5
                    assert abs(a.mean.value - b.mean.value) < room, (a, b)
        assert signal.getsignal(signal.SIGINT) is handler
        assert torch.get_num_threads() == 1
    assert batchproof.simulate(**options).rows == whole.rows
    assert torch.ones(3).sum() == 3
print("done", threading.active_count())
"""


def in_a_process(code: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(bp.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def test_real_signals_at_random_moments() -> None:
    done = in_a_process(SIGNALS.replace("ROUNDS", "8"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["done", "1"]


LONG = """
import os, signal, threading, time
import batchproof
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started this in the background
batchproof.simulate(None, "laplace", [4], 20)
threading.Timer(SECONDS, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    found = batchproof.simulate(None, "laplace", [4, 10**10], 20, threads=2)
    print("table", found.interrupted, len(found.rows))
except KeyboardInterrupt:
    print("interrupted")
print(threading.active_count())
"""


def test_a_batch_that_takes_minutes_can_be_left() -> None:
    done = in_a_process(LONG.replace("SECONDS", "0.7"), 30)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["table True 1", "1"]


def test_in_another_thread_signals_do_not_arrive() -> None:
    found: list[Simulation] = []
    worker = threading.Thread(target=lambda: found.append(run(None, "laplace", SIZES, 50)))
    worker.start()
    worker.join()
    assert len(found[0].rows) == 3 and torch.get_num_threads() == 1
