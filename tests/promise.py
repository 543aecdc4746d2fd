"""The promise, as a check: any partition gives what the function gives on all samples at once, or is refused.

It knows only the public API.  What counts as "the same number" is decided here and nowhere else.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

import batchproof as bp

Function = Callable[..., Any]
Args = tuple[Any, ...]
Dims = int | tuple[int | None, ...]

RAGGED = (64, 1, 7, 33, 1, 50)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


@dataclass
class Outcome:
    """How one stream ended."""

    kind: Literal["constant", "rows", "refused"]
    value: Any = None
    reason: str = ""
    metric: Any = None


def is_batch(value: Any) -> bool:
    """Numbers in a list are a batch; tensors in a list are several arguments."""
    return not isinstance(value, (dict, tuple)) and not (isinstance(value, list) and any(map(is_tree, value)))


def is_tree(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, np.ndarray, dict, tuple, list))


def fresh(value: Any) -> Any:
    """A copy that shares no memory: functions under test may write to their arguments."""
    if not is_batch(value):
        return rebuild(value, fresh)
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    return copy.deepcopy(value)


def rebuild(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    return type(value)(map(change, value))


def narrow(value: Any, dim: int | None, lo: int, hi: int) -> Any:
    if dim is None:
        return fresh(value)
    if not is_batch(value):
        return rebuild(value, lambda item: narrow(item, dim, lo, hi))
    if isinstance(value, torch.Tensor):
        return value.detach().narrow(dim, lo, hi - lo).clone()
    if isinstance(value, np.ndarray):
        return np.take(value, range(lo, hi), axis=dim)
    return value[lo:hi]


def length(value: Any, dim: int = 0) -> int:
    while not is_batch(value):
        value = next(iter(value.values() if isinstance(value, dict) else value))
    return int(value.shape[dim]) if hasattr(value, "shape") else len(value)


def each_dim(args: Args, dims: Dims) -> tuple[int | None, ...]:
    return dims if isinstance(dims, tuple) else (dims,) * len(args)


def split(args: Args, sizes: Sequence[int], dims: Dims = 0) -> list[Args]:
    """The samples in pieces of these sizes, the rest in a last one."""
    total = next(length(arg, dim) for arg, dim in zip(args, each_dim(args, dims), strict=True) if dim is not None)
    edges = [0]
    for size in sizes:
        edges.append(min(edges[-1] + size, total))
    edges = sorted({*edges, total})
    return [
        tuple(narrow(arg, dim, lo, hi) for arg, dim in zip(args, each_dim(args, dims), strict=True))
        for lo, hi in zip(edges, edges[1:], strict=False)
    ]


def stream(fn: Function, pieces: Iterable[Args], **options: Any) -> Outcome:
    metric = None
    try:
        metric = bp.exact(fn, **options)
        for piece in pieces:
            metric.update(*fresh(piece))
        value = metric.compute()
        kind: Literal["constant", "rows"] = "constant" if metric.plan.is_constant_size else "rows"
    except bp.BatchproofError as error:
        assert str(error).strip(), "a refusal gives its reason"
        return Outcome("refused", reason=str(error), metric=metric)
    return Outcome(kind, value, str(metric.plan.reason), metric)


def promise(
    fn: Function,
    *args: Any,
    sizes: Sequence[int] = RAGGED,
    dims: Dims = 0,
    constant: bool | None = None,
    refuse: bool | None = None,
    rtol: float | None = None,
    own_type: bool = False,
    **options: Any,
) -> Outcome:
    """Stream `args` in pieces of `sizes` and hold the outcome against `fn` on all of them.

    constant=True: a state of constant size obviously exists, so neither rows nor a refusal will do.
    refuse=True: only a refusal will do; refuse=False: a value has to come.
    own_type=True: the value has to be the one of the inputs' own type, which float64 does not give.
    """
    outcome = stream(fn, split(args, sizes, dims), batch_dim=dims, **options)
    if outcome.kind == "refused":
        assert not constant and refuse is not False, f"refused: {outcome.reason}"
        return outcome
    assert not refuse, f"gave {outcome.value!r} where no number can be right"
    expected = fn(*fresh(args))
    rtol = max(map(tolerance, leaves(args))) if rtol is None else rtol
    problem = difference(outcome.value, expected, rtol)
    if problem is not None and not own_type and rtol > TOLERANCE[torch.float64] and same_kind(outcome.value, expected):
        problem = difference(outcome.value, fn(*map(upcast, fresh(args))), rtol, same_type=False)
    assert problem is None, f"{outcome.kind}: {problem}\n{outcome.metric.plan}"
    if constant is not None:
        assert outcome.metric.plan.is_constant_size == constant, f"{outcome.kind}: {outcome.reason}"
    return outcome


def tolerance(value: Any) -> float:
    """The room that rounding in the inputs' own type needs."""
    return TOLERANCE.get(value.dtype, 1e-9) if isinstance(value, torch.Tensor) else 1e-9


