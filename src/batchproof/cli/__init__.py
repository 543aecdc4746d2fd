"""The command line.  Torch is imported when a command needs it, so ``--help`` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from batchproof.cli import explain, noise, simulate
from batchproof.cli.examples import EXAMPLES
from batchproof.errors import BatchproofError
from batchproof.version import VERSION

COULD_NOT_TELL = 2


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXAMPLES,
)
@click.version_option(VERSION, message="batchproof %(version)s")
def batchproof() -> None:
    """Batch size should be a memory knob, never a results knob."""


batchproof.add_command(explain.command)
batchproof.add_command(simulate.command)
batchproof.add_command(noise.command)


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
        return simulate.INTERRUPTED
    except BatchproofError as error:
        _fail(str(error))
    except BrokenPipeError:
        sys.stderr.close()
    except Exception as error:  # noqa: BLE001 - the user's own function raised: its error, without our frames
        from batchproof.targets import described

        _fail(f"the target raised {described(error)}")
    return COULD_NOT_TELL


def _fail(message: str) -> None:
    click.echo(f"error: {message}", err=True)
