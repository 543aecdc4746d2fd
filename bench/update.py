"""`update` beside torchmetrics', torcheval's and hand-written sums."""

from __future__ import annotations

from functools import partial

from bench.cases import BYHAND, CASES, OURS, SIZES, TORCHEVAL, TORCHMETRICS, UNCHECKED
from bench.section import Aim, Section
from bench.timing import geometric_mean, microseconds, ratio, side_by_side

RIVALS = (TORCHMETRICS, UNCHECKED, TORCHEVAL, BYHAND)


def run(quick: bool) -> Section:
    section = Section(
        "update",
        "update: ours, and ours divided by theirs",
        ["metric", "batch", "ours µs", *(f"/ {rival}" for rival in RIVALS)],
        notes=[
            "unchecked: torchmetrics with validate_args=False; its classification metrics check labels by default",
            "the one-hot spelling of macro F1 is shown beside, and left out of the means and the aims",
        ],
    )
    found: dict[str, list[float]] = {rival: [] for rival in RIVALS}
    small: dict[str, float] = {}
    for case in CASES:
        for size in SIZES:
            batch = case.batch(size)
            sides = {OURS: case.ours(), **{name: make() for name, make in case.rivals.items()}}
            times = side_by_side(
                {name: partial(metric.update, *batch) for name, metric in sides.items()}, 60 if quick else 400
            )
            ratios = {rival: ratio(times, OURS, rival) for rival in case.rivals}
            section.rows.append([case.name, size, microseconds(times, OURS), *(ratios.get(rival) for rival in RIVALS)])
            if case.extra:
                continue
            for rival, value in ratios.items():
                found[rival].append(value)
            if size == SIZES[0]:
                small[case.name] = ratios[BYHAND]
    section.rows.append(["geometric mean", None, None, *(geometric_mean(found[rival]) for rival in RIVALS)])
    worst = max(small, key=lambda name: small[name])
    section.aims = [
        Aim("slowest against torchmetrics", 1.0, max(found[TORCHMETRICS])),
        Aim("geometric mean", 0.5, geometric_mean(found[TORCHMETRICS])),
        Aim(f"slowest against hand-written sums at {SIZES[0]}, {worst},", 1.5, small[worst]),
    ]
    return section
