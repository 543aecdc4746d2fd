"""What an Exact can do: the drop-in loss, the state and its travels, what goes in and what comes out."""

from __future__ import annotations

import copy
import functools
import io
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
import torchmetrics.functional as tm
from torch import Tensor, nn

import batchproof as bp
from functions import (
    labels,
    log_mean_exp,
    macro_f1,
    median_error,
    normal,
    pair,
    pearson,
    r2,
    range_error,
    rmse,
    table,
    wape,
)
from promise import RAGGED, Function, difference, promise, split

FUNCTIONS = (rmse, r2, pearson, wape, range_error)
each_function = pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)


def fed(fn: Function, *args: Any, sizes: tuple[int, ...] = RAGGED, **options: Any) -> bp.Exact:
    metric = bp.exact(fn, **options)
    for piece in split(args, sizes, options.get("batch_dim", 0)):
        metric.update(*piece)
    return metric


def same(got: Any, expected: Any, rtol: float = 1e-9) -> None:
    problem = difference(got, expected, rtol)
    assert problem is None, problem


# ------------------------------------------------------------------ the loss of a training loop


@each_function
def test_the_call_gives_the_value_on_this_batch(fn: Function) -> None:
    metric = bp.exact(fn)
    batches = split(pair(), RAGGED)
    for batch in batches:
        if batch[0].shape[0] > 2:
            same(metric(*batch), fn(*batch), 0.0)
        else:
            metric.update(*batch)
    same(metric.compute(), fn(*pair()))


@each_function
def test_the_call_keeps_the_autograd_graph(fn: Function) -> None:
    metric = bp.exact(fn)
    pred, real = pair()
    for lo, hi in ((0, 20), (20, 60), (60, 130), (130, 200)):
        mine, theirs = (pred[lo:hi].clone().requires_grad_() for _ in range(2))
        value = metric(mine, real[lo:hi])
        assert value.requires_grad
        value.backward()
        fn(theirs, real[lo:hi]).backward()
        assert mine.grad is not None
        same(mine.grad, theirs.grad, 1e-12)
    result = metric.compute()
    same(result, fn(pred, real))
    assert not result.requires_grad


def test_training_is_what_it_was() -> None:
    def train(loss: Function) -> tuple[list[float], Tensor]:
        torch.manual_seed(5)
        model = nn.Linear(3, 1).double()
        steps = torch.optim.SGD(model.parameters(), 0.1)
        history = []
        for lo in range(0, 200, 25):
            steps.zero_grad()
            value = loss(model(x[lo : lo + 25]).squeeze(1), y[lo : lo + 25])
            value.backward()
            steps.step()
            history.append(value.item())
        return history, model.weight.detach()

    x, y = normal(200, 3), normal(200, seed=9)
    metric = bp.exact(rmse)
    assert train(metric)[0] == train(rmse)[0]
    metric.reset()
    same(train(metric)[1], train(rmse)[1], 0.0)


def test_a_graph_is_not_kept_alive() -> None:
    metric = bp.exact(rmse)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    pred, real = pair()
    for lo in range(0, 200, 10):
        metric.update(pred[lo : lo + 10] * weight, real[lo : lo + 10])
    assert not metric.compute().requires_grad
    assert all(not value.requires_grad for value in tensors(metric.state_dict()))


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in inside for tensor in tensors(item)]


# ------------------------------------------------------------------ compute, reset, n_samples


@pytest.mark.parametrize("fn", [*FUNCTIONS, median_error], ids=lambda fn: fn.__name__)
def test_compute_may_come_at_any_time(fn: Function) -> None:
    metric, (pred, real) = bp.exact(fn), pair()
    hi = 0
    for piece in split((pred, real), (5, 28, 1, 64, 1)):
        metric.update(*piece)
        hi += len(piece[0])
        assert metric.n_samples == hi
        for _ in range(2):
            same(metric.compute(), fn(pred[:hi], real[:hi]))


