"""Constants of a fold: which are the same, and that what is made of them is made once."""

import pytest
import torch

import batchproof as bp
from batchproof.derive.recording import equal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_zeros_of_other_signs_are_other_constants(dtype):
    zero = torch.zeros(2, dtype=dtype)
    assert equal(zero, zero.clone())
    assert not equal(zero, -zero)


def test_other_types_and_shapes_are_other_constants():
    one = torch.ones(2)
    assert not equal(one, one.double())
    assert not equal(one, torch.ones(1, 2))
    assert equal(one.bool(), torch.tensor([True, True]))


def test_a_functions_own_zero_keeps_its_sign():
    def far(x):
        return x.mean() / torch.tensor(0.0), x.mean() / torch.tensor(-0.0)

    metric = bp.exact(far)
    for batch in torch.arange(1.0, 9.0).split(3):
        metric.update(batch)
    assert metric.compute() == far(torch.arange(1.0, 9.0))


def test_sums_around_one_mean_share_its_centre():
    def pearson(x, y):
        a, b = x - x.mean(), y - y.mean()
        return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()

    metric = bp.exact(pearson)
    metric.update(*torch.randn(2, 32, generator=torch.Generator().manual_seed(0)))
    assert metric.plan.fold.text.count(" + c") == 2
