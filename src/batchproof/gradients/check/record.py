"""Run somebody's training code, note its gradients, and leave no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from batchproof.gradients.check.calls import CallLog, ModelCall
from batchproof.gradients.check.isolation import untouched
from batchproof.gradients.check.sharded import here, unsharded, whole_tensor
from batchproof.gradients.check.terms import BackwardCalls
from batchproof.ground.isolation import seed_all

#: By parameter name; a parameter without a gradient is absent.
Gradients = dict[str, Tensor]
Parameters = Mapping[str, torch.nn.Parameter]


@dataclass(frozen=True)
class Change:
    """What is done to a run to find a cause.

    Attributes:
        keep_passes: Whether what each backward pass brings is kept.
        seed: For other random numbers than those of now.
        nudge: Weights and inputs are moved by one rounding unit, in a direction that this number draws.
        term: Of a loss that is a sum, only this term is gone back through.
        wide: Whether the model computes in float64.
    """

    keep_passes: bool = False
    seed: int | None = None
    nudge: int | None = None
    term: int | None = None
    wide: bool = False


PLAIN, KEEPING = Change(), Change(keep_passes=True)


@dataclass
class Window:
    """What lay in ``.grad`` at an optimizer step, and how it came there.

    Attributes:
        total: What lay in ``.grad``; of several ranks, on the first one.
        passes: What each backward pass since the last step brought; empty where passes were only counted.
        filled: How many of them brought something that is not 0.
        counts: By name, one number for each pass.
        calls: The model's forward passes.
        stepped: Whether weights changed between two backward passes.
        terms: The terms that the loss is the sum of, by name; none where passes differ in that.
        ranks: The rank of each pass; empty for one process.
        on_ranks: What lay in ``.grad`` on each rank; empty for one process.
        said: The number that the step returned on each rank, where it returned one.
    """

    total: Gradients
    passes: list[Gradients]
    filled: int
    counts: dict[str, list[float]] = field(default_factory=dict)
    calls: list[ModelCall] = field(default_factory=list)
    stepped: bool = False
    terms: tuple[str, ...] = ()
    ranks: list[int] = field(default_factory=list)
    on_ranks: list[Gradients] = field(default_factory=list)
    said: list[float] = field(default_factory=list)

    @property
    def world(self) -> int:
        """How many processes took part."""
        return max(1, len(self.on_ranks))


@dataclass
class GradientRecorder:
    """Notes gradients while it watches; whoever runs the code says where a window ends."""

    parameters: Parameters
    model: torch.nn.Module | None = None
    change: Change = PLAIN
    windows: list[Window] = field(default_factory=list)
    _passes: dict[int, Gradients] = field(default_factory=dict)
    _filled: set[int] = field(default_factory=set)
    _counts: dict[str, list[float]] = field(default_factory=dict)
    _weights: tuple[float, ...] = ()
    _stepped: bool = False

    def __post_init__(self) -> None:
        self._calls = CallLog(self.model, self.change.nudge, wide=self.change.wide)
        self._backward = BackwardCalls(self.change.term)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hear of every forward pass of the model, and of every backward pass that reaches a parameter."""
        self._weights = _sums(self.parameters)
        with ExitStack() as stack:
            for name, parameter in self.parameters.items():
                handle = parameter.register_hook(self._noting(name))  # type: ignore[no-untyped-call]
                stack.callback(handle.remove)
            stack.enter_context(unsharded(self.model, self.parameters, self._noting))
            stack.enter_context(self._calls.watching())
            stack.enter_context(self._backward.watching())
            yield

    def _noting(self, name: str) -> Callable[[Tensor], None]:
        def note(gradient: Tensor) -> None:
            self._note(name, gradient)

        note.only_looks = True  # type: ignore[attr-defined]  # for `accumulate`, which refuses other hooks
        return note

    def _note(self, name: str, gradient: Tensor) -> None:
        number = self._backward.running  # a pass need not reach every parameter
        if number not in self._passes and self._passes and not self._stepped:
            self._stepped = _sums(self.parameters) != self._weights
        brought = self._passes.setdefault(number, {})
        if number not in self._filled and _is_filled(gradient):
            self._filled.add(number)
        if self.change.keep_passes:
            copied = _copy(gradient)
            brought[name] = brought[name] + copied if name in brought else copied

    def count(self, counts: Mapping[str, float]) -> None:
        """Note how much the next micro-batch holds: samples, tokens."""
        for name, number in counts.items():
            self._counts.setdefault(name, []).append(float(number))

    def close(self) -> None:
        """A window ends: here the optimizer would step."""
        total = {name: _copy(p.grad) for name, p in self.parameters.items() if p.grad is not None}
        self.windows.append(
            Window(
                total, list(self._passes.values()), len(self._filled), calls=self._calls.taken(),
                stepped=self._stepped, terms=self._backward.taken(),
            )
        )  # fmt: skip
        self._passes, self._filled, self._stepped = {}, set(), False
        self._weights = _sums(self.parameters)

    def share_out_counts(self) -> None:
        """Each window gets its own: trainers make batches ahead of the steps that take them."""
        made = sum(len(window.passes) for window in self.windows)
        start = 0
        for window in self.windows:
            end = start + len(window.passes)
            window.counts = {
                name: each[start:end]
                for name, numbers in self._counts.items()
                if len(each := for_each_pass(numbers, made)) >= end
            }
            start = end

    @property
    def counted(self) -> set[str]:
        """By what names the micro-batches were counted."""
        return set(self._counts)


