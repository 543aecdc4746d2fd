"""accumulate over torch.distributed: with 2 and 3 gloo processes the gradient is that of all ranks' samples."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from test_accumulate_hard import FEATURES, mlp, pearson, ranking, rmse, through
from torch import Tensor, nn
from torch.distributed._composable.replicate import replicate
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import batchproof as bp
from functions import normal
from gradients import Made, gradients, joined, same, same_gradients
from ranks import spawned

N = 90
SIZES = (5, 9, 1, 16, 20, 3, 18, 18)
#: The micro-batches of each rank: uneven, and none at all.
SHARES: dict[int, list[tuple[tuple[int, ...], ...]]] = {
    2: [((0, 2, 3, 4, 7), (1, 5, 6)), ((), tuple(range(8)))],
    3: [((0, 1), (2, 3, 4, 5, 6), (7,)), (tuple(range(8)), (), ())],
}


class Tempered(nn.Module):
    """All pairs, with a learned temperature: the outputs are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, pred: Tensor, real: Tensor) -> Tensor:
        return ranking(pred * self.t.exp(), real) + self.t.square()


class Scaled(Tempered):
    """A parameter of its own on the way to the sums, and after them."""

    def forward(self, pred: Tensor, real: Tensor) -> Tensor:
        return ((pred * self.t.exp() - real).square().mean() + self.t.square()).sqrt()


LOSSES: dict[str, tuple[Callable[[], Any], Callable[[Iterable[Any]], Any]]] = {
    "rmse": (lambda: rmse, list),
    "pearson, two gradients": (lambda: pearson, iter),
    "pearson, two passes": (lambda: pearson, list),
    "outputs": (lambda: ranking, list),
    "outputs, learned": (Tempered, list),
    "learned": (Scaled, list),
}
WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda model: model,
    "ddp": DistributedDataParallel,
    "inside": lambda model: nn.Sequential(DistributedDataParallel(model)),
}


def batches() -> list[tuple[Tensor, Tensor]]:
    """Means drift from one to the next, so that ranks would centre elsewhere."""
    drift = torch.arange(N, dtype=torch.float64) / 4
    return list(zip((normal(N, FEATURES) + drift[:, None] / 9).split(SIZES), (normal(N, seed=3) + drift).split(SIZES)))


def whole(
    loss: Callable[..., Tensor], forward: Callable[[Any], Any], parts: list[Any], parameters: list[Tensor]
) -> Made:
    value = loss(*joined([forward(part) for part in parts], 0))
    grads = torch.autograd.grad(value, parameters, allow_unused=True)
    return value.detach(), [torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)]


def learned_by(*things: Any) -> list[Tensor]:
    return [p for thing in things if isinstance(thing, nn.Module) for p in thing.parameters()]


def verdict(action: Callable[[], Any]) -> str:
    """What came of it, as a text that can be sent."""
    try:
        action()
    except bp.BatchproofError as error:
        return f"refused: {error}"
    except Exception as error:  # noqa: BLE001 - any
        return f"{type(error).__name__}: {error}"
    return "ok"


@dataclass
class Case:
    """A loss, a model as it is run, this rank's micro-batches, and what all ranks' samples give."""

    loss: Any
    model: nn.Module
    run: nn.Module
    mine: list[Any]
    everything: list[Any]

    @property
    def parameters(self) -> list[Tensor]:
        return learned_by(self.model, self.loss)

    def same(self, step: Callable[[], Tensor]) -> None:
        """Each step adds the same gradient to what is there."""
        loss, grads = whole(self.loss, through(self.model), self.everything, self.parameters)
        for times in (1, 2, 3):
            found = step()
            same((found, gradients(self.parameters)), (loss, [times * grad for grad in grads]), f"time {times}")

    def in_one_call(self, how: Callable[[Iterable[Any]], Any], group: Any) -> None:
        self.same(lambda: bp.accumulate(self.loss, through(self.run), how(self.mine), group=group))

    def in_steps(self) -> None:
        acc = bp.Accumulator(self.loss, group=dist.group.WORLD)

        def step() -> Tensor:
            for part in self.mine:
                acc.backward(*through(self.run)(part))
            return acc.finish(self.model.parameters())

        self.same(step)


