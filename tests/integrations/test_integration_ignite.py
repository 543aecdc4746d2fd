"""Any function as a metric of Ignite's engines: the value of the epoch's samples, however batched, over ranks too."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("ignite")

from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.exceptions import NotComputableError
from ignite.handlers import Checkpoint
from ignite.metrics import RootMeanSquaredError

import batchproof as bp
from batchproof.integrations.ignite import ExactMetric
from batchproof.integrations.repeats import without_repeats
from functions import r2, rmse
from ranks import spawned

WORKS = "`ExactMetric`: any function as a metric of an engine"
N = 37


def columns() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, 3, dtype=torch.float64, generator=generator)
    return x, x.sum(1) + torch.linspace(9, 0, N, dtype=torch.float64)


def model() -> torch.nn.Module:
    made = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0)).double()
    torch.nn.init.ones_(made[0].weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(made[0].bias)  # type: ignore[arg-type]
    return made


def whole(fn: Any) -> float:
    with torch.no_grad():
        return float(fn(model()(columns()[0]), columns()[1]))


@pytest.mark.integration("pytorch-ignite", WORKS)
@pytest.mark.parametrize("batch", [1, 5, 16, 64])
def test_in_a_supervised_evaluator(batch):
    metrics = {"rmse": ExactMetric(rmse), "r2": ExactMetric(r2, state="constant"), "theirs": RootMeanSquaredError()}
    evaluator = create_supervised_evaluator(model(), metrics=metrics)
    loader = DataLoader(TensorDataset(*columns()), batch_size=batch, shuffle=True)
    for _ in range(2):
        found = evaluator.run(loader).metrics
        assert found["rmse"] == pytest.approx(found["theirs"], rel=1e-9) == pytest.approx(whole(rmse), rel=1e-12)
        assert found["r2"] == pytest.approx(whole(r2), rel=1e-12)


def run(output: Any, metric: Any, data: Any = (1,)) -> Any:
    engine = Engine(lambda engine, batch: output(batch))
    metric.attach(engine, "found")
    return engine.run(data, max_epochs=1).metrics


def test_what_an_engine_returns():
    x, y = columns()
    pred = x.sum(1)

    def named(pred: Any, real: Any) -> Any:
        return rmse(pred, real)

    value = pytest.approx(float(rmse(pred, y)))
    assert run(lambda _: {"y_pred": pred, "y": y}, ExactMetric(rmse))["found"] == value
    assert run(lambda _: {"real": y, "pred": pred}, ExactMetric(named))["found"] == value
    assert run(lambda _: [pred, y], ExactMetric(rmse))["found"] == value
    assert run(lambda _: pred, ExactMetric(torch.mean))["found"] == pytest.approx(float(pred.mean()))
    assert run(lambda _: (0, pred, y), ExactMetric(rmse, lambda output: output[1:]))["found"] == value
    assert run(lambda _: pred, ExactMetric(lambda x: {"low": x.min(), "high": x.max()}))["high"] == pred.max()
    spread = run(lambda _: (pred, y), ExactMetric(lambda a, b: torch.stack([a, b]).std(1)))["found"]
    torch.testing.assert_close(spread, torch.stack([pred.std(), y.std()]))
    with pytest.raises(bp.BatchproofError, match="the engine's output has loss, target, which are not the function's"):
        run(lambda _: {"loss": pred, "target": y}, ExactMetric(rmse))


def test_it_is_computed_with_others():
    """Metrics are joined by arithmetic, and computed in the middle of an epoch."""
    pred, y = columns()[0].sum(1), columns()[1]
    both = ExactMetric(rmse) + 2 * ExactMetric(r2)
    assert run(lambda _: (pred, y), both)["found"] == pytest.approx(float(rmse(pred, y) + 2 * r2(pred, y)))
    engine, seen, metric = Engine(lambda engine, batch: batch), [], ExactMetric(rmse)
    metric.attach(engine, "rmse")
    engine.on(Events.ITERATION_COMPLETED)(lambda: seen.append(float(metric.compute())))
    engine.run(list(zip(pred.split(10), y.split(10), strict=True)))
    assert seen == pytest.approx([float(rmse(pred[:n], y[:n])) for n in (10, 20, 30, N)])


def test_no_sample_and_too_many():
    with pytest.raises(NotComputableError, match="at least one example"):
        ExactMetric(rmse).compute()
    pred, y = columns()[0].sum(1), columns()[1]
    with pytest.raises(bp.BatchproofError, match=re.escape("the metric holds 74 samples, not 37")):
        run(lambda _: (pred, y), ExactMetric(rmse, n_samples=N), [1, 2])
    with pytest.raises(bp.BatchproofError, match="exact takes a function or a module, not int"):
        ExactMetric(3)  # type: ignore[arg-type]


def test_a_checkpoint_within_an_epoch():
    pred, y = columns()[0].sum(1), columns()[1]
    before, after = ExactMetric(rmse), ExactMetric(rmse)
    Checkpoint.load_objects({"metric": after}, {"metric": before.state_dict()})
    before.update((pred[:30], y[:30]))
    Checkpoint.load_objects({"metric": after}, {"metric": before.state_dict()})
    after.update((pred[30:], y[30:]))
    assert after.compute() == pytest.approx(rmse(pred, y))


def job(rank: int, world: int) -> Any:
    import ignite.distributed as idist

    assert idist.get_world_size() == world
    data = TensorDataset(*columns())
    loader = idist.auto_dataloader(data, batch_size=5 * world, shuffle=False)
    metrics = {"rmse": ExactMetric(rmse, n_samples=N), "r2": ExactMetric(r2)}
    evaluator = create_supervised_evaluator(model(), metrics=metrics)
    found = [dict(evaluator.run(without_repeats(loader)).metrics) for _ in range(2)]
    try:
        evaluator.run(loader)
        refused = ""
    except bp.BatchproofError as error:
        refused = str(error)
    middle = ExactMetric(rmse)
    pred, y = columns()[0].sum(1), columns()[1]
    middle.update((pred[rank:30:world], y[rank:30:world]))
    state = middle.state_dict()
    torch.distributed.broadcast_object_list(sent := [state])
    resumed = ExactMetric(rmse)
    resumed.load_state_dict(sent[0])
    resumed.update((pred[30 + rank :: world], y[30 + rank :: world]))
    return found, refused, float(resumed.compute())


@pytest.mark.integration("pytorch-ignite", "over ranks, checkpoints within an epoch included")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("world", [2])
def test_over_ranks(world, tmp_path):
    for found, refused, resumed in spawned(job, world, tmp_path):
        assert found[0] == found[1] == pytest.approx({"rmse": whole(rmse), "r2": whole(r2)}, rel=1e-12)
        assert f"the ranks hold {-(-N // world) * world} samples, and there are 37" in refused
        assert resumed == pytest.approx(float(rmse(columns()[0].sum(1), columns()[1])), rel=1e-12)
