"""`gradient_noise`: against closed forms, against all batches there are, and against loops over plain autograd."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from batchproof import BatchproofError, GradientNoise, gradient_noise
from batchproof.gradients.noise import NoiseRow, draw, estimate, gradients
from batchproof.gradients.noise.example import INPUTS, NOISE, OFF, noise_scale, regression


class Mean(nn.Module):
    """The gradient of half the squared distance to a sample is ``w - x``: everything is known."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.w - x


class Branching(Mean):
    """As that, by a way that torch.func cannot go."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum().item() < math.inf else x


def half_square(residual: Tensor) -> Tensor:
    return 0.5 * residual.square().sum(1).mean()


def points(n: int, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float64)


def of_points(x: Tensor, model: type[Mean] = Mean, **options: Any) -> GradientNoise:
    return gradient_noise(model(W), half_square, x, **{"batches": 2, **options})


def known(x: Tensor) -> tuple[float, float, float]:
    """tr(S), |G|² without bias, |G|, for the points x."""
    trace = x.var(0).sum()
    square = (W - x.mean(0)).square().sum()
    return trace.item(), (square - trace / len(x)).item(), square.sqrt().item()


# -------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("n", [4, 7, 100, 1000])
def test_a_quadratic_in_closed_form(n: int) -> None:
    x = points(n)
    trace, signal, norm = known(x)
    found = of_points(x)
    assert (found.method, found.unit, found.samples, found.parameters) == ("per-sample", 1, n, 3)
    assert found.trace == pytest.approx(trace, rel=1e-12)
    assert found.signal == pytest.approx(signal, rel=1e-12)
    assert found.gradient_norm == pytest.approx(norm, rel=1e-12)
    assert found.noise_scale == pytest.approx(trace / signal if signal > 0 else math.inf, rel=1e-12)
    for row in found.rows:
        expected = trace * (1 / row.size - 1 / n) / norm**2
        assert row.variance.expected == pytest.approx(expected, rel=1e-12, abs=1e-15)
        assert row.cosine.expected == pytest.approx(1 / math.sqrt(1 + expected))
        assert row.progress == pytest.approx(1 / (1 + expected))


def test_what_is_expected_is_the_mean_over_all_batches_there_are() -> None:
    x = points(7)
    found = of_points(x, batch_sizes=range(1, 8))
    g = W - x
    full = g.mean(0)
    for row in found.rows:
        every = [g[list(chosen)].mean(0) for chosen in itertools.combinations(range(7), row.size)]
        variance = sum((one - full).square().sum() for one in every) / len(every) / full.square().sum()
        assert row.variance.expected == pytest.approx(variance.item(), rel=1e-12, abs=1e-14)


def test_drawn_batches_are_those_of_all_there_are() -> None:
    """Measured variances and cosines, against their means over every batch: the cosine has no closed form."""
    x = points(9)
    found = of_points(x, batch_sizes=[1, 2, 5, 9], batches=4000, seed=3)
    g = W - x
    full = g.mean(0)
    for row in found.rows:
        every = torch.stack([g[list(chosen)].mean(0) for chosen in itertools.combinations(range(9), row.size)])
        cosine = torch.cosine_similarity(every, full, dim=1).mean().item()
        variance = ((every - full).square().sum(1) / full.square().sum()).mean().item()
        assert abs(row.variance.value - variance) <= 4 * row.variance.standard_error + 1e-14
        assert abs(row.cosine.value - cosine) <= 4 * row.cosine.standard_error + 1e-14
        assert row.size == 9 or 0 < row.cosine.standard_error < 0.02


def test_a_regression_whose_noise_scale_is_known() -> None:
    assert noise_scale(INPUTS, OFF, NOISE) == 51
    model, loss, _ = regression()
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(20_000, INPUTS, generator=generator)
    y = OFF * x[:, :1] + NOISE * torch.randn(20_000, 1, generator=generator)
    found = gradient_noise(model, loss, (x, y), batch_sizes=[16], batches=1)
    assert 0.5 < found.noise_scale_se < 2.5
    assert abs(found.noise_scale - 51) < 4 * found.noise_scale_se
    assert found.signal == pytest.approx((2 * OFF) ** 2, abs=4 * found.signal_se)


def test_no_bias_and_honest_error_bars() -> None:
    """Over many data sets: trace and signal are right on average, and spread as their error bars say."""
    runs = [of_points(points(40, seed=seed), batch_sizes=[1], batches=1) for seed in range(200)]
    for value, error, truth in (("trace", None, 3.0), ("signal", "signal_se", W.square().sum().item())):
        column = torch.tensor([getattr(run, value) for run in runs])
        assert abs(column.mean() - truth) < 4 * column.std() / math.sqrt(len(runs))
        if error is not None:
            typical = torch.tensor([getattr(run, error) for run in runs]).mean()
            assert typical == pytest.approx(column.std().item(), rel=0.15)
    scales = torch.tensor([run.noise_scale for run in runs])
    bars = torch.tensor([run.noise_scale_se for run in runs])
    # what a squared norm would give that is not freed of its noise: 2.16
    assert scales.median().item() == pytest.approx(3 / W.square().sum().item(), rel=0.06)
    inside = ((scales - 3 / W.square().sum()).abs() < 2 * bars).double().mean()
    assert inside > 0.85


@pytest.mark.parametrize("model", [Mean, Branching])
def test_the_error_bars_are_those_of_leaving_out_one_at_a_time(model: type[Mean]) -> None:
    x = points(30)
    found = of_points(x, model)
    rest = torch.tensor([known(torch.cat([x[:i], x[i + 1 :]])) for i in range(30)], dtype=torch.float64)
    for left, error in ((rest[:, 1], found.signal_se), (rest[:, 0] / rest[:, 1], found.noise_scale_se)):
        expected = ((left - left.mean()).square().sum() * 29 / 30).sqrt().item()
        assert error == pytest.approx(expected, rel=1e-9)


# -------------------------------------------------------------------------------------------------- the two ways


def test_both_ways_agree_to_the_last_digit_where_a_micro_batch_is_one_sample() -> None:
    x = points(100)
    one, other = of_points(x), of_points(x, Branching)
    assert (one.method, other.method) == ("per-sample", "micro-batches")
    assert "RuntimeError" in other.reason
    for name in ("noise_scale", "noise_scale_se", "trace", "signal", "signal_se", "gradient_norm"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-10), name


def test_larger_micro_batches_agree_within_their_noise() -> None:
    x = points(2001)
    one, other = of_points(x, batch_sizes=[3]), of_points(x, Branching, batch_sizes=[3])
    assert other.unit == 8
    # one sample is left over, and is part of the full gradient all the same
    assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-12)
    assert abs(one.noise_scale - other.noise_scale) < 4 * other.noise_scale_se
    assert other.noise_scale_se < 0.2 * other.noise_scale


def test_micro_batches_are_the_estimator_of_two_batch_sizes() -> None:
    """McCandlish et al. 2018, appendix A.1, with B_small the micro-batch and B_big all of them."""
    x = points(512)
    found = of_points(x, Branching, batch_sizes=[1], seed=4)
    order = torch.randperm(512, generator=torch.Generator().manual_seed(4))
    small, big = 2, 512
    parts = (W - x)[order].reshape(256, small, 3).mean(1)
    square_small, square_big = parts.square().sum(1).mean(), parts.mean(0).square().sum()
    signal = (big * square_big - small * square_small) / (big - small)
    trace = (square_small - square_big) / (1 / small - 1 / big)
    assert found.unit == small
    assert found.signal == pytest.approx(signal.item(), rel=1e-12)
    assert found.trace == pytest.approx(trace.item(), rel=1e-12)


def test_little_memory_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points(100)
    usual = of_points(x)
    monkeypatch.setattr(gradients, "CHUNK_BYTES", 7 * 24)
    monkeypatch.setattr(estimate, "KEPT_BYTES", 0)
    most = 0
    per_sample = gradients.TrainingProblem.per_sample

    def watched(self: Any, batch: Tensor) -> Any:
        nonlocal most
        most = max(most, len(batch))
        return per_sample(self, batch)

    monkeypatch.setattr(gradients.TrainingProblem, "per_sample", watched)
    little = of_points(x)
    assert most == 7
    for name in ("noise_scale", "noise_scale_se", "signal_se", "gradient_norm"):
        assert getattr(little, name) == pytest.approx(getattr(usual, name), rel=1e-10), name


# -------------------------------------------------------------------------------------------------- models


class Tied(nn.Module):
    """One matrix used twice, one that is frozen, a scalar, and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.frozen = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.frozen.requires_grad_(False)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.second(torch.tanh(self.frozen(self.first(x))))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (1, 6)), layer, nn.Flatten())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (6,)), "cnn": (cnn, (1, 6, 6)), "tied": (Tied, (6,)), "attention": (attention, (6,)),
}  # fmt: skip