def each_way(rank: int, world: int) -> dict[str, str]:
    out: dict[str, str] = {}
    parts = batches()
    for number, shares in enumerate(SHARES[world]):
        data = [parts[i] for i in shares[rank]], [parts[i] for share in shares for i in share]
        for wrap, wrapped in WRAPS.items():
            group = dist.group.WORLD if wrap == "plain" else None
            for name, (make, how) in LOSSES.items():
                model = mlp()
                case = Case(make(), model, wrapped(model), *data)
                out[f"{wrap}, {name}, {number}"] = verdict(partial(case.in_one_call, how, group))
        for name in ("rmse", "pearson, two gradients", "learned"):
            model = mlp()
            case = Case(LOSSES[name][0](), model, model, *data)
            out[f"Accumulator, {name}, {number}"] = verdict(case.in_steps)
    return out


def learned_apart(rank: int, parts: list[Any], everything: list[Any]) -> None:
    """One rank has learned the loss alone before, from other samples: it would centre elsewhere."""
    loss = lambda p, y: pearson(p, y)  # noqa: E731
    model = mlp()
    if rank == 0:
        bp.accumulate(loss, through(model), [(x * 3 + 50, y + 9) for x, y in everything])
        model.zero_grad()
    expected = whole(loss, through(model), everything, list(model.parameters()))
    for _ in range(2):
        model.zero_grad()
        found = bp.accumulate(loss, through(model), parts, group=dist.group.WORLD)
        same((found, gradients(model.parameters())), expected, "learned apart")


def failing(rank: int, loss: Any, when: int) -> str:
    """One rank's forward raises: the others hear of it at once, and nobody's gradients are touched."""
    model, calls, parts = mlp(), 0, batches()
    old = torch.ones_like(model[0].weight)
    model[0].weight.grad = old

    def forward(part: Any) -> Any:
        nonlocal calls
        calls += 1
        if rank == 1 and calls == when:
            raise KeyError("mine")
        return through(model)(part)

    said = verdict(lambda: bp.accumulate(loss, forward, parts[3:5], group=dist.group.WORLD))
    assert model[0].weight.grad is old and bool((old == 1).all()) and model[2].weight.grad is None
    return said


def diverging(rank: int, world: int) -> None:
    """What one rank cannot fold, no rank folds."""
    model, parts = mlp(), batches()
    forward = through(model)
    for _ in range(2):
        bp.accumulate(rmse, forward, parts[3:5], group=dist.group.WORLD)
    model.zero_grad()

    def other(part: Any) -> Any:
        pred, real = forward(part)
        return pred, real.clone().requires_grad_(rank == 1)

    expected = whole(rmse, forward, parts[3:5] * world, list(model.parameters()))
    found = bp.accumulate(rmse, other, parts[3:5], group=dist.group.WORLD)
    same((found, gradients(model.parameters())), expected, "diverging")


def ddp_afterwards(rank: int, world: int, view: bool) -> None:
    """DDP's own training goes on as if nothing had been in between, and the other way round."""
    parts = batches()
    model = mlp()
    run = DistributedDataParallel(model, gradient_as_bucket_view=view)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for turn in range(3):
        run.zero_grad(set_to_none=turn != 1)
        rmse(*through(run)(parts[rank + turn])).backward()
        losses = [
            whole(rmse, through(model), [parts[other + turn]], list(model.parameters())) for other in range(world)
        ]
        mean = [torch.stack(grads).mean(0) for grads in zip(*(loss[1] for loss in losses), strict=True)]
        same((losses[0][0], gradients(model.parameters())), (losses[0][0], mean), "DDP")
        optimizer.step()
        run.zero_grad(set_to_none=turn != 1)
        everything = [part for other in range(world) for part in (parts[other + turn], parts[other + 4])]
        expected = whole(rmse, through(model), everything, list(model.parameters()))
        found = bp.accumulate(rmse, through(run), [parts[rank + turn], parts[rank + 4]])
        same((found, gradients(model.parameters())), expected, "accumulate")
        optimizer.step()
    for parameter in model.parameters():
        copies = [torch.empty_like(parameter) for _ in range(world)]
        dist.all_gather(copies, parameter.detach())
        assert all(torch.equal(other, parameter) for other in copies)


def sparse_and_strided(rank: int) -> None:
    """Gradients that cannot be sent as they are."""
    torch.manual_seed(0)
    table = nn.Embedding(7, 3, sparse=True).double()
    conv = nn.Conv2d(2, 3, 3).double().to(memory_format=torch.channels_last)
    images, places = normal(8, 2, 5, 5), torch.arange(8) % 7
    forward = lambda part: (conv(part[0]).mean((2, 3)), table(part[1]))  # noqa: E731
    loss = lambda a, b: (a * b).sum(1).square().mean().sqrt()  # noqa: E731
    parameters = learned_by(table, conv)
    loss(*forward((images, places))).backward()
    expected = [p.grad.to_dense() for p in parameters if p.grad is not None]
    for parameter in parameters:
        parameter.grad = None
    rows = list(zip(images.split(2), places.split(2)))[rank :: dist.get_world_size()]
    bp.accumulate(loss, forward, rows, group=dist.group.WORLD)
    found = [None if parameter.grad is None else parameter.grad.to_dense() for parameter in parameters]
    same_gradients(found, expected, "sparse and strided")


