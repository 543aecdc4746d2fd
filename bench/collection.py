"""Eleven classification metrics at once, beside torchmetrics' `MetricCollection` with its compute groups."""

from __future__ import annotations

from functools import partial

import torchmetrics
import torchmetrics.classification as tc

import batchproof
from bench.cases import OURS, SIZES, TORCHMETRICS, UNCHECKED, classes
from bench.classification import CLASSES, FUNCTIONS
from bench.section import Aim, Section
from bench.timing import microseconds, ratio, side_by_side

APART, ALONE, BARE = "one by one", "confusion matrix alone", "functions alone"


def collection(**options: bool) -> torchmetrics.MetricCollection:
    """The same metrics by torchmetrics, past its first update, which finds the groups."""
    made = torchmetrics.MetricCollection(
        {
            "accuracy": tc.MulticlassAccuracy(CLASSES, average="micro", **options),
            "micro F1": tc.MulticlassF1Score(CLASSES, average="micro", **options),
            "balanced accuracy": tc.MulticlassAccuracy(CLASSES, **options),
            "precision": tc.MulticlassPrecision(CLASSES, **options),
            "recall": tc.MulticlassRecall(CLASSES, **options),
            "macro F1": tc.MulticlassF1Score(CLASSES, **options),
            "specificity": tc.MulticlassSpecificity(CLASSES, **options),
            "confusion matrix": tc.MulticlassConfusionMatrix(CLASSES, **options),
            "Matthews": tc.MulticlassMatthewsCorrCoef(CLASSES, **options),
            "kappa": tc.MulticlassCohenKappa(CLASSES, **options),
            "Jaccard": tc.MulticlassJaccardIndex(CLASSES, **options),
        },
        compute_groups=True,
    )
    made.update(*classes(32))
    return made


def run(quick: bool) -> Section:
    section = Section(
        "collection",
        f"{len(FUNCTIONS)} classification metrics at once: ours, and ours divided by theirs",
        ["", "batch", "ours µs", *(f"/ {side}" for side in (TORCHMETRICS, UNCHECKED, APART, ALONE, BARE))],
        notes=[
            "unchecked: torchmetrics with validate_args=False",
            "one by one: an exact of each function; confusion matrix alone: an exact of that function",
            "functions alone: what a call needs anyway, called one after another",
        ],
    )
    reached: dict[str, list[float]] = {"update": [], "call": []}
    for size in SIZES:
        batch = classes(size)
        for name in ("update", "call"):
            sides = {OURS: batchproof.exact(FUNCTIONS), TORCHMETRICS: collection()}
            sides[UNCHECKED] = collection(validate_args=False)
            sides[ALONE] = batchproof.exact(FUNCTIONS["confusion matrix"])
            apart = [batchproof.exact(fn) for fn in FUNCTIONS.values()]
            for metric in (sides[OURS], sides[ALONE], *apart):
                metric.update(*classes(64))
            method = "update" if name == "update" else "__call__"
            calls = {side: partial(getattr(metric, method), *batch) for side, metric in sides.items()}
            calls[APART] = partial(_each, [getattr(metric, method) for metric in apart], batch)
            calls[BARE] = partial(_each, list(FUNCTIONS.values()), batch)
            times = side_by_side(calls, 20 if quick else 150)
            ratios = [ratio(times, OURS, side) for side in (TORCHMETRICS, UNCHECKED, APART, ALONE, BARE)]
            section.rows.append([name, size, microseconds(times, OURS), *ratios])
            reached[name].append(ratios[0])
    section.aims = [
        Aim("update, at worst, against MetricCollection", 0.35, max(reached["update"])),
        Aim("call at 4,096 against MetricCollection's forward", 0.35, reached["call"][-1]),
    ]
    return section


def _each(calls, batch):
    for call in calls:
        call(*batch)
