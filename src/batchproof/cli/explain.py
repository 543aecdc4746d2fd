"""``batchproof explain``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof.cli import options
from batchproof.cli.example import groups_in
from batchproof.cli.output import Output, progress

if TYPE_CHECKING:
    from batchproof.explanation import Explanation


@options.examples_last
@click.command("explain", short_help="Does this loss or metric depend on the batch size?")
@click.argument("target")
@options.data
@options.columns
@click.option("--groups", metavar="COLUMN", help="A column of --data: samples with one value in it stay together.")
@click.option("--batch-dim", type=int, default=0, show_default=True, help="The batch dimension of the inputs.")
@options.batch_sizes("The sizes to try.  [default: 1, 2, 4, ... and all]")
@options.mark
@click.option("--seed", type=int, default=0, show_default=True, help="For the shuffle, and before every call.")
@options.output
def command(
    target: str, data: Path | None, columns: dict[str, str], groups: str | None, output: Output, **choices: Any
) -> int:
    """Say whether TARGET depends on the batch size, at which line, by how much, and what to use instead.

    TARGET is a function, a metric object or a model: file.py:name or package.module:name.

    Examples:
      batchproof explain loss.py:rmse --data predictions.csv
      batchproof explain loss.py:rmse                  (inputs guessed from the parameters' names)
      batchproof explain loss.py:rmse --data predictions.csv --mark 16 --html report.html
      batchproof explain grpo.py:loss --data answers.parquet --groups prompt
      batchproof explain torch.nn.functional:cross_entropy
      batchproof explain metrics.py:my_metric --data scores.npz --json

    Exit status: 0 safe, 1 depends on the batch size, 2 could not tell.
    """
    return output.give(lambda: _explained(target, data, columns, choices | {"groups": groups_in(groups, data)}))


def _explained(target: str, data: Path | None, mapping: dict[str, str], choices: dict[str, Any]) -> Explanation:
    from batchproof import explain as verb
    from batchproof.cli.example import run_on
    from batchproof.ground.target import resolve

    subject = resolve(target)
    with progress() as shown:
        run = partial(verb, subject, progress=shown, **choices)
        return run() if data is None else run_on(run, subject, data, mapping)
