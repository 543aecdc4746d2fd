"""Averages that Ignite's engines make, measured, and compared with Ignite's own results and with torch."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import torch
from tests.running import run
from torch.nn import functional

pytest.importorskip("ignite")
pytestmark = pytest.mark.filterwarnings("ignore")

HEAD = """
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.metrics import Accuracy, Average, Loss, RunningAverage

def step(engine, batch):
    optimizer.zero_grad()
    prediction = model(batch[0])
    loss = rmse(prediction, batch[1])
    loss.backward()
    optimizer.step()
    return {"loss": loss.item(), "mae": (prediction - batch[1]).abs().mean()}

"""


def _data() -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    """The model and the data that `tests.running` has."""
    torch.manual_seed(0)
    x = torch.randn(100, 3)
    y = x.sum(1, keepdim=True) + torch.randn(100, 1)
    torch.randint(0, 4, (100,))
    return torch.nn.Linear(3, 1), x, y


@pytest.mark.integration(
    "pytorch-ignite", "`run` measures `Loss`: a mean over samples is exact, a root of each batch is not"
)
def test_losses_of_an_evaluator(tmp_path: Path) -> None:
    text = """
        evaluator = create_supervised_evaluator(model, metrics={"mse": Loss(F.mse_loss), "rmse": Loss(rmse)})
        state = evaluator.run(loader)
        print(state.metrics)
    """
    found, out = run(tmp_path, HEAD + dedent(text))
    printed = eval(out)
    rows = {row.name: row for row in found.measured}
    assert set(rows) == {"mse", "rmse"}
    model, x, y = _data()
    mse = float(functional.mse_loss(model(x), y))
    assert rows["mse"].last.is_exact
    assert rows["mse"].last.printed == pytest.approx(printed["mse"])
    assert rows["mse"].last.exact == pytest.approx(mse, rel=1e-6)
    assert rows["rmse"].last.is_exact is False
    assert rows["rmse"].last.printed == pytest.approx(printed["rmse"])
    assert rows["rmse"].last.exact == pytest.approx(mse**0.5, rel=1e-6)
    assert rows["rmse"].why == "a root is taken of each batch"
    assert rows["rmse"].cause is not None
    assert "def rmse" in rows["rmse"].cause.text
    assert rows["rmse"].phase == "evaluation"


@pytest.mark.integration("pytorch-ignite", "`run` measures `Average` of what an engine's function returns")
def test_averages_of_what_a_step_returns(tmp_path: Path) -> None:
    text = """
        trainer = Engine(step)
        Average(output_transform=lambda output: output["loss"]).attach(trainer, "loss")
        Average(output_transform=lambda output: output["mae"]).attach(trainer, "mae")
        seen = []

        @trainer.on(Events.EPOCH_COMPLETED)
        def report(engine):
            print(dict(engine.state.metrics))

        trainer.run(loader, max_epochs=2)
    """
    found, out = run(tmp_path, HEAD + dedent(text))
    rows = {row.name: row for row in found.measured}
    assert set(rows) == {"loss", "mae"}
    assert rows["loss"].phase == "training"
    assert [epoch.updates for epoch in rows["loss"].epochs] == [7, 7]
    model, x, y = _data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch, line in enumerate(out.splitlines()):
        printed = eval(line, {"tensor": lambda value, **_: value, "torch": torch})
        predictions = []
        for xb, yb in zip(x.split(16), y.split(16), strict=True):
            optimizer.zero_grad()
            predictions.append(model(xb))
            functional.mse_loss(predictions[-1], yb).sqrt().backward()
            optimizer.step()
        whole = torch.cat(predictions)
        assert rows["loss"].epochs[epoch].exact == pytest.approx(float(functional.mse_loss(whole, y).sqrt()), rel=1e-5)
        assert rows["mae"].epochs[epoch].exact == pytest.approx(float(functional.l1_loss(whole, y)), rel=1e-5)
        assert rows["loss"].epochs[epoch].printed == pytest.approx(float(printed["loss"]), rel=1e-4)
    assert rows["mae"].why.startswith("the last batch, of 4,")


def test_a_running_average_has_no_value_that_it_should_have(tmp_path: Path) -> None:
    text = """
        trainer = Engine(step)
        RunningAverage(output_transform=lambda output: output["loss"]).attach(trainer, "running")
        trainer.run(loader, max_epochs=1)
        print(trainer.state.metrics)
    """
    found, _ = run(tmp_path, HEAD + dedent(text))
    assert found.measured == ()
    assert any(note.startswith("running: a running average (alpha 0.98)") for note in found.notes)


def test_a_loss_that_keeps_something_is_not_called_again(tmp_path: Path) -> None:
    text = """
        class Noisy(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = nn.Parameter(torch.ones(()))
            def forward(self, prediction, target):
                return F.mse_loss(prediction, target) * self.scale
        evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(Noisy())})
        evaluator.run(loader)
    """
    found, _ = run(tmp_path, HEAD + dedent(text))
    (row,) = found.measured
    assert row.last.exact is None
    assert row.last.printed is not None
    assert row.last.reason


def test_the_script_sees_nothing_of_it(tmp_path: Path) -> None:
    text = """
        evaluator = create_supervised_evaluator(model, metrics={"mse": Loss(F.mse_loss)})
        evaluator.run(loader, max_epochs=1)
        evaluator.run([])
    """
    found, _ = run(tmp_path, HEAD + dedent(text))
    assert found.failed  # Ignite refuses data without batches, as ever
    from ignite.engine import Engine
    from ignite.metrics import Loss, Metric

    assert not any(hasattr(method, "__wrapped__") for method in (Engine._fire_event, Metric.attach, Metric.completed))
    assert Loss.update.__code__.co_filename.endswith(("loss.py", "metric.py"))
