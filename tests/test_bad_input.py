"""Bad input: an error that names the argument, the shape and what to do, and a state as it was before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import batchproof as bp
from functions import labels, median_error, normal, pair, r2, rmse
from promise import Function, difference, split

WARM = {"warm-up": 5, "folded": 100}


def weighted(pred: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    return (weight * (pred - real) ** 2).sum() / weight.sum()


def started(fn: Function, seen: int, **options: Any) -> bp.Exact:
    metric = bp.exact(fn, **options)
    if seen:
        metric.update(*(a[:seen] for a in pair()))
    return metric


def refused(action: Callable[[], Any], *words: str) -> str:
    with pytest.raises(bp.BatchproofError) as caught:
        action()
    text = str(caught.value)
    for word in words:
        assert word in text, f"{word!r} is not in:\n{text}"
    assert caught.value.__class__.__module__.startswith("batchproof")
    return text


def folded(metric: bp.Exact, *batch: Any) -> Any:
    metric.update(*batch)
    return metric.compute()


def unchanged(metric: bp.Exact, fn: Function, seen: int) -> None:
    """The bad batch left no trace: not in the value, not in the count, not in what comes later."""
    pred, real = pair()
    assert metric.n_samples == seen
    if seen:
        assert difference(metric.compute(), fn(pred[:seen], real[:seen])) is None
    for piece in split((pred[seen:], real[seen:]), (1, 40)):
        metric.update(*piece)
    assert metric.n_samples == 200
    assert difference(metric.compute(), fn(pred, real)) is None


each_stage = pytest.mark.parametrize("seen", [0, 5, 100], ids=["new", "warm-up", "folded"])
each_function = pytest.mark.parametrize("fn", [rmse, r2, median_error], ids=lambda fn: fn.__name__)
each_way = pytest.mark.parametrize("way", ["update", "__call__"])


def bad_batches() -> dict[str, tuple[tuple[Any, ...], tuple[str, ...]]]:
    return {
        "no batch dimension": ((torch.tensor(3.0).double(), normal(8)), ("pred", "()")),
        "no batch dimension, second": ((normal(8), torch.tensor(3.0).double()), ("real", "()")),
        "sizes disagree": ((normal(8), normal(9)), ("pred", "real", "8", "9")),
        "sizes disagree by one to many": ((normal(1), normal(9)), ("pred", "real", "1", "9")),
        "empty": ((normal(0), normal(0)), ("pred", "(0,)")),
    }


@each_stage
@each_way
@each_function
@pytest.mark.parametrize("case", bad_batches())
def test_bad_batches(case: str, fn: Function, way: str, seen: int) -> None:
    batch, words = bad_batches()[case]
    metric = started(fn, seen)
    refused(lambda: getattr(metric, way)(*batch), *words)
    unchanged(metric, fn, seen)


@each_stage
@each_way
@pytest.mark.parametrize("value", [3.0, None, "eight"], ids=str)
def test_what_is_neither_tensor_nor_array_nor_list(value: Any, way: str, seen: int) -> None:
    """An option of the function may be shared by all batches; where tensors came before, it is a mistake."""
    metric = started(rmse, seen)
    if seen:
        refused(lambda: getattr(metric, way)(normal(8), value), "real")
        unchanged(metric, rmse, seen)
        return
    try:
        getattr(metric, way)(normal(8), value)
        assert difference(metric.compute(), rmse(normal(8), value)) is None
    except (TypeError, bp.BatchproofError):
        pass


@pytest.mark.parametrize("seen", WARM.values(), ids=WARM)
@each_way
@each_function
@pytest.mark.parametrize("case", ["float32", "int64", "two dimensions", "meta"])
def test_batches_unlike_the_first(case: str, fn: Function, way: str, seen: int) -> None:
    pred, real = (normal(8), normal(8, seed=4))
    batch, words = {
        "float32": ((pred.float(), real), ("pred", "float32", "float64")),
        "int64": ((pred, real.long()), ("real", "int64", "float64")),
        "two dimensions": ((pred.reshape(4, 2), real.reshape(4, 2)), ("pred", "(4, 2)")),
        "meta": ((pred.to("meta"), real.to("meta")), ("pred", "meta", "cpu")),
    }[case]
    metric = started(fn, seen)
    try:
        refused(lambda: getattr(metric, way)(*batch), *words)
    except pytest.fail.Exception:
        # A second dtype or shape may be folded, so long as the value is that of all samples at once.
        assert case in ("float32", "int64", "two dimensions"), "a batch on another device was taken"
        if metric.n_samples == seen + len(batch[0]):
            everything = [torch.cat([a[:seen].flatten(), b.flatten()]) for a, b in zip(pair(), batch, strict=True)]
            assert difference(metric.compute(), fn(*everything), 1e-6) is None
        return
    unchanged(metric, fn, seen)


@each_stage
def test_too_many_and_too_few_arguments(seen: int) -> None:
    metric = started(rmse, seen)
    for batch in ((normal(8),), (normal(8), normal(8), normal(8))):
        with pytest.raises((TypeError, bp.BatchproofError)):
            metric.update(*batch)
    unchanged(metric, rmse, seen)
    with pytest.raises((TypeError, bp.BatchproofError)):
        metric.update()
    unchanged(started(rmse, 0), rmse, 0)


def test_features_that_would_broadcast() -> None:
    """Samples of three numbers and of one cannot be put together, whatever the function would make of them."""
    pred, real = normal(100, 3), normal(100, 3, seed=4)
    for bad in ((pred[:8], real[:8, :1]), (pred[:8, :1], real[:8, :1]), (pred[:8, :2], real[:8, :2])):
        metric = bp.exact(rmse)
        metric.update(pred, real)
        try:
            value = folded(metric, *bad)
        except bp.BatchproofError:
            continue
        wide = torch.broadcast_tensors(*bad)
        flat = [torch.cat([a.flatten(), b.flatten()]) for a, b in zip((pred, real), wide, strict=True)]
        assert difference(value, rmse(*flat)) is None, "neither refused nor pooled"


def test_a_dictionary_in_another_order() -> None:
    metric = bp.exact(lambda batch: F.mse_loss(batch["pred"], batch["real"] * 2).sqrt())
    pred, real = pair()
    metric.update({"pred": pred[:100], "real": real[:100]})
    try:
        metric.update({"real": real[100:], "pred": pred[100:]})
    except bp.BatchproofError:
        metric.update({"pred": pred[100:], "real": real[100:]})
    assert difference(metric.compute(), F.mse_loss(pred, real * 2).sqrt()) is None


@pytest.mark.parametrize("way", ["update", "__call__"])
def test_labels_out_of_range_in_a_later_batch(way: str) -> None:
    scores, y = normal(200, 4), labels(200)
    metric = bp.exact(lambda s, y: F.cross_entropy(s, y))
    metric.update(scores[:100], y[:100])
    with pytest.raises((IndexError, RuntimeError, bp.BatchproofError)):
        getattr(metric, way)(scores[100:150], y[100:150] + 3)
    assert metric.n_samples == 100
    metric.update(scores[100:], y[100:])
    assert difference(metric.compute(), F.cross_entropy(scores, y)) is None


def test_a_function_for_one_batch_size_only() -> None:
    """It gives no value on all samples at once, so none is given."""
    weight = normal(50)
    metric = bp.exact(lambda x: (x * weight).mean())
    metric.update(normal(50))
    with pytest.raises((RuntimeError, bp.BatchproofError)):
        folded(metric, normal(50, seed=6))


def test_keyword_arguments() -> None:
    pred, real = pair()
    metric = bp.exact(lambda pred, *, real, power=2.0: (pred - real).abs().pow(power).mean())
    for lo, hi in ((0, 60), (60, 61), (61, 200)):
        metric.update(pred[lo:hi], real=real[lo:hi])
    assert difference(metric.compute(), (pred - real).pow(2).mean()) is None
    refused(lambda: metric.update(pred[:8], real=real[:9]), "real", "8", "9")
    for again in ({"real": real, "pred": pred + 1}, {"pred": pred + 1, "real": real}):
        twin = bp.exact(lambda pred, real: (pred - 2 * real).abs().mean())
        twin.update(pred=pred, real=real)
        try:
            twin.update(**again)
        except bp.BatchproofError:
            continue
        both = torch.cat([pred, pred + 1]) - 2 * torch.cat([real, real])
        assert difference(twin.compute(), both.abs().mean()) is None
    refused(lambda: metric.update(pred[:8], real=real[:8], power=3.0), "power")
    assert metric.n_samples == 200


def test_three_arguments_the_wrong_one_is_named() -> None:
    metric = bp.exact(weighted)
    refused(lambda: metric.update(normal(8), normal(8), normal(6)), "weight", "6", "8")
    refused(lambda: metric.update(normal(8), normal(8), torch.ones(())), "weight")


def test_inside_a_dictionary_the_entry_is_named() -> None:
    metric = bp.exact(lambda batch: F.mse_loss(batch["pred"], batch["real"]))
    refused(lambda: metric.update({"pred": normal(8), "real": normal(7)}), "real", "7", "8")
    metric.update({"pred": normal(40), "real": normal(40)})
    refused(lambda: metric.update({"pred": normal(8), "other": normal(8)}), "other")
    assert metric.n_samples == 40


def test_the_message_says_what_to_do_about_shared_arguments() -> None:
    metric = bp.exact(weighted)
    refused(lambda: metric.update(normal(8), normal(8), torch.tensor(1.0)), "weight", "batch_dim", "None")


def test_shared_arguments_that_change() -> None:
    """The value on all samples has one weight: two are refused, or kept apart; never mixed."""
    metric = bp.exact(lambda x, w: (x * w).pow(3).mean(), batch_dim=(0, None))
    x = normal(200)
    metric.update(x[:100], torch.tensor(2.0))
    refused(lambda: metric.update(x[100:], torch.tensor(3.0)), "w")
    assert metric.n_samples == 100
    assert difference(metric.compute(), (x[:100] * 2).pow(3).mean()) is None


# ------------------------------------------------------------------ errors of the function itself


class OutOfRange(Exception):
    """The user's own."""


