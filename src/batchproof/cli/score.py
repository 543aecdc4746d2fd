"""``batchproof score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchproof.cli import options
from batchproof.cli.output import Output, progress
from batchproof.errors import BatchproofError

if TYPE_CHECKING:
    from batchproof.scoring import Scores


@options.examples_last
@click.command("score", short_help="What is the exact value on all of my data, and by group?")
@click.argument("data")
@click.option(
    "--fn",
    "functions",
    metavar="FILE:NAME",
    multiple=True,
    required=True,
    help="A function of columns, file.py:name or package.module:name. Several share a pass.",
)
@click.option(
    "--by", metavar="COLUMN,...", callback=lambda _, option, text: _names(text), help="A value for each group."
)
@options.columns
@click.option(
    "--over",
    type=click.Choice(["dataset", "samples"]),
    default="dataset",
    show_default=True,
    help="The value on all samples together, or the mean of their own.",
)
@click.option(
    "--nulls",
    type=click.Choice(["error", "drop"]),
    default="error",
    show_default=True,
    help="Refuse nulls, or leave out such rows and count them.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="That read and fold.  [default: one per core]")
@click.option(
    "--engine",
    metavar="local|ray|ray://HOST:PORT",
    default="local",
    show_default=True,
    help="Where it is folded: this machine, or a Ray cluster.",
)
@click.option("--csv", type=click.Path(path_type=Path), metavar="FILE", help="Save every group as csv.")
@click.option("--parquet", type=click.Path(path_type=Path), metavar="FILE", help="Save every group as parquet.")
@options.output
def command(
    data: str, functions: tuple[str, ...], csv: Path | None, parquet: Path | None, output: Output, **choices: Any
) -> int:
    """Compute functions exactly on a data set that need not fit into memory: the value, its standard error, by group.

    DATA is a file, a folder or a quoted glob of parquet, feather, csv, tsv, npz, npy or pt files. Columns go to the
    parameters of the functions by name, and only these are read. A few numbers are all that is held of the data, for
    the whole and for each group, unless a function needs its samples all together.

    Examples:
      batchproof score predictions/ --fn loss.py:rmse
      batchproof score predictions/ --fn loss.py:rmse --fn loss.py:r2 --by user,country --parquet by_user.parquet
      batchproof score "run7/*.csv" --fn sklearn.metrics:roc_auc_score --column y_true=label --column y_score=score
      batchproof score images.parquet --fn loss.py:psnr --over samples
      batchproof score /shared/predictions --fn loss.py:rmse --engine ray://head:10001

    Exit status: 0 scored, 2 could not tell, 130 interrupted (the value of what was read by then is shown).
    """
    from batchproof.report import save

    for path in (csv, parquet):
        if path is not None:
            save.writable(path)
    found: list[Scores] = []

    def measure() -> Scores:
        found.append(_scored(data, functions, choices))
        return found[0]

    status = output.give(measure)
    for path, content in ((csv, "csv"), (parquet, "parquet")):
        if path is not None:
            save.write(path, _table(found[0], content))
            click.echo(f"wrote {path}", err=True)
    return status


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _scored(data: str, functions: tuple[str, ...], choices: dict[str, Any]) -> Scores:
    from batchproof import score as verb
    from batchproof.ground.target import is_metric, resolve

    resolved = [resolve(typed) for typed in functions]
    for typed, one in zip(functions, resolved, strict=True):
        if is_metric(one) or not callable(one):
            raise BatchproofError(f"{typed} is no function of columns: name one that returns the value on a batch")
    with progress(with_time=True) as shown:
        return verb(data, resolved, progress=shown, **choices)


def _table(found: Scores, kind: str) -> bytes:
    import io

    sink = io.BytesIO()
    if kind == "csv":
        from pyarrow import csv

        csv.write_csv(found.to_arrow(), sink)
    else:
        from pyarrow import parquet

        parquet.write_table(found.to_arrow(), sink)
    return sink.getvalue()
