"""For users' own tests: fail where a loss, a metric or a gradient depends on how the data was batched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import batchproof

if TYPE_CHECKING:
    from batchproof.explanation import Over
    from batchproof.gradients.check import Count, Model, Wrap
    from batchproof.gradients.partitions import CutKind

__all__ = [
    "assert_independent_of_batch_size", "assert_partition_invariant", "assert_rows_independent",
    "assert_same_gradients",
]  # fmt: skip


def assert_independent_of_batch_size(
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
    ...     assert_independent_of_batch_size(mse, torch.randn(100), torch.randn(100))
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
    found = batchproof.explain(fn, *example, batch_dim=batch_dim, batch_sizes=batch_sizes, seed=seed, **keywords)
    if not found.is_safe:
        raise AssertionError(f"\n{found}")


def assert_same_gradients(
    full: Callable[..., object],
    accumulated: Any,
    model: Model,
    *,
    ranks: int | None = None,
    micro_batches: int | None = None,
    wrap: Wrap | None = None,
    rank_dim: int = 0,
    count: Count | None = None,
    weights: Mapping[str, Sequence[float]] | None = None,
    tolerance: float | None = None,
) -> None:
    """Raise AssertionError, with the report as its message, unless accumulated gradients are those of the whole batch.

    >>> import torch
    >>> model, x, y = torch.nn.Linear(3, 1), torch.randn(8, 3), torch.randn(8, 1)
    >>> def full():
    ...     (model(x) - y).square().mean().backward()
    >>> def accumulated():
    ...     for a, b in zip(x.split(2), y.split(2)):
    ...         ((model(a) - b).square().mean() / 4).backward()
    >>> assert_same_gradients(full, accumulated, model)

    A training step is tried on one batch in one process, and cut over processes of this machine:

    >>> from torch.nn.parallel import DistributedDataParallel
    >>> def step(model, micro_batches):
    ...     for a, b in micro_batches:
    ...         ((model(a) - b).square().mean() / len(micro_batches)).backward()
    >>> assert_same_gradients(step, (x, y), model, ranks=2, micro_batches=2, wrap=DistributedDataParallel)

    Args:
        full: Leaves in the model the gradient of the whole batch; called without arguments. Or the training step: takes
            the wrapped model and a list of micro-batches.
        accumulated: Leaves the gradient accumulated over micro-batches. Or the samples of one batch.
        model: The module, or (name, parameter) pairs, as `batchproof.check_gradients` takes it.
        ranks: How many processes share the samples.
        micro_batches: How many micro-batches each rank gets.
        wrap: What each process makes of the model, such as ``DistributedDataParallel``.
        rank_dim: The dimension that ranks share: 0 for samples, 1 for slices of sequences.
        count: From a micro-batch, by name, what it might have to be weighted by.
        weights: What the micro-batches might have to be weighted by, by name, one number for each.
        tolerance: Largest difference of two equal gradients, as a fraction of the parameter's gradient norm; by the
            dtype if None.

    Raises:
        AssertionError: The gradients differ, or nothing was compared; the message is the report, with the cause.
        BatchproofError: A run leaves no gradient, the model has nothing to train, ``weights`` do not fit, or a step
            failed on a rank.
    """
    __tracebackhide__ = True
    found = batchproof.check_gradients(
        full, accumulated, model, ranks=ranks, micro_batches=micro_batches, wrap=wrap, rank_dim=rank_dim, count=count,
        weights=weights, tolerance=tolerance,
    )  # fmt: skip
    if not found.ok:
        raise AssertionError(f"\n{found}")


def assert_partition_invariant(
    loss_fn: Callable[..., Any],
    batch: Any,
    *,
    normalisers: Mapping[str, Any] | None = None,
    groups: Any = None,
    cuts: Sequence[CutKind] | None = None,
    **options: Any,
) -> None:
    """Raise AssertionError, with the report as its message, if a loss depends on how its batch is cut.

    >>> import torch
    >>> def token_mean(losses, mask, num_items_in_batch, world_size):
    ...     return (losses * mask).sum() / num_items_in_batch * world_size
    >>> def test_token_mean():
    ...     mask = (torch.arange(9) < torch.randint(2, 10, (12, 1))).float()
    ...     normalisers = {"num_items_in_batch": "tokens", "world_size": "ranks"}
    ...     assert_partition_invariant(token_mean, (torch.randn(12, 9), mask), normalisers=normalisers)
    >>> test_token_mean()

    Args:
        loss_fn: The loss, as `batchproof.check_partitions` takes it.
        batch: A whole batch: a tensor, a tuple of arguments, or a mapping.
        normalisers: By the names of parameters, the numbers of the whole batch that the loss takes: ``"tokens"``,
            ``"samples"``, ``"ranks"``, ..., or a function of the batch.
        groups: For each sample the group that it belongs to: groups are never split.
        cuts: Kinds of cuts to try; all if None.
        options: Further arguments of `batchproof.check_partitions`, or of the loss.

    Raises:
        AssertionError: A cut changes the loss or its gradient, or none could be tried; the message is the report, with
            the cut and the cause.
        BatchproofError: The arguments do not fit together.
    """
    __tracebackhide__ = True
    found = batchproof.check_partitions(loss_fn, batch, normalisers=normalisers, groups=groups, cuts=cuts, **options)
    if not found.ok or not found.readings:
        raise AssertionError(f"\n{found}")


def assert_rows_independent(
    model: Any,
    *example: Any,
    over: Sequence[Over] = ("batch", "padding", "order", "packing"),
    batch_dim: int | Sequence[int | None] = 0,
    seed: int = 0,
    **keywords: Any,
) -> None:
    """Raise AssertionError, with the report as its message, if a sample's output depends on what is not the sample.

    >>> import torch
    >>> def test_encoder():
    ...     model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8))
    ...     assert_rows_independent(model, torch.randn(6, 4), over=("batch", "order"))
    >>> test_encoder()

    What the model does not take is no failure: without a mask there is no padding to try. Rounding is none either: what
    falls with precision.

    Args:
        model: A module, or a function with an output for each sample.
        example: A batch of a few samples, as the model takes it: tensors, or one mapping of its arguments.
        over: What the answers must not depend on: any of ``"batch"``, ``"padding"``, ``"order"``, ``"packing"``
            and ``"generation"``.
        batch_dim: The batch dimension, or one for each example with None for what all batches share.
        seed: Before every call.
        keywords: Further arguments of the model.

    Raises:
        AssertionError: An answer depends on it, or nothing could be told; the message is the report.
        BatchproofError: The example does not fit together, or ``model`` has no output for each sample.
    """
    __tracebackhide__ = True
    found = batchproof.explain(model, *example, batch_dim=batch_dim, seed=seed, over=over, **keywords)
    if found.kind != "model":
        raise batchproof.BatchproofError(f"{found.target} has no output for each sample: it gives a value of the batch")
    if not found.is_safe:
        raise AssertionError(f"\n{found}")
