"""What goes into a metric: read as what it is, or refused by name. Nothing is held at the first batch's content."""

from __future__ import annotations

import copy
import io
import pickle
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_sequence

import batchproof as bp

N = 90


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lengths(count: int, low: int = 1, high: int = 9) -> list[int]:
    return torch.randint(low, high, (count,), generator=torch.Generator().manual_seed(5)).tolist()


def mean_db(estimates: Any, references: Any) -> Tensor:
    """A mean over samples: its value on all of them is the mean of single values, whatever the batches."""
    values = [10 * torch.log10(r.square().sum() / (e - r).square().sum()) for e, r in zip(estimates, references)]
    return torch.stack(values).mean()


def folded(metric: bp.Exact, parts: Any) -> Any:
    for part in parts:
        metric.update(*part)
    return metric.compute()


def cuts(size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, N, size)]


# ------------------------------------------------------------------ a tensor for each sample


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("over", ["dataset", "samples"])
@pytest.mark.parametrize("size", [1, 7, 40])
def test_lists_of_samples_of_their_own_lengths(kind: Any, over: Any, size: int) -> None:
    a = [normal(k, seed=k) for k in lengths(N, 2)]
    b = [normal(len(x), seed=len(x) + 50) for x in a]
    parts = [(kind(a[cut]), kind(b[cut])) for cut in cuts(size)]
    metric = bp.exact(mean_db, over=over)
    try:
        found = folded(metric, parts)
    except bp.BatchproofError as error:  # one clip may be a list of batches as well
        assert size == 1 and "stack" in str(error)
        return
    torch.testing.assert_close(found, mean_db(a, b))
    for twin in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        torch.testing.assert_close(twin.compute(), mean_db(a, b))


def test_a_list_that_may_be_either_is_refused() -> None:
    """40 clips of 16 samples, or 40 batches of 16: the value differs, and nothing says which."""
    clips = [normal(16, seed=k) for k in range(40)]
    for verb in (bp.exact(mean_db).update, lambda *args: bp.explain(mean_db, *args)):
        with pytest.raises(bp.BatchproofError, match=r"list of 40 with 16 rows in each entry.*stack them"):
            verb(clips, [clip + 1 for clip in clips])


def test_a_list_beside_a_tensor_says_which() -> None:
    weight = normal(N).abs()
    clips = [normal(16, seed=k) for k in range(N)]

    def weighted(clips: list[Tensor], weight: Tensor) -> Tensor:
        return torch.stack([clip.square().mean().sqrt() for clip in clips]) @ weight / weight.sum()

    parts = [(clips[cut], weight[cut]) for cut in cuts(20)]
    torch.testing.assert_close(folded(bp.exact(weighted), parts), weighted(clips, weight))


def test_batches_in_a_list_beside_a_tensor() -> None:
    """Outputs at several scales, as deep supervision has them: each entry holds the whole batch."""
    outputs, target = [normal(N, seed=k) for k in range(3)], normal(N, seed=9)

    def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
        return torch.stack([F.mse_loss(output, target).sqrt() for output in outputs]).sum()

    metric = bp.exact(loss)
    found = folded(metric, [([output[cut] for output in outputs], target[cut]) for cut in cuts(40)])
    torch.testing.assert_close(found, loss(outputs, target))
    assert metric.plan.is_constant_size


@pytest.mark.parametrize(
    "fn", [lambda pair: F.l1_loss(pair[0], pair[1]), lambda pair: F.l1_loss(*pair)], ids=["by index", "unpacked"]
)
def test_a_function_that_names_the_entries(fn: Callable[..., Any]) -> None:
    def unpacked(pair: Any) -> Tensor:
        a, b = pair
        return F.l1_loss(a, b)

    a, b = normal(N), normal(N, seed=1)
    for loss in (fn, unpacked):
        try:
            found = folded(bp.exact(loss), [([a[cut], b[cut]],) for cut in cuts(40)])
        except bp.BatchproofError:
            assert loss is fn  # a call with one entry says no more than that it fails
            continue
        torch.testing.assert_close(found, F.l1_loss(a, b))


def test_numbers_in_tensors_are_samples() -> None:
    values = [torch.tensor(float(k)) for k in range(N)]
    found = folded(bp.exact(lambda x: torch.stack(list(x)).mean().sqrt()), [(values[cut],) for cut in cuts(25)])
    torch.testing.assert_close(found, torch.arange(float(N)).mean().sqrt())


