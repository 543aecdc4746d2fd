"""The question's two tables: its own loops, written plainly, against `simulate`, in one run.

The loops draw every number twice, once for each table. `simulate` makes both tables from one pass; "drawn" draws every
number, in as many threads as there are processors; "direct" draws the sum of squares of a batch from its distribution.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

import batchproof
from batchproof.simulation.published import SIZES
from bench.section import Aim, Section

SCALE = 100.0


def pooled_rmse(sizes: tuple[int, ...], batches: int) -> list[Tensor]:
    """The question's first example: the mean square of each batch is kept, and the root taken of their mean."""
    found = []
    for size in sizes:
        squares = []
        for _ in range(batches):
            errors = torch.normal(0, SCALE, size=(1, size))
            squares.append((errors**2).mean())
        found.append(torch.sqrt(sum(squares, torch.tensor(0.0)) / len(squares)))
    return found


def mean_rmse(sizes: tuple[int, ...], batches: int) -> list[Tensor]:
    """The second: the root is taken in each batch."""
    found = []
    for size in sizes:
        roots = []
        for _ in range(batches):
            errors = torch.normal(0, SCALE, size=(1, size))
            roots.append(torch.sqrt((errors**2).mean()))
        found.append(sum(roots, torch.tensor(0.0)) / len(roots))
    return found


def both_tables(sizes: tuple[int, ...], batches: int) -> None:
    pooled_rmse(sizes, batches)
    mean_rmse(sizes, batches)


def draw_alone(sizes: tuple[int, ...], batches: int, chunk: int = 1 << 16) -> None:
    """As many numbers, in pieces of a size that suits a processor's cache; nothing is done with them."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(sum(sizes) * batches // chunk):
        torch.empty(chunk).normal_(0, SCALE, generator=generator)


def run(quick: bool) -> Section:
    sizes, batches, rounds = SIZES, 1_000 if quick else 10_000, 3 if quick else 2
    sides: dict[str, Callable[[], object]] = {
        "the question's loops": lambda: both_tables(sizes, batches),
        "drawn": lambda: batchproof.simulate(batches=batches, direct=False),
        "drawn, 1 thread": lambda: batchproof.simulate(batches=batches, direct=False, threads=1),
        "drawing alone, 1 thread": lambda: draw_alone(sizes, batches),
        "direct": lambda: batchproof.simulate(batches=batches),
    }
    peak = _peak_gigabytes(batches)  # before this process grows: a child begins with its parent's peak
    batchproof.simulate(batch_sizes=[2], batches=20)  # torch's own first calls
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)

    def ratio(ours: str, theirs: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[ours], seconds[theirs], strict=True))

    question = "the question's loops"
    section = Section(
        "simulate",
        f"both tables of the question, {batches:,} batches of each size, {sum(sizes) * batches:.1e} samples",
        ["", "seconds", "of the loops"],
        rows=[[name, statistics.median(times), ratio(name, question)] for name, times in seconds.items()],
    )
    section.aims = [
        Aim("drawn / loops", 1 / 20, ratio("drawn", question)),
        Aim("direct / loops", 1 / 1000, ratio("direct", question)),
        Aim("drawn / drawing alone, 1 thread each", 1.5, ratio("drawn, 1 thread", "drawing alone, 1 thread")),
        Aim("peak memory, GB", 1.0, peak),
    ]
    return section


def _peak_gigabytes(batches: int) -> float:
    """Of a process that does nothing else, torch included."""
    code = f"import batchproof; batchproof.simulate(batches={batches}, direct=False)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)
