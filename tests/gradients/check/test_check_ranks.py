"""A step that is cut over ranks: right ones pass under every wrapper, and each mistake between ranks has its name."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel as DDP

from batchproof import BatchproofError, GradientCheck, check_gradients
from batchproof.gradients.check import gather
from batchproof.gradients.check.processes import on_ranks
from batchproof.testing import assert_same_gradients

Parts = list[tuple[Tensor, Tensor]]
Step = Callable[[Any, Parts], object]
N, LENGTH, WORLD = 22, 8, 2


def net(classes: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, classes)).double()


def data() -> tuple[Tensor, Tensor]:
    """Sequences of different lengths; more tokens on the first rank than on the second."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, LENGTH, 6, dtype=torch.float64, generator=generator)
    lengths = torch.randint(1, 9, (N, 1), generator=generator) - torch.arange(N)[:, None] // 6
    y = torch.randint(0, 5, (N, LENGTH), generator=generator)
    return x, y.masked_fill(torch.arange(LENGTH) >= lengths.clamp(min=1), -100)


def token_sum(model: Any, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-100, reduction="sum")


def tokens(parts: Parts) -> Tensor:
    return torch.tensor(float(sum((y != -100).sum() for _, y in parts)))


def on_all(number: Tensor) -> Tensor:
    dist.all_reduce(number)
    return number


def sums(model: Any, parts: Parts, divisor: Tensor | float) -> None:
    for x, y in parts:
        (token_sum(model, x, y) / divisor).backward()


def reduce_gradients(model: nn.Module, factor: float = 1.0) -> None:
    for p in model.parameters():
        dist.all_reduce(p.grad)
        p.grad *= factor


def sharded(model: nn.Sequential) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    for part in (model[0], model[2], model):
        fully_shard(part)
    return model


def replicated(model: nn.Module) -> nn.Module:
    from torch.distributed._composable.replicate import replicate

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return replicate(model)


def averaged(model: Any, parts: Parts) -> None:
    """Right where the wrapper averages over ranks."""
    sums(model, parts, on_all(tokens(parts)) / dist.get_world_size())


def by_hand(model: Any, parts: Parts) -> None:
    sums(model, parts, on_all(tokens(parts)))
    reduce_gradients(model)


def synced_last(model: Any, parts: Parts) -> None:
    total = on_all(tokens(parts)) / dist.get_world_size()
    with model.no_sync():
        sums(model, parts[:-1], total)
    sums(model, parts[-1:], total)


RIGHT: dict[str, tuple[Step, Any, int]] = {
    "DistributedDataParallel": (averaged, DDP, 0),
    "static graph": (averaged, partial(DDP, static_graph=True), 0),
    "no_sync but for the last": (synced_last, DDP, 0),
    "replicate": (averaged, replicated, 0),
    "all_reduce": (by_hand, None, 0),
    "slices of sequences": (averaged, DDP, 1),
}
if hasattr(torch.cpu.Stream, "record_event"):  # torch 2.6 has it, but not on a CPU
    RIGHT["fully_shard"] = (averaged, sharded, 0)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_step_passes(name: str) -> None:
    step, wrap, dim = RIGHT[name]
    model = net()
    before = [p.clone() for p in model.parameters()]
    found = check_gradients(step, data(), model, ranks=WORLD, micro_batches=3, wrap=wrap, rank_dim=dim)
    assert found.ok, str(found)
    assert found.ranks == WORLD and found.windows[0].passes == 3
    assert found.target == "Sequential: 3 micro-batches on each of 2 ranks against one batch"
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(model.parameters(), before))
    assert not dist.is_initialized()


# ------------------------------------------------------------------ mistakes


def rank_means(model: Any, parts: Parts) -> None:  # transformers#34242, torchtitan#2206
    sums(model, parts, tokens(parts))


def micro_batch_means(model: Any, parts: Parts) -> None:  # verl#906
    for x, y in parts:
        (token_sum(model, x, y) / (y != -100).sum() / len(parts)).backward()


def averaged_too(model: Any, parts: Parts) -> None:  # keras#16285: 1/x on x GPUs
    sums(model, parts, on_all(tokens(parts)))


