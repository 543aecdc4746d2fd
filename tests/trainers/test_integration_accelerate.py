"""Over ranks, accelerate's loaders and DistributedSampler repeat samples: each is counted once, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)

pytest.importorskip("accelerate")

import batchproof as bp
from batchproof.integrations import repeats
from functions import rmse
from ranks import as_torchrun, spawned

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:(accelerate|torch).*")

BATCH = 4
SIZES = (1, 3, 8, 9, 23)


def columns(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first samples are far off: one of them too many shows."""
    pred = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    return pred, pred + torch.linspace(100, 1, n, dtype=torch.float64)


class Stream(IterableDataset[Any]):
    def __init__(self, n: int) -> None:
        self.rows = list(zip(*columns(n), strict=True))

    def __iter__(self) -> Any:
        return iter(self.rows)


class Sized(Stream):
    def __len__(self) -> int:
        return len(self.rows)


def map_style(n: int) -> Dataset[Any]:
    return TensorDataset(*columns(n))


LOADERS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "usual": (map_style, {}, {}),
    "shuffled": (map_style, {"shuffle": True}, {}),
    "uneven": (map_style, {}, {"even_batches": False}),
    "split": (map_style, {"batch_size": 6}, {"split_batches": True}),
    "split, uneven": (map_style, {"batch_size": 6}, {"split_batches": True, "even_batches": False}),
    "dispatched": (map_style, {}, {"dispatch_batches": True}),
    "dispatched, split": (map_style, {"batch_size": 6}, {"dispatch_batches": True, "split_batches": True}),
    "stream": (Stream, {}, {"dispatch_batches": True}),
    "stream, read by each": (Sized, {}, {"dispatch_batches": False}),
}


def accelerator(**options: Any) -> Any:
    from accelerate import Accelerator, DataLoaderConfiguration

    return Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**options))


def values_of(name: str) -> list[float]:
    data, loading, preparing = LOADERS[name]
    found = []
    for n in SIZES:
        loader = accelerator(**preparing).prepare(DataLoader(data(n), **{"batch_size": BATCH, **loading}))
        metric = bp.exact(rmse)
        for pred, real in loader:
            repeats.update(metric, loader, pred, real)
        found.append(float(metric.sync(n_samples=n).compute()))
    return found


def counted(metric: bp.Exact, n: int) -> str:
    before = metric.n_samples
    try:
        metric.sync(n_samples=n)
    except bp.BatchproofError as error:
        assert metric.n_samples == before
        return str(error)
    return ""


def naive(_: int) -> str:
    """All rows folded: what `n_samples` is for."""
    loader = accelerator().prepare(DataLoader(map_style(9), batch_size=BATCH))
    metric = bp.exact(rmse)
    for pred, real in loader:
        metric.update(pred, real)
    return counted(metric, 9)


def subset(_: int) -> tuple[float, float]:
    """A sampler of some of the data: accelerate takes the length of all of it for the number of samples."""
    torch.manual_seed(0)
    loader = accelerator().prepare(DataLoader(map_style(20), batch_size=BATCH, sampler=SubsetRandomSampler(range(9))))
    metric, gathered = bp.exact(rmse), 0
    for pred, real in loader:
        repeats.update(metric, loader, pred, real)
        gathered += len(accelerator().gather_for_metrics(pred))
    return float(metric.sync(n_samples=9).compute()), gathered


class Own(BatchSampler):
    pass


def refusals(_: int) -> list[str]:
    reasons = []
    loaders = [
        (DataLoader(Stream(9), batch_size=BATCH), {"dispatch_batches": False}),
        (DataLoader(map_style(9), batch_sampler=Own(SequentialSampler(range(9)), BATCH, False)), {}),
    ]
    for loader, options in loaders:
        prepared = accelerator(**options).prepare(loader)
        reason = ""
        for pred, real in prepared:
            try:
                repeats.drop_repeats(prepared, pred, real)
            except bp.BatchproofError as error:
                reason = reason or str(error)
        reasons.append(reason)
    prepared = accelerator().prepare(DataLoader(map_style(9), batch_size=BATCH))
    for pred, _real in prepared:
        last = pred
        if not prepared.end_of_dataloader:
            continue
        try:
            repeats.drop_repeats(prepared, pred, last.mean())
        except bp.BatchproofError as error:
            reasons.append(str(error))
            break
        reasons.append("")
    return reasons


