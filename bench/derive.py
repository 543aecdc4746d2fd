"""How long it takes to derive a plan for a loss of 30 operations, and to import the package."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import torch

import batchproof
from bench.section import Aim, Section

OPERATIONS = 30


def loss(pred, real):
    """Thirty operations: a robust, weighted regression loss with a focal part and a penalty."""
    error = pred - real
    size = error.abs()
    near = size < 1.0
    square = error * error
    half = square * 0.5
    far = size - 0.5
    huber = torch.where(near, half, far)
    scale = real.abs()
    weight = scale + 1.0
    weighted = huber * weight
    chance = torch.sigmoid(pred)
    missed = 1.0 - chance
    focus = missed * missed
    surprise = torch.log(chance)
    focal = focus * surprise
    total = weighted.sum()
    norm = weight.sum()
    first = total / norm
    second = focal.sum()
    count = second / pred.shape[0]
    wave = torch.cos(pred)
    turn = torch.sin(real)
    product = wave * turn
    third = product.sum()
    share = third / norm
    root = torch.sqrt(first)
    mixed = root - count
    bent = torch.tanh(share)
    result = mixed + bent
    return result * 2.0


def first_batch(n: int, seed: int) -> float:
    """Seconds that the update takes in which the plan is derived."""
    generator = torch.Generator().manual_seed(seed)
    pred, real = torch.randn(2, n, generator=generator)
    metric = batchproof.exact(loss)
    start = time.perf_counter()
    metric.update(pred, real)
    seconds = time.perf_counter() - start
    assert metric.plan.is_constant_size
    return seconds


_IMPORT = """
import sys, time
start = time.perf_counter()
import batchproof
print(time.perf_counter() - start, "torch" in sys.modules)
"""
_FIRST = """
from bench.derive import first_batch
print(first_batch(32, 0))
"""


def _elsewhere(code: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def run(quick: bool) -> Section:
    section = Section(
        "derive", f"a plan for a loss of {OPERATIONS} operations, and the import", ["what", "median ms", "least ms"]
    )
    fresh = [1e3 * float(_elsewhere(_FIRST)[0]) for _ in range(1 if quick else 3)]
    first_batch(32, 0)
    later = [1e3 * first_batch(32, seed) for seed in range(5 if quick else 15)]
    imports = [_elsewhere(_IMPORT) for _ in range(5 if quick else 15)]
    importing = [1e3 * float(seconds) for seconds, _ in imports]
    for what, times in [
        ("derive, first use in a process", fresh),
        ("derive, later", later),
        ("import batchproof", importing),
    ]:
        section.rows.append([what, statistics.median(times), min(times)])
    torch_came = any(torch_there == "True" for _, torch_there in imports)
    section.notes.append(f"import batchproof {'imports' if torch_came else 'does not import'} torch")
    section.aims = [
        Aim("milliseconds to derive", 150, statistics.median(later)),
        Aim("milliseconds to import", 30, statistics.median(importing)),
        Aim("imports of torch", 0, int(torch_came)),
    ]
    return section
