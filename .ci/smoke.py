"""What an installed batchproof must do, with torch and without: run by the Python that it was installed for."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

SCRIPT = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def rmse(pred, real):
    return torch.sqrt(torch.mean((pred - real) ** 2))

def main():
    data = TensorDataset(torch.arange(10.0), torch.arange(10.0) ** 2)
    loader = DataLoader(data, batch_size=4)
    total = 0.0
    for pred, real in loader:
        total += rmse(pred, real).item()
    print("rmse", total / len(loader))

if __name__ == "__main__":
    main()
"""


def batchproof(*arguments: str) -> tuple[int, str]:
    """The status of a command, and what it printed."""
    command = [str(Path(sys.executable).with_name("batchproof")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


def check(found: tuple[int, str], status: int, *words: str) -> None:
    if found[0] != status or not all(word in found[1] for word in words):
        raise SystemExit(f"expected status {status} and {words}, got {found[0]}:\n{found[1]}")


def without_torch(script: str) -> None:
    """What reads source only, and the files that are not Python."""
    check(batchproof("--version"), 0, "batchproof")
    check(batchproof("lint", script), 1, "BP101")
    check(batchproof("lint", "--format", "sarif", script), 1, "2.1.0", "BP101")
    check(batchproof("rule", "BP101"), 0, "BP101")


def with_torch(script: str) -> None:
    """The verbs, and a page."""
    import torch

    import batchproof as bp

    metric = bp.exact(lambda pred, real: torch.sqrt(torch.mean((pred - real) ** 2)))
    pred, real = torch.arange(1000.0), torch.ones(1000)
    for p, r in zip(pred.split(16), real.split(16), strict=True):
        metric.update(p, r)
    expected = float((pred - real).double().square().mean().sqrt())
    if abs(float(metric.compute()) - expected) > 1e-6 * expected:
        raise SystemExit(f"exact gave {metric.compute()}, and not {expected}")
    check(batchproof("explain", f"{script}:rmse", "--html", "page.html"), 1, "depends on the batch size")
    check(batchproof("run", script), 0, "rmse")
    if "<style" not in Path("page.html").read_text(encoding="utf-8"):
        raise SystemExit("the page has no style sheet")


def main() -> None:
    with TemporaryDirectory() as folder:
        script = Path(folder, "train.py")
        script.write_text(SCRIPT, encoding="utf-8")
        without_torch(str(script))
        if find_spec("torch") is None:
            check(batchproof("explain", f"{script}:rmse"), 2, "pip install torch")
            print("ok, without torch")
        else:
            import torch

            with_torch(str(script))
            print(f"ok, with torch {torch.__version__}")


if __name__ == "__main__":
    main()
