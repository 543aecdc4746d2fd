"""The drop-in call `metric(pred, real)` in a training step, beside torchmetrics' `forward` and the bare function."""

from __future__ import annotations

from functools import partial

from bench.cases import CASES, OURS, SIZES, TORCHMETRICS
from bench.section import Aim, Section
from bench.timing import geometric_mean, microseconds, ratio, side_by_side

BARE = "function alone"


def run(quick: bool) -> Section:
    section = Section(
        "call",
        "metric(pred, real), predictions that carry gradients: ours, and ours divided by theirs",
        ["metric", "batch", "ours µs", f"/ {TORCHMETRICS}", f"/ {BARE}", f"{BARE} / {TORCHMETRICS}"],
        notes=["the function alone is the floor: a training step needs its value and its graph anyway"],
    )
    for case in CASES:
        for size in SIZES:
            pred, real = case.batch(size)
            pred.requires_grad_()
            sides = {OURS: case.ours(), TORCHMETRICS: case.rivals[TORCHMETRICS](), BARE: case.fn}
            times = side_by_side(
                {name: partial(side, pred, real) for name, side in sides.items()}, 60 if quick else 300
            )
            ratios = [ratio(times, OURS, TORCHMETRICS), ratio(times, OURS, BARE), ratio(times, BARE, TORCHMETRICS)]
            section.rows.append([case.name, size, microseconds(times, OURS), *ratios])
    counted = {case.name for case in CASES if not case.extra}
    for size in SIZES:
        rows = [row for row in section.rows if row[0] in counted and row[1] == size]
        means = [geometric_mean(row[column] for row in rows) for column in (3, 4, 5)]
        section.rows.append(["geometric mean", size, None, *means])
        section.aims.append(Aim(f"against torchmetrics at {size:,}", 0.25, means[0]))
    return section
