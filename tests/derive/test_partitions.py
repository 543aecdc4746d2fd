"""The partitions that a plan is tried on before it is used."""

from __future__ import annotations

import pytest
import torch

from batchproof.derive import verify
from batchproof.derive.samples import TensorBatch


def seen_by(n: int) -> list[list[int]]:
    """The sizes of the pieces of every partition that a fold is called on."""
    sizes: list[int] = []

    def fold(tensors: list[torch.Tensor], captured: dict[int, torch.Tensor]) -> tuple[list[torch.Tensor], list[int]]:
        sizes.append(len(tensors[0]))
        return [], []

    class Leafless:
        leaves = ()

        def merge(self, states: list[list[torch.Tensor]]) -> list[torch.Tensor]:
            return []

    verify.verify(Leafless(), fold, {}, TensorBatch([torch.zeros(n)], (0,)), 0)  # type: ignore[arg-type]
    assert sizes.pop(0) == n
    partitions: list[list[int]] = [[]]
    for size in sizes:
        if sum(partitions[-1]) == n:
            partitions.append([])
        partitions[-1].append(size)
    return partitions


@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 1), (3, 3), (4, 7), (12, 32), (40, 32)])
def test_no_partition_is_tried_twice_and_none_is_the_whole(n: int, count: int) -> None:
    partitions = seen_by(n)
    assert [1] * n in partitions
    assert len(partitions) == len(set(map(tuple, partitions))) == count
    assert [n] not in partitions or n == 1
