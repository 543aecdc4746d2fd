"""``batchproof run``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchproof.cli import options
from batchproof.cli.output import Output
from batchproof.ground.torch_versions import require

if TYPE_CHECKING:
    from batchproof.scripts.run import ScriptRun

_PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@options.examples_last
@click.command("run", short_help="Run a script; print each number beside the exact one", context_settings=_PASSED_ON)
@click.option("-m", "as_module", is_flag=True, help="Run a module, as python -m does.")
@click.option("--live", is_flag=True, help="Print a line on stderr at the end of each epoch.")
@click.option("--report", metavar="NAME", help="Also keep every value of this variable, or key of a log.")
@click.option(
    "--last-weights", is_flag=True, help="Also score each epoch's samples with the weights that it ends with."
)
@click.option(
    "--output",
    "data_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where results go.  [default: .batchproof/run.json]",
)
@options.forms
@click.argument("script", metavar="SCRIPT")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    script: str,
    arguments: Sequence[str],
    as_module: bool,
    live: bool,
    report: str | None,
    last_weights: bool,
    data_file: Path | None,
    output: Output,
) -> int:
    """Run SCRIPT as python would, and print beside each number that it averages over batches the exact one.

    The script's output and exit status stay its own; the table comes after it, on stderr.

    Examples:
      batchproof run train.py --epochs 3
      batchproof run -m package.train --lr 0.1
      batchproof run --live --html run.html train.py
      batchproof run --report val_loss train.py
      torchrun --nproc-per-node 2 -m batchproof run train.py

    Options for batchproof come before SCRIPT, what follows it is the script's own.
    The exit status is the script's; 2 where it could not be run at all.
    """
    require("batchproof run")
    from batchproof.scripts.run import Control
    from batchproof.scripts.run.launch import launch

    shown = replace(output.absolute(), is_error=True, hint=False)  # the script may change its directory

    def show(run: ScriptRun) -> None:
        if not output.as_json:
            click.echo(err=True)
        shown.show(run)
        if not (output.as_json or output.is_quiet):
            again = f"batchproof report{'' if data_file is None else f' {data_file}'}"
            click.echo(f"\n  {again} shows this again, with -v all of it", err=True)

    control = Control(last_weights=last_weights, report=report)
    return launch(script, arguments, as_module, control, data_file, live, show)