def refusals(rank: int, world: int) -> dict[str, str]:
    parts = batches()[3:5]
    world_group = dist.group.WORLD
    coupled = DistributedDataParallel(
        nn.Sequential(nn.Linear(FEATURES, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
    )
    deep: Any = DistributedDataParallel(mlp())
    for _ in range(8):
        deep = {"inside": deep}

    def hidden(x: Tensor) -> Any:
        found = deep
        while isinstance(found, dict):
            found = found["inside"]
        return found(x)

    model = mlp()
    unknown: Any = nn.Parameter(torch.ones((), dtype=torch.float64))
    for _ in range(8):
        unknown = [unknown]

    def unnamed(part: Any) -> Any:
        found = unknown
        while isinstance(found, list):
            found = found[0]
        pred, real = through(model)(part)
        return pred * found, real

    weight = torch.tensor(1.0 + rank, dtype=torch.float64)
    width = (2, 3, 4)[rank]
    line = nn.Linear(FEATURES, 3).double()
    padded = lambda part: (line(part[0])[:, :width], part[1][:, None].repeat(1, width))  # noqa: E731
    return {
        "coupled": verdict(lambda: bp.accumulate(rmse, through(coupled), parts)),
        "hidden": verdict(lambda: bp.accumulate(rmse, through(hidden), parts)),
        "unnamed": verdict(lambda: bp.accumulate(rmse, unnamed, parts, group=world_group)),
        "nothing": verdict(lambda: bp.accumulate(rmse, through(model), [], group=world_group)),
        "weights": verdict(
            lambda: bp.accumulate(lambda p, y: rmse(p, y) * weight, through(model), parts, group=world_group)
        ),
        "padded": verdict(lambda: bp.accumulate(F.mse_loss, padded, parts, group=world_group)),
        "last": verdict(lambda: bp.accumulate(rmse, through(model), parts, group=world_group)),
    }


def sharded(**options: Any) -> nn.Module:
    model = mlp()
    for part in (model[0], model[2], model):
        fully_shard(part, **options)
    return model


def replicated() -> nn.Module:
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return replicate(model)


#: Models whose gradients are sent between ranks on the way back; told by what is there, so by no name.
SENDING: dict[str, Callable[[], nn.Module]] = {
    "ddp": lambda: DistributedDataParallel(mlp()),
    "ddp inside": lambda: nn.Sequential(nn.Identity(), DistributedDataParallel(mlp())),
    "replicate": replicated,
    "FSDP": lambda: FullyShardedDataParallel(mlp(), device_id=torch.device("cpu")),
    "FSDP, own parameters": lambda: FullyShardedDataParallel(
        mlp(), device_id=torch.device("cpu"), use_orig_params=True
    ),
}
if hasattr(torch.cpu.Stream, "record_event"):  # torch 2.6 has it, but not on a CPU
    SENDING |= {"fully_shard": sharded, "fully_shard, kept whole": lambda: sharded(reshard_after_forward=False)}


class FSDPLinear(nn.Linear):
    """A name and no more."""


class SendingByHand:
    """A wrapper of somebody's own: hooks where a graph gathers its gradients, which it holds on to."""

    def __init__(self, model: nn.Module) -> None:
        self.ends = [p.expand_as(p).grad_fn.next_functions[0][0] for p in model.parameters()]  # type: ignore[union-attr]
        for end, p in zip(self.ends, model.parameters(), strict=True):
            end.register_hook(partial(self.send, p))

    def send(self, parameter: Tensor, *args: Any) -> None:
        dist.all_reduce(parameter.grad)


def wrappers(rank: int, world: int) -> dict[str, str]:
    """What becomes of gradients that a wrapper sends, by both verbs; nothing is left behind in ``.grad``."""
    parts = batches()[3 + rank : 5 + rank]
    out: dict[str, str] = {}

    def in_steps(model: nn.Module, loss: Any, group: Any = None) -> Any:
        acc = bp.Accumulator(loss, group=group)
        for part in parts:
            acc.backward(*through(model)(part))
        return acc.finish(model.parameters())

    for name, make in SENDING.items():
        for loss in (rmse, pearson):
            model = make()
            out[f"Accumulator, {name}, {loss.__name__}"] = verdict(partial(in_steps, model, loss))
            assert all(p.grad is None for p in model.parameters()), name
        if name.startswith(("ddp", "fully_shard")):
            continue
        for loss in (rmse, pearson, ranking):
            model = make()
            out[f"accumulate, {name}, {loss.__name__}"] = verdict(partial(bp.accumulate, loss, through(model), parts))
            assert all(p.grad is None for p in model.parameters()), name
    model = mlp()
    by_hand = SendingByHand(model)
    out["accumulate, by hand"] = verdict(lambda: bp.accumulate(rmse, through(model), parts))
    out["Accumulator, by hand"] = verdict(lambda: in_steps(model, rmse))
    assert by_hand.ends and all(p.grad is None for p in model.parameters())
    return out


def shards(rank: int, world: int) -> dict[str, str]:
    """Models of which each rank has a part: each verb, each scheme, twice, on top of what ``.grad`` holds."""
    out: dict[str, str] = {}
    parts = batches()
    mine, everything = parts[rank::world][:2], [part for r in range(world) for part in parts[r::world][:2]]

    def same_as_one(loss: Any, step: Callable[[Any, nn.Module], Tensor], make: Callable[[], nn.Module]) -> None:
        plain, model = mlp(), make()
        value, grads = whole(loss, through(plain), everything, learned_by(plain, loss))
        for times in (1, 2):
            found = step(loss, model)
            made = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in learned_by(model, loss)]
            same((found, made), (value, [times * grad for grad in grads]), f"time {times}")

    def in_steps(loss: Any, model: nn.Module) -> Tensor:
        acc = bp.Accumulator(loss, group=dist.group.WORLD)
        for part in mine:
            acc.backward(*through(model)(part))
        return acc.finish(model.parameters())

    makes: dict[str, Callable[[], nn.Module]] = {
        "fully_shard": sharded,
        "kept whole": lambda: sharded(reshard_after_forward=False),
    }
    if hasattr(sharded(), "set_gradient_divide_factor"):
        makes["another factor"] = divided
    for name, make in makes.items():
        for kind, (loss, how) in LOSSES.items():
            step = lambda loss, model, how=how: bp.accumulate(loss, through(model), how(mine))  # noqa: E731
            out[f"{name}, {kind}"] = verdict(partial(same_as_one, loss(), step, make))
        for kind in ("rmse", "learned"):
            out[f"{name}, Accumulator, {kind}"] = verdict(partial(same_as_one, LOSSES[kind][0](), in_steps, make))
    out["tensor parallel"] = verdict(lambda: tensor_parallel(world))
    out["uneven"] = verdict(lambda: bp.accumulate(rmse, through(sharded()), parts[: 2 + rank]))
    return out


def tensor_parallel(world: int) -> None:
    """Each rank has a part of each layer, and all samples: nothing is added up over ranks."""
    mesh = init_device_mesh("cpu", (world,))
    parts = batches()[3:5]
    plain = mlp()
    value, grads = whole(rmse, through(plain), parts, learned_by(plain))
    plan: Any = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    for takes_steps in (False, True):
        model = parallelize_module(mlp(), mesh, plan)
        if takes_steps:
            acc = bp.Accumulator(rmse)
            for part in parts:
                acc.backward(*through(model)(part))
            found = acc.finish()
        else:
            found = bp.accumulate(rmse, through(model), parts)
        made = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in model.parameters()]
        same((found, made), (value, grads), "tensor parallel")


