"""accumulate where it is hard: autocast, compiled and checkpointed models, random states, losses that change.

The promise: the gradient of one batch, or a refusal that leaves ``.grad`` as it was.
"""

from __future__ import annotations

import copy
import gc
import random
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import batchproof as bp
from batchproof.gradients.accumulation import cache as memory
from functions import normal
from gradients import Task, by_list, clear, gradients, same, same_gradient, same_gradients

N, FEATURES = 60, 4
SIZES = (13, 2, 20, 7, 18)
Loss = Callable[..., Tensor]


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean().sqrt()


def pearson(pred: Tensor, real: Tensor) -> Tensor:
    pred, real = pred - pred.mean(), real - real.mean()
    return 1 - (pred * real).sum() / (pred.square().sum() * real.square().sum()).sqrt()


def ranking(pred: Tensor, real: Tensor) -> Tensor:
    """Every pair of samples: the outputs have to be kept."""
    order = (real[:, None] - real[None, :]).sign()
    return F.softplus((pred[None, :] - pred[:, None]) * order).mean()


LOSSES: dict[str, Loss] = {"rmse": rmse, "pearson": pearson, "ranking": ranking}
#: Each scheme, and both ways of the third: on statistics, on outputs.
SCHEMES: dict[str, tuple[Loss, Callable[[Iterable[Any]], Any]]] = {
    "1": (rmse, list),
    "2": (pearson, iter),
    "3": (pearson, list),
    "outputs": (ranking, list),
}
every_scheme = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Each test learns its losses itself."""
    memory._known.clear()
    yield
    memory._known.clear()


def parts(n: int = N, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    x, y = normal(n, FEATURES, seed=1).to(dtype), normal(n, seed=2).to(dtype)
    return list(zip(x.split(SIZES), y.split(SIZES)))


def mlp(*middle: nn.Module, width: int = 16) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, width), *middle, nn.Tanh(), nn.Linear(width, 1)).double()


def through(model: Callable[[Tensor], Tensor]) -> Callable[[Any], tuple[Tensor, Tensor]]:
    return lambda part: (model(part[0]).squeeze(1), part[1])


def exact_for_all(forward: Callable[[Any], Any], parameters: Iterable[Tensor], data: Any = None) -> None:
    """All schemes, twice each: learning the loss and knowing it."""
    schemes: set[int] = set()
    parameters = list(parameters)
    for loss in LOSSES.values():
        task = Task(loss, forward, parameters)
        for _ in range(2):
            schemes |= same_gradient(task, data or parts())
    assert schemes == {1, 2, 3}


def refused(task: Task, part_list: list[Any], match: str, **options: Any) -> None:
    """A BatchproofError, and the gradients that were there are there, the same objects."""
    old = [torch.full_like(p, 0.5) for p in task.parameters]
    for parameter, grad in zip(task.parameters, old, strict=True):
        parameter.grad = grad
    with pytest.raises(bp.BatchproofError, match=match):
        bp.accumulate(task.loss_fn, task.forward, part_list, **options)
    for parameter, grad in zip(task.parameters, old, strict=True):
        assert parameter.grad is grad and bool((grad == 0.5).all())
    clear(task.parameters)


def stepped(acc: bp.Accumulator, forward: Callable[[Any], Any]) -> None:
    for part in parts():
        acc.backward(*forward(part))


# ------------------------------------------------------------------ models


class Branching(nn.Module):
    """Each micro-batch reaches other parameters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.experts = nn.ModuleList([nn.Linear(FEATURES, 1), nn.Linear(FEATURES, 1), nn.Linear(FEATURES, 1)])
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.experts[len(x) % 2](x)  # type: ignore[no-any-return]


