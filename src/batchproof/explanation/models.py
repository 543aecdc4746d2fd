"""Which operation of a model makes one sample's output depend on the others.

One row of the batch is replaced, then another. An element that moves both times belongs to two samples at once: that is
coupling, in whatever layout the model keeps its batch.  The first such operation on the way to the output is to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from batchproof.explanation.samples import Arguments, Samples
from batchproof.explanation.trace import RunTrace, TraceStep, watch
from batchproof.ground import components
from batchproof.ground.held_state import same_start
from batchproof.ground.place import Place
from batchproof.ground.text import error_line

ROWS = 4
MOST_CULPRITS = 200
Masks = list[tuple[torch.Tensor, ...]]
Model = Callable[..., Any]


@dataclass(frozen=True)
class Culprit:
    """The innermost module that couples samples, the line that does, and whether ``eval()`` of that module ends it.

    ``alike`` counts the other modules of its class that are in training mode too.
    """

    module: str
    kind: str
    training: bool
    place: Place | None
    ends_in_eval: bool
    alike: int = 0

    def __str__(self) -> str:
        return f"{self.module or 'the model itself'} ({self.kind}{', training mode' if self.training else ''})"


@dataclass(frozen=True)
class Coupling:
    """What was found.  ``couples`` is None where two runs from the same random numbers differ.

    ``moved`` is how far an output moves when another sample changes, in standard deviations of the output.
    """

    couples: bool | None
    couples_in_eval: bool | None = None
    culprits: tuple[Culprit, ...] = ()
    moved: float = 0.0


def row_leaves(target: Model, samples: Samples) -> list[bool]:
    """For each numeric leaf of the output, whether it grows with the batch."""
    if samples.n < 3:  # the same ones again, to see what grows with them
        samples = samples.reorder(torch.arange(3) % samples.n)
    few, all_of_them = min(samples.n, 8), min(samples.n, 512)
    for many in (few, all_of_them):
        try:
            found = [components.tensors(_call(target, samples.first(count).all(), 0)) for count in (many, many - 1)]
        except Exception:  # noqa: BLE001 - a few samples may be too few for it
            continue
        shapes = [[tuple(tensor.shape) for _, tensor in leaves] for leaves in found]
        return [
            len(long) == len(short) and any(_count_rows(a, b, many) for a, b in zip(long, short, strict=True))
            for long, short in zip(*shapes, strict=False)
        ]
    return []


def _count_rows(long: int, short: int, many: int) -> bool:
    return _counts(long, many) and short * many == long * (many - 1)


def _counts(size: int, rows: int) -> bool:
    """Whether a dimension has so many entries for each row: several where positions are laid end to end."""
    return size > 0 and size % rows == 0


def inspect_model(target: Model, samples: Samples, leaves: Sequence[bool], seed: int) -> Coupling:
    """Find what couples the samples in these leaves of the output, in the order in which it runs."""
    probe = _Probe(target, list(_perturbed(samples, min(samples.n, ROWS))), leaves, seed)
    if not probe.repeatable():
        return Coupling(None)
    couples, moved = probe.couples()
    if not couples:
        return Coupling(False)
    culprits = _culprits(probe)
    in_eval = None
    if isinstance(target, torch.nn.Module) and target.training:
        with _flags(target.modules()):
            in_eval = probe.couples()[0]
    return Coupling(True, in_eval, tuple(culprits), moved)


def find_meeting(target: Model, samples: Samples, seed: int) -> Culprit | None:
    """The first operation inside of a loss whose rows belong to two samples: BatchNorm in a projector that trains."""
    if samples.n <= ROWS:
        return None
    probe = _Probe(target, list(_perturbed(samples, ROWS)), (), seed)
    try:
        step = probe.first_meeting(samples.first(ROWS - 1).all())
    except Exception:  # noqa: BLE001 - a few rows may be too few for it: then nothing is known
        return None
    if step is None:
        return None
    modules = dict(target.named_modules()) if isinstance(target, torch.nn.Module) else {}
    module = modules.get(step.module)
    kind = type(module).__name__ if module is not None else ""
    alike = [] if module is None else _in_training(modules.values(), type(module))
    return Culprit(step.module, kind, module is not None and module.training, step.place, False, max(len(alike) - 1, 0))


def _culprits(probe: _Probe) -> list[Culprit]:
    """Blame one, put its class in eval mode, and look for the next: until nothing couples or eval does not help."""
    found: list[Culprit] = []
    modules = dict(probe.target.named_modules()) if isinstance(probe.target, torch.nn.Module) else {}
    switched: list[torch.nn.Module] = []
    step = probe.first_coupling()
    try:
        while step is not None and len(found) < MOST_CULPRITS:
            module = modules.get(step.module)
            kind = type(module).__name__ if module is not None else ""
            alike = [] if module is None or not step.module else _in_training(modules.values(), type(module))
            for part in alike:
                switched += [inner for inner in part.modules() if inner.training]
                part.eval()
            following = probe.first_coupling() if alike else step
            ends = following is None or following.module != step.module
            training = module is not None and (module in alike or module.training)
            found.append(Culprit(step.module, kind, training, step.place, ends, max(len(alike) - 1, 0)))
            step = following if ends else None
    finally:
        for part in switched:
            part.training = True
    return found


def _in_training(modules: Iterable[torch.nn.Module], kind: type) -> list[torch.nn.Module]:
    return [module for module in modules if type(module) is kind and module.training]


@dataclass(frozen=True)
class _Probe:
    """A model, a batch and the same batch with one row replaced, several times."""

    target: Model
    calls: list[Arguments]
    leaves: Sequence[bool]
    seed: int

    def repeatable(self) -> bool:
        first, second = self._outputs(self.calls[0]), self._outputs(self.calls[0])
        return not any(bool(_differ(a, b).any()) for a, b in zip(first, second, strict=True))

    def couples(self) -> tuple[bool, float]:
        """Whether an output belongs to two samples, and how far one moved."""
        base, *others = [self._outputs(call) for call in self.calls]
        masks = [tuple(_differ(a, b) for a, b in zip(base, other, strict=True)) for other in others]
        moved = 0.0
        for position, tensor in enumerate(base):
            hits = torch.stack([mask[position].int() for mask in masks]).sum(0) > 1
            if tensor.is_floating_point() and bool(hits.any()):
                spread = float(tensor.double().std()) if tensor.numel() > 1 else float(tensor.abs())
                shift = max(float((other[position] - tensor)[hits].abs().max()) for other in others)
                moved = max(moved, shift / spread if spread else 0.0)
        return _overlap(masks), moved

    def first_coupling(self) -> TraceStep | None:
        """The first step whose result belongs to two samples although nothing that it takes does."""
        base, begins = self._beginnings()
        ends = [end for end, grows in zip(base.ends, self.leaves, strict=True) if grows]
        way = _ancestors(base, ends)
        # a write in place can hide part of the way to the output: then any step will do
        first = next((index for index in begins if index in way), next(iter(begins), None))
        return None if first is None else base.steps[first]

    def first_meeting(self, fewer: Arguments) -> TraceStep | None:
        """The first step of a loss in which samples meet and that has a row for each: a mean is no coupling there.

        Args:
            fewer: the batch without its last row, which shows what has rows.
        """
        base, begins = self._beginnings()
        short = self._watched(fewer)
        if [step.op for step in short.steps] != [step.op for step in base.steps]:
            return None
        way = _ancestors(base, base.ends)
        for index in begins:
            long, other = (run.steps[index].results for run in (base, short))
            if (index in way or not way) and long and long[0].shape != other[0].shape:
                return base.steps[index]
        return None

    def _beginnings(self) -> tuple[RunTrace, list[int]]:
        """A run, and the steps whose result belongs to two samples although nothing that they take does."""
        base, *others = [self._watched(call) for call in self.calls]
        masks = [_moved(base, other) for other in others]
        coupled = [_overlap([mask[index] for mask in masks]) for index in range(len(base.steps))]
        return base, [
            index
            for index, step in enumerate(base.steps)
            if coupled[index] and not any(source >= 0 and coupled[source] for source in step.sources)
        ]

    def _outputs(self, call: Arguments) -> list[torch.Tensor]:
        found = components.tensors(_call(self.target, call, self.seed))
        return [tensor for (_, tensor), grows in zip(found, self.leaves, strict=True) if grows]

    def _watched(self, call: Arguments) -> RunTrace:
        with same_start(self.target, self.seed):
            return watch(self.target, *call)


def _moved(base: RunTrace, other: RunTrace) -> Masks:
    """For each step, which elements differ; a run that took another path differs everywhere from there on."""
    masks: Masks = []
    same_path = True
    for index, step in enumerate(base.steps):
        twin = other.steps[index] if index < len(other.steps) else None
        same_path = same_path and twin is not None and twin.op == step.op
        if same_path and twin is not None:
            masks.append(tuple(_differ(a, b) for a, b in zip(step.results, twin.results, strict=True)))
        else:
            masks.append(tuple(torch.ones_like(a, dtype=torch.bool) for a in step.results))
    return masks


def _differ(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    if left.shape != right.shape:
        return torch.ones_like(left, dtype=torch.bool)
    if not (left.is_floating_point() or left.is_complex()):
        return left != right
    finite = left.isfinite()
    scale = left[finite].abs().max() if bool(finite.any()) else torch.zeros(())
    close = (left - right).abs() <= 1e-6 * scale
    return ~(close | (left == right) | (left.isnan() & right.isnan()))


def _overlap(masks: Sequence[tuple[torch.Tensor, ...]]) -> bool:
    """Whether an element moves with more than one of the perturbed rows."""
    for of_one_result in zip(*masks, strict=True):
        if any(mask.shape != of_one_result[0].shape for mask in of_one_result):
            return True
        if bool((torch.stack([mask.int() for mask in of_one_result]).sum(0) > 1).any()):
            return True
    return False


def _ancestors(run: RunTrace, ends: Sequence[int]) -> set[int]:
    seen: set[int] = set()
    waiting = list(ends)
    while waiting:
        index = waiting.pop()
        if index >= 0 and index not in seen:
            seen.add(index)
            waiting.extend(run.steps[index].sources)
    return seen


def _perturbed(samples: Samples, rows: int) -> Iterator[Arguments]:
    """The first rows as they are, then with the first, the second and the last replaced by a row from elsewhere."""
    yield samples.first(rows).all()
    for row in sorted({0, min(1, rows - 1), rows - 1}):
        order = torch.arange(rows)
        order[row] = (rows + row) % samples.n if samples.n > rows else (row + 1) % rows
        yield samples.reorder(order).all()


def _call(target: Model, call: Arguments, seed: int) -> Any:
    with same_start(target, seed):
        return target(*call[0], **call[1])


@contextmanager
def _flags(modules: Iterable[torch.nn.Module]) -> Iterator[None]:
    """Eval mode for these modules, for a while."""
    before = [(module, module.training) for module in modules]
    for module, _ in before:
        module.training = False
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def change_with_size(
    target: Model, samples: Samples, leaves: Sequence[bool], sizes: Sequence[int], seed: int
) -> dict[int, float | str]:
    """For each batch size, how far outputs are from those of one batch: root mean square, in standard deviations.

    A batch size at which the model fails gives the error's text.  Dropout is switched off for the comparison.
    """
    modules = target.modules() if isinstance(target, torch.nn.Module) else iter(())
    found: dict[int, float | str] = {}
    with _flags([module for module in modules if isinstance(module, torch.nn.modules.dropout._DropoutNd)]):
        whole = _rows(target, samples, leaves, samples.n, seed)
        spread = float(whole.std()) or 1.0
        for size in sizes:
            try:
                gap = _rows(target, samples, leaves, size, seed) - whole
                found[size] = float(gap.square().mean().sqrt()) / spread
            except Exception as error:  # noqa: BLE001 - BatchNorm refuses a batch of one: a finding
                found[size] = error_line(error)
    return found


def _rows(target: Model, samples: Samples, leaves: Sequence[bool], size: int, seed: int) -> torch.Tensor:
    """The first output that has rows, sample by sample, from batches of this size."""
    parts = []
    for lo in range(0, samples.n, size):
        hi = min(samples.n, lo + size)
        tensor = components.tensors(_call(target, samples.batch(lo, hi), seed))[list(leaves).index(True)][1]
        dims = [dim for dim, length in enumerate(tensor.shape) if length == hi - lo]
        dim = next(iter(dims + [dim for dim, length in enumerate(tensor.shape) if _counts(length, hi - lo)]))
        parts.append(tensor.movedim(dim, 0).double().reshape(hi - lo, -1))
    return torch.cat(parts)
