"""What a simulation should find: expected values of RMSE and its relatives, in closed form or by an integral.

For normal errors a root mean square is a scaled chi variable.  For any others,

    E sqrt(S / b) = 1 / (2 sqrt(pi b)) * integral over t from 0 to infinity of (1 - phi(t)^b) t^(-3/2),

where S sums b independent squared errors and phi(t) = E exp(-t e^2).  It follows from the integral for one number,
sqrt(s) = 1 / (2 sqrt(pi)) * integral of (1 - exp(-t s)) t^(-3/2), by taking expectations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from batchproof.simulate.distributions import Distribution

_FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "rmse": lambda e: e.square().mean().sqrt(),
    "mse": lambda e: e.square().mean(),
    "mae": lambda e: e.abs().mean(),
    "std": lambda e: e.std(),
    "std0": lambda e: e.std(correction=0),
    "var": lambda e: e.var(),
    "var0": lambda e: e.var(correction=0),
}
_TRIES = (2, 3, 33)
_MAGNITUDES = tuple(10.0**power for power in range(-4, 7))
_STEP = 1 / 16


def recognised(fn: Callable[[Tensor], object]) -> str | None:
    """Which of a few well-known formulas a function of errors is, by its values on random errors.

    Two analytic functions that agree at random points agree everywhere. The errors are of all magnitudes, as a function
    may be another one where it clamps or masks.
    """
    generator = torch.Generator().manual_seed(0)
    tries = [_of_all_sizes(n, magnitude, generator) for n in _TRIES for magnitude in _MAGNITUDES]
    try:
        with torch.no_grad():
            values = [torch.as_tensor(fn(errors.clone())).detach().double() for errors in tries]
    except Exception:  # noqa: BLE001 - it does not take such errors: then it is none of these
        return None
    for name, formula in _FORMULAS.items():
        own = [formula(errors) for errors in tries]
        if all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-10) for a, b in zip(values, own, strict=True)):
            return name
    return None


def _of_all_sizes(n: int, magnitude: float, generator: torch.Generator) -> Tensor:
    spread = torch.randn(2, n, generator=generator, dtype=torch.float64)
    return magnitude * spread[0] * torch.exp(spread[1])


@dataclass(frozen=True)
class Theory:
    """Expected values of one formula over batches of errors that are drawn independently.

    Attributes:
        formula: one that `recognised` names.
        errors: a distribution, or the errors that are resampled.
    """

    formula: str
    errors: Distribution | Tensor

    @property
    def is_normal(self) -> bool:
        return isinstance(self.errors, Distribution) and self.errors.name == "normal"

    @property
    def by(self) -> str:
        """How the expected values are computed."""
        return "integral" if self.formula == "rmse" and not self.is_normal else "closed form"

    @property
    def text(self) -> str:
        """The formula for normal errors, in words; empty where there is none to show."""
        if not self.is_normal:
            return ""
        return {
            "rmse": "scale · √(2/b) · Γ((b+1)/2) / Γ(b/2)",
            "std": "scale · √(2/(b-1)) · Γ(b/2) / Γ((b-1)/2)",
            "std0": "scale · √(2/b) · Γ(b/2) / Γ((b-1)/2)",
        }.get(self.formula, "")

    def expected(self, b: int) -> float | None:
        """The expected value on a batch of b errors; None where it is not known, or not finite."""
        value = _EXPECTED[self.formula](self, b)
        return value if value is not None and math.isfinite(value) else None

    # ------------------------------------------------------------------ moments

    @cached_property
    def nodes(self) -> tuple[Tensor, Tensor]:
        """Absolute errors and their probabilities, so that sums over them are expectations of smooth functions."""
        if isinstance(self.errors, Tensor):
            sizes, counts = torch.unique(self.errors.double().abs(), return_counts=True)
            return sizes, counts.double() / counts.sum()
        sizes, weights = _NODES[self.errors.name](self.errors.parameter)
        return sizes * self.errors.scale, weights

    def _square(self) -> float:
        """E e^2."""
        of = self.errors
        if isinstance(of, Tensor):
            return of.double().square().mean().item()
        df = sigma = of.parameter
        standard = {
            "normal": 1.0, "laplace": 2.0, "uniform": 1 / 3, "t": df / (df - 2) if df > 2 else math.inf,
            "lognormal": math.exp(2 * sigma**2),
        }  # fmt: skip
        return standard[of.name] * of.scale**2

    def _absolute(self) -> float:
        """E |e|."""
        of = self.errors
        if isinstance(of, Tensor):
            return of.double().abs().mean().item()
        if of.name == "t":
            df = of.parameter
            if df <= 1:
                return math.inf
            gammas = math.lgamma((df + 1) / 2) - math.lgamma(df / 2)
            return of.scale * 2 * math.sqrt(df / math.pi) * math.exp(gammas) / (df - 1)
        sigma = of.parameter
        standard = {
            "normal": math.sqrt(2 / math.pi), "laplace": 1.0, "uniform": 0.5, "lognormal": math.exp(sigma**2 / 2),
        }  # fmt: skip
        return standard[of.name] * of.scale

    def _variance(self) -> float:
        of = self.errors
        if isinstance(of, Tensor):
            return of.double().var(correction=0).item()
        return self._square() - (self._absolute() ** 2 if of.name == "lognormal" else 0.0)

    # ------------------------------------------------------------------ root mean squares

    def _rmse(self, b: int) -> float:
        if self.is_normal:
            assert isinstance(self.errors, Distribution)
            return self.errors.scale * chi_mean(b)
        if isinstance(self.errors, Distribution) and self.errors.name == "t" and self.errors.parameter <= 1:
            return math.inf
        v, log_phi = self._transform
        integrand = -torch.expm1(b * log_phi) * torch.exp(-v)
        return float(integrand.sum()) * _STEP / math.sqrt(math.pi * b) * self._unit

    @cached_property
    def _unit(self) -> float:
        """A size of the errors: what they are measured in, so that one grid suits all."""
        return float((self.nodes[0] * self.nodes[1]).sum()) or 1.0

    @cached_property
    def _transform(self) -> tuple[Tensor, Tensor]:
        """log phi(t) at t = exp(2 v) over a grid of v: after that substitution the trapezoidal rule converges fast."""
        v = torch.arange(-60.0, 40.0, _STEP, dtype=torch.float64)
        sizes, weights = self.nodes
        squares = (sizes / self._unit).square()
        missing = torch.cat(
            [-torch.expm1(-torch.exp(2 * part)[:, None] * squares) @ weights for part in torch.split(v, 64)]
        )
        return v, torch.log1p(-missing.clamp(max=1.0))

    def _std(self, b: int) -> float | None:
        if not self.is_normal or b < 2:
            return None
        assert isinstance(self.errors, Distribution)
        return self.errors.scale * chi_mean(b - 1)

    def _std0(self, b: int) -> float | None:
        known = self._std(b)
        return known if known is None else known * math.sqrt((b - 1) / b)


_EXPECTED: dict[str, Callable[[Theory, int], float | None]] = {
    "rmse": Theory._rmse,
    "mse": lambda of, b: of._square(),
    "mae": lambda of, b: of._absolute(),
    "std": Theory._std,
    "std0": Theory._std0,
    "var": lambda of, b: of._variance() if b > 1 else None,
    "var0": lambda of, b: of._variance() * (b - 1) / b,
}


def chi_mean(k: int) -> float:
    """The mean of sqrt(chi-squared with k degrees of freedom / k): sqrt(2/k) gamma((k+1)/2) / gamma(k/2).

    From k = 1000 on by the series of the ratio of gamma functions, as the logarithms would cancel.
    """
    if k < 1000:
        return math.sqrt(2 / k) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2))
    x = 1 / k
    return 1 - x / 4 + x**2 / 32 + 5 * x**3 / 128 - 21 * x**4 / 2048


# The nodes lie evenly in a variable in which the density falls off exponentially at both ends; there the trapezoidal
# rule converges exponentially, too.


def _lognormal_nodes(sigma: float) -> tuple[Tensor, Tensor]:
    reach = 38.0 + 2 * sigma  # where exp(2 sigma z) is largest under the density, and as far on
    step = _STEP / max(1.0, sigma)
    z = torch.arange(-38.0, reach, step, dtype=torch.float64)
    return torch.exp(sigma * z), step / math.sqrt(2 * math.pi) * torch.exp(-z.square() / 2)


def _laplace_nodes(_: float) -> tuple[Tensor, Tensor]:
    x = torch.exp(torch.arange(-40.0, 6.6, _STEP, dtype=torch.float64))
    return x, _STEP * x * torch.exp(-x)


def _uniform_nodes(_: float) -> tuple[Tensor, Tensor]:
    x = torch.sigmoid(torch.arange(-40.0, 40.0, _STEP, dtype=torch.float64))
    return x, _STEP * x * (1 - x)


def _t_nodes(df: float) -> tuple[Tensor, Tensor]:
    x = torch.exp(torch.arange(-40.0, 40.0 + 40.0 / df, _STEP, dtype=torch.float64))
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    return x, 2 * _STEP * constant * x * torch.exp(-(df + 1) / 2 * torch.log1p(x.square() / df))


_NODES: dict[str, Callable[[float], tuple[Tensor, Tensor]]] = {
    "lognormal": _lognormal_nodes, "laplace": _laplace_nodes, "uniform": _uniform_nodes, "t": _t_nodes,
}  # fmt: skip
