"""An Exact in torchmetrics: modules, collections, wrappers, checkpoints, copies and ranks, against its own metrics."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ranks import spawned
from torch import Tensor, nn

import batchproof
from batchproof import BatchproofError, Exact

torchmetrics = pytest.importorskip("torchmetrics")

SIZES = (40, 7, 33, 1, 19)


def rmse(p: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(torch.mean((p - y) ** 2))


def mse(p: Tensor, y: Tensor) -> Tensor:
    return torch.mean((p - y) ** 2)


def median(p: Tensor, y: Tensor) -> Tensor:
    return (p - y).abs().median()


def as_number(p: Tensor, y: Tensor) -> float:
    return float(rmse(p, y))


def both(p: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {"rmse": rmse(p, y), "mse": mse(p, y)}


def data(total: int = sum(SIZES), seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p, y = torch.randn(total, generator=generator), torch.randn(total, generator=generator)
    return p * torch.linspace(0.5, 3, total), y  # batches that differ


def batches() -> list[tuple[Tensor, Tensor]]:
    p, y = data()
    return list(zip(p.split(SIZES), y.split(SIZES), strict=True))


def asked(fn: Any, **options: Any) -> Any:
    metric = batchproof.exact(fn, **options)
    torch.nn.ModuleList([metric]).train()  # type: ignore[list-item]
    assert isinstance(metric, torchmetrics.Metric)
    return metric


def fed(metric: Any) -> Any:
    for batch in batches():
        metric.update(*batch)
    return metric


# ------------------------------------------------------------------ it becomes one


def test_it_becomes_a_metric_as_it_is_asked_and_keeps_what_it_has() -> None:
    metric = batchproof.exact(rmse)
    metric.update(*batches()[0])
    assert type(metric) is Exact
    assert isinstance(metric, nn.Module)
    assert type(metric) is not Exact
    assert isinstance(metric, torchmetrics.Metric)
    assert isinstance(metric, Exact)
    for batch in batches()[1:]:
        metric.update(*batch)
    torch.testing.assert_close(metric.compute(), rmse(*data()))


def test_one_made_before_torchmetrics_was_imported_is_taken(tmp_path: Path) -> None:
    script = """
        import sys, torch, batchproof
        metric = batchproof.exact(torch.mean)
        net = torch.nn.Module()
        net.early = metric
        assert not isinstance(metric, torch.nn.Module) and "torchmetrics" not in sys.modules
        import torchmetrics
        both = torchmetrics.MetricCollection({"ours": metric, "theirs": torchmetrics.MeanMetric()})
        both.update(torch.arange(5.0))
        assert {float(value) for value in both.compute().values()} == {2.0}
    """
    file = tmp_path / "late.py"
    file.write_text("\n".join(line[8:] for line in script.splitlines()))
    subprocess.run([sys.executable, str(file)], check=True)


def test_what_was_pickled_as_a_metric_is_an_exact_where_torchmetrics_is_missing(tmp_path: Path) -> None:
    metric = batchproof.exact(torch.mean)
    assert isinstance(metric, nn.Module)
    metric.update(torch.arange(5.0))
    (tmp_path / "metric.pkl").write_bytes(pickle.dumps(metric))
    script = f"""
        import pickle, sys
        sys.modules["torchmetrics"] = None
        import batchproof
        metric = pickle.load(open({str(tmp_path / "metric.pkl")!r}, "rb"))
        assert type(metric) is batchproof.Exact and metric.compute() == 2
        metric.update(__import__("torch").tensor([8.0]))
        assert metric.compute() == 3
    """
    file = tmp_path / "without.py"
    file.write_text("\n".join(line[8:] for line in script.splitlines()))
    subprocess.run([sys.executable, str(file)], check=True)


def test_an_update_is_not_wrapped() -> None:
    metric = asked(rmse)
    assert "update" not in vars(metric)
    assert type(metric).update is Exact.update


# ------------------------------------------------------------------ what a metric does


@pytest.mark.parametrize("fn", [rmse, median, both])
def test_forward_gives_the_batch_and_compute_all(fn: Any) -> None:
    metric = asked(fn)
    for batch in batches():
        torch.testing.assert_close(metric(*batch), fn(*batch))
    torch.testing.assert_close(metric.compute(), fn(*data()))
    assert metric.update_count == len(SIZES)
    assert metric.update_called
    metric.reset()
    assert not metric.update_called
    with pytest.raises(BatchproofError, match="before any data"):
        metric.compute()


def test_forward_has_a_gradient() -> None:
    p, y = data()
    metric = asked(rmse)
    metric(p.requires_grad_(), y).backward()
    assert p.grad is not None


def test_a_value_is_computed_once_and_again_after_an_update() -> None:
    metric = fed(asked(rmse))
    value = metric.compute()
    value *= 100
    torch.testing.assert_close(metric.compute(), rmse(*data()))
    metric.update(torch.ones(400), -torch.ones(400))
    p, y = data()
    ones = torch.ones(400)
    torch.testing.assert_close(metric.compute(), rmse(torch.cat([p, ones]), torch.cat([y, -ones])))


def test_over_samples() -> None:
    metric = fed(asked(rmse, over="samples"))
    p, y = data()
    torch.testing.assert_close(metric.compute(), (p - y).abs().mean())
    torch.testing.assert_close(copy.deepcopy(metric).compute(), (p - y).abs().mean())


def test_numbers_are_python_s_until_lightning_asks() -> None:
    metric = fed(asked(as_number))
    assert isinstance(metric.compute(), float)
    metric(*batches()[0])
    assert isinstance(metric._forward_cache, Tensor)  # what Lightning reads as it logs
    assert isinstance(metric.compute(), Tensor)


@pytest.mark.integration("torchmetrics", "arithmetic on metrics")
def test_arithmetic() -> None:
    total = torchmetrics.MeanAbsoluteError() + batchproof.exact(rmse)
    for batch in batches():
        total.update(*batch)
    p, y = data()
    torch.testing.assert_close(total.compute(), rmse(p, y) + (p - y).abs().mean())
    ratio = 2 * asked(rmse) / asked(mse)
    for batch in batches():
        ratio.update(*batch)
    torch.testing.assert_close(ratio.compute(), 2 * rmse(p, y) / mse(p, y))


@pytest.mark.integration("torchmetrics", "plot")
def test_plot() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    metric = fed(asked(rmse))
    _, axes = metric.plot()
    assert axes.get_title() or axes.get_ylabel()
    values = [metric(*batch) for batch in batches()]
    _, axes = metric.plot(values)
    assert axes.lines or axes.collections
    __import__("matplotlib.pyplot").pyplot.close("all")


# ------------------------------------------------------------------ collections


@pytest.mark.integration("torchmetrics", "`MetricCollection`, with compute groups")
@pytest.mark.parametrize("way", ["update", "forward"])
def test_a_collection_shares_no_exact_state(way: str) -> None:
    twice = {"a": batchproof.exact(rmse), "b": batchproof.exact(rmse), "c": batchproof.exact(mse)}
    theirs = {"mae": torchmetrics.MeanAbsoluteError(), "mse": torchmetrics.MeanSquaredError()}
    metrics = torchmetrics.MetricCollection({**twice, **theirs})
    for epoch in range(2):
        for batch in batches():
            getattr(metrics, way)(*batch)
        p, y = data()
        expected = {"a": rmse(p, y), "b": rmse(p, y), "c": mse(p, y), "mae": (p - y).abs().mean(), "mse": mse(p, y)}
        torch.testing.assert_close(dict(metrics.compute()), expected, msg=str(epoch))
        assert all(len(group) == 1 for group in metrics.compute_groups.values())
        metrics.reset()


def test_a_first_update_without_samples_makes_no_group() -> None:
    metrics = torchmetrics.MetricCollection({"a": asked(rmse), "b": asked(mse)})
    assert not metrics._equal_metric_states(metrics["a"], metrics["b"])


def test_a_group_that_the_user_wants_is_exact_or_refused() -> None:
    one = torchmetrics.MetricCollection({"a": asked(rmse), "b": asked(rmse)}, compute_groups=[["a", "b"]])
    for batch in batches():
        one.update(*batch)
    torch.testing.assert_close(one.compute()["b"], rmse(*data()))
    other = torchmetrics.MetricCollection({"a": asked(rmse), "b": asked(median)}, compute_groups=[["a", "b"]])
    with pytest.raises(BatchproofError, match="does not fit"):
        fed(other).compute()


def test_a_collection_hands_each_metric_its_keywords() -> None:
    def weighted(p: Tensor, y: Tensor, *, weights: Tensor) -> Tensor:
        return ((p - y) ** 2 * weights).sum() / weights.sum()

    p, y = data()
    w = torch.rand(len(p))
    metrics = torchmetrics.MetricCollection({"rmse": batchproof.exact(rmse), "weighted": batchproof.exact(weighted)})
    for a, b, c in zip(p.split(SIZES), y.split(SIZES), w.split(SIZES), strict=True):
        metrics.update(a, b, weights=c)
    torch.testing.assert_close(dict(metrics.compute()), {"rmse": rmse(p, y), "weighted": weighted(p, y, weights=w)})


def test_a_collection_is_cloned_with_another_prefix() -> None:
    metrics = torchmetrics.MetricCollection({"rmse": batchproof.exact(rmse)}, prefix="train_")
    fed(metrics)
    twin = metrics.clone(prefix="val_")
    metrics.reset()
    torch.testing.assert_close(dict(twin.compute()), {"val_rmse": rmse(*data())})


# ------------------------------------------------------------------ wrappers


@pytest.mark.integration(
    "torchmetrics", "wrappers: `MetricTracker`, `MinMaxMetric`, `Running`, `BootStrapper`, `ClasswiseWrapper`"
)
def test_wrappers() -> None:
    from torchmetrics import wrappers

    tracker = wrappers.MetricTracker(batchproof.exact(rmse), maximize=False)
    lowest = wrappers.MinMaxMetric(batchproof.exact(rmse))
    running = wrappers.Running(batchproof.exact(rmse), window=2)
    strapped = wrappers.BootStrapper(batchproof.exact(rmse), num_bootstraps=4)
    by_class = wrappers.ClasswiseWrapper(batchproof.exact(lambda p, y: torch.stack([rmse(p, y), mse(p, y)])))
    for batch in batches():
        tracker.increment()
        for metric in (tracker, lowest, running, strapped, by_class):
            metric.update(*batch)
        lowest.compute()
    torch.testing.assert_close(tracker.compute_all(), torch.stack([rmse(*batch) for batch in batches()]))
    torch.testing.assert_close(lowest.compute()["raw"], rmse(*data()))
    assert lowest.compute()["min"] <= lowest.compute()["raw"] <= lowest.compute()["max"]
    last = [torch.cat(column) for column in zip(*batches()[-2:], strict=True)]
    torch.testing.assert_close(running.compute(), rmse(*last))
    assert 0 < strapped.compute()["std"] < 1
    torch.testing.assert_close(list(by_class.compute().values()), [rmse(*data()), mse(*data())])


# ------------------------------------------------------------------ modules, checkpoints, devices, copies


class Net(nn.Module):
    def __init__(self, fn: Any = rmse) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.metric = batchproof.exact(fn)


def test_a_module_s_state_has_it_where_it_is_persistent() -> None:
    net = Net()
    assert dict(net.named_children()).keys() == {"layer", "metric"}
    fed(net.metric)
    assert net.state_dict().keys() == {"layer.weight", "layer.bias"}
    net.metric.persistent(True)
    other = Net()
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other.metric.compute(), rmse(*data()))
    assert other.metric.update_count == len(SIZES)


@pytest.mark.integration("torchmetrics", "`persistent` states in checkpoints")
@pytest.mark.parametrize("fn", [rmse, median, both])
def test_a_checkpoint_is_read_without_running_code(fn: Any, tmp_path: Path) -> None:
    net = Net(fn)
    net.metric.persistent(True)
    for batch in batches()[:3]:
        net.metric.update(*batch)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    other = Net(fn)
    other.metric.persistent(True)
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    for batch in batches()[3:]:
        other.metric.update(*batch)
    torch.testing.assert_close(other.metric.compute(), fn(*data()))


def test_bytes_that_are_no_state_are_refused() -> None:
    net = Net()
    net.metric.persistent(True)
    with pytest.raises(BatchproofError, match="no state of an exact metric"):
        net.load_state_dict({**net.state_dict(), "metric.exact_state": torch.zeros(9, dtype=torch.uint8)})


def test_its_own_state_goes_as_an_exact_s_does() -> None:
    metric, plain = fed(asked(rmse)), batchproof.exact(rmse)
    plain.load_state_dict(metric.state_dict())
    torch.testing.assert_close(plain.compute(), rmse(*data()))
    again = asked(rmse)
    again.load_state_dict(plain.state_dict())
    torch.testing.assert_close(again.compute(), rmse(*data()))


def test_merge_state_takes_metrics_and_states() -> None:
    first, second, third = (asked(rmse) for _ in range(3))
    for metric, part in zip((first, second, third), (batches()[:2], batches()[2:3], batches()[3:]), strict=True):
        for batch in part:
            metric.update(*batch)
    first.compute()
    first.merge_state(second)
    first.merge_state(third.metric_state)
    torch.testing.assert_close(first.compute(), rmse(*data()))


def test_moves_keep_the_state_and_its_precision() -> None:
    net = Net()
    fed(net.metric)
    for move in (nn.Module.half, nn.Module.double, nn.Module.float, nn.Module.cpu, nn.Module.bfloat16):
        move(net)
        torch.testing.assert_close(net.metric.compute(), rmse(*data()))
    net.metric.set_dtype(torch.float16).to(torch.float16).to("cpu")
    torch.testing.assert_close(net.metric.compute(), rmse(*data()))
    assert net.metric.device == torch.device("cpu")


def test_a_function_with_weights_moves_along_and_is_no_child() -> None:
    metric = asked(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])))
    nn.ModuleList([metric]).double()
    assert metric.fn.weight.dtype == torch.float64
    twin = copy.deepcopy(metric)
    assert twin.fn is not metric.fn
    assert not list(twin.children())
    assert not list(metric.parameters()) and not metric.state_dict(prefix="m.")


def test_a_function_that_holds_the_metric() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.metric = batchproof.exact(self)

        def forward(self, x: Tensor) -> Tensor:
            return x.square().mean().sqrt()

    own = Own().double().to("cpu")
    own.metric.update(torch.arange(40.0))
    assert own.metric.compute() == own(torch.arange(40.0))
    assert sum(1 for _ in own.modules()) == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), copy.copy])
def test_copies_are_metrics_with_what_was_set(copied: Any) -> None:
    metric = asked(rmse)
    metric.sync_on_compute, metric.dist_sync_on_step = False, True
    metric.persistent(True)
    metric.update(*batches()[0])
    twin = copied(metric)
    assert isinstance(twin, torchmetrics.Metric) and twin is not metric
    assert (twin.sync_on_compute, twin.dist_sync_on_step, twin._persistent) == (False, True, {"exact_state": True})
    for batch in batches()[1:]:
        twin.update(*batch)
    torch.testing.assert_close(twin.compute(), rmse(*data()))
    torch.testing.assert_close(metric.compute(), rmse(*batches()[0]))


def test_a_pickled_module_has_it_as_a_child() -> None:
    net = nn.ModuleDict({"m": asked(rmse)})
    fed(net["m"])
    twin = pickle.loads(pickle.dumps(net))
    torch.testing.assert_close(twin["m"].compute(), rmse(*data()))
    assert len(list(twin.modules())) == 2


def test_it_can_be_hashed_without_its_state() -> None:
    metric = asked(rmse)
    before = hash(metric)
    fed(metric)
    assert hash(metric) == before


# ------------------------------------------------------------------ ranks

SHARES = {2: (61, 39), 3: (64, 0, 36)}


def rank_scenarios(rank: int, world: int) -> dict[str, Any]:
    shares = SHARES[world]
    lo = sum(shares[:rank])
    p, y = (whole[lo : lo + shares[rank]] for whole in data())
    found: dict[str, Any] = {}
    for name, fn in {"rmse": rmse, "median": median}.items():
        metric = asked(fn)
        for batch in zip(p.split(10), y.split(10), strict=True):
            metric.update(*batch)
        found[name] = [metric.compute(), metric.n_samples]
        metric.update(torch.tensor([2.0]), torch.tensor([0.0]))  # goes on, as an epoch after a validation in it
        found[f"{name} later"] = [metric.compute(), metric.n_samples]
        with metric.sync_context():
            found[f"{name} in context"] = [Exact.compute(metric), metric.n_samples]
        found[f"{name} after context"] = metric.n_samples
        metric.sync()
        metric.persistent(True)
        saved = metric.state_dict(prefix="m.")["m.exact_state"]  # the first rank's is what a trainer writes
        torch.distributed.broadcast_object_list(held := [saved], src=0)
        loaded = asked(fn)
        loaded.exact_state = held[0]
        loaded.update(torch.tensor([2.0]), torch.tensor([0.0]))
        found[f"{name} resumed"] = [loaded.compute(), Exact.compute(loaded)]
        found[f"{name} synced, rank 0 alone"] = metric.compute() if rank == 0 else None
        metric.unsync()
        metric.sync_on_compute = False
        found[f"{name} alone"] = [metric.compute(), metric.n_samples]
        metric.reset()
    stepwise = asked(rmse)
    stepwise.dist_sync_on_step = True
    found["steps"] = [stepwise(torch.full((n,), float(rank + n)), torch.zeros(n)) for n in (40, 3)]
    found["after steps"] = stepwise.compute()
    running = torchmetrics.wrappers.Running(batchproof.exact(rmse), window=2)
    for n in (5, 40, 3):
        running.update(torch.full((n + rank,), float(rank + n)), torch.zeros(n + rank))
    found["base of running"] = running.base_metric.n_samples
    together = torchmetrics.MetricCollection({"ours": batchproof.exact(rmse), "mse": torchmetrics.MeanSquaredError()})
    together.update(torch.full((3 + rank,), float(rank)), torch.zeros(3 + rank))
    found["collection"] = {name: float(value) for name, value in together.compute().items()}
    alone = batchproof.exact(rmse)
    assert isinstance(alone, torchmetrics.Metric)  # no module has it: one rank may ask for its value
    alone.update(p, y)
    found["no part of a module"] = alone.compute() if rank == 0 else None
    gathers = asked(rmse)
    gathers.dist_sync_fn = lambda *_, **__: None
    gathers.update(torch.ones(3), torch.zeros(3))
    with pytest.raises(BatchproofError, match="dist_sync_fn"):
        gathers.compute()
    return found


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.long)])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return spawned(rank_scenarios, request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.integration("torchmetrics", "`compute` over uneven ranks, and updates after it")
@pytest.mark.parametrize("name", ["rmse", "median"])
def test_compute_is_over_all_ranks_and_the_state_stays_the_rank_s_own(ranks: list[dict[str, Any]], name: str) -> None:
    fn, world = {"rmse": rmse, "median": median}[name], len(ranks)
    p, y = data()
    more = torch.cat([p, torch.full((world,), 2.0)]), torch.cat([y, torch.zeros(world)])
    for result, share in zip(ranks, SHARES[world], strict=True):
        torch.testing.assert_close(result[name], [fn(p, y), share])
        torch.testing.assert_close(result[f"{name} later"], [fn(*more), share + 1])
        torch.testing.assert_close(result[f"{name} in context"], [fn(*more), len(more[0])])
        assert result[f"{name} after context"] == share + 1
        assert result[f"{name} alone"][1] == share + 1
    torch.testing.assert_close(ranks[0][f"{name} synced, rank 0 alone"], fn(*more))
    resumed = torch.cat([more[0], torch.full((world,), 2.0)]), torch.cat([more[1], torch.zeros(world)])
    alone = torch.cat([more[0], torch.tensor([2.0])]), torch.cat([more[1], torch.tensor([0.0])])
    for result in ranks:
        torch.testing.assert_close(result[f"{name} resumed"], [fn(*resumed), fn(*alone)])
    own = [torch.cat([part[: SHARES[world][0]], torch.tensor([last])]) for part, last in ((p, 2.0), (y, 0.0))]
    torch.testing.assert_close(ranks[0][f"{name} alone"][0], fn(*own))


def test_a_loop_s_own_metric_does_not_wait_for_other_ranks(ranks: list[dict[str, Any]]) -> None:
    p, y = (whole[: SHARES[len(ranks)][0]] for whole in data())
    torch.testing.assert_close(ranks[0]["no part of a module"], rmse(p, y))


def test_a_step_over_all_ranks(ranks: list[dict[str, Any]]) -> None:
    world = len(ranks)
    steps = [torch.tensor([float(rank + n) for rank in range(world)]).square().mean().sqrt() for n in (40, 3)]
    for result in ranks:
        torch.testing.assert_close(result["steps"], steps)
        total = sum(n * (rank + n) ** 2 for n in (40, 3) for rank in range(world)) / (43 * world)
        assert float(result["after steps"]) == pytest.approx(total**0.5)


def test_a_collection_over_ranks(ranks: list[dict[str, Any]]) -> None:
    for result in ranks:
        assert result["collection"]["ours"] ** 2 == pytest.approx(result["collection"]["mse"])
        assert result["base of running"] == 0
