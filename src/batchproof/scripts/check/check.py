"""The verb: a script's source is linted, one run is measured, and batch sizes are compared where they are given."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from batchproof.errors import BatchproofError, TorchMissing
from batchproof.ground.place import Place
from batchproof.ground.text import first_line
from batchproof.ground.torch_versions import require
from batchproof.scripts.check.exact_values import exact_values
from batchproof.scripts.check.result import ScriptCheck
from batchproof.scripts.compare import BLANK, compare, refuse_misspelt
from batchproof.scripts.lint import fix_commands, lint_path
from batchproof.scripts.run import load, path_of

Progress = Callable[[str, int, int], None]


def check(
    script: str,
    arguments: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    progress: Progress | None = None,
) -> ScriptCheck:
    """Say whether a script reports numbers that depend on the batch size by mistake.

    Args:
        script: its path.
        arguments: its own; ``{batch_size}`` in them is filled in.
        batch_sizes: what to compare, two or more; without any, nothing is compared.
        progress: called with what is done, how many steps are done, and how many there are.

    Raises:
        BatchproofError: there is no such script, or nothing says what ``{batch_size}`` is.
    """
    if not batch_sizes and any(BLANK in part for part in arguments):
        raise BatchproofError(f"{BLANK} needs sizes to fill in: --batch-size 16,64,128")
    refuse_misspelt(arguments)
    path = path_of(script, arguments)
    linted = lint_path(str(path))
    found = ScriptCheck(
        " ".join([script, *map(shlex.quote, arguments)]),
        linted.findings,
        obstacles=tuple(problem.reason for problem in linted.problems),
        fix=fix_commands(Place(script, finding.span.line) for finding in linted.findings),
        exact=() if linted.problems else exact_values(str(path)),
    )
    try:
        require("batchproof run")
    except TorchMissing as error:
        return _with_obstacle(found, f"it was not run: {first_line(error)}")
    if progress is not None:
        progress(f"running {script}", 0, 1)
    found = _with_run(found, script, _filled(arguments, batch_sizes))
    if batch_sizes and not found.interrupted:
        found = _with_comparison(found, script, arguments, batch_sizes, progress)
    return found


def _filled(arguments: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The script's arguments at the first batch size."""
    return [part.replace(BLANK, str(sizes[0])) if sizes else part for part in arguments]


def _with_obstacle(found: ScriptCheck, why: str) -> ScriptCheck:
    return replace(found, obstacles=(*found.obstacles, why))


def _with_run(found: ScriptCheck, script: str, arguments: Sequence[str]) -> ScriptCheck:
    """With what one run measured; what the script prints is kept out of the report."""
    with tempfile.TemporaryDirectory() as folder:
        file, printed = Path(folder) / "run.json", Path(folder) / "printed"
        command = [sys.executable, "-m", "batchproof", "run", "--quiet", "--output", str(file), script, *arguments]
        with printed.open("wb") as sink:
            child = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            try:
                child.wait()
            except KeyboardInterrupt:  # the child has it too, and hands in what it measured by then
                found = replace(found, interrupted=True)
                with contextlib.suppress(KeyboardInterrupt):
                    child.wait()
        if file.is_file():
            run = load(file)
            return replace(found, run=run, fix=found.fix or run.fix)
        said = printed.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    why = "interrupted" if found.interrupted else said[-1].removeprefix("error: ") if said else "it printed nothing"
    return _with_obstacle(found, f"it was not measured: {why}")


def _with_comparison(
    found: ScriptCheck, script: str, arguments: Sequence[str], sizes: Sequence[int], progress: Progress | None
) -> ScriptCheck:
    try:
        comparison = compare(script, sizes, arguments, progress=progress)
    except BatchproofError as error:
        return _with_obstacle(found, f"the batch sizes were not compared: {error}")
    fix = found.fix or comparison.fix
    return replace(found, comparison=comparison, fix=fix, interrupted=comparison.interrupted)
