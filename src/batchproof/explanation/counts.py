"""Is a denominator that comes from the data just the number of samples?  Only the user's own batches can say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from batchproof.derive import Program, record, shown_dtype
from batchproof.ground.tensors import close

PIECES = 6
SINGLES = 8
MOST_BYTES = 1 << 28
#: A denominator has as many numbers as there are classes, not as there are samples.
MOST_NUMBERS = 4096
Dims = Sequence[int | None]
Values = list[torch.Tensor | None]


def counter(
    program: Program, fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Dims
) -> Callable[[int], bool]:
    """A question about the program's values; the batches are run when it is first asked."""
    seen: list[tuple[int, Values]] = []

    def is_count(index: int) -> bool:
        if not seen:
            seen.extend(_runs(program, fn, tensors, dims))
        shares = [_share(values, index, n) for n, values in seen]
        first = shares[0] if len(shares) > 1 else None
        return first is not None and all(share is not None and close(share, first, absolute=1e-8) for share in shares)

    return is_count


def _share(values: Values, index: int, n: int) -> torch.Tensor | None:
    value = values[index] if index < len(values) else None
    return None if value is None else value.double() / n


def _runs(
    program: Program, fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Dims
) -> list[tuple[int, Values]]:
    """Every small value of the program on pieces of the samples; a piece that takes another path says nothing."""
    carried = [(tensor, dim) for tensor, dim in zip(tensors, dims, strict=True) if dim is not None]
    n = carried[0][0].shape[carried[0][1]]
    rows = min(n, max(PIECES, MOST_BYTES * n // max(sum(tensor.nbytes for tensor, _ in carried), 1)))
    step = max(1, rows // PIECES)
    pieces = [(lo, min(n, lo + step)) for lo in range(0, rows, step)] + [(lo, lo + 1) for lo in range(min(n, SINGLES))]
    found = []
    for lo, hi in pieces:
        batch = [
            tensor if dim is None else tensor.narrow(dim, lo, hi - lo)
            for tensor, dim in zip(tensors, dims, strict=True)
        ]
        try:
            run = record(fn, batch, program.split, shown_dtype(tensors))
        except Exception:  # noqa: BLE001 - what fails on one sample may hold on the others
            continue
        if [op.func for op in run.ops] == [op.func for op in program.ops]:
            found.append((hi - lo, [value if value.numel() <= MOST_NUMBERS else None for value in run.tensors]))
    return found
