"""The noise of losses that divide by a number of their batch: against sums over samples, and against drawn batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from batchproof import GradientNoise, gradient_noise
from batchproof.gradients.noise.estimate import MOST_UNITS
from batchproof.gradients.noise.gradients import TrainingProblem
from batchproof.gradients.noise.ratio import NoRatio, ratio_noise, weights_of
from batchproof.gradients.noise.samples import samples_of

V, T = 6, 9


class Words(nn.Module):
    """The logits of the next word."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 5)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(5, V)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.dropout(self.embedding(ids).tanh()))


def token_mean(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def sentences(n: int, seed: int = 0, least: int = 1) -> tuple[Tensor, Tensor]:
    """Padded sentences of unequal lengths, of which long ones hold other words."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(least, T + 1, (n, 1), generator=generator)
    ids = (torch.randint(V, (n, T), generator=generator) * lengths // T).clamp(max=V - 1)
    labels = (ids + torch.randint(2, (n, T), generator=generator)).clamp(max=V - 1)
    return ids, labels.masked_fill(torch.arange(T) >= lengths, -100)


def model_of(dropout: float = 0.0) -> Words:
    torch.manual_seed(1)
    return Words(dropout).double()


def written_out(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """(N, parameters): each sample's gradient times its weight."""
    rows = []
    for i in range(len(x)):
        if w[i] == 0:
            rows.append(torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64))
            continue
        grads = torch.autograd.grad(loss(model(x[i : i + 1]), y[i : i + 1]), list(model.parameters()))
        rows.append(w[i] * torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows)


def noise_written_out(sums: Tensor, w: Tensor) -> tuple[float, float, float]:
    """tr(S), |G|² without bias, and |G|."""
    n = len(w)
    full = sums.sum(0) / w.sum()
    residuals = (sums - full * w[:, None]) / w.mean()
    trace = float(residuals.square().sum() / (n - 1))
    square = float(full.square().sum())
    return trace, square - trace / n, math.sqrt(square)


def of_words(n: int = 200, **options: object) -> GradientNoise:
    settings = {"batch_sizes": [4, 50], "batches": 2, **options}
    return gradient_noise(model_of(), token_mean, sentences(n), **settings)  # type: ignore[arg-type]


def test_a_token_mean_against_its_sums() -> None:
    x, y = sentences(200)
    w = (y >= 0).sum(1).double()
    found = of_words()
    assert found.method == "ratio"
    assert found.unit == 1
    assert "delta method" in found.reason
    trace, signal, norm = noise_written_out(written_out(model_of(), token_mean, x, y, w), w)
    assert found.trace == pytest.approx(trace, rel=1e-6)
    assert found.signal == pytest.approx(signal, rel=1e-6)
    assert found.gradient_norm == pytest.approx(norm, rel=1e-9)
    assert found.noise_scale == pytest.approx(trace / signal, rel=1e-6)
    assert found.exit_status == 0


def test_weights_of_classes_against_their_sums() -> None:
    weight = torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(120, 4, generator=generator, dtype=torch.float64), torch.arange(120) % 3
    model = nn.Linear(4, 3, dtype=torch.float64)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, weight=weight)

    found = gradient_noise(model, loss, (x, y), batch_sizes=[8], batches=2)
    assert found.method == "ratio"
    w = weight[y]
    trace, signal, _ = noise_written_out(written_out(model, loss, x, y, w), w)
    assert (found.trace, found.signal) == (pytest.approx(trace, rel=1e-6), pytest.approx(signal, rel=1e-6))


def test_drawn_batches_are_as_expected() -> None:
    found = of_words(400, batch_sizes=[16, 64, 200, 400], batches=600)
    for row in found.rows[:-1]:
        assert row.variance.expected is not None
        room = 5 * row.variance.standard_error + 0.1 / row.size * row.variance.expected  # first order in 1/b
        assert abs(row.variance.value - row.variance.expected) < room, row
    assert found.rows[-1].variance.value == pytest.approx(0, abs=1e-12)
    assert found.rows[-1].variance.expected == pytest.approx(0, abs=1e-12)


def test_error_bars_against_leaving_out_one_at_a_time() -> None:
    x, y = sentences(30)
    w = (y >= 0).sum(1).double()
    sums = written_out(model_of(), token_mean, x, y, w)
    found = gradient_noise(model_of(), token_mean, (x, y), batch_sizes=[4], batches=2)
    left = []
    for i in range(30):
        kept = torch.arange(30) != i
        left.append(noise_written_out(sums[kept], w[kept]))
    signals = torch.tensor([signal for _, signal, _ in left])
    scales = torch.tensor([trace / signal for trace, signal, _ in left])
    for told, values in ((found.signal_se, signals), (found.noise_scale_se, scales)):
        assert told == pytest.approx(float((values - values.mean()).square().sum().mul(29 / 30).sqrt()), rel=1e-4)


def test_equal_weights_are_the_plain_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(40, 7, generator=generator, dtype=torch.float64) + 1
    w = torch.full((40,), 3.0, dtype=torch.float64)
    mean = g.mean(0)
    turned = (w.square()[:, None] * g).sum(0)
    found = ratio_noise(
        w, g.square().sum(1), g @ mean, g @ turned, float(mean.square().sum()), float(mean @ turned), unit=1
    )
    trace = float(g.var(0).sum())
    assert found.trace == pytest.approx(trace)
    assert found.signal == pytest.approx(float(mean.square().sum()) - trace / 40)


