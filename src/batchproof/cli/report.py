"""``batchproof report``."""

from __future__ import annotations

from pathlib import Path

import click

from batchproof.cli import options
from batchproof.cli.examples import REPORT
from batchproof.cli.output import Output


@click.command("report", epilog=REPORT)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@options.as_json
@options.html
@options.png
def command(file: Path | None, as_json: bool, html: Path | None, png: Path | None) -> int:
    """Print what `batchproof run` measured again, from the FILE that it wrote (.batchproof/run.json)."""
    from batchproof.scripts.run.result import DEFAULT, load

    output = Output(as_json, html, png)
    found = load(file or DEFAULT)
    output.give(found)
    return found.exit_status
