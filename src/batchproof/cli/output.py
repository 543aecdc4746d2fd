"""What a command shows: how far it has come, on stderr; the report on stdout, and as files where they are asked for."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from batchproof.report.result import Result

INTERRUPTED = 130


@dataclass(frozen=True)
class Output:
    """What was asked for.

    A file that cannot be written is refused here, before the work for it begins.
    """

    as_json: bool
    html: Path | None
    png: Path | None
    data: Path | None = None
    is_verbose: bool = False
    is_quiet: bool = False
    hint: bool = True  # whether the report ends with what -v adds
    is_error: bool = False  # whether what is printed goes to stderr, where stdout is somebody else's

    def __post_init__(self) -> None:
        from batchproof.report import save

        for path in (self.html, self.png, self.data):
            if path is not None:
                save.writable(path)
        if self.png is not None:
            from batchproof.report.png import needed

            needed()

    def absolute(self) -> Output:
        """With files that are the same ones in any directory."""
        html, png = (path.absolute() if path is not None else None for path in (self.html, self.png))
        return replace(self, html=html, png=png)

    def give(self, measure: Callable[[], Any]) -> int:
        """Print and save the result that is measured, and give the exit status; the user's own prints go to stderr."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found = measure()
        except SystemExit as error:
            raise BatchproofError(f"the target ended Python, by exit({error.code!r}): take that out of it") from error
        self.show(found)
        return INTERRUPTED if getattr(found, "interrupted", False) else int(found.exit_status)

    def show(self, found: Result) -> None:
        """Print a result, and save it."""
        if self.as_json:
            click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False), err=self.is_error)
        else:
            from rich.console import Console

            from batchproof.report.forms import show

            console = Console(stderr=self.is_error)
            show(found, console, is_verbose=self.is_verbose, is_quiet=self.is_quiet, hint=self.hint)
        from batchproof.report import save

        for path, written in ((self.data, save.data), (self.html, save.html), (self.png, save.png)):
            if path is not None:
                written(found, path)
                click.echo(f"wrote {path}", err=True)


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
