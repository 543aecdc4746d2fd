"""Where two calls begin to differ for a sample: the first operation whose inputs agree and whose result does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from batchproof.explanation.result import ModuleGap
from batchproof.explanation.rows.aligned import Axes, axes_of, distance
from batchproof.explanation.rows.measure import ModelOnRows, ShapeCalls
from batchproof.explanation.rows.perturbations import CallPair, whole
from batchproof.explanation.rows.sequences import RowsCall
from batchproof.explanation.samples import Samples
from batchproof.explanation.trace import RunTrace, TraceStep, watch
from batchproof.ground.held_state import same_start
from batchproof.ground.isolation import seed_all

State = Literal["equal", "different", "unknown"]
Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Beginning:
    """The operation with which a difference begins.

    Attributes:
        step: It, in the first of the two calls.
        over: What the dimensions of what it takes count, for each input that is known.
        result: What those of its result count; None where that could not be said.
        inputs: What it takes, as far as it is known.
        taken: All that it takes.
    """

    step: TraceStep
    inputs: tuple[Tensor, ...]
    over: tuple[Axes, ...]
    result: Axes | None
    taken: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Located:
    """Where a difference begins, and how it goes on from module to module."""

    beginning: Beginning | None
    modules: tuple[ModuleGap, ...]


class RowsTracer:
    """Runs of a subject, and what the dimensions of each operation's results count."""

    def __init__(self, subject: ModelOnRows) -> None:
        self.subject = subject
        calls = subject.shape_calls()
        runs = [None if call is None else self._run(call) for call in (calls.base, *calls.others)]
        by_key = [None if run is None else _keyed(run) for run in runs]
        self.axes: dict[Key, tuple[Axes | None, ...]] = {}
        for key in by_key[0] or {}:
            if all(keys is None or key in keys for keys in by_key[:3]):
                steps = [
                    None if run is None or keys is None or key not in keys else run.steps[keys[key]]
                    for run, keys in zip(runs, by_key, strict=True)
                ]
                self.axes[key] = _axes_of_results(steps, calls)

    def compare(self, pair: CallPair, tolerance: float) -> Located:
        """Where the two calls of a pair begin to differ by more than ``tolerance`` of the largest number."""
        one, other = self._run(pair.one), self._run(pair.other)
        matched = self._matched(one, other, pair, tolerance)
        ends = [end for end, grows in zip(one.ends, self.subject.leaves, strict=False) if grows and end >= 0]
        index = _beginning(one, matched, ends)
        beginning = None
        if index is not None:
            beginning = self._described(one, index)
        return Located(beginning, tuple(_modules(self.subject.target, one, matched)))

    def compare_repeated(self, few: Samples, other: Samples) -> Located:
        """Where the samples begin to differ from themselves after a call on others: what reads a state."""
        target, call = self.subject.target, whole(few, self.subject.sequences)
        with same_start(target, self.subject.seed), torch.no_grad():
            one = watch(target, *few.all())
            for samples in (other, few):
                seed_all(self.subject.seed)
                again = watch(target, *samples.all())
        matched = self._matched(one, again, CallPair(call, call), 0.0)
        index = next((index for index, (state, _) in enumerate(matched) if state == "different"), None)
        return Located(None if index is None else self._described(one, index), tuple(_modules(target, one, matched)))

    def _described(self, run: RunTrace, index: int) -> Beginning:
        keys = _keys(run)
        step = run.steps[index]
        known = [(run.steps[source].results[0], self.axes.get(keys[source])) for source in step.sources if source >= 0]
        inputs = [(tensor, axes[0]) for tensor, axes in known if axes]
        own = self.axes.get(keys[index])
        return Beginning(
            step,
            tuple(tensor for tensor, axes in inputs if axes is not None),
            tuple(axes for _, axes in inputs if axes is not None),
            own[0] if own else None,
            tuple(run.steps[source].results[0] for source in step.sources if source >= 0),
        )

    def _run(self, call: RowsCall) -> RunTrace:
        with self.subject.same_start(), torch.no_grad():
            return watch(self.subject.target, *call.samples.all())

    def _matched(self, one: RunTrace, other: RunTrace, pair: CallPair, tolerance: float) -> list[tuple[State, float]]:
        with _disable_current_modes():  # to compare is no part of the model's computation
            return self._states(one, other, pair, tolerance)

    def _states(self, one: RunTrace, other: RunTrace, pair: CallPair, tolerance: float) -> list[tuple[State, float]]:
        theirs = _keyed(other)
        found: list[tuple[State, float]] = []
        for index, key in enumerate(_keys(one)):
            twin = theirs.get(key)
            axes = self.axes.get(key)
            if twin is None or axes is None:
                found.append(("unknown", 0.0))
            else:
                found.append(_compared(one.steps[index], other.steps[twin], axes, pair, tolerance))
        return found