def test_a_dictionary_for_each_picture() -> None:
    """As detectors give them: boxes of any number."""
    counts = lengths(N)
    pictures = [{"boxes": normal(k, 4, seed=k), "label": "cat" if k % 2 else "dog"} for k in counts]
    truth = [{"boxes": normal(k, 4, seed=k + 99), "label": "cat"} for k in counts]

    def score(found: list[dict[str, Any]], truth: list[dict[str, Any]]) -> float:
        gaps = [(p["boxes"] - t["boxes"]).abs().mean() for p, t in zip(found, truth) if p["label"] == t["label"]]
        return float(torch.stack(gaps).mean().sqrt())

    parts = [(pictures[cut], truth[cut]) for cut in cuts(30)]
    assert folded(bp.exact(score), parts) == pytest.approx(score(pictures, truth), rel=1e-12)


def test_lists_are_copied() -> None:
    buffer = [normal(k, seed=k) for k in lengths(40, 2)]
    metric = bp.exact(lambda x: torch.cat(x).median())
    metric.update(buffer)
    expected = torch.cat(buffer).median()
    for tensor in buffer:
        tensor.zero_()
    assert metric.compute() == expected


def test_explain_reads_lists_as_exact_does() -> None:
    a = [normal(k, seed=k).float() for k in lengths(60, 3)]
    b = [normal(len(x), seed=len(x) + 50).float() for x in a]
    found = bp.explain(mean_db, a, b)
    assert found.is_safe
    assert found.curve is not None and found.curve.samples == 60


# ------------------------------------------------------------------ containers


@dataclass
class Batch:
    x: Tensor
    y: Tensor
    unit: str = "m"


@dataclass(frozen=True)
class Frozen:
    x: Tensor
    y: Tensor


class Normalising:
    """Makes another thing of what it is given: it must not be made twice."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x = x * 2
        self.y = y * 2


class Slotted:
    __slots__ = ("x", "y")

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y


@dataclass
class Nested:
    inner: Batch
    weights: tuple[float, ...] = (1.0, 2.0)


class Mapping(UserDict[str, Tensor]):
    def __getattr__(self, name: str) -> Tensor:
        if name == "data":
            raise AttributeError(name)
        return self.data[name]


class Attributes(dict[str, Tensor]):
    def __getattr__(self, name: str) -> Tensor:
        return self[name]


class Ordered(OrderedDict[str, Tensor]):
    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


Pair = namedtuple("Pair", "x y")  # noqa: PYI024

CONTAINERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "dataclass": Batch,
    "frozen dataclass": Frozen,
    "object": Normalising,
    "slots": Slotted,
    "UserDict": lambda x, y: Mapping(x=x, y=y),
    "dict": lambda x, y: Attributes(x=x, y=y),
    "OrderedDict": lambda x, y: Ordered(x=x, y=y),
    "namedtuple": Pair,
    "SimpleNamespace": lambda x, y: SimpleNamespace(x=x, y=y, name="test"),
}


def ratio(batch: Any) -> Tensor:
    return (batch.x.sum() / batch.y.square().sum()).exp()


def median(batch: Any) -> Tensor:
    return (batch.x * batch.y).median()


@pytest.mark.parametrize("fn", [ratio, median])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers_are_read_batch_by_batch(kind: str, fn: Callable[..., Tensor]) -> None:
    make = CONTAINERS[kind]
    x, y = normal(N), normal(N, seed=1)
    metric = bp.exact(fn)
    parts = [(make(x[cut], y[cut]),) for cut in cuts(35)]
    expected = fn(make(x, y))
    torch.testing.assert_close(folded(metric, parts), expected)
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    other = bp.exact(fn)
    other.load_state_dict(torch.load(file, weights_only=kind != "namedtuple"))
    torch.testing.assert_close(other.compute(), expected)
    torch.testing.assert_close(copy.deepcopy(metric).compute(), expected)


def test_containers_in_containers() -> None:
    x, y = normal(N), normal(N, seed=1)
    metric = bp.exact(lambda batch: ratio(batch["one"].inner))
    found = folded(metric, [({"one": Nested(Batch(x[cut], y[cut]))},) for cut in cuts(35)])
    torch.testing.assert_close(found, ratio(Batch(x, y)))
    with pytest.raises(bp.BatchproofError, match=r"weights"):
        metric.update({"one": Nested(Batch(x[:5], y[:5]), (1.0, 3.0))})
    with pytest.raises(bp.BatchproofError, match=r"unit"):
        metric.update({"one": Nested(Batch(x[:5], y[:5], "cm"))})
    assert metric.n_samples == N


def test_one_object_that_carries_each_batch_in_turn() -> None:
    x, y = normal(N), normal(N, seed=1)
    carrier = SimpleNamespace()
    metric = bp.exact(lambda x, context: x.sum() / context.y.square().sum())
    for cut in cuts(20):
        carrier.y = y[cut]
        metric.update(x[cut], carrier)
    torch.testing.assert_close(metric.compute(), x.sum() / y.square().sum())


def test_what_is_shared_is_held_by_content() -> None:
    """The very same object, with something else in it."""
    x = normal(N)
    table: dict[str, Any] = {"power": 2.0}
    options = SimpleNamespace(power=2.0)
    weight = torch.tensor([1.0, 2.0]).double()
    array = np.ones(3)
    cases: list[tuple[Any, Callable[[], Any]]] = [
        (table, lambda: table.update(power=table["power"] + 1)),
        (options, lambda: setattr(options, "power", options.power + 1)),
        (weight, lambda: weight.mul_(2)),
        (array, lambda: np.multiply(array, 2, out=array)),
    ]
    for state in ("auto", "rows"):
        for shared, change in cases:
            metric = bp.exact(lambda x, shared: x.sum(), state=state, batch_dim=(0, None))  # type: ignore[arg-type]
            metric.update(x[:40], shared)
            metric.update(x[40:50], shared)
            change()
            with pytest.raises(bp.BatchproofError, match="'shared"):
                metric.update(x[50:], shared)
            assert metric.n_samples == 50


def test_a_function_as_an_argument_is_told_apart_by_identity() -> None:
    x = normal(N)
    metric = bp.exact(lambda x, how: how(x.square().mean()))
    metric.update(x[:40], torch.sqrt)
    metric.update(x[40:], torch.sqrt)
    torch.testing.assert_close(metric.compute(), x.square().mean().sqrt())
    with pytest.raises(bp.BatchproofError, match="how"):
        metric.update(x, torch.exp)


class Closed:
    """Says itself how it is copied: what is in it cannot be known."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __reduce__(self) -> Any:
        return Closed, (self.x,)


