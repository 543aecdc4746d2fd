"""``batchproof compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof.cli import options
from batchproof.cli.output import Output, progress
from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from batchproof.scripts.compare.comparison import Comparison


@options.examples_last
@click.command("compare", short_help="Why does the loss change with the batch size?")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@options.batch_sizes("The sizes; the first is compared with.", required=True)
@options.ranks("Compare numbers of processes instead, at one batch size of all together.")
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is the name of a module.")
@click.option("--report", metavar="NAME", help="The number that is meant.  [default: all that are found]")
@click.option("--epoch", type=int, metavar="N", help="The pass whose number is compared.  [default: the last]")
@click.option("--seeds", type=int, metavar="N", help="How many to repeat it for.  [default: 3, or 1 if it takes long]")
@click.option("--controls/--no-controls", default=True, help="Run it with something held fixed, too.  [default: yes]")
@click.option("--jobs", type=int, metavar="N", help="Runs at once.  [default: 1 on a GPU, otherwise up to 4]")
@click.option("--timeout", type=float, metavar="SECONDS", help="The most that one run may take.")
@click.option("--cache/--no-cache", default=True, help="Use runs kept in .batchproof/cache, and keep new ones there.")
@options.output
def command(
    script: str,
    arguments: Sequence[str],
    batch_sizes: list[int],
    timeout: float | None,
    output: Output,
    **choices: Any,
) -> int:
    """Run SCRIPT at several batch sizes, and say why the numbers that it reports differ.

    Each run is a fresh process from the same seed.  {batch_size} in the script's ARGUMENTS, which follow --, is filled
    in; without it, the batch size of every DataLoader is set as it is built.  Control runs hold the number of updates
    or the learning rate fixed.  With --ranks each run starts that number of processes, as torchrun does, and
    {batch_size} is each one's share of the batch.

    Examples:
      batchproof compare train.py --batch-size 16,64,128
      batchproof compare train.py --batch-size 16,64 --seeds 5 -- --epochs 3
      batchproof compare train.py --batch-size 16,64 -- --bs {batch_size} --out /tmp/{batch_size}
      batchproof compare train.py --batch-size 16,64 --report val_loss --html comparison.html
      batchproof compare train.py --ranks 1,2,4 --batch-size 64 -- --batch-size {batch_size}

    Exit status: 0 nothing is wrong, 1 a number depends on the batch size by mistake, 2 could not
    tell, 130 interrupted (the runs that were done by then are shown).
    """
    if timeout is not None and not timeout > 0:
        raise BatchproofError(f"--timeout takes seconds, more than 0, not {timeout:g}")
    return output.give(
        lambda: _compared(script, batch_sizes, arguments, {**choices, "timeout": timeout, "own": _files(output)})
    )


def _files(output: Output) -> list[Path]:
    """The reports that will be written: no run depends on them."""
    return [path for path in (output.html, output.png, output.data) if path is not None]


def _compared(script: str, sizes: Sequence[int], arguments: Sequence[str], choices: dict[str, Any]) -> Comparison:
    with progress() as shown:
        from batchproof.scripts.compare.compare import compare

        return compare(script, sizes, arguments, progress=shown, **choices)