def classes(shape: tuple[int, ...], n: int = 60, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    y = torch.randint(0, 3, (n,))
    x = torch.randn(n, *shape, dtype=dtype)
    x.flatten(1)[torch.arange(n), y] += 1.5
    return x, y


def by_loop(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(N, P): one backward pass for each sample."""
    model = copy.deepcopy(model)
    rows = []
    for one, target in zip(x.split(1), y.split(1)):
        model.zero_grad()
        F.cross_entropy(model(one), target).backward()
        parts = [p for p in model.parameters() if p.requires_grad]
        rows.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parts]))
    return torch.stack(rows).double()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", MODELS)
def test_against_one_backward_pass_for_each_sample(name: str, dtype: torch.dtype) -> None:
    make, shape = MODELS[name]
    model, (x, y) = make().to(dtype), classes(shape, dtype=dtype)
    found = gradient_noise(model, F.cross_entropy, (x, y), batches=300, batch_sizes=[1, 8, 30, 60])
    g = by_loop(model, x, y)
    rel = 1e-9 if dtype is torch.float64 else 1e-4
    trace, square = g.var(0).sum().item(), g.mean(0).square().sum().item()
    assert found.method == "per-sample"
    assert found.parameters == g.shape[1]
    assert found.trace == pytest.approx(trace, rel=rel)
    assert found.gradient_norm == pytest.approx(math.sqrt(square), rel=rel)
    assert found.signal == pytest.approx(square - trace / 60, rel=10 * rel, abs=rel * square)
    for row in found.rows:
        assert row.variance.expected is not None
        assert abs(row.variance.value - row.variance.expected) <= 4 * row.variance.standard_error + 1e-10
        chosen = [torch.randperm(60)[: row.size] for _ in range(300)]
        cosines = torch.stack([torch.cosine_similarity(g[c].mean(0), g.mean(0), dim=0) for c in chosen])
        error = math.hypot(row.cosine.standard_error, (cosines.std() / math.sqrt(300)).item())
        assert abs(row.cosine.value - cosines.mean().item()) <= 4 * error + 1e-10
    assert found.rows[-1].variance.value < 1e-10


def test_dropout_is_part_of_the_noise() -> None:
    model, (x, y) = nn.Sequential(nn.Dropout(0.5), mlp()).double(), classes((6,), 400)
    found = gradient_noise(model, F.cross_entropy, (x, y), batch_sizes=[4, 400], batches=100)
    assert (found.method, found.random) == ("per-sample", True)
    assert found.redrawn > 0
    assert any("dropout" in note for note in found.notes)
    for row in found.rows:  # at 400, too: two passes over all samples differ
        assert row.variance.value > 0.001
        assert row.variance.value == pytest.approx(row.variance.expected, rel=0.35)
    calm = gradient_noise(model.eval(), F.cross_entropy, (x, y), batch_sizes=[400], batches=3)
    assert (calm.random, calm.redrawn) == (False, 0.0)
    assert calm.trace < found.trace
    assert calm.rows[0].variance.value < 1e-20


def test_dropout_draws_the_same_masks_in_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = nn.Sequential(nn.Dropout(0.5), mlp()).double(), classes((6,), 400)
    kept = gradient_noise(model, F.cross_entropy, data, batch_sizes=[4], batches=1)
    monkeypatch.setattr(estimate, "KEPT_BYTES", 0)
    again = gradient_noise(model, F.cross_entropy, data, batch_sizes=[4], batches=1)
    assert again.signal_se == pytest.approx(kept.signal_se, rel=1e-10)
    assert again.noise_scale_se == pytest.approx(kept.noise_scale_se, rel=1e-10)


def test_dropout_without_a_layer_and_where_it_cannot_be_switched_off() -> None:
    class Always(nn.Module):
        def __init__(self, on: bool | None) -> None:
            super().__init__()
            self.linear, self.on = nn.Linear(6, 3), on

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(F.dropout(x, 0.5, self.training if self.on is None else self.on))

    data = classes((6,), dtype=torch.float32)
    usual = gradient_noise(Always(None), F.cross_entropy, data, batch_sizes=[8], batches=5)
    assert (usual.method, usual.random) == ("per-sample", True)
    always = gradient_noise(Always(True), F.cross_entropy, data, batch_sizes=[8], batches=5)
    assert (always.method, always.random) == ("batches", True)


# -------------------------------------------------------------------------------------------------- losses that couple


def spread(logits: Tensor, y: Tensor) -> Tensor:
    losses = F.cross_entropy(logits, y, reduction="none")
    return losses.mean() + losses.std()


def root(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y).sqrt()


@pytest.mark.parametrize("loss", [spread, root])
def test_a_loss_that_is_no_mean_is_measured_size_by_size(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    model, (x, y) = mlp().double(), classes((6,), 300)
    found = gradient_noise(model, loss, (x, y), batch_sizes=[4, 30], batches=400)
    assert found.method == "batches"
    assert "not the mean of the losses of its samples" in found.reason
    assert math.isnan(found.noise_scale)
    assert found.exit_status == 0
    for row in found.rows:
        drawn = []
        for _ in range(400):
            chosen = torch.randperm(300)[: row.size]
            grads = torch.autograd.grad(loss(model(x[chosen]), y[chosen]), list(model.parameters()))
            drawn.append(torch.cat([g.flatten() for g in grads]))
        g = torch.stack(drawn)
        trace = g.var(0).sum()
        square = g.mean(0).square().sum() - trace / 400
        assert abs(row.variance.value - (trace / square).item()) < 6 * row.variance.standard_error
        assert row.cosine.value == pytest.approx(1 / math.sqrt(1 + row.variance.value), rel=1e-2)
        assert row.variance.expected is None
        assert 0 < row.variance.standard_error < 0.3 * row.variance.value


def test_a_batch_of_one_that_is_a_case_of_its_own() -> None:
    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y) * (1 if len(y) > 1 else 3)

    found = gradient_noise(mlp().double(), loss, classes((6,)), batch_sizes=[1, 8], batches=20)
    assert found.method == "batches"
    assert "alone in its batch" in found.reason


def test_error_bars_of_batches_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against leaving out one batch at a time, written out."""
    drawn = [[part] for part in points(20) + 1.0]
    monkeypatch.setattr(draw, "gradients", lambda *args: iter(drawn))
    row = draw.around_each_other(None, 5, 20, 0, lambda: None)  # type: ignore[arg-type]
    g = torch.stack([part for (part,) in drawn])

    def share(g: Tensor) -> Tensor:
        trace = g.var(0).sum()
        return trace / (g.mean(0).square().sum() - trace / len(g))

    left = torch.stack([share(torch.cat([g[:i], g[i + 1 :]])) for i in range(20)])
    assert row.variance.value == pytest.approx(share(g).item(), rel=1e-12)
    assert row.variance.standard_error == pytest.approx(
        ((left - left.mean()).square().sum() * 19 / 20).sqrt().item(), rel=1e-9
    )
    whole = (g.mean(0).square().sum() - g.var(0).sum() / 20) / g.square().sum(1).mean()
    assert row.cosine.value == pytest.approx(whole.sqrt().item(), rel=1e-12)


def test_batch_norm_is_named_and_sizes_that_it_refuses_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    found = gradient_noise(model, F.cross_entropy, classes((6,), dtype=torch.float32), batch_sizes=[1, 16], batches=20)
    assert found.method == "batches"
    assert "1 (BatchNorm1d in training mode) couples the samples" in found.reason
    assert [row.undefined for row in found.rows] == [20, 0]
    assert math.isnan(found.rows[0].variance.value)
    assert found.rows[1].variance.value > 0
    assert "20 of 20 at size 1" in " ".join(found.notes)
    calm = gradient_noise(model.eval(), F.cross_entropy, classes((6,), dtype=torch.float32), batch_sizes=[4], batches=2)
    assert calm.method == "per-sample"


# -------------------------------------------------------------------------------------------------- data


class Items(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.x, self.y)


FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "list": lambda x, y: [x, y],
    "TensorDataset": TensorDataset,
    "Dataset": Items,
    "DataLoader": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=7),
    "DataLoader of a Dataset": lambda x, y: DataLoader(Items(x, y), batch_size=7, shuffle=True, drop_last=True),
    "DataLoader of a stream": lambda x, y: DataLoader(Stream(x, y), batch_size=7),
    "DataLoader without batches": lambda x, y: DataLoader(list(zip(x.split(5), y.split(5))), batch_size=None),
    "batches": lambda x, y: list(zip(x.split(9), y.split(9))),
    "batches as lists": lambda x, y: [[a, b] for a, b in zip(x.split(9), y.split(9))],
    "generator": lambda x, y: zip(x.split(9), y.split(9)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data(form: str) -> None:
    model, (x, y) = mlp().double(), classes((6,))
    tensors, other = (gradient_noise(model, F.cross_entropy, data, batches=3) for data in ((x, y), FORMS[form](x, y)))
    assert other.samples == 60
    assert [row.size for row in other.rows] == [1, 2, 4, 8, 16, 32, 60]
    assert other.noise_scale == pytest.approx(tensors.noise_scale, rel=1e-12)
    assert other.rows[2].cosine.value == pytest.approx(tensors.rows[2].cosine.value, rel=1e-9)


def test_a_loaders_own_way_of_making_batches() -> None:
    def doubled(items: list[Any]) -> tuple[Tensor, Tensor]:
        x, y = zip(*items)
        return 2 * torch.stack(x), torch.stack(y)

    model, (x, y) = mlp().double(), classes((6,))
    loader = DataLoader(Items(x, y), batch_size=7, collate_fn=doubled)
    of_loader, of_twice = (
        gradient_noise(model, F.cross_entropy, d, batches=1, batch_sizes=[2]) for d in (loader, (2 * x, y))
    )
    assert of_loader.noise_scale == pytest.approx(of_twice.noise_scale, rel=1e-12)


def test_batches_of_other_forms() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x: Tensor, shift: Tensor) -> Tensor:
            return self.linear(x + shift)

    x, y = classes((6,), dtype=torch.float32)
    model, shift = Two(), torch.randn(60, 6)
    three = gradient_noise(model, F.cross_entropy, (x, shift, y), batch_sizes=[4], batches=2)
    named = gradient_noise(
        model,
        F.cross_entropy,
        [{"x": x[:40], "by": shift[:40], "y": y[:40]}, {"x": x[40:], "by": shift[40:], "y": y[40:]}],
        forward=lambda batch: (model(batch["x"], batch["by"]), batch["y"]),
        batch_sizes=[4],
        batches=2,
    )
    assert three.method == named.method == "per-sample"
    assert named.noise_scale == pytest.approx(three.noise_scale, rel=1e-6)
    scalar = gradient_noise(
        model, torch.mean, (x, shift, y), forward=lambda b: F.mse_loss(model(b[0], b[1]), b[0][:, :3]), batch_sizes=[4]
    )
    assert scalar.method == "per-sample"


def test_samples_that_torch_func_cannot_take() -> None:
    words = [(["one", "two"][index % 2], torch.tensor(float(index % 3))) for index in range(40)]

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.zeros(2))

        def forward(self, words: list[str]) -> Tensor:
            return self.value[torch.tensor([len(word) % 2 for word in words])] + self.value.sum()

    loader = DataLoader(words, batch_size=4)  # type: ignore[arg-type]
    found = gradient_noise(Words(), F.mse_loss, loader, batch_sizes=[2], batches=2)
    assert found.method == "micro-batches"


