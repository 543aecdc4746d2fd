"""check_partitions: batches in every form, narrow types, pieces without a value, and what cannot be tried."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from public_losses import ADVANTAGES, GROUPS, LABELS, LENGTHS, LOGITS, LOGPS, MASK, N, T, agg_loss, causal_lm
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from batchproof import BatchproofError, check_partitions
from batchproof.testing import assert_partition_invariant

GLOBAL = {"tokens": "tokens", "ranks": "ranks"}


def of_all(losses: Tensor, mask: Tensor, tokens: float, ranks: int) -> Tensor:
    return (losses.square() * mask).sum() / tokens * ranks


def of_its_own(losses: Tensor, mask: Tensor) -> Tensor:
    return (losses.square() * mask).sum() / mask.sum()


# ------------------------------------------------------------------ the batch


def test_a_batch_by_name_in_order_and_as_one_argument() -> None:
    def of_one(batch: dict[str, Tensor], tokens: float, ranks: int) -> Tensor:
        return of_all(batch["losses"], batch["mask"], tokens, ranks)

    named = {"losses": LOGPS, "mask": MASK}
    for fn, batch in ((of_all, (LOGPS, MASK)), (of_all, named), (of_one, named)):
        found = check_partitions(fn, batch, normalisers=GLOBAL)
        assert found.ok, found
        assert not found.not_tried
        counted = {"tokens": count, "ranks": "ranks"}
        assert check_partitions(fn, batch, normalisers=counted).ok


def count(batch: Any) -> Tensor:
    return (batch["mask"] if isinstance(batch, dict) else batch[1]).sum()


def test_an_output_of_a_model_as_the_loss_takes_it() -> None:
    def loss(outputs: dict[str, Tensor], labels: Tensor, num_items_in_batch: int, ranks: int) -> dict[str, Tensor]:
        found = causal_lm(outputs["logits"], labels, num_items_in_batch, ranks)
        return {"count": (labels >= 0).sum(), "loss": found}

    given = {"num_items_in_batch": "tokens", "ranks": "ranks"}
    found = check_partitions(loss, ({"logits": LOGITS}, LABELS), normalisers=given)
    assert found.ok, found
    assert [reading.cut for reading in found.readings][-2:] == ["padding", "packing"]


def test_samples_along_another_dimension() -> None:
    def mean(x: Tensor) -> Tensor:
        return x.square().mean()

    found = check_partitions(mean, torch.randn(3, 8), batch_dim=1, cuts=["order", "micro-batch", "rank"])
    assert found.ok
    assert found.samples == 8
    assert found.aggregation is not None
    assert found.aggregation.name == "sample-mean"


def test_what_the_caller_holds_is_left_as_it_was() -> None:
    losses = LOGPS.clone().requires_grad_()
    state = torch.random.get_rng_state()
    check_partitions(of_all, (losses, MASK), normalisers=GLOBAL)
    assert losses.grad is None
    assert torch.equal(state, torch.random.get_rng_state())


def test_what_is_drawn_does_not_change_from_call_to_call() -> None:
    one, other = (check_partitions(of_its_own, (LOGPS, MASK)) for _ in range(2))
    assert one == other


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_that_computes_in_a_narrow_type(dtype: torch.dtype) -> None:
    def right(losses: Tensor, mask: Tensor, tokens: float, ranks: int) -> Tensor:
        return of_all(losses.to(dtype), mask.to(dtype), tokens, ranks)

    def wrong(losses: Tensor, mask: Tensor) -> Tensor:
        return of_its_own(losses.to(dtype), mask.to(dtype))

    assert check_partitions(right, (LOGPS, MASK), normalisers=GLOBAL).ok
    found = check_partitions(wrong, (LOGPS, MASK))
    assert found.cause == "own-tokens", found
    assert found.broken == ("micro-batch", "uneven", "rank")


def test_a_number_of_python_has_a_value_and_no_gradient() -> None:
    def right(losses: Tensor, mask: Tensor, tokens: float, ranks: int) -> float:
        return of_all(losses, mask, tokens, ranks).item()

    def nearly(losses: Tensor, mask: Tensor, tokens: float, ranks: int) -> float:
        return right(losses, mask, tokens, ranks) * (1 + 3e-6 * (len(losses) < N))

    assert check_partitions(right, (LOGPS, MASK), normalisers=GLOBAL).ok
    found = check_partitions(nearly, (LOGPS, MASK), normalisers=GLOBAL)
    assert found.broken == ("micro-batch", "uneven", "rank", "packing")
    assert found.cause == "unexplained"


def test_a_module_with_weights_in_single_precision() -> None:
    loss = torch.nn.CrossEntropyLoss(weight=torch.rand(11))
    labels = torch.randint(11, (N,), generator=torch.Generator().manual_seed(0))
    found = check_partitions(loss, (LOGITS[:, 0], labels))
    assert found.broken == ("micro-batch", "uneven", "rank")
    assert found.cause == "weights"
    assert "times its size" not in found.summary


def test_a_loss_of_zero_that_has_a_gradient() -> None:
    """On-policy: the ratios are 1, advantages add to 0, and so does the loss."""
    advantages = ADVANTAGES - (ADVANTAGES * LENGTHS).sum() / LENGTHS.sum()

    def loss(logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
        return agg_loss(-(logps - logps.detach()).exp() * advantages[:, None], mask, "token-mean")

    found = check_partitions(loss, (LOGPS, advantages, MASK))
    assert abs(found.value) < 1e-6
    assert found.cause == "own-tokens"


def test_a_term_that_no_sample_enters() -> None:
    weight = torch.nn.Parameter(torch.ones(3))

    def penalised(losses: Tensor, mask: Tensor, tokens: float, ranks: int) -> Tensor:
        return of_all(losses, mask, tokens, ranks) + 0.1 * weight.detach().square().sum()

    found = check_partitions(penalised, (LOGPS, MASK), normalisers=GLOBAL)
    assert found.cause == "constant-term", found
    assert found.broken == ("micro-batch", "uneven", "rank")[: len(found.broken)]


def test_a_piece_without_a_token() -> None:
    mask = MASK.clone()
    mask[3] = 0
    found = check_partitions(of_its_own, (LOGPS, mask), cuts=["micro-batch"])
    assert not found.ok
    found = check_partitions(
        lambda x, mask: torch.nan_to_num(of_its_own(x, mask)), (LOGPS, mask), cuts=["uneven", "micro-batch"]
    )
    assert not found.ok

    def per_sequence(losses: Tensor, mask: Tensor, samples: int) -> Tensor:
        return ((losses * mask).sum(1) / mask.sum(1).clamp(min=1)).sum() / samples

    whole = {"samples": "samples"}
    cuts = ["order", "micro-batch", "uneven", "padding"]
    assert check_partitions(per_sequence, (LOGPS, mask), normalisers=whole, cuts=cuts).ok


def test_a_small_sample_is_not_overlooked() -> None:
    """One of 12 samples counts double where it is alone: a ten-thousandth of the gradient's norm."""
    scale = torch.ones(N, 1)
    scale[0] = 1e-4

    def loss(losses: Tensor, scale: Tensor, samples: int) -> Tensor:
        doubled = 2.0 if len(losses) == 1 else 1.0
        return (losses * scale).sum() * doubled / samples

    found = check_partitions(loss, (LOGPS[:, :1], scale), normalisers={"samples": "samples"}, cuts=["uneven"])
    assert not found.ok


