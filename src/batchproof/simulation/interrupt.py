"""Ctrl-C: noted when it comes, and acted on where nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def noted() -> Iterator[Callable[[], None]]:
    """Gives a check that raises KeyboardInterrupt once Ctrl-C was pressed; pressed again, it takes effect at once.

    In a thread other than the main one, signals never arrive, and the check does nothing.
    """
    seen = threading.Event()

    def check() -> None:
        if seen.is_set():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGINT)):
        yield check
        return

    def note(number: int, frame: object) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
