"""What the reports on a GradientNoise say in words, in every form: terminal, HTML and PNG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from typing_extensions import assert_never

from batchproof.gradients.noise.headline import rounded
from batchproof.ground.text import counted
from batchproof.report.document import Aside
from batchproof.report.numbers import size

if TYPE_CHECKING:
    from batchproof.gradients.noise.result import GradientNoise

#: Below this a variance is rounding: the batch has all samples.
NOTHING = 1e-9


def drawn(found: GradientNoise) -> str:
    """What was drawn, and from what."""
    counts = sorted({row.batches for row in found.rows})
    several = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{found.batches}"
    of = f"{found.samples:,} samples, {counted(found.parameters, 'parameter')}"
    return f"{of}; {several} batches of each size, without replacement, seed {found.seed}; ± one standard error"


def at_marked_row(found: GradientNoise) -> str:
    """``at your batch size, 32, a step makes ...``; empty where no size is marked."""
    row = next((row for row in found.rows if row.size == found.marked), None)
    if found.marked is None:
        return ""
    head = f"at your batch size, {size(found.marked)},"
    if row is None:
        return f"your batch size, {size(found.marked)}, was not reached"
    if not math.isfinite(row.variance.value):
        return f"{head} the gradient cannot be told from its noise"
    text = f"{head} a step makes {share(row.progress)} of the progress of a noise-free one"
    larger = found.expected_variance(2 * row.size)
    if not found.is_clear or 2 * row.size > found.samples:
        return text
    return f"{text}; at {size(2 * row.size)} it would make {share(1 / (1 + larger))}"


def full_name(found: GradientNoise) -> str:
    """What batches are compared with."""
    return "full gradient" if found.method != "batches" else "mean gradient"


def share(progress: float) -> str:
    """A step's progress: ``41%``, ``2.1%``."""
    return f"{progress:.0%}" if progress >= 0.095 else f"{progress:.1%}"


def asides(found: GradientNoise) -> Iterator[Aside]:
    """What a reader of the table should know, each line under its label."""
    if found.interrupted:
        yield Aside("ended", f"interrupted after size {size(found.rows[-1].size)}", is_warning=True)
    if found.method == "per-sample" and not found.random:  # otherwise what is expected is only estimated
        yield from (Aside("check", text) for text in _checked(found))
    if found.method != "batches" and found.is_clear:
        yield Aside("means", _pays(found))
    yield Aside("method", _way(found))
    yield Aside("terms", _full(found))
    if found.method == "batches" or found.is_clear:
        yield Aside("limits", _LIMITS)


def _pays(found: GradientNoise) -> str:
    scale, source = rounded(found.noise_scale), "(McCandlish et al. 2018, arXiv 1812.06162)"
    share_of = f"1 / (1 + relative variance), or about 1 / (1 + {scale} / b)"
    text = f"a step makes {share_of}, of the progress of a noise-free one"
    if found.noise_scale < 1:
        return f"{text} {source}"
    shares = (("a tenth", 1 / 9), ("half", 1.0), ("nine tenths", 9.0))
    at = [(part, round(found.noise_scale * factor)) for part, factor in shares]
    listed = ", ".join(f"{part} with batches of {count:,}" for part, count in at if count >= 1)
    return (
        f"{text}: {listed}. With batches of {scale}, training needs 2x the minimum number of steps and 2x the minimum "
        f"number of samples {source}"
    )


def _way(found: GradientNoise) -> str:
    match found.method:
        case "batches":
            return f"each size by itself: {found.reason}"
        case "per-sample":
            return f"the noise scale from {found.samples:,} per-sample gradients: {found.reason}"
        case "ratio":
            count = found.samples // found.unit
            of = "samples" if found.unit == 1 else f"micro-batches of {found.unit}"
            return f"the noise scale from the gradients of {count:,} {of}: {found.reason}"
        case "micro-batches":
            count = found.samples // found.unit
            return f"the noise scale from the gradients of {count:,} micro-batches of {found.unit}: {found.reason}"
        case _:
            assert_never(found.method)


def _full(found: GradientNoise) -> str:
    if found.method == "batches":
        return (
            "G is the mean of the gradients g of all batches of a size; relative variance is |g - G|² / |G|² on "
            "average, and the cosine the root of |G|² / |g|²"
        )
    return (
        f"G is the gradient of all {found.samples:,} samples, of norm {found.gradient_norm:.4g}, and g that of a "
        "batch; relative variance is |g - G|² / |G|² on average, expected (1 - b/N) tr(S) / (b |G|²) with the "
        "covariance S of per-sample gradients"
    )


HOLDS_FOR = "Holds for plain SGD at this point of training; with Adam it can differ by orders of magnitude."
MORE = "variances, cosines, method, sources"


def closing(found: GradientNoise) -> str:
    """On how much data it rests."""
    return f"{found.samples:,} samples, {counted(found.parameters, 'parameter')}, seed {found.seed}"


_LIMITS = (
    "it holds at this point of training: the noise mostly grows relative to the gradient, so measure again. Progress "
    "assumes plain SGD and a loss that is equally curved in all directions. With Adam it can be far off: in two "
    "language models the noise scale was several orders of magnitude below the batch size up to which nothing was lost "
    "(Merrill et al. 2025, arXiv 2505.23971)"
)


def _checked(found: GradientNoise) -> Iterator[str]:
    """How far the drawn variances lie from what is expected: a reader sees at once whether to believe them."""
    known = [row.variance for row in found.rows if row.variance.value > NOTHING]
    off = [abs(estimate.deviations) for estimate in known if estimate.deviations is not None]
    if off:
        yield f"the variances are within {math.ceil(10 * max(off)) / 10:.1f} standard errors of what is expected"
