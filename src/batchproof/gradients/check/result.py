"""What ``check_gradients`` found, as plain frozen data.  Nothing here measures anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from batchproof.explanation import Finding
from batchproof.report.result import Result

#: The reasons why an accumulated gradient is not that of the whole batch.
GradientCode = Literal[
    "another-gradient", "batch-norm", "changed-between", "cleared-between", "clipped", "constant-factor",
    "counted-again", "coupled", "divided-twice", "dropped-micro-batches", "empty-micro-batches", "fresh-masks",
    "mean-of-means", "mean-of-rank-means", "missing-division", "missing-gradient", "non-finite", "nondeterministic",
    "not-compared", "not-reduced", "one-parameter", "other-samples", "ragged-last-window", "random-state",
    "rank-denominator", "reduced-twice", "rounding", "running-total", "scaled-between", "shared-parameter",
    "some-parameters", "stepped-between", "term-added-again", "two-denominators", "world-size",
]  # fmt: skip
#: With these causes it could not be told whether the accumulation is right.
UNDECIDED: frozenset[GradientCode] = frozenset({"random-state", "nondeterministic", "not-compared"})


@dataclass(frozen=True)
class ParameterGradient:
    """The gradient of one parameter, from the whole batch and accumulated.

    Attributes:
        name: As ``named_parameters`` calls it.
        full: Norm of the gradient of the whole batch; None where there is no gradient.
        accumulated: Norm of the accumulated gradient; None where there is no gradient.
        ratio: The accumulated gradient's component along the full one, as a multiple of it: negative where it points
            the other way.
        cosine: Of the angle between the two.
        difference: Norm of the difference, as a fraction of the full gradient's norm.
        is_same: Whether they are equal up to rounding.
    """

    name: str
    full: float | None
    accumulated: float | None
    ratio: float
    cosine: float
    difference: float
    is_same: bool


@dataclass(frozen=True)
class WindowGradient:
    """The whole gradient at one optimizer step.

    Attributes:
        passes: How many backward passes the accumulated gradient took, on each rank.
        full: Norm of the gradient of the whole batch.
        accumulated: Norm of the accumulated gradient.
        ratio: The accumulated gradient's component along the full one, as a multiple of it.
        cosine: Of the angle between the two.
        difference: Norm of the difference, as a fraction of the full gradient's norm.
        off: How many parameters differ.
    """

    passes: int
    full: float
    accumulated: float
    ratio: float
    cosine: float
    difference: float
    off: int

    @property
    def is_same(self) -> bool:
        """Whether all parameters have the same gradient up to rounding."""
        return not self.off


@dataclass(frozen=True)
class MicroBatchWeights:
    """What each backward pass should have counted, by least squares on what each of them brought.

    Attributes:
        factors: For each pass, how many times as much it should have counted as it did.
        residual: What the passes with these factors leave of the full gradient, as a fraction of it.
        fits: Names of the counts that the factors are proportional to; empty where there is none.
        counts: The counts that were tried, by name, one number for each pass.
        wanted: The count that the passes should be weighted by: the first that fits, whatever it stands in place of.
        ranks: The rank that made each pass; empty for one process.
    """

    factors: tuple[float, ...]
    residual: float
    fits: tuple[str, ...]
    counts: dict[str, tuple[float, ...]]
    wanted: str = ""
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, repr=False)
class GradientCheck(Result):
    """Is the accumulated gradient that of the whole batch; if not, why, and what to do instead.

    >>> import batchproof, torch
    >>> model, x = torch.nn.Linear(3, 1), torch.arange(12.0).view(4, 3)
    >>> def full():
    ...     model(x).square().mean().backward()
    >>> def accumulated():
    ...     for part in x.split(2):
    ...         model(part).square().mean().backward()
    >>> found = batchproof.check_gradients(full, accumulated, model)
    >>> found.ok, found.cause, round(found.parameters[0].ratio, 6)
    (False, 'missing-division', 2.0)
    >>> found.to_dict()["remedy"]       # print(found) is the report
    'divide the loss of each micro-batch by the number of micro-batches before backward()'

    Attributes:
        target: What was checked.
        ok: Whether the two gradients are equal up to rounding.
        summary: The answer in a sentence.
        findings: The causes, the strongest evidence first.
        parameters: A row for each parameter, the worst first: of the first window that differs.
        windows: A row for each optimizer step.
        weights: What each micro-batch should have counted; None where that was not needed or could not be told.
        alternatives: What else would show the same, and was not told apart.
        tolerance: Relative difference of two gradients below which they are the same: the largest of all parameters'.
        ran: What was run, in words.
        notes: What else to know.
        ranks: How many processes accumulated.
    """

    target: str
    ok: bool
    summary: str
    findings: tuple[Finding[GradientCode], ...]
    parameters: tuple[ParameterGradient, ...]
    windows: tuple[WindowGradient, ...]
    weights: MicroBatchWeights | None = None
    alternatives: tuple[str, ...] = ()
    tolerance: float = 0.0
    ran: str = ""
    notes: tuple[str, ...] = ()
    ranks: int = 1
    SCHEMA: ClassVar[str] = "batchproof/check-gradients/1"
    DERIVED: ClassVar[dict[str, Any]] = {"cause": GradientCode | None, "remedy": str}

    @property
    def cause(self) -> GradientCode | None:
        """The code of the first finding, such as ``"missing-division"``; None where the gradients are the same."""
        return self.findings[0].code if self.findings else None

    @property
    def remedy(self) -> str:
        """What to do instead; empty where the gradients are the same."""
        return self.findings[0].remedy if self.findings else ""
