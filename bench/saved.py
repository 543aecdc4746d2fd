"""What a saved state takes: bytes, and time to load and to merge, beside a torchmetrics state of the same metric."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

import torch
import torchmetrics as tm
from torch import Tensor

import batchproof
from bench.section import Aim, Section

CLASSES = 100


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean().sqrt()


def r2(pred: Tensor, real: Tensor) -> Tensor:
    return 1 - (real - pred).square().sum() / (real - real.mean()).square().sum()


def macro_f1(pred: Tensor, real: Tensor) -> Tensor:
    table = torch.bincount(CLASSES * real + pred, minlength=CLASSES**2).view(CLASSES, CLASSES).double()
    return (2 * table.diagonal() / (table.sum(0) + table.sum(1)).clamp(min=1)).mean()


METRICS: dict[str, tuple[Callable[..., Tensor], Callable[[], Any]]] = {
    "RMSE": (rmse, lambda: tm.MeanSquaredError(squared=False)),
    "R2": (r2, tm.R2Score),
    "macro F1, 100 classes": (macro_f1, lambda: tm.classification.MulticlassF1Score(CLASSES)),
}


def _samples(fn: Callable[..., Tensor], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if fn is macro_f1:
        return torch.randint(CLASSES, (5_000,), generator=generator), torch.randint(
            CLASSES, (5_000,), generator=generator
        )
    real = torch.randn(5_000, generator=generator)
    return real + 0.5 * torch.randn(5_000, generator=generator), real


def _milliseconds(work: Callable[[], Any], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def run(quick: bool) -> Section:
    """A row for each metric: as an engine sends its state, and as a metric object is pickled."""
    section = Section(
        "saved",
        "A saved state, beside a torchmetrics state of the same metric",
        ["metric", "what", "leaves, bytes", "saved, bytes", "torchmetrics", "load, ms", "torchmetrics", "merge, ms",
         "torchmetrics"],
        notes=["state: of batchproof.plan; plan: which is sent once; exact: the whole metric, pickled"],
    )  # fmt: skip
    repeats = 10 if quick else 50
    over, loads, merges = [], [], []
    for name, (fn, theirs) in METRICS.items():
        samples = _samples(fn, 0)
        other = theirs()
        other.update(*samples)
        their_data = pickle.dumps(other)
        their_load = _milliseconds(lambda data=their_data: pickle.loads(data), repeats)
        their_targets = [pickle.loads(their_data) for _ in range(repeats)]
        their_merge = _milliseconds(
            lambda targets=their_targets, other=other: targets.pop().merge_state(other), repeats
        )

        plan = batchproof.plan(fn, *(column[:500] for column in samples))
        state, more = plan.fold(*samples), plan.fold(*_samples(fn, 1))
        data, plan_data = state.to_bytes(), pickle.dumps(plan)
        leaves = sum(leaf.nbytes for leaf in state.leaves)
        load = _milliseconds(lambda plan=plan, data=data: plan.state(data), repeats)
        merge = _milliseconds(lambda plan=plan, both=(state, more): plan.merge(both), repeats)
        section.rows.append([name, "state", leaves, len(data), len(their_data), load, their_load, merge, their_merge])
        plan_load = _milliseconds(lambda data=plan_data: pickle.loads(data), repeats)
        section.rows.append([name, "plan", None, len(plan_data), None, plan_load, None, None, None])

        ours, others = batchproof.exact(fn), batchproof.exact(fn)
        ours.update(*samples)
        others.load_state_dict(ours.state_dict())  # as a worker that got the plan: centres are one
        others.update(*_samples(fn, 1))
        data = pickle.dumps(ours)
        exact_load = _milliseconds(lambda data=data: pickle.loads(data), repeats)
        targets = [pickle.loads(data) for _ in range(repeats)]
        exact_merge = _milliseconds(lambda targets=targets, others=others: targets.pop().merge_state([others]), repeats)
        held = sum(leaf.nbytes for leaf in ours.state_dict()["leaves"])
        section.rows.append(
            [name, "exact", held, len(data), len(their_data), exact_load, their_load, exact_merge, their_merge]
        )
        over += [len(plan_data), len(data) - held]
        loads += [load + plan_load, exact_load]
        merges.append(merge)
    section.aims = [
        Aim("bytes beside the leaves, at most", 4096, max(over)),
        Aim("milliseconds to load, at most", 2.0, max(loads)),
        Aim("milliseconds to merge two states, at most", 0.1, max(merges)),
    ]
    return section