def picky(pred: Tensor, real: Tensor) -> Tensor:
    if (pred > 1e6).any():
        raise OutOfRange("prediction above a million")
    return (pred - real).pow(2).mean().sqrt()


@each_stage
def test_a_function_that_raises(seen: int) -> None:
    metric = started(picky, seen)
    bad = normal(8) + 1e7
    with pytest.raises(OutOfRange, match=r"^prediction above a million$"):
        metric(bad, bad)
    assert metric.n_samples == seen
    try:
        metric.update(bad, bad)
        metric.compute()
    except (OutOfRange, bp.BatchproofError):
        pass
    else:
        pytest.fail("a value for samples on which the function raises")


@pytest.mark.parametrize("seen", [0, 40, 100])
def test_a_function_that_raises_leaves_the_state(seen: int) -> None:
    metric = started(picky, seen)
    bad = normal(40) + 1e7
    with pytest.raises((OutOfRange, bp.BatchproofError)):
        metric(bad, bad)
    unchanged(metric, picky, seen)


def test_a_function_that_always_raises() -> None:
    def broken(x: Tensor) -> Tensor:
        raise KeyError("nothing here")

    metric = bp.exact(broken)
    with pytest.raises(KeyError, match="nothing here"):
        metric(normal(50))
    with pytest.raises((KeyError, bp.BatchproofError)):
        folded(metric, normal(50))