class Embedded(nn.Module):
    """Sparse gradients; dense ones too, where its weights are used twice."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(7, FEATURES, sparse=True)
        self.last = nn.Linear(FEATURES, 1)
        self.tied = tied
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.table((x[:, 0].abs() * 3).long().clamp(max=6))
        h = h @ self.table.weight.T @ self.table.weight if self.tied else h
        return self.last(h.tanh())  # type: ignore[no-any-return]


class Turning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(FEATURES, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.weight.dtype) @ self.weight).abs().unsqueeze(1)


def weight_normed() -> nn.Module:
    model = mlp()
    torch.nn.utils.parametrizations.weight_norm(model[0])
    return model


def frozen() -> nn.Module:
    model = mlp()
    model[0].weight.requires_grad_(False)
    return model


def instance_norm() -> nn.Module:
    torch.manual_seed(0)
    norm = nn.InstanceNorm1d(4, affine=True)
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.Unflatten(1, (4, 4)), norm, nn.Flatten(), nn.GroupNorm(4, 16), nn.Linear(16, 1)
    ).double()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: mlp(nn.Dropout(0.3)),
    "branching": Branching,
    "frozen": frozen,
    "weight norm": weight_normed,
    "InstanceNorm, GroupNorm": instance_norm,
    "BatchNorm in eval mode": lambda: mlp(nn.BatchNorm1d(16)).eval(),
    "complex": Turning,
    "embedding": lambda: Embedded(tied=False),
    "tied embedding": lambda: Embedded(tied=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    model = MODELS[name]()
    exact_for_all(through(model), model.parameters())


def test_shared_parameters_and_inputs_with_a_gradient() -> None:
    model = mlp()
    model[2] = nn.Linear(16, FEATURES).double()
    data = [(x.clone().requires_grad_(), y) for x, y in parts()]
    leaves = [*model.parameters(), *(x for x, _ in data)]
    exact_for_all(lambda part: (model[0](model(part[0])).sum(1), part[1]), leaves, data)


def test_functional_call() -> None:
    model = mlp()
    table = dict(model.named_parameters())
    exact_for_all(
        lambda part: (torch.func.functional_call(model, table, (part[0],)).squeeze(1), part[1]), table.values()
    )


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_forward_that_differentiates(dropout: float) -> None:
    """Forces are the derivative of an energy by positions: they need a graph in passes that have none otherwise."""
    model = mlp(nn.Dropout(dropout), nn.Softplus())

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        x = part[0].clone().requires_grad_()
        energy = model(x)
        forces = torch.autograd.grad(energy.sum(), x, create_graph=True)[0]
        return energy.squeeze(1) + forces.sum(1), part[1]

    exact_for_all(forward, model.parameters())


@every_scheme
def test_a_forward_that_differentiates_keeps_one_graph_alive(scheme: str) -> None:
    loss, how = SCHEMES[scheme]
    model = mlp()

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        x = part[0].clone().requires_grad_()
        slope = torch.autograd.grad(model(x).sum(), x, create_graph=True)[0].sum(1)
        return Alive.apply(slope), part[1]  # type: ignore[no-untyped-call]

    for _ in range(2):
        Alive.now = Alive.most = 0
        bp.accumulate(loss, forward, how(parts()))
        assert (Alive.most, Alive.now) == (1, 0)


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing(reentrant: bool) -> None:
    """Reentrant checkpointing makes its graph on the way back: its parameters are in no graph before."""
    model = mlp(nn.Dropout(0.2))

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        x = part[0].clone().requires_grad_(reentrant)
        return checkpoint(model, x, use_reentrant=reentrant).squeeze(1), part[1]

    exact_for_all(forward, model.parameters())
    calls = 0

    def failing(part: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 9:  # in the second pass, after backward passes
            raise bp.BatchproofError("stop")
        return forward(part)

    refused(Task(ranking, failing, list(model.parameters())), parts(), "stop")


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models(backend: str) -> None:
    torch.compiler.reset()
    model = mlp()
    compiled = torch.compile(model, backend=backend, dynamic=True)
    for loss in LOSSES.values():
        task = Task(loss, through(compiled), list(model.parameters()))
        for _ in range(2):
            same_gradient(task, parts())


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # by the compiler itself
@pytest.mark.parametrize("name", LOSSES)
def test_compiled_losses(name: str) -> None:
    torch.compiler.reset()
    model = mlp()
    loss = torch.compile(LOSSES[name], backend="aot_eager", dynamic=True)
    for _ in range(2):
        same_gradient(Task(loss, through(model), list(model.parameters())), parts(), [by_list])


def test_a_compiled_graph_that_can_be_gone_through_only_once_is_refused() -> None:
    torch.compiler.reset()
    model = mlp()
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    task = Task(pearson, through(compiled), list(model.parameters()))
    refused(task, iter(parts()), "compiled model can be gone back through only once")  # type: ignore[arg-type]
    acc = bp.Accumulator(pearson)
    with pytest.raises(bp.BatchproofError, match="compiled model"):
        stepped(acc, task.forward)
    assert all(p.grad is None for p in model.parameters())


def test_several_optimizers_clipping_and_gradients_that_are_there() -> None:
    """After accumulate all is as after backward: clipped, added to, and stepped by two optimizers."""
    models = mlp(), mlp()
    task = Task(rmse, through(models[0]), list(models[0].parameters()))
    before = [torch.ones_like(p) for p in task.parameters]
    assert same_gradient(task, parts(), before=before) == {1}
    for model, step in zip(
        models, (bp.accumulate, lambda loss, f, all_: loss(*map(torch.cat, zip(*map(f, all_)))).backward())
    ):
        first, last = torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.Adam(model[2].parameters(), 0.1)
        for _ in range(3):
            step(rmse, through(model), parts())
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            for optimizer in (first, last):
                optimizer.step()
                optimizer.zero_grad()
    for mine, theirs in zip(*(model.parameters() for model in models)):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------ narrow types


def close_to_one_batch(loss: Loss, how: Any, forward: Any, model: nn.Module, room: float) -> None:
    parameters = list(model.parameters())
    clear(parameters)
    data = parts(dtype=torch.float32)
    loss(*map(torch.cat, zip(*map(forward, data)))).backward()
    expected = torch.cat([grad.reshape(-1).float() for grad in gradients(parameters)])
    torch.clear_autocast_cache()
    for _ in range(2):
        clear(parameters)
        bp.accumulate(loss, forward, how(data))
        found = torch.cat([grad.reshape(-1).float() for grad in gradients(parameters)])
        assert float((found - expected).norm()) <= room * float(expected.norm())


@every_scheme
@pytest.mark.parametrize("where", ["inside", "around"])
def test_autocast(scheme: str, where: str) -> None:
    """Weights that were cast in a pass without a graph must not be met in one with a graph."""
    loss, how = SCHEMES[scheme]
    for model in (mlp().float(), Branching().float()):

        def forward(part: Any, model: nn.Module = model) -> tuple[Tensor, Tensor]:
            with torch.autocast("cpu", torch.bfloat16, enabled=where == "inside" or torch.is_autocast_enabled("cpu")):
                return model(part[0]).squeeze(1).float(), part[1]

        with torch.autocast("cpu", torch.bfloat16, enabled=where == "around"):
            close_to_one_batch(loss, how, forward, model, 2e-2)


@every_scheme
def test_autocast_cache_after_it(scheme: str) -> None:
    """What comes after accumulate in the same autocast region finds no weights that were cast without a graph."""
    loss, how = SCHEMES[scheme]
    model = Branching().float()
    data = parts(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        with suppress(bp.BatchproofError):  # outputs of so few digits may need two passes
            bp.accumulate(loss, through(model), how(data))
        clear(model.parameters())
        for part in data:
            loss(*through(model)(part)).backward()
    assert all(p.grad is not None for p in model.experts[:2].parameters())


@every_scheme
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(scheme: str, dtype: torch.dtype) -> None:
    loss, how = SCHEMES[scheme]
    model = mlp().to(dtype)
    close_to_one_batch(loss, how, lambda part: (model(part[0].to(dtype)).squeeze(1).float(), part[1]), model, 3e-2)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_scaler(name: str) -> None:
    """The scale changes from step to step; the steps are those of the whole batch."""
    loss = LOSSES[name]
    models = [mlp().float() for _ in range(2)]
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=2) for _ in range(2)]
    optimizers = [torch.optim.SGD(model.parameters(), 0.1) for model in models]
    data = parts(dtype=torch.float32)
    for _ in range(6):
        mine, whole = map(through, models)
        bp.accumulate(lambda p, y: scalers[0].scale(loss(p, y)), mine, data)
        scalers[1].scale(loss(*map(torch.cat, zip(*map(whole, data))))).backward()
        for scaler, optimizer in zip(scalers, optimizers, strict=True):
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert scalers[0].get_scale() == scalers[1].get_scale() == 2.0**11
    for mine, theirs in zip(*(model.parameters() for model in models)):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_scale_that_overflows_is_not_met_again() -> None:
    """A scaler halves its scale until it fits: the gradients of the next step must be made at the new one."""
    model = mlp().half()
    scale = torch.tensor(2.0**24)
    finite = []
    for _ in range(4):
        clear(model.parameters())
        forward = lambda part: (model(part[0].half()).squeeze(1).float(), part[1])  # noqa: E731
        loss = bp.accumulate(lambda p, y: rmse(p, y) * scale, forward, parts(dtype=torch.float32))
        assert loss.scheme.number == 1  # type: ignore[attr-defined]
        finite.append(all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None))
        scale.fill_(1.0)
    assert finite[0] is False and finite[-1] is True


# ------------------------------------------------------------------ random numbers, state, repetition


def noisy(part: Any) -> Tensor:
    return part[0][:, 0] * random.random() + np.random.rand() + torch.rand(len(part[0]), dtype=torch.float64)


@every_scheme
def test_random_states_end_as_after_one_pass(scheme: str) -> None:
    loss, how = SCHEMES[scheme]
    model = mlp(nn.Dropout(0.3))

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        return model(part[0]).squeeze(1) * noisy(part), part[1]

    def seeded() -> None:
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)

    def states() -> tuple[list[int], Any, Any]:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]

    seeded()
    value = loss(*map(torch.cat, zip(*map(forward, parts()))))
    value.backward()
    after, expected = states(), (value.detach(), gradients(model.parameters()))
    for _ in range(2):
        clear(model.parameters())
        seeded()
        found = bp.accumulate(loss, forward, how(parts()))
        assert states() == after
        same((found, gradients(model.parameters())), expected, scheme)


class Averaging(nn.Module):
    """Buffers that are written to, put anew, and there only after a while."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(FEATURES, 1).double()
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("last", None)
        self.mean: Tensor

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.line(x)
        self.steps += 1  # type: ignore[operator]
        self.mean = 0.9 * self.mean + 0.1 * h.detach().mean()
        self.last = h.detach()[-1]
        return h - self.mean


