"""Many metrics at once: each function's value is that of its own metric, and what they share is folded once."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.classification as tc
from bench.classification import CLASSES, FUNCTIONS
from sklearn import metrics as sk
from torch import Tensor, nn

import batchproof as bp
from batchproof.errors import NotConstantSize
from functions import normal, pearson, r2, rmse

SIZES = (40, 17, 1, 64, 5, 200)
FEW = {name: FUNCTIONS[name] for name in ("accuracy", "recall", "confusion matrix", "kappa")}
PAIR: dict[str, Callable[..., Any]] = {"rmse": rmse, "r2": r2, "pearson": pearson}


def batches(sizes: tuple[int, ...] = SIZES, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for n in sizes:
        labels = torch.randint(CLASSES, (n,), generator=generator)
        noise = torch.randn(n, CLASSES, generator=generator)
        found.append((noise + nn.functional.one_hot(labels, CLASSES), labels))
    return found


def pair(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    real = normal(n, seed=seed)
    return real + 0.5 * normal(n, seed=seed + 1000), real


def joined(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def fed(functions: Any, parts: list[tuple[Tensor, ...]], **options: Any) -> bp.ExactMany:
    metric = bp.exact(functions, **options)
    for part in parts:
        metric.update(*part)
    return metric


def equal(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


# ---------------------------------------------------------------------- the values


def test_classification_as_sklearn_and_torchmetrics_have_it() -> None:
    """Eleven functions, each written in another way."""
    got = fed(FUNCTIONS, batches()).compute()
    logits, real = joined(batches())
    y, p = real.numpy(), logits.argmax(1).numpy()
    pairs = sk.confusion_matrix(y, p)
    negatives = len(y) - pairs.sum(1)
    expected = {
        "accuracy": sk.accuracy_score(y, p),
        "micro F1": sk.f1_score(y, p, average="micro"),
        "balanced accuracy": sk.balanced_accuracy_score(y, p),
        "precision": sk.precision_score(y, p, average="macro"),
        "recall": sk.recall_score(y, p, average="macro"),
        "macro F1": sk.f1_score(y, p, average="macro"),
        "specificity": ((negatives - pairs.sum(0) + pairs.diagonal()) / negatives).mean(),
        "confusion matrix": pairs,
        "Matthews": sk.matthews_corrcoef(y, p),
        "kappa": sk.cohen_kappa_score(y, p),
        "Jaccard": sk.jaccard_score(y, p, average="macro"),
    }
    assert list(got) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name].numpy(), value, rtol=1e-6, err_msg=name)
    theirs = {
        "macro F1": tc.MulticlassF1Score(CLASSES),
        "specificity": tc.MulticlassSpecificity(CLASSES),
        "Jaccard": tc.MulticlassJaccardIndex(CLASSES),
        "Matthews": tc.MulticlassMatthewsCorrCoef(CLASSES),
    }
    for name, metric in theirs.items():
        for part in batches():
            metric.update(*part)
        torch.testing.assert_close(got[name], metric.compute(), msg=name)


@pytest.mark.parametrize("functions", [FUNCTIONS, PAIR], ids=["classification", "regression"])
def test_each_is_what_it_would_be_alone(functions: dict[str, Callable[..., Any]]) -> None:
    parts: Any = batches() if functions is FUNCTIONS else [pair(n, seed=n) for n in SIZES]
    together = fed(functions, parts)
    values, errors = together.compute(), together.standard_error()
    for name, fn in functions.items():
        alone = bp.exact(fn)
        for part in parts:
            alone.update(*part)
        torch.testing.assert_close(values[name], alone.compute(), rtol=1e-12, atol=0)
        torch.testing.assert_close(errors[name], alone.standard_error(), rtol=1e-8, atol=0)


def test_lists_and_tuples_come_back_as_such() -> None:
    for kind in (list, tuple):
        metric = fed(kind([rmse, r2]), [pair(50)])
        value = metric.compute()
        assert type(value) is kind
        equal(value[1], r2(*pair(50)))
        assert list(metric) == ["0", "1"]
        equal(metric[1].compute(), value[1])


def test_values_between_batches_do_not_disturb() -> None:
    metric = bp.exact(FEW)
    parts = batches()
    for count, part in enumerate(parts, 1):
        metric.update(*part)
        logits, labels = joined(parts[:count])
        assert metric.n_samples == len(labels)
        equal(metric.compute()["confusion matrix"], FUNCTIONS["confusion matrix"](logits, labels))


# ---------------------------------------------------------------------- what is shared


def kept(metric: bp.ExactMany) -> int:
    assert metric._shared is not None
    return len(metric._shared.together.leaves)


def test_what_was_written_apart_is_folded_once() -> None:
    """All follow from one confusion matrix; the counts of labels watch that these are in range."""
    metric = fed(FUNCTIONS, batches())
    assert kept(metric) == 2
    assert str(metric.plan).startswith("11 functions folded together: 23 values kept as 2, 888 bytes\n")


@pytest.mark.parametrize(
    ("other", "values"),
    [
        (lambda guess, label: (label == guess).sum(), 1),
        (lambda guess, label: (guess == label).sum() / len(label), 1),
        (lambda guess, label: (guess != label).sum(), 2),
    ],
    ids=["the other way round", "a sum for a mean", "another comparison"],
)
def test_equal_sums_are_kept_once(other: Callable[..., Any], values: int) -> None:
    def accuracy(guess: Tensor, label: Tensor) -> Tensor:
        return (guess == label).float().mean()

    part = torch.randint(3, (50,)), torch.randint(3, (50,))
    metric = fed({"accuracy": accuracy, "other": other}, [part])
    assert kept(metric) == values
    equal(metric.compute(), {"accuracy": accuracy(*part), "other": other(*part)})


def test_one_update_computes_argmax_once() -> None:
    metric = fed(FUNCTIONS, batches())
    assert metric._shared is not None
    assert metric._shared.together.fold.text.count("argmax") == 1


def test_weights_of_classes_follow_from_the_counts() -> None:
    weight = torch.rand(CLASSES, dtype=torch.float64)

    def weighted(logits: Tensor, labels: Tensor) -> Tensor:
        return (weight[labels] * (logits.argmax(1) == labels)).sum() / weight[labels].sum()

    parts = batches()
    metric = fed({"weighted": weighted, "pairs": FUNCTIONS["confusion matrix"]}, parts)
    assert kept(metric) == 2
    torch.testing.assert_close(metric.compute()["weighted"], weighted(*joined(parts)), rtol=1e-12, atol=0)


def test_extremes_follow_from_the_counts() -> None:
    """Of the kinds that came, not of those that might."""

    def widest(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits.argmax(1) - labels).abs().max()

    parts = [(logits[labels > 6], labels[labels > 6]) for logits, labels in batches((200, 100))]
    parts = [(logits - 9 * (torch.arange(CLASSES) < 7), labels) for logits, labels in parts]
    metric = fed({"widest": widest, "pairs": FUNCTIONS["confusion matrix"]}, parts)
    assert kept(metric) == 2
    assert metric.compute()["widest"] == widest(*joined(parts)) <= 2


def test_labels_out_of_range_are_never_taken_for_others() -> None:
    """Ten times such a label wraps around to a place in the matrix."""
    huge = torch.tensor([1844674407370955162])
    assert (huge * 10).item() < 10
    metric = fed({"pairs": FUNCTIONS["confusion matrix"], "accuracy": FUNCTIONS["accuracy"]}, batches())
    before = metric.compute()["accuracy"]
    logits = torch.zeros(1, CLASSES)
    logits[0, 7] = 1
    metric.update(logits, huge)  # as each takes it alone
    n = metric.n_samples
    torch.testing.assert_close(metric.compute()["accuracy"], before * (n - 1) / n)


def test_what_rows_hang_on_is_not_taken_from_counts() -> None:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels)

    parts = batches()
    metric = fed({"loss": loss, **FEW}, parts)
    torch.testing.assert_close(metric.compute()["loss"], loss(*joined(parts)))
    assert kept(metric) > 2


# ---------------------------------------------------------------------- one among others


def median(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).abs().median()


def test_one_that_keeps_samples_leaves_the_others_their_states() -> None:
    parts = [pair(n, seed=n) for n in SIZES]
    metric = fed({**PAIR, "median": median}, parts)
    assert [name for name, plan in metric.plan.items() if not plan.is_constant_size] == ["median"]
    assert kept(metric) >= 1
    equal(metric.compute()["median"], median(*joined(parts)))
    torch.testing.assert_close(metric.compute()["r2"], r2(*joined(parts)))


def test_samples_are_kept_once_for_all() -> None:
    def worst_tenth(pred: Tensor, real: Tensor) -> Tensor:
        return (pred - real).abs().quantile(0.9)

    metric = fed({"median": median, "tenth": worst_tenth}, [pair(40), pair(7)], state="rows")
    rows = [metric._members[name]._stream.rows for name in metric]
    for (_, one), (_, other) in zip(*rows, strict=True):
        assert all(a is b for a, b in zip(one.leaves, other.leaves, strict=True))


def test_a_refusal_names_the_function_and_changes_none() -> None:
    metric = bp.exact({**PAIR, "median": median}, state="constant")
    with pytest.raises(NotConstantSize, match=r"^median: no state of constant size: median needs all samples"):
        metric.update(*pair(100))
    assert metric.n_samples == 0


def test_a_random_function_is_refused_by_name() -> None:
    metric = bp.exact({"rmse": rmse, "noisy": lambda pred, real: (pred * torch.rand(())).mean()})
    with pytest.raises(bp.BatchproofError, match=r"^noisy: the function is random"):
        metric.update(*pair(100))
    assert metric.n_samples == 0


def test_a_batch_that_one_refuses_enters_none() -> None:
    metric = fed(FEW, batches())
    n, value = metric.n_samples, metric.compute()
    with pytest.raises(bp.BatchproofError, match=r"^\w[\w ]*: "):
        metric.update(torch.randn(3, CLASSES), torch.tensor([0, 11, 2]))
    assert metric.n_samples == n
    equal(metric.compute(), value)
    metric.update(*batches((9,), seed=1)[0])
    assert metric.n_samples == n + 9


def test_an_error_of_a_function_passes_through_and_changes_none() -> None:
    def strict(pred: Tensor, real: Tensor) -> Tensor:
        if len(pred) == 3:
            raise RuntimeError("three is too few")
        return pred.sum()

    metric = fed({"rmse": rmse, "strict": strict}, [pair(100)])
    with pytest.raises(RuntimeError, match=r"^three is too few"):
        metric(*pair(3))
    assert metric.n_samples == 100


def test_where_one_is_refused_at_the_end_the_others_have_a_value() -> None:
    """It takes another constant on all samples than on the batches."""
    factor = [2.0]

    def scaled(pred: Tensor, real: Tensor) -> Tensor:
        return ((pred - real).abs() ** factor[0]).mean()

    metric = fed({"scaled": scaled, "rmse": rmse}, [pair(100)])
    factor[0] = 3.0
    with pytest.raises(bp.BatchproofError, match=r"^scaled: "):
        metric.compute()
    torch.testing.assert_close(metric["rmse"].compute(), rmse(*pair(100)))


def test_metrics_with_options_of_their_own() -> None:
    x, y = torch.randn(2, 60, dtype=torch.float64), torch.randn(2, 60, dtype=torch.float64)
    rows = bp.exact(lambda a, b: (a - b).abs().mean(), batch_dim=1)
    single = bp.exact(lambda a, b: (a - b).square().mean().sqrt(), batch_dim=1, over="samples")
    metric = bp.exact({"by rows": rows, "single": single})
    for a, b in zip(x.split(25, 1), y.split(25, 1), strict=True):
        metric(a, b)
    got = metric.compute()
    torch.testing.assert_close(got["by rows"], (x - y).abs().mean())
    torch.testing.assert_close(got["single"], (x - y).square().mean(0).sqrt().mean())


def test_a_function_of_other_arguments_is_told_as_python_tells_it() -> None:
    metric = bp.exact({"rmse": rmse, "one": lambda x: x.mean()})
    with pytest.raises(TypeError, match="too many positional arguments"):
        metric.update(*pair(100))
    assert metric.n_samples == 0


# ---------------------------------------------------------------------- batches of other kinds


def test_other_shapes_and_keywords_between() -> None:
    def largest(x: Tensor) -> Tensor:
        return x.amax(1).mean()

    def power(x: Tensor) -> Tensor:
        return x.square().sum(1).mean()

    parts = [torch.randn(n, width, dtype=torch.float64) for n, width in ((40, 5), (9, 7), (30, 5), (8, 5))]
    metric = fed({"largest": largest, "power": power}, [(part,) for part in parts])
    torch.testing.assert_close(metric.compute()["largest"], torch.cat([part.amax(1) for part in parts]).mean())
    torch.testing.assert_close(metric.compute()["power"], torch.cat([p.square().sum(1) for p in parts]).mean())
    named = bp.exact({"rmse": rmse, "r2": r2})
    pred, real = pair(90)
    for start in (0, 40, 60):
        stop = {0: 40, 40: 60, 60: 90}[start]
        named.update(pred[start:stop], real=real[start:stop])
    torch.testing.assert_close(named.compute()["r2"], r2(pred, real))


def test_one_batch_of_another_kind_does_not_end_the_sharing() -> None:
    metric = fed(FEW, batches((64, 64)))
    shared = metric._shared
    assert shared is not None
    logits, labels = batches((32,), seed=3)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        metric.update(logits, labels)
    assert metric._shared is shared
    metric.update(logits, labels)
    everything = joined([*batches((64, 64)), (logits, labels), (logits, labels)])
    equal(metric.compute()["confusion matrix"], FUNCTIONS["confusion matrix"](*everything))
    reservoirs = {id(member._stream.reservoir) for member in metric._members.values()}
    assert len(reservoirs) == 1
    assert metric["accuracy"]._stream.reservoir.seen == metric.n_samples


def test_no_samples_and_one() -> None:
    metric = bp.exact(PAIR)
    with pytest.raises(bp.BatchproofError, match=r"^rmse: compute before any data"):
        metric.compute()
    with pytest.raises(bp.BatchproofError, match=r"^rmse: no plan yet"):
        _ = metric.plan
    metric.update(*pair(1))
    torch.testing.assert_close(metric.compute()["rmse"], rmse(*pair(1)))
    with pytest.raises(bp.BatchproofError, match=r"^rmse: the batch is empty"):
        metric.update(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, "exact of no functions: give it one at least"),
        ([], "exact of no functions: give it one at least"),
        ({"a": 3}, "exact takes functions or modules; a is of type int"),
        ({1: rmse}, "exact takes functions by names that are strings, not 1"),
    ],
)
def test_bad_input(given: Any, error: str) -> None:
    with pytest.raises(bp.BatchproofError) as caught:
        bp.exact(given)
    assert str(caught.value) == error
    used = bp.exact(rmse)
    used.update(*pair(3))
    with pytest.raises(bp.BatchproofError, match=r"^a has seen 3 samples already: begin with a new one"):
        bp.exact({"a": used})


# ---------------------------------------------------------------------- in place of the functions


def test_a_call_gives_each_function_its_own_value_and_graph() -> None:
    metric = bp.exact(PAIR)
    for n in (50, 20, 30):
        pred, real = pair(n, seed=n)
        pred.requires_grad_()
        values = metric(pred, real)
        equal({k: v.detach() for k, v in values.items()}, {k: fn(pred, real).detach() for k, fn in PAIR.items()})
        (mine,) = torch.autograd.grad(values["r2"], pred)
        (theirs,) = torch.autograd.grad(r2(pred, real), pred)
        equal(mine, theirs)
    assert metric.n_samples == 100


def test_what_one_function_writes_no_other_reads() -> None:
    def clipping(pred: Tensor, real: Tensor) -> Tensor:
        return pred.clamp_(-0.1, 0.1).sum()

    metric = bp.exact({"clipping": clipping, "rmse": rmse})
    for n in (100, 10):
        pred, real = pair(n, seed=n)
        with pytest.raises(bp.BatchproofError, match=r"^clipping writes into its arguments, and rmse would be called"):
            metric(pred, real)
    assert metric.n_samples == 0
    last = bp.exact({"rmse": rmse, "clipping": clipping})
    parts = [pair(n, seed=n) for n in SIZES]
    for pred, real in parts:
        value = last(pred.clone(), real)
        equal(value["rmse"], rmse(pred, real))
    pred, real = joined(parts)
    torch.testing.assert_close(last.compute()["rmse"], rmse(pred, real))
    torch.testing.assert_close(last.compute()["clipping"], clipping(pred.clone(), real))


# ---------------------------------------------------------------------- states


def halves() -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    return batches(), batches(seed=1)


def test_states_merge() -> None:
    first, second = halves()
    metric, other = fed(FEW, first), fed(FEW, second)
    assert metric.merge_state(other) is metric
    equal(metric.compute()["kappa"], FUNCTIONS["kappa"](*joined([*first, *second])))
    metric.update(*first[0])  # and go on
    assert metric.n_samples == 2 * sum(SIZES) + SIZES[0]
    assert metric._shared is not None
    everything = joined([*first, *second, first[0]])
    equal(metric.compute()["confusion matrix"], FUNCTIONS["confusion matrix"](*everything))
    assert other.n_samples == sum(SIZES)


def test_states_of_other_functions_do_not() -> None:
    metric = fed(FEW, batches())
    value = metric.compute()
    with pytest.raises(bp.BatchproofError, match=r"^mismatched states: these are of the functions rmse; ours are accu"):
        metric.merge_state(fed({"rmse": rmse}, [pair(50)]))
    swapped = {**FEW, "kappa": FUNCTIONS["accuracy"]}
    with pytest.raises(bp.BatchproofError, match=r"^kappa: mismatched states"):
        metric.merge_state(fed(swapped, batches()))
    with pytest.raises(bp.BatchproofError, match="merge_state takes metrics of several functions"):
        metric.merge_state(bp.exact(rmse))  # type: ignore[arg-type]
    assert metric.n_samples == sum(SIZES)
    equal(metric.compute(), value)


def test_states_are_saved_and_loaded() -> None:
    first, second = halves()
    metric = fed(FEW, first)
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    other = bp.exact(FEW)
    other.load_state_dict(torch.load(file, weights_only=True))
    equal(other.compute(), metric.compute())
    for part in second:
        other.update(*part)
        metric.update(*part)
    assert other._shared is not None
    equal(other.compute(), metric.compute())
    equal(other.standard_error(), metric.standard_error())
    with pytest.raises(bp.BatchproofError, match="mismatched states"):
        other.load_state_dict({"rmse": {}})


def test_copies_go_their_own_way() -> None:
    metric = fed(FEW, batches())
    value = metric.compute()
    copies = [copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), metric.to("cpu")]
    for other in copies[:2]:
        equal(other.compute(), value)
        other.update(*batches((30,), seed=5)[0])
    alone = metric["accuracy"]
    alone.update(*batches((30,), seed=5)[0])
    equal(alone.compute(), copies[0].compute()["accuracy"])
    assert metric.n_samples == sum(SIZES)
    equal(metric.compute(), value)
    metric.reset()
    assert metric.n_samples == 0
    assert repr(metric).startswith("<ExactMany accuracy, recall,")


def test_an_interrupted_update_is_refused() -> None:
    metric = fed(PAIR, [pair(50)])
    metric._members["r2"].update(*pair(3))
    with pytest.raises(bp.BatchproofError, match="the functions have seen different batches"):
        metric.compute()
    metric.reset()
    metric.update(*pair(50))
    assert metric.n_samples == 50