def test_larger_data_is_taken_in_micro_batches() -> None:
    n = 2 * MOST_UNITS + 8
    found = of_words(n, batch_sizes=[64])
    x, y = sentences(n)
    w = (y >= 0).sum(1).double()
    trace, signal, norm = noise_written_out(written_out(model_of(), token_mean, x, y, w), w)
    assert found.unit == 3
    assert found.gradient_norm == pytest.approx(norm, rel=1e-6), "all samples are in the full gradient"
    assert abs(found.noise_scale - trace / signal) < 4 * found.noise_scale_se


def test_samples_without_a_token_weigh_nothing() -> None:
    x, y = sentences(60)
    y[0] = y[7] = -100
    w = (y >= 0).sum(1).double()
    found = gradient_noise(model_of(), token_mean, (x, y), batch_sizes=[8], batches=2)
    assert found.method == "ratio"
    trace, signal, _ = noise_written_out(written_out(model_of(), token_mean, x, y, w), w)
    assert (found.trace, found.signal) == (pytest.approx(trace, rel=1e-6), pytest.approx(signal, rel=1e-6))


def test_samples_without_a_token_whose_gradient_is_none() -> None:
    """A token mean by hand is 0 / 0 on them, with a gradient of NaN."""

    def by_hand(logits: Tensor, labels: Tensor) -> Tensor:
        there = (labels >= 0).to(logits.dtype)
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten().clamp(min=0), reduction="none")
        return (losses.view_as(there) * there).sum() / there.sum()

    x, y = sentences(60)
    y[0] = y[7] = -100
    settings = {"batch_sizes": [8], "batches": 2}
    usual, found = (gradient_noise(model_of(), loss, (x, y), **settings) for loss in (token_mean, by_hand))  # type: ignore[arg-type]
    assert found.method == "ratio"
    assert (found.trace, found.signal) == (pytest.approx(usual.trace), pytest.approx(usual.signal))


def test_samples_that_are_alike() -> None:
    """Two with one gradient say nothing of each other's weight; a third one does."""
    x, y = sentences(40)
    x[5:20], y[5:20] = x[0], y[0]
    w = (y >= 0).sum(1).double()
    model = model_of()
    problem = TrainingProblem(model, lambda batch: token_mean(model(batch[0]), batch[1]), samples_of((x, y)))

    def same(a: list[Tensor], b: list[Tensor], largest: float) -> bool:
        return all(torch.allclose(p.double(), q.double(), rtol=1e-9, atol=1e-12) for p, q in zip(a, b, strict=True))

    found = weights_of(problem, [[i] for i in range(40)], same, lambda done: None)
    torch.testing.assert_close(found / found.sum(), w / w.sum())
    with pytest.raises(NoRatio):
        weights_of(problem, [[5], [6], [7]], same, lambda done: None)


def test_a_root_of_one_parameter_is_no_ratio() -> None:
    """Any number lies between two others, with some weights; the whole tells."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.by * x

    generator = torch.Generator().manual_seed(3)
    x = torch.randn(60, 1, generator=generator, dtype=torch.float64)
    y = x + torch.randn(60, 1, generator=generator, dtype=torch.float64)

    def root(pred: Tensor, real: Tensor) -> Tensor:
        return F.mse_loss(pred, real).sqrt()

    assert gradient_noise(Scale(), root, (x, y), batch_sizes=[8], batches=4).method == "batches"
    weight = x.detach().abs()

    def weighted(pred: Tensor, real: Tensor) -> Tensor:
        return ((pred - real).square() * pred.detach().abs()).sum() / pred.detach().abs().sum()

    assert gradient_noise(Scale(), weighted, (x, y), batch_sizes=[8], batches=4).method == "ratio"
    assert bool((weight > 0).all())


def test_single_precision() -> None:
    x, y = sentences(150)
    wide, narrow = (
        gradient_noise(model, token_mean, (x, y), batch_sizes=[8], batches=2)
        for model in (model_of(), model_of().float())
    )
    assert narrow.method == "ratio"
    assert narrow.noise_scale == pytest.approx(wide.noise_scale, rel=1e-3)


def test_dropout_is_part_of_the_noise() -> None:
    x, y = sentences(150)
    found = gradient_noise(model_of(0.3), token_mean, (x, y), batch_sizes=[16, 150], batches=40)
    assert (found.method, found.random) == ("ratio", True)
    assert found.redrawn > 0
    calm = gradient_noise(model_of(0.3).eval(), token_mean, (x, y), batch_sizes=[16], batches=2)
    assert found.trace > calm.trace
    for row in found.rows:
        assert row.variance.expected is not None
        assert (
            abs(row.variance.value - row.variance.expected) < 6 * row.variance.standard_error + 0.1 * row.variance.value
        )


def test_the_report_says_what_it_is() -> None:
    text = " ".join(of_words().details().split())
    assert "the noise scale from the gradients of 200 samples" in text
    assert "the loss divides by a number that its samples add up to" in text
