"""For users' own tests: fail where a loss or a metric depends on how the data was batched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from batchproof.explain import explain


def assert_batch_invariant(
    fn: Any,
    *example: Any,
    batch_dim: int | Sequence[int | None] = 0,
    batch_sizes: Iterable[int] | None = None,
    seed: int = 0,
    **keywords: Any,
) -> None:
    """Raise AssertionError, with the report as its message, unless averaging over batches gives the exact value.

    >>> import torch
    >>> def mse(pred, real):
    ...     return (pred - real).square().mean()
    >>> def test_mse():
    ...     assert_batch_invariant(mse, torch.randn(100), torch.randn(100))
    >>> test_mse()

    A sum fails too: a mean of sums grows with the batch.  So does a function of which it cannot be told.

    Args:
        fn: A function, a metric object or a model, as `batchproof.explain` takes it.
        example: Samples to try it on, one tensor of any dtype for each parameter; guessed from their names if absent.
        batch_dim: The batch dimension, or one for each example with None for what all batches share.
        batch_sizes: The sizes to try; 1, 2, 4, ... and all samples if None.
        seed: For the one shuffle of the samples.
        keywords: Further arguments of ``fn``.

    Raises:
        AssertionError: The number depends on the batch size, or it could not be told; the message is the report.
        BatchproofError: The example does not fit together, or none could be guessed.
    """
    __tracebackhide__ = True
    found = explain(fn, *example, batch_dim=batch_dim, batch_sizes=batch_sizes, seed=seed, **keywords)
    if not found.is_safe:
        raise AssertionError(f"\n{found}")