def summed_too(model: Any, parts: Parts) -> None:  # RL2#11
    sums(model, parts, on_all(tokens(parts)) / dist.get_world_size())
    reduce_gradients(model)


def inner_module(model: Any, parts: Parts) -> None:
    averaged(model.module, parts)


def never_synced(model: Any, parts: Parts) -> None:
    with model.no_sync():
        averaged(model, parts)


def twice(model: Any, parts: Parts) -> None:  # verl#6049
    by_hand(model, parts)
    reduce_gradients(model)


def in_each(model: Any, parts: Parts) -> None:
    total = on_all(tokens(parts))
    for part in parts:
        sums(model, [part], total)
        reduce_gradients(model)


def own_denominator(model: Any, parts: Parts) -> None:  # speculators#942
    sums(model, parts, 1.0)
    reduce_gradients(model, 1 / float(tokens(parts)))


def denominator_of_rank_0(model: Any, parts: Parts) -> None:
    total = tokens(parts)
    dist.broadcast(total, 0)
    sums(model, parts, total)
    reduce_gradients(model)


def to_rank_0(model: Any, parts: Parts) -> None:
    sums(model, parts, on_all(tokens(parts)))
    for p in model.parameters():
        dist.reduce(p.grad, 0)


def from_rank_0(model: Any, parts: Parts) -> None:
    sums(model, parts, on_all(tokens(parts)))
    for p in model.parameters():
        dist.broadcast(p.grad, 0)


def cleared(model: Any, parts: Parts) -> None:
    total = on_all(tokens(parts))
    for part in parts:
        model.zero_grad()
        sums(model, [part], total)
    reduce_gradients(model)


def clipped(model: Any, parts: Parts) -> None:
    total = on_all(tokens(parts))
    for part in parts:
        sums(model, [part], total)
        nn.utils.clip_grad_norm_(model.parameters(), 0.02)
    reduce_gradients(model)


def not_divided(model: Any, parts: Parts) -> None:
    for x, _ in parts:
        model(x).square().mean().backward()


WRONG: dict[str, tuple[Step, Any, str, str]] = {
    "rank means": (rank_means, DDP, "mean-of-rank-means", "the labels of each rank"),
    "rank means of slices": (rank_means, DDP, "mean-of-rank-means", "the labels of each rank"),
    "micro-batch means": (micro_batch_means, DDP, "mean-of-means", "weighted by labels"),
    "divided by the world size": (averaged_too, DDP, "world-size", "1/2 of that of one process"),
    "times the world size": (summed_too, DDP, "world-size", "2 times that of one process"),
    "the module inside": (
        inner_module,
        DDP,
        "not-reduced",
        "each of 2 ranks ends with the gradient of its own samples",
    ),
    "never synced": (never_synced, DDP, "not-reduced", "each of 2 ranks ends with the gradient of its own samples"),
    "reduced twice": (twice, None, "reduced-twice", "added up over 2 ranks twice"),
    "reduced in each": (in_each, None, "reduced-twice", "after each backward pass"),
    "own denominator": (own_denominator, None, "rank-denominator", "each divides by its own labels"),
    "denominator of rank 0": (denominator_of_rank_0, None, "constant-factor", "all labels over those of rank 0"),
    "to rank 0 only": (to_rank_0, None, "not-reduced", "two ranks differ"),
    "cleared in each": (cleared, None, "cleared-between", "only the last is left"),
    "clipped in each": (clipped, None, "scaled-between", "not the sum of what the backward passes brought"),
    "of rank 0 only": (from_rank_0, None, "not-reduced", "nothing of rank 1 is in the gradient"),
    "not divided": (not_divided, DDP, "missing-division", "once for each backward pass"),
}

