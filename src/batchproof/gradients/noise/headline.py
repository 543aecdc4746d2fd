"""The answer in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from batchproof.gradients.noise.result import GradientNoise, NoiseRow

#: From this share of the data on, a noise scale is no longer small against it.
NEAR = 0.1
#: A noise scale below this is none.
NOTHING = 1e-3


def headline(found: GradientNoise) -> str:
    """What batch size pays off."""
    if found.method == "batches":
        return _by_sizes(found.rows)
    if found.gradient_norm == 0:
        return "could not tell: the full gradient is zero, so there is nothing for a batch to come near"
    if not found.is_clear:
        return (
            f"could not tell which batch size is large enough: {found.samples:,} samples show no gradient beside their "
            f"noise; the gradient noise scale is above about {rounded(found.at_least)}"
        )
    scale = plus_minus(found.noise_scale, found.noise_scale_se)
    if found.noise_scale < 2:
        return f"single samples are enough: larger batches hardly pay off (gradient noise scale {scale})"
    return f"batches up to about {scale} samples pay off (gradient noise scale)"


def _by_sizes(rows: tuple[NoiseRow, ...]) -> str:
    known = [row for row in rows if math.isfinite(row.variance.value)]
    below = next((row for row in known if row.variance.value < 1), None)
    if not known:
        return "could not tell: batches of these sizes show no gradient beside their noise"
    if below is None:
        return f"batches larger than {known[-1].size:,} pay off: up to there the noise is larger than the gradient"
    return f"batches larger than {below.size:,} hardly pay off: from there on the gradient is larger than its noise"


def notes(found: GradientNoise) -> Iterator[str]:
    """What a reader of the numbers should know."""
    if found.random:
        yield (
            "the model is random (dropout): that noise is part of every figure here, the full gradient's too; after "
            "model.eval() it is measured without"
        )
    if found.method != "batches" and found.is_clear and found.noise_scale > NEAR * found.samples:
        yield (
            f"the noise scale is not small against {found.samples:,} samples: drawn without replacement, large batches "
            "of these come nearer to their full gradient than to that of endless data"
        )
    refused = [row for row in found.rows if row.undefined]
    if refused:
        listed = ", ".join(f"{row.undefined} of {row.batches} at size {row.size:,}" for row in refused[:3])
        yield f"batches that the model refuses, or whose gradient is not finite, are left out: {listed}"


def rounded(value: float) -> str:
    """A noise scale: whole numbers, and two digits below 10."""
    if not math.isfinite(value):
        return "infinity" if value > 0 else "unknown"
    if value < NOTHING:
        return "0"
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def plus_minus(value: float, error: float) -> str:
    """``49 ± 6``, ``5.2 ± 0.3``: to the first digit of the error, and no more than whole numbers."""
    if not (math.isfinite(value) and math.isfinite(error) and error > 0) or value < NOTHING:
        return rounded(value)
    decimals = min(6, max(0, -math.floor(math.log10(error))))
    return f"{value:,.{decimals}f} ± {error:,.{decimals}f}"