# -------------------------------------------------------------------------------------------------- no trace


def test_nothing_is_left_behind() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.drop, self.norm = nn.Linear(6, 3), nn.Dropout(), nn.BatchNorm1d(3)
            self.inner = nn.Sequential(nn.Sequential(nn.Sequential(nn.Identity())))
            self.seen: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.seen = self.linear(self.inner(self.drop(x)))
            self.inner[0][0].last = self.seen  # type: ignore[index]
            return self.norm(self.seen)

    model, data = Remembers(), classes((6,), dtype=torch.float32)
    model.norm.eval()
    F.cross_entropy(model(data[0]), data[1]).backward()
    for in_training in (False, True):
        model.norm.train(in_training)
        before = copy.deepcopy(model.state_dict())
        gradients_before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        objects = [id(p) for p in model.parameters()]
        seen, last = model.seen, model.inner[0][0].last  # type: ignore[index]
        modes = [module.training for module in model.modules()]
        states = torch.get_rng_state(), random.getstate()
        found = gradient_noise(model, F.cross_entropy, data, batch_sizes=[2, 8], batches=3)
        assert found.method == ("batches" if in_training else "per-sample")
        assert torch.equal(states[0], torch.get_rng_state())
        assert states[1] == random.getstate()
        assert modes == [module.training for module in model.modules()]
        assert objects == [id(p) for p in model.parameters()]
        assert seen is model.seen
        assert last is model.inner[0][0].last  # type: ignore[index]
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
        after = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(torch.equal(a, b) for a, b in zip(gradients_before, after, strict=True))