# ------------------------------------------------------------------ positions


def test_what_looks_like_a_mask_and_is_none() -> None:
    """Targets of several labels are ones and zeros, too."""
    targets = (torch.rand(N, T, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    found = check_partitions(binary_cross_entropy_with_logits, (LOGPS, targets))
    assert found.broken == ("uneven",)
    assert set(found.not_tried) == {"padding", "packing"}


def test_labels_of_which_none_is_ignored() -> None:
    def loss(logits: Tensor, labels: Tensor, tokens: int, ranks: int) -> Tensor:
        return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / tokens * ranks

    labels = LABELS.clamp(min=0)
    given = {"num_items_in_batch": "tokens", "ranks": "ranks"}
    for found in (
        check_partitions(loss, (LOGITS, labels), normalisers=GLOBAL),
        check_partitions(causal_lm, (LOGITS, labels), normalisers=given),
    ):
        assert found.ok, found
        assert found.readings[-1].cut == "packing"


def test_whole_targets_that_are_no_labels() -> None:
    """A regression of several numbers has no padding, whatever its targets are called."""
    target = torch.randint(9, (N, T), generator=torch.Generator().manual_seed(4))
    found = check_partitions(lambda pred, target: (pred - target).square().mean(), (LOGPS, target))
    assert found.broken == ("uneven",)
    assert set(found.not_tried) == {"padding", "packing"}


def test_a_mask_without_its_name() -> None:
    found = check_partitions(lambda x, there: of_its_own(x, there), (LOGPS, MASK))
    assert not found.not_tried
    assert found.aggregation is not None


def test_padding_that_is_named() -> None:
    def loss(logits: Tensor, targets: Tensor, tokens: int, ranks: int) -> Tensor:
        return cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0, reduction="sum") / tokens * ranks

    targets = LABELS.clamp(min=1).masked_fill(MASK == 0, 0)
    assert "padding" in check_partitions(loss, (LOGITS, targets), normalisers={**GLOBAL, "tokens": 60}).not_tried
    found = check_partitions(loss, (LOGITS, targets), normalisers=GLOBAL, padding={"targets": 0})
    assert found.ok, found
    assert not found.not_tried
    with pytest.raises(BatchproofError, match="padding names 'target', but the arguments are logits, targets"):
        check_partitions(loss, (LOGITS, targets), normalisers=GLOBAL, padding={"target": 0})


def test_micro_batches_that_are_padded_less() -> None:
    """In steps of four positions: three more make no difference to the batch, and fewer do to a part of it."""

    def loss(losses: Tensor, mask: Tensor, samples: int, ranks: int) -> Tensor:
        return (losses * mask).sum() / -(-mask.shape[1] // 4) / samples * ranks

    given = {"samples": "samples", "ranks": "ranks"}
    short = torch.arange(N) < N - 1
    mask = MASK * torch.where(short[:, None], torch.arange(T) < 7, torch.ones(T, dtype=torch.bool))
    found = check_partitions(loss, (LOGPS, mask), normalisers=given, cuts=["micro-batch", "padding"])
    assert found.broken == ("padding",), found


def test_a_mask_that_is_forgotten() -> None:
    found = check_partitions(lambda x, mask: x.square().sum() / mask.sum(), (LOGPS, MASK), cuts=["padding"])
    assert found.cause == "enters"


# ------------------------------------------------------------------ groups


def test_the_order_of_samples() -> None:
    def decayed(losses: Tensor) -> Tensor:
        return (losses.mean(1) * torch.linspace(1, 2, len(losses))).mean()

    assert check_partitions(decayed, LOGPS, cuts=["order"]).cause == "order"

    def first_against_second(losses: Tensor) -> Tensor:
        first, second = losses.chunk(2)
        return (first - 2 * second).square().mean()

    assert check_partitions(first_against_second, LOGPS, cuts=["order", "micro-batch"]).ok


def test_ranks_and_micro_batches_together() -> None:
    def loss(losses: Tensor, samples: int, ranks: int, steps: int) -> Tensor:
        return losses.sum() / samples * (ranks if steps == 1 else 1)

    given = {"samples": "samples", "ranks": "ranks", "steps": "micro_batches"}
    found = check_partitions(loss, LOGPS, normalisers=given, cuts=["micro-batch", "rank"])
    assert found.broken == ("rank",)
    assert found.readings[-1].how == "2 ranks × 2 micro-batches of 3 samples"


def test_two_causes_at_once() -> None:
    found = check_partitions(of_its_own, (LOGPS, MASK), combine="sum", cuts=["uneven"])
    assert [finding.code for finding in found.findings] == ["own-tokens", "missing-division"]


def test_groups_that_the_caller_names() -> None:
    """The loss takes any rows, and gives another value where a prompt's answers are torn apart."""

    def loss(logps: Tensor, rewards: Tensor, prompt: Tensor, samples: int) -> Tensor:
        same = (prompt[:, None] == prompt).to(logps.dtype)
        advantages = rewards - same @ rewards / same.sum(1)
        return -(logps.sum(1) * advantages).sum() / samples

    mixed = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    batch = (LOGPS[mixed], ADVANTAGES[mixed], GROUPS[mixed])
    given = {"samples": "samples"}
    cuts = ["order", "micro-batch", "uneven"]
    assert check_partitions(loss, batch, normalisers=given, cuts=cuts).cause == "couples"
    for groups in (batch[2], batch[2].tolist(), batch[2].numpy()):
        found = check_partitions(loss, batch, normalisers=given, cuts=cuts, groups=groups)
        assert found.ok, found
        assert found.notes[0].endswith("micro-batches that split one give another loss, or none")
    free = check_partitions(of_all, (LOGPS, MASK), normalisers=GLOBAL, groups=GROUPS)
    assert free.notes[0].endswith("micro-batches that split some give the same")
    with pytest.raises(BatchproofError, match="groups names the group of each sample: expected 12"):
        check_partitions(loss, batch, normalisers=given, groups=[0, 1])


def test_groups_of_several_sizes() -> None:
    """A mean over prompts, divided by the prompts of the whole batch; some have one answer."""

    def loss(losses: Tensor, mask: Tensor, prompt: Tensor, prompts: int, ranks: int) -> Tensor:
        _, place = prompt.unique(return_inverse=True)
        empty = losses.new_zeros(int(place.max()) + 1)
        sums = empty.index_add(0, place, (losses * mask).sum(1))
        return (sums / empty.index_add(0, place, mask.sum(1).to(losses.dtype))).sum() / prompts * ranks

    prompt = torch.tensor([4, 0, 0, 1, 4, 2, 2, 2, 3, 1, 4, 5])
    given = {"prompts": "groups", "ranks": "ranks"}
    found = check_partitions(loss, (LOGPS, MASK, prompt), normalisers=given, groups=prompt)
    assert found.ok, found
    assert found.aggregation is not None
    assert found.aggregation.name == "prompt-mean-token-mean"


# ------------------------------------------------------------------ what is refused


def test_what_cannot_be_asked() -> None:
    with pytest.raises(BatchproofError, match="'batch' is no kind of cut"):
        check_partitions(of_its_own, (LOGPS, MASK), cuts=["batch"])  # type: ignore[list-item]
    with pytest.raises(BatchproofError, match=r"normalisers\['tokens'\]='token'"):
        check_partitions(of_all, (LOGPS, MASK), normalisers={"tokens": "token", "ranks": "ranks"})
    with pytest.raises(BatchproofError, match="combine is 'mean' or 'sum'"):
        check_partitions(of_its_own, (LOGPS, MASK), combine="add")  # type: ignore[arg-type]
    with pytest.raises(BatchproofError, match="nothing says which positions are tokens"):
        check_partitions(lambda x, tokens: x.sum() / tokens, LOGPS, normalisers={"tokens": "tokens"})
    with pytest.raises(BatchproofError, match="the loss on the whole batch"):
        check_partitions(lambda x: (x - 1e9).log().mean(), LOGPS)
    with pytest.raises(BatchproofError, match="must return one number"):
        check_partitions(lambda x: x, LOGPS)


def test_a_loss_that_differs_from_call_to_call() -> None:
    calls = [0]

    def counting(x: Tensor) -> Tensor:
        calls[0] += 1
        return x.mean() * calls[0]

    with pytest.raises(BatchproofError, match="keeps something from call to call"):
        check_partitions(counting, LOGPS)
    with pytest.raises(BatchproofError, match="draws random numbers"):
        check_partitions(lambda x: torch.nn.functional.dropout(x).mean(), LOGPS)


def test_a_single_sample_is_not_called_right() -> None:
    found = check_partitions(of_its_own, (LOGPS[:1], MASK[:1]), cuts=["micro-batch", "rank"])
    assert not found.readings
    assert set(found.not_tried) == {"micro-batch", "rank"}
    with pytest.raises(AssertionError, match="no cut could be tried"):
        assert_partition_invariant(of_its_own, (LOGPS[:1], MASK[:1]), cuts=["micro-batch", "rank"])


def test_the_assertion_says_which_cut_and_why() -> None:
    assert_partition_invariant(of_all, (LOGPS, MASK), normalisers=GLOBAL)
    with pytest.raises(AssertionError) as caught:
        assert_partition_invariant(of_its_own, (LOGPS, MASK))
    message = " ".join(str(caught.value).split())
    assert "depends on micro-batches, micro-batches of unequal sizes and ranks" in message
    assert "each piece divides by its own tokens" in message
    assert "divide by the tokens of all micro-batches and ranks" in message
    assert "test_check_partitions.py:" in message