@pytest.mark.parametrize("fn", [rmse, median_error], ids=lambda fn: fn.__name__)
def test_reset_starts_over(fn: Function) -> None:
    pred, real = pair()
    metric = fed(fn, pred + 1000, real)
    metric.reset()
    assert metric.n_samples == 0
    with pytest.raises(bp.BatchproofError):
        metric.compute()
    for sizes in (RAGGED, (3,), (200,)):
        for piece in split((pred, real), sizes):
            metric.update(*piece)
        same(metric.compute(), fn(pred, real))
        metric.reset()


def test_reset_forgets_what_the_function_was_then() -> None:
    weight = torch.tensor(2.0, dtype=torch.float64)
    scale = 1.0

    def fn(x: Tensor) -> Tensor:
        return (x * weight * scale).pow(2).mean().sqrt()

    x = normal(200)
    metric = fed(fn, x)
    metric.reset()
    weight.mul_(5)
    scale = 3.0
    for (piece,) in split((x,), RAGGED):
        metric.update(piece)
    same(metric.compute(), fn(x))


def test_reset_then_other_shapes_and_types() -> None:
    metric = fed(rmse, *pair())
    metric.reset()
    pred, real = normal(100, 3, dtype=torch.float32), normal(100, 3, seed=7, dtype=torch.float32)
    for piece in split((pred, real), (40, 1)):
        metric.update(*piece)
    same(metric.compute(), rmse(pred, real), 1e-5)


# ------------------------------------------------------------------ states travel


