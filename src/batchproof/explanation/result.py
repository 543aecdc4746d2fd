"""What ``explain`` found, as plain frozen data.  Nothing here measures anything, and nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from batchproof.ground.place import Place
from batchproof.report.result import Result, plain

Kind = Literal["function", "metric", "model"]
Direction = Literal["low", "high", "varies"]
#: What the readings of a curve are: the mean of batches, the value of a metric object, how far outputs move.
Quantity = Literal["mean of batches", "compute()", "change of the output"]
#: The reasons why a number does, or does not, depend on the batch size.
Code = Literal[
    "accumulated", "branch", "broadcast", "centred", "constant-term", "couples", "divisor", "extreme", "groups",
    "independent", "limit", "mean", "mean-and-sum", "merge", "nonlinear", "order", "packing", "padding", "per-batch",
    "random", "ratio", "rounding", "size", "state", "sum", "undefined", "unexplained",
]  # fmt: skip
#: How a loss makes one number of the tokens of its samples.
AggregationName = Literal[
    "padded-mean", "prompt-mean-token-mean", "sample-mean", "sample-sum", "sequence-mean-token-mean",
    "sequence-mean-token-sum", "sequence-sum-token-mean", "token-mean", "token-sum",
]  # fmt: skip
#: The codes of one verb's findings.
Code_co = TypeVar("Code_co", bound=str, covariant=True)


@dataclass(frozen=True)
class Finding(Generic[Code_co]):
    """One reason why the value is, or is not, independent of the batch size.

    Attributes:
        code: For programs: ``"nonlinear"``, ``"ratio"``, ``"couples"``, ...
        title: The same in a few words.
        what: What happens, in a sentence.
        remedy: What to do instead; empty where nothing need be done.
        place: The line that does it; None where no line is known.
        direction: Whether the mean of per-batch values lies below the exact value, above it, or on both sides.
        harmless: Whether it leaves the number as it is on these samples.
    """

    code: Code_co
    title: str
    what: str
    remedy: str = ""
    place: Place | None = None
    direction: Direction | None = None
    harmless: bool = False


@dataclass(frozen=True)
class Reading:
    """What averaging over batches of one size reports.

    Attributes:
        size: Samples in a batch.
        batches: How many batches were tried.
        of: How many there are.
        last: Samples in a short last batch; 0 where there is none.
        mean: The mean of the batches' values, each of the same weight.
        weighted: The same, each batch weighted by the number of its samples.
        dropped: The mean without the short last batch.
        standard_error: Of ``mean``, where only some of the batches were tried.
        undefined: Batches that gave NaN or raised; the means are NaN then, as a script's would be.
        raised: The first error that a batch raised.
        whole: What the samples of all whole batches give at once; NaN where that was not asked.
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
    whole: float = math.nan
    DERIVED: ClassVar[dict[str, Any]] = {"error": float}  # which the curve knows

    @property
    def is_sampled(self) -> bool:
        """Whether only some of the batches were tried."""
        return self.batches < self.of


@dataclass(frozen=True)
class LossAggregation:
    """How a loss makes one number of the tokens of its samples.

    Attributes:
        name: ``"token-mean"``, ``"sequence-mean-token-mean"``, ...
        title: The same in words.
        survives: The cuts of a batch that leave the average over its parts as it is.
        breaks: Those that do not, and what to do then.
    """

    name: AggregationName
    title: str
    survives: str
    breaks: str

    def __str__(self) -> str:
        return f"it is {self.title}: it survives {self.survives}, and not {self.breaks}"


@dataclass(frozen=True)
class Curve:
    """The reported value over batch sizes, beside the exact value: of one component, where there are several.

    Attributes:
        exact: The value on all samples together, in the unit that the function gives.
        readings: One for each batch size, from the smallest on.
        samples: How many samples were scored.
        of_samples: How many there are.
        quantity: What the readings are.
        component: Which number is shown, where the function gives several.
        components: How many it gives.
        shuffled: Whether the samples were put in another order first.
        tolerance: Relative difference below which two values are the same.
        scale: The size of the batches' values, against which a value near 0 is measured.
    """

    exact: float
    readings: tuple[Reading, ...]
    samples: int
    of_samples: int
    quantity: Quantity = "mean of batches"
    component: str = ""
    components: int = 1
    shuffled: bool = True
    tolerance: float = 1e-6
    scale: float = 0.0

    @property
    def measures_change(self) -> bool:
        """Whether the readings say how far the outputs of a model move."""
        return self.quantity == "change of the output"

    def error(self, value: float) -> float:
        """How far ``value`` is from the exact one, as a fraction of it (of the values' scale where it is near 0)."""
        floor = 1e-2 * self.scale
        size = abs(self.exact) if abs(self.exact) > floor else max(self.scale, abs(self.exact))
        if value == self.exact:
            return 0.0
        return (value - self.exact) / size if size else math.copysign(math.inf, value - self.exact)

    def is_exact(self, value: float) -> bool:
        """Whether ``value`` equals the exact one up to rounding."""
        return self.same(value, self.exact)

    def same(self, value: float, other: float) -> bool:
        """Whether two values of this curve are equal up to rounding, NaN and NaN too."""
        if math.isnan(other) or math.isnan(value):
            return math.isnan(other) and math.isnan(value)
        return value == other or abs(value - other) <= self.tolerance * max(self.scale, abs(other))


