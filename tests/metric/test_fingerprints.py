"""Prints by which states are known to belong together: what changes a state's meaning changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import batchproof as bp
from batchproof.metric.fingerprints import centres_print, program_print, same_function, sample_print, shared_print
from batchproof.metric.grouped_state import GroupedState
from batchproof.metric.merging import moved
from batchproof.metric.stream import Stream

X = torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def weighted(x: Tensor, weight: Any) -> Tensor:
    return (x * weight).square().mean()


def stream_of(fn: Callable[..., Any], *args: Any, x: Tensor = X, **shared: Any) -> Stream:
    metric = bp.exact(fn, batch_dim=(0, *(None for _ in args))) if args else bp.exact(fn)
    metric.update(x, *args, **shared)
    return metric._stream


@pytest.mark.parametrize(
    ("one", "other"),
    [(torch.tensor(2.0), torch.tensor(3.0)), (2.0, 3.0), (torch.ones(()), torch.ones((), dtype=torch.float64))],
    ids=["tensors", "numbers", "types"],
)
def test_what_all_batches_share_is_printed(one: Any, other: Any) -> None:
    first, again, second = (shared_print(stream_of(weighted, shared)) for shared in (one, one, other))
    assert first == again
    assert first != second


def test_a_tensor_from_outside_is_printed() -> None:
    def holding(outside: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: (x * outside).mean()

    first, again, second = (shared_print(stream_of(holding(torch.tensor(k)))) for k in (2.0, 2.0, 3.0))
    assert first == again
    assert first != second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x.square().mean(), lambda x: x.abs().mean()),
        (lambda x: x.pow(3).mean(), lambda x: x.pow(5).mean()),
        (lambda x: (x > 1).double().mean(), lambda x: (x > 2).double().mean()),
    ],
    ids=["operator", "exponent", "threshold"],
)
def test_operations_and_their_numbers_are_printed(one: Callable[..., Any], other: Callable[..., Any]) -> None:
    streams = [stream_of(fn) for fn in (one, one, other)]
    prints = [program_print(stream.state_plan) for stream in streams]
    samples = [sample_print(stream.fn, stream.first) for stream in streams if stream.first is not None]
    assert prints[0] == prints[1] != prints[2]
    assert samples[0] == samples[1] != samples[2]
    assert not same_function(one, other)


def test_centres_are_printed() -> None:
    first, again, second = (centres_print(stream_of(lambda x: x.var(), x=x).state_plan) for x in (X, X, X + 5))
    assert first == again
    assert first != second


def test_a_state_of_other_weights_is_not_loaded() -> None:
    """The operations are those of the saved one, and the sums are sums of something else."""
    rows = X.reshape(-1, 1) * torch.arange(1.0, 5.0, dtype=torch.float64)

    def of_weights(weight: Tensor) -> bp.Exact:
        metric = bp.exact(lambda x: (x @ weight).square().mean())
        metric.update(rows)
        return metric

    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    saved = of_weights(weight).state_dict()
    with pytest.raises(bp.BatchproofError, match="other weights"):
        of_weights(2 * weight).load_state_dict(saved)
    of_weights(weight.clone()).load_state_dict(saved)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x.var(),
        lambda x: ((x - x.mean()) ** 3).mean() / x.std() ** 3,
        lambda x: (x - x.mean()).abs().amax(),
        lambda x: torch.exp((x - x.mean()) / 4).mean(),
    ],
    ids=["variance", "skewness", "extremes", "exponential"],
)
def test_a_saved_state_is_read_at_the_centres_that_it_was_kept_at(fn: Callable[..., Any]) -> None:
    """Another machine derives from the same rows with other last digits, and would choose others."""
    metric, other = bp.exact(fn), bp.exact(fn)
    metric.update(X)
    metric.update(X / 2 + 1)
    saved = metric.state_dict()
    saved["lesson"] = [leaf * 1.001 for leaf in saved["lesson"]]
    other.load_state_dict(saved)
    assert other.plan.is_constant_size
    assert float(other.compute()) == pytest.approx(float(fn(torch.cat([X, X / 2 + 1]))), rel=1e-9)


def test_functions_of_other_code_are_not_the_same() -> None:
    def one(x: Tensor) -> Tensor:
        return x.mean()

    def other(x: Tensor) -> Tensor:
        return x.sum()

    assert same_function(one, one)
    assert not same_function(one, other)


def test_states_of_other_leaves_do_not_merge() -> None:
    """Counts of three classes, and of four: as tensors they might broadcast."""

    def counted(classes: int) -> bp.Exact:
        metric = bp.exact(lambda labels: labels.bincount(minlength=classes).double().square().sum())
        metric.update(torch.arange(64) % 3)
        return metric

    three, four = (counted(classes)._stream for classes in (3, 4))
    assert isinstance(four.slots, GroupedState)
    with pytest.raises(bp.BatchproofError, match="different leaves"):
        moved(three, four.slots, four)
