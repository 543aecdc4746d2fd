"""Batches to try a function on, made from the user's own rows: resampled, mixed, cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

#: At most this many bytes of the user's rows are looked at: rows of a language model are large.
MOST_BYTES = 1 << 18
MOST_ROWS = 64
FEWEST_ROWS = 6
#: Of rows as large as this, so few do.
LARGE_ROW, FEWEST_LARGE = 1 << 17, 2


@dataclass
class TensorBatch:
    """Input tensors, and along which dimension each carries samples (None: shared by all batches)."""

    tensors: list[torch.Tensor]
    dims: tuple[int | None, ...]

    @property
    def n(self) -> int:
        return next(t.shape[d] for t, d in zip(self.tensors, self.dims, strict=True) if d is not None)

    def take(self, rows: torch.Tensor) -> TensorBatch:
        taken = [
            t if d is None else t.index_select(d, rows.to(t.device))
            for t, d in zip(self.tensors, self.dims, strict=True)
        ]
        return TensorBatch(taken, self.dims)

    def split(self, sizes: Sequence[int]) -> list[TensorBatch]:
        pieces, start = [], 0
        for size in sizes:
            cut = [
                t if d is None else t.narrow(d, start, size).contiguous()
                for t, d in zip(self.tensors, self.dims, strict=True)
            ]
            pieces.append(TensorBatch(cut, self.dims))
            start += size
        return pieces

    def mixed(self, generator: torch.Generator) -> TensorBatch:
        """Each floating row a random mean of two rows: new values that stay in the data's domain."""
        n = self.n
        other = torch.randperm(n, generator=generator)
        share = 0.5 + 0.5 * torch.rand(n, generator=generator, dtype=torch.float64)
        mixed = []
        for t, d in zip(self.tensors, self.dims, strict=True):
            if d is None or not t.dtype.is_floating_point:
                mixed.append(t)
                continue
            weight = share.to(t.device).reshape([-1 if k == d else 1 for k in range(t.ndim)])
            mixed.append((t * weight + t.index_select(d, other.to(t.device)) * (1 - weight)).to(t.dtype))
        return TensorBatch(mixed, self.dims)


def few(batch: TensorBatch) -> TensorBatch:
    """As many of the rows as are worth looking at."""
    n = batch.n
    carried = sum(t.nbytes for t, d in zip(batch.tensors, batch.dims, strict=True) if d is not None)
    fewest = FEWEST_ROWS if carried < LARGE_ROW * n else FEWEST_LARGE
    rows = min(n, MOST_ROWS, max(fewest, MOST_BYTES * n // max(carried, 1)))
    rows = max(rows, fewest)  # fewer are repeated
    return batch if rows == n else batch.take(torch.arange(rows) % n)


def ragged(n: int, generator: torch.Generator) -> list[int]:
    """Sizes of a random partition of n samples, often with pieces of one."""
    sizes: list[int] = []
    while n:
        most = n if float(torch.rand((), generator=generator)) < 0.7 else 1
        size = int(torch.randint(1, most + 1, (), generator=generator))
        sizes.append(size)
        n -= size
    return sizes
