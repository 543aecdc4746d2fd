"""A line on stderr while a command works, where somebody is looking."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def progress(with_time: bool = False) -> Iterator[Any]:
    """What the verbs call with a word, a count and a total; None where nobody looks.

    Args:
        with_time: the work goes on evenly, so that the time left can be told.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(bar_width=24)]
    if with_time:
        columns += [TaskProgressColumn(), TimeRemainingColumn(), TextColumn("left")]
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("starting", total=None)
        yield lambda text, done, total: shown.update(task, description=text, completed=done, total=total)
