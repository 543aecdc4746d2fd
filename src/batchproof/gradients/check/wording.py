"""What the reports on a GradientCheck say in words and figures, in every form: terminal and HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from batchproof.ground.text import counted
from batchproof.report.document import Column, Tone
from batchproof.report.numbers import aligned

if TYPE_CHECKING:
    from batchproof.gradients.check import GradientCheck, MicroBatchWeights, ParameterGradient, WindowGradient

#: So many parameters are shown; the rest is counted.
MOST_ROWS = 8


def state(check: GradientCheck) -> bool | None:
    """Right, wrong, or not to be told."""
    from batchproof.gradients.check.result import UNDECIDED

    return None if check.cause in UNDECIDED else check.ok


def shown(check: GradientCheck) -> tuple[ParameterGradient, ...]:
    """The worst parameters; of those that are all the same, a few."""
    return check.parameters[:MOST_ROWS]


def how_many_are_off(check: GradientCheck) -> str:
    """How many parameters are off, and which of them are shown."""
    rows = check.parameters
    off = sum(not row.is_same for row in rows)
    every = counted(len(rows), "parameter")
    if not off:
        found = f"{every}, each the same within {check.tolerance:.0e} of its norm"
    else:
        found = f"{off:,} of {every} off by more than {check.tolerance:.0e} of the norm"
    step = ""
    if len(check.windows) > 1:
        first = next((index for index, window in enumerate(check.windows, start=1) if not window.is_same), 1)
        step = f"; at optimizer step {first}"
    worst = "the worst" if off else "the first"
    return found + step + (f"; {worst} {MOST_ROWS}" if len(rows) > MOST_ROWS else "")


def remaining(check: GradientCheck) -> str:
    """What is not shown: ``40 more parameters, 12 of them off``."""
    rest = check.parameters[MOST_ROWS:]
    if not rest:
        return ""
    off = sum(not row.is_same for row in rest)
    return f"{len(rest):,} more parameters, {'all' if off == len(rest) else f'{off:,}' if off else 'none'} of them off"


def parameter_columns(rows: Sequence[ParameterGradient]) -> tuple[Column, ...]:
    """Norms, ratio, cosine and distance."""
    return (
        _column("full", [_norm(row.full) for row in rows]),
        _column("accumulated", [_norm(row.accumulated) for row in rows]),
        _column("ratio", [_ratio(row.ratio) for row in rows], "answer"),
        _column("cosine", [_cosine(row.cosine) for row in rows]),
        _column("off by", ["" if row.is_same else _share(row.difference) for row in rows], "notable"),
    )


def window_columns(windows: Sequence[WindowGradient]) -> tuple[Column, ...]:
    """Norms, ratio, cosine and distance, for each optimizer step."""
    return (
        _column("micro-batches", [f"{window.passes}" for window in windows]),
        _column("full", [_norm(window.full) for window in windows]),
        _column("accumulated", [_norm(window.accumulated) for window in windows]),
        _column("ratio", [_ratio(window.ratio) for window in windows], "answer"),
        _column("cosine", [_cosine(window.cosine) for window in windows]),
        _column("off by", ["" if window.is_same else _share(window.difference) for window in windows], "notable"),
    )


def weight_columns(weights: MicroBatchWeights) -> Iterator[Column]:
    """What was counted in each micro-batch, and how many times as much it should have counted."""
    for name, numbers in weights.counts.items():
        yield _column(name, [f"{number:g}" for number in numbers])
    yield _column("should count", [f"{factor:.3f} x" for factor in weights.factors], "answer")


def pass_names(weights: MicroBatchWeights) -> list[str]:
    """``micro-batch 2``, of several ranks ``rank 1, micro-batch 2``; not more than are shown."""
    made: dict[int, int] = {}
    names = []
    for rank in weights.ranks or [0] * len(weights.factors):
        made[rank] = made.get(rank, 0) + 1
        names.append(f"rank {rank}, micro-batch {made[rank]}" if weights.ranks else f"micro-batch {made[rank]}")
    return names[:MOST_ROWS]


def weighed(weights: MicroBatchWeights) -> str:
    """What the weights rest on."""
    by = f"by {' or by '.join(weights.fits)}" if weights.fits else "by least squares"
    left = max(weights.residual, 1e-16)
    return f"{by}: times what each micro-batch counts now, which leaves {left:.0e} of the gradient"


def _column(title: str, texts: list[str], tone: Tone = "plain") -> Column:
    return Column(title, tuple(aligned(texts)), tone)


def _norm(value: float | None) -> str:
    if value is None:
        return "none"
    if not math.isfinite(value):
        return f"{value}"
    return f"{value:.4g}" if value == 0 or 1e-3 <= value < 1e5 else f"{value:.2e}"


def _ratio(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3e}" if math.isfinite(value) else ""


def _cosine(value: float) -> str:
    return f"{value:.6f}" if math.isfinite(value) else ""


def _share(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return f"{value:.0e}" if value < 1e-3 else f"{value:.1%}" if value < 10 else f"{value:,.0f}x"
