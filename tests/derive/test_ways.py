"""Functions that decide by their samples: what the first ones do not show is folded, too, and followed at the end."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.promise import difference, promise, stream
from torch import Tensor

import batchproof as bp
from batchproof.derive.recording import Unrecordable
from batchproof.derive.samples import TensorBatch
from batchproof.derive.ways import find_ways

D = torch.float64
N, FIRST = 200, 40

Function = Callable[..., Any]


def calibration(confidence: Tensor, right: Tensor) -> Tensor:
    total = torch.zeros((), dtype=confidence.dtype)
    for k in range(5):
        inside = (confidence > k / 5) & (confidence <= (k + 1) / 5)
        share = inside.double().mean()
        if share > 0:
            total = total + (confidence[inside].mean() - right[inside].mean()).abs() * share
    return total


def macro_recall(confidence: Tensor, right: Tensor) -> Any:
    total, present = 0.0, 0
    for k in range(4):
        real = (confidence * 4).long() == k
        if real.sum() == 0:
            continue
        total, present = total + right[real].sum() / real.sum(), present + 1
    return total / present


def recall(confidence: Tensor, right: Tensor) -> Tensor:
    found = (confidence * right).sum()
    if right.sum() == 0:
        return torch.tensor(1.0, dtype=confidence.dtype)
    return found / right.sum()


def recall_by_item(confidence: Tensor, right: Tensor) -> Any:
    if right.sum().item() == 0:
        return 1.0
    return (confidence * right).sum() / right.sum()


def recall_by_count(confidence: Tensor, right: Tensor) -> Any:
    count = int(right.sum())
    return (confidence * right).sum() / count if count else 0.0


def nested_in_count(confidence: Tensor, right: Tensor) -> Tensor:
    if int(right.sum()) == 0:
        return confidence.sum()
    if (confidence > 0.5).any():
        return (confidence * right).square().sum()
    return (confidence.exp() * right).sum() / right.sum()


def nested(confidence: Tensor, right: Tensor) -> Tensor:
    if right.any():
        if (confidence > 0.5).any():
            return confidence[confidence > 0.5].mean()
        return confidence.square().mean()
    return confidence.abs().sum()


def one_of_three(confidence: Tensor, right: Tensor) -> Tensor:
    if right.mean() < 0.1:
        return confidence.mean()
    if right.mean() < 0.3:
        return confidence.square().mean()
    return confidence.exp().mean()


def spread(confidence: Tensor, right: Tensor) -> Tensor:
    moved = confidence - confidence.mean()
    if right.max() > 0:
        return moved.square().mean().sqrt()
    return moved.abs().mean() * 0 + confidence.amax() - confidence.amin()


def scale(confidence: Tensor, right: Tensor) -> Tensor:
    value = confidence.std()
    while value < 10:  # decided by merged values only
        value = value * 3 + 1
    return value


def guarded(confidence: Tensor, right: Tensor) -> Tensor:
    if (confidence < 0).any():
        raise ValueError("not a probability")
    assert right.max() <= 1
    return (confidence - right).square().mean()


def both_named(confidence: Tensor, right: Tensor) -> dict[str, Any]:
    if right.sum() == 0:
        return {"recall": 0.0}
    return {"recall": (confidence * right).sum() / right.sum(), "count": right.sum().long()}


def equal_ones(confidence: Tensor, right: Tensor) -> Tensor:
    if torch.equal(right.sum(0, keepdim=True), torch.zeros(1, dtype=right.dtype)):
        return confidence.mean()
    return (confidence * right).mean()


def in_place(confidence: Tensor, right: Tensor) -> Tensor:
    total = torch.zeros(2, dtype=confidence.dtype)
    if right.sum() > 0:
        total[0] += confidence[right > 0].sum()
    if (right == 0).sum() > 0:
        total[1] += confidence[right == 0].square().sum()
    return total / len(confidence)


CONSTANT: dict[str, Function] = {
    function.__name__: function
    for function in (
        calibration, macro_recall, recall, recall_by_item, recall_by_count, nested_in_count, nested, one_of_three,
        scale, guarded, both_named, equal_ones, in_place,
    )
}  # fmt: skip


def samples(start: str) -> tuple[Tensor, Tensor]:
    """Scores and whether they are right, of which the first mislead."""
    generator = torch.Generator().manual_seed(4)
    confidence = torch.rand(N, generator=generator, dtype=D)
    right = (torch.rand(N, generator=generator) < 0.6).to(D)
    if start == "none right":
        right[:FIRST] = 0
    if start == "all right":
        right[:FIRST] = 1
    if start == "low":
        confidence[:FIRST] /= 5
    if start == "high":
        confidence[:FIRST] = 0.9
    if start == "never right":
        right[:] = 0
    return confidence, right


STARTS = ["as all", "none right", "all right", "low", "high", "never right"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", CONSTANT)
def test_ways_that_the_first_samples_do_not_take(name: str, start: str) -> None:
    promise(CONSTANT[name], *samples(start), sizes=(FIRST, 7, 60, 1), constant=True)


@pytest.mark.parametrize("start", STARTS)
def test_a_way_that_needs_all_samples_keeps_them(start: str) -> None:
    def median_or_mean(confidence: Tensor, right: Tensor) -> Tensor:
        return confidence.mean() if right.sum() == 0 else confidence[right > 0].median()

    assert promise(median_or_mean, *samples(start), sizes=(FIRST, 7, 60, 1)).kind == "rows"
    promise(spread, *samples(start), sizes=(FIRST, 7, 60, 1), refuse=False)


def test_a_way_that_cannot_be_tried_keeps_samples() -> None:
    def largest(confidence: Tensor, right: Tensor) -> Tensor:
        chosen = confidence[right > 0]
        return chosen.max() if (right > 0).any() else confidence.mean()

    outcome = promise(largest, *samples("none right"), sizes=(FIRST, 7, 60, 1))
    assert outcome.kind == "rows"
    assert "another way" in outcome.reason


@pytest.mark.one_in(3)
@pytest.mark.parametrize("first", ["none right", "as all", "low"])
@pytest.mark.parametrize("second", ["all right", "never right", "high"])
@pytest.mark.parametrize("name", CONSTANT)
def test_metrics_with_other_samples_find_the_same_ways(name: str, first: str, second: str) -> None:
    function, parts = CONSTANT[name], (samples(first), samples(second))
    metrics = [bp.exact(function), bp.exact(function)]
    for metric, part in zip(metrics, parts, strict=True):
        for piece in zip(*(column.split(FIRST) for column in part), strict=True):
            metric.update(*piece)
    metrics[0].merge_state(metrics[1])
    assert metrics[0].plan.is_constant_size
    whole = [torch.cat(columns) for columns in zip(*parts, strict=True)]
    assert difference(metrics[0].compute(), function(*whole), 1e-9) is None


def test_a_state_goes_on_where_it_was_saved() -> None:
    confidence, right = samples("none right")
    metric = bp.exact(calibration)
    metric.update(confidence[:FIRST], right[:FIRST])
    for again in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)):
        again.update(confidence[FIRST:], right[FIRST:])
        torch.testing.assert_close(again.compute(), calibration(confidence, right))


def test_a_way_returns_its_own_types() -> None:
    def counted(x: Tensor) -> Any:
        return (x > 0).sum() if (x < 0).any() else x.mean()

    x = torch.rand(N)
    late = torch.cat([x, -x])
    for data in (x, late):
        metric = bp.exact(counted)
        for piece in data.split(50):
            metric.update(piece)
        torch.testing.assert_close(metric.compute(), counted(data))
        assert metric.compute().dtype is counted(data).dtype


def test_samples_of_other_shapes_have_the_same_ways() -> None:
    def tokens(x: Tensor, mask: Tensor) -> Tensor:
        return (x * mask).sum() / mask.sum() if mask.sum() > 0 else (x * 0 + 1).mean()

    generator = torch.Generator().manual_seed(0)
    metric = bp.exact(tokens)
    total = count = 0.0
    for length in (5, 3, 8):
        x, mask = torch.rand(30, length, generator=generator, dtype=D), torch.ones(30, length, dtype=D)
        mask[:, 2:] = 0
        total, count = total + float((x * mask).sum()), count + float(mask.sum())
        metric.update(x, mask)
    assert metric.compute().item() == pytest.approx(total / count, rel=1e-12)


def test_numbers_that_python_makes_are_told_apart() -> None:
    def two_thresholds(x: Tensor) -> Tensor:
        low, high = x.mean().item(), x.square().mean().item()
        first = (x - low).square().mean()
        if x.min() < 0:
            return first
        return first + (x - high).square().mean()

    ones = torch.ones(FIRST, dtype=D)
    for late in (torch.rand(N, dtype=D), torch.randn(N, dtype=D)):
        promise(two_thresholds, torch.cat([ones, late]), sizes=(FIRST, 30, 7))


def places(x: Tensor) -> Tensor:
    return (x[:, None] * torch.arange(int(x.max()), dtype=x.dtype)).sum()


def filled(x: Tensor) -> Tensor:
    weight = torch.full((2,), float(x.max()), dtype=x.dtype)
    return (x[:, None] * weight).sum() + weight.sum()


def clamped(x: Tensor) -> Tensor:
    largest = int(x.max())
    return x.clamp(max=largest - 1).sum() / largest


def counted_classes(x: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(x.long(), int(x.max()) + 1).double().mean(0).square().sum()


def made_constant(x: Tensor) -> Tensor:
    largest = torch.tensor(float(x.max()), dtype=x.dtype)
    return (x * largest).sum() + largest


@pytest.mark.parametrize("function", [places, filled, clamped, counted_classes, made_constant])
def test_numbers_that_the_first_samples_have_in_common(function: Function) -> None:
    """A number that Python reads is no constant, although it is the same on all batches of the first samples."""
    promise(function, torch.cat([torch.full((FIRST,), 3.0), torch.full((FIRST,), 5.0)]), sizes=(FIRST,), refuse=False)


def test_a_loop_that_decides_by_samples_keeps_them() -> None:
    def until(x: Tensor) -> Tensor:
        bound = x.mean()
        while x[x > bound].sum() > 1:
            bound = bound + 0.5 * (x * (x > bound)).mean()
        return bound

    generator = torch.Generator().manual_seed(2)
    promise(until, torch.rand(N, generator=generator, dtype=D))


def ways(function: Function, *columns: Tensor) -> list[tuple[Any, ...]]:
    return find_ways(function, TensorBatch(list(columns), (0,) * len(columns)), None)


def test_ways_are_found() -> None:
    confidence, right = samples("as all")
    nothing = confidence.clone(), torch.zeros_like(right)
    assert ways(lambda x: x.mean(), confidence) == [()]
    assert ways(recall, confidence, right) == ways(recall, *nothing) == [(False,)]
    assert ways(guarded, confidence, right) == [(False, True)]
    assert ways(calibration, confidence, right) == [(True,) * 5]
    assert ways(macro_recall, confidence, right) == [(True, True, True, False), (False, False, False, True)]
    assert len(ways(nested, confidence, right)) == 3
    assert ways(recall_by_count, confidence, right) == [()]
    assert ways(recall_by_count, *nothing) == [((3.0, 5.0, 8.0),)]


def test_no_end_of_ways_is_said() -> None:
    def growing(x: Tensor) -> Tensor:
        power = x
        while power.sum() > 1:
            power = power * x
        return power.sum()

    with pytest.raises(Unrecordable, match="again and again"):
        ways(growing, torch.rand(30, dtype=D))


def test_a_loop_that_only_its_own_samples_end() -> None:
    def halved(x: Tensor) -> Tensor:
        value, step = x.sum(), 1.0
        if (x > 2).any():
            step = 0.0
        while value > 1:  # never ends where it is told that some are larger
            value = value - step
        return value

    promise(halved, torch.rand(N, dtype=D), sizes=(FIRST, 30), refuse=False)


def test_what_raises_at_the_end_raises_there() -> None:
    confidence, right = samples("as all")
    outcome = stream(guarded, [(confidence, right)])
    assert outcome.kind == "constant"
    outcome.metric.update(-confidence, right)
    with pytest.raises(ValueError, match="not a probability"):
        outcome.metric.compute()