def _compared(
    ours: TraceStep, theirs: TraceStep, axes: Sequence[Axes | None], pair: CallPair, tolerance: float
) -> tuple[State, float]:
    state: State = "equal" if ours.results else "unknown"
    largest = 0.0
    for a, b, of_result in zip(ours.results, theirs.results, axes, strict=False):
        size = None if of_result is None else distance(a, b, of_result, pair.one, pair.other)
        if size is None:
            state = "unknown" if state == "equal" else state
            continue
        scale = _largest(a)
        if size > tolerance * scale:
            state = "different"
            largest = max(largest, size / (_spread(a) or scale or 1.0))
    return state, largest


def _beginning(run: RunTrace, matched: Sequence[tuple[State, float]], ends: Iterable[int]) -> int | None:
    """Back from the outputs, through what differs, to the first step that takes nothing that differs."""
    begins: list[frozenset[int]] = []
    for index, step in enumerate(run.steps):
        state = matched[index][0]
        before: frozenset[int] = frozenset()
        if state != "equal":
            before = frozenset().union(*(begins[source] for source in step.sources if 0 <= source < index))
            if state == "different" and all(matched[start][0] == "unknown" for start in before):
                before = frozenset({index})  # what could not be compared is not blamed where something could be
            elif not before:
                before = frozenset({index})
        begins.append(before)
    reached = sorted(start for end in ends for start in begins[end])
    certain = [start for start in reached if matched[start][0] == "different"]
    if certain or reached:
        return (certain or reached)[0]
    # a write in place can hide part of the way to the output: then the first that differs will do
    return next((index for index, (state, _) in enumerate(matched) if state == "different"), None)


def _modules(target: Any, run: RunTrace, matched: Sequence[tuple[State, float]]) -> Iterable[ModuleGap]:
    """The last result of each module that could be compared, in the order in which modules end."""
    kinds = {name: type(module).__name__ for name, module in target.named_modules()} if _is_module(target) else {}
    last: dict[str, float] = {}
    for step, (state, size) in zip(run.steps, matched, strict=True):
        if state == "unknown":
            continue
        last.pop(step.module, None)
        last[step.module] = size
    for name, size in last.items():
        yield ModuleGap(name, kinds.get(name, ""), size)


def _is_module(target: Callable[..., Any]) -> bool:
    return isinstance(target, torch.nn.Module)


def _keys(run: RunTrace) -> list[Key]:
    """What a step is called in every run: its module, its operation, its line, and the how many-th of these it is."""
    seen: Counter[tuple[str, str, str]] = Counter()
    keys = []
    for step in run.steps:
        name = (step.module, step.op, str(step.place))
        keys.append((*name, seen[name]))
        seen[name] += 1
    return keys


def _keyed(run: RunTrace) -> dict[Key, int]:
    return {key: index for index, key in enumerate(_keys(run))}


def _axes_of_results(steps: Sequence[TraceStep | None], calls: ShapeCalls) -> tuple[Axes | None, ...]:
    shapes = [None if step is None else [tuple(tensor.shape) for tensor in step.results] for step in steps]
    base = shapes[0] or []
    if any(of_step is not None and len(of_step) != len(base) for of_step in shapes):
        return (None,) * len(base)
    found = []
    for position, shape in enumerate(base):
        less, more, far = (None if of_step is None else of_step[position] for of_step in shapes[1:])
        there = None if far is None else (far, calls.reach)
        found.append(axes_of(shape, less or shape, more, calls.base.rows, calls.base.width or 0, there))
    return tuple(found)


def _largest(tensor: Tensor) -> float:
    if tensor.numel() == 0 or tensor.dtype is torch.bool:
        return 0.0
    finite = tensor[tensor.isfinite()] if tensor.is_floating_point() or tensor.is_complex() else tensor
    return float(finite.abs().max()) if finite.numel() else 0.0


def _spread(tensor: Tensor) -> float:
    return float(tensor.double().std(correction=0)) if tensor.numel() > 1 and tensor.is_floating_point() else 0.0