def divided() -> nn.Module:
    model: Any = sharded()
    for part in (model[0], model[2], model):
        part.set_gradient_divide_factor(4.0)
    return model


def joined_by_hand(rank: int, world: int) -> None:
    """Wrappers that keep still: no_sync, and a class that has a wrapper's name only."""
    parts = batches()
    torch.manual_seed(0)
    model = nn.Sequential(FSDPLinear(FEATURES, 1)).double()
    run = DistributedDataParallel(model)
    expected = whole(rmse, through(model), parts[3 : 4 + world], list(model.parameters()))
    mine = [parts[3 + rank], *(parts[3 + world : 4 + world] if rank == 0 else [])]
    for wrapped, group in ((run, None), (model, dist.group.WORLD)):
        model.zero_grad()
        found = bp.accumulate(rmse, through(wrapped), mine, group=group)
        same((found, gradients(model.parameters())), expected, "a name")
    model.zero_grad()
    acc = bp.Accumulator(rmse, group=dist.group.WORLD)
    with run.no_sync():
        for part in mine:
            acc.backward(*through(run)(part))
    same((acc.finish(model.parameters()), gradients(model.parameters())), expected, "no_sync")


def weights_in_the_loss(rank: int, world: int) -> None:
    """A parameter of the model that the loss takes by itself has some gradient before the model's own comes."""
    model, parts = mlp(), batches()
    for make in (rmse, ranking):
        loss = lambda p, y, make=make: make(p, y) + model[0].weight.square().sum()  # noqa: E731
        expected = whole(loss, through(model), parts[3 : 3 + world], list(model.parameters()))
        for _ in range(2):
            model.zero_grad()
            found = bp.accumulate(loss, through(model), parts[3 + rank : 4 + rank], group=dist.group.WORLD)
            same((found, gradients(model.parameters())), expected, make.__name__)


