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
from batchproof.ground.text import counted, on_one_line

if TYPE_CHECKING:
    from batchproof.scripts.lint.baseline import Baseline, KnownFinding
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
@click.option("--baseline", type=click.Path(path_type=Path), metavar="FILE", help="Report only what is not in it.")
@click.option(
    "--write-baseline", type=click.Path(path_type=Path), metavar="FILE", help="Write what is found there, as known."
)
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
    baseline: Path | None,
    write_baseline: Path | None,
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
      batchproof lint --write-baseline known.json src/ (then only new ones: --baseline known.json)
      batchproof lint --select BP1,BP203 --format github src/
      batchproof lint - --stdin-filename train.py < train.py

    batchproof rule BP101 says what a code means; # noqa: BP101 silences it on a line.

    Exit status: 0 nothing found, 1 something found or a file that cannot be read,
    2 could not begin.
    """
    from batchproof.scripts.lint.config import codes_in
    from batchproof.scripts.lint.files import task, tasks

    chosen = codes_in(select, "--select"), codes_in(ignore, "--ignore")
    _refuse(output, write_baseline, diff)
    if "-" in paths:
        if len(paths) > 1:
            raise BatchproofError("- is stdin, and comes alone")
        todo = [task(stdin_filename or "stdin.py", *chosen)]
    else:
        todo = list(tasks(paths or (".",), *chosen))
    asked = [one for one in todo if one.codes is not None]
    known = {} if write_baseline or diff else _baselines(asked, baseline)
    files = [_stdin(one, fix, diff) for one in asked] if "-" in paths else list(_files(asked, fix, diff))
    _complain(files)
    if write_baseline is not None:
        _write_baseline(write_baseline, asked, files)
        return FOUND if any(linted.problems for linted in files) and not exit_zero else 0
    files, stale = _marked(asked, files, baseline, known)
    if not diff:
        form = "statistics" if statistics else "json" if as_json else form
        shown = _report(files, stale, len(todo) - len(files), form, quiet, output is None)
        _give(shown, output, to_stderr=fix and "-" in paths)
        if stale and not quiet:
            _name_stale(stale)
    found = any(linted.fixed if diff else linted.new for linted in files)
    return FOUND if not exit_zero and (found or any(linted.problems for linted in files)) else 0


def _refuse(output: Path | None, write_baseline: Path | None, diff: bool) -> None:
    """Refuse what cannot be written, before the work for it begins."""
    if write_baseline is not None and diff:
        raise BatchproofError("--diff writes nothing, and --write-baseline does: give one of them")
    from batchproof.report.save import writable

    for path in (output, write_baseline):
        if path is not None:
            writable(path)


def _baselines(asked: Sequence[Task], named: Path | None) -> dict[Path, Baseline]:
    """The baselines of these files, by their paths: the one that was named, or what their settings say."""
    paths = {named} if named is not None else {one.baseline for one in asked}
    if not any(paths):
        return {}
    from batchproof.scripts.lint.baseline import read

    return {path: read(path) for path in paths if path is not None}


def _marked(
    asked: Sequence[Task], files: list[Linted], named: Path | None, known: dict[Path, Baseline]
) -> tuple[list[Linted], list[tuple[Baseline, KnownFinding]]]:
    """The files with their findings told as known or new, and the entries that nothing was found for."""
    if not known:
        return files, []
    from batchproof.scripts.lint.baseline import marked

    paths = [named or one.baseline for one in asked]
    used = [known[path] if path is not None else None for path in paths]
    return marked(zip(files, [one.codes or () for one in asked], used, strict=True))


def _write_baseline(path: Path, asked: Sequence[Task], files: Sequence[Linted]) -> None:
    from batchproof.report.save import write
    from batchproof.scripts.lint.baseline import content

    write(path, content(path, [(linted, one.codes or ()) for linted, one in zip(files, asked, strict=True)]))
    count = sum(len(linted.findings) for linted in files)
    click.echo(f"wrote {path}: {counted(count, 'finding')}", err=True)


def _name_stale(stale: Sequence[tuple[Baseline, KnownFinding]]) -> None:
    """What each baseline has and nothing was found for."""
    for file in dict.fromkeys(used.file for used, _ in stale):
        count = sum(entry.count for used, entry in stale if used.file == file)
        gone = f"{counted(count, 'finding')} {'is' if count == 1 else 'are'} gone"
        shown = os.path.relpath(file)
        click.echo(
            f"{gone} that {shown} has: --write-baseline {shown} drops {'it' if count == 1 else 'them'}", err=True
        )


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
            path = on_one_line(problem.path)
            place = path if problem.line is None else f"{path}:{problem.line}"
            click.echo(f"error: {place}: {problem.reason}", err=True)


def _report(
    files: Sequence[Linted],
    stale: Sequence[tuple[Baseline, KnownFinding]],
    excluded: int,
    form: str,
    quiet: bool,
    on_screen: bool,
) -> str:
    """The report in one of its forms."""
    if form in ("json", "sarif", "github"):
        from batchproof.scripts.lint.forms import data

        if form == "json":
            return data.findings(files, [entry for _, entry in stale])
        return data.sarif(files) if form == "sarif" else data.github(files)
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