@pytest.mark.one_in(2)
@pytest.mark.parametrize("fn", [*FUNCTIONS, median_error], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("cuts", [(100,), (3, 150), (60, 61, 130), (1, 2, 3, 4)], ids=str)
def test_merge_state(fn: Function, cuts: tuple[int, ...]) -> None:
    """Each metric derives its own plan from its own first batch; some never leave the warm-up."""
    pred, real = pair()
    drift = torch.arange(200, dtype=torch.float64)
    metrics = []
    for lo, hi in zip((0, *cuts), (*cuts, 200), strict=True):
        metrics.append(fed(fn, (pred + drift)[lo:hi], (real + drift)[lo:hi], sizes=(40, 1)))
    before = [copy.deepcopy(other) for other in metrics[1:]]
    metrics[0].merge_state(metrics[1:])
    same(metrics[0].compute(), fn(pred + drift, real + drift), 1e-7)
    assert metrics[0].n_samples == 200
    for other, old in zip(metrics[1:], before, strict=True):
        assert other.n_samples == old.n_samples
        same(other.compute(), old.compute(), 0.0)


@pytest.mark.parametrize("fn", [rmse, median_error], ids=lambda fn: fn.__name__)
def test_merge_with_metrics_that_saw_nothing(fn: Function) -> None:
    metric = fed(fn, *pair())
    metric.merge_state([bp.exact(fn), bp.exact(fn)])
    same(metric.compute(), fn(*pair()))
    empty = bp.exact(fn)
    empty.merge_state([bp.exact(fn), metric])
    same(empty.compute(), fn(*pair()))
    metric.merge_state([])
    same(metric.compute(), fn(*pair()))
    nothing = bp.exact(fn)
    nothing.merge_state([bp.exact(fn)])
    with pytest.raises(bp.BatchproofError):
        nothing.compute()


def test_updates_after_a_merge() -> None:
    pred, real = pair()
    for first in (1, 50, 150):
        metric, other = fed(r2, pred[:first], real[:first]), fed(r2, pred[first:160], real[first:160])
        metric.merge_state([other])
        metric.update(pred[160:], real[160:])
        same(metric.compute(), r2(pred, real))
        other.update(pred[:first], real[:first])
        same(other.compute(), r2(*(torch.cat([a[first:160], a[:first]]) for a in (pred, real))))


def ways(metric: bp.Exact, fn: Function) -> dict[str, bp.Exact]:
    loaded, saved = bp.exact(fn), bp.exact(fn)
    loaded.load_state_dict(metric.state_dict())
    buffer = io.BytesIO()
    torch.save(metric.state_dict(), buffer)
    buffer.seek(0)
    saved.load_state_dict(torch.load(buffer, weights_only=False))
    return {
        "state_dict": loaded,
        "torch.save": saved,
        "pickle": pickle.loads(pickle.dumps(metric)),
        "deepcopy": copy.deepcopy(metric),
        "copy of a copy": pickle.loads(pickle.dumps(copy.deepcopy(metric))),
    }


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seen", [0, 31, 100])
@pytest.mark.parametrize("fn", [r2, pearson, range_error, median_error], ids=lambda fn: fn.__name__)
def test_copies_carry_on(fn: Function, seen: int) -> None:
    pred, real = pair()
    metric = fed(fn, pred[:seen], real[:seen]) if seen else bp.exact(fn)
    for name, twin in ways(metric, fn).items():
        assert twin.n_samples == seen, name
        for piece in split((pred[seen:], real[seen:]), (1, 64)):
            twin.update(*piece)
        same(twin.compute(), fn(pred, real))
    if seen:
        same(metric.compute(), fn(pred[:seen], real[:seen]))


ANOTHER_PROCESS = """
import pickle, sys, torch
sys.path[:0] = [{tests!r}, {source!r}]
import batchproof as bp, functions
metrics = []
for name in {names!r}:
    metric = bp.exact(getattr(functions, name))
    for lo, hi in ((0, 64), (64, 65), (65, 120)):
        metric.update(*(a[lo:hi] for a in functions.pair()))
    metrics.append(metric)
pickle.dump((metrics, [metric.state_dict() for metric in metrics]), open({out!r}, "wb"))
"""


def test_a_state_from_another_process(tmp_path: Path) -> None:
    """A checkpoint is loaded by a process that never saw its samples, and derives the same plan from what is in it."""
    functions = [rmse, r2, pearson, range_error, log_mean_exp, median_error]
    script = ANOTHER_PROCESS.format(
        tests=str(Path(__file__).parents[1]),
        source=str(Path(bp.__file__).parent.parent),
        names=[fn.__name__ for fn in functions],
        out=str(tmp_path / "metrics"),
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    metrics, states = pickle.loads((tmp_path / "metrics").read_bytes())
    pred, real = pair()
    for fn, metric, state in zip(functions, metrics, states):
        loaded = bp.exact(fn)
        loaded.load_state_dict(state)
        twin = fed(fn, pred[:50] + 3, real[:50])
        twin.merge_state([metric])
        both = (torch.cat([a[:50] + b, a[:120]]) for a, b in ((pred, 3), (real, 0)))
        same(twin.compute(), fn(*both), 1e-8)
        for ours in (metric, loaded):
            assert ours.n_samples == 120
            ours.update(pred[120:], real[120:])
            same(ours.compute(), fn(pred, real))


@pytest.mark.parametrize("seen", [5, 100])
@pytest.mark.parametrize("fn", [r2, median_error], ids=lambda fn: fn.__name__)
def test_a_state_dict_is_a_copy(fn: Function, seen: int) -> None:
    pred, real = pair()
    metric = fed(fn, pred[:seen], real[:seen])
    state = metric.state_dict()
    metric.update(pred[seen:], real[seen:])
    restored = bp.exact(fn)
    restored.load_state_dict(state)
    same(restored.compute(), fn(pred[:seen], real[:seen]))
    for tensor in tensors(state):
        tensor.zero_()
    same(metric.compute(), fn(pred, real))
    same(copy.deepcopy(metric).compute(), fn(pred, real))
    same(restored.compute(), fn(pred[:seen], real[:seen]))


def test_load_state_dict_replaces() -> None:
    metric = fed(rmse, *(a + torch.arange(200) for a in pair()))
    metric.load_state_dict(fed(rmse, *pair()).state_dict())
    same(metric.compute(), rmse(*pair()))


def test_to() -> None:
    metric = fed(rmse, *pair())
    assert metric.to("cpu") is metric
    assert metric.to(torch.device("cpu")) is metric
    metric.update(*pair())
    same(metric.compute(), rmse(*pair()))
    early = bp.exact(rmse).to("cpu")
    early.update(*pair())
    same(early.compute(), rmse(*pair()))


# ------------------------------------------------------------------ over="samples"


def noise_ratio(a: Tensor, b: Tensor) -> Tensor:
    return -10 * torch.log10((a - b).pow(2).mean())


@pytest.mark.parametrize("fn", [noise_ratio, rmse], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("sizes", [RAGGED, (1,) * 50, (200,)], ids=["ragged", "ones", "all"])
def test_over_samples(fn: Function, sizes: tuple[int, ...]) -> None:
    a, b = normal(200, 3, 4), normal(200, 3, 4, seed=4)
    expected = torch.stack([fn(a[i : i + 1], b[i : i + 1]) for i in range(200)]).mean(0)
    metric = fed(fn, a, b, sizes=sizes, over="samples")
    same(metric.compute(), expected)
    assert metric.plan.is_constant_size
    assert (metric.compute() - fn(a, b)).abs() > 1e-3, "another quantity than over the data set"


def test_over_samples_of_what_keeps_a_shape() -> None:
    def fn(a: Tensor, b: Tensor) -> dict[str, Any]:
        return {"each": (a - b).pow(2).mean((0, 2)).sqrt(), "largest": (a - b).abs().max()}

    a, b = normal(100, 3, 4), normal(100, 3, 4, seed=4)
    single = [fn(a[i : i + 1], b[i : i + 1]) for i in range(100)]
    expected = {key: torch.stack([value[key] for value in single]).mean(0) for key in single[0]}
    same(fed(fn, a, b, over="samples").compute(), expected)


def stateful_squeeze(x: Tensor) -> Tensor:
    return x.squeeze().pow(2).sum().sqrt()


@table(
    ("branch", lambda x: x.sum() if x.max() > 1 else x.min()),
    ("item", lambda x: x.mean() * x.max().item()),
    ("float", lambda x: float(x.max())),
    ("int", lambda x: int((x > 0).sum())),
    ("bool", lambda x: (x > 1.5).any()),
    ("count", lambda x: (x > 0).sum()),
    ("squeeze", stateful_squeeze),
    ("numpy", lambda x: float(np.median(x.numpy()))),
    ("samples", lambda x: x.sum() / x.shape[0] + len(x)),
    ("one row of it", lambda x: x[0].max() - x[-1].min()),
    ("rank", lambda x: x.sort(1).values[:, 1].mean()),
    ("deviation", lambda x: x.std()),
    ("deviation over the batch", lambda x: x.var(0, unbiased=False).sum() + x.sum()),
    ("in place", lambda x: x.clone().masked_fill_(x < 0, 0).mean()),
    ("written to", lambda x: x.clamp_(min=0).mean()),
    ("selected", lambda x: x[x > 0].sum()),
    ("length of a selection", lambda x: x.sum() / (1 + len(x[x > 0]))),
    ("dictionary", lambda x: {"a": x.max(), "b": x.mean(1)}),
    ("tuple", lambda x: (x.max(), x.amin(0))),
    ("classes", lambda x: torch.bincount(x.argmax(1), minlength=4)),
    ("a loop", lambda x: sum(row.norm() for row in x)),
    ("NaN on some", lambda x: x[x > 2].mean()),
    ("a comprehension", lambda x: torch.stack([v.abs().max() for v in x.unbind(0)]).mean()),
    ("a shared constant", lambda x: (x @ torch.ones(4, dtype=x.dtype)).pow(2).mean()),
)
@pytest.mark.parametrize("way", ["update", "__call__"])
def test_over_samples_is_the_mean_of_single_values(fn: Function, way: str) -> None:
    x = normal(120, 4)
    metric = bp.exact(fn, over="samples")
    try:
        for (piece,) in split((x,), (50, 1, 7)):
            getattr(metric, way)(piece)
        got = metric.compute()
    except bp.BatchproofError:
        return
    single = [fn(x[i : i + 1].clone()) for i in range(120)]
    keys = single[0] if isinstance(single[0], dict) else range(len(single[0])) if isinstance(single[0], tuple) else None
    pairs = [(got, single)] if keys is None else [(got[key], [value[key] for value in single]) for key in keys]
    for mine, theirs in pairs:
        mean = torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in theirs]).mean(0)
        problem = difference(torch.as_tensor(mine).double(), mean, 1e-6)
        assert problem is None, problem


def test_over_samples_of_random_functions_is_refused() -> None:
    with pytest.raises(bp.BatchproofError):
        fed(lambda x: F.dropout(x, 0.5).sum(), normal(100, 3), over="samples").compute()


def test_over_samples_the_call_and_the_merge() -> None:
    a, b = normal(200, 3), normal(200, 3, seed=4)
    single = torch.stack([rmse(a[i : i + 1], b[i : i + 1]) for i in range(200)])
    metric, other = bp.exact(rmse, over="samples"), bp.exact(rmse, over="samples")
    leaf = a[:64].clone().requires_grad_()
    value = metric(leaf, b[:64])
    same(value.detach(), single[:64].mean())
    value.backward()
    assert leaf.grad is not None
    other.update(a[64:], b[64:])
    metric.merge_state([other])
    same(metric.compute(), single.mean())


# ------------------------------------------------------------------ state=


def test_state_rows_keeps_samples() -> None:
    metric = fed(rmse, *pair(), state="rows")
    same(metric.compute(), rmse(*pair()), 0.0)
    assert not metric.plan.is_constant_size


def test_state_constant() -> None:
    metric = fed(rmse, *pair(), state="constant")
    same(metric.compute(), rmse(*pair()))
    assert metric.plan.is_constant_size


def test_state_constant_refuses_with_the_reason_and_the_line() -> None:
    with pytest.raises(bp.BatchproofError, match="median") as caught:
        fed(median_error, *pair(), state="constant").compute()
    assert "functions.py" in str(caught.value)


def test_state_auto_says_which() -> None:
    assert fed(rmse, *pair()).plan.is_constant_size
    plan = fed(median_error, *pair()).plan
    assert not plan.is_constant_size
    assert "median" in str(plan.reason)


def test_constant_size_is_constant() -> None:
    """The state of ten times the samples has the same number of bytes."""

    def nbytes(metric: bp.Exact) -> int:
        return sum(tensor.nbytes for tensor in tensors(metric.state_dict()))

    few, many = fed(r2, *pair(100)), fed(r2, *pair(4000), sizes=(64,) * 60)
    assert nbytes(few) == nbytes(many)
    assert few.plan.nbytes == many.plan.nbytes < 500
    kept = [fed(median_error, *pair(n)) for n in (100, 1000)]
    assert nbytes(kept[1]) - nbytes(kept[0]) == 900 * kept[1].plan.row_nbytes > 0


def test_a_plan_prints_like_a_report() -> None:
    metric = fed(r2, *pair())
    text = str(metric.plan)
    assert "bytes" in text
    assert "sum" in text
    assert "functions.py" in text


# ------------------------------------------------------------------ batch_dim


def test_batch_dim_of_one() -> None:
    def fn(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).pow(2).mean(1).sqrt().sum()

    promise(fn, normal(3, 200), normal(3, 200, seed=4), dims=1, constant=True)


def test_batch_dim_of_minus_one() -> None:
    promise(lambda a: (a - a.mean(-1, keepdim=True)).pow(2).mean(), normal(3, 4, 200), dims=-1, refuse=False)


def test_batch_dim_for_each_argument() -> None:
    def fn(scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return F.cross_entropy(scores.t(), y, weight=weight)

    weight = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    promise(fn, normal(4, 200), labels(200), weight, dims=(1, 0, None), constant=True)


def test_a_shared_argument_as_long_as_the_batch() -> None:
    weight = normal(64).abs()
    promise(lambda x, w: ((x * w).sum(1)).pow(2).mean().sqrt(), normal(200, 64), weight, dims=(0, None), constant=True)
    promise(lambda x, w: x.mean() * w.mean(), normal(200), weight, dims=(0, None), constant=True)


def test_shared_arguments_that_are_not_tensors() -> None:
    promise(
        lambda x, p, how: (x.abs() ** p).mean() if how == "mean" else x.sum(),
        normal(200),
        1.5,
        "mean",
        dims=(0, None, None),
    )


# ------------------------------------------------------------------ what goes in


def test_a_dictionary_of_tensors() -> None:
    def fn(batch: dict[str, Any]) -> Tensor:
        return F.cross_entropy(batch["scores"], batch["inner"][0], reduction="sum") / batch["inner"][1].sum()

    batch = {"scores": normal(200, 4), "inner": (labels(200), normal(200).abs())}
    promise(fn, batch, constant=True)


def test_a_list_of_tensors() -> None:
    promise(lambda pair: (pair[0] - pair[1]).pow(2).mean().sqrt(), [normal(200), normal(200, seed=4)], constant=True)


def test_numpy_arrays() -> None:
    p, y = (a.numpy() for a in pair())
    promise(lambda p, y: float(np.sqrt(((p - y) ** 2).mean())), p, y, refuse=False)
    promise(lambda p, y: torch.as_tensor(p).sub(torch.as_tensor(y)).abs().mean(), p, y, refuse=False)


def test_lists_of_numbers() -> None:
    y, p = labels(200, seed=1).tolist(), labels(200, seed=2).tolist()
    promise(lambda y, p: sum(a == b for a, b in zip(y, p, strict=True)) / len(y), y, p, refuse=False)


@table(
    ("f1", lambda y, p: sklearn.metrics.f1_score(y, p, average="macro")),
    ("kappa", sklearn.metrics.cohen_kappa_score),
    ("balanced accuracy", sklearn.metrics.balanced_accuracy_score),
    ("confusion", sklearn.metrics.confusion_matrix),
)
@pytest.mark.parametrize("kind", ["tensor", "array", "list"])
def test_scikit_learn(fn: Function, kind: str) -> None:
    y, p = labels(200, seed=1), labels(200, seed=2)
    change: Function = {"tensor": lambda a: a, "array": lambda a: a.numpy(), "list": lambda a: a.tolist()}[kind]
    promise(fn, change(y), change(p), refuse=False)


def test_scikit_learn_as_it_is() -> None:
    y, p = labels(200, high=2, seed=1), labels(200, high=2, seed=2)
    metric = fed(sklearn.metrics.f1_score, y, p)
    assert metric.compute() == sklearn.metrics.f1_score(y, p)
    metric = fed(sklearn.metrics.roc_auc_score, y, normal(200).abs())
    assert metric.compute() == sklearn.metrics.roc_auc_score(y, normal(200).abs())


# ------------------------------------------------------------------ what a function may be


def power_error(pred: Tensor, real: Tensor, power: float = 2.0) -> Tensor:
    return ((pred - real).abs() ** power).mean() ** (1 / power)


class Scaled(nn.Module):
    """A loss with a parameter and a buffer."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.register_buffer("offset", torch.tensor(0.3, dtype=torch.float64))

    def forward(self, pred: Tensor, real: Tensor) -> Tensor:
        return torch.log1p((self.scale * (pred - real) + self.offset).pow(2).mean())


class Callable_:
    """An object that is called, and that keeps its settings."""

    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, pred: Tensor, real: Tensor) -> Tensor:
        return power_error(pred, real, self.power)

    def method(self, pred: Tensor, real: Tensor) -> Tensor:
        return power_error(pred, real, self.power)


@table(
    ("partial", functools.partial(power_error, power=3.0)),
    ("lambda", lambda p, y: power_error(p, y, 4)),
    ("module", Scaled()),
    ("object", Callable_(1.5)),
    ("method", Callable_(1.5).method),
    ("wrapped", functools.wraps(power_error)(lambda p, y: power_error(p, y))),
    ("builtin", torch.dist),
    ("module of torch", nn.MSELoss(reduction="sum")),
    ("module inside a module", nn.HuberLoss(delta=0.3)),
)
def test_what_a_function_may_be(fn: Function) -> None:
    metric = fed(fn, *pair())
    same(metric.compute(), fn(*pair()).detach())
    assert metric.plan.is_constant_size


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_class_weights_and_smoothing(smoothing: float, reduction: str) -> None:
    weight = torch.tensor([0.2, 1.0, 3.0, 0.5], dtype=torch.float64)
    loss = nn.CrossEntropyLoss(weight=weight, ignore_index=2, label_smoothing=smoothing, reduction=reduction)
    promise(loss, normal(200, 4), labels(200), constant=True)


def test_a_modules_parameters_take_gradients() -> None:
    loss, (pred, real) = Scaled(), pair()
    metric = bp.exact(loss)
    metric(pred[:100], real[:100]).backward()
    assert loss.scale.grad is not None
    mine, loss.scale.grad = loss.scale.grad.clone(), None
    loss(pred[:100], real[:100]).backward()
    same(mine, loss.scale.grad, 1e-12)


def test_keyword_arguments_with_defaults_stay_as_they_are() -> None:
    promise(power_error, *pair(), constant=True)


def test_one_state_serves_all_values() -> None:
    def fn(p: Tensor, y: Tensor) -> dict[str, Any]:
        error = p - y
        return {"mse": error.pow(2).mean(), "rmse": error.pow(2).mean().sqrt(), "bias": error.mean(), "r2": r2(p, y)}

    promise(fn, *pair(), constant=True)


# ------------------------------------------------------------------ standard_error


def test_standard_error_of_a_mean() -> None:
    x = normal(4000)
    metric = fed(lambda x: x.mean(), x, sizes=(50,) * 80)
    known = x.std().item() / math.sqrt(4000)
    assert 0.5 * known < float(metric.standard_error()) < 1.7 * known
    same(metric.compute(), x.mean())


@pytest.mark.parametrize("fn", [rmse, r2, pearson], ids=lambda fn: fn.__name__)
def test_standard_error_against_the_bootstrap(fn: Function) -> None:
    pred, real = pair(3000)
    metric = fed(fn, pred, real, sizes=(64,) * 50)
    draws = torch.randint(0, 3000, (300, 3000), generator=torch.Generator().manual_seed(0))
    known = torch.stack([fn(pred[i], real[i]) for i in draws]).std().item()
    assert 0.5 * known < float(metric.standard_error()) < 1.7 * known


def test_standard_error_of_each_value() -> None:
    p, y = pair(2000)
    metric = fed(
        lambda p, y: {"bias": (p - y).mean(), "both": torch.stack([p.mean(), y.mean()])}, p, y, sizes=(50,) * 40
    )
    error = metric.standard_error()
    assert set(error) == {"bias", "both"}
    assert error["both"].shape == (2,)
    known = torch.stack([p.std(), y.std()]) / math.sqrt(2000)
    assert ((error["both"] > 0.4 * known) & (error["both"] < 1.9 * known)).all()


def test_standard_error_after_a_merge_and_a_copy() -> None:
    x = normal(3000)
    known = x.std().item() / math.sqrt(3000)
    metric = fed(torch.mean, x[:1000], sizes=(50,) * 20)
    metric.merge_state([fed(torch.mean, x[1000:], sizes=(50,) * 40)])
    for twin in (metric, copy.deepcopy(metric)):
        assert 0.4 * known < float(twin.standard_error()) < 1.9 * known


def test_standard_error_needs_data() -> None:
    metric = bp.exact(rmse)
    with pytest.raises(bp.BatchproofError):
        metric.standard_error()


def test_standard_error_with_kept_samples() -> None:
    p, y = pair(1000)
    metric = fed(median_error, p, y, sizes=(20,) * 50)
    try:
        error = float(metric.standard_error())
    except bp.BatchproofError:
        return
    draws = torch.randint(0, 1000, (200, 1000), generator=torch.Generator().manual_seed(0))
    known = torch.stack([median_error(p[i], y[i]) for i in draws]).std().item()
    assert 0.3 * known < error < 3 * known


# ------------------------------------------------------------------ other libraries' functions

TORCHMETRICS = (
    ("mean squared", tm.mean_squared_error),
    ("r2", tm.r2_score),
    ("pearson", tm.pearson_corrcoef),
    ("concordance", tm.concordance_corrcoef),
    ("explained variance", tm.explained_variance),
    ("relative squared", tm.relative_squared_error),
    ("weighted absolute percentage", tm.weighted_mean_absolute_percentage_error),
    ("cosine", lambda p, y: tm.cosine_similarity(p.reshape(-1, 1), y.reshape(-1, 1))),
)
CLASSES = (
    ("accuracy", lambda s, y: tm.accuracy(s, y, task="multiclass", num_classes=4)),
    ("macro f1", lambda s, y: tm.f1_score(s, y, task="multiclass", num_classes=4, average="macro")),
    ("kappa", lambda s, y: tm.cohen_kappa(s, y, task="multiclass", num_classes=4)),
    ("matthews", lambda s, y: tm.matthews_corrcoef(s, y, task="multiclass", num_classes=4)),
    ("jaccard", lambda s, y: tm.jaccard_index(s, y, task="multiclass", num_classes=4)),
    ("calibration", lambda s, y: tm.calibration_error(s.softmax(1), y, task="multiclass", num_classes=4, n_bins=10)),
    ("confusion", lambda s, y: tm.confusion_matrix(s, y, task="multiclass", num_classes=4)),
    ("hinge", lambda s, y: tm.hinge_loss(s, y, task="multiclass", num_classes=4)),
    ("ours", macro_f1),
)


@table(*TORCHMETRICS)
def test_torchmetrics_of_regression(fn: Function) -> None:
    promise(fn, *pair(), constant=True)


@table(*CLASSES)
def test_torchmetrics_of_classification(fn: Function) -> None:
    promise(fn, normal(200, 4), labels(200), refuse=False, rtol=1e-5)


@table(
    ("area under the curve", lambda p, y: tm.auroc(p.sigmoid(), (y > 0).long(), task="binary")),
    ("spearman", tm.spearman_corrcoef),
    ("kendall", lambda p, y: tm.kendall_rank_corrcoef(p[:60], y[:60])),
)
def test_torchmetrics_of_rank_keep_samples(fn: Function) -> None:
    assert promise(fn, *pair(), refuse=False).kind == "rows"


REFERENCES = (
    ("r2", r2, lambda p, y: sklearn.metrics.r2_score(y, p)),
    ("mean squared", F.mse_loss, sklearn.metrics.mean_squared_error),
    ("root", rmse, sklearn.metrics.root_mean_squared_error),
    ("absolute percentage", lambda p, y: ((p - y) / y).abs().mean(),
     lambda p, y: sklearn.metrics.mean_absolute_percentage_error(y, p)),
    ("explained variance", lambda p, y: 1 - (y - p).var() / y.var(),
     lambda p, y: sklearn.metrics.explained_variance_score(y, p)),
    ("largest", lambda p, y: (p - y).abs().max(), sklearn.metrics.max_error),
    ("d2", lambda p, y: 1 - (p - y).pow(2).sum() / (y - y.mean()).pow(2).sum(),
     lambda p, y: sklearn.metrics.d2_tweedie_score(y, p)),
)  # fmt: skip


@pytest.mark.parametrize(("fn", "reference"), [row[1:] for row in REFERENCES], ids=[row[0] for row in REFERENCES])
def test_agrees_with_scikit_learn(fn: Function, reference: Function) -> None:
    p, y = pair()
    metric = fed(fn, p, y)
    assert float(metric.compute()) == pytest.approx(float(reference(p.numpy(), y.numpy())), rel=1e-10)
    assert metric.plan.is_constant_size