def test_under_no_grad_and_twice_the_same() -> None:
    model, data = nn.Sequential(nn.Dropout(), mlp()), classes((6,), dtype=torch.float32)
    with torch.no_grad():
        first = gradient_noise(model, F.cross_entropy, data, batches=5, seed=3)
    torch.rand(7)
    again = gradient_noise(model, F.cross_entropy, data, batches=5, seed=3)
    other = gradient_noise(model, F.cross_entropy, data, batches=5, seed=4)
    assert first.rows == again.rows
    assert first.noise_scale == again.noise_scale
    assert other.rows != again.rows


def test_what_is_left_after_a_refusal() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Linear(6, 3))
    x, y = classes((6,), dtype=torch.float32)
    x[17] = math.nan
    state = torch.get_rng_state()
    with pytest.raises(BatchproofError, match="NaN or infinite"):
        gradient_noise(model, F.cross_entropy, (x, y))
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert all(module.training for module in model.modules())


# -------------------------------------------------------------------------------------------------- what goes wrong


X, Y = torch.randn(20, 6), torch.randint(0, 3, (20,))


def frozen() -> nn.Module:
    return mlp().requires_grad_(False)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("model", F.cross_entropy, (X, Y)), {}, "model is a torch.nn.Module, not str"),
        ((mlp(), 3, (X, Y)), {}, "loss_fn is a function of the model's output and the target, not int"),
        ((frozen(), F.cross_entropy, (X, Y)), {}, "no parameter of the model requires a gradient"),
        ((mlp(), F.cross_entropy, 5), {}, "data is tensors (inputs, target), a Dataset, a DataLoader, or batches"),
        ((mlp(), F.cross_entropy, (X, Y[:5])), {}, "do not have one row for each sample: (20, 6), (5,)"),
        ((mlp(), F.cross_entropy, []), {}, "the data is empty"),
        ((mlp(), F.cross_entropy, [(X, Y), (X[:, :2], Y)]), {}, "the batches cannot be joined"),
        ((mlp(), F.cross_entropy, [(X, Y), (X,)]), {}, "the same parts in each"),
        ((mlp(), F.cross_entropy, (X[:3], Y[:3])), {}, "needs at least 4 samples, and the data has 3"),
        (
            (mlp(), F.cross_entropy, (X, Y)),
            {"batch_sizes": [0]},
            "a batch size must be a whole number from 1 on, not 0",
        ),
        ((mlp(), F.cross_entropy, (X, Y)), {"batch_sizes": []}, "there is no batch size to measure"),
        ((mlp(), F.cross_entropy, (X, Y)), {"batch_sizes": 21}, "a batch of 21 cannot be drawn: the data has 20"),
        ((mlp(), F.cross_entropy, (X, Y)), {"mark": 64}, "a batch of 64 cannot be drawn: the data has 20"),
        ((mlp(), F.cross_entropy, (X, Y)), {"batches": 0}, "batches must be a whole number from 1 on"),
        ((mlp(), F.cross_entropy, (X, Y)), {"seed": 0.5}, "seed must be a whole number"),
        ((mlp(), F.cross_entropy, (X, Y)), {"forward": 1}, "forward is a function of a batch, not int"),
        ((mlp(), lambda p, t: F.cross_entropy(p, t, reduction="none"), (X, Y)), {}, "a tensor of shape (20,)"),
        ((mlp(), lambda p, t: 1.0, (X, Y)), {}, "must return one number, the mean over the batch, and returned float"),
        ((mlp(), lambda p, t: torch.tensor(1.0), (X, Y)), {}, "the loss has no gradient"),
        (
            (mlp(), lambda p, t: F.cross_entropy(p, t, reduction="sum"), (X, Y)),
            {},
            "the loss is the sum over the batch",
        ),
        ((mlp(), F.cross_entropy, [{"x": X, "y": Y}]), {}, "say with forward= what the loss takes of it"),
    ],
)
def test_bad_input_is_one_clear_line(args: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(BatchproofError, match=re.escape(message)) as raised:
        gradient_noise(*args, **options)
    assert "\n" not in str(raised.value)
    assert torch.equal(state, torch.get_rng_state())


def test_a_sample_whose_gradient_is_not_finite_is_named() -> None:
    x, y = classes((6,), 300, torch.float32)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0)).tolist()
    x[order[200]] = math.inf  # not among the few that are tried first
    with pytest.raises(BatchproofError, match=f"the gradient of sample {order[200]} is NaN or infinite"):
        gradient_noise(mlp(), F.cross_entropy, (x, y))


