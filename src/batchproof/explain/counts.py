"""Is a denominator that comes from the data just the number of samples?  Only the user's own batches can say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from batchproof.derive.align import Program
from batchproof.derive.program import shown_dtype
from batchproof.derive.record import record

PIECES = 6
SINGLES = 8
MOST_ROWS = 6000
Dims = Sequence[int | None]


def counter(
    program: Program, fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Dims
) -> Callable[[int], bool]:
    """A question about the program's values; the batches are run when it is first asked."""
    seen: list[tuple[int, list[torch.Tensor]]] = []

    def is_count(index: int) -> bool:
        if not seen:
            seen.extend(_runs(program, fn, tensors, dims))
        each = [values[index].double() / n for n, values in seen if index < len(values)]
        return len(each) > 1 and all(
            part.shape == each[0].shape and torch.allclose(part, each[0], rtol=1e-9, equal_nan=True) for part in each
        )

    return is_count


def _runs(
    program: Program, fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Dims
) -> list[tuple[int, list[torch.Tensor]]]:
    """Every value of the program on pieces of the samples; nothing where a piece takes another path."""
    n = next(tensor.shape[dim] for tensor, dim in zip(tensors, dims, strict=True) if dim is not None)
    step = max(1, min(n, MOST_ROWS) // PIECES)
    pieces = [(lo, min(n, lo + step)) for lo in range(0, min(n, MOST_ROWS), step)]
    pieces += [(lo, lo + 1) for lo in range(min(n, SINGLES))]
    found = []
    for lo, hi in pieces:
        batch = [
            tensor if dim is None else tensor.narrow(dim, lo, hi - lo)
            for tensor, dim in zip(tensors, dims, strict=True)
        ]
        try:
            run = record(fn, batch, program.split, shown_dtype(tensors))
        except Exception:  # noqa: BLE001 - one batch that cannot be looked at leaves the question open
            return []
        if [op.func for op in run.ops] != [op.func for op in program.ops]:
            return []
        found.append((hi - lo, run.tensors))
    return found
