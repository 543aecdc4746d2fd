"""Experts in float64, against torch's own kernel, which takes narrower types alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from batchproof.explanation.rows.precision import in_double


class Experts(nn.Module):
    """Sorted rows, each group by a matrix of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8, 16))

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """(n, 8) to (n, 16)."""
        return torch._grouped_mm(x, self.weight, offs=ends)


def test_experts_in_float64() -> None:
    torch.manual_seed(0)
    model, x, ends = Experts(), torch.randn(12, 8), torch.tensor([3, 3, 12], dtype=torch.int32)
    native = model(x, ends)
    with in_double(model), torch.no_grad():
        wide = model(x.double(), ends)
    assert wide.dtype is torch.float64
    torch.testing.assert_close(wide.float(), native)
    assert model.weight.dtype is torch.float32
