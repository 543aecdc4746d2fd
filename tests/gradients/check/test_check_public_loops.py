"""Loops as they were reported in public, each with its cause, and loops that are right: small, and in our own words.

The name says what is wrong, the comment where such a loop was reported (owner/repository#number).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import batchproof as bp
from batchproof import GradientCheck, check_gradients

N, K, LENGTH = 8, 4, 6
Pair = tuple[Tensor, Tensor]
Loop = Callable[[nn.Module, list[Pair]], object]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
LENGTHS = torch.tensor([6, 1, 2, 5, 3, 1, 6, 4])


def net(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), *layers, nn.Tanh(), nn.Linear(8, 4)).double()


def data() -> Pair:
    """Sequences of different lengths: labels are -100 after their end."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, LENGTH, 5, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 4, (N, LENGTH), generator=generator)
    return x, y.masked_fill(torch.arange(LENGTH) >= LENGTHS[:, None], -100)


def labels(y: Tensor) -> int:
    return int((y != -100).sum())


def token_sum(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-100, reduction="sum")


def token_mean(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return token_sum(model, x, y) / labels(y)


def sample_mean(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A mean over samples, which are equally many in each micro-batch."""
    return model(x).square().mean()


@dataclass(frozen=True)
class Case:
    """A loop, what its loss is on one batch, and what is to be said of it."""

    loop: Loop
    loss: Loss = sample_mean
    cause: str | None = None
    model: Callable[[], nn.Module] = net
    parts: Callable[[Tensor], tuple[Tensor, ...]] = lambda t: t.split(N // K)
    weights: dict[str, list[float]] | None = None

    def check(self, dtype: torch.dtype = torch.float64) -> GradientCheck:
        model, (x, y) = self.model().to(dtype), data()
        x = x.to(dtype)
        parts = list(zip(self.parts(x), self.parts(y)))
        weights = self.weights
        if weights is None:
            weights = {"samples": [float(len(b)) for _, b in parts], "tokens": [float(labels(b)) for _, b in parts]}
        full, accumulated = lambda: self.loss(model, x, y).backward(), lambda: self.loop(model, parts)
        return check_gradients(full, accumulated, model, weights=weights)


def each(scale: Callable[[int], float], loss: Loss = sample_mean) -> Loop:
    """The loop of every tutorial, with another factor."""

    def loop(model: nn.Module, parts: list[Pair]) -> None:
        for x, y in parts:
            (loss(model, x, y) * scale(len(parts))).backward()

    return loop


right = each(lambda k: 1 / k)


# ------------------------------------------------------------------ between the passes


def zero_grad_inside(model: nn.Module, parts: list[Pair]) -> None:  # sentence-transformers#3862
    for x, y in parts:
        model.zero_grad()
        (sample_mean(model, x, y) / K).backward()


def zero_grad_when_i_mod_k(model: nn.Module, parts: list[Pair]) -> None:  # many forum threads: i % K == 0, from 0
    for i, (x, y) in enumerate(parts):
        (sample_mean(model, x, y) / K).backward()
        if i % K == 0:
            model.zero_grad()


def overwritten(model: nn.Module, parts: list[Pair]) -> None:  # DeepSpeed#7967: earlier micro-batches are dropped
    for x, y in parts:
        found = torch.autograd.grad(sample_mean(model, x, y) / K, list(model.parameters()), retain_graph=False)
        for p, g in zip(model.parameters(), found):
            p.grad = g


def clip_each(model: nn.Module, parts: list[Pair]) -> None:  # transformers#1563, lingua#59
    for x, y in parts:
        (sample_mean(model, x, y) / K).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)


def clip_value_each(model: nn.Module, parts: list[Pair]) -> None:  # keras#19990
    for x, y in parts:
        (sample_mean(model, x, y) / K).backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.002)


def unscale_each(model: nn.Module, parts: list[Pair]) -> None:  # a GradScaler's unscale_ in every micro-batch
    for x, y in parts:
        (sample_mean(model, x, y) * 8 / K).backward()
        for p in model.parameters():
            p.grad /= 8


def running_total(model: nn.Module, parts: list[Pair]) -> None:  # total += loss; total.backward()
    total: Any = 0
    for x, y in parts:
        total = total + sample_mean(model, x, y) / K
        total.backward(retain_graph=True)


def backward_after_the_loop(model: nn.Module, parts: list[Pair]) -> None:  # indentation
    for x, y in parts:
        loss = sample_mean(model, x, y) / K
    loss.backward()


def backward_when_stepping(model: nn.Module, parts: list[Pair]) -> None:  # if (i + 1) % 2 == 0: loss.backward()
    for i, (x, y) in enumerate(parts):
        loss = sample_mean(model, x, y) / K
        if (i + 1) % 2 == 0:
            loss.backward()


def step_each(model: nn.Module, parts: list[Pair]) -> None:  # step() in every micro-batch, zero_grad() at the end
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in parts:
        (sample_mean(model, x, y) / K).backward()
        optimizer.step()


def averaged_each(model: nn.Module, parts: list[Pair]) -> None:  # p.grad /= i inside the loop
    for i, (x, y) in enumerate(parts, start=1):
        sample_mean(model, x, y).backward()
        for p in model.parameters():
            p.grad /= i


def averaged_by_doubling(model: nn.Module, parts: list[Pair]) -> None:  # p.grad += p.grad kept from before
    for x, y in parts:
        before = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        (sample_mean(model, x, y) / K).backward()
        for p, g in zip(model.parameters(), before):
            if g is not None:
                p.grad += g


# ------------------------------------------------------------------ which samples


def short_batch_dropped(model: nn.Module, parts: list[Pair]) -> None:  # for i in range(n // size)
    for x, y in parts[:-1]:
        (sample_mean(model, x, y) / (len(parts) - 1)).backward()


def filled_up(model: nn.Module, parts: list[Pair]) -> None:  # a sampler repeats samples to fill up the last batch
    parts = [*parts[:-1], (torch.cat([parts[-1][0], parts[0][0]])[:3], torch.cat([parts[-1][1], parts[0][1]])[:3])]
    for x, y in parts:
        (sample_mean(model, x, y) / len(parts)).backward()


# ------------------------------------------------------------------ terms


def penalty(model: nn.Module) -> Tensor:
    return 0.01 * sum((p.square().sum() for p in model.parameters()), torch.zeros(()))


def with_penalty(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return sample_mean(model, x, y) + penalty(model)


def penalty_each(model: nn.Module, parts: list[Pair]) -> None:  # NVIDIA-NeMo/Automodel#3359
    for x, y in parts:
        (sample_mean(model, x, y) / K + penalty(model)).backward()


def pairs_and_tokens(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    z, mask = model(x), (y != -100).double()
    return F.softplus(-(z[..., 0] * mask).sum(1)).mean() + (z.square().sum(-1) * mask).sum() / mask.sum()


def two_backwards_each(model: nn.Module, parts: list[Pair]) -> None:
    """Each micro-batch goes back through its terms one by one."""
    for x, y in parts:
        z, mask = model(x), (y != -100).to(x.dtype)
        (F.softplus(-(z[..., 0] * mask).sum(1)).mean() / K).backward(retain_graph=True)
        ((z.square().sum(-1) * mask).sum() / mask.sum() / K).backward()


def balanced(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A loss of an expert model: its second term multiplies two means over the batch."""
    share = model(x).softmax(-1).mean((0, 1))
    return sample_mean(model, x, y) + (share * share).sum()


# ------------------------------------------------------------------ losses that need all samples


def contrastive(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    unit = F.normalize(model(x).mean(1), dim=1)
    return F.cross_entropy(unit @ unit.T / 0.1, torch.arange(len(unit)))


def dice(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    p, t = model(x).sigmoid(), (y > 0).to(x.dtype)[..., None]
    return 1 - 2 * (p * t).sum() / (p.sum() + t.sum())


def rmse(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return model(x).square().mean().sqrt()


def two_passes(model: nn.Module, parts: list[Pair]) -> None:  # GradCache without its random context
    with torch.no_grad():
        bare = torch.cat([model(x).mean(1) for x, _ in parts])
    bare.requires_grad_()
    unit = F.normalize(bare, dim=1)
    F.cross_entropy(unit @ unit.T / 0.1, torch.arange(N)).backward()
    assert bare.grad is not None
    for (x, _), grad in zip(parts, bare.grad.split(N // K)):
        torch.autograd.backward(model(x).mean(1), grad)


# ------------------------------------------------------------------ weights and factors


def class_weighted(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    weight = torch.tensor([1.0, 5.0, 0.2, 3.0], dtype=x.dtype)
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), weight, ignore_index=-100)


def weights_of(parts: Callable[[Tensor], tuple[Tensor, ...]]) -> list[float]:
    weight = torch.tensor([1.0, 5.0, 0.2, 3.0], dtype=torch.float64)
    return [float(weight[part[part != -100]].sum()) for part in parts(data()[1])]


def nll_sum_scaled_by_dataset(model: nn.Module, parts: list[Pair]) -> None:
    for x, y in parts:
        (sample_mean(model, x, y) / K / N).backward()


def grad_scaler_left_in(model: nn.Module, parts: list[Pair]) -> None:
    each(lambda k: 2.0**16 / k)(model, parts)


class Tied(nn.Module):
    """An output layer with the weights of the input layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.outer, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 4)
        self.outer.weight = self.inner.weight
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.outer(self.inner(x).tanh()))


def scaled_by_name(model: nn.Module, parts: list[Pair]) -> None:  # gradients averaged in a loop over all names
    each(lambda _: 1.0)(model, parts)
    for _, p in model.named_parameters(remove_duplicate=False):
        p.grad /= K


def detached(model: nn.Module, parts: list[Pair]) -> None:  # features cached for the later micro-batches
    for x, _ in parts:
        (model[-1](model[:-1](x).detach()).square().mean() / K).backward()


def upcast_mean(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """As language models have it: the loss is computed in float32, whatever the model is in."""
    return F.cross_entropy(model(x).float().flatten(0, 1), y.flatten(), ignore_index=-100)


def trimmed_and_dropped(model: nn.Module, parts: list[Pair]) -> None:
    """Padded to the longest of each micro-batch, and without the last one: no row is in both runs."""
    total = sum(labels(y) for _, y in parts[:-1])
    for x, y in parts[:-1]:
        length = int((y != -100).sum(1).max())
        (token_sum(model, x[:, :length], y[:, :length]) / total).backward()


def trimmed(model: nn.Module, parts: list[Pair]) -> None:
    """Padded to the longest of each micro-batch: in some it is as long as in the whole batch."""
    for x, y in parts:
        length = int((y != -100).sum(1).max())
        (token_mean(model, x[:, :length], y[:, :length]) / K).backward()


def with_another_forward_pass(model: nn.Module, parts: list[Pair]) -> None:
    """Looks at its outputs once more, for a log."""
    for x, y in parts:
        (token_mean(model, x, y) / K).backward()
        float(model(x).detach().mean())


RAGGED = (3, 3, 2)


def ragged(t: Tensor) -> tuple[Tensor, ...]:
    return t.split(RAGGED)


TOKENS = Case(each(lambda k: 1 / k, token_mean), token_mean)
WRONG: dict[str, Case] = {
    "not divided": Case(each(lambda _: 1.0), cause="missing-division"),  # transformers#45305
    "divided in the loss and in the trainer": Case(each(lambda k: 1 / k**2), cause="divided-twice"),  # ms-swift#10117
    "mean of token means": Case(TOKENS.loop, token_mean, "mean-of-means"),  # transformers#34191, AReno#75
    "mean of token means in float32": Case(each(lambda k: 1 / k, upcast_mean), upcast_mean, "mean-of-means"),
    "not divided, in float32": Case(each(lambda _: 1.0, upcast_mean), upcast_mean, "missing-division"),
    "trimmed and dropped": Case(
        trimmed_and_dropped, token_mean, "other-samples", parts=lambda t: (t[1:4], t[4:6], t[[0, 6, 7]]), weights={},
    ),
    "mean of token means, trimmed": Case(trimmed, token_mean, "mean-of-means"),
    "mean of token means, logged": Case(with_another_forward_pass, token_mean, "mean-of-means"),
    "token means added": Case(each(lambda _: 1.0, token_mean), token_mean, "missing-division"),
    "short last micro-batch": Case(right, cause="mean-of-means", parts=ragged),  # lightning#19987
    "class weights": Case(
        each(lambda k: 1 / k, class_weighted), class_weighted, "mean-of-means",
        weights={"class weights": weights_of(lambda t: t.split(N // K))},
    ),  # pytorch#61309
    "weighted by samples where tokens count": Case(
        lambda model, parts: [(token_mean(model, x, y) * len(y) / N).backward() for x, y in parts], token_mean,
        "mean-of-means", parts=ragged,
    ),  # open-instruct#1161
    "zero_grad inside": Case(zero_grad_inside, cause="cleared-between"),
    "zero_grad when i % K == 0": Case(zero_grad_when_i_mod_k, cause="cleared-between"),
    "gradients overwritten": Case(overwritten, cause="cleared-between"),
    "clipped in each": Case(clip_each, cause="scaled-between"),
    "clipped by value in each": Case(clip_value_each, cause="changed-between"),
    "unscaled in each": Case(unscale_each, cause="scaled-between"),
    "averaged in each": Case(averaged_each, cause="scaled-between"),
    "added again": Case(averaged_by_doubling, cause="counted-again"),
    "running total": Case(running_total, cause="running-total"),
    "backward after the loop": Case(backward_after_the_loop, cause="dropped-micro-batches"),
    "backward when stepping": Case(backward_when_stepping, cause="dropped-micro-batches"),
    "step in each": Case(step_each, cause="stepped-between"),
    "short batch dropped": Case(short_batch_dropped, cause="other-samples", parts=ragged, weights={}),
    "filled up": Case(filled_up, cause="other-samples", parts=ragged, weights={}),
    "penalty in each": Case(penalty_each, with_penalty, "term-added-again"),
    "two denominators": Case(each(lambda k: 1 / k, pairs_and_tokens), pairs_and_tokens, "two-denominators"),  # trl DPO
    "two denominators, two passes": Case(two_backwards_each, pairs_and_tokens, "two-denominators"),
    "contrastive": Case(each(lambda k: 1 / k, contrastive), contrastive, "coupled"),  # sentence-transformers#2916
    "dice": Case(each(lambda k: 1 / k, dice), dice, "coupled"),  # segmentation_models.pytorch#330
    "balance loss": Case(each(lambda k: 1 / k, balanced), balanced, "coupled"),  # Megatron-LM#7213
    "root of a mean": Case(each(lambda k: 1 / k, rmse), rmse, "mean-of-means"),
    "batch norm": Case(right, cause="batch-norm", model=lambda: net(Channels(LENGTH))),
    "two passes with other dropout": Case(
        two_passes, contrastive, "fresh-masks", lambda: net(nn.Dropout(0.5)),
    ),
    "divided by the data set": Case(nll_sum_scaled_by_dataset, cause="constant-factor"),
    "scale of a GradScaler": Case(grad_scaler_left_in, cause="constant-factor"),
    "shared parameter scaled twice": Case(scaled_by_name, cause="shared-parameter", model=Tied),
    "detached": Case(detached, cause="missing-gradient"),
}  # fmt: skip


class Channels(nn.BatchNorm1d):
    """BatchNorm over samples and positions of (batch, position, feature)."""

    def __init__(self, length: int) -> None:
        super().__init__(length)


class Shifted(nn.Module):
    """Adds what a normalisation takes out again: the gradient is rounding, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x + self.shift, x.shape[-1:])


def sums_over_total(model: nn.Module, parts: list[Pair]) -> None:
    total = sum(labels(y) for _, y in parts)
    for x, y in parts:
        (token_sum(model, x, y) / total).backward()


def scaled_at_the_end(model: nn.Module, parts: list[Pair]) -> None:
    """fairseq's way; 1 / an integer tensor is float32, whatever the model is."""
    n = torch.zeros((), dtype=torch.long)
    for x, y in parts:
        token_sum(model, x, y).backward()
        n += labels(y)
    for p in model.parameters():
        p.grad.mul_(1 / n)


def weighted_by_share(model: nn.Module, parts: list[Pair]) -> None:
    for x, y in parts:
        (sample_mean(model, x, y) * len(x) / N).backward()


def one_backward(model: nn.Module, parts: list[Pair]) -> None:
    torch.stack([sample_mean(model, x, y) for x, y in parts]).mean().backward()


def clipped_at_the_end(model: nn.Module, parts: list[Pair]) -> None:
    right(model, parts)
    nn.utils.clip_grad_norm_(model.parameters(), 1e6)


def step_at_the_end(model: nn.Module, parts: list[Pair]) -> None:
    right(model, parts)
    torch.optim.SGD(model.parameters(), 0.1).step()


def penalty_divided(model: nn.Module, parts: list[Pair]) -> None:
    for x, y in parts:
        ((sample_mean(model, x, y) + penalty(model)) / len(parts)).backward()


def each_term_by_its_own(model: nn.Module, parts: list[Pair]) -> None:
    total = sum(labels(y) for _, y in parts)
    for x, y in parts:
        z, mask = model(x), (y != -100).to(x.dtype)
        pairs = F.softplus(-(z[..., 0] * mask).sum(1)).sum() / N
        (pairs + (z.square().sum(-1) * mask).sum() / total).backward()


def two_backwards(model: nn.Module, parts: list[Pair]) -> None:
    """A penalty that is gone back through by itself, once."""
    right(model, parts)
    penalty(model).backward()


def scaler_taken_out(model: nn.Module, parts: list[Pair]) -> None:
    each(lambda k: 1024.0 / k)(model, parts)
    for p in model.parameters():
        p.grad /= 1024


def by_accumulate(model: nn.Module, parts: list[Pair]) -> None:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(z.flatten(0, 1), y.flatten(), ignore_index=-100)

    bp.accumulate(loss, lambda part: (model(part[0]), part[1]), parts)


RIGHT: dict[str, Case] = {
    "divided": Case(right),
    "one sample each": Case(right, parts=lambda t: t.split(1)),
    "sums over the total": Case(sums_over_total, token_mean),
    "scaled at the end": Case(scaled_at_the_end, token_mean),
    "weighted by share": Case(weighted_by_share, parts=ragged),
    "one backward pass": Case(one_backward, weights={}),
    "clipped at the end": Case(clipped_at_the_end),
    "step at the end": Case(step_at_the_end),
    "penalty divided": Case(penalty_divided, with_penalty),
    "each term by its own": Case(each_term_by_its_own, pairs_and_tokens),
    "two backward passes": Case(two_backwards, with_penalty, weights={}),
    "two passes": Case(two_passes, contrastive),
    "scaler taken out": Case(scaler_taken_out),
    "accumulate": Case(by_accumulate, token_mean, weights={}),
    "a bias that a softmax takes out": Case(sums_over_total, token_mean, model=lambda: net(Shifted())),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_cause_of_a_public_loop(name: str) -> None:
    found = WRONG[name].check()
    assert (found.ok, found.cause) == (False, WRONG[name].cause), str(found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_loop_is_not_called_wrong(name: str, dtype: torch.dtype) -> None:
    found = RIGHT[name].check(dtype)
    assert found.ok, str(found)


def test_what_narrow_gradients_swallow_is_rounding() -> None:
    """In bfloat16 a sum of many passes does not grow by what is less than half a unit of it."""
    model, x = net().bfloat16(), torch.rand(256, 5, generator=torch.Generator().manual_seed(0)).bfloat16()

    def full() -> None:
        model(x).square().mean().backward()

    def accumulated() -> None:
        for part in x.split(1):
            (model(part).square().mean() / len(x)).backward()

    found = check_gradients(full, accumulated, model)
    assert found.cause == "rounding", str(found)
    assert found.windows[0].difference > 0.02


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_factor_of_two_on_one_small_layer_shows(dtype: torch.dtype) -> None:
    """Its gradient is less than two thousandths of the whole's."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return (model(x) + 300 * x[..., :4] * model[-1].bias).square().mean()

    def doubled(model: nn.Module, parts: list[Pair]) -> None:
        each(lambda k: 1 / k, loss)(model, parts)
        model[0].weight.grad *= 2

    found = Case(doubled, loss).check(dtype)
    assert found.parameters[0].full < 2e-3 * found.windows[0].full
    assert (found.cause, found.parameters[0].name) == ("one-parameter", "0.weight"), str(found)
    assert Case(each(lambda k: 1 / k, loss), loss).check(dtype).ok
