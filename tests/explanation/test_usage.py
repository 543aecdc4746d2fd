"""Code to paste runs as it stands, or there is none: the `use` of each report is executed here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import batchproof
from batchproof import BatchproofError, exact, explain


class Out(NamedTuple):
    scores: Tensor
    others: Tensor


def mae(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().mean()


def python_number(pred: Tensor, real: Tensor) -> float:
    return (pred - real).abs().mean().item()


def several(pred: Tensor, real: Tensor) -> dict[str, Tensor]:
    return {"mae": (pred - real).abs().mean(), "mse": (pred - real).square().mean()}


def pair_of_values(pred: Tensor, real: Tensor) -> tuple[Tensor, int]:
    return (pred - real).abs().sum(), len(pred)


def for_each_column(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().mean() * torch.arange(1.0, 4.0)


def of_arrays(pred: np.ndarray, real: np.ndarray) -> Any:
    return np.abs(pred - real).mean()


def of_lists(pred: list[int], real: list[int]) -> float:
    return sum(a == b for a, b in zip(pred, real, strict=True)) / len(pred)


def of_container(out: Out, real: Tensor) -> Tensor:
    return (out.scores - real).square().mean().sqrt()


def mean_of_container(out: Out, real: Tensor) -> Tensor:
    return (out.scores - real).square().mean()


def of_all(*parts: Tensor) -> Tensor:
    return (parts[0] - parts[1]).square().mean()


def root(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean().sqrt()


def along_the_second(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().mean()


PRED, REAL = torch.randn(2, 60).unbind(0)


@pytest.mark.parametrize(
    ("fn", "example", "keywords"),
    [
        (mae, (PRED, REAL), {}),
        (python_number, (PRED, REAL), {}),
        (several, (PRED, REAL), {}),
        (pair_of_values, (PRED, REAL), {}),
        (for_each_column, (PRED, REAL), {}),
        (of_arrays, (PRED.numpy(), REAL.numpy()), {}),
        (of_lists, ([1, 2, 3] * 20, [1, 2, 2] * 20), {}),
        (of_container, (Out(PRED, REAL), REAL), {}),
        (mean_of_container, (Out(PRED, REAL), REAL), {}),
        (of_all, (PRED, REAL), {}),
        (root, (PRED, REAL), {}),
        (along_the_second, (torch.randn(3, 60), torch.randn(3, 60)), {"batch_dim": 1}),
        (lambda pred: pred.square().mean().sqrt(), (PRED,), {}),
        (nn.MSELoss(), (PRED, REAL), {}),
        (functools.partial(F.cross_entropy, ignore_index=0), (torch.randn(60, 4), torch.arange(60) % 4), {}),
        (F.cross_entropy, (torch.randn(60, 4), torch.arange(60) % 4), {"weight": torch.arange(1.0, 5.0)}),
        (torch.jit.script(mae), (PRED, REAL), {}),
    ],
)
def test_the_code_runs(fn: Callable[..., Any], example: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    found = explain(fn, *example, **keywords)
    assert found.use
    before, on_each_batch, after = [line for line in found.use if not line.startswith("#")]
    named = {"pred": example[0], "real": example[-1], "out": example[0], "batch": example, "fn": fn, "criterion": fn}
    named |= {"input": example[0], "target": example[-1], "batchproof": batchproof, "dataset": range(60)}
    scope = named | keywords | {getattr(fn, "__name__", "fn"): fn}
    exec(before, scope)
    exec(on_each_batch, scope)
    eval(after, scope)


def test_what_has_no_name_is_named() -> None:
    assert explain(nn.MSELoss(), PRED, REAL).use[0] == "# criterion: your MSELoss"
    assert explain(lambda x: x.square().mean().sqrt(), PRED).use[0] == "# fn: your function"
    assert explain(mae, PRED, REAL).use[0] == "total = 0.0"


def test_a_weighted_total_is_the_value_on_all_samples() -> None:
    before, on_each_batch, after = explain(several, PRED, REAL).use
    scope: dict[str, Any] = {"several": several, "dataset": range(60)}
    exec(before, scope)
    for pred, real in zip(PRED.split(7), REAL.split(7), strict=True):
        scope |= {"pred": pred, "real": real}
        exec(on_each_batch, scope)
    assert any(eval(after, scope) == pytest.approx(float(value)) for value in several(PRED, REAL).values())


def test_exact_on_each_batch_is_the_value_on_all_samples() -> None:
    before, on_each_batch, after = explain(root, PRED, REAL).use
    scope: dict[str, Any] = {"root": root, "batchproof": batchproof}
    exec(before, scope)
    for pred, real in zip(PRED.split(7), REAL.split(7), strict=True):
        scope |= {"pred": pred, "real": real}
        exec(on_each_batch, scope)
    assert float(eval(after, scope)) == pytest.approx(float(root(PRED, REAL)))


def test_what_exact_refuses_is_not_recommended() -> None:
    def with_noise(x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        return (x - noise).square().mean()

    found = explain(with_noise, PRED)
    assert found.use == ()
    metric = exact(with_noise)
    with pytest.raises(BatchproofError):
        metric.update(PRED)
