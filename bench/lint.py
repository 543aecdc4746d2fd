"""How fast `batchproof lint` is beside TorchFix, another linter of code that uses torch, on one tree in one run.

Both are run as commands, so that starting them counts, too.  The tree is a part of torch itself.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from bench.section import Aim, Section

FILES, QUICK_FILES = 120, 30
ROUNDS, STARTS = 3, 15
COMPILED = tempfile.TemporaryDirectory()
OURS, THEIRS = "batchproof lint", "torchfix"
MEAN = """\
def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += torch.nn.functional.mse_loss(model(x), y).item()
    return total / len(loader)
"""


@contextmanager
def tree(count: int) -> Iterator[Path]:
    """So many of torch's files, evenly from all of its folders."""
    home = Path(torch.__file__).parent
    every = sorted(path for path in home.rglob("*.py") if path.stat().st_size > 500)
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            path = every[number * len(every) // count]
            shutil.copy(path, Path(name) / f"{number:04}_{path.name}")
        yield Path(name)


def seconds(command: Sequence[str], folder: Path) -> float:
    # an installed package is compiled, and so is a checkout here
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": COMPILED.name}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], cwd=folder, check=False, capture_output=True, env=environment)
    return time.perf_counter() - start


def run(quick: bool) -> Section:
    count = QUICK_FILES if quick else FILES
    rounds = 1 if quick else ROUNDS
    commands = {OURS: ["batchproof", "lint", "."], f"{THEIRS}, one process": ["torchfix", "-j", "1", "."]}
    commands[f"{THEIRS}, as it comes"] = ["torchfix", "."]
    installed = find_spec("torchfix") is not None
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tree(count) as folder:
        kilobytes = sum(path.stat().st_size for path in folder.iterdir()) // 1000
        seconds(commands[OURS], folder)
        for _ in range(rounds):
            for name, command in commands.items():
                if installed or name == OURS:
                    times[name].append(seconds(command, folder))
    section = Section(
        "lint",
        f"linting {count} files of torch ({kilobytes:,} kB), the whole command",
        ["command", "seconds", "files a second", "times as fast as torchfix"],
    )
    middle = {name: statistics.median(found) if found else None for name, found in times.items()}
    theirs = middle[f"{THEIRS}, as it comes"]
    for name, took in middle.items():
        speed = None if took is None else count / took
        section.rows.append([name, took, speed, None if took is None or theirs is None else theirs / took])
    start = started()
    section.notes = [f"starting, one small file: {start:.3f} s, the best of {STARTS}"]
    section.aims = [Aim("seconds to start and lint a small file", 0.15, start)]
    ours = middle[OURS]
    if theirs is None or ours is None:
        section.notes.append("torchfix is not installed: pip install torchfix")
    else:
        section.aims.insert(0, Aim("share of torchfix's time", 0.1, ours / theirs))
    return section


def started() -> float:
    """Seconds from nothing to the report on a small file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small.py").write_text(MEAN)
        return min(seconds(["batchproof", "lint", "small.py"], folder) for _ in range(STARTS))
