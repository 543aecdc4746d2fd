"""What was measured is kept, however a run ends: written as passes end, and shown when a signal ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from batchproof.errors import BatchproofError
from batchproof.report import save
from batchproof.scripts.run.result import ScriptRun

#: A part of the time that a run may spend on writing.
SHARE = 0.01
_ENDING = ("SIGTERM", "SIGHUP", "SIGXCPU")


class KeptResults:
    """Writes what was measured so far; a run that is killed leaves the passes that were complete."""

    def __init__(self, file: Path, result: Callable[[], ScriptRun]) -> None:
        self.file = file
        self.result = result
        self.process = os.getpid()
        self._next = 0.0

    def passed(self) -> None:
        """A pass has ended: write, the sooner the less time it takes."""
        now = time.monotonic()
        if now < self._next or os.getpid() != self.process:
            return
        with contextlib.suppress(Exception):  # a full disk is said at the end
            save.data(self.result(), self.file)
        end = time.monotonic()
        self._next = end + (end - now) / SHARE


class EndingSignals:
    """Lets a run say what it measured before a signal ends it, as it would have without us.

    Only where the script leaves the signal as it is; a process that is forked ends at once.
    """

    def __init__(self, last_words: Callable[[str], None]) -> None:
        self.last_words = last_words
        self.process = os.getpid()
        self.own: list[signal.Signals] = []

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """While the script runs."""
        for name in _ENDING:
            number = getattr(signal, name, None)
            with contextlib.suppress(ValueError, OSError):  # not in the main thread
                if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._end)
                    self.own.append(number)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._let_go)
        try:
            yield
        finally:
            self._let_go()

    def _let_go(self) -> None:
        for number in self.own:
            with contextlib.suppress(ValueError, OSError):
                if signal.getsignal(number) == self._end:
                    signal.signal(number, signal.SIG_DFL)

    def _end(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() == self.process:
            with contextlib.suppress(Exception):
                self.last_words(signal.Signals(number).name)
        os.kill(os.getpid(), number)


def write_at_end(result: ScriptRun, file: Path) -> str:
    """Write the results; what to say where that fails, which is no reason for the script to fail."""
    try:
        save.data(result, file)
    except BatchproofError as error:
        return f"batchproof: {error}; the results are not kept"
    return ""
