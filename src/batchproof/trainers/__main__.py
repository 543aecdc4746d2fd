"""`python -m batchproof.trainers`: the matrix of the trainers that are installed, as a table or as a page."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from batchproof.trainers.cases import CASES, named
from batchproof.trainers.matrix import MISSING, NOT_THERE, RIGHT, SETTINGS, Row, page, rows

#: How wide a column of words is.
NAME, WORD = 36, 18


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the status is 1 where a trainer could not be checked."""
    parser = argparse.ArgumentParser(
        prog="python -m batchproof.trainers",
        description="Does each trainer that is installed train the loss that it says, however its batch is cut?",
    )
    parser.add_argument("name", nargs="?", default="", help="only those with this in package or name: 'GRPO, bnpo'")
    parser.add_argument("-v", "--verbose", action="store_true", help="the report of each cell that is off")
    parser.add_argument("--page", metavar="FILE", type=Path, help="write the table as a page of Markdown, too")
    given = parser.parse_args(arguments)
    cases = list(named(given.name))
    if not cases:
        parser.error(f"no trainer is called {given.name!r}: {'; '.join(f'{c.package}: {c.name}' for c in CASES)}")
    warnings.simplefilter("ignore")
    print(_line("trainer", [setting.name for setting in SETTINGS]))
    done: list[Row] = []
    for row in rows(cases):
        if not done or done[-1].case.package != row.case.package:
            print(f"{row.case.package} {row.version}".rstrip())
        done.append(row)
        print(_line(f"  {row.case.name}", [_shortened(cell.word) for cell in row.cells] or [MISSING]), flush=True)
        _say_more(row, given.verbose)
    print("\nOne of them again, with its reports: python -m batchproof.trainers NAME -v")
    if given.page is not None:
        given.page.write_text(page(done), encoding="utf-8")
    return int(any(cell.error for row in done for cell in row.cells))


def _shortened(word: str) -> str:
    """The first of several causes, and how many more there are."""
    first, *more = word.split(" + ")
    return f"{first} +{len(more)}" if more else first


def _line(title: str, words: Sequence[str]) -> str:
    return f"{title:<{NAME}}  {'  '.join(f'{word:<{WORD}}' for word in words)}".rstrip()


def _say_more(row: Row, verbose: bool) -> None:
    for setting, cell in zip(SETTINGS, row.cells, strict=False):
        if cell.error:
            print(f"  {setting.name}: {cell.error}")
        elif verbose and cell.check is not None and cell.word not in (RIGHT, NOT_THERE):
            print(f"\n{setting.name}\n{cell.check}\n")


if __name__ == "__main__":
    sys.exit(main())
