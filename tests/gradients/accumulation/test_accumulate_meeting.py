"""Samples that meet in forward are seen by accumulate, and none are seen to meet that do not."""

from __future__ import annotations

import random
from collections import UserDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_accumulate_hard import pearson, ranking, refused, rmse
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import batchproof as bp
from batchproof.gradients.accumulation import cache as memory
from functions import normal
from gradients import Task, gradients, same_gradient

N, SIZE, WIDTH = 48, 8, 6
D = torch.float64


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    memory._known.clear()
    yield
    memory._known.clear()


def pairs(*shape: int, dtype: torch.dtype = D) -> list[tuple[Tensor, Tensor]]:
    x, y = normal(N, *shape, seed=1).to(dtype), normal(N, seed=2).to(dtype)
    return list(zip(x.split(SIZE), y.split(SIZE)))


def texts() -> list[dict[str, Tensor]]:
    """Tokens, how many are there in the longest text first, and one label each."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(N // SIZE):
        lengths = torch.randint(2, 11, (SIZE,), generator=generator).sort(descending=True).values
        tokens = torch.randint(1, 20, (SIZE, 10), generator=generator)
        tokens = tokens.masked_fill(torch.arange(10) >= lengths[:, None], 0)
        labels = torch.randn(SIZE, dtype=D, generator=generator)
        found.append({"tokens": tokens, "lengths": lengths, "labels": labels})
    return found


def tail(width: int = WIDTH) -> nn.Module:
    return nn.Linear(width, 1).double()


def body(*layers: nn.Module, width: int = WIDTH) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), *layers, nn.Linear(width, 1)).double()


class By(nn.Module):
    """A layer as a function."""

    def __init__(self, fn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x)


# ------------------------------------------------------------------ samples that do not meet


class Patches(nn.Module):
    """Attention between the parts of one sample."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cut = nn.Conv2d(1, 8, 4, 4)
        self.first = nn.Parameter(torch.randn(1, 1, 8))
        self.mix = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.last = nn.Linear(8, 1)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.cut(x[:, None]).flatten(2).mT
        return self.last(self.mix(torch.cat([self.first.expand(len(h), 1, 8), h], 1))[:, 0])  # type: ignore[no-any-return]


def pictures() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(4),
        nn.Linear(4, 1),
    ).double()