def test_shapes_that_the_function_itself_refuses() -> None:
    metric = bp.exact(lambda s, y: F.cross_entropy(s, y))
    with pytest.raises((IndexError, RuntimeError, bp.BatchproofError)):
        metric(normal(50, 4), labels(50) + 10)
    metric.update(normal(50, 4), labels(50))
    assert difference(metric.compute(), F.cross_entropy(normal(50, 4), labels(50))) is None


# ------------------------------------------------------------------ compute, merge and load


@pytest.mark.parametrize("state", ["auto", "rows", "constant"])
def test_compute_before_any_data(state: str) -> None:
    metric = bp.exact(rmse, state=state)
    refused(metric.compute, "update")
    metric.update(*pair())
    assert difference(metric.compute(), rmse(*pair())) is None


def mismatches() -> dict[str, Any]:
    other = bp.exact(rmse, batch_dim=(1, 1))
    other.update(normal(3, 50), normal(3, 50))
    samples = bp.exact(rmse, over="samples")
    samples.update(normal(50), normal(50))
    wide = bp.exact(weighted)
    wide.update(normal(50), normal(50), normal(50).abs())
    return {
        "another function": started(r2, 100),
        "another function, same state": started(lambda p, y: (p - y).abs().mean(), 100),
        "another function in warm-up": started(r2, 5),
        "other arguments": wide,
        "over samples": samples,
        "another batch dimension": other,
        "not a metric": 3.0,
        "a state dictionary": started(rmse, 100).state_dict(),
    }


