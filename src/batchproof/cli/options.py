"""Options that several commands have, and what they are read as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from batchproof.errors import BatchproofError

_File = click.Path(path_type=Path)

data = click.option("--data", type=_File, help="csv, parquet, feather, npz or pt; columns go to parameters by name.")
columns = click.option(
    "--column", "columns", multiple=True, metavar="PARAM=COLUMN", help="Name a parameter's column yourself."
)
mark = click.option(
    "--mark", type=click.IntRange(min=1), metavar="N", help="Your batch size: measured too, and pointed at."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
html = click.option("--html", type=_File, metavar="FILE", help="Save the report as an HTML page that stands alone.")
png = click.option("--png", type=_File, metavar="FILE", help="Save the report as a picture.")


def batch_sizes(default: str) -> Callable[..., Any]:
    """``--batch-sizes``, with what is tried without it."""
    return click.option("--batch-sizes", metavar="N,N,...", help=f"The sizes to try.  [default: {default}]")


def sizes(text: str | None) -> list[int] | None:
    """``1,16,1e9`` as numbers.

    Raises:
        BatchproofError: they are not whole numbers from 1 on.
    """
    if text is None:
        return None
    try:
        found = [_whole(part) for part in text.replace(" ", "").split(",") if part]
    except (ValueError, OverflowError):
        found = []
    if not found or min(found) < 1:
        raise BatchproofError(f"--batch-sizes takes whole numbers from 1 on, as in 1,16,64, not {text!r}")
    return found


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        value = float(text)  # 1e9 reads better than its zeros
        if not value.is_integer():
            raise
        return int(value)


def mapping(columns: Sequence[str]) -> dict[str, str]:
    """``pred=forecast`` as an entry.

    Raises:
        BatchproofError: there is no ``=`` in one.
    """
    for text in columns:
        if "=" not in text:
            raise BatchproofError(f"--column takes PARAM=COLUMN, not {text!r}")
    return dict(text.split("=", 1) for text in columns)
