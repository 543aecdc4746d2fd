"""``batchproof compare``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from batchproof.cli import options
from batchproof.cli.examples import COMPARE
from batchproof.cli.output import Output
from batchproof.cli.progress import progress
from batchproof.errors import BatchproofError

INTERRUPTED = 130


@click.command("compare", epilog=COMPARE)
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--batch-size", "batch_sizes", metavar="N,N,...", required=True, help="The sizes; the first is compared with."
)
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is the name of a module.")
@click.option("--report", metavar="NAME", help="The number that is meant.  [default: all that are found]")
@click.option("--epoch", type=int, metavar="N", help="The pass whose number is compared.  [default: the last]")
@click.option("--seeds", type=int, metavar="N", help="How many to repeat it for.  [default: 3, or 1 if it takes long]")
@click.option("--controls/--no-controls", default=True, help="Run it with something held fixed, too.  [default: yes]")
@click.option("--jobs", type=int, metavar="N", help="Runs at once.  [default: 1 on a GPU, otherwise up to 4]")
@click.option("--timeout", type=float, metavar="SECONDS", help="The most that one run may take.")
@click.option("--cache/--no-cache", default=True, help="Use runs kept in .batchproof/cache, and keep new ones there.")
@options.as_json
@options.html
@options.png
def command(
    script: str,
    arguments: Sequence[str],
    batch_sizes: str,
    as_module: bool,
    report: str | None,
    epoch: int | None,
    seeds: int | None,
    controls: bool,
    jobs: int | None,
    timeout: float | None,
    cache: bool,
    as_json: bool,
    html: Path | None,
    png: Path | None,
) -> int:
    """Run SCRIPT at several batch sizes, and say why the numbers that it reports differ.

    Each run is a fresh process from the same seed.  {batch_size} in the script's ARGUMENTS, which follow --, is filled
    in; without it, the batch size of every DataLoader is set as it is built.  Control runs hold the number of updates
    or the learning rate fixed.
    """
    sizes = _sizes(batch_sizes)
    if timeout is not None and not timeout > 0:
        raise BatchproofError(f"--timeout takes seconds, more than 0, not {timeout:g}")
    output = Output(as_json, html, png)
    with contextlib.redirect_stdout(sys.stderr), progress() as shown:
        from batchproof.scripts.compare.compare import compare

        found = compare(
            script,
            sizes,
            arguments,
            as_module=as_module,
            seeds=seeds,
            report=report,
            epoch=epoch,
            controls=controls,
            jobs=jobs,
            timeout=timeout,
            cache=cache,
            progress=shown,
        )
    output.give(found)
    return INTERRUPTED if found.interrupted else found.exit_status


def _sizes(text: str) -> list[int]:
    """``16,64,128``, in their order.

    Raises:
        BatchproofError: they are not whole numbers from 1 on.
    """
    parts = text.replace(" ", "").split(",")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise BatchproofError(f"--batch-size takes whole numbers from 1 on, as in 16,64,128, not {text!r}")
    return [int(part) for part in parts]