@pytest.mark.parametrize("seen", WARM.values(), ids=WARM)
@pytest.mark.parametrize("case", mismatches())
def test_merge_of_states_that_do_not_fit(case: str, seen: int) -> None:
    metric = started(rmse, seen)
    refused(lambda: metric.merge_state([mismatches()[case]]))
    unchanged(metric, rmse, seen)


@pytest.mark.parametrize("seen", WARM.values(), ids=WARM)
def test_merge_of_states_of_another_type(seen: int) -> None:
    metric, other = started(rmse, seen), bp.exact(rmse)
    other.update(*(a[100:].float() for a in pair()))
    refused(lambda: metric.merge_state([other]))
    unchanged(metric, rmse, seen)


def weighing(weight: float) -> torch.nn.Module:
    return torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, weight, 0.5, 2.0], dtype=torch.float64))


@pytest.mark.parametrize("seen", WARM.values(), ids=WARM)
def test_merge_and_load_of_a_loss_with_other_class_weights(seen: int) -> None:
    """The sum of two weightings is the value of neither."""
    scores, y = normal(200, 4), labels(200)
    metric, other = bp.exact(weighing(3.0)), bp.exact(weighing(0.1))
    metric.update(scores[:seen], y[:seen])
    other.update(scores[seen:], y[seen:])
    try:
        metric.merge_state([other])
        value = metric.compute()
    except bp.BatchproofError:
        value = None
    assert value is None or any(difference(value, weighing(w)(scores, y)) is None for w in (3.0, 0.1))
    loaded = bp.exact(weighing(3.0))
    try:
        loaded.load_state_dict(other.state_dict())
        loaded.update(scores[:seen], y[:seen])
        value = loaded.compute()
    except bp.BatchproofError:
        return
    assert any(difference(value, weighing(w)(scores, y)) is None for w in (3.0, 0.1))


def test_merge_with_another_shared_argument() -> None:
    def fn(x: Tensor, weight: Tensor) -> Tensor:
        return (x * weight).pow(2).sum(1).mean().sqrt()

    x = normal(200, 3)
    one, two = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([9.0, 2.0, 3.0]).double()
    for seen in (5, 100):
        metric, other = bp.exact(fn, batch_dim=(0, None)), bp.exact(fn, batch_dim=(0, None))
        metric.update(x[:seen], one)
        other.update(x[seen:], two)
        refused(lambda metric=metric, other=other: metric.merge_state([other]))
        metric.update(x[seen:], one)
        assert difference(metric.compute(), fn(x, one)) is None


