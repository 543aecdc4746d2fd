"""The short way of a batch that is like the first: it folds what fits, and looks at what may not."""

from __future__ import annotations

import pytest
import torch

import batchproof as bp


def fed() -> bp.Exact:
    metric = bp.exact(lambda labels: labels.bincount(minlength=3).double().square().sum())
    metric.update(torch.tensor([0, 1, 2, 2, 1, 0, 2, 2] * 8))
    return metric


def test_a_batch_like_the_first_takes_it() -> None:
    fast = fed()._stream.ready
    (counts,), lengths, n = fast((torch.tensor([2, 2, 0]),))
    assert (counts.tolist(), lengths, n) == ([1, 0, 2], [], 3)


def test_a_value_of_another_shape_is_seen_at_once() -> None:
    """Counts of more classes than there were to be: they are no state to merge with."""
    fast = fed()._stream.ready
    with pytest.raises(bp.BatchproofError, match="of shape"):
        fast((torch.tensor([5, 0]),))


@pytest.mark.parametrize(
    "other", [torch.tensor([0.5, 1.0]), torch.tensor([[0, 1]]), torch.tensor([], dtype=torch.long), [0, 1]]
)
def test_any_other_batch_needs_a_closer_look(other: object) -> None:
    fast = fed()._stream.ready
    assert fast((other,)) is None


def test_under_autocast_it_is_not_taken() -> None:
    """A matrix product would be computed in half precision there."""
    fast = fed()._stream.ready
    batch = torch.tensor([2, 2, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fast((batch,)) is None
    assert fast((batch,)) is not None
