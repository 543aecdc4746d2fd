"""``python -m tests.search 20000 --seed 0``: try so many programs, and print what was found and the counts."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .grid import cell, cells
from .grid import examined as examined_cell
from .program import write
from .work import examined, search, shown, work


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.search", description=__doc__)
    parser.add_argument("programs", type=int, nargs="?", help="200, or the whole grid")
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the others follow")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--shrink", type=float, default=20.0, help="seconds to make a failing program smaller")
    parser.add_argument("--finds", type=Path, help="a file that findings are added to as they come")
    parser.add_argument("--grid", type=int, nargs="?", const=1, help="try cells of the grid instead, every so many")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        numbers = [int(seed) for seed in options.worker.split(",")]
        if options.grid:
            work(numbers, cell, examined_cell)
        else:
            work(numbers, write, lambda program: examined(program, options.shrink))
        return 0
    if options.grid:
        numbers = range(options.seed, len(cells()), options.grid)[: options.programs]
        tally = search(numbers, options.workers, ["--grid"], options.finds)
    else:
        seeds = range(options.seed, options.seed + (options.programs or 200))
        tally = search(seeds, options.workers, ["--shrink", f"{options.shrink}"], options.finds)
    for found in tally.found:
        print(shown(found))
    print(tally.table())
    return 1 if tally.found else 0


if __name__ == "__main__":
    sys.exit(main())
