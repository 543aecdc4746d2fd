"""What `batchproof run` costs: an epoch of a script rewritten and measured, beside the same epoch run plainly.

Both sides are the same text, compiled once as it is and once rewritten, and train models of the same seed in turn. An
epoch holds everything that a run adds: values kept on their way, and in the end the exact value of all samples. What is
done once in a run (looking through the script, a formula's first batch) is a row of its own.
"""

from __future__ import annotations

import ast
import builtins
import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from batchproof.scripts.run import Control
from batchproof.scripts.run.execute import Target
from batchproof.scripts.run.registry import NAME
from batchproof.scripts.run.session import Session
from bench.section import Aim, Section

SCRIPT = """
import torch

def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))

def train_epoch(loader, model, optimizer):
    running = 0.0
    for inputs, real in loader:
        optimizer.zero_grad()
        pred = model(inputs)
        loss = rmse(pred, real)
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running / len(loader)

def test_epoch(loader, model):
    running = 0.0
    with torch.no_grad():
        for inputs, real in loader:
            running += rmse(model(inputs), real).item()
    return running / len(loader)
"""


def mlp(width: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(64, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, 1),
    )


def batches(samples: int, size: int) -> DataLoader[Any]:
    inputs = torch.randn(samples, 64)
    real = inputs.sum(1, keepdim=True) + torch.randn(samples, 1)
    return DataLoader(TensorDataset(inputs, real), batch_size=size)


class Side:
    """The script's functions, as they are or rewritten."""

    def __init__(self, width: int, measured: bool) -> None:
        self.names: dict[str, Any] = {"__name__": "script"}
        torch.manual_seed(0)
        self.model = mlp(width)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        tree: ast.Module | Any = ast.parse(SCRIPT)
        if measured:
            session = Session(Target("script.py", Path("script.py"), None, ()), Control())
            tree = session.rewrite_script(SCRIPT.encode(), "script.py", self.names)
            setattr(builtins, NAME, session.recorder)
            self.epochs = session.epochs
        exec(tree if measured else compile(tree, "script.py", "exec"), self.names)

    def train(self, loader: Any) -> float:
        return float(self.names["train_epoch"](loader, self.model, self.optimizer))

    def test(self, loader: Any) -> float:
        return float(self.names["test_epoch"](loader, self.model))


def paired(rounds: int, *sides: Callable[[], object]) -> list[list[float]]:
    """Seconds of each side, round by round, each round begun by another side."""
    seconds: list[list[float]] = [[] for _ in sides]
    gc.collect()
    for number in range(rounds):
        for turn in range(len(sides)):
            index = (turn + number) % len(sides)
            start = time.perf_counter()
            sides[index]()
            seconds[index].append(time.perf_counter() - start)
    return seconds


def run(quick: bool) -> Section:
    rounds = 20 if quick else 60
    section = Section(
        "run",
        "an epoch as batchproof run measures it, beside the plain one",
        ["", "width", "batch", "steps", "plain ms", "measured ms", "more %", "plain again, more %"],
        notes=[
            "more %: the median over rounds of measured / plain within a round, less 1, beside two plain runs in each",
            "plain again: the same of one plain run beside the other, which shows what the machine's noise makes",
        ],
    )
    more: dict[int, list[float]] = {}
    for width, size, samples in ((64, 64, 6400), (2048, 128, 1280)):
        loader = batches(samples, size)
        plain, again = Side(width, measured=False), Side(width, measured=False)
        measured = Side(width, measured=True)
        start = time.perf_counter()
        first = measured.train(loader), measured.test(loader)
        first_seconds = time.perf_counter() - start
        start = time.perf_counter()
        same = plain.train(loader), plain.test(loader)
        plain_seconds = time.perf_counter() - start
        again.train(loader), again.test(loader)
        assert first == same, "a measured run computes other numbers"
        for what in ("train", "test"):
            sides = [partial(getattr(side, what), loader) for side in (plain, measured, again)]
            ours = paired(rounds if width < 1000 else max(6, rounds // 2), *sides)
            ratio = 100 * (statistics.median(2 * b / (a + c) for a, b, c in zip(*ours, strict=True)) - 1)
            noise = 100 * (statistics.median(c / a for a, _, c in zip(*ours, strict=True)) - 1)
            more.setdefault(width, []).append(ratio)
            plain_ms, measured_ms, _ = (1e3 * statistics.median(times) for times in ours)
            section.rows.append([what, width, size, len(loader), plain_ms, measured_ms, ratio, noise])
        for ours_, theirs in zip(measured.model.parameters(), plain.model.parameters(), strict=True):
            assert torch.equal(ours_, theirs), "a measured run trains other weights"
        section.rows.append(
            ["once in a run", width, size, len(loader), None, 1e3 * (first_seconds - plain_seconds), None, None]
        )
    section.aims = [
        Aim("a small MLP's training epoch, more %", 10.0, more[64][0]),
        Aim("where the model does real work, training, more %", 2.0, more[2048][0]),
    ]
    return section
