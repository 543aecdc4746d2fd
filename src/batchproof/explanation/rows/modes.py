"""A model in another mode than the one it is judged in: with ``train()`` left on, and in bfloat16."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from batchproof.explanation.models import Coupling, Culprit, inspect_model
from batchproof.explanation.result import RowTrial
from batchproof.explanation.rows.measure import ModelOnRows, Unaligned, worst
from batchproof.explanation.rows.perturbations import CallPair, TrialName, reason_of
from batchproof.explanation.rows.precision import floating_types, in_bfloat16
from batchproof.explanation.rows.sequences import RowsCall
from batchproof.explanation.samples import Samples
from batchproof.explanation.trace import drawing_modules

Titled = tuple[TrialName, str]
_TRAINING: Titled = ("training", "train() left on")
_NARROW: Titled = ("bfloat16", "in bfloat16")


def with_training_on(subject: ModelOnRows) -> RowTrial:
    """What couples samples, or draws random numbers, where nobody has called ``eval()``: that ends it by design."""
    target = subject.target
    if not isinstance(target, torch.nn.Module):
        return _untried(_TRAINING, "a function has no modes")
    here = _signs(subject)
    try:
        with _training(target):
            subject = subject.in_another_mode()
            coupling = inspect_model(target, subject.samples, subject.leaves, subject.seed)
            drawing = [name for name in _drawing(subject) if name not in here]
            moved = max(coupling.moved, subject.varies()) if drawing else coupling.moved
    except Exception as error:  # noqa: BLE001 - BatchNorm refuses one sample; a model may want labels in training
        return _untried(_TRAINING, reason_of(error))
    coupled = _ended_by_eval(coupling)
    drawn = _kinds(target, drawing)
    if not coupled and not drawn:
        gap = coupling.moved if coupling.couples else 0.0
        return RowTrial(*_TRAINING, "same", gap) if not gap else _untried(_TRAINING, "eval() does not end it either")
    first = coupled[0] if coupled else None
    parts = []
    if coupled:
        kinds = list(dict.fromkeys(one.kind for one in coupled))
        parts.append(f"{_listed(kinds)} {'couples' if len(kinds) == 1 else 'couple'} samples")
    if drawn:
        parts.append(f"{_listed(drawn)} {'draws' if len(drawn) == 1 else 'draw'} random numbers")
    module = first.module if first is not None else drawing[0]
    return RowTrial(
        *_TRAINING, "convention", moved, module=module, kind=type(target.get_submodule(module)).__name__,
        place=None if first is None else first.place, note=f"call eval(): {', '.join(parts)}",
    )  # fmt: skip


def in_narrow_numbers(subject: ModelOnRows, pairs: tuple[CallPair, ...]) -> RowTrial:
    """How far a sample alone is from itself in a batch where the model computes in bfloat16: rounding, of another size.

    Args:
        subject: the model, of which these pairs agree up to rounding in its own precision.
        pairs: the samples alone, and in a batch.
    """
    types = floating_types(subject.target)
    if not types <= {torch.float32, torch.float64} or not types:
        held = ", ".join(sorted(str(one).removeprefix("torch.") for one in types))
        return _untried(_NARROW, f"its parameters are {held}" if held else "it has no parameters")
    try:
        with in_bfloat16(subject.target):
            gap, _ = worst(subject.in_another_mode(), [_narrowed(pair) for pair in pairs])
    except Unaligned:
        return _untried(_NARROW, "its output could not be laid beside that of the other call")
    except Exception as error:  # noqa: BLE001 - kernels and masks of one type only
        return _untried(_NARROW, reason_of(error))
    name, title = _NARROW
    return RowTrial(name, title, "rounding" if gap.size else "same", gap.size, None, gap.ulps, gap.flips, gap.answers)


def _narrowed(pair: CallPair) -> CallPair:
    return CallPair(_narrow(pair.one), _narrow(pair.other))


def _narrow(call: RowsCall) -> RowsCall:
    samples = call.samples
    fixed = {name: _bfloat16(value) for name, value in samples.fixed.items()}
    leaves = tuple(_bfloat16(leaf) for leaf in samples.leaves)
    return replace(call, samples=replace(samples, leaves=leaves, fixed=fixed))


def _bfloat16(value: Any) -> Any:
    return value.bfloat16() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _ended_by_eval(coupling: Coupling) -> list[Culprit]:
    """What couples samples in training mode only."""
    return [one for one in coupling.culprits if one.kind and (one.ends_in_eval or not coupling.couples_in_eval)]


def _signs(subject: ModelOnRows) -> set[str]:
    """The modules that draw in eval mode too: kernels of attention are said to, without dropout as well."""
    try:
        return set(_drawing(subject))
    except Exception:  # noqa: BLE001 - said elsewhere
        return set()


def _drawing(subject: ModelOnRows) -> list[str]:
    samples: Samples = subject.samples
    return drawing_modules(subject.target, *samples.all(), subject.seed)


def _kinds(target: torch.nn.Module, names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(type(target.get_submodule(name)).__name__ for name in names))


def _listed(kinds: Iterable[str]) -> str:
    return " and ".join(kinds)


def _untried(trial: Titled, reason: str) -> RowTrial:
    return RowTrial(*trial, "untried", note=reason)


@contextmanager
def _training(target: torch.nn.Module) -> Iterator[None]:
    """Every module in training mode, as ``train()`` leaves it; eval mode afterwards."""
    try:
        target.train()
        yield
    finally:
        target.eval()