class Reader(nn.Module):
    """Texts by a recurrent network: packed, or step by step."""

    def __init__(self, packed: bool, in_order: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.packed, self.in_order = packed, in_order
        self.table = nn.Embedding(20, 6)
        self.steps = nn.LSTM(6, 6, 2, dropout=0.2, batch_first=packed)
        self.last = nn.Linear(6, 1)
        self.double()

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        h = self.table(tokens)
        if self.packed:
            given = pack_padded_sequence(h, lengths.cpu(), batch_first=True, enforce_sorted=self.in_order)
            h = pad_packed_sequence(self.steps(given)[0], batch_first=True)[0].sum(1)
        else:
            h = self.steps(h.transpose(0, 1))[0][-1]
        return self.last(h).squeeze(1)  # type: ignore[no-any-return]


class Writer(nn.Module):
    """A score for each next token, from those before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.last = nn.Linear(8, 20)
        self.double()

    def forward(self, tokens: Tensor) -> Tensor:
        mask = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
        return self.last(self.layer(self.table(tokens), mask, tokens == 0))  # type: ignore[no-any-return]


class Experts(nn.Module):
    """Each sample goes to one of several, as many as come; dropout falls to what came to each."""

    def __init__(self, dropout: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.route = nn.Linear(WIDTH, 3)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.drop = dropout

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.route(x).softmax(1).max(1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            here = chosen == number
            out[here] = self.drop(expert(x[here])) * weight[here, None]
        return out


class Path(nn.Module):
    """Whole samples left out by chance."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.empty(len(x), 1, dtype=x.dtype).bernoulli_(0.8)


class Counting(nn.Module):
    """How often it was called enters, and not with what."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=D))
        self.calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + 0.01 * self.calls)


def cross_entropy(scores: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), tokens.flatten(), ignore_index=0)


@dataclass
class Apart:
    """A model, forward, micro-batches; the losses to take."""

    model: nn.Module
    forward: Callable[[Any], Any]
    parts: list[Any]
    losses: tuple[Callable[..., Tensor], ...] = (rmse, pearson, ranking)
    dims: Any = 0
    repeats: bool = True  # whether outputs are the same once more, in one batch's task


def of_pairs(model: nn.Module, *shape: int, repeats: bool = True) -> Apart:
    parts = pairs(*(shape or (WIDTH,)))
    return Apart(model, lambda part: (model(part[0]).squeeze(1), part[1]), parts, repeats=repeats)


def of_texts(model: nn.Module) -> Apart:
    return Apart(model, lambda part: (model(part["tokens"], part["lengths"]), part["labels"]), texts())


def in_turn(model: nn.Module) -> Apart:
    """Steps come first, and there are as many as samples."""
    model.steps = nn.LSTM(WIDTH, WIDTH).double()
    parts = [(x.reshape(SIZE, SIZE, WIDTH).transpose(0, 1), y) for x, y in pairs(SIZE, WIDTH)]
    return Apart(model, lambda part: (model[0](model.steps(part[0])[0][-1]).squeeze(1), part[1]), parts)


def graphs() -> Apart:
    """Nodes are samples; those of one micro-batch are joined by edges, those of two are not."""
    model = body()
    ring = torch.arange(SIZE - 1)  # and one node alone, which could be left out
    edges = torch.stack([ring, ring.roll(1)])

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        x, y, (here, there) = part
        return model(x.index_add(0, there, x[here])).squeeze(1), y

    return Apart(model, forward, [(x, y, edges) for x, y in pairs(WIDTH)])


def sorted_outputs() -> Apart:
    model = body(nn.Dropout(0.2))

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        order = part[0][:, 0].argsort()
        return model(part[0][order]).squeeze(1), part[1][order]

    return Apart(model, forward, pairs(WIDTH))


def labelled_only() -> Apart:
    model = body(nn.Dropout(0.2))

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        here = part[1] > 0
        return model(part[0][here]).squeeze(1), part[1][here]

    return Apart(model, forward, pairs(WIDTH))


def tokens_in_a_row(selected: bool) -> Apart:
    model = Writer()

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        scores, tokens = model(part["tokens"]).flatten(0, 1), part["tokens"].flatten()
        return (scores[tokens > 0], tokens[tokens > 0]) if selected else (scores, tokens)

    return Apart(model, forward, texts(), (lambda scores, tokens: F.cross_entropy(scores, tokens, ignore_index=0),))


def in_containers() -> Apart:
    model = body(nn.Dropout(0.3))
    forward = lambda part: {"pred": model(part["x"]["deep"]).squeeze(1), "real": part["y"]}  # noqa: E731
    parts = [UserDict(x={"deep": x}, y=y, name="no tensor") for x, y in pairs(WIDTH)]
    return Apart(model, forward, parts, repeats=False)


def beside_a_number() -> Apart:
    model = body()
    model.scale = nn.Parameter(torch.tensor(0.3, dtype=D))
    loss = lambda pred, real, scale: rmse(pred * scale, real)  # noqa: E731
    return Apart(
        model, lambda part: (model(part[0]).squeeze(1), part[1], model.scale), pairs(WIDTH), (loss,), (0, 0, None)
    )


OWN = torch.Generator().manual_seed(0)


def with_noise(own: bool) -> Apart:
    """Drawn by torch, and by all that replay knows; or by a generator that nobody finds."""
    model = body()

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        noise = torch.randn(part[0].shape, dtype=D, generator=OWN if own else None)
        return model(part[0] + noise * random.random()).squeeze(1), part[1]

    return Apart(model, forward, pairs(WIDTH), (rmse,) if own else (rmse, pearson, ranking), repeats=False)


def in_place() -> Apart:
    model = body()
    return Apart(model, lambda part: (model(part[0].clone().mul_(2)).squeeze(1), part[1]), pairs(WIDTH))


APART: dict[str, Callable[[], Apart]] = {
    "patches": lambda: of_pairs(Patches(), 8, 8),
    "pictures": lambda: of_pairs(pictures(), 8, 8, repeats=False),
    "as many numbers as samples": lambda: of_pairs(nn.Sequential(nn.Linear(SIZE, 1)).double(), SIZE),
    "packed": lambda: of_texts(Reader(packed=True)),
    "packed, longest first": lambda: of_texts(Reader(packed=True, in_order=True)),
    "step by step": lambda: of_texts(Reader(packed=False)),
    "as many steps as samples": lambda: in_turn(nn.Sequential(tail())),
    "causal mask": lambda: Apart(
        model := Writer(), lambda part: (model(part["tokens"]), part["tokens"]), texts(), (cross_entropy,)
    ),
    "in eval mode": lambda: Apart(
        model := Writer().eval(), lambda part: (model(part["tokens"]), part["tokens"]), texts(), (cross_entropy,)
    ),
    "tokens": lambda: tokens_in_a_row(selected=False),
    "selected tokens": lambda: tokens_in_a_row(selected=True),
    "experts": lambda: of_pairs(body(Experts(nn.Dropout(0.3)))),
    "experts, a function": lambda: of_pairs(body(Experts(lambda x: F.dropout(x, 0.3)))),
    "paths": lambda: of_pairs(body(Path(), nn.Linear(WIDTH, WIDTH))),
    "counting": lambda: of_pairs(body(Counting()), repeats=False),
    "spectral norm": lambda: of_pairs(
        body(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))), repeats=False
    ),
    "graphs": graphs,
    "sorted outputs": sorted_outputs,
    "labelled only": labelled_only,
    "containers": in_containers,
    "a number": beside_a_number,
    "noise": lambda: with_noise(own=False),
    "noise of its own": lambda: with_noise(own=True),
    "in place": in_place,
}


@pytest.mark.parametrize("name", APART)
def test_no_samples_meet(name: str) -> None:
    """The gradient is that of all outputs as forward gives them, and nothing is refused."""
    apart = APART[name]()
    parameters = [p for p in apart.model.parameters() if p.requires_grad]
    for loss in apart.losses:
        if apart.repeats:
            same_gradient(Task(loss, apart.forward, parameters, apart.dims), apart.parts)
        else:
            bp.accumulate(loss, apart.forward, apart.parts, batch_dim=apart.dims)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_is_no_meeting(dtype: torch.dtype) -> None:
    """Experts are handed other numbers of samples, which round in another way."""
    model = body(Experts(nn.Identity()), Experts(nn.Identity()), nn.LayerNorm(WIDTH)).to(dtype)
    bp.accumulate(rmse, lambda part: (model(part[0]).squeeze(1), part[1]), pairs(WIDTH, dtype=dtype))


def test_autocast() -> None:
    model = body(Experts(nn.Identity())).float()

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return model(part[0]).float().squeeze(1), part[1]

    bp.accumulate(rmse, forward, pairs(WIDTH, dtype=torch.float32))


# ------------------------------------------------------------------ samples that do


class Capacity(nn.Module):
    """A router with room for so many at each expert."""

    def __init__(self, crowded: float = 0.0) -> None:
        super().__init__()
        self.route = nn.Linear(WIDTH, 3)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        with torch.no_grad():
            self.route.bias[0] += crowded

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.route(x).softmax(1).max(1)
        hot = F.one_hot(chosen, 3)
        room = (hot.cumsum(0) * hot).sum(1) <= len(x) // 3
        found = torch.stack([expert(x) for expert in self.experts], 1)[torch.arange(len(x)), chosen]
        return x + found * (weight * room)[:, None]


class Chosen(Capacity):
    """Each expert takes the samples that it likes best."""

    def forward(self, x: Tensor) -> Tensor:
        scores = self.route(x).softmax(1)
        out = x
        for number, expert in enumerate(self.experts):
            best = scores[:, number].topk(len(x) // 3).indices
            out = out.index_add(0, best, expert(x[best]) * scores[best, number, None])
        return out


class Codebook(nn.Module):
    """Moved towards what came, after it was used."""

    def __init__(self, as_buffer: bool) -> None:
        super().__init__()
        codes = torch.randn(5, WIDTH, dtype=D)
        self.as_buffer = as_buffer
        self.register_buffer("codes", codes) if as_buffer else setattr(self, "codes", codes)
        self.codes: Tensor

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x.detach(), self.codes).argmin(1)
        found = self.codes[nearest]
        hot = F.one_hot(nearest, 5).to(x)
        with torch.no_grad():
            moved = self.codes.lerp(hot.T @ x / hot.sum(0)[:, None].clamp(min=1), 0.3)
        self.codes = moved
        return x + (found - x).detach() + 0.25 * (x - found)


class Queue(nn.Module):
    """Keys of the batches before, by an encoder that follows the one that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.train_me = nn.Linear(WIDTH, WIDTH)
        self.follow = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.register_buffer("keys", torch.randn(16, WIDTH))
        self.keys: Tensor

    def forward(self, x: Tensor) -> Tensor:
        for mine, theirs in zip(self.follow.parameters(), self.train_me.parameters()):
            mine.data = 0.9 * mine.data + 0.1 * theirs.data
        keys = self.follow(x)
        out = self.train_me(x) + (self.train_me(x) @ self.keys.T).softmax(1) @ self.keys
        self.keys = torch.cat([keys.detach(), self.keys])[:16]
        return out


class Running(nn.Module):
    """Moves its mean by the batch, then takes it off."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH, dtype=D))
        self.mean: Tensor

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
        return x - self.mean


MIXING: dict[str, Callable[[], nn.Module]] = {
    "capacity": lambda: body(Capacity()),
    "capacity, crowded": lambda: body(Capacity(crowded=0.5)),
    "chosen": lambda: body(Chosen()),
    "minibatch std": lambda: body(By(lambda x: torch.cat([x, x.std(0).mean().expand(len(x), 1)], 1)), width=WIDTH + 1),
    "by hand": lambda: body(By(lambda x: (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt())),
    "attention": lambda: body(By(lambda x: (x @ x.T).softmax(1) @ x)),
    "flipped": lambda: body(By(lambda x: 0.7 * x + 0.3 * x.flip(0))),
    "largest": lambda: body(By(lambda x: x / x.abs().amax())),
    "dropout beside": lambda: body(nn.Dropout(0.2), By(lambda x: x - x.mean(0)), nn.Dropout(0.2)),
    "noise beside": lambda: body(By(lambda x: x + torch.randn_like(x)), By(lambda x: x - x.mean(0))),
    "running mean": lambda: body(Running()),
    "codebook": lambda: body(Codebook(as_buffer=True)),
    "codebook, no buffer": lambda: body(Codebook(as_buffer=False)),
    "queue": lambda: body(Queue()),
}


@pytest.mark.parametrize("loss", [rmse, pearson, ranking], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("name", MIXING)
def test_samples_that_meet_are_refused(name: str, loss: Callable[..., Tensor]) -> None:
    torch.manual_seed(1)
    model = MIXING[name]()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    task = Task(
        loss, lambda part: (model(part[0]).squeeze(1), part[1]), [p for p in model.parameters() if p.requires_grad]
    )
    kept = name.startswith(("codebook", "queue", "running"))
    refused(task, pairs(WIDTH), "micro-batches before" if kept else "other samples of its micro-batch")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    if loss is rmse:
        bp.accumulate(loss, task.forward, pairs(WIDTH), allow_coupling=True)


def test_the_module_is_named() -> None:
    model = nn.Sequential(body(nn.Sequential(nn.Dropout(0.1), Capacity())))
    task = Task(rmse, lambda part: (model(part[0]).squeeze(1), part[1]), list(model.parameters()))
    refused(task, pairs(WIDTH), r"micro-batch, at 0\.2\.1 \(Capacity\), so")


def test_outputs_without_labels_and_two_samples() -> None:
    """Nothing says in which order outputs are: more of them moved than samples were changed."""
    model = body(By(lambda x: x - x.mean(0)))
    task = Task(lambda out: out.square().mean().sqrt(), lambda part: model(part[0]), list(model.parameters()))
    refused(task, pairs(WIDTH), "other samples of its micro-batch")
    few = [(x[:2], y[:2]) for x, y in pairs(WIDTH)]
    refused(
        Task(rmse, lambda part: (model(part[0]).squeeze(1), part[1]), list(model.parameters())), few, "other samples"
    )


def test_a_mean_over_the_longest_of_the_batch() -> None:
    """Padding is taken off by the batch: how long the others are enters."""
    model = Reader(packed=False)

    def forward(part: Any) -> tuple[Tensor, Tensor]:
        return model.last(model.table(part["tokens"])[:, : part["lengths"].max()].mean(1)).squeeze(1), part["labels"]

    refused(Task(rmse, forward, list(model.parameters())), texts(), "other samples of its micro-batch")


def test_tokens_that_meet() -> None:
    """Outputs are laid end to end; a loss that is known already does not hide the model."""
    model = Writer()
    model.layer = By(lambda h: h - h.mean((0, 1)))  # type: ignore[assignment]
    model.forward = lambda tokens: model.last(model.layer(model.table(tokens)))  # type: ignore[method-assign]
    apart = tokens_in_a_row(selected=False)
    bp.accumulate(apart.losses[0], apart.forward, apart.parts)
    forward = lambda part: (model(part["tokens"]).flatten(0, 1), part["tokens"].flatten())  # noqa: E731
    refused(Task(apart.losses[0], forward, list(model.parameters())), apart.parts, "other samples of its micro-batch")


# ------------------------------------------------------------------ traces


class Watched(nn.Module):
    """Counts its calls where nothing puts them back."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(WIDTH, 1).double()
        self.follow = nn.Parameter(torch.ones(WIDTH, dtype=D), requires_grad=False)
        self.seen: list[int] = []
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        Watched.calls += 1
        self.follow.data.mul_(0.9).add_(0.1 * self.line.weight.data[0])
        self.steps += 1
        self.seen.append(len(x))
        return self.line(x).squeeze(1)  # type: ignore[no-any-return]


def test_a_model_is_looked_at_once() -> None:
    """However often forward is made anew; and again where it is another model, or in another mode."""
    model, counts = Watched(), []

    def step(model: nn.Module) -> None:
        Watched.calls = 0
        bp.accumulate(rmse, lambda part: (model(part[0]), part[1]), pairs(WIDTH))
        counts.append(Watched.calls - N // SIZE)

    step(model)
    for _ in range(3):
        step(model)
    step(Watched())
    step(model.eval())
    assert counts[1:4] == [0, 0, 0] and counts[4] == counts[5] > 0


def test_what_cannot_be_seen_is_not_looked_for_for_ever() -> None:
    """Samples that are all alike, in each step."""
    model, counts = Watched(), []
    alike = [(torch.ones(SIZE, WIDTH, dtype=D), torch.ones(SIZE, dtype=D))] * 6
    for _ in range(8):
        Watched.calls = 0
        bp.accumulate(rmse, lambda part: (model(part[0]), part[1] + 1), alike)
        counts.append(Watched.calls - 6)
    assert counts[-1] == 0


def test_nothing_is_left_behind() -> None:
    """Attributes, counters, parameters that follow others, a generator, a closure: as where nothing is looked for."""
    weight = nn.Parameter(torch.ones(WIDTH, dtype=D))
    bp.accumulate(rmse, lambda part: (part[0] @ weight, part[1]), pairs(WIDTH))  # so that there is nothing to learn
    states = []
    for allow in (True, False):
        torch.manual_seed(0)
        model, own, calls, noted = Watched(), torch.Generator().manual_seed(1), 0, list[int]()

        def forward(part: Any, model: Watched = model, own: torch.Generator = own) -> tuple[Tensor, Tensor]:
            nonlocal calls
            calls += 1
            noted.append(calls)  # noqa: B023
            return model(part[0] * torch.rand((), dtype=D, generator=own)), part[1]

        Watched.calls = 0
        bp.accumulate(rmse, forward, pairs(WIDTH), allow_coupling=allow)
        kept = model.steps, model.seen, calls, noted, own.get_state().tolist(), model.follow.tolist()
        states.append((*kept, gradients(model.parameters())))
        assert (Watched.calls > calls) is not allow
    assert str(states[0]) == str(states[1])
