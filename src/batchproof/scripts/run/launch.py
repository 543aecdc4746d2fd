"""From a command to its report: check what was asked for, run the script, write the results, show them on stderr."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from batchproof.errors import BatchproofError
from batchproof.report import save
from batchproof.scripts.run import execute
from batchproof.scripts.run.control import Control
from batchproof.scripts.run.processes import rank, ranked
from batchproof.scripts.run.result import DEFAULT, Epoch, MeasuredAccumulator, ScriptRun
from batchproof.scripts.run.session import Session


@dataclass(frozen=True)
class ReportOptions:
    """What a run is to hand over.

    Attributes:
        output: where its results go; None for the usual file.
        as_json: whether stderr gets JSON in place of the report.
        html: a page to save.
        png: a picture to save.
        live: whether each epoch gets a line.
        quiet: whether nothing but the file is wanted.
    """

    output: Path | None = None
    as_json: bool = False
    html: Path | None = None
    png: Path | None = None
    live: bool = False
    quiet: bool = False


def launch(typed: str, arguments: Sequence[str], as_module: bool, control: Control, asked: ReportOptions) -> int:
    """Run a script, and give the exit status that it ends with.

    Raises:
        BatchproofError: it cannot be run, or what was asked for cannot be written.
    """
    target = execute.module(typed, arguments) if as_module else execute.script(typed, arguments)
    output = ranked((asked.output or DEFAULT).absolute())  # the script may change its directory
    pages = [path.absolute() if path is not None else None for path in (asked.html, asked.png)]
    _writable(output, asked)
    session = Session(target, control, _live_on(sys.stderr) if asked.live else None)
    ending = session.run(output)
    sys.stdout.flush()
    if os.getpid() != session.process:
        return ending.status  # a process that the script forked, and that came to the script's end
    result = session.result(ending)
    save.data(result, output)
    if not asked.quiet and rank() == 0:
        _show(result, asked, pages, output)
    if ending.interrupted:
        _die_of_interrupt()
    return ending.status


def _writable(output: Path, asked: ReportOptions) -> None:
    """Refuse files that cannot be written, before the script runs."""
    if asked.output is None:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BatchproofError(
                f"cannot write {output}: {error.strerror or error}; name a file: --output FILE"
            ) from error
    for path in (output, asked.html, asked.png):
        if path is not None:
            save.writable(path)
    if asked.png is not None:
        from batchproof.report.png import needed

        needed()


def _show(result: ScriptRun, asked: ReportOptions, pages: list[Path | None], output: Path) -> None:
    from rich.console import Console

    from batchproof.report.forms import show

    if asked.as_json:
        print(json.dumps(result.to_dict(), indent=2, ensure_ascii=False), file=sys.stderr)
    else:
        print(file=sys.stderr)
        show(result, Console(stderr=True))
        print(
            f"\nbatchproof report{'' if asked.output is None else f' {asked.output}'}   shows this again",
            file=sys.stderr,
        )
    for path, saved in zip(pages, (save.html, save.png), strict=True):
        if path is not None:
            saved(result, path)
            print(f"wrote {path}", file=sys.stderr)


def _live_on(stream: TextIO) -> Callable[[MeasuredAccumulator, Epoch], None]:
    def live(row: MeasuredAccumulator, epoch: Epoch) -> None:
        from batchproof.scripts.run.document import live_line

        stream.write(f"{live_line(row, epoch)}\n")
        stream.flush()

    return live


def _die_of_interrupt() -> None:
    """As Python does after a KeyboardInterrupt that nobody caught: whoever started us sees how we ended."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
