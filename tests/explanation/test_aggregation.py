"""explain names the aggregation of a loss over tokens, and what is told of positions: lengths, padding, packed rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from batchproof import explain
from batchproof.explanation.positions import Positions, find_positions
from batchproof.explanation.samples import Samples, gather

LENGTHS = torch.tensor([3, 6, 5, 2, 4, 6, 1, 3, 5, 6, 4, 2])
N, T, GROUP = len(LENGTHS), 7, 3
MASK = (torch.arange(T) < LENGTHS[:, None]).float()
LOSSES = torch.randn(N, T, generator=torch.Generator().manual_seed(0))


def token_mean(losses: Tensor, mask: Tensor) -> Tensor:
    return (losses * mask).sum() / mask.sum()


def sequence_means(losses: Tensor, mask: Tensor) -> Tensor:
    return ((losses * mask).sum(1) / mask.sum(1)).mean()


def over_a_constant(losses: Tensor, mask: Tensor) -> Tensor:
    return (losses * mask).sum() / (len(losses) * 64)


def over_the_padded_length(losses: Tensor, mask: Tensor) -> Tensor:
    return ((losses * mask).sum(1) / mask.shape[1]).mean()


def token_sum(losses: Tensor, mask: Tensor) -> Tensor:
    return (losses * mask).sum()


def sum_of_sequence_means(losses: Tensor, mask: Tensor) -> Tensor:
    return ((losses * mask).sum(1) / mask.sum(1)).sum()


def prompt_means(losses: Tensor, mask: Tensor) -> Tensor:
    sums, tokens = ((losses * mask).sum(1).view(-1, GROUP).sum(1), mask.sum(1).view(-1, GROUP).sum(1))
    return (sums / tokens).mean()


def whitened(losses: Tensor, mask: Tensor) -> Tensor:
    centred = losses - token_mean(losses, mask)
    return (centred.pow(4) * mask).sum() / mask.sum()


NAMES: list[tuple[Callable[..., Tensor], str | None]] = [
    (token_mean, "token-mean"),
    (sequence_means, "sequence-mean-token-mean"),
    (over_a_constant, "sequence-mean-token-sum"),
    (over_the_padded_length, "padded-mean"),
    (token_sum, "token-sum"),
    (sum_of_sequence_means, "sequence-sum-token-mean"),
    (prompt_means, "prompt-mean-token-mean"),
    (whitened, None),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("fn", "name"), NAMES, ids=[case[0].__name__ for case in NAMES])
def test_the_name_of_an_aggregation(fn: Callable[..., Tensor], name: str | None, dtype: torch.dtype) -> None:
    def narrow(losses: Tensor, mask: Tensor) -> Tensor:
        return fn(losses.to(dtype), mask.to(dtype))

    found = explain(narrow, LOSSES, MASK)
    assert (found.aggregation and found.aggregation.name) == name
    told = [note for note in found.notes if "it survives" in note]
    assert bool(told) == (name is not None)


def test_sequences_of_one_length_are_told_apart_by_a_token_that_is_left_out() -> None:
    mask = (torch.arange(T) < 5).float().expand(N, T).clone()
    for fn, name in NAMES[:3]:
        found = explain(fn, LOSSES, mask)
        assert found.aggregation is not None
        assert found.aggregation.name == name


def test_logits_of_the_next_token() -> None:
    logits = torch.randn(N, T, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(5, (N, T), generator=torch.Generator().manual_seed(2)).masked_fill(MASK == 0, -100)

    def shifted(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    found = explain(shifted, logits, labels)
    assert found.aggregation is not None
    assert found.aggregation.name == "token-mean"


def test_what_has_no_tokens_has_no_name() -> None:
    assert (
        explain(lambda pred, real: (pred - real).square().mean(), torch.randn(20), torch.randn(20)).aggregation is None
    )


# ------------------------------------------------------------------ positions


def padded() -> tuple[Samples, Positions]:
    samples = gather(token_mean, (LOSSES, MASK), {}, 0)
    positions = find_positions(samples)
    assert positions is not None
    return samples, positions


def test_a_mask_says_which_positions_count() -> None:
    samples, positions = padded()
    assert (positions.at, dict(positions.ignored)) == ((0, 1), {1: 0})
    assert torch.equal(positions.counting(samples), MASK.bool())
    assert torch.equal(positions.kept(samples), LENGTHS)


def test_more_and_less_padding_leave_what_counts() -> None:
    samples, positions = padded()
    longer, shorter = positions.lengthened(samples, 4, seed=0), positions.trimmed(samples)
    assert longer.leaves[0].shape == (N, T + 4)
    assert bool(longer.leaves[0][:, T:].any()), "numbers that must not matter, and not zeros"
    assert not bool(longer.leaves[1][:, T:].any())
    assert shorter.leaves[0].shape == (N, 6)
    for some in (longer, shorter):
        torch.testing.assert_close(token_mean(*some.leaves), token_mean(LOSSES, MASK))


@pytest.mark.parametrize("rows", [1, 3])
def test_packed_rows_hold_what_counts_end_to_end(rows: int) -> None:
    samples, positions = padded()
    packed = positions.packed(samples, rows)
    assert packed.n == rows
    parts = torch.arange(N).tensor_split(rows)
    for row, part in enumerate(parts):
        held = torch.cat([LOSSES[i, : LENGTHS[i]] for i in part.tolist()])
        assert torch.equal(packed.leaves[0][row, : len(held)], held)
        assert int(packed.leaves[1][row].sum()) == len(held)


def test_padding_on_the_left_is_kept() -> None:
    mask = MASK.flip(1)
    samples = gather(token_mean, (LOSSES, mask), {}, 0)
    positions = find_positions(samples)
    assert positions is not None
    assert positions.kept(samples).tolist() == [T] * N
    torch.testing.assert_close(token_mean(*positions.packed(samples, 2).leaves), token_mean(LOSSES, mask))
