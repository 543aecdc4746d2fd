"""assert_independent_of_batch_size, as a user's own test would call it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import batchproof
from batchproof.testing import assert_independent_of_batch_size


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return ((pred - real) ** 2).mean().sqrt()


def mse(pred: Tensor, real: Tensor) -> Tensor:
    return ((pred - real) ** 2).mean()


def test_a_mean_passes() -> None:
    assert_independent_of_batch_size(mse, torch.randn(60), torch.randn(60))
    batchproof.testing.assert_independent_of_batch_size(mse, torch.randn(3, 60), torch.randn(3, 60), batch_dim=1)


def test_a_root_of_a_mean_fails_with_the_report() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_independent_of_batch_size(rmse, torch.randn(60), torch.randn(60))
    message = str(caught.value)
    assert message.startswith("\n✗ rmse depends on the batch size: ")
    assert "too low at batch size" in " ".join(message.split())
    assert "test_testing.py:" in message
    assert "batchproof.exact(rmse)" in message


@pytest.mark.parametrize("fn", [lambda p, r: ((p - r) ** 2).sum(), lambda p, r: torch.rand(()) + (p - r).mean()])
def test_a_sum_and_what_cannot_be_told_fail_too(fn: object) -> None:
    with pytest.raises(AssertionError):
        assert_independent_of_batch_size(fn, torch.randn(60), torch.randn(60))
