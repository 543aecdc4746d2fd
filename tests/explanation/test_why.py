"""The figures of docs/why.md, computed here by other means than anything they describe."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "why.md").read_text(encoding="utf-8")
SIZES = (1, 16, 64, 128)
#: log e and log t, fine and far enough for what the page shows
LOG_E, LOG_T = np.linspace(-20, 20, 4001), np.linspace(-45, 30, 1501)
KURTOSIS = {"uniform": 1.8, "normal": 3, "Laplace": 6, "Student's t, 3 degrees of freedom": math.inf}
DENSITY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "uniform": lambda e: np.where(e < 1, 1.0, 0.0),
    "normal": lambda e: np.exp(-e * e / 2),
    "Laplace": lambda e: np.exp(-e),
    "Student's t, 3 degrees of freedom": lambda e: (1 + e * e / 3) ** -2.0,
}


def ratios(density: Callable[[np.ndarray], np.ndarray]) -> dict[int, float]:
    """E M_b / R by the page's integral, for errors of a symmetric density that need not be normalised."""
    squares = np.exp(2 * LOG_E)
    weights = density(np.exp(LOG_E)) * np.exp(LOG_E)
    weights /= weights.sum()
    root = math.sqrt((weights * squares).sum())
    survives = -np.expm1(-np.exp(LOG_T)[:, None] * squares) @ weights  # 1 - phi
    log_phi = np.log1p(-np.minimum(survives, 1 - 1e-16))
    step = LOG_T[1] - LOG_T[0]
    integrals = {b: (-np.expm1(b * log_phi) * np.exp(-LOG_T / 2)).sum() * step for b in SIZES}
    return {b: integral / (2 * math.sqrt(math.pi * b)) / root for b, integral in integrals.items()}


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def row(errors: str) -> list[str]:
    found = re.search(rf"^\| {re.escape(errors)} \| (.*) \|$", PAGE, re.MULTILINE)
    assert found is not None
    return found[1].split(" | ")


@pytest.mark.parametrize("errors", DENSITY)
def test_table(errors):
    found = ratios(DENSITY[errors])
    kurtosis = "infinite" if math.isinf(KURTOSIS[errors]) else f"{KURTOSIS[errors]:g}"
    assert row(errors) == [kurtosis, *(percent(1 - found[b]) for b in SIZES), percent(found[128] / found[16] - 1)]


def test_closed_form_is_the_integral():
    found = ratios(DENSITY["normal"])
    for b in SIZES:
        closed = math.sqrt(2 / b) * math.exp(math.lgamma((b + 1) / 2) - math.lgamma(b / 2))
        assert found[b] == pytest.approx(closed, rel=1e-6)
        assert closed == pytest.approx(1 - 1 / (4 * b), abs=1 / (16 * b))


@pytest.mark.parametrize("errors", ["uniform", "normal", "Laplace"])
def test_kurtosis_decides(errors):
    found = ratios(DENSITY[errors])[128]
    assert 1 - found == pytest.approx((KURTOSIS[errors] - 1) / (8 * 128), rel=0.05)


def test_one_sample_in_forty():
    """E M_b where each sample holds the whole error with probability 1/40."""
    held = {
        b: sum(math.comb(b, k) * 40.0**-k * (39 / 40) ** (b - k) * math.sqrt(k / b) for k in range(b + 1))
        for b in SIZES
    }
    shown = " and ".join(f"{held[b] / held[128]:.2f}" for b in (64, 128))
    assert f"averaging shows {held[16] / held[128]:.2f}, {shown}" in PAGE
    assert held[128] <= math.sqrt(8) * held[16]
