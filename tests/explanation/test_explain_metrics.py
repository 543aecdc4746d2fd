"""Metric objects: scored on the same samples in many partitions and merges; torchmetrics' own and wrong ones."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor

from batchproof import BatchproofError, explain


class AveragesBatches:
    """The mistake that the project is about, as an object."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.batches = 0
        self.total = 0.0

    def update(self, pred: Tensor, real: Tensor) -> None:
        self.batches += 1
        self.total += ((pred - real) ** 2).mean().sqrt().item()

    def compute(self) -> float:
        return self.total / self.batches


class Right:
    """The same, done well, with a merge."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total, self.count = torch.zeros((), dtype=torch.float64), 0

    def update(self, pred: Tensor, real: Tensor) -> None:
        self.total = self.total + ((pred - real) ** 2).sum()
        self.count += len(pred)

    def compute(self) -> Tensor:
        return (self.total / self.count).sqrt()

    def merge_state(self, others: list[Right]) -> Right:
        for other in others:
            self.total, self.count = self.total + other.total, self.count + other.count
        return self


class MergesBadly(Right):
    """It forgets that the copies have seen different numbers of samples."""

    def merge_state(self, others: list[Right]) -> Right:
        copies = [self, *others]
        self.total = torch.stack([copy.total / copy.count for copy in copies]).mean() * self.count
        return self


def pair(n: int = 120, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    real = torch.randn(n) + offset
    return real + torch.randn(n), real


def classes(n: int = 120) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 5), torch.randint(0, 5, (n,))


SAFE: list[tuple[Any, Any]] = [
    (torchmetrics.MeanSquaredError(squared=False), pair),
    (torchmetrics.R2Score(), pair),
    (torchmetrics.F1Score(task="multiclass", num_classes=5, average="macro"), classes),
    (torchmetrics.PearsonCorrCoef(), pair),
    (Right(), pair),
]


@pytest.mark.parametrize(("metric", "inputs"), SAFE, ids=[type(metric).__name__ for metric, _ in SAFE])
def test_metrics_that_accumulate_are_safe(metric: Any, inputs: Any) -> None:
    found = explain(metric, *inputs())
    assert (found.kind, found.is_safe, found.verdict) == ("metric", True, "accumulated")
    assert any("ragged partitions" in note for note in found.notes)
    assert any("averaging its values over batches" in note for note in found.notes), (
        "their per-batch values must not be averaged"
    )


def test_merges_are_tried_where_there_are_any() -> None:
    merged = explain(torchmetrics.R2Score(), *pair())
    assert any("3 merges of uneven copies" in note for note in merged.notes)
    alone = explain(AveragesBatches(), *pair())
    assert any("merges not tried: it has no merge_state" in note for note in alone.notes)


def test_a_metric_that_averages_batches_is_blamed_at_its_line() -> None:
    found = explain(AveragesBatches(), *pair())
    assert (found.is_safe, found.verdict, found.exit_status) == (False, "per-batch", 1)
    blamed = found.findings[0]
    assert blamed.place is not None
    assert blamed.place.text.startswith("self.total +=")
    _, first = inspect.getsourcelines(AveragesBatches.update)
    assert blamed.place.line == first + 2
    assert "self.batches and self.total differ" in blamed.what
    assert found.curve is not None
    assert found.curve.readings[0].mean < found.curve.exact


def test_a_bad_merge_is_found() -> None:
    found = explain(MergesBadly(), *pair())
    assert (found.is_safe, found.verdict) == (False, "merge")
    assert "merge" in found.headline


def test_rounding_is_told_from_dependence() -> None:
    found = explain(torchmetrics.R2Score(), *pair(400, offset=1e4))
    assert [finding.code for finding in found.findings] == ["rounding"]
    assert found.curve is not None
    pred, real = (x.double() for x in pair(400, offset=1e4))
    assert -1.2 < found.curve.exact < 0.5, "the exact value is the one in double precision"
    exact = explain(torchmetrics.R2Score().set_dtype(torch.float64), pred, real)
    assert exact.is_safe is True


def test_the_metric_itself_is_left_alone() -> None:
    metric = torchmetrics.MeanSquaredError()
    metric.update(torch.ones(3), torch.zeros(3))
    explain(metric, *pair())
    assert metric.total == 3
    assert metric.compute() == 1


def test_a_metric_that_cannot_be_copied_is_refused() -> None:
    class Locked(Right):
        def __deepcopy__(self, memo: object) -> Right:
            raise TypeError("not this one")

    with pytest.raises(BatchproofError, match="cannot be copied"):
        explain(Locked(), *pair())


def test_updates_that_take_one_tuple() -> None:
    class Paired(Right):
        def update(self, output: Any) -> None:  # type: ignore[override]
            pred, real = output
            super().update(pred, real)

    assert explain(Paired(), *pair()).is_safe is True


def test_ignite_and_torcheval() -> None:
    ignite = pytest.importorskip("ignite.metrics")
    assert explain(ignite.RootMeanSquaredError(), *pair()).is_safe is True
    torcheval = pytest.importorskip("torcheval.metrics")
    found = explain(torcheval.MeanSquaredError(), *pair())
    assert found.is_safe is True
    assert any("merges of uneven copies" in note for note in found.notes)


def test_small_batches_that_a_metric_refuses() -> None:
    class Picky(Right):
        def update(self, pred: Tensor, real: Tensor) -> None:
            if len(pred) < 2:
                raise ValueError("two at least")
            super().update(pred, real)

    found = explain(Picky(), *pair(64))
    assert (found.is_safe, found.verdict) == (False, "undefined")
    assert "ValueError: two at least" in found.headline


def test_many_samples_are_cut_short() -> None:
    found = explain(Right(), *pair(5000), batch_sizes=[512, 2048])
    assert found.curve is not None
    assert (found.curve.samples, found.curve.of_samples) == (2048, 5000)
    assert "2,048 of 5,000 samples" in str(found)


class MeanBoxError:
    """Takes detections and targets image by image, as torchvision has them."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.values: list[Tensor] = []

    def update(self, preds: list[dict[str, Tensor]], target: list[dict[str, Tensor]]) -> None:
        for guess, true in zip(preds, target, strict=True):
            self.values.append((guess["boxes"] - true["boxes"]).abs().mean())

    def compute(self) -> Tensor:
        return torch.stack(self.values).mean()


@pytest.mark.parametrize("ragged", [False, True])
def test_images_of_boxes_are_images(ragged: bool) -> None:
    boxes = [torch.rand(1 + index % 4 if ragged else 3, 4) for index in range(40)]
    preds = [{"boxes": box + 0.1 * (1 + index) * torch.randn(box.shape)} for index, box in enumerate(boxes)]
    found = explain(MeanBoxError(), preds, [{"boxes": box} for box in boxes])
    assert (found.is_safe, found.verdict) == (True, "accumulated")
    assert found.curve is not None
    assert found.curve.samples == 40


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_a_value_that_is_no_number_is_not_called_safe(value: float, word: str) -> None:
    """It is the same however the samples are batched, and says nothing."""

    class Broken(Right):
        def compute(self) -> Tensor:
            return super().compute() * value

    found = explain(Broken(), *pair())
    assert (found.is_safe, found.verdict, found.exit_status) == (None, "undefined", 2)
    assert found.headline == f"could not tell: compute() on all samples is {word}"