def job(rank: int, world: int) -> dict[str, Any]:
    warnings.simplefilter("ignore", FutureWarning)
    shares = SHARES[world][0]
    parts = batches()
    out: dict[str, Any] = dict(each_way(rank, world))
    everything = [parts[i] for share in shares for i in share]
    out["learned apart"] = verdict(lambda: learned_apart(rank, [parts[i] for i in shares[rank]], everything))
    out["diverging"] = verdict(lambda: diverging(rank, world))
    for view in (False, True):
        out[f"DDP afterwards, {view}"] = verdict(partial(ddp_afterwards, rank, world, view))
    out["sparse"] = verdict(lambda: sparse_and_strided(rank))
    cases = {"rmse": (rmse, 1), "pearson": (pearson, 3), "outputs": (ranking, 2), "second pass": (ranking, 4)}
    out["failing"] = {name: failing(rank, loss, when) for name, (loss, when) in cases.items()}
    out["refusals"] = refusals(rank, world)
    out["wrappers"] = wrappers(rank, world)
    if "fully_shard" in SENDING:
        out["shards"] = shards(rank, world)
    out["weights in the loss"] = verdict(lambda: weights_in_the_loss(rank, world))
    out["joined by hand"] = verdict(lambda: joined_by_hand(rank, world))
    return out


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.long)])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return spawned(job, request.param, tmp_path_factory.mktemp("ranks"))


def test_the_gradient_of_all_samples(ranks: list[dict[str, Any]]) -> None:
    """By every scheme, of plain and wrapped models, with parameters of the loss's own; and what goes around it."""
    found = [(name, said) for result in ranks for name, said in result.items() if isinstance(said, str)]
    assert len(found) > 80
    assert [pair for pair in found if pair[1] != "ok"] == []


def test_an_error_on_one_rank_stops_all(ranks: list[dict[str, Any]]) -> None:
    """The rank itself raises what the user's code raised."""
    for number, result in enumerate(ranks):
        for name, said in result["failing"].items():
            expected = "KeyError: 'mine'" if number == 1 else "refused: rank 1 gave up (KeyError: 'mine')"
            assert said == expected, name


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("coupled", "module.1 (BatchNorm1d)"),
        ("hidden", "DistributedDataParallel model that cannot be found"),
        ("unnamed", "cannot be found from outside forward"),
        ("nothing", "micro_batches is empty"),
        ("weights", "ranks come to different losses"),
        ("last", "ok"),
    ],
)
def test_refusals(ranks: list[dict[str, Any]], name: str, match: str) -> None:
    for result in ranks:
        assert match in result["refusals"][name], result["refusals"][name]


def test_what_sends_gradients_on_the_way_is_refused(ranks: list[dict[str, Any]]) -> None:
    for result in ranks:
        assert len(result["wrappers"]) == 2 + sum(
            2 if name.startswith(("ddp", "fully_shard")) else 5 for name in SENDING
        )
        for name, said in result["wrappers"].items():
            assert said.startswith("refused: ") and "sends gradients between ranks" in said, (name, said)


def test_models_of_which_each_rank_has_a_part(ranks: list[dict[str, Any]]) -> None:
    """Exact; or refused, where a graph would have to be gone back through twice."""
    for result in ranks:
        for name, said in result.get("shards", {}).items():
            if name == "uneven":
                assert "give each as many" in said
            elif "two gradients" in name:
                assert "two passes" in said, said
            else:
                assert said == "ok", (name, said)


def test_samples_of_other_shapes_on_other_ranks(ranks: list[dict[str, Any]]) -> None:
    """Exact or refused, on all alike."""
    assert all(result["refusals"]["padded"].startswith("refused") for result in ranks)


def test_without_a_process_group() -> None:
    model = mlp()
    for group in (object(), "all"):
        with pytest.raises(bp.BatchproofError, match="init_process_group"):
            bp.accumulate(rmse, through(model), batches(), group=group)
        with pytest.raises(bp.BatchproofError, match="init_process_group"):
            bp.Accumulator(rmse, group=group)
    assert copy.deepcopy(model)[0].weight.grad is None