def containers(rank: int) -> Any:
    loader = accelerator().prepare(DataLoader(map_style(9), batch_size=BATCH))
    kept: list[Any] = []
    for pred, real in loader:
        texts = [str(float(p)) for p in pred]
        kept = [pred, repeats.drop_repeats(loader, {"pred": pred, "rest": (real.numpy(), texts), "none": None})]
    return len(kept[0]), len(kept[1]["pred"]), [len(part) for part in kept[1]["rest"]]


def skipped(_: int) -> float:
    from accelerate import skip_first_batches

    loader = accelerator().prepare(DataLoader(map_style(23), batch_size=BATCH))
    rest = skip_first_batches(loader, 1)
    metric = bp.exact(rmse)
    for pred, real in rest:
        repeats.update(metric, rest, pred, real)
    return float(metric.sync().compute())


def plain(rank: int, world: int) -> list[float]:
    from torch.utils.data.distributed import DistributedSampler

    found = []
    for n in SIZES:
        for shuffle in (False, True):
            sampler = DistributedSampler(map_style(n), world, rank, shuffle=shuffle)  # type: ignore[arg-type]
            metric = bp.exact(rmse)
            for pred, real in repeats.without_repeats(DataLoader(map_style(n), batch_size=BATCH, sampler=sampler)):
                metric.update(pred, real)
            found.append(float(metric.sync(n_samples=n).compute()))
    return found


def job(rank: int, world: int) -> dict[str, Any]:
    as_torchrun(rank, world)
    results: dict[str, Any] = {name: values_of(name) for name in LOADERS}
    for one in (naive, subset, refusals, containers, skipped):
        results[one.__name__] = one(rank)
    results["plain"] = plain(rank, world)
    return results


@pytest.fixture(scope="module", params=[2, 3])
def found(request: Any, tmp_path_factory: Any) -> list[dict[str, Any]]:
    return spawned(job, request.param, tmp_path_factory.mktemp("ranks"))


def whole(n: int) -> float:
    return float(rmse(*columns(n)))


@pytest.mark.integration("accelerate", "exact values over ranks: samples that its loaders repeat are left out")
@pytest.mark.parametrize("name", LOADERS)
def test_each_sample_counts_once(found, name):
    for rank in found:
        assert rank[name] == pytest.approx([whole(n) for n in SIZES], rel=1e-12)


@pytest.mark.integration("accelerate", "`sync(n_samples=)`: repeats that were folded are refused")
def test_repeats_that_were_folded_are_refused(found):
    world = len(found)
    folded = -(-9 // (BATCH * world)) * BATCH * world
    for rank in found:
        assert rank["naive"].startswith(
            f"the ranks hold {folded} samples, and there are 9: {folded - 9} more, repeated"
        )


def test_a_sampler_of_some_of_the_data(found):
    for rank in found:
        value, gathered = rank["subset"]
        assert value == pytest.approx(float(rmse(*(column[:9] for column in columns(20)))), rel=1e-12)
        assert gathered != 9  # what accelerate does here


def test_what_cannot_be_known_is_refused(found):
    for rank in found:
        stream, own, _ = rank["refusals"]
        assert "cannot be known: its data set has no length" in stream
        assert "cannot be known: its batch sampler, a Own, may fill batches" in own
    assert any(
        "a value of shape () has no row for each of the batch's 4 samples" in rank["refusals"][2] for rank in found
    )


def test_values_in_containers(found):
    world, total = len(found), 0
    for rank in found:
        rows, kept, rest = rank["containers"]
        assert rows == BATCH and rest == [kept, kept]
        total += kept
    assert total == (9 - 1) % (BATCH * world) + 1


def test_a_pass_that_is_resumed(found):
    first = BATCH * len(found)
    for rank in found:
        assert rank["skipped"] == pytest.approx(float(rmse(*(c[first:] for c in columns(23)))), rel=1e-12)


def test_a_distributed_sampler(found):
    for rank in found:
        assert rank["plain"] == pytest.approx([whole(n) for n in SIZES for _ in range(2)], rel=1e-12)


def test_one_process():
    loader = accelerator().prepare(DataLoader(map_style(9), batch_size=BATCH, sampler=RandomSampler(range(9))))
    metric = bp.exact(rmse)
    for pred, real in loader:
        repeats.update(metric, loader, pred=pred, real=real)
    assert metric.compute().item() == pytest.approx(whole(9))
    assert sum(len(batch[0]) for batch in repeats.without_repeats(loader)) == 9


def test_another_loader_is_refused():
    with pytest.raises(
        bp.BatchproofError, match=r"drop_repeats takes a loader that Accelerator.prepare has made, not Da"
    ):
        repeats.drop_repeats(DataLoader(map_style(9)), torch.ones(1))
