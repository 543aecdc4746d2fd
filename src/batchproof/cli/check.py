"""``batchproof check``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from batchproof.cli import options
from batchproof.cli.output import Output, progress

if TYPE_CHECKING:
    from batchproof.scripts.check.result import ScriptCheck


@options.examples_last
@click.command("check", short_help="Is a number of this script wrong? Where, and the fix")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@options.batch_sizes("Also run it at these sizes, and say why its numbers differ.")
@options.output
def command(script: str, arguments: Sequence[str], batch_sizes: list[int] | None, output: Output) -> int:
    """Say whether SCRIPT reports numbers that depend on the batch size by mistake, at which line, and how to fix it.

    Its source is linted, one run of it is measured, and where --batch-size gives sizes they are compared.  What the
    script prints is not shown.  Its own ARGUMENTS follow --; {batch_size} in them is filled in.

    Examples:
      batchproof check train.py
      batchproof check train.py --batch-size 16,64,128
      batchproof check train.py -- --epochs 1 --device cpu
      batchproof check train.py --batch-size 16,64 -- --bs {batch_size}
      batchproof check train.py --json > check.json

    More of each part: batchproof lint, batchproof run, batchproof compare.

    Exit status: 0 nothing is wrong, 1 a number depends on the batch size by mistake, 2 could not
    tell, 130 interrupted (what was done by then is shown).
    """
    status = output.give(lambda: _checked(script, arguments, batch_sizes or []))
    if not (output.as_json or output.is_quiet):
        _point_to_more(script, arguments, batch_sizes or [])
    return status


def _checked(script: str, arguments: Sequence[str], sizes: Sequence[int]) -> ScriptCheck:
    with progress() as shown:
        from batchproof.scripts.check.check import check

        return check(script, arguments, sizes, progress=shown)


def _point_to_more(script: str, arguments: Sequence[str], sizes: Sequence[int]) -> None:
    """The verbs that say all there is, each as a line to paste."""
    import shlex

    own = " ".join(map(shlex.quote, arguments))
    listed = ",".join(map(str, sizes or (16, 64, 128)))
    name = shlex.quote(script)
    lines = (
        f"batchproof lint {name}",
        f"batchproof run {name} {own}".rstrip(),
        f"batchproof compare {name} --batch-size {listed}{f' -- {own}' if own else ''}",
    )
    for index, line in enumerate(lines):
        click.echo(f"{'  More' if not index else '':8}{line}")
