"""sync over torch.distributed: with 2 and 4 gloo processes the value is that of one process."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import batchproof as bp
from functions import median_error, normal, pair, pearson, r2, range_error, rmse
from promise import Function, difference, split
from ranks import spawned

TOTAL = 240
SHARES = {2: (170, 70), 3: (100, 0, 140), 4: (100, 1, 0, 139)}


def many(pred: Tensor, real: Tensor) -> dict[str, Any]:
    return {
        "rmse": rmse(pred, real),
        "r2": r2(pred, real),
        "worst": (pred - real).abs().max(),
        "best": (pred - real).abs().min(),
        "above": (pred > real).sum(),
        "any": (pred > real + 3).any(),
        "all": (pred > -1e9).all(),
    }


def running_total(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).cumsum(0).abs().mean()


FUNCTIONS: dict[str, Function] = {
    "rmse": rmse,
    "r2": r2,
    "pearson": pearson,
    "range": range_error,
    "median": median_error,
    "order": running_total,
    "many": many,
}


def samples() -> tuple[Tensor, Tensor]:
    """Means drift from rank to rank, so that each rank centres elsewhere."""
    pred, real = pair(TOTAL)
    drift = torch.arange(TOTAL, dtype=torch.float64) / 4
    return pred + drift, real + drift


def shares(counts: tuple[int, ...]) -> list[tuple[int, int]]:
    edges = [sum(counts[:i]) for i in range(len(counts) + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def fed(fn: Function, lo: int, hi: int, **options: Any) -> bp.Exact:
    metric = bp.exact(fn, **options)
    if hi > lo:
        for piece in split(tuple(a[lo:hi] for a in samples()), (40, 1, 33)):
            metric.update(*piece)
    return metric


def value(metric: bp.Exact) -> Any:
    try:
        return metric.compute()
    except bp.BatchproofError as error:
        return f"refused: {error}"


def planned(metric: bp.Exact) -> str:
    try:
        return "constant" if metric.plan.is_constant_size else "rows"
    except bp.BatchproofError as error:
        return f"refused: {error}"


def synced(metric: bp.Exact, group: Any = None) -> dict[str, Any]:
    before = value(metric), metric.n_samples
    metric.sync(group)
    after = value(metric), metric.n_samples
    return {"before": before, "after": after, "plan": planned(metric)}


def count_collectives(action: Callable[[], Any]) -> int:
    names = [n for n in dir(dist) if n.startswith(("all_", "broadcast", "gather", "reduce", "scatter", "barrier"))]
    functions = {name: getattr(dist, name) for name in names if callable(getattr(dist, name))}
    calls = 0

    def counted(function: Function) -> Function:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return function(*args, **kwargs)

        return call

    for name, function in functions.items():
        setattr(dist, name, counted(function))
    try:
        action()
    finally:
        for name, function in functions.items():
            setattr(dist, name, function)
    return calls


def through_ddp(rank: int, counts: tuple[int, ...]) -> dict[str, Any]:
    """A training loop with the metric as its loss: equal numbers of steps, uneven batches."""
    torch.manual_seed(1)
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 1).double())
    steps = torch.optim.SGD(model.parameters(), 0.05)
    x, y = normal(TOTAL, 3, seed=rank), normal(TOTAL, seed=10 + rank)
    metric, seen = bp.exact(rmse), []
    for i in range(6):
        rows = slice(30 * i, 30 * i + 20 + 3 * rank)
        steps.zero_grad()
        pred = model(x[rows]).squeeze(1)
        metric(pred, y[rows]).backward()
        steps.step()
        seen.append((pred.detach().clone(), y[rows]))
    metric.sync()
    return {"value": metric.compute(), "n": metric.n_samples, "seen": tuple(map(torch.cat, zip(*seen, strict=True)))}


def wide(rank: int) -> tuple[Tensor, Tensor]:
    """Samples of another width on each rank but the last of several, which has none; means drift."""
    n, width = (0 if rank == 3 else 60), (4, 6, 3, 4)[rank]
    real = normal(n, width, seed=rank) + 5 * rank
    return real + 0.3 * normal(n, width, seed=10 + rank), real


def r2_of_sums(pred: Tensor, real: Tensor) -> Tensor:
    """A width leaves no trace in what is summed over samples."""
    return r2(pred.sum(1), real.sum(1))


def mean_of_all(pred: Tensor, real: Tensor) -> Tensor:
    """How many numbers a sample has enters the value."""
    return (pred - real).square().mean().sqrt()


def of_widths(rank: int, fn: Function, **options: Any) -> list[Any]:
    """The value after a sync, and after another batch of the first rank's shape on all."""
    metric = bp.exact(fn, **options)
    for piece in split(wide(rank), (40, 1, 19)) if len(wide(rank)[0]) else ():
        metric.update(*piece)
    try:
        metric.sync()
    except bp.BatchproofError as error:
        return [f"refused: {error}"]
    before = value(metric)
    metric.update(*(a[:7] for a in wide(0)))
    return [before, value(metric)]


