"""Options that several commands have, what they are read as, and the end of a command's help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from inspect import cleandoc
from pathlib import Path
from typing import Any, TypeVar

import click

from batchproof.cli.output import Output
from batchproof.errors import BatchproofError

Command = TypeVar("Command", bound=click.Command)
_File = click.Path(path_type=Path)


def examples_last(command: Command) -> Command:
    """End a command's help with what its docstring says from "Examples:" on, as it stands there."""
    text, _, rest = cleandoc(command.help or "").partition("\n\nExamples:\n")
    command.help = text
    # click wraps each paragraph that does not begin with this mark
    command.epilog = "\n\n".join(f"\b\n{part}" for part in f"Examples:\n{rest}".split("\n\n"))
    return command


def _columns(columns: Sequence[str]) -> dict[str, str]:
    """``pred=forecast`` as an entry.

    Raises:
        BatchproofError: there is no ``=`` in one.
    """
    for text in columns:
        if "=" not in text:
            raise BatchproofError(f"--column takes PARAM=COLUMN, not {text!r}")
    return dict(text.split("=", 1) for text in columns)


def _sizes(text: str | None) -> list[int] | None:
    """``1,16,1e9`` as numbers.

    Raises:
        BatchproofError: they are not whole numbers from 1 on.
    """
    if text is None:
        return None
    try:
        found = [_whole(part) for part in text.replace(" ", "").split(",")]
    except (ValueError, OverflowError):
        found = []
    if not found or min(found) < 1:
        raise BatchproofError(f"--batch-size takes whole numbers from 1 on, as in 16,64,128, not {text!r}")
    return found


def _whole(text: str) -> int:
    if not text.isascii():
        raise ValueError(text)
    try:
        return int(text)
    except ValueError:
        value = float(text)  # 1e9 reads better than its zeros
        if not value.is_integer():
            raise
        return int(value)


data = click.option(
    "--data", type=_File, help="csv, tsv, parquet, feather, npy, npz or pt; columns go to parameters by name."
)
columns = click.option(
    "--column",
    "columns",
    multiple=True,
    callback=lambda _, option, columns: _columns(columns),
    metavar="PARAM=COLUMN",
    help="Name a parameter's column yourself.",
)
mark = click.option(
    "--mark", type=click.IntRange(min=1), metavar="N", help="Your batch size: measured too, and pointed at."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
html = click.option("--html", type=_File, metavar="FILE", help="Save the report as an HTML page that stands alone.")
png = click.option("--png", type=_File, metavar="FILE", help="Save the report as a picture.")
data_file = click.option("--output", "data_file", type=_File, metavar="FILE", help="Save the result as JSON.")
verbose = click.option("-v", "--verbose", "is_verbose", is_flag=True, help="Show all figures and how they came about.")
quiet = click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print the verdict alone.")


def forms(command: Callable[..., int]) -> Callable[..., int]:
    """``-v``, ``-q``, ``--json``, ``--html`` and ``--png``, which the command is given as one Output."""

    @verbose
    @quiet
    @as_json
    @html
    @png
    @wraps(command)
    def with_output(
        *, is_verbose: bool, is_quiet: bool, as_json: bool, html: Path | None, png: Path | None, **choices: Any
    ) -> int:
        output = Output(as_json, html, png, is_verbose=is_verbose, is_quiet=is_quiet)
        return command(output=output, **choices)

    return with_output


def output(command: Callable[..., int]) -> Callable[..., int]:
    """The forms of a report, and ``--output`` for its data, which the command is given as one Output."""

    @data_file
    @wraps(command)
    def with_data(*, data_file: Path | None, output: Output, **choices: Any) -> int:
        return command(output=replace(output, data=data_file), **choices)

    return forms(with_data)


class _Renamed(click.Option):
    """An option with more spellings than its help shows: the older ones go on working."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help, with the first spelling alone."""
        spellings, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = spellings


def ranks(help_text: str) -> Callable[..., Any]:
    """``--ranks 1,2,4``, with what is said of it."""

    def counts(_: click.Context, option: click.Parameter, text: str | None) -> list[int]:
        parts = [part.strip() for part in (text or "").split(",") if part.strip()]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise click.BadParameter("numbers of processes, as in --ranks 1,2,4", param=option)
        return [int(part) for part in parts]

    return click.option("--ranks", "ranks", callback=counts, metavar="N,N,...", help=help_text)


def batch_sizes(help_text: str, *, required: bool = False) -> Callable[..., Any]:
    """``--batch-size 16,64,128``, with what is said of it."""
    return click.option(
        "--batch-size",
        "--batch-sizes",
        "batch_sizes",
        cls=_Renamed,
        callback=lambda _, option, text: _sizes(text),
        metavar="N,N,...",
        required=required,
        help=help_text,
    )
