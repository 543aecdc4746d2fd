"""What was measured is kept however a run ends: by a signal, by ``os._exit``, on a disk that takes nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """\
import os, signal
import torch
from torch.utils.data import DataLoader
loader = DataLoader(torch.randn(50, 2), batch_size=16)
model = torch.nn.Linear(2, 1)
for epoch in range(3):
    total = 0.0
    for x in loader:
        total += (model(x) ** 2).mean().item()
    loss = total / len(loader)
    print("loss", flush=True)
"""


def _run(folder: Path, end: str) -> subprocess.CompletedProcess[str]:
    (folder / "s.py").write_text(SCRIPT + end + "\n")
    return subprocess.run(
        [sys.executable, "-m", "batchproof", "run", "s.py"],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_leaves_the_table_and_the_file(tmp_path: Path) -> None:
    found = _run(tmp_path, "os.kill(os.getpid(), signal.SIGTERM)")
    assert found.returncode == -signal.SIGTERM
    assert found.stdout == "loss\n" * 3
    assert "SIGTERM: what was measured by then is shown" in found.stderr
    assert json.loads((tmp_path / ".batchproof" / "run.json").read_text())["measured"]


def test_a_script_that_ends_at_once_leaves_the_file(tmp_path: Path) -> None:
    found = _run(tmp_path, "os._exit(3)")
    assert found.returncode == 3
    assert json.loads((tmp_path / ".batchproof" / "run.json").read_text())["measured"]


def test_where_nothing_can_be_written_the_script_runs(tmp_path: Path) -> None:
    (tmp_path / ".batchproof").write_text("in the way")
    found = _run(tmp_path, "raise SystemExit(4)")
    assert (found.returncode, found.stdout) == (4, "loss\n" * 3)
    assert "exact" in found.stderr
    assert "the results are not kept" in found.stderr
