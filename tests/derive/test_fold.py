"""The fold as code: what is written out for a batch's own types, and for sizes that follow the samples."""

from __future__ import annotations

import pytest
import torch

from batchproof.derive.codegen import CodeWriter
from batchproof.derive.pipeline import derive
from batchproof.derive.plan import StatePlan
from batchproof.derive.recording import Size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    """A product of two halves overflows soon, and a fold in float64 is slower than one in float32."""
    x = (300 * torch.randn(24, generator=torch.Generator().manual_seed(0))).to(dtype)
    plan = derive(lambda x: (x.float() * x.float()).mean(), [x], [0])
    assert isinstance(plan, StatePlan)
    (value,), _ = plan.fold.compile()([x], plan.captured)
    assert "x[0].float()" in plan.fold.text
    assert float(value) == pytest.approx(float(x.double().square().sum()), rel=1e-6)


@pytest.mark.parametrize(
    ("size", "text"),
    [(Size(1, 0), "n"), (Size(2, 0), "2*n"), (Size(1, -1), "(n + -1)"), (Size(3, 2, of=(4, 1)), "(3*t.shape[1] + 2)")],
)
def test_a_size_that_follows_the_samples_is_written_out(size: Size, text: str) -> None:
    assert CodeWriter().render(size, {4: "t"}, widened=False) == text


def test_a_name_is_let_go_of_where_it_is_used_last() -> None:
    """What it holds may be as large as the batch."""
    x = torch.randn(24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan = derive(lambda x: (x - 1).exp().mean(), [x], [0])
    assert isinstance(plan, StatePlan)
    *lines, result = plan.fold.text.splitlines()
    assert "del" not in result
    assert sum(line.count("del ") for line in lines) == len(lines) - 2  # all but the one that is returned
