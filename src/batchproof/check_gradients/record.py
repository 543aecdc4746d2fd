"""Run somebody's training code, note its gradients, and leave no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from batchproof.explain.preserve import preserved, seed_all

#: By parameter name; a parameter without a gradient is absent.
Gradients = dict[str, Tensor]
Parameters = Mapping[str, torch.nn.Parameter]


@dataclass
class Window:
    """What lay in ``.grad`` at an optimizer step, and what each backward pass since the last one had brought.

    The passes are empty where they were only counted.  ``counts`` holds, by name, one number for each pass.
    """

    total: Gradients
    passes: list[Gradients]
    counts: dict[str, list[float]]


@dataclass
class Recorder:
    """Notes gradients while it watches; whoever runs the code says where a window ends."""

    parameters: Parameters
    keep_passes: bool = False
    windows: list[Window] = field(default_factory=list)
    _passes: dict[int, Gradients] = field(default_factory=dict)
    _counts: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hear of every backward pass that reaches a parameter."""
        handles = [
            parameter.register_hook(self._noting(name))  # type: ignore[no-untyped-call]
            for name, parameter in self.parameters.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _noting(self, name: str) -> Callable[[Tensor], None]:
        def note(gradient: Tensor) -> None:
            # the number of the backward pass that is running: a pass need not reach every parameter
            brought = self._passes.setdefault(torch._C._current_graph_task_id(), {})
            if self.keep_passes:
                brought[name] = _copy(gradient)

        note.only_looks = True  # type: ignore[attr-defined]  # for `accumulate`, which refuses other hooks
        return note

    def count(self, counts: Mapping[str, float]) -> None:
        """Note how much the next micro-batch holds: samples, tokens."""
        for name, number in counts.items():
            self._counts.setdefault(name, []).append(float(number))

    def close(self) -> None:
        """A window ends: here the optimizer would step."""
        total = {name: _copy(p.grad) for name, p in self.parameters.items() if p.grad is not None}
        self.windows.append(Window(total, list(self._passes.values()), {}))
        self._passes = {}

    def share_out_counts(self) -> None:
        """Each window gets its own: trainers make batches ahead of the steps that take them."""
        start = 0
        for window in self.windows:
            end = start + len(window.passes)
            window.counts = {name: numbers[start:end] for name, numbers in self._counts.items() if len(numbers) >= end}
            start = end


def _copy(gradient: Tensor) -> Tensor:
    """On the CPU, where there is room for one of each backward pass."""
    gradient = gradient.detach()
    return (gradient.to_dense() if gradient.layout is not torch.strided else gradient).to("cpu", copy=True)


def record(
    run: Callable[[Recorder], None],
    parameters: Parameters,
    model: torch.nn.Module | None,
    *,
    keep_passes: bool = False,
    seed: int | None = None,
) -> list[Window]:
    """The windows of one run from the random state, the weights and the buffers of now; all are put back."""
    recorder = Recorder(parameters, keep_passes)
    with untouched(parameters, model):
        if seed is not None:
            seed_all(seed)
        with recorder.watching():
            run(recorder)
    recorder.share_out_counts()
    return recorder.windows


@contextmanager
def untouched(parameters: Parameters, model: torch.nn.Module | None) -> Iterator[None]:
    """No gradients at first; on the way out weights, gradients, buffers, train flags and random state are as before."""
    kept = [(p, p.detach().clone(), p.grad, p.requires_grad) for p in parameters.values()]
    for parameter in parameters.values():
        parameter.grad = None
    try:
        with preserved(model):
            yield
    finally:
        for parameter, value, gradient, trained in kept:
            if parameter.device != value.device:
                parameter.data = value
            # written only where it changed: somebody's graph may still hold the parameter as it is
            elif not torch.equal(parameter.detach(), value):
                with torch.no_grad():
                    parameter.copy_(value)
            parameter.requires_grad_(trained)
            parameter.grad = gradient