def test_objects_that_are_not_understood_are_refused_by_name() -> None:
    me = SimpleNamespace(x=normal(5))
    me.me = me
    for thing in (Closed(normal(5)), {normal(5)}, me):
        for verb in (bp.exact(lambda x, thing: x.sum()).update, lambda *args: bp.explain(lambda x, t: x.sum(), *args)):
            with pytest.raises(bp.BatchproofError, match=type(thing).__name__):
                verb(normal(5), thing)


SEQUENCES = [normal(k, seed=k) for k in lengths(20)]
STRANGE: dict[str, tuple[Callable[[], Any], str]] = {
    "nested": (lambda: torch.nested.nested_tensor(SEQUENCES), "to_padded_tensor"),
    "jagged": (lambda: torch.nested.nested_tensor(SEQUENCES, layout=torch.jagged), "to_padded_tensor"),
    "sparse": (lambda: torch.eye(20).to_sparse(), "to_dense"),
    "csr": (lambda: torch.eye(20).to_sparse_csr(), "to_dense"),
    "csc": (lambda: torch.eye(20).to_sparse_csc(), "to_dense"),
    "packed": (lambda: pack_sequence(SEQUENCES, enforce_sorted=False), "pad_packed_sequence"),
    "masked": (lambda: torch.masked.masked_tensor(torch.ones(20), torch.ones(20).bool()), "get_mask"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse")
@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_that_are_no_plain_numbers(kind: str) -> None:
    make, cure = STRANGE[kind]
    metric = bp.exact(lambda x: x.sum())
    for value in (make(), {"in": make()}, SimpleNamespace(inside=make())):
        with pytest.raises(bp.BatchproofError) as caught:
            metric.update(value)
        assert "'x" in str(caught.value) and cure in str(caught.value) and "\n" not in str(caught.value)
    assert metric.n_samples == 0


# ------------------------------------------------------------------ shared keywords


def scores() -> tuple[Tensor, Tensor, Tensor]:
    y = torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(3))
    return normal(N, 3), y, torch.tensor([1.0, 5.0, 2.0]).double()


@pytest.mark.parametrize("size", [4, 40, 29])
def test_a_shared_keyword(size: int) -> None:
    """The last batch of 29 has as many samples as there are classes."""
    x, y, weight = scores()
    metric = bp.exact(F.cross_entropy)
    for cut in cuts(size):
        metric.update(x[cut], y[cut], weight=weight)
    torch.testing.assert_close(metric.compute(), F.cross_entropy(x, y, weight=weight))
    with pytest.raises(bp.BatchproofError, match="'weight' is shared"):
        metric.update(x, y, weight=weight * 2)


def test_only_keywords() -> None:
    x, y, weight = scores()
    metric = bp.exact(F.cross_entropy)
    for cut in cuts(40):
        metric.update(weight=weight, input=x[cut], target=y[cut])
    torch.testing.assert_close(metric.compute(), F.cross_entropy(x, y, weight=weight))


@pytest.mark.parametrize("size", [3, 40])
def test_a_keyword_as_long_as_the_first_batch(size: int) -> None:
    """Three classes and three samples: with one sample more the function takes no more weights."""
    x, y, weight = scores()
    for options in ({}, {"batch_dim": {"weight": None}}):
        metric = bp.exact(F.cross_entropy, **options)  # type: ignore[arg-type]
        for cut in [slice(0, 3), *(slice(at, at + size) for at in range(3, N, size))]:
            metric.update(x[cut], y[cut], weight=weight)
        torch.testing.assert_close(metric.compute(), F.cross_entropy(x, y, weight=weight))


@pytest.mark.parametrize("first", [1, 2, 3, 40])
def test_weights_of_samples_by_keyword(first: int) -> None:
    def weighted(x: Tensor, *, weight: Tensor) -> Tensor:
        return (x.square().sum(1) * weight).sum() / weight.sum()

    x, weight = normal(N, 3), normal(N).abs()
    metric = bp.exact(weighted)
    for cut in (slice(0, first), slice(first, N)):
        metric.update(x[cut], weight=weight[cut])
    torch.testing.assert_close(metric.compute(), weighted(x, weight=weight))


def test_batch_dim_by_name() -> None:
    x, y, weight = scores()

    def loss(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return F.cross_entropy(x.t(), y, weight=weight)

    metric = bp.exact(loss, batch_dim={"x": 1, "weight": None})
    for cut in cuts(40):
        metric.update(x.t()[:, cut], y[cut], weight)
    torch.testing.assert_close(metric.compute(), loss(x.t(), y, weight))
    assert bp.explain(loss, x.t(), y, weight, batch_dim={"x": 1, "weight": None}).verdict == "ratio"
    assert bp.explain(loss, x.t(), y, weight=weight, batch_dim={"x": 1}).verdict == "ratio"


def test_batch_dim_of_what_is_not_there() -> None:
    x, y, _ = scores()
    with pytest.raises(bp.BatchproofError, match="'wieght'"):
        bp.exact(F.cross_entropy, batch_dim={"wieght": None}).update(x, y)
    for wrong in ({"x": "0"}, {1: 0}, {"x": True}):
        with pytest.raises(bp.BatchproofError, match="batch_dim"):
            bp.exact(F.cross_entropy, batch_dim=wrong)  # type: ignore[arg-type]


def test_labels_by_keyword() -> None:
    import sklearn.metrics

    y, p = (torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(k)).numpy() for k in (1, 2))
    metric = bp.exact(sklearn.metrics.f1_score)
    for cut in cuts(40):
        metric.update(y[cut], p[cut], labels=[0, 2], average="macro")
    assert metric.compute() == pytest.approx(sklearn.metrics.f1_score(y, p, labels=[0, 2], average="macro"))


# ------------------------------------------------------------------ the order of samples


def test_halves_that_are_pairs_say_so() -> None:
    def agreement(stacked: Tensor) -> Tensor:
        half = len(stacked) // 2
        return (stacked[:half] - stacked[half:]).square().mean()

    for state in ("auto", "rows"):
        metric = bp.exact(agreement, state=state)  # type: ignore[arg-type]
        metric.update(normal(40, 3))
        assert "order of the samples" in str(metric.plan)
    assert "in two halves of the batch" in bp.explain(agreement, normal(80, 3)).headline


def test_no_word_on_order_where_it_does_not_matter() -> None:
    for fn in (lambda x: x.median(), lambda x: x.sort().values.diff().max(), lambda x: x.mean()):
        metric = bp.exact(fn)
        metric.update(normal(64))
        assert "order" not in str(metric.plan)