def scenarios(rank: int, world: int) -> dict[str, Any]:
    lo, hi = shares(SHARES[world])[rank]
    out: dict[str, Any] = {name: synced(fed(fn, lo, hi)) for name, fn in FUNCTIONS.items()}
    out["kept rows"] = synced(fed(rmse, lo, hi, state="rows"))
    out["over samples"] = synced(fed(rmse, lo, hi, over="samples"))
    few = (5, 3, 0, 2)[:world]
    out["warm-up"] = synced(fed(r2, *shares(few)[rank]))
    mixed = (5, 200, 3, 0)[:world]
    out["warm-up on one rank"] = synced(fed(r2, *shares(mixed)[rank]))
    out["nothing on rank 0"] = synced(fed(r2, *shares((0, 200, 7, 1)[:world])[rank]))
    out["no data at all"] = synced(fed(rmse, 0, 0))

    metric = fed(r2, lo, hi)
    kept = copy.deepcopy(metric)
    metric.sync()
    pieces = tuple(a[lo:hi] for a in samples())
    if rank == 0:
        metric.update(*pieces)
    out["more after"] = value(metric)
    kept.sync()
    kept.reset()
    kept.update(*(a[:50] for a in samples()))
    out["reset after"] = value(kept)

    out["widths"] = of_widths(rank, r2_of_sums)
    out["widths that enter"] = of_widths(rank, mean_of_all)
    out["widths over samples"] = of_widths(rank, mean_of_all, over="samples")

    first, second = fed(rmse, lo, hi), fed(many, lo, hi)
    out["collectives"] = count_collectives(first.sync), count_collectives(second.sync)
    out["ddp"] = through_ddp(rank, SHARES[world])
    pair_group = dist.new_group([0, 1])
    if rank < 2:
        out["group"] = synced(fed(r2, *shares((150, 90))[rank]), pair_group)
    return out


def weighing(weight: float) -> nn.Module:
    return nn.CrossEntropyLoss(weight=torch.tensor([1.0, weight, 0.5], dtype=torch.float64))


def mismatches(rank: int, world: int) -> dict[str, Any]:
    """What no two ranks should do, one after the other: after a refusal the group is still of use."""
    scores, y = normal(TOTAL, 3), torch.arange(TOTAL) % 3
    out: dict[str, Any] = {}

    def attempt(name: str, metric: bp.Exact) -> None:
        try:
            out[name] = synced(metric)["after"]
        except bp.BatchproofError as error:
            out[name] = f"refused: {error}"

    attempt("two functions", fed([rmse, r2][rank], 0, 100))
    loss = bp.exact(weighing([1.0, 7.0][rank]))
    loss.update(scores[rank::2], y[rank::2])
    attempt("two weights", loss)
    attempt("two ways to keep", fed(rmse, *shares((100, 140))[rank], state=["auto", "rows"][rank]))
    attempt("two warm-ups", fed(r2, *shares((100, 140))[rank], warmup=[10, 1000][rank]))
    attempt("two meanings", fed(rmse, 0, 100, over=["dataset", "samples"][rank]))
    narrow = bp.exact(rmse)
    narrow.update(*(a.to([torch.float64, torch.float32][rank]) for a in samples()))
    attempt("two types", narrow)
    shared = bp.exact(lambda x, w: (x * w).pow(2).mean().sqrt(), batch_dim=(0, None))
    shared.update(samples()[0], torch.tensor([2.0, 3.0][rank], dtype=torch.float64))
    attempt("two shared arguments", shared)
    for name, state in (("not to be sent", "rows"), ("not to be sent, of another plan", "auto")):
        held = bp.exact(named, state=state)
        pred, real = samples()
        held.update(pred[:40], [Name(stays=rank == 1) for _ in real[:40]])
        attempt(name, held)
    attempt("at last", fed(rmse, *shares((150, 90))[rank]))
    return out


@dataclass
class Name:
    """What a sample is called; it may belong to the process that made it."""

    stays: bool

    def __copy__(self) -> Name:
        return self

    def __deepcopy__(self, memo: Any) -> Name:
        return self

    def __reduce__(self) -> Any:
        if self.stays:
            raise TypeError("this name stays here")
        return Name, (False,)


def named(pred: Tensor, names: list[Name]) -> Tensor:
    return pred.square().mean() + len(names) * 0


