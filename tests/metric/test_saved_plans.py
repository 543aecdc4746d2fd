"""A saved state is its leaves and a plan: nothing is derived to load it, and no sample is in it."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import batchproof as bp
from batchproof.derive import of_bytes, to_bytes
from batchproof.metric import stream

CPU = torch.device("cpu")


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean().sqrt()


def r2(pred: Tensor, real: Tensor) -> Tensor:
    return 1 - (real - pred).square().sum() / (real - real.mean()).square().sum()


def skewness(pred: Tensor, real: Tensor) -> Tensor:
    gap = pred - real
    return ((gap - gap.mean()) ** 3).mean() / gap.std() ** 3


def exponential(pred: Tensor, real: Tensor) -> Tensor:
    return (torch.exp((pred - pred.mean()) / 4) * real).mean()


def extremes(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - pred.mean()).abs().amax() + real.amax()


def close_ones(pred: Tensor, real: Tensor) -> Tensor:
    return real[(pred - real).abs() < 0.5].mean()


def loop(pred: Tensor, real: Tensor) -> Tensor:
    return sum((p - r).square() for p, r in zip(pred, real, strict=True)) / len(pred)  # type: ignore[return-value]


def macro_f1(pred: Tensor, real: Tensor) -> Tensor:
    table = torch.bincount(100 * real + pred, minlength=10_000).view(100, 100).double()
    return (2 * table.diagonal() / (table.sum(0) + table.sum(1)).clamp(min=1)).mean()


def pairs(pred: Tensor, real: Tensor) -> Tensor:
    return torch.relu(pred.view(-1, 2) - real.view(-1, 2)).square().mean().sqrt() + pred.view(-1, 2).diff().abs().mean()


FUNCTIONS = [pairs, rmse, r2, skewness, exponential, extremes, close_ones, loop]


def numbers(n: int = 80, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real = torch.randn(n, generator=generator)
    return real + torch.randn(n, generator=generator), real


def labels(n: int = 500) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(100, (n,), generator=generator), torch.randint(100, (n,), generator=generator)


def fed(fn: Callable[..., Any], *batches: tuple[Tensor, ...]) -> bp.Exact:
    metric = bp.exact(fn)
    for batch in batches:
        metric.update(*batch)
    assert metric.plan.is_constant_size
    return metric


def saved(metric: bp.Exact) -> Any:
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def nothing_is_derived(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError("derived again")

    for name in ("derive", "derive_groups", "like"):
        monkeypatch.setattr(stream, name, refuse)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_nothing_is_derived_to_load(fn: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = numbers(), numbers(34, 1), numbers(20, 2)
    state = saved(fed(fn, first, second))
    nothing_is_derived(monkeypatch)
    loaded = bp.exact(fn)
    loaded.load_state_dict(state)
    loaded.update(*third)
    whole = [torch.cat(parts).double() for parts in zip(first, second, third, strict=True)]
    assert float(loaded.compute()) == pytest.approx(float(fn(*whole)), rel=1e-5)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_loaded_states_merge(fn: Callable[..., Tensor]) -> None:
    first, second = numbers(), tuple(x + 3 for x in numbers(70, 1))
    ours, theirs = bp.exact(fn), bp.exact(fn)
    ours.load_state_dict(saved(fed(fn, first)))
    theirs.load_state_dict(saved(fed(fn, second)))
    ours.merge_state([theirs])
    whole = [torch.cat(parts).double() for parts in zip(first, second, strict=True)]
    assert float(ours.compute()) == pytest.approx(float(fn(*whole)), rel=1e-5)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_no_sample_is_in_a_saved_state(fn: Callable[..., Tensor]) -> None:
    """Neither as it came nor widened; an extreme is a sample, and is in a state of extremes by its nature."""
    pred, real = numbers()
    metric = fed(fn, (pred, real))
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    for data in (file.getvalue(), pickle.dumps(metric)):
        held = [
            value
            for value in torch.cat([pred, real])
            for form in (value, value.double())
            if form.numpy().tobytes() in data
        ]
        assert len({float(value) for value in held}) <= (3 if fn is extremes else 0)


@pytest.mark.parametrize(
    ("fn", "batch"), [(rmse, numbers()), (r2, numbers()), (macro_f1, labels())], ids=["rmse", "r2", "macro_f1"]
)
def test_a_plan_is_small(fn: Callable[..., Tensor], batch: tuple[Tensor, Tensor]) -> None:
    plan = fed(fn, batch).plan
    data = to_bytes(plan)  # type: ignore[arg-type]
    assert len(data) <= 4096
    again = of_bytes(data, plan.fn, CPU)  # type: ignore[attr-defined]
    assert again.fold.text == plan.fold.text  # type: ignore[attr-defined]
    assert again.leaves == plan.leaves


def test_samples_of_another_shape_go_with_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    def masked(x: Tensor) -> Tensor:
        return (x.clamp(min=0).sum(1) / 3).mean().sqrt()

    short, long = torch.rand(40, 3), torch.rand(50, 5)
    state = saved(fed(masked, (short,), (long,)))
    nothing_is_derived(monkeypatch)
    loaded = bp.exact(masked)
    loaded.load_state_dict(state)
    loaded.update(long)
    expected = (torch.cat([short.sum(1), long.sum(1), long.sum(1)]) / 3).mean().sqrt()
    assert float(loaded.compute()) == pytest.approx(float(expected), rel=1e-5)


def test_a_function_of_other_numbers_is_refused() -> None:
    def above(limit: float) -> bp.Exact:
        return bp.exact(lambda x: (x > limit).float().mean().sqrt())

    metric, other = above(0.5), above(0.6)
    metric.update(torch.rand(100))
    state = metric.state_dict()
    other.update(torch.rand(50))
    before = other.compute()
    with pytest.raises(bp.BatchproofError, match="does not fit: it belongs to another function"):
        other.load_state_dict(state)
    assert other.compute() == before


def test_data_of_something_else_is_refused() -> None:
    plan: Any = fed(rmse, numbers()).plan
    data = to_bytes(plan)
    for wrong in (b"", data[:20], b"x" * 50):
        with pytest.raises(bp.BatchproofError, match="not the bytes of a plan"):
            of_bytes(wrong, rmse, CPU)


def test_a_plan_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plan: Any = fed(rmse, numbers()).plan
    monkeypatch.setattr("batchproof.derive.plan_data.VERSION", 0)
    data = to_bytes(plan)
    monkeypatch.undo()
    with pytest.raises(bp.BatchproofError, match="another version of batchproof"):
        of_bytes(data, rmse, CPU)


def test_a_copy_and_a_moved_metric_keep_the_samples_that_they_are_tried_on() -> None:
    metric = fed(rmse, numbers(), numbers(90, 1))
    for other in (copy.deepcopy(metric), fed(rmse, numbers(), numbers(90, 1)).to("cpu")):
        assert other._stream.sample().n == metric._stream.sample().n == 170
        assert other.compute() == metric.compute()


def test_a_plan_names_nothing_but_types_and_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read may come from anybody: a function of torch is neither a dtype nor a layout."""
    plan: Any = fed(rmse, numbers()).plan
    monkeypatch.setattr("batchproof.derive.plan_data._Writer._named", lambda self, value: ["A", "load"])
    data = to_bytes(plan)
    monkeypatch.undo()
    with pytest.raises(bp.BatchproofError, match="this version of torch has no load"):
        of_bytes(data, rmse, CPU)


def test_a_shape_from_elsewhere_is_folded_at_our_centres() -> None:
    def spread(x: Tensor) -> Tensor:
        return x.sum(1).var()

    generator = torch.Generator().manual_seed(0)
    short, wide = torch.randn(40, 3, generator=generator), torch.randn(50, 5, generator=generator) + 3
    ours, theirs = fed(spread, (short,)), fed(spread, (wide,))
    ours.merge_state([theirs])
    ours.update(wide + 1)
    rows = torch.cat([short.sum(1), wide.sum(1), (wide + 1).sum(1)]).double()
    assert float(ours.compute()) == pytest.approx(float(rows.var()), rel=1e-5)
