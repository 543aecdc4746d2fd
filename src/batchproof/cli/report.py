"""``batchproof report``."""

from __future__ import annotations

from pathlib import Path

import click

from batchproof.cli import options
from batchproof.cli.output import Output


@options.examples_last
@click.command("report", short_help="Print the last run again")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@options.output
def command(file: Path | None, output: Output) -> int:
    """Print what `batchproof run` measured again, from the FILE that it wrote (.batchproof/run.json).

    Examples:
      batchproof report
      batchproof report results.json --html run.html --png run.png

    Exit status: 0 all measured numbers are exact, 1 one is not, 2 none could be measured.
    """
    from batchproof.scripts.run.result import DEFAULT, load

    return output.give(lambda: load(file or DEFAULT))
