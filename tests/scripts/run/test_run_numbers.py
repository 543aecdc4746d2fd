"""`batchproof run`: what is read of a script's numbers, by what they are divided, and what only their size shows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from batchproof.report import save
from batchproof.scripts.run import ScriptRun
from batchproof.scripts.run.epochs import Pass
from batchproof.scripts.run.recorder import ScriptRecorder
from batchproof.scripts.run.registry import Registry
from batchproof.scripts.run.result import load
from running import one, run

METER = """
    class Meter:
        def __init__(self):
            self.reset()
        def reset(self):
            self.val = self.avg = self.sum = self.count = 0
        def update(self, val, n=1):
            self.val = val
            self.sum += val * n
            self.count += n
            self.avg = self.sum / self.count
"""


@pytest.mark.parametrize(("weight", "kind"), [(", xb.size(0)", "weighted"), (", n=len(xb)", "weighted"), ("", "mean")])
def test_the_weights_of_a_meter(tmp_path: Path, weight: str, kind: str) -> None:
    text = f"""
        def validate():
            losses = Meter()
            others = Meter()
            for xb, yb in loader:
                losses.update(rmse(model(xb), yb).item(){weight})
                others.update(F.l1_loss(model(xb), yb).item(), 3)
            return losses.avg
        result = validate()
    """
    found, _ = run(tmp_path, dedent(METER) + dedent(text))
    epoch = next(row for row in found.measured if row.accumulator == "losses").last
    assert epoch.averaged == pytest.approx(epoch.printed, rel=1e-9)
    assert epoch.averaged == pytest.approx(getattr(epoch, kind), rel=1e-9)


def test_of_averages_by_name_the_one_that_was_added_here() -> None:
    done: Any = Pass(None, 1, values=[1.0, 3.0])  # type: ignore[arg-type]
    recorder = ScriptRecorder(Registry(), lambda _: None)
    assert recorder._entry_of(done, {"epoch": "one", "mae": 5.0, "loss": 2.0}) == 2.0
    assert recorder._entry_of(done, {"mae": 5.0}) is None


def test_values_that_are_not_finite_stay_in_the_file(tmp_path: Path) -> None:
    text = """
        total = 0.0
        for xb, yb in loader:
            total += rmse(model(xb) * float("nan"), yb).item()
        result = total / len(loader)
    """
    found, _ = run(tmp_path, text)
    save.data(found, tmp_path / "run.json")
    epoch = load(tmp_path / "run.json").measured[0].last
    assert epoch.printed is not None
    assert math.isnan(epoch.printed)
    assert json.loads((tmp_path / "run.json").read_text())["measured"][0]["epochs"][0]["printed"] == "nan"
    assert isinstance(load(tmp_path / "run.json"), ScriptRun)


def test_equal_batches_are_not_said_to_count_too_much(tmp_path: Path) -> None:
    text = """
        errors = torch.where(torch.arange(100) // 20 % 2 == 0, 1.006, 0.994).double()
        loader = DataLoader(TensorDataset(errors), 20)
        total = 0.0
        for (batch,) in loader:
            total += batch.square().mean().sqrt().item()
        result = total / len(loader)
    """
    row, epoch = one(tmp_path, text)
    assert epoch.is_exact is False
    assert epoch.exact == pytest.approx(epoch.weighted, rel=5e-5)
    assert "counts as much as any other" not in row.why


def test_an_evaluation_that_drops_its_tail(tmp_path: Path) -> None:
    text = """
        def evaluate():
            total = 0.0
            with torch.no_grad():
                whole = DataLoader(data, 16, drop_last=True)
                for xb, yb in whole:
                    total += F.mse_loss(model(xb), yb).item()
            return total / len(whole)
        result = evaluate()
    """
    found, _ = run(tmp_path, text)
    said = [seen for seen in found.seen if seen.kind == "dropped"]
    assert [seen.what for seen in said] == ["the loader drops its short last batch: 4 samples left out"]
    assert not said[0].harmless
