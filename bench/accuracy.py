"""Relative error on long float32 streams far from zero, against float64 in two passes over the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import ignite.metrics
import ignite.metrics.regression
import torch
import torcheval.metrics
import torchmetrics

import batchproof
from bench import functions
from bench.section import Aim, Section

OFFSETS = (0.0, 1e1, 1e2, 1e3, 1e4, 1e5)
SAMPLES, QUICK = 20_000_000, 400_000
CHUNK, BATCH = 400_000, 4_096

Metric = tuple[Callable[[torch.Tensor, torch.Tensor], Any], Callable[[], Any]]  # update and compute


def chunks(offset: float, samples: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for seed in range(samples // CHUNK):
        generator = torch.Generator().manual_seed(seed)
        real = offset + torch.randn(CHUNK, generator=generator)
        yield real + 0.5 * torch.randn(CHUNK, generator=generator), real


def reference(offset: float, samples: int) -> dict[str, float]:
    """In float64, around the means of a first pass."""
    means = [math.fsum(float(part[i].double().sum()) for part in chunks(offset, samples)) / samples for i in (0, 1)]
    sums = torch.zeros(5, dtype=torch.float64)
    for part in chunks(offset, samples):
        pred, real = (x.double() - mean for x, mean in zip(part, means, strict=True))
        error = part[1].double() - part[0].double()
        away = error - (means[1] - means[0])
        sums += torch.stack([error @ error, away @ away, pred @ pred, real @ real, pred @ real])
    square, away, xx, yy, xy = sums.tolist()
    return {
        "RMSE": math.sqrt(square / samples),
        "R²": 1 - square / yy,
        "Pearson": xy / math.sqrt(xx * yy),
        "explained variance": 1 - away / yy,
    }


def of_pair(metric: Any) -> Metric:
    return lambda pred, real: metric.update((pred, real)), metric.compute


def plain(metric: Any) -> Metric:
    return metric.update, metric.compute


def root(metric: Any) -> Metric:
    return metric.update, lambda: metric.compute().sqrt()


#: Each library's own, with its default options.
METRICS: dict[str, dict[str, Callable[[], Metric]]] = {
    "RMSE": {
        "batchproof": lambda: plain(batchproof.exact(functions.rmse)),
        "torchmetrics": lambda: plain(torchmetrics.MeanSquaredError(squared=False)),
        "torcheval": lambda: root(torcheval.metrics.MeanSquaredError()),
        "ignite": lambda: of_pair(ignite.metrics.RootMeanSquaredError()),
    },
    "R²": {
        "batchproof": lambda: plain(batchproof.exact(functions.r2)),
        "torchmetrics": lambda: plain(torchmetrics.R2Score()),
        "torcheval": lambda: plain(torcheval.metrics.R2Score()),
        "ignite": lambda: of_pair(ignite.metrics.regression.R2Score()),
    },
    "Pearson": {
        "batchproof": lambda: plain(batchproof.exact(functions.pearson)),
        "torchmetrics": lambda: plain(torchmetrics.PearsonCorrCoef()),
        "ignite": lambda: of_pair(ignite.metrics.regression.PearsonCorrelation()),
    },
    "explained variance": {
        "batchproof": lambda: plain(batchproof.exact(functions.explained_variance)),
        "torchmetrics": lambda: plain(torchmetrics.ExplainedVariance()),
    },
}

LIBRARIES = ("batchproof", "torchmetrics", "torcheval", "ignite")


def errors(offset: float, samples: int) -> dict[str, dict[str, float]]:
    """By metric and library."""
    metrics = {(name, library): make() for name, makers in METRICS.items() for library, make in makers.items()}
    for pred, real in chunks(offset, samples):
        for pair in zip(pred.split(BATCH), real.split(BATCH), strict=True):
            for update, _ in metrics.values():
                update(*pair)
    exact = reference(offset, samples)
    found: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    for (name, library), (_, compute) in metrics.items():
        found[name][library] = abs(float(compute()) - exact[name]) / abs(exact[name])
    return found


def run(quick: bool) -> Section:
    samples = QUICK if quick else SAMPLES
    section = Section(
        "accuracy",
        f"relative error: float32, standard deviation 1 around an offset, {samples:,} samples in batches of {BATCH:,}",
        ["metric", "offset", *LIBRARIES],
    )
    by_offset = {offset: errors(offset, samples) for offset in OFFSETS}
    for name in METRICS:
        for offset, found in by_offset.items():
            section.rows.append(
                [name, f"{offset:.0e}" if offset else "0", *(found[name].get(lib) for lib in LIBRARIES)]
            )
    for position, library in enumerate(LIBRARIES[1:], 3):
        worst = max(row[position] for row in section.rows if row[position] is not None)
        section.notes.append(f"largest error of {library}: {worst:.1g}")
    section.aims = [Aim("largest relative error", 1e-6, max(row[2] for row in section.rows))]
    return section