@pytest.fixture(scope="module", params=[3, *(pytest.param(world, marks=pytest.mark.long) for world in (2, 4))])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One spawn for all tests of a world size: starting processes is what costs time."""
    return spawned(scenarios, request.param, tmp_path_factory.mktemp("ranks"))


def agrees(result: dict[str, Any], fn: Function, total: int) -> None:
    got, n = result["after"]
    assert n == total
    problem = difference(got, fn(*(a[:total] for a in samples())), 1e-7)
    assert problem is None, problem


@pytest.mark.parametrize("name", FUNCTIONS)
def test_uneven_ranks_and_a_rank_without_data(ranks: list[dict[str, Any]], name: str) -> None:
    for result in ranks:
        agrees(result[name], FUNCTIONS[name], TOTAL)


@pytest.mark.parametrize("name", ["rmse", "r2", "pearson", "range", "many"])
def test_the_state_stays_of_constant_size(ranks: list[dict[str, Any]], name: str) -> None:
    assert {result[name]["plan"] for result in ranks} == {"constant"}


def test_before_the_sync_each_rank_has_its_own_value(ranks: list[dict[str, Any]]) -> None:
    for result, (lo, hi) in zip(ranks, shares(SHARES[len(ranks)]), strict=True):
        got, n = result["rmse"]["before"]
        assert n == hi - lo
        if n:
            assert difference(got, rmse(*(a[lo:hi] for a in samples()))) is None
        else:
            assert got.startswith("refused")


def test_kept_rows(ranks: list[dict[str, Any]]) -> None:
    for result in ranks:
        agrees(result["kept rows"], rmse, TOTAL)
        assert result["kept rows"]["plan"] == "rows"
        assert result["median"]["plan"] == "rows"


def test_over_samples(ranks: list[dict[str, Any]]) -> None:
    single = [rmse(*(a[i : i + 1] for a in samples())) for i in range(TOTAL)]
    for result in ranks:
        assert difference(result["over samples"]["after"][0], torch.stack(single).mean(), 1e-8) is None


def test_ranks_in_the_warm_up(ranks: list[dict[str, Any]]) -> None:
    for result in ranks:
        agrees(result["warm-up"], r2, sum((5, 3, 0, 2)[: len(ranks)]))
        agrees(result["warm-up on one rank"], r2, sum((5, 200, 3, 0)[: len(ranks)]))
        agrees(result["nothing on rank 0"], r2, sum((0, 200, 7, 1)[: len(ranks)]))


def test_no_data_on_any_rank(ranks: list[dict[str, Any]]) -> None:
    for result in ranks:
        assert result["no data at all"]["after"][0].startswith("refused")


def test_updates_and_reset_after_the_sync(ranks: list[dict[str, Any]]) -> None:
    lo, hi = shares(SHARES[len(ranks)])[0]
    whole = samples()
    longer = r2(*(torch.cat([a, a[lo:hi]]) for a in whole))
    assert difference(ranks[0]["more after"], longer, 1e-8) is None
    for result in ranks[1:]:
        assert difference(result["more after"], r2(*whole), 1e-8) is None
    for result in ranks:
        assert difference(result["reset after"], r2(*(a[:50] for a in whole)), 1e-8) is None


def test_samples_of_other_shapes_on_other_ranks(ranks: list[dict[str, Any]]) -> None:
    """As in one process: the value where a sample's sizes do not enter it, and a refusal on every rank elsewhere."""
    parts = [wide(rank) for rank in range(len(ranks)) if rank != 3]
    for late, more in enumerate(([], [tuple(a[:7] for a in wide(0))])):
        columns = list(zip(*parts, *more))
        whole = r2(*(torch.cat([part.sum(1) for part in column]) for column in columns))
        each = torch.cat([(p - y).square().mean(1).sqrt() for p, y in zip(*columns)]).mean()
        for result in ranks:
            assert difference(result["widths"][late], whole, 1e-8) is None
            assert difference(result["widths over samples"][late], each, 1e-8) is None
    for result in ranks:
        assert all(str(one).startswith("refused") for one in result["widths that enter"])


def test_collectives_are_packed(ranks: list[dict[str, Any]]) -> None:
    """As many for one number as for seven: one per merge kind, and a handshake."""
    for result in ranks:
        one, seven = result["collectives"]
        assert one <= 6
        assert seven <= one + 5


def test_through_ddp(ranks: list[dict[str, Any]]) -> None:
    pred, real = (torch.cat([result["ddp"]["seen"][i] for result in ranks]) for i in range(2))
    for result in ranks:
        assert result["ddp"]["n"] == len(pred)
        assert difference(result["ddp"]["value"], rmse(pred, real)) is None


def test_a_group(ranks: list[dict[str, Any]]) -> None:
    for result in ranks[:2]:
        agrees(result["group"], r2, TOTAL)


def test_ranks_that_do_not_fit_together(tmp_path: Path) -> None:
    """Refused on every rank, before a collective that would hang or abort; or the right value."""
    for result in spawned(mismatches, 2, tmp_path):
        for name in ("two functions", "two weights", "two meanings", "two shared arguments"):
            assert str(result[name]).startswith("refused"), (name, result[name])
        if not str(result["two types"]).startswith("refused"):
            assert difference(result["two types"][0].double(), rmse(*samples()), 1e-6) is None
        for name, fn in (("two ways to keep", rmse), ("two warm-ups", r2)):
            if not str(result[name]).startswith("refused"):
                agrees({"after": result[name]}, fn, TOTAL)
        for name in ("not to be sent", "not to be sent, of another plan"):
            assert str(result[name]).startswith("refused: sync failed on rank 1, and so on all: TypeError: this name")
        agrees({"after": result["at last"]}, rmse, TOTAL)


def test_without_a_process_group() -> None:
    """One process is a world of one, or a clear error; never another value."""
    metric = fed(rmse, 0, TOTAL)
    try:
        metric.sync()
    except bp.BatchproofError as error:
        assert "torch.distributed" in str(error) or "process group" in str(error)
    assert difference(metric.compute(), rmse(*samples())) is None
