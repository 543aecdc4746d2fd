"""``batchproof simulate``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof.cli import options
from batchproof.cli.examples import SIMULATE
from batchproof.cli.output import Output
from batchproof.cli.progress import progress
from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from batchproof.simulation import Simulation

INTERRUPTED = 130


@click.command("simulate", epilog=SIMULATE)
@click.argument("target", required=False)
@click.option(
    "--errors", metavar="NAME", help="normal, laplace, t[:df], uniform, lognormal[:sigma].  [default: normal]"
)
@click.option("--scale", type=float, help="What the distribution is multiplied by.  [default: 100]")
@options.data
@options.columns
@options.batch_sizes("1, 2, 3, 5, 9, 10, 100, ... 100,000")
@click.option("--batches", type=int, default=10_000, show_default=True, help="How many batches of each size.")
@options.mark
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same numbers.")
@click.option("--draw-all", is_flag=True, help="Draw every sample, even where a batch's state could be drawn directly.")
@click.option("--threads", type=int, metavar="N", help="That draw.  [default: one per processor]")
@options.as_json
@options.html
@options.png
def command(
    target: str | None,
    errors: str | None,
    scale: float | None,
    data: Path | None,
    columns: Sequence[str],
    batch_sizes: str | None,
    batches: int,
    mark: int | None,
    seed: int,
    draw_all: bool,
    threads: int | None,
    as_json: bool,
    html: Path | None,
    png: Path | None,
) -> int:
    """Draw batches of many sizes, and put the value on all samples beside the mean of per-batch values.

    TARGET is a function of a batch, file.py:name or package.module:name; the root mean square of the errors without
    one.  The samples are errors of a distribution, or those of --data, drawn with replacement.  A data file without
    a TARGET holds a column of errors, or a prediction and its target.
    """
    distribution = _distribution(errors, scale, data)
    sizes = _with_mark(options.sizes(batch_sizes), mark)
    choices = {"batch_sizes": sizes, "batches": batches, "seed": seed, "direct": not draw_all, "threads": threads}
    output = Output(as_json, html, png)
    with contextlib.redirect_stdout(sys.stderr):
        found = _simulated(target, data, options.mapping(columns), {**choices, **distribution})
    output.give(replace(found, marked=mark))
    return INTERRUPTED if found.interrupted else found.exit_status


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
            found = run_on(lambda *example: run(errors=example), subject, data, mapping)
    return replace(found, errors=f"{data.name}: {found.errors}")
