"""compare on an Ignite engine: averages that it makes over batch sizes, and controls that cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.commands import inside
from tests.comparisons import shared_slots

from batchproof.scripts.compare import scheduler
from batchproof.scripts.compare.compare import compare
from batchproof.scripts.compare.split import DifferenceCause

pytest.importorskip("ignite")

SCRIPT = """
import torch
from ignite.engine import Engine, create_supervised_evaluator
from ignite.metrics import Loss
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(96, 3)
data = TensorDataset(x, x.sum(1, keepdim=True) + torch.randn(96, 1))
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

def rmse(prediction, target):
    return torch.nn.functional.mse_loss(prediction, target).sqrt()

def step(engine, batch):
    optimizer.zero_grad()
    rmse(model(batch[0]), batch[1]).backward()
    optimizer.step()

evaluator = create_supervised_evaluator(model, metrics={"test_rmse": Loss(rmse)})
Engine(step).run(DataLoader(data, 8), max_epochs=1)
print(evaluator.run(DataLoader(data, 8)).metrics)
"""


@pytest.mark.integration("pytorch-ignite", "`compare` tells averaging from the rest")
def test_an_average_of_ignite_over_batch_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "slots", shared_slots)
    with inside(tmp_path, monkeypatch, {"train.py": SCRIPT}, 100):
        found = compare("train.py", (8, 32), seeds=1, jobs=1, cache=False)
    (number,) = found.numbers
    assert number.name == "test_rmse"
    last = number.rows[-1]
    averaging = last.part(DifferenceCause.ARITHMETIC)
    assert averaging is not None
    assert averaging.value > 0.005  # the mean of roots is the lower, the smaller the batches
    assert last.part(DifferenceCause.UPDATES) is None  # an engine's loop cannot be made longer
