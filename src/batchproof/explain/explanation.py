"""What ``explain`` found, as plain frozen data.  Nothing here measures anything, and nothing here needs torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["function", "metric", "model"]
Direction = Literal["low", "high", "varies"]


@dataclass(frozen=True)
class Place:
    """A line of somebody's source: ``loss.py:11  root = torch.sqrt(mean)``."""

    file: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """One reason why the value is, or is not, independent of the batch size."""

    code: str
    title: str
    what: str
    remedy: str = ""
    place: Place | None = None
    direction: Direction | None = None
    harmless: bool = False


@dataclass(frozen=True)
class Reading:
    """What averaging over batches of one size reports.

    ``mean`` gives every batch the same weight, ``weighted`` the number of its samples, and ``dropped`` leaves a short
    last batch out.  ``undefined`` batches gave NaN or raised; the means are NaN then, as a script's would be.
    """

    size: int
    batches: int
    of: int
    last: int
    mean: float
    weighted: float
    dropped: float
    standard_error: float | None = None
    undefined: int = 0
    raised: str | None = None

    @property
    def is_sampled(self) -> bool:
        """Whether only some of the batches were tried."""
        return self.batches < self.of


@dataclass(frozen=True)
class Curve:
    """The reported value over batch sizes, beside the exact value: of one component, where there are several."""

    exact: float
    readings: tuple[Reading, ...]
    samples: int
    of_samples: int
    quantity: str = "mean of batches"
    component: str = ""
    components: int = 1
    shuffled: bool = True
    tolerance: float = 1e-6
    scale: float = 0.0

    def error(self, value: float) -> float:
        """How far ``value`` is from the exact one, as a fraction of it (of the values' scale where it is near 0)."""
        floor = 1e-2 * self.scale
        size = abs(self.exact) if abs(self.exact) > floor else max(self.scale, abs(self.exact))
        if value == self.exact:
            return 0.0
        return (value - self.exact) / size if size else math.copysign(math.inf, value - self.exact)

    def is_exact(self, value: float) -> bool:
        """Whether ``value`` equals the exact one up to rounding."""
        if math.isnan(self.exact) or math.isnan(value):
            return math.isnan(self.exact) and math.isnan(value)
        return value == self.exact or abs(value - self.exact) <= self.tolerance * max(self.scale, abs(self.exact))


@dataclass(frozen=True)
class Keep:
    """The state that makes the value exact at any batch size."""

    what: str
    nbytes: int
    row_nbytes: int = 0
    partitions: int = 0
    error: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Given:
    """One input: the name of its parameter, its type and shape, and whether it was guessed."""

    name: str
    what: str
    guessed: bool = False


@dataclass(frozen=True)
class Explanation:
    """Does this number depend on the batch size, why, at which line, by how much, and what to do instead.

    >>> import batchproof, torch
    >>> found = batchproof.explain(lambda x: x.square().mean().sqrt(), torch.arange(100.0))
    >>> found.is_safe, found.verdict, found.findings[0].direction, found.exit_status
    (False, 'nonlinear', 'low', 1)
    >>> found.to_dict()["findings"][0]["title"]     # print(found) is the report
    'a nonlinear function of a mean'

    ``is_safe`` is None where it could not be told.  ``verdict`` is the code of the headline's finding.
    """

    target: str
    kind: Kind
    is_safe: bool | None
    verdict: str
    headline: str
    place: Place | None
    curve: Curve | None
    keep: Keep | None
    findings: tuple[Finding, ...] = ()
    use: tuple[str, ...] = ()
    inputs: tuple[Given, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0: safe.  1: depends on the batch size.  2: could not tell."""
        return {True: 0, False: 1, None: 2}[self.is_safe]

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON-able data; a number that is not finite becomes None."""
        data: dict[str, Any] = _plain(dataclasses.asdict(self))
        data["exit_status"] = self.exit_status
        if self.curve is not None:
            for reading, row in zip(self.curve.readings, data["curve"]["readings"], strict=True):
                row["error"] = _plain(self.curve.error(reading.mean))
        return data

    def __str__(self) -> str:
        from batchproof.report.terminal import render

        return render(self)

    def _repr_html_(self) -> str:
        from batchproof.report.html import render

        return render(self)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
