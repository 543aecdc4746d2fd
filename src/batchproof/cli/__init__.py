"""The command line.  Torch is imported when a command needs it, so ``--help`` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from batchproof.cli import options
from batchproof.cli.output import INTERRUPTED
from batchproof.errors import BatchproofError
from batchproof.version import VERSION

COULD_NOT_TELL = 2
#: What is Python only, and how it begins there.
IN_PYTHON = {
    "exact": "metric = batchproof.exact(rmse)  # metric(pred, real) on each batch, metric.compute() at the end",
    "accumulate": "loss = batchproof.accumulate(loss_fn, lambda part: (model(part[0]), part[1]), micro_batches)",
}
#: In the order of ``--help``: each is the module of its name in this package, imported when it is asked for.
COMMANDS = ("check", "lint", "run", "report", "compare", "explain", "simulate", "noise", "rule")


class Commands(click.Group):
    """A group whose commands wait in their modules, so that each starts without the others' imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported when it is asked for."""
        if cmd_name in COMMANDS:
            return _imported(cmd_name)
        if cmd_name in IN_PYTHON:
            raise BatchproofError(f"{cmd_name} is Python, not a command:\n  import batchproof\n  {IN_PYTHON[cmd_name]}")
        self.commands = {name: _imported(name) for name in COMMANDS}  # among these click looks for what was meant
        return None


def _imported(name: str) -> click.Command:
    command: click.Command = import_module(f"batchproof.cli.{name}").command
    return command


@options.examples_last
@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, message="batchproof %(version)s")
def batchproof() -> None:
    """Find losses and metrics that are wrong because they were averaged over batches.

    Examples:
      batchproof check train.py
      batchproof check train.py --batch-size 16,64,128
      batchproof explain loss.py:rmse --data predictions.csv
      batchproof lint src/

    batchproof COMMAND --help has more.
    In Python: batchproof.exact, batchproof.accumulate.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status; what goes wrong is one clear line on stderr."""
    try:
        return int(batchproof.main(list(argv) if argv is not None else None, "batchproof", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as shown:
        click.echo(shown.format_message(), err=True)
    except click.ClickException as error:
        _fail(error.format_message())
    except click.Abort:
        _fail("interrupted")
        return INTERRUPTED
    except BatchproofError as error:
        _fail(str(error))
    except BrokenPipeError:
        sys.stderr.close()
    except Exception as error:  # noqa: BLE001 - the user's own function raised: its error, without our frames
        from batchproof.ground.target import described

        _fail(f"the target raised {described(error)}")
    return COULD_NOT_TELL


def _fail(message: str) -> None:
    click.echo(f"error: {message}", err=True)
