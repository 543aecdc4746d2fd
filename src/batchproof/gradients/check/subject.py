"""What is checked: two runs, or a step that is cut, with the parameters that they fill."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.gradients.check import causes
from batchproof.gradients.check.gather import all_are_here, gathered, gathered_counts
from batchproof.gradients.check.measure import Tolerance
from batchproof.gradients.check.record import Change, GradientRecorder, Window, record
from batchproof.gradients.check.runs import ComparedRuns, Recorded
from batchproof.gradients.check.step import CutStep

Model = torch.nn.Module | Iterable[tuple[str, torch.nn.Parameter]]
#: Code that trains, and says to the recorder where its windows end.
Run = Callable[[GradientRecorder], None]


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
    module = model if isinstance(model, torch.nn.Module) else None
    parameters, tied = _trained(model)
    is_shared = all_are_here()

    def recorded(run: Run) -> Recorded:
        def windows(changes: Sequence[Change]) -> list[list[Window]]:
            found = [record(run, parameters, module, change) for change in changes]
            return [gathered(one) for one in found] if is_shared else found

        return windows

    return ComparedRuns(
        full=recorded(full),
        accumulated=recorded(accumulated),
        parameters=parameters,
        model=module,
        tied=tied,
        tolerance=_tolerance(parameters, tolerance),
        configured=configured,
        counts=gathered_counts(counts or {}) if is_shared else counts or {},
        option=option,
    )


def of_step(
    job: CutStep, ranks: int | None, micro_batches: int, rank_dim: int, tolerance: float | None
) -> ComparedRuns:
    """A step on the whole batch in one process, and on its parts on every rank."""
    parameters, tied = _trained(job.model)
    alone = None if ranks is None else 1
    return ComparedRuns(
        full=partial(job.windows, alone, 1, 0),
        accumulated=partial(job.windows, ranks, micro_batches, rank_dim),
        parameters=parameters,
        model=job.model,
        tied=tied,
        tolerance=_tolerance(parameters, tolerance),
        configured=micro_batches,
        option=causes.COUNT_OF_STEP,
    )


def _trained(model: Model) -> tuple[dict[str, torch.nn.Parameter], dict[str, list[str]]]:
    """The parameters that are trained, each once; and by that name all names of those that have several."""
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
    return parameters, {name: names for name, names in tied.items() if len(names) > 1}


def _tolerance(parameters: Mapping[str, torch.nn.Parameter], given: float | None) -> Tolerance:
    if given is not None and not 0 < _number(given) < 1:
        raise BatchproofError(f"a tolerance is a fraction between 0 and 1, not {given!r}")
    return Tolerance({name: parameter.dtype for name, parameter in parameters.items()}, given)


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
