"""Processes that make runs, a few at a time.  Knows jobs and statuses, and nothing of what a run measures."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from batchproof.errors import BatchproofError
from batchproof.scripts.compare.descendants import descendants


class Workers:
    """Servers, each of which makes one run at a time.

    Args:
        count: how many.
        environment: of the processes.
    """

    def __init__(self, count: int, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._ended = False
        self._servers: list[_Server] = []
        #: A place without a server has none yet, or no more; the one that was busy last is ready first.
        self._idle: queue.LifoQueue[_Server | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)

    def run(self, job: Path, timeout: float | None) -> int | None:
        """Make a run on the next idle server; its exit status, negative for a signal, None past the timeout."""
        server = self._idle.get()
        try:
            if server is None or not server.is_alive:
                if self._ended:
                    return 1
                server = _Server(self._environment)
                self._servers.append(server)
            return server.run(job, timeout)
        finally:
            self._idle.put(server)

    def end(self) -> None:
        """End every process, and what it started, at once."""
        self._ended = True
        for server in list(self._servers):
            server.end()


class _Server:
    """One process and, while it works, its fork; both in a group of their own, so that Ctrl-C does not reach them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "batchproof.scripts.compare.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            start_new_session=True,
        )
        self._is_ready = self._is_ended = False

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def run(self, job: Path, timeout: float | None) -> int | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self._is_ready:  # importing torch is not the run's time
            self._is_ready = bool(self._process.stdout.readline())
            if not self._is_ready and not self._is_ended:
                raise BatchproofError(f"no run can be made: {self._last_words()}")
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.end()

        clock = threading.Timer(timeout, give_up) if timeout is not None else None
        try:
            if clock is not None:
                clock.start()
            self._process.stdin.write(f"{job}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except (OSError, ValueError):  # it was ended
            answer = ""
        finally:
            if clock is not None:
                clock.cancel()
        if late.is_set() and clock is not None:
            clock.join()  # it still ends the processes
            return None
        return int(answer) if answer.strip() else self._process.wait() or 1

    def _last_words(self) -> str:
        """Why the process ended before it was ready."""
        status = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"{sys.executable} ended with status {status}"

    def end(self) -> None:
        self._is_ended = True
        started = descendants(self._process.pid)  # some may be in groups of their own
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        for number in started:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def slots(count: int, environment: Mapping[str, str]) -> Iterator[Workers]:
    """Slots that are ended whatever happens."""
    found = Workers(count, environment)
    try:
        yield found
    finally:
        found.end()
