"""``batchproof lint``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof.cli import options
from batchproof.cli.output import progress
from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from batchproof.scripts.lint.files import Task
    from batchproof.scripts.lint.finding import Linted

FORMATS = ("text", "concise", "json", "github", "sarif")
FOUND = 1
_CODES: dict[str, Any] = {"multiple": True, "metavar": "CODE,..."}


@options.examples_last
@click.command("lint", short_help="Find averages over batches in source code")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--select", help="Only these rules; BP2 is all that begin so.", **_CODES)
@click.option("--ignore", help="Not these rules.", **_CODES)
@click.option("--fix", is_flag=True, help="Repair what can be repaired safely.")
@click.option("--diff", is_flag=True, help="Show what --fix would write, and write nothing.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Of the report.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--statistics", is_flag=True, help="Count the findings of each rule instead.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the report there.")
@click.option("--stdin-filename", metavar="PATH", help="What - stands for: shown, and its settings hold.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 whatever is found.")
@click.option("-q", "--quiet", is_flag=True, help="No closing line.")
def command(
    paths: Sequence[str],
    select: Sequence[str],
    ignore: Sequence[str],
    fix: bool,
    diff: bool,
    form: str,
    as_json: bool,
    statistics: bool,
    output: Path | None,
    stdin_filename: str | None,
    exit_zero: bool,
    quiet: bool,
) -> int:
    """Find where source averages over batches in a way that depends on the batch size.

    PATH is a script, a notebook, a folder of them, or - for stdin.  Nothing is imported or run.

    Examples:
      batchproof lint                                  (this folder)
      batchproof lint train.py notebooks/
      batchproof lint --diff train.py                  (what --fix would write)
      batchproof lint --select BP1,BP203 --format github src/
      batchproof lint - --stdin-filename train.py < train.py

    batchproof rule BP101 says what a code means; # noqa: BP101 silences it on a line.

    Exit status: 0 nothing found, 1 something found or a file that cannot be read,
    2 could not begin.
    """
    from batchproof.scripts.lint.config import codes_in
    from batchproof.scripts.lint.files import task, tasks

    chosen = codes_in(select, "--select"), codes_in(ignore, "--ignore")
    if output is not None:
        from batchproof.report.save import writable

        writable(output)
    if "-" in paths:
        if len(paths) > 1:
            raise BatchproofError("- is stdin, and comes alone")
        todo = [task(stdin_filename or "stdin.py", *chosen)]
        files = [_stdin(one, fix, diff) for one in todo if one.codes is not None]
    else:
        todo = list(tasks(paths or (".",), *chosen))
        files = list(_files([one for one in todo if one.codes is not None], fix, diff))
    _complain(files)
    if not diff:
        shown = _report(
            files,
            len(todo) - len(files),
            "statistics" if statistics else "json" if as_json else form,
            quiet,
            output is None,
        )
        _give(shown, output, to_stderr=fix and "-" in paths)
    found = any(linted.fixed if diff else linted.findings for linted in files)
    return FOUND if not exit_zero and (found or any(linted.problems for linted in files)) else 0


def _files(todo: Sequence[Task], fix: bool, diff: bool) -> Iterator[Linted]:
    """Lint the files, and repair them where that was asked for; a long list shows how far it has come."""
    from batchproof.scripts.lint.files import WORTH_PROCESSES, each

    with progress() if len(todo) >= WORTH_PROCESSES and not diff else nullcontext() as show:
        for done, (task, (before, after, linted)) in enumerate(
            zip(todo, each(_repaired if fix or diff else _read, todo), strict=True)
        ):
            if show is not None:
                show(f"{done:,} of {len(todo):,} files", done, len(todo))
            if diff:
                _show_diff(task.path, before, after)
            elif after != before:
                from batchproof.report.save import write

                write(Path(task.path), after)
            yield linted


def _read(task: Task) -> tuple[bytes, bytes, Linted]:
    from batchproof.scripts.lint.one_file import lint_path

    return b"", b"", lint_path(task.path, task.codes or ())


def _repaired(task: Task) -> tuple[bytes, bytes, Linted]:
    from batchproof.scripts.lint.one_file import repaired_path

    return repaired_path(task.path, task.codes or ())


def _stdin(task: Task, fix: bool, diff: bool) -> Linted:
    """The same for stdin; what is repaired goes to stdout."""
    from batchproof.scripts.lint.one_file import lint, repaired

    assert task.codes is not None
    content = sys.stdin.buffer.read()
    if not (fix or diff):
        return lint(task.path, content, task.codes)
    after, linted = repaired(task.path, content, task.codes)
    if diff:
        _show_diff(task.path, content, after)
    else:
        sys.stdout.buffer.write(after)
    return linted


def _show_diff(path: str, before: bytes, after: bytes) -> None:
    if before != after:
        from batchproof.scripts.lint.forms.text import diff as unified

        click.echo(unified(path, before, after), nl=False, color=_colour())


def _complain(files: Sequence[Linted]) -> None:
    """What could not be read."""
    for linted in files:
        for problem in linted.problems:
            place = problem.path if problem.line is None else f"{problem.path}:{problem.line}"
            click.echo(f"error: {place}: {problem.reason}", err=True)


def _report(files: Sequence[Linted], excluded: int, form: str, quiet: bool, on_screen: bool) -> str:
    """The report in one of its forms."""
    if form in ("json", "sarif", "github"):
        from batchproof.scripts.lint.forms import data

        return {"json": data.findings, "sarif": data.sarif, "github": data.github}[form](files)
    from batchproof.scripts.lint.forms import text

    if form == "statistics":
        lines = list(text.statistics(files))
    elif form == "concise":
        lines = list(text.concise(files))
    else:
        width = shutil.get_terminal_size((100, 24)).columns if on_screen else text.WIDEST
        lines = list(text.full(files, width))
    return "\n".join([*lines, *([] if quiet else [text.summary(files, excluded)])])


def _give(shown: str, output: Path | None, to_stderr: bool) -> None:
    if output is not None:
        from batchproof.report.save import write

        write(output, (click.unstyle(shown) + "\n").encode())
        click.echo(f"wrote {output}", err=True)
    elif shown:
        click.echo(shown, err=to_stderr, color=_colour())


def _colour() -> bool | None:
    """What the usual variables ask for; without them a terminal gets colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR") else None
