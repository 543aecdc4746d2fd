"""``batchproof simulate``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof.cli import options
from batchproof.cli.output import Output, progress
from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from batchproof.simulation import Simulation


@options.examples_last
@click.command("simulate", short_help="How far off is the average, for which batch size?")
@click.argument("target", required=False)
@click.option(
    "--errors", metavar="NAME", help="normal, laplace, t[:df], uniform, lognormal[:sigma].  [default: normal]"
)
@click.option("--scale", type=float, help="What the distribution is multiplied by.  [default: 100]")
@options.data
@options.columns
@options.batch_sizes("The sizes to try.  [default: 1, 2, 3, 5, 9, 10, 100, ... 100,000]")
@click.option("--batches", type=int, default=10_000, show_default=True, help="How many batches of each size.")
@options.mark
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same numbers.")
@click.option("--draw-all", is_flag=True, help="Draw every sample, even where a batch's state could be drawn directly.")
@click.option("--threads", type=int, metavar="N", help="That draw.  [default: one per processor]")
@options.output
def command(
    target: str | None,
    errors: str | None,
    scale: float | None,
    data: Path | None,
    columns: dict[str, str],
    batch_sizes: list[int] | None,
    mark: int | None,
    draw_all: bool,
    output: Output,
    **choices: Any,
) -> int:
    """Draw batches of many sizes, and put the value on all samples beside the mean of per-batch values.

    TARGET is a function of a batch, file.py:name or package.module:name; the root mean square of the errors without
    one.  The samples are errors of a distribution, or those of --data, drawn with replacement.  A data file without
    a TARGET holds a column of errors, or a prediction and its target.

    Examples:
      batchproof simulate                              (the root mean square of normal errors)
      batchproof simulate loss.py:rmse --errors t:3 --batch-size 1,16,128,1e9
      batchproof simulate loss.py:rmse --data predictions.csv --mark 16 --html report.html
      batchproof simulate --data predictions.csv --png curve.png

    Exit status: 0 the same at every batch size, 1 depends on it, 2 could not tell,
    130 interrupted (what was done by then is shown).
    """
    choices |= {"batch_sizes": _with_mark(batch_sizes, mark), "direct": not draw_all}
    choices |= _distribution(errors, scale, data)
    return output.give(lambda: replace(_simulated(target, data, columns, choices), marked=mark))


def _distribution(errors: str | None, scale: float | None, data: Path | None) -> dict[str, Any]:
    given = {name: value for name, value in (("errors", errors), ("scale", scale)) if value is not None}
    if data is not None and given:
        raise BatchproofError(
            f"--{next(iter(given))} is for a distribution, and --data brings samples: give one of them"
        )
    return given


def _with_mark(sizes: list[int] | None, mark: int | None) -> list[int] | None:
    """The reader's own size is simulated too."""
    if mark is None:
        return sizes
    from batchproof.simulation import published

    return sorted({*(sizes or published.SIZES), mark})


def _simulated(target: str | None, data: Path | None, mapping: dict[str, str], choices: dict[str, Any]) -> Simulation:
    from batchproof import simulate as verb
    from batchproof.cli.example import errors_in, run_on
    from batchproof.ground.target import resolve

    subject = resolve(target) if target is not None else None
    with progress(with_time=True) as shown:
        run = partial(verb, subject, progress=shown, **choices)
        if data is None:
            return run()
        if subject is None:
            found = run(errors=errors_in(data, mapping))
        else:
            found = run_on(lambda *example: run(errors=example), subject, data, mapping, must_be_finite=True)
    return replace(found, errors=f"{data.name}: {found.errors}")
