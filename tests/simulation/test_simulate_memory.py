"""Memory is bounded: the peak above what the imports take, over several runs in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import batchproof as bp

CASES = {
    "long batches": "simulate(batch_sizes=[100_000], batches=60, direct=False)",
    "many short batches": "simulate(batch_sizes=[1], batches=300_000, direct=False, threads=8)",
    "batches longer than a chunk": "simulate(None, 'laplace', [1_000_000], 6, threads=4)",
    "a median": "simulate(lambda e: e.median(), 'normal', [1000, 50_000], 30)",
    "many rows": "simulate(None, torch.randn(200_000), [10], 40)",
    "many rows, drawn as counts": "simulate(None, torch.randn(20_000), [10**6], 8)",
    "wide rows": "simulate(lambda x: x.square().mean().sqrt(), torch.randn(300, 20_000), [1, 64], 20)",
    "large states": "simulate(lambda x: torch.cov(x.T).trace(), torch.randn(500, 40), [10], 60)",
    "many large states": "simulate(lambda x: (x.T @ x / len(x)).trace(), torch.randn(300, 64), [1, 10], 800)",
    "pairs of samples": "simulate(lambda e: (e[:, None] - e).abs().mean(), 'normal', [10, 600], 40)",
}
MOST = 800  # megabytes


def test_peak() -> None:
    lines = ["import resource, torch", "from batchproof import simulate", "simulate(batch_sizes=[3], batches=2)"]
    lines.append("peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024")
    lines.append("before = peak()")
    for call in CASES.values():
        lines += [call, "print(peak() - before, flush=True)"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(bp.__file__).parents[1])}
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    peaks = dict(zip(CASES, map(float, done.stdout.split()), strict=True))
    assert max(peaks.values()) < MOST, peaks