if "fully_shard" in RIGHT:
    WRONG["rank means, sharded"] = (rank_means, sharded, "mean-of-rank-means", "the labels of each rank")


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_between_ranks_has_its_name(name: str) -> None:
    step, wrap, cause, says = WRONG[name]
    n = 18 if step is not_divided else N  # in equal parts
    x, y = data()
    dim = 1 if "slices" in name else 0
    found = check_gradients(step, (x[:n], y[:n]), net(), ranks=WORLD, micro_batches=3, wrap=wrap, rank_dim=dim)
    assert (found.ok, found.cause) == (False, cause), str(found)
    assert says in found.findings[0].what


def test_what_ranks_should_count_is_told_by_what_they_count_now() -> None:
    x, y = data()
    found = check_gradients(rank_means, (x, y), net(), ranks=WORLD, micro_batches=2, wrap=DDP)
    own, others = float((y[:11] != -100).sum()), float((y[11:] != -100).sum())
    assert found.weights is not None and found.weights.ranks == (0, 0, 1, 1)
    now = WORLD / (own + others)
    assert found.weights.factors == pytest.approx([now * own, now * own, now * others, now * others])
    assert "rank 1, micro-batch 2" in str(found)


def test_three_ranks_with_unequal_shares() -> None:
    assert_same_gradients(averaged, data(), net(), ranks=3, micro_batches=2, wrap=DDP)
    with pytest.raises(AssertionError, match="a mean of the ranks' means"):
        assert_same_gradients(rank_means, data(), net(), ranks=3, micro_batches=2, wrap=DDP)


def test_micro_batches_in_this_process() -> None:
    found = check_gradients(micro_batch_means, data(), net(), micro_batches=4)
    assert found.cause == "mean-of-means" and found.ranks == 1
    assert found.weights is not None and found.weights.fits == ("labels",)
    samples = [{"x": x, "y": y} for x, y in zip(*data())]

    def step(model: nn.Module, parts: list[list[dict[str, Tensor]]]) -> None:
        for part in parts:
            x, y = (torch.stack([row[name] for row in part]) for name in "xy")
            (token_sum(model, x, y) / (y != -100).sum() / len(parts)).backward()

    count = {"tokens": lambda part: float(sum((row["y"] != -100).sum() for row in part))}
    found = check_gradients(step, samples, net(), micro_batches=4, count=lambda part: {"tokens": count["tokens"](part)})
    assert found.weights is not None and found.weights.fits == ("labels", "tokens")
    assert found.weights.counts["samples"] == (6, 6, 5, 5)


def test_the_number_that_a_step_returns() -> None:
    def step(model: Any, parts: Parts) -> float:
        averaged(model, parts)
        return float(sum(token_sum(model, x, y) for x, y in parts) / tokens(parts))

    found = check_gradients(step, data(), net(), ranks=WORLD, wrap=DDP)
    assert found.ok
    assert "the number that the step returns depends on the cut" in found.notes[0]
    assert found.notes[0].endswith("on the ranks, whose mean, weighted by labels, is that of the whole batch")


def test_what_fails_on_a_rank_fails_with_its_reason() -> None:
    def step(model: Any, parts: Parts) -> None:
        if dist.get_rank() == 1:
            raise KeyError("mine")
        averaged(model, parts)

    begin = time.monotonic()
    with pytest.raises(BatchproofError, match=r"rank 1 of 2 failed at test_check_ranks\.py:\d+: KeyError: 'mine'"):
        check_gradients(step, data(), net(), ranks=WORLD, wrap=DDP)
    assert time.monotonic() - begin < 60  # nobody waits for the others' timeout


def test_a_rank_that_waits_for_another_is_not_left_waiting() -> None:
    def step(model: Any, parts: Parts) -> None:
        averaged(model, parts)
        if dist.get_rank() == 1:
            on_all(torch.ones(()))

    with pytest.raises(BatchproofError, match="one was left waiting: rank 1 of 2 failed"):
        check_gradients(step, data(), net(), ranks=WORLD, wrap=DDP)


def my_rank() -> tuple[int, float]:
    return dist.get_rank(), float(on_all(torch.ones(())))