@dataclass(frozen=True)
class ModuleGap:
    """How far a module's output for one sample lies from itself in two calls.

    Attributes:
        module: Its name in the model; empty for the model itself.
        kind: Its class.
        size: The largest difference, in standard deviations of its output; None where it could not be compared.
    """

    module: str
    kind: str
    size: float | None


@dataclass(frozen=True)
class RowTrial:
    """One thing that must not change a sample's output, and whether it does.

    Attributes:
        name: ``"alone"``, ``"padding left"``, ...
        title: The same in words.
        state: ``"same"``: to the last bit. ``"rounding"``: what differs falls with precision. ``"convention"``: the
            model wants to be told more. ``"fault"``: another answer. ``"untried"``: the model does not take it.
        gap: How far outputs move, in standard deviations of the output; None where it was not tried.
        double_gap: The same in float64; None where it was not needed, or could not be had.
        ulps: ``gap`` in units in the last place of the output's largest number.
        flips: Answers whose largest entry is another one.
        answers: How many answers were compared; 0 where the output is no choice.
        module: Where the difference begins; None where that was not looked for, or not found.
        kind: Its class.
        place: The line.
        note: Why it was not tried, or what is meant to be done instead.
        modules: How the difference goes on, module by module, in the order in which they run.
    """

    name: str
    title: str
    state: Literal["same", "rounding", "convention", "fault", "untried"]
    gap: float | None = None
    double_gap: float | None = None
    ulps: float | None = None
    flips: int = 0
    answers: int = 0
    module: str | None = None
    kind: str = ""
    place: Place | None = None
    note: str = ""
    modules: tuple[ModuleGap, ...] = ()


@dataclass(frozen=True)
class Keep:
    """The state that makes the value exact at any batch size.

    Attributes:
        what: What is kept, in words.
        nbytes: Bytes of the state; of the samples that are kept, none.
        row_nbytes: Bytes kept for each sample; 0 where the state has constant size.
        partitions: How many partitions it was verified on.
        error: The largest relative difference among them.
        reason: Why samples are kept.
    """

    what: str
    nbytes: int
    row_nbytes: int = 0
    partitions: int = 0
    error: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Given:
    """One input of the target.

    Attributes:
        name: Its parameter.
        what: Its dtype and shape: ``"float32 (442,)"``.
        guessed: Whether it was made up from the name.
    """

    name: str
    what: str
    guessed: bool = False


@dataclass(frozen=True)
class Subject:
    """What every report begins with."""

    target: Any
    title: str
    place: Place | None
    inputs: tuple[Given, ...]
    asked: tuple[int, ...] = ()
    marked: int | None = None

    @property
    def name(self) -> str:
        """What a sentence calls it."""
        name = self.title.partition("(")[0].removesuffix(".update")
        return name if name.isidentifier() and name != "lambda" else "the function"


@dataclass(frozen=True, repr=False)
class Explanation(Result):
    """Does this number depend on the batch size, why, at which line, by how much, and what to do instead.

    >>> import batchproof, torch
    >>> found = batchproof.explain(lambda x: x.square().mean().sqrt(), torch.arange(100.0))
    >>> found.is_safe, found.verdict, found.findings[0].direction, found.exit_status
    (False, 'nonlinear', 'low', 1)
    >>> found.to_dict()["findings"][0]["title"]     # print(found) is the report
    'a nonlinear function of a mean'

    Attributes:
        target: What was explained, with its parameters: ``"rmse(pred, real)"``.
        kind: ``"function"``, ``"metric"`` or ``"model"``.
        is_safe: Whether the number is the same at every batch size; None where it could not be told.
        verdict: The code of the headline's finding.
        headline: The answer in a sentence.
        place: Where the target is defined.
        curve: What averaging reports over batch sizes; None where nothing could be measured.
        keep: The state that makes the value exact; None where there is none.
        findings: The reasons, the most important first.
        use: Code to use instead, line by line.
        inputs: What it was tried on.
        notes: What else to know.
        asked: The batch sizes that the reader named; empty where the usual ones were tried.
        marked: The reader's own batch size: the reports point at it.
        calls: How often the target was called.
        aggregation: How a loss makes one number of its samples' tokens; None where it has none, or it was not told.
        trials: Of a model: what must not change a sample's output, and whether it does.
        one_ulp: Of a model: how far its outputs move, in standard deviations, where what goes in moves by one unit in
            the last place; None where that was not measured.
    """

    target: str
    kind: Kind
    is_safe: bool | None
    verdict: Code
    headline: str
    place: Place | None
    curve: Curve | None
    keep: Keep | None
    findings: tuple[Finding[Code], ...] = ()
    use: tuple[str, ...] = ()
    inputs: tuple[Given, ...] = ()
    notes: tuple[str, ...] = ()
    asked: tuple[int, ...] = ()
    marked: int | None = None
    calls: int = 0
    aggregation: LossAggregation | None = None
    trials: tuple[RowTrial, ...] = ()
    one_ulp: float | None = None
    SCHEMA: ClassVar[str] = "batchproof/explain/1"

    @property
    def exit_status(self) -> int:
        """0: safe.  1: depends on the batch size.  2: could not tell."""
        return {True: 0, False: 1, None: 2}[self.is_safe]

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON-able data; a number that is not finite becomes None."""
        data = super().to_dict()
        if self.curve is not None:
            for reading, row in zip(self.curve.readings, data["curve"]["readings"], strict=True):
                row["error"] = plain(self.curve.error(reading.mean))
        return data