def test_the_users_own_error_passes_through() -> None:
    def broken(pred: Tensor, y: Tensor) -> Tensor:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        gradient_noise(mlp(), broken, (X, Y))


# -------------------------------------------------------------------------------------------------- the answer


def test_samples_that_show_no_gradient() -> None:
    x = points(60) - points(60).mean(0) + W + 1e-3
    found = of_points(x)
    assert found.signal < 0
    assert not found.is_clear
    assert (found.noise_scale, found.exit_status) == (math.inf, 2)
    assert 10 < found.at_least < 1000
    assert found.headline.startswith("could not tell which batch size is large enough: 60 samples show no gradient")
    assert json.loads(json.dumps(found.to_dict()))["noise_scale"] is None


def test_a_full_gradient_of_zero() -> None:
    x = torch.cat([points(20), -points(20)]) + W
    found = gradient_noise(Mean(W), half_square, x, batches=2)
    assert "could not tell" in found.headline
    assert found.exit_status == 2
    model = nn.Linear(2, 1)
    zero = gradient_noise(model, lambda p: 0.0 * p.mean(), torch.randn(10, 2), batches=2)
    assert zero.gradient_norm == 0
    assert "the full gradient is zero" in zero.headline
    assert str(zero)


def test_a_gradient_without_noise() -> None:
    x = torch.ones(30, 3, dtype=torch.float64)
    found = of_points(x)
    assert found.noise_scale < 1e-12
    assert "larger batches hardly pay off" in found.headline
    assert str(found)


