"""What a command hands over: the report on stdout, and as files where they were asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from batchproof.report.result import Result


@dataclass(frozen=True)
class Output:
    """What was asked for.

    A file that cannot be written is refused here, before the work for it begins.
    """

    as_json: bool
    html: Path | None
    png: Path | None
    is_error: bool = False  # whether what is printed goes to stderr, where stdout is somebody else's

    def __post_init__(self) -> None:
        from batchproof.report import save

        for path in (self.html, self.png):
            if path is not None:
                save.writable(path)
        if self.png is not None:
            from batchproof.report.png import needed

            needed()

    def absolute(self) -> Output:
        """With files that are the same ones in any directory."""
        html, png = (path.absolute() if path is not None else None for path in (self.html, self.png))
        return replace(self, html=html, png=png)

    def give(self, found: Result) -> None:
        """Print it, and save it."""
        if self.as_json:
            click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False), err=self.is_error)
        else:
            from rich.console import Console

            from batchproof.report.forms import show

            show(found, Console(stderr=self.is_error))
        from batchproof.report import save

        for path, written in ((self.html, save.html), (self.png, save.png)):
            if path is not None:
                written(found, path)
                click.echo(f"wrote {path}", err=True)
