"""From a command to its report: run the script, write what was measured, hand it over."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from batchproof.report import save
from batchproof.scripts.lint import fix_commands
from batchproof.scripts.run import execute
from batchproof.scripts.run.control import Control
from batchproof.scripts.run.execute import Ending
from batchproof.scripts.run.keeping import EndingSignals, KeptResults, write_at_end
from batchproof.scripts.run.processes import rank, ranked
from batchproof.scripts.run.result import DEFAULT, Epoch, MeasuredAccumulator, ScriptRun
from batchproof.scripts.run.session import Session

Show = Callable[[ScriptRun], None]


def launch(
    typed: str,
    arguments: Sequence[str],
    as_module: bool,
    control: Control,
    output: Path | None = None,
    live: bool = False,
    show: Show | None = None,
) -> int:
    """Run a script, and give the exit status that it ends with.

    Args:
        typed: its path, or its name as a module.
        arguments: of the script.
        as_module: whether it is a module's name.
        control: what to hold fixed.
        output: where its results go; None for the usual file.
        live: whether each epoch gets a line on stderr.
        show: called with the results, before they are written: a full disk loses none of them.

    Raises:
        BatchproofError: it cannot be run, or the file that was asked for cannot be written.
    """
    target = execute.module(typed, arguments) if as_module else execute.script(typed, arguments)
    file = ranked((output or DEFAULT).absolute())  # the script may change its directory
    if output is None:
        _make_folder(file)
    else:
        save.writable(file)
    session = Session(target, control, _live_on(sys.stderr) if live else None)

    def finish(ending: Ending) -> None:
        result = session.result(ending)
        result = replace(result, fix=fix_commands(row.place for row in result.wrong))
        try:
            if show is not None and rank() == 0:
                show(result)
        finally:
            problem = write_at_end(result, file)
            if problem:
                print(problem, file=sys.stderr)

    def last_words(name: str) -> None:
        finish(Ending(128 + signal.Signals[name], name))

    if show is None:  # another part of the program waits for the whole of it
        ending = session.run(file)
    else:
        session.on_pass = KeptResults(file, session.result_so_far).passed
        with EndingSignals(last_words).watched():
            ending = session.run(file)
    _flush()
    if os.getpid() != session.process:
        return ending.status  # a process that the script forked, and that came to the script's end
    finish(ending)
    if ending.interrupted:
        _die_of_interrupt()
    return ending.status


def _make_folder(file: Path) -> None:
    """Where it cannot be made the script runs all the same, and in the end it is said that nothing is kept."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)


def _flush() -> None:
    """What the script printed comes first; it may have closed its stdout, or nobody may read it any more."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()


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
