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
COMMANDS = ("check", "lint", "run", "report", "compare", "explain", "score", "simulate", "noise", "rule")


class Commands(click.Group):
    """A group whose commands wait in their modules, so that each starts without the others' imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported when it is asked for."""
        if cmd_name in COMMANDS:
            return _imported(cmd_name)
        if cmd_name == "help":
            return show_help
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
@click.version_option(VERSION, "-V", "--version", message="batchproof %(version)s")
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


@click.command("help")
@click.argument("verb", metavar="[COMMAND]", required=False)
@click.pass_context
def show_help(ctx: click.Context, verb: str | None) -> None:
    """Show the help of a COMMAND, as batchproof COMMAND --help does."""
    assert ctx.parent is not None
    if verb is None:
        click.echo(ctx.parent.get_help())
        return
    name, command, _ = batchproof.resolve_command(ctx.parent, [verb])
    assert command is not None
    with command.make_context(name, [], ctx.parent, resilient_parsing=True) as inner:
        click.echo(command.get_help(inner))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status; what goes wrong is one clear line on stderr."""
    try:
        return int(batchproof.main(list(argv) if argv is not None else None, "batchproof", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as shown:
        click.echo(shown.format_message(), err=True)
    except click.UsageError as error:
        _fail(_with_help(error))
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

        _fail(described(error))
    return COULD_NOT_TELL


def _with_help(error: click.UsageError) -> str:
    """An error, and where the way to type it stands where it does not say that itself."""
    message = error.format_message()
    is_about_a_value = isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter)
    if error.ctx is None or is_about_a_value or "Did you mean" in message:
        return message
    return f"{message.rstrip('.')}. Try '{error.ctx.command_path} --help'"


def _fail(message: str) -> None:
    click.echo(f"error: {message}", err=True)