def test_beside_a_gpu_processes_are_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads cannot be copied: what is done must be sent, or is refused."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert on_ranks(my_rank, WORLD) == [(0, 2.0), (1, 2.0)]
    with pytest.raises(BatchproofError, match="functions and classes of a module"):
        on_ranks(lambda: None, WORLD)


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((3, data(), net()), {}, "step is a function, not int"),
        ((averaged, data(), [("w", net()[0].weight)]), {}, "the model of a step is a module, not list"),
        ((averaged, averaged, net()), {}, "the second argument holds the samples of one batch"),
        ((averaged, data(), net()), {"ranks": 12, "micro_batches": 2}, "22 samples are too few for 12 ranks"),
        ((averaged, data(), net()), {"weights": {"n": [1.0]}}, "of a step's micro-batches count= says"),
        ((averaged, data(), net()), {"ranks": 0}, "ranks must be a whole number from 1 on, not 0"),
        ((averaged, data(), net()), {"micro_batches": 1.5}, "micro_batches must be a whole number from 1 on, not 1.5"),
        ((averaged, data(), net()), {"ranks": None, "wrap": DDP}, "pass ranks= or micro_batches="),
    ],
)
def test_refused(arguments: tuple[Any, ...], options: dict[str, Any], says: str) -> None:
    with pytest.raises(BatchproofError, match=says):
        check_gradients(*arguments, **{"ranks": 2, **options})


# ------------------------------------------------------------------ a script that runs on several ranks itself


def described(found: GradientCheck) -> tuple[Any, ...]:
    return found.cause, found.windows[0].passes, round(found.windows[0].full, 9), found.ranks, found.notes


def on_every_rank() -> dict[str, Any]:
    rank, (x, y) = dist.get_rank(), data()
    mine = [slice(11 * rank + 3 * part, min(11 * rank + 3 * part + 3, 11 * rank + 11)) for part in range(4)]
    parts = [(x[own], y[own]) for own in mine]
    counts = {"tokens": [float((b != -100).sum()) for _, b in parts]}
    model = net()
    wrapped = DDP(model)

    def full(run: Any) -> None:
        (token_sum(run, x, y) / (y != -100).sum()).backward()

    out = {
        "rank means": described(check_gradients(
            lambda: full(model), lambda: rank_means(wrapped, parts), model, weights=counts
        )),
        "right": described(check_gradients(lambda: full(model), lambda: averaged(wrapped, parts), model)),
    }  # fmt: skip
    for classes in (5, 4) if "fully_shard" in RIGHT else ():  # not to be divided by two, and to be divided
        shards = sharded(net(classes))
        z = y.clamp(max=3)

        def not_divided(x: Tensor = x, z: Tensor = z, shards: nn.Module = shards) -> None:
            for a, b in zip(x.split(11), z.split(11)):
                F.cross_entropy(shards(a).flatten(0, 1), b.clamp(min=0).flatten()).backward()

        def whole(x: Tensor = x, z: Tensor = z, shards: nn.Module = shards) -> None:
            F.cross_entropy(shards(x).flatten(0, 1), z.clamp(min=0).flatten()).backward()

        out[f"{classes} classes"] = described(check_gradients(whole, not_divided, shards))
    gather.WAIT = gather.WAIT / 40
    if rank == 0:  # a check that the other rank does not make
        plain = net()
        found = check_gradients(lambda: full(plain), lambda: sums(plain, [(x, y)], 1.0), plain)
        out["alone"] = found.ok, found.ranks
    dist.barrier()
    out["after it"] = described(check_gradients(lambda: full(model), lambda: averaged(wrapped, parts), model))
    return out


def test_a_check_that_every_rank_makes() -> None:
    """All ranks say the same, of all ranks; and one that checks alone waits for nobody."""
    first, second = on_ranks(on_every_rank, WORLD)
    assert first.pop("alone") == (False, 1)
    assert first == second
    assert first["rank means"][0] == "mean-of-rank-means" and first["rank means"][3] == 2
    assert first["right"][0] is None and first["after it"][0] is None and first["after it"][3] == 2
    for classes in (5, 4) if "fully_shard" in RIGHT else ():
        assert first[f"{classes} classes"][:2] == ("missing-division", 2)
        assert "all ranks saw the same samples" in first[f"{classes} classes"][4][0]
