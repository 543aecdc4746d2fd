"""Micro-batches that are padded to different lengths, from the first call on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import batchproof
from batchproof.gradients.accumulation import cache

Part = tuple[Tensor, Tensor]
PAD = -100


class Tagger(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.GRU(4, 8, batch_first=True, dtype=torch.float64)
        self.head = torch.nn.Linear(8, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(x)[0])
        return scores


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    cache._known.clear()


@pytest.fixture
def model() -> Tagger:
    return Tagger()


def texts(count: int) -> list[Part]:
    lengths = torch.randint(2, 15, (count,)).tolist()
    return [(torch.randn(n, 4, dtype=torch.float64), torch.randint(3, (n,))) for n in lengths]


def padded(part: list[Part], to: int = 0) -> Part:
    longest = max(to, *(len(labels) for _, labels in part))
    inputs = [F.pad(x, (0, 0, 0, longest - len(x))) for x, _ in part]
    return torch.stack(inputs), torch.stack([F.pad(y, (0, longest - len(y)), value=PAD) for _, y in part])


def in_parts(every: list[Part], size: int) -> list[Part]:
    return [padded(every[start : start + size]) for start in range(0, len(every), size)]


def token_mean(scores: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=PAD)


def next_token(scores: Tensor, labels: Tensor) -> Tensor:
    return token_mean(scores[:, :-1], labels[:, 1:])


def perplexity(scores: Tensor, labels: Tensor) -> Tensor:
    return token_mean(scores, labels).exp()


def token_share(scores: Tensor, labels: Tensor) -> Tensor:
    """Two sums whose weights are known at the end."""
    there = labels != PAD
    share = scores.softmax(2).gather(2, labels.clamp(0)[..., None])[..., 0]
    return 1 - (share * there).sum() / (share.square() * there).sum().sqrt()


def gradient(model: Tagger) -> Tensor:
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


def listed(loss_fn: Callable[..., Tensor], model: Tagger, parts: list[Part]) -> Tensor:
    return batchproof.accumulate(loss_fn, lambda part: (model(part[0]), part[1]), parts)


def streamed(loss_fn: Callable[..., Tensor], model: Tagger, parts: list[Part]) -> Tensor:
    return batchproof.accumulate(loss_fn, lambda part: (model(part[0]), part[1]), iter(parts))


def stepped(loss_fn: Callable[..., Tensor], model: Tagger, parts: list[Part]) -> Tensor:
    accumulator = batchproof.Accumulator(loss_fn)
    for x, labels in parts:
        accumulator.backward(model(x), labels)
    return accumulator.finish()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("way", [listed, streamed, stepped])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("loss_fn", [token_mean, next_token, perplexity, token_share])
def test_gradient_is_that_of_one_padded_batch(loss_fn, size, way, model):
    for count in (30, 7):  # the first call learns the loss; the second brings few texts
        every = texts(count)
        x, labels = padded(every)
        expected = loss_fn(model(x), labels)
        expected.backward()
        whole = gradient(model)
        loss = way(loss_fn, model, in_parts(every, size))
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
        assert float((gradient(model) - whole).norm()) <= 1e-10 * float(whole.norm())


def test_few_texts_all_of_other_lengths(model):
    every = [(torch.randn(n, 4, dtype=torch.float64), torch.randint(3, (n,))) for n in (9, 4, 6)]
    x, labels = padded(every)
    token_mean(model(x), labels).backward()
    whole = gradient(model)
    for way in (listed, stepped):
        cache._known.clear()
        way(token_mean, model, in_parts(every, 1))
        assert float((gradient(model) - whole).norm()) <= 1e-10 * float(whole.norm())


def mean_over_all_places(scores: Tensor, labels: Tensor) -> Tensor:
    """Padding counts, so the value depends on how long the others are."""
    return F.cross_entropy(scores.transpose(1, 2), labels.clamp(0), reduction="sum") / labels.numel()


def median(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.sum(2).median()


@pytest.mark.parametrize("way", [listed, stepped])
@pytest.mark.parametrize("loss_fn", [mean_over_all_places, median])
def test_no_gradient_where_there_is_no_one_loss(loss_fn, way, model):
    with pytest.raises(batchproof.BatchproofError):
        way(loss_fn, model, in_parts(texts(30), 3))
    assert all(p.grad is None for p in model.parameters())
