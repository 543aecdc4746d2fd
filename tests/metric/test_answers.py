"""A call answers its function's argmax with what the fold has: the value is the same to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import batchproof as bp

N, CLASSES = 2_000, 10


def batch(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, CLASSES, generator=generator), torch.randint(CLASSES, (n,), generator=generator)


class Counter(TorchDispatchMode):
    """How often argmax is run."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.argmax.default
        return func(*args, **(kwargs or {}))


def counted(metric: Any, *args: Any) -> tuple[Any, int]:
    with Counter() as counter:
        value = metric(*args)
    return value, counter.count


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).float().mean()


def error(logits: Tensor, labels: Tensor) -> Tensor:
    return (torch.argmax(logits, dim=-1) != labels).float().mean()


def fed(fn: Any) -> Any:
    metric = bp.exact(fn)
    for seed in (1, 2):
        metric.update(*batch(64, seed))
    return metric


@pytest.mark.parametrize("fn", [accuracy, error])
def test_it_is_run_once(fn: Callable[..., Tensor]) -> None:
    logits, labels = batch()
    metric = fed(fn)
    value, count = counted(metric, logits.requires_grad_(), labels)
    assert count == 1
    assert value == fn(logits, labels)
    assert metric.n_samples == N + 128


def test_it_is_run_once_for_many() -> None:
    logits, labels = batch()
    value, count = counted(fed({"accuracy": accuracy, "error": error}), logits, labels)
    assert count == 1
    assert value == {"accuracy": accuracy(logits, labels), "error": error(logits, labels)}


def test_of_few_numbers_it_is_run_again() -> None:
    """Watching each operation would take longer."""
    _, count = counted(fed(accuracy), *batch(32))
    assert count == 2


def asks_else(logits: Tensor, labels: Tensor) -> Tensor:
    shifted = logits + torch.arange(CLASSES)
    return (logits.argmax(1) + 2 * shifted.argmax(1) + logits.argmax(1, keepdim=True)[:, 0] == labels).float().mean()


def overwrites(logits: Tensor, labels: Tensor) -> Tensor:
    guess = logits.argmax(1)
    guess[labels == 3] = 3
    return (guess == labels).float().mean() + (logits.argmax(1) == labels).float().mean()


def other_dim(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).float().mean() + logits.detach()[:, :2].argmax(1).float().mean()


@pytest.mark.parametrize("fn", [asks_else, overwrites, other_dim])
def test_what_else_it_asks_it_gets(fn: Callable[..., Tensor]) -> None:
    metric = fed(fn)
    parts = [batch(N, seed) for seed in (5, 6, 7)]
    for part in parts:
        assert metric(*part) == fn(*part)
    everything = [batch(64, 1), batch(64, 2), *parts]
    whole = [torch.cat(column) for column in zip(*everything, strict=True)]
    torch.testing.assert_close(metric.compute(), fn(*whole))


def test_a_tensor_that_was_written_to_is_looked_at_again() -> None:
    def sharpened(logits: Tensor, labels: Tensor) -> Tensor:
        before = (logits.argmax(1) == labels).sum()
        logits[:, 0] += 100
        return before + (logits.argmax(1) == 0).sum()

    metric = fed(lambda logits, labels: sharpened(logits, labels).double() / len(labels))
    logits, labels = batch()
    expected = (logits.argmax(1) == labels).sum() + N
    assert metric(logits.clone(), labels) * N == expected


def test_where_the_function_raises_nothing_was_drawn() -> None:
    def strict(logits: Tensor, labels: Tensor) -> Tensor:
        if len(labels) == 77:
            raise RuntimeError("no")
        return accuracy(logits, labels)

    metric = fed(strict)
    reservoir = metric._stream.reservoir
    before = (list(reservoir.rows), reservoir.seen, reservoir.due)
    for n in (77,) * 20:
        with pytest.raises(RuntimeError, match="no"):
            metric(*batch(n))
    assert (reservoir.rows, reservoir.seen, reservoir.due) == before
    metric(*batch(78))
    assert reservoir.seen == metric.n_samples == 128 + 78
