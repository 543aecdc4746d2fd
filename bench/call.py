"""The drop-in call `metric(pred, real)` in a training step, beside torchmetrics' `forward` and the bare function."""

from __future__ import annotations

from functools import partial

from bench.cases import CASES, OURS, SIZES, TORCHMETRICS
from bench.section import Aim, Section
from bench.timing import geometric_mean, microseconds, ratio, side_by_side

BARE = "the function alone"


def run(quick: bool) -> Section:
    section = Section(
        "call",
        "metric(pred, real), predictions that carry gradients: ours, and ours divided by theirs",
        ["metric", "batch", "ours µs", f"/ {TORCHMETRICS}", f"/ {BARE}"],
        notes=["the function alone is the floor: its value and its graph are what a training step needs anyway"],
    )
    for case in CASES:
        for size in SIZES:
            pred, real = case.batch(size)
            pred.requires_grad_()
            sides = {OURS: case.ours(), TORCHMETRICS: case.rivals[TORCHMETRICS](), BARE: case.fn}
            times = side_by_side(
                {name: partial(side, pred, real) for name, side in sides.items()}, 60 if quick else 300
            )
            ratios = [ratio(times, OURS, other) for other in (TORCHMETRICS, BARE)]
            section.rows.append([case.name, size, microseconds(times, OURS), *ratios])
    means = [geometric_mean(row[column] for row in section.rows) for column in (3, 4)]
    section.aims = [
        Aim("geometric mean against torchmetrics", 0.25, means[0]),
        Aim("slowest", 0.25, max(row[3] for row in section.rows)),
    ]
    section.rows.append(["geometric mean", None, None, *means])
    return section