def test_one_bad_state_among_good_ones_changes_nothing() -> None:
    metric = started(rmse, 100)
    refused(lambda: metric.merge_state([started(rmse, 50), started(r2, 100)]))
    unchanged(metric, rmse, 100)


def test_merge_with_itself_or_with_one_metric() -> None:
    metric = started(rmse, 100)
    pred, real = (torch.cat([a[:100], a[:100]]) for a in pair())
    try:
        metric.merge_state([metric])
    except bp.BatchproofError:
        unchanged(metric, rmse, 100)
        return
    assert metric.n_samples == 200
    assert difference(metric.compute(), rmse(pred, real)) is None


@pytest.mark.parametrize("seen", [0, 5, 100])
@pytest.mark.parametrize("case", ["another function", "nonsense", "empty", "a list", "other arguments"])
def test_load_of_a_state_that_does_not_fit(case: str, seen: int) -> None:
    metric = started(rmse, seen)
    state: Any = {
        "another function": lambda: started(r2, 100).state_dict(),
        "nonsense": lambda: {"weight": torch.ones(3)},
        "empty": dict,
        "a list": lambda: [1, 2],
        "other arguments": lambda: mismatches()["other arguments"].state_dict(),
    }[case]()
    refused(lambda: metric.load_state_dict(state))
    unchanged(metric, rmse, seen)


# ------------------------------------------------------------------ the options of exact


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"over": "nonsense"}, ("over", "nonsense", "dataset", "samples")),
        ({"state": "nonsense"}, ("state", "nonsense", "auto", "rows", "constant")),
        ({"over": None}, ("over", "dataset")),
        ({"state": 3}, ("state", "auto")),
        ({"batch_dim": "0"}, ("batch_dim",)),
        ({"batch_dim": 0.5}, ("batch_dim",)),
        ({"batch_dim": None}, ("batch_dim",)),
        ({"batch_dim": (0, "x")}, ("batch_dim",)),
        ({"warmup": -1}, ("warmup", "-1")),
        ({"warmup": "many"}, ("warmup",)),
    ],
    ids=str,
)
def test_options(options: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(lambda: bp.exact(rmse, **options), *words)


@pytest.mark.parametrize("fn", [3, None, "rmse", torch.ones(3)], ids=["int", "None", "str", "tensor"])
def test_what_is_not_a_function(fn: Any) -> None:
    refused(lambda: bp.exact(fn), "function", type(fn).__name__)


def test_no_argument_carries_samples() -> None:
    refused(lambda: bp.exact(rmse, batch_dim=(None, None)).update(normal(40), normal(40)), "samples")


@pytest.mark.parametrize("dim", [1, 3, -2, -5])
def test_batch_dim_out_of_range(dim: int) -> None:
    metric = bp.exact(rmse, batch_dim=dim)
    refused(lambda: metric.update(normal(40), normal(40)), "pred", "(40,)", str(dim))


@pytest.mark.parametrize("dims", [(0,), (0, 0, 0), ()], ids=str)
def test_batch_dim_for_another_number_of_arguments(dims: tuple[int, ...]) -> None:
    def act() -> None:
        metric = bp.exact(rmse, batch_dim=dims)
        metric.update(normal(40), normal(40))

    refused(act, "batch_dim", str(len(dims)))


def test_a_bad_batch_among_good_ones_for_rows() -> None:
    metric = started(rmse, 100, state="rows")
    refused(lambda: metric.update(normal(8), normal(9)), "8", "9")
    unchanged(metric, rmse, 100)


def test_arrays_and_lists_are_named_as_well() -> None:
    metric = bp.exact(lambda a, b: float(np.mean((np.asarray(a) - np.asarray(b)) ** 2)))
    refused(lambda: metric.update(np.zeros(4), np.zeros(5)), "a", "b", "4", "5")
    refused(lambda: metric.update([1.0, 2.0], [1.0]), "2", "1")
    refused(lambda: metric.update([], []))
    metric.update([1.0, 2.0], [1.0, 4.0])
    assert math.isclose(metric.compute(), 2.0)
