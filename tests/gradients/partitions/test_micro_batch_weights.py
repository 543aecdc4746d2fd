"""micro_batch_weights: the factors with which losses of micro-batches, and their gradients, add up to the whole's."""

from __future__ import annotations

import pytest
import torch
from public_losses import LABELS, LENGTHS, LOGITS, LOGPS, LOSSES, MASK, PublicLoss, V, causal_lm, kto
from torch import Tensor

from batchproof import BatchproofError, micro_batch_weights

SIZES = [2, 1, 5, 4]


def token_mean(losses: Tensor, mask: Tensor) -> Tensor:
    return (losses * mask).sum() / mask.sum()


def test_tokens() -> None:
    parts = list(zip(LOGPS.split(SIZES), MASK.split(SIZES), strict=True))
    tokens = torch.stack([mask.sum() for _, mask in parts])
    assert micro_batch_weights(token_mean, parts) == pytest.approx((tokens / tokens.sum()).tolist())


def test_micro_batches_of_other_lengths() -> None:
    """Each padded to its own longest sample, as collators do it; and the gradient of a model, with these factors."""
    parts, start = [], 0
    for size in SIZES:
        longest = int(LENGTHS[start : start + size].max())
        parts.append((LOGITS[start : start + size, :longest], LABELS[start : start + size, :longest]))
        start += size
    factors = micro_batch_weights(causal_lm, parts)
    layer = torch.nn.Linear(V, V)
    whole = torch.autograd.grad(causal_lm(layer(LOGITS), LABELS), list(layer.parameters()))
    total = sum(factor * causal_lm(layer(x), y) for factor, (x, y) in zip(factors, parts, strict=True))
    torch.testing.assert_close(torch.autograd.grad(total, list(layer.parameters())), whole)


def test_a_loss_that_divides_by_its_own_padded_length() -> None:
    def padded_mean(losses: Tensor, mask: Tensor) -> Tensor:
        return (losses * mask).mean()

    parts = [(LOGPS[:1, :3], MASK[:1, :3]), (LOGPS[1:], MASK[1:])]
    width, n = MASK.shape[1], len(MASK)
    assert micro_batch_weights(padded_mean, parts) == pytest.approx([3 / (width * n), (n - 1) / n])


def test_a_first_micro_batch_of_one_position() -> None:
    mask = MASK.clone()
    mask[0, 1:] = 0
    parts = [(LOGPS[:1, :1], mask[:1, :1]), (LOGPS[1:], mask[1:])]
    tokens = float(mask.sum())
    assert micro_batch_weights(token_mean, parts) == pytest.approx([1 / tokens, 1 - 1 / tokens])


def test_ranks() -> None:
    ranks = [[(LOGPS[:2], MASK[:2]), (LOGPS[2:3], MASK[2:3])], [(LOGPS[3:], MASK[3:])]]
    tokens = [[mask.sum().item() for _, mask in rank] for rank in ranks]
    total = MASK.sum().item()
    found = micro_batch_weights(token_mean, ranks)
    assert found == [pytest.approx([count / total for count in rank]) for rank in tokens]


def test_a_loss_with_global_numbers_has_factors_of_one() -> None:
    def right(losses: Tensor, mask: Tensor, tokens: float) -> Tensor:
        return (losses * mask).sum() / tokens

    parts = list(zip(LOGPS.split(SIZES), MASK.split(SIZES), strict=True))
    assert micro_batch_weights(right, parts, normalisers={"tokens": "tokens"}) == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if "couples" in loss.causes], ids=lambda loss: loss.name)
def test_no_factors_where_samples_meet(loss: PublicLoss) -> None:
    parts = [{name: value[lo : lo + 6] for name, value in loss.batch.items()} for lo in (0, 6)]
    with pytest.raises(BatchproofError, match="no factors give the loss on all samples"):
        micro_batch_weights(loss.fn, parts)


def test_nothing_to_weigh() -> None:
    with pytest.raises(BatchproofError, match="there is no micro-batch"):
        micro_batch_weights(kto, [])