def test_headline_and_data() -> None:
    found = of_points(points(400), mark=24, batches=20)
    assert re.match(r"batches up to about 2\.\d ± 0\.\d samples pay off", found.headline)
    assert 24 in [row.size for row in found.rows]
    data = json.loads(json.dumps(found.to_dict()))
    assert data["marked"] == 24
    assert data["rows"][0]["progress"] == pytest.approx(found.rows[0].progress)
    assert str(found).startswith("✓ batches up to about 2.")


@pytest.mark.parametrize("result", [GradientNoise, NoiseRow])
def test_every_field_is_explained(result: Any) -> None:
    explained = re.findall(r"^ +(\w+): ", (result.__doc__ or "").partition("Attributes:")[2], re.MULTILINE)
    assert explained == [field.name for field in dataclasses.fields(result)]


def test_progress_is_told_and_ctrl_c_keeps_what_is_done() -> None:
    told: list[tuple[str, int, int]] = []

    def progress(text: str, done: int, total: int) -> None:
        told.append((text, done, total))
        if text == "batches of 4" and done > 20:
            raise KeyboardInterrupt

    found = of_points(points(50), batch_sizes=[1, 2, 4, 8], batches=10, progress=progress)
    assert found.interrupted
    assert [row.size for row in found.rows] == [1, 2]
    assert found.noise_scale > 0
    assert told[0][0] == "gradients"
    assert all(0 <= done <= total for _, done, total in told)

    def at_once(text: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        of_points(points(50), progress=at_once)


def test_fewer_of_large_batches() -> None:
    assert [draw.how_many(size, 100_000, 200) for size in (1, 256, 1024, 50_000)] == [200, 195, 48, 8]
    assert draw.how_many(1, 100, 5) == 5
