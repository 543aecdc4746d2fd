"""What a simulation should find: expected values of RMSE and its relatives, in closed form or by an integral.

For normal errors a root mean square is a scaled chi variable.  For any others,

    E sqrt(S / b) = 1 / (2 sqrt(pi b)) * integral over t from 0 to infinity of (1 - phi(t)^b) t^(-3/2),

where S sums b independent squared errors and phi(t) = E exp(-t e^2).  It follows from the integral for one number,
sqrt(s) = 1 / (2 sqrt(pi)) * integral of (1 - exp(-t s)) t^(-3/2), by taking expectations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from batchproof.derive import SMOOTH, Program, base_name
from batchproof.ground.tensors import close
from batchproof.simulation.distributions import Distribution
from batchproof.simulation.result import ExpectedBy

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
#: Powers of ten, times the size of the errors: a term that is added, or a bound, shows at one of them.
_MAGNITUDES = (-80, -40, -20, -12, -9, -6, -3, -1, 0, 1, 3, 6, 9, 12, 20, 40)
#: Whole batches of so many errors are tried.
_LONGEST = 100_000
_STEP = 1 / 16
_MOST_NODES = 10_000


def recognised(
    fn: Callable[[Tensor], object], program: Program | None, size: float, batch_sizes: Sequence[int]
) -> str | None:
    """Which of a few well-known formulas a function of errors is.

    Its operations must be analytic (or absolute values), with no sample picked out. Then values on random errors prove
    it: two such functions that agree at generic points agree everywhere. That they do so on other numbers of samples is
    tried on the batch sizes in use.

    Args:
        fn: of the errors alone.
        program: as it was recorded.
        size: a typical error.
        batch_sizes: that are simulated.
    """
    if program is None or any(base_name(op) not in _ALLOWED for op in program.ops) or program.reads:
        return None
    generator = torch.Generator().manual_seed(0)
    tries = [_errors(n, size * 10.0**power, generator) for n in _TRIES for power in _MAGNITUDES]
    tries += [_errors(n, size, generator) for n in batch_sizes if n <= _LONGEST]
    try:
        with torch.no_grad():
            values = [torch.as_tensor(fn(errors.clone())).detach().double() for errors in tries]
    except Exception:  # noqa: BLE001 - it does not take such errors: then it is none of these
        return None
    for name, formula in _FORMULAS.items():
        own = [formula(errors) for errors in tries]
        if all(map(close, values, own)):
            return name
    return None


_ALLOWED = SMOOTH | {"abs"}


def _errors(n: int, size: float, generator: torch.Generator) -> Tensor:
    spread = torch.randn(2, n, generator=generator, dtype=torch.float64)
    return size * spread[0] * torch.exp(spread[1])


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
        """Whether the errors are drawn from a normal distribution."""
        return isinstance(self.errors, Distribution) and self.errors.name == "normal"

    @property
    def by(self) -> ExpectedBy:
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
        try:
            value = _EXPECTED[self.formula](self, b)
        except OverflowError:
            return None
        return value if value is not None and math.isfinite(value) else None

    # ------------------------------------------------------------------ moments

    @cached_property
    def nodes(self) -> tuple[Tensor, Tensor]:
        """Absolute errors and their probabilities, so that sums over them are expectations of smooth functions."""
        if isinstance(self.errors, Tensor):
            return _grouped(self.errors.double().abs())
        sizes, weights = _NODES[self.errors.name](self.errors.parameter)
        return sizes * self.errors.scale, weights

    def _square(self) -> float:
        """E e^2."""
        of = self.errors
        return of.double().square().mean().item() if isinstance(of, Tensor) else of.scale**2 * _SQUARE[of.name](of)

    def _absolute(self) -> float:
        """E |e|."""
        of = self.errors
        return of.double().abs().mean().item() if isinstance(of, Tensor) else of.scale * _ABSOLUTE[of.name](of)

    def _variance(self) -> float:
        of = self.errors
        if isinstance(of, Tensor):
            return of.double().var(correction=0).item()
        if of.name == "lognormal":
            return of.scale**2 * math.exp(of.parameter**2) * math.expm1(of.parameter**2)
        return self._square()

    # ------------------------------------------------------------------ root mean squares

    def _rmse(self, b: int) -> float | None:
        if b == 1:
            return self._absolute()
        of = self.errors
        if isinstance(of, Distribution):
            if of.name == "normal":
                return of.scale * chi_mean(b)
            if _is_too_wide(of):
                return None
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


def chi_mean(k: float) -> float:
    """The mean of sqrt(chi-squared with k degrees of freedom / k): sqrt(2/k) gamma((k+1)/2) / gamma(k/2).

    From k = 1000 on by the series of the ratio of gamma functions, as the logarithms would cancel.
    """
    if k < 1000:
        return math.sqrt(2 / k) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2))
    x = 1 / k
    return 1 - x / 4 + x**2 / 32 + 5 * x**3 / 128 - 21 * x**4 / 2048


def _is_too_wide(of: Distribution) -> bool:
    """Whether the tail reaches beyond the grid of the integral."""
    return (of.name == "t" and of.parameter < 1.5) or (of.name == "lognormal" and of.parameter > 5)


#: E e^2 and E |e| of the standard distributions.
_SQUARE: dict[str, Callable[[Distribution], float]] = {
    "normal": lambda of: 1.0,
    "laplace": lambda of: 2.0,
    "uniform": lambda of: 1 / 3,
    "t": lambda of: of.parameter / (of.parameter - 2) if of.parameter > 2 else math.inf,
    "lognormal": lambda of: math.exp(2 * of.parameter**2),
}
_ABSOLUTE: dict[str, Callable[[Distribution], float]] = {
    "normal": lambda of: math.sqrt(2 / math.pi),
    "laplace": lambda of: 1.0,
    "uniform": lambda of: 0.5,
    "t": lambda of: _t_absolute(of.parameter),
    "lognormal": lambda of: math.exp(of.parameter**2 / 2),
}


def _t_absolute(df: float) -> float:
    return math.sqrt(2 / math.pi) * chi_mean(df) * df / (df - 1) if df > 1 else math.inf


def _grouped(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct sizes and their shares; of very many, groups that differ by a thousandth, by their mean square."""
    distinct, counts = torch.unique(sizes, return_counts=True)
    if len(distinct) <= _MOST_NODES:
        return distinct, counts.double() / len(sizes)
    group = (sizes.clamp(min=1e-300).log() * 1000).round()
    _, inverse, counts = torch.unique(group, return_inverse=True, return_counts=True)
    squares = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, inverse, sizes.square())
    return (squares / counts).sqrt(), counts.double() / len(sizes)


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
    constant = chi_mean(df) / math.sqrt(2 * math.pi)
    return x, 2 * _STEP * constant * x * torch.exp(-(df + 1) / 2 * torch.log1p(x.square() / df))


_NODES: dict[str, Callable[[float], tuple[Tensor, Tensor]]] = {
    "lognormal": _lognormal_nodes, "laplace": _laplace_nodes, "uniform": _uniform_nodes, "t": _t_nodes,
}  # fmt: skip
