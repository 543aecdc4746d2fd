"""Who is compared with whom, on which data: one `Case` per metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torcheval.metrics
import torchmetrics
import torchmetrics.classification

import batchproof
from bench import byhand, functions

CLASSES = byhand.CLASSES
SIZES = (32, 4_096)

OURS, TORCHMETRICS, UNCHECKED, TORCHEVAL, BYHAND = "batchproof", "torchmetrics", "unchecked", "torcheval", "by hand"

Batch = tuple[torch.Tensor, torch.Tensor]
Make = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    name: str
    fn: Callable[..., torch.Tensor]
    batch: Callable[[int], Batch]
    rivals: dict[str, Make]
    extra: bool = False  # shown, and not counted towards the aims

    def ours(self) -> batchproof.Exact:
        """Past its first samples, so that an update folds."""
        metric = batchproof.exact(self.fn)
        for _ in range(3):
            metric.update(*self.batch(32))
        return metric


class _MeanOf:
    """Cross-entropy where a library has no metric for it: its mean metric, fed with the loss and the batch's size."""

    def __init__(self, mean: Any) -> None:
        self.mean = mean

    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.mean.update(F.cross_entropy(logits, labels), weight=labels.shape[0])

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
        return self.mean(F.cross_entropy(logits, labels), weight=labels.shape[0])


def numbers(n: int) -> Batch:
    generator = torch.Generator().manual_seed(n)
    real = torch.randn(n, generator=generator)
    return real + 0.5 * torch.randn(n, generator=generator), real


def classes(n: int) -> Batch:
    generator = torch.Generator().manual_seed(n)
    logits = torch.randn(n, CLASSES, generator=generator)
    return logits, torch.randint(CLASSES, (n,), generator=generator)


_F1 = {
    TORCHMETRICS: lambda: torchmetrics.classification.MulticlassF1Score(CLASSES),
    UNCHECKED: lambda: torchmetrics.classification.MulticlassF1Score(CLASSES, validate_args=False),
    TORCHEVAL: lambda: torcheval.metrics.MulticlassF1Score(num_classes=CLASSES, average="macro"),
    BYHAND: byhand.MacroF1,
}

CASES = (
    Case(
        "RMSE",
        functions.rmse,
        numbers,
        {
            TORCHMETRICS: lambda: torchmetrics.MeanSquaredError(squared=False),
            TORCHEVAL: torcheval.metrics.MeanSquaredError,
            BYHAND: byhand.RMSE,
        },
    ),
    Case(
        "R²",
        functions.r2,
        numbers,
        {TORCHMETRICS: torchmetrics.R2Score, TORCHEVAL: torcheval.metrics.R2Score, BYHAND: byhand.R2},
    ),
    Case("Pearson", functions.pearson, numbers, {TORCHMETRICS: torchmetrics.PearsonCorrCoef, BYHAND: byhand.Pearson}),
    Case(
        "accuracy",
        functions.accuracy,
        classes,
        {
            TORCHMETRICS: lambda: torchmetrics.classification.MulticlassAccuracy(CLASSES, average="micro"),
            UNCHECKED: lambda: torchmetrics.classification.MulticlassAccuracy(
                CLASSES, average="micro", validate_args=False
            ),
            TORCHEVAL: torcheval.metrics.MulticlassAccuracy,
            BYHAND: byhand.Accuracy,
        },
    ),
    Case("macro F1", functions.macro_f1, classes, _F1),
    Case("macro F1, one-hot", functions.macro_f1_one_hot, classes, _F1 | {BYHAND: byhand.MacroF1OneHot}, extra=True),
    Case(
        "cross-entropy",
        functions.cross_entropy,
        classes,
        {
            TORCHMETRICS: lambda: _MeanOf(torchmetrics.MeanMetric()),
            TORCHEVAL: lambda: _MeanOf(torcheval.metrics.Mean()),
            BYHAND: byhand.CrossEntropy,
        },
    ),
)
