"""Losses of public post-training code: which cuts of a batch change them, and why."""

from __future__ import annotations

import pytest
from public_losses import LOSSES, PublicLoss

from batchproof import PartitionCheck, check_partitions


def check(loss: PublicLoss) -> PartitionCheck:
    return check_partitions(loss.fn, loss.batch, normalisers=loss.normalisers, **loss.options)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_a_public_loss(loss: PublicLoss) -> None:
    found = check(loss)
    assert found.broken == loss.broken, found
    assert found.ok == (not loss.broken)
    if loss.causes:
        assert tuple(finding.code for finding in found.findings) == loss.causes, found
    if loss.aggregation is not None:
        assert found.aggregation is not None
        assert found.aggregation.name == loss.aggregation