STATES: dict[str, Callable[[], nn.Module]] = {
    "assigned": Averaging,
    "BatchNorm": lambda: mlp(nn.BatchNorm1d(16), nn.BatchNorm1d(16, momentum=None)),
    "InstanceNorm": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten(), nn.Linear(4, 1)
    ).double(),
    "spectral norm": lambda: nn.Sequential(
        torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 1)
    ).double(),
    "old spectral norm": lambda: nn.Sequential(torch.nn.utils.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 1)).double(),
}


@every_scheme
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm`:FutureWarning")
@pytest.mark.parametrize("name", STATES)
def test_buffers_end_as_after_one_pass(name: str, scheme: str) -> None:
    """And the gradient is that of the outputs as forward gives them, one micro-batch after another."""
    loss, how = SCHEMES[scheme]
    torch.manual_seed(0)
    model = STATES[name]()
    other = copy.deepcopy(model)
    value = loss(*map(torch.cat, zip(*map(through(other), parts()))))
    value.backward()
    found = bp.accumulate(loss, through(model), how(parts()), allow_coupling=True)
    expected = value.detach(), gradients(other.parameters())
    same((found, gradients(model.parameters())), expected, scheme)
    for mine, theirs in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


def contrastive(a: Tensor, b: Tensor) -> Tensor:
    return F.cross_entropy(F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.1, torch.arange(len(a)))


@pytest.mark.parametrize("noise", [1e-3, 1.0])
@pytest.mark.parametrize("name", ["pearson", "ranking", "contrastive"])
def test_random_numbers_that_cannot_be_replayed_are_refused(name: str, noise: float) -> None:
    """Small noise on many outputs, whose sums hardly change."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(FEATURES, 32).double()

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        h = model(part[0])
        h = h * (1 + noise * torch.randn(h.shape, generator=generator, dtype=h.dtype))
        return (h, model(part[0] ** 2)) if name == "contrastive" else (h[:, 0], part[1])

    task = Task({**LOSSES, "contrastive": contrastive}[name], forward, list(model.parameters()))
    refused(task, parts(), "other outputs in the second pass")


def test_outputs_that_depend_on_the_number_of_calls_are_refused() -> None:
    model = mlp()
    calls = 0

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        return model(part[0]).squeeze(1) * (1 + calls % 7), part[1]

    for loss in (pearson, ranking):
        refused(Task(loss, forward, list(model.parameters())), parts(), "other outputs in the second pass")


@pytest.mark.parametrize("name", ["rmse", "pearson", "contrastive"])
def test_shuffling_loaders(name: str) -> None:
    """One that shuffles by torch's own generator is replayed; the generator ends as after one epoch."""
    x, y = normal(256, FEATURES, seed=1), normal(256, 2, seed=2)
    model = nn.Linear(FEATURES, 32).double()
    if name == "contrastive":
        loss: Loss = contrastive
        forward = lambda part: (model(part[0]), model(part[0] + part[1][:, :1]))  # noqa: E731
    else:
        loss = LOSSES[name]
        forward = lambda part: (model(part[0])[:, 0], part[1][:, 0])  # noqa: E731
    loss(*forward((x, y))).backward()
    expected = gradients(model.parameters())
    loader = DataLoader(TensorDataset(x, y), 64, shuffle=True)
    torch.manual_seed(9)
    list(loader)
    after = torch.get_rng_state()
    for _ in range(2):
        clear(model.parameters())
        torch.manual_seed(9)
        found = bp.accumulate(loss, forward, loader)
        assert torch.equal(torch.get_rng_state(), after)
        same((found, gradients(model.parameters())), (found, expected), name)
    own = DataLoader(TensorDataset(x, y), 64, shuffle=True, generator=torch.Generator().manual_seed(1))
    if name == "contrastive":
        refused(Task(loss, forward, list(model.parameters())), own, "same order")  # type: ignore[arg-type]
    else:  # sums over all micro-batches do not mind their order
        clear(model.parameters())
        bp.accumulate(loss, forward, own)
        same((found, gradients(model.parameters())), (found, expected), name)


# ------------------------------------------------------------------ what couples samples; hooks


def normed(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Sequential(norm), nn.Linear(8, 1)).double()


def frozen_norm() -> nn.Module:
    model = normed(nn.BatchNorm1d(8))
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    return model


COUPLED: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "nested": lambda: (model := normed(nn.BatchNorm1d(8)), model),
    "frozen": lambda: (model := frozen_norm(), model),
    "no running statistics, in eval mode": lambda: (
        model := normed(nn.BatchNorm1d(8, track_running_stats=False)).eval(),
        model,
    ),
    "SyncBatchNorm": lambda: (model := normed(nn.SyncBatchNorm(8)), model),
    "compiled": lambda: (model := normed(nn.BatchNorm1d(8)), torch.compile(model, backend="aot_eager", dynamic=True)),
    "checkpointed": lambda: (
        model := normed(nn.BatchNorm1d(8)),
        lambda x: checkpoint(model, x.clone().requires_grad_(), use_reentrant=True),
    ),
    "lazy": lambda: (model := normed(nn.LazyBatchNorm1d()), model),
}


@every_scheme
@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_coupled_samples_are_refused_by_name(name: str, scheme: str) -> None:
    loss, how = SCHEMES[scheme]
    torch.compiler.reset()
    model, run = COUPLED[name]()
    if name == "lazy":
        with torch.no_grad():
            model(parts()[0][0])
        clear(model.parameters())
    refused(Task(loss, through(run), list(model.parameters())), how(parts()), r"1\.0 \(.*BatchNorm")


def test_functional_batch_norm_is_refused_by_the_accumulator() -> None:
    model = mlp()
    with pytest.raises(bp.BatchproofError, match="batch_norm"):
        stepped(bp.Accumulator(rmse), through(lambda x: F.batch_norm(model(x), None, None, training=True)))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["register_hook", "register_post_accumulate_grad_hook"])
def test_parameter_hooks_are_refused(kind: str) -> None:
    model = mlp()
    getattr(model[0].weight, kind)(lambda *_: None)
    for loss in LOSSES.values():
        refused(Task(loss, through(model), list(model.parameters())), parts(), "gradient hook")


def test_module_hooks() -> None:
    """Forward hooks are part of the model; a hook on the way back sees the gradient itself, or is a refusal."""
    model = mlp()
    model[0].register_forward_hook(lambda module, args, out: out * 2)
    model[1].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    exact_for_all(through(model), model.parameters())
    model[1].register_full_backward_hook(lambda module, gin, gout: (gin[0].clamp(-2e-3, 2e-3),))
    for loss in LOSSES.values():
        task = Task(loss, through(model), list(model.parameters()))
        same_gradient(task, parts(), [by_list])
    for loss in (rmse, pearson):
        refused(Task(loss, through(model), task.parameters), iter(parts()), "backward hook")  # type: ignore[arg-type]


# ------------------------------------------------------------------ losses that change, or keep something


class Weighted(nn.Module):
    """A loss whose gradient may change while its values do not."""

    def __init__(self) -> None:
        super().__init__()
        self.way = "through"
        self.weight = nn.Parameter(torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), requires_grad=False)

    def forward(self, pred: Tensor, real: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.way != "no_grad"):
            near = torch.sigmoid(pred)
        near = near.detach() if self.way == "detach" else near
        kind = (real.abs() * 2).clamp(max=2).long()
        return ((pred - real).square() * near).sum() / self.weight[kind].sum()


def test_a_loss_whose_gradient_changes_but_not_its_value() -> None:
    model, loss = mlp(), Weighted()
    task = Task(loss, through(model), [*model.parameters(), loss.weight])
    for way in ("through", "no_grad", "through", "detach", "no_grad", "through"):
        loss.way = way
        same_gradient(task, parts())
    for thawed in (True, False, True):
        loss.weight.requires_grad_(thawed)
        same_gradient(task, parts(), [by_list])
    loss.weight = nn.Parameter(loss.weight.detach().clone())
    same_gradient(Task(loss, task.forward, [*model.parameters(), loss.weight]), parts(), [by_list])


def made(value: float) -> Iterator[Loss]:
    """The same code each time, with other numbers and tensors."""
    scale = torch.tensor(1 + value, dtype=torch.float64)
    yield lambda p, y, value=value: (p - y).abs().pow(1.5 + value).mean()
    yield lambda p, y: (p - y).abs().pow(1.5 + value).mean()
    yield lambda p, y: ((p - y) * scale).square().mean().sqrt()
    yield partial(lambda p, y, power: (p - y).abs().pow(power).mean(), power=1.5 + value)


def test_a_loss_made_anew_each_step() -> None:
    model = mlp()
    for value in (0.0, 0.3, 0.3, 0.9):
        for loss in made(value):
            same_gradient(Task(loss, through(model), list(model.parameters())), parts())


class Owner:
    factor = 1.0

    def loss(self, pred: Tensor, real: Tensor) -> Tensor:
        return ((pred - real) * self.factor).square().mean().sqrt()


def test_a_method_of_an_object_that_changes() -> None:
    model, owner = mlp(), Owner()
    for factor in (1.0, 2.0, -3.0):
        owner.factor = factor
        same_gradient(Task(owner.loss, through(model), list(model.parameters())), parts(), [by_list])


def test_a_loss_module_whose_settings_change() -> None:
    model = nn.Linear(FEATURES, 3).double()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    data = [(x, (y.abs() * 2).clamp(max=2).long()) for x, y in parts()]
    task = Task(loss, lambda part: (model(part[0]), part[1]), list(model.parameters()))
    assert loss.weight is not None

    def smoothing() -> None:
        loss.label_smoothing = 0.2

    def ignoring() -> None:
        loss.ignore_index = 1

    def replaced() -> None:
        loss.weight = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64)

    changes = [lambda: None, smoothing, lambda: loss.weight.mul_(loss.weight), replaced, ignoring]
    for change in changes:
        change()
        same_gradient(task, data, [by_list])
        same_gradient(task, data, [by_list])


def test_branches_on_data() -> None:
    """Another branch on all samples than on those it was learned from, and another from call to call."""
    model, limit = mlp(), 0.0

    def loss(pred: Tensor, real: Tensor) -> Tensor:
        error = (pred - real).square().mean()
        return error.sqrt() if error.item() > limit else 3 * error

    def loss_any(pred: Tensor, real: Tensor) -> Tensor:
        return rmse(pred, real) if bool((real > 2.2).any()) else (pred - real).abs().mean()

    task = Task(loss, through(model), list(model.parameters()))
    for limit in (0.0, 100.0, 0.5, 0.9, 1.0, 1.5):  # noqa: B007
        same_gradient(task, parts(), [by_list])
    same_gradient(Task(loss_any, task.forward, task.parameters), parts(), [by_list])


@every_scheme
def test_a_loss_that_writes_into_its_arguments(scheme: str) -> None:
    loss, how = SCHEMES[scheme]
    model = mlp()

    def writing(pred: Tensor, real: Tensor) -> Tensor:
        pred *= 2
        real += 1
        return loss(pred, real)

    fresh = lambda part: (model(part[0]).squeeze(1), part[1].clone())  # noqa: E731
    task = Task(writing, fresh, list(model.parameters()))
    expected = task.one_batch(parts())
    for _ in range(2):
        clear(task.parameters)
        found = bp.accumulate(writing, fresh, how(parts()))
        same((found, gradients(task.parameters)), expected, scheme)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, pred: Tensor, real: Tensor) -> Tensor:
        self.calls += 1
        return rmse(pred, real) * (1 + self.calls)


def test_a_loss_that_counts_its_calls() -> None:
    """Called once for each gradient, as it would be with one batch."""
    model, loss = mlp(), Counting()
    for calls in (1, 2, 3):
        clear(model.parameters())
        found = bp.accumulate(loss, through(model), parts())
        assert loss.calls == calls
        whole = rmse(*map(torch.cat, zip(*map(through(model), parts())))) * (1 + calls)
        expected = torch.autograd.grad(whole, list(model.parameters()))
        same((found, gradients(model.parameters())), (whole.detach(), list(expected)), "counting")


def test_weights_made_from_parameters_outside_the_loss() -> None:
    """A graph of its own, that all micro-batches share through the loss."""
    model = nn.Linear(FEATURES, 3).double()
    logits = nn.Parameter(torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
    data = [(x, (y.abs() * 2).clamp(max=2).long()) for x, y in parts()]
    parameters = [*model.parameters(), logits]
    forward = lambda part: (model(part[0]), part[1])  # noqa: E731

    def made() -> Loss:
        weight = logits.softmax(0) * 3
        return lambda p, c: F.nll_loss(p.log_softmax(1), c, reduction="none").mul(weight[c]).sum() / weight[c].sum()

    for _ in range(3):
        clear(parameters)
        whole = made()(*map(torch.cat, zip(*map(forward, data))))
        expected = list(torch.autograd.grad(whole, parameters))
        same((bp.accumulate(made(), forward, data), gradients(parameters)), (whole.detach(), expected), "weights")
        with torch.no_grad():
            logits += torch.tensor([0.1, -0.2, 0.3])


def test_a_refusal_on_outputs_without_a_gradient_is_not_remembered() -> None:
    model = mlp()
    with pytest.raises(bp.BatchproofError, match="no gradient"):
        bp.accumulate(rmse, lambda part: (model(part[0]).squeeze(1).detach(), part[1]), parts())
    assert same_gradient(Task(rmse, through(model), list(model.parameters())), parts()) == {1}


@pytest.mark.parametrize("name", LOSSES)
def test_an_output_that_has_a_gradient_in_some_micro_batches_only(name: str) -> None:
    """Missing later, it is left out, as torch does; missing in the first, it is exact or refused."""
    model = mlp()
    loss = lambda p, extra, y: LOSSES[name](p, y) + extra.square().mean()  # noqa: E731

    def forward(part: Any, where: Callable[[int], bool]) -> tuple[Tensor, Tensor, Tensor]:
        h = model(part[0]).squeeze(1)
        return h, h if where(len(h)) else torch.ones_like(h), part[1]

    only_first = Task(loss, partial(forward, where=lambda n: n == SIZES[0]), list(model.parameters()))
    same_gradient(only_first, parts(), [by_list])
    refused(
        Task(loss, partial(forward, where=lambda n: n != SIZES[0]), list(model.parameters())),
        parts(),
        "had none in the first micro-batch",
    )


# ------------------------------------------------------------------ Accumulator


def test_two_accumulators_of_one_loss() -> None:
    """One that forgets or learns the loss anew does not touch what the other has begun."""
    models = mlp(), mlp(width=8)
    accumulators = [bp.Accumulator(pearson) for _ in models]
    for turn in range(3):
        for number, part in enumerate(parts()):
            for model, acc in zip(models, accumulators, strict=True):
                acc.backward(*through(model)(part))
            if number == turn + 1:
                next(iter(memory._known.values())).forget()
        for model, acc in zip(models, accumulators, strict=True):
            found = acc.finish()
            whole = pearson(*map(torch.cat, zip(*map(through(model), parts()))))
            expected = list(torch.autograd.grad(whole, list(model.parameters())))
            same((found, gradients(model.parameters())), (whole.detach(), expected), f"turn {turn}")
            clear(model.parameters())


# ------------------------------------------------------------------ training


class WithTemperature(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log_t = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T * self.log_t.exp()
        return F.cross_entropy(scores, torch.arange(len(a)))


def token_mean(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)


def tokens(part: Any) -> Tensor:
    target = (part[1][:, None] * torch.tensor([1.0, 3.0])).abs().long() % 3
    return torch.where(part[0][:, :2] > 0.5, -100, target)


def trained(name: str, accumulated: bool, how: Callable[[Iterable[Any]], Any]) -> list[Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 6)).double()
    loss: Any = {"tokens": token_mean, "InfoNCE": WithTemperature()}.get(name) or LOSSES[name]
    parameters = [*model.parameters(), *(loss.parameters() if isinstance(loss, nn.Module) else ())]
    optimizer = torch.optim.SGD(parameters, 0.02, momentum=0.9)  # Adam would make steps of rounding errors

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        h = model(part[0])
        if name == "tokens":
            return h.unflatten(1, (2, 3)), tokens(part)
        return (h, model(part[0] * part[1][:, None])) if name == "InfoNCE" else (h[:, 0], part[1])

    for step in range(20):
        optimizer.zero_grad()
        data = [(x + step / 10, y) for x, y in parts()]
        if accumulated:
            bp.accumulate(loss, forward, how(data))
        else:
            loss(*map(torch.cat, zip(*map(forward, data)))).backward()
        optimizer.step()
    return [p.detach() for p in parameters]


@pytest.mark.parametrize(
    ("name", "how"),
    [("rmse", list), ("rmse", iter), ("tokens", iter), ("pearson", iter), ("pearson", list), ("InfoNCE", list)],
)
def test_twenty_steps(name: str, how: Callable[[Iterable[Any]], Any]) -> None:
    for mine, theirs in zip(trained(name, True, how), trained(name, False, how), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------ memory


class Alive(torch.autograd.Function):
    """Counts the graphs that are alive."""

    now = most = 0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.token = Token()
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Token:
    def __init__(self) -> None:
        Alive.now += 1
        Alive.most = max(Alive.most, Alive.now)

    def __del__(self) -> None:
        Alive.now -= 1


@every_scheme
def test_one_graph_is_alive_at_a_time(scheme: str) -> None:
    """And none is left afterwards, without a garbage collection."""
    loss, how = SCHEMES[scheme]
    model = mlp()
    forward = lambda part: (Alive.apply(model(part[0]).squeeze(1)), part[1])  # type: ignore[no-untyped-call] # noqa: E731
    data = parts()
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            Alive.now = Alive.most = 0
            bp.accumulate(loss, forward, how(data))
            assert (Alive.most, Alive.now) == (1, 0)
        Alive.now = Alive.most = 0
        with pytest.raises(bp.BatchproofError):
            bp.accumulate(loss, forward, [*data, (data[0][0], data[1][1])])
        assert Alive.now == 0
    finally:
        gc.enable()


@every_scheme
def test_activations_that_are_made_leaves_are_let_go(scheme: str) -> None:
    """What a frozen part gives is made to require a gradient, so that what is checkpointed after it has a graph."""
    loss, how = SCHEMES[scheme]
    model = mlp()
    alive: list[Any] = []
    most = 0

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        nonlocal most
        start = part[0].clone().requires_grad_()
        alive.append(weakref.ref(start))
        most = max(most, sum(leaf() is not None for leaf in alive))
        return checkpoint(model, start, use_reentrant=True).squeeze(1), part[1]

    gc.disable()
    try:
        for _ in range(2):
            bp.accumulate(loss, forward, how(parts()))
    finally:
        gc.enable()
    assert most <= 2 and all(leaf() is None for leaf in alive)


def test_a_model_is_let_go() -> None:
    model = mlp()
    gone = weakref.ref(model)
    for loss in LOSSES.values():
        bp.accumulate(loss, through(model), parts())
    del model
    assert gone() is None


# ------------------------------------------------------------------ digits


@pytest.mark.parametrize("by", ["accumulate", "Accumulator"])
def test_outputs_that_grow_from_step_to_step(by: str) -> None:
    """Sums around a mean are kept at centres of the first step's size: digits must not be lost when outputs grow."""
    model = nn.Linear(FEATURES, 1).double()
    parameters = list(model.parameters())
    acc = bp.Accumulator(pearson)
    for power in range(10):
        drift = torch.arange(N, dtype=torch.float64)[:, None] * 10 ** (power / 3)
        data = [(x + d, y) for (x, y), d in zip(parts(), drift.split(SIZES), strict=True)]
        clear(parameters)
        pearson(*map(torch.cat, zip(*map(through(model), data)))).backward()
        expected = gradients(parameters)[0]
        clear(parameters)
        if by == "accumulate":
            bp.accumulate(pearson, through(model), data)
        else:
            for part in data:
                acc.backward(*through(model)(part))
            acc.finish()
        # the gradient itself is what is left of numbers that cancel: one over the drift
        room = 1e-10 * float(drift.amax())
        assert float((gradients(parameters)[0] - expected).norm()) <= room * float(expected.norm()), power


class Clipped(torch.autograd.Function):
    """Its backward clips, and so is no multiple of what comes in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.clamp(-3e-3, 3e-3)


class Clipping(nn.Module):
    def __init__(self, by_hook: bool) -> None:
        super().__init__()
        self.inner, self.outer, self.by_hook = nn.Linear(4, 8).double(), nn.Linear(8, 1).double(), by_hook

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x).tanh()
        if self.by_hook and h.requires_grad:
            h.register_hook(lambda grad: grad.clamp(-3e-3, 3e-3))
        if not self.by_hook:
            h = Clipped.apply(h)
        scores: Tensor = self.outer(h)
        return scores


@pytest.mark.parametrize("by_hook", [True, False])
def test_models_that_clip_gradients_on_the_way(by_hook: bool) -> None:
    model = Clipping(by_hook)
    x, y = torch.randn(48, 4).double(), torch.randn(48, 1).double()
    rmse(model(x), y).backward()
    whole = model.inner.weight.grad
    for _ in range(2):
        model.zero_grad()
        loss = bp.accumulate(
            rmse, lambda part: (model(part[0]), part[1]), list(zip(x.split(7), y.split(7), strict=True))
        )
        same_gradients([model.inner.weight.grad], [whole], "clipped on the way")
        assert loss.scheme.number == 3  # type: ignore[attr-defined]
    model.zero_grad()
    acc = bp.Accumulator(rmse)
    with pytest.raises(bp.BatchproofError, match="changes gradients by their size"):
        acc.backward(model(x), y)
    assert model.inner.weight.grad is None
