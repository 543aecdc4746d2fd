"""Run somebody's training code, note its gradients, and leave no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from batchproof.gradients.check.isolation import untouched
from batchproof.ground.isolation import seed_all

#: By parameter name; a parameter without a gradient is absent.
Gradients = dict[str, Tensor]
Parameters = Mapping[str, torch.nn.Parameter]


@dataclass
class Window:
    """What lay in ``.grad`` at an optimizer step, and what each backward pass since the last one had brought.

    The passes are empty where they were only counted; ``filled`` of them brought something that is not 0.  ``counts``
    holds, by name, one number for each pass.
    """

    total: Gradients
    passes: list[Gradients]
    filled: int
    counts: dict[str, list[float]]


@dataclass
class GradientRecorder:
    """Notes gradients while it watches; whoever runs the code says where a window ends."""

    parameters: Parameters
    keep_passes: bool = False
    windows: list[Window] = field(default_factory=list)
    _passes: dict[int, Gradients] = field(default_factory=dict)
    _filled: set[int] = field(default_factory=set)
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
            number = torch._C._current_graph_task_id()
            brought = self._passes.setdefault(number, {})
            if number not in self._filled and _is_filled(gradient):
                self._filled.add(number)
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
        self.windows.append(Window(total, list(self._passes.values()), len(self._filled), {}))
        self._passes, self._filled = {}, set()

    def share_out_counts(self) -> None:
        """Each window gets its own: trainers make batches ahead of the steps that take them."""
        start = 0
        for window in self.windows:
            end = start + len(window.passes)
            window.counts = {name: numbers[start:end] for name, numbers in self._counts.items() if len(numbers) >= end}
            start = end

    @property
    def counted(self) -> set[str]:
        """By what names the micro-batches were counted."""
        return set(self._counts)


def _is_filled(gradient: Tensor) -> bool:
    """Whether any of its numbers is not 0."""
    return bool((gradient.coalesce().values() if gradient.is_sparse else gradient).any())


def _copy(gradient: Tensor) -> Tensor:
    """On the CPU, where there is room for one of each backward pass."""
    gradient = gradient.detach()
    return (gradient.to_dense() if gradient.layout is not torch.strided else gradient).to("cpu", copy=True)


def record(
    run: Callable[[GradientRecorder], None],
    parameters: Parameters,
    model: torch.nn.Module | None,
    *,
    keep_passes: bool = False,
    seed: int | None = None,
) -> list[Window]:
    """The windows of one run from the random state, the weights and the buffers of now; all are put back."""
    recorder = GradientRecorder(parameters, keep_passes)
    with untouched(parameters, model):
        if seed is not None:
            seed_all(seed)
        with recorder.watching():
            run(recorder)
    recorder.share_out_counts()
    return recorder.windows