def upcast(value: Any) -> Any:
    """Narrow floats in float64: the value that rounding inside the function hides."""
    if not is_batch(value):
        return rebuild(value, upcast)
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.double()
    return value


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key])]
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def same_kind(got: Any, expected: Any) -> bool:
    """Same containers, keys, types, dtypes and shapes."""
    if isinstance(expected, dict):
        return (
            isinstance(got, dict) and list(got) == list(expected) and all(same_kind(got[k], expected[k]) for k in got)
        )
    if isinstance(expected, (tuple, list)):
        return type(got) is type(expected) and len(got) == len(expected) and all(map(same_kind, got, expected))
    if isinstance(expected, torch.Tensor):
        return isinstance(got, torch.Tensor) and got.dtype == expected.dtype and got.shape == expected.shape
    if isinstance(expected, (float, np.floating)):
        return isinstance(got, (float, np.floating))
    return type(got) is type(expected)


def numbers(value: Any) -> torch.Tensor:
    tensor = torch.as_tensor(value).detach().cpu()
    return torch.view_as_real(tensor.to(torch.complex128)) if tensor.is_complex() else tensor.double()


def difference(got: Any, expected: Any, rtol: float = 1e-9, *, same_type: bool = True) -> str | None:
    """None when both are the same number, else what is different."""
    if same_type and not same_kind(got, expected):
        return f"type: {describe(got)} for {describe(expected)}"
    pairs = list(zip(leaves(got), leaves(expected), strict=True))
    for mine, theirs in pairs:
        if mine is None or isinstance(theirs, str):
            continue
        a, b = numbers(mine), numbers(theirs)
        if a.shape != b.shape:
            return f"shape {tuple(a.shape)} for {tuple(b.shape)}"
        room = 0.0 if exactly(mine) else rtol
        scale = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 1.0
        equal = (a == b) | (a.isnan() & b.isnan()) | ((a - b).abs() <= room * scale)
        if not equal.all():
            return f"{mine!r} for {theirs!r} (tolerance {room:g})"
    return None


def exactly(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not (value.is_floating_point() or value.is_complex())
    return isinstance(value, (bool, int))


def describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} tensor of shape {tuple(value.shape)}"
    if isinstance(value, (dict, tuple, list)):
        inside = value.values() if isinstance(value, dict) else value
        return f"{type(value).__name__}({', '.join(map(describe, inside))})"
    return type(value).__name__


def finite(value: Any) -> bool:
    return all(math.isfinite(x) for leaf in leaves(value) for x in numbers(leaf).reshape(-1).tolist())


def moved(args: tuple[torch.Tensor, ...], unit: float, seed: int) -> tuple[torch.Tensor, ...]:
    """The samples, each moved by about a unit of rounding: what fn makes of that is rounding too."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for arg in args:
        if arg.is_floating_point():
            noise = torch.rand(arg.shape, generator=generator, dtype=torch.float64) * 2 - 1
            arg = arg.double() * (1 + unit * noise)
        out.append(arg)
    return tuple(out)
