"""``python -m tests.search 20000 --seed 0``: try so many programs, and print what was found and the counts."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .work import search, shown, work


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.search", description=__doc__)
    parser.add_argument("programs", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the others follow")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--shrink", type=float, default=20.0, help="seconds to make a failing program smaller")
    parser.add_argument("--finds", type=Path, help="a file that findings are added to as they come")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work([int(seed) for seed in options.worker.split(",")], options.shrink)
        return 0
    seeds = range(options.seed, options.seed + options.programs)
    tally = search(seeds, options.workers, options.shrink, options.finds)
    for found in tally.found:
        print(shown(found))
    print(tally.table())
    return 1 if tally.found else 0


if __name__ == "__main__":
    sys.exit(main())
