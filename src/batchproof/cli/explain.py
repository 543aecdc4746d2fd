"""``batchproof explain``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof.cli import options
from batchproof.cli.example import groups_in
from batchproof.cli.output import Output, progress
from batchproof.errors import BatchproofError

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
@click.option(
    "--over",
    callback=lambda _, option, text: _asked(text),
    metavar="WHAT,...",
    help="Of a model: batch, order, padding, packing.  [default: all that it takes]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For the shuffle, and before every call.")
@options.output
def command(
    target: str, data: Path | None, columns: dict[str, str], groups: str | None, output: Output, **choices: Any
) -> int:
    """Say whether TARGET depends on the batch size, at which line, by how much, and what to use instead.

    TARGET is a function, a metric object or a model, or a function without parameters that makes one: file.py:name or
    package.module:name. Of a model it says whether a sample's output depends on its neighbours, its place, its padding
    or what is packed beside it, and whether that is a fault, a convention or rounding.

    Examples:
      batchproof explain loss.py:rmse --data predictions.csv
      batchproof explain loss.py:rmse                  (inputs guessed from the parameters' names)
      batchproof explain loss.py:rmse --data predictions.csv --mark 16 --html report.html
      batchproof explain grpo.py:loss --data answers.parquet --groups prompt
      batchproof explain torch.nn.functional:cross_entropy
      batchproof explain metrics.py:my_metric --data scores.npz --json
      batchproof explain encoder.py:make_encoder --data batch.pt --over batch,padding --html report.html

    Exit status: 0 safe, 1 depends on the batch size (a model: on what is not the sample), 2 could not tell.
    """
    return output.give(lambda: _explained(target, data, columns, choices | {"groups": groups_in(groups, data)}))


def _explained(target: str, data: Path | None, mapping: dict[str, str], choices: dict[str, Any]) -> Explanation:
    from batchproof import explain as verb
    from batchproof.cli.example import run_on
    from batchproof.ground.target import resolve

    subject = _made(resolve(target))
    with progress() as shown:
        run = partial(verb, subject, progress=shown, **choices)
        return run() if data is None else run_on(run, subject, data, mapping)


def _asked(text: str | None) -> list[str] | None:
    """``batch,padding`` as a list."""
    return None if text is None else [part for part in text.replace(" ", "").split(",") if part]


def _made(subject: Any) -> Any:
    """The model or metric that a factory makes: what takes nothing has no batch, and is asked once."""
    from inspect import isfunction, signature

    from batchproof.ground.target import described, is_metric

    if not isfunction(subject) or signature(subject).parameters:
        return subject
    try:
        made = subject()
    except Exception as error:
        raise BatchproofError(f"{subject.__name__}() raised {described(error)}") from error
    if callable(made) or is_metric(made):
        return made
    raise BatchproofError(
        f"{subject.__name__} takes no batch, and gives no model: name a function of a batch, a model, or what makes one"
    )
