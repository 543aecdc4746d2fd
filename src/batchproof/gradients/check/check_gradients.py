"""The verb: run both, compare, and say why they differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from typing_extensions import assert_never

from batchproof.errors import BatchproofError
from batchproof.gradients.check import causes
from batchproof.gradients.check.diagnose import ComparedRuns, Diagnosis, Pair, Run, diagnose, first_off, pairs_of
from batchproof.gradients.check.measure import Tolerance
from batchproof.gradients.check.record import GradientRecorder
from batchproof.gradients.check.result import GradientCheck, ParameterGradient

Model = torch.nn.Module | Iterable[tuple[str, torch.nn.Parameter]]


def check_gradients(
    full: Callable[[], object],
    accumulated: Callable[[], object],
    model: Model,
    *,
    weights: Mapping[str, Sequence[float]] | None = None,
    tolerance: float | None = None,
) -> GradientCheck:
    """Say whether gradients accumulated over micro-batches are those of the whole batch, and if not, why.

    >>> import batchproof, torch
    >>> from torch.nn.functional import cross_entropy
    >>> model, x = torch.nn.Linear(3, 5), torch.arange(18.0).view(6, 3) / 18
    >>> y = torch.tensor([0, -100, -100, 1, 2, 3])                  # -100: no label
    >>> def full():
    ...     cross_entropy(model(x), y).backward()
    >>> def accumulated():
    ...     for a, b in zip(x.split(3), y.split(3)):
    ...         (cross_entropy(model(a), b) / 2).backward()
    >>> found = batchproof.check_gradients(full, accumulated, model, weights={"labels": [1, 3]})
    >>> found.cause, found.weights.fits, [round(factor, 3) for factor in found.weights.factors]
    ('mean-of-means', ('labels',), [0.5, 1.5])

    Both functions start from the same weights, buffers and random state (Python's, NumPy's, torch's, on CPU and GPU),
    without gradients.  Afterwards all of these are as before, and so are gradients, train flags, hooks and attributes:
    what the two do to the model is undone.  They are called again to find a cause, so each call must do the same: leave
    the gradients in ``.grad``, take the same samples, and step no optimizer that remembers.  A function that does step
    one can leave the gradients if it does not clear them; ``batchproof.trainers`` has ready-made checks for whole
    trainers.

    Args:
        full: Leaves in the model the gradient of the whole batch; called without arguments.
        accumulated: Leaves the gradient accumulated over micro-batches, one ``backward()`` for each.
        model: The module, or (name, parameter) pairs as ``named_parameters()`` gives them.
        weights: What the micro-batches might have to be weighted by, in the order of the backward passes, by name:
            ``{"samples": [8, 8, 3], "tokens": [512, 340, 77]}``.  That which makes the gradients equal is named.
        tolerance: Largest difference of two equal gradients, as a fraction of the parameter's gradient norm.  If None:
            1e-9 for float64, 1e-5 for float32, 2e-2 for narrower types.  It goes by the type of the parameters: under
            ``torch.autocast`` pass 2e-2.

    Returns:
        A `GradientCheck`; printed, it is the report.

    Raises:
        BatchproofError: A run leaves no gradient, the model has nothing to train, or ``weights`` do not fit.
    """
    for name, run in (("full", full), ("accumulated", accumulated)):
        if not callable(run):
            raise BatchproofError(f"{name} is a function without arguments that leaves gradients, not {_kind(run)}")
    given = _weights(weights)
    subject = subject_of(_once(full), _once(accumulated), model, tolerance=tolerance, counts=given)
    return conclude(subject, _kind(model) if isinstance(model, torch.nn.Module) else "model")


def subject_of(
    full: Run,
    accumulated: Run,
    model: Model,
    *,
    tolerance: float | None = None,
    counts: Mapping[str, Sequence[float]] | None = None,
    configured: int | None = None,
    option: str = causes.WEIGHTS,
) -> ComparedRuns:
    """The two runs with what they fill, checked."""
    if tolerance is not None and not 0 < _number(tolerance) < 1:
        raise BatchproofError(f"a tolerance is a fraction between 0 and 1, not {tolerance!r}")
    module = model if isinstance(model, torch.nn.Module) else None
    pairs = list(module.named_parameters(remove_duplicate=False)) if module is not None else _pairs(model)
    parameters: dict[str, torch.nn.Parameter] = {}
    tied: dict[str, list[str]] = {}
    first: dict[int, str] = {}
    for name, parameter in pairs:
        if isinstance(parameter, torch.nn.parameter.UninitializedParameter):
            raise BatchproofError(f"{name} has no shape yet: run the model once before gradients are checked")
        known = first.setdefault(id(parameter), name)
        tied.setdefault(known, []).append(name)
        if known == name and parameter.requires_grad:
            parameters[name] = parameter
    if not parameters:
        raise BatchproofError("the model has no parameter that requires a gradient")
    return ComparedRuns(
        full=full,
        accumulated=accumulated,
        parameters=parameters,
        model=module,
        tied={name: names for name, names in tied.items() if len(names) > 1},
        tolerance=Tolerance({name: parameter.dtype for name, parameter in parameters.items()}, tolerance),
        configured=configured,
        counts=counts or {},
        option=option,
    )


def conclude(subject: ComparedRuns, target: str, ran: str = "", notes: Sequence[str] = ()) -> GradientCheck:
    """Run both, compare, and put into words what was found."""
    pairs = pairs_of(subject)
    for name, numbers in subject.counts.items():
        if len(numbers) != pairs[0].passes:
            raise BatchproofError(
                f"weights[{name!r}] has {len(numbers)} numbers for {pairs[0].passes} backward passes of accumulated"
            )
    ok = not any(pair.off for pair in pairs)
    found = Diagnosis() if ok else diagnose(subject, pairs)
    shown = first_off(pairs)
    return GradientCheck(
        target=f"{target}: {_micro_batches(subject.configured or shown.passes)} against one batch",
        ok=ok,
        summary=_passed(pairs) if ok else _failed(found, pairs),
        findings=tuple(found.findings),
        parameters=tuple(sorted(shown.rows, key=_badness)),
        windows=tuple(pair.whole for pair in pairs),
        weights=found.weights,
        alternatives=tuple(found.alternatives),
        tolerance=subject.tolerance.largest,
        ran=ran,
        notes=(*notes, *found.notes),
    )


def _badness(row: ParameterGradient) -> tuple[bool, float]:
    """The worst first; among equals the order of the model stays."""
    # to three digits: one factor for all is no order
    return row.is_same, 0.0 if row.is_same or math.isnan(row.difference) else -float(f"{row.difference:.2e}")


def _passed(pairs: Sequence[Pair]) -> str:
    largest = max(pair.whole.difference for pair in pairs)
    to = f"to {largest:.0e}" if largest else "to the last bit"
    rows = len(pairs[0].rows)
    everywhere = f"all {rows:,} parameters" if rows > 1 else "its parameter"
    steps = f" and {len(pairs)} optimizer steps" if len(pairs) > 1 else ""
    return f"the gradient is that of the whole batch {to}, in {everywhere}{steps}"


def _failed(found: Diagnosis, pairs: Sequence[Pair]) -> str:
    finding, pair = found.findings[0], first_off(pairs)
    titles = ", and ".join(one.title for one in found.findings)
    code = finding.code
    match code:
        case "random-state":
            return f"could not compare: {finding.title} move the gradient"
        case "nondeterministic":
            return "could not compare: the same run gives another gradient each time"
        case "one-parameter" | "some-parameters" | "shared-parameter":
            names = causes.some([row.name for row in pair.off])
            return f"the gradient of {names} is not that of the whole batch: {titles}"
        case "missing-gradient" | "non-finite":
            return f"the gradient{_where(pairs)} is not that of the whole batch: {titles}"
        case (
            "missing-division" | "divided-twice" | "constant-factor" | "empty-micro-batches" | "clipped"
            | "ragged-last-window" | "mean-of-means" | "coupled" | "another-gradient" | "batch-norm"
        ):  # fmt: skip
            return f"the gradient{_where(pairs)} {_amount(pair)}: {titles}"
        case _:
            assert_never(code)


def _amount(pair: Pair) -> str:
    """How far the gradient is from the right one: by a factor, where it points the same way."""
    if pair.whole.cosine > 1 - 1e-6:
        return f"is {causes.times(pair.whole.ratio)} that of the whole batch"
    return f"is not that of the whole batch, off by {causes.share(pair.whole.difference)}"


def _where(pairs: Sequence[Pair]) -> str:
    """Which optimizer steps differ, if not all do."""
    off = [index for index, pair in enumerate(pairs, start=1) if pair.off]
    if len(off) == len(pairs):
        return ""
    if off == [len(pairs)]:
        return " of the last optimizer step"
    return f" of optimizer step {off[0]}" + (f" and {len(off) - 1} more" if len(off) > 1 else "")


def _micro_batches(count: int) -> str:
    return f"{count} micro-batches" if count > 1 else "1 backward pass" if count else "no backward pass"


def _once(call: Callable[[], object]) -> Run:
    def run(recorder: GradientRecorder) -> None:
        call()
        recorder.close()

    return run


def _weights(weights: Mapping[str, Sequence[float]] | None) -> dict[str, list[float]]:
    given: dict[str, list[float]] = {}
    if weights is not None and not isinstance(weights, Mapping):
        raise BatchproofError(f"weights are {{name: [a number for each micro-batch]}}, not {_kind(weights)}")
    for name, numbers in (weights or {}).items():
        try:
            given[name] = [float(number) for number in numbers]
        except (TypeError, ValueError):
            raise BatchproofError(f"weights[{name!r}] is a number for each micro-batch, not {numbers!r}") from None
        if not all(math.isfinite(number) and number >= 0 for number in given[name]) or not any(given[name]):
            raise BatchproofError(f"weights[{name!r}] are numbers from 0 on, not all 0: {numbers!r}")
    return given


def _pairs(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    try:
        pairs = [(name, parameter) for name, parameter in model]
    except (TypeError, ValueError, RuntimeError):
        pairs = [("", None)]
    if not all(isinstance(name, str) and isinstance(parameter, torch.Tensor) for name, parameter in pairs):
        raise BatchproofError(
            f"the model is a module, or (name, parameter) pairs as named_parameters() gives them, not {_kind(model)}"
        )
    names = [name for name, _ in pairs]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise BatchproofError(f"two parameters are called {repeated}")
    return pairs


def _number(given: Any) -> float:
    return float(given) if isinstance(given, (int, float)) else math.nan


def _kind(thing: object) -> str:
    return type(thing).__name__
