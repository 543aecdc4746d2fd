"""Work in threads, in order; and Ctrl-C: noted when it comes, and acted on where nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(Exception):
    """A thread was told to stop."""


def in_threads(
    work: Callable[[Item, threading.Event], Result], items: Iterable[Item], threads: int, check: Callable[[], None]
) -> Iterator[tuple[Item, Result]]:
    """What the work gives for each item, in order; a few items ahead of who asks, so that memory stays bounded.

    Args:
        work: is given an item, and an event that is set once nobody waits for what it gives.
        items: in this order.
        threads: how many.
        check: called while waiting; it may raise.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(threads)
    ahead = deque[tuple[Item, Future[Result]]]()
    try:
        for item in items:
            ahead.append((item, pool.submit(work, item, stop)))
            if len(ahead) > 2 * threads:
                first, future = ahead.popleft()
                yield first, _awaited(future, check)
        while ahead:
            first, future = ahead.popleft()
            yield first, _awaited(future, check)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _awaited(future: Future[Result], check: Callable[[], None]) -> Result:
    while not wait([future], timeout=0.2).done:
        check()
    return future.result()


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
