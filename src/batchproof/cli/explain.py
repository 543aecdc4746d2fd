"""``batchproof explain``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof.cli import options
from batchproof.cli.examples import EXPLAIN
from batchproof.cli.output import Output
from batchproof.cli.progress import progress

if TYPE_CHECKING:
    from batchproof.explanation import Explanation


@click.command("explain", epilog=EXPLAIN)
@click.argument("target")
@options.data
@options.columns
@click.option("--batch-dim", type=int, default=0, show_default=True, help="The batch dimension of the inputs.")
@options.batch_sizes("1, 2, 4, ... and all")
@options.mark
@click.option("--seed", type=int, default=0, show_default=True, help="For the shuffle, and before every call.")
@options.as_json
@options.html
@options.png
def command(
    target: str,
    data: Path | None,
    columns: Sequence[str],
    batch_dim: int,
    batch_sizes: str | None,
    mark: int | None,
    seed: int,
    as_json: bool,
    html: Path | None,
    png: Path | None,
) -> int:
    """Say whether TARGET depends on the batch size, at which line, by how much, and what to use instead.

    TARGET is a function, a metric object or a model: file.py:name or package.module:name.
    """
    choices = {"batch_dim": batch_dim, "batch_sizes": options.sizes(batch_sizes), "seed": seed, "mark": mark}
    output = Output(as_json, html, png)
    with contextlib.redirect_stdout(sys.stderr):
        found = _explained(target, data, options.mapping(columns), choices)
    output.give(found)
    return found.exit_status


def _explained(target: str, data: Path | None, mapping: dict[str, str], choices: dict[str, Any]) -> Explanation:
    from batchproof import explain as verb
    from batchproof.cli.example import run_on
    from batchproof.ground.target import resolve

    subject = resolve(target)
    with progress() as shown:
        run = partial(verb, subject, progress=shown, **choices)
        return run() if data is None else run_on(run, subject, data, mapping)