def for_each_pass(numbers: Sequence[float], passes: int) -> list[float]:
    """What micro-batches count, for each backward pass: one for each, or as many for one as for another."""
    several = passes // len(numbers) if numbers and passes % len(numbers) == 0 else 1
    return [number for number in numbers for _ in range(max(1, several))]


def _sums(parameters: Parameters) -> tuple[float, ...]:
    """A number for each parameter that another value changes."""
    return tuple(float(here(p.detach()).double().sum()) if not p.is_complex() else 0.0 for p in parameters.values())


def _is_filled(gradient: Tensor) -> bool:
    """Whether any of its numbers is not 0."""
    gradient = here(gradient)
    return bool((gradient.coalesce().values() if gradient.is_sparse else gradient).any())


def _copy(gradient: Tensor) -> Tensor:
    """On the CPU, where there is room for one of each backward pass."""
    gradient = whole_tensor(gradient.detach())
    return (gradient.to_dense() if gradient.layout is not torch.strided else gradient).to("cpu", copy=True)


def record(
    run: Callable[[GradientRecorder], None],
    parameters: Parameters,
    model: torch.nn.Module | None,
    change: Change = PLAIN,
) -> list[Window]:
    """The windows of one run from the random state, the weights and the buffers of now; all are put back."""
    recorder = GradientRecorder(parameters, model, change)
    with untouched(parameters, model):
        if change.seed is not None:
            seed_all(change.seed)
        if change.nudge is not None:
            _nudge(list(parameters.values()), change.nudge)
        if change.wide and model is not None:
            model.double()
        with recorder.watching():
            run(recorder)
    recorder.share_out_counts()
    return recorder.windows


def _nudge(parameters: Sequence[Tensor], seed: int) -> None:
    """Move every weight by one rounding unit, up or down."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            nudged(here(parameter), generator)


def nudged(values: Tensor, generator: torch.Generator) -> None:
    """In place, by one rounding unit up or down; the random generators of the run are left as they are."""
    signs = torch.randint(0, 2, values.shape, generator=generator).mul_(2).sub_(1)
    values.mul_(1 + signs.to(values.device, values.dtype) * torch.finfo(values.dtype).eps)


def together(ranks: Sequence[Sequence[Window]]) -> list[Window]:
    """The windows of several ranks as windows of all of them: the passes of the first rank come first.

    Raises:
        ValueError: Ranks have different numbers of windows.
    """
    if len(ranks) == 1:
        return list(ranks[0])
    return [_together(windows) for windows in zip(*ranks, strict=True)]


def _together(windows: Sequence[Window]) -> Window:
    names = [name for name in windows[0].counts if all(name in window.counts for window in windows)]
    first = windows[0]
    return Window(
        total=first.total,
        passes=[brought for window in windows for brought in window.passes],
        filled=sum(window.filled for window in windows),
        counts={name: [number for window in windows for number in window.counts[name]] for name in names},
        calls=[call for window in windows for call in window.calls],
        stepped=any(window.stepped for window in windows),
        terms=first.terms if all(window.terms == first.terms for window in windows) else (),
        ranks=[rank for rank, window in enumerate(windows) for _ in window.passes],
        on_ranks=[window.total for window in windows],
        said=[number for window in windows for number in window.said],
    )


def only(window: Window, **changes: Any) -> Window:
    """A window with other fields."""
    return Window(**{**vars(window), **changes})
