"""The command line.  Torch is imported when a command needs it, so ``--help`` answers at once."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof import __version__
from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from batchproof.explain import Explanation

COULD_NOT_TELL = 2
EXAMPLES = """
\b
Examples:
  batchproof explain loss.py:rmse --data predictions.csv
  batchproof explain loss.py:rmse                  (inputs guessed from the parameters' names)
  batchproof explain torch.nn.functional:cross_entropy
  batchproof explain metrics.py:my_metric --data scores.npz --json
\b
Exit status: 0 safe, 1 depends on the batch size, 2 could not tell.
"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXAMPLES,
)
@click.version_option(__version__, message="batchproof %(version)s")
def batchproof() -> None:
    """Batch size should be a memory knob, never a results knob."""


@batchproof.command(epilog=EXAMPLES)
@click.argument("target")
@click.option(
    "--data", type=click.Path(path_type=Path), help="csv, npz, pt or parquet; columns go to parameters by name."
)
@click.option("--column", "columns", multiple=True, metavar="PARAM=COLUMN", help="Name a parameter's column yourself.")
@click.option("--batch-dim", type=int, default=0, show_default=True, help="The batch dimension of the inputs.")
@click.option("--batch-sizes", metavar="N,N,...", help="The sizes to try.  [default: 1, 2, 4, ... and all]")
@click.option("--seed", type=int, default=0, show_default=True, help="For the shuffle, and before every call.")
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
def explain(
    target: str,
    data: Path | None,
    columns: Sequence[str],
    batch_dim: int,
    batch_sizes: str | None,
    seed: int,
    as_json: bool,
) -> int:
    """Say whether TARGET depends on the batch size, at which line, by how much, and what to use instead.

    TARGET is a function, a metric object or a model: file.py:name or package.module:name.
    """
    options = {"batch_dim": batch_dim, "batch_sizes": _sizes(batch_sizes), "seed": seed}
    with contextlib.redirect_stdout(sys.stderr):
        found = _explained(target, data, _mapping(columns), options)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        _show(found)
    return found.exit_status


def _explained(target: str, data: Path | None, mapping: dict[str, str], options: dict[str, Any]) -> Explanation:
    from batchproof import explain as verb
    from batchproof.explain.subject import required, title_of
    from batchproof.targets import resolve

    subject = resolve(target)
    with _progress() as progress:
        if data is None:
            return verb(subject, **options, progress=progress)
        from batchproof import datafile

        names = [parameter.name for parameter in required(subject)]
        example = datafile.fill(datafile.load(data), names, mapping, data, title_of(subject))
        try:
            return verb(subject, *example, **options, progress=progress)
        except BatchproofError:
            raise
        except Exception:
            # a column of whole numbers may hold classes, or a quantity: the function says which it takes
            floats = datafile.as_floats(example)
            if all(new is old for new, old in zip(floats, example, strict=True)):
                raise
            with contextlib.suppress(Exception):
                return verb(subject, *floats, **options, progress=progress)
            raise


def _show(found: Explanation) -> None:
    from rich.console import Console

    from batchproof.report.terminal import show

    show(found, Console())


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """A line on stderr while it works, where somebody is looking."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(bar_width=24)
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("starting", total=None)
        yield lambda text, done, total: shown.update(task, description=text, completed=done, total=total)


def _sizes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        sizes = [int(part) for part in text.replace(" ", "").split(",") if part]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise BatchproofError(f"--batch-sizes takes whole numbers from 1 on, as in 1,16,64, not {text!r}")
    return sizes


def _mapping(columns: Sequence[str]) -> dict[str, str]:
    for text in columns:
        if "=" not in text:
            raise BatchproofError(f"--column takes PARAM=COLUMN, not {text!r}")
    return dict(text.split("=", 1) for text in columns)


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
        return 130
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


if __name__ == "__main__":
    sys.exit(main())
