"""Whether two values are the same number, differ by rounding that the function itself amplifies, or are different.

A number has the room of its own type: a float32 result of float64 samples is held to float32.
Inputs are nudged by a unit of rounding, equal inputs equally: what was tied stays tied, so that a rule for ties cannot
pass for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

ROOM = {torch.float64: 1e-7, torch.float32: 3e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
UNIT = {torch.float64: 1e-14, torch.float32: 2e-7, torch.float16: 1e-3, torch.bfloat16: 8e-3}
NUDGES = 12


def flat(value: Any) -> list[Any]:
    return pytree.tree_leaves(value)


def numbers(leaf: Any) -> Tensor:
    tensor = torch.as_tensor(leaf).detach()
    return torch.view_as_real(tensor.to(torch.complex128)) if tensor.is_complex() else tensor.double()


def same_type(got: Any, right: Any) -> bool:
    """The same containers, and leaves of the same types, dtypes and shapes."""
    mine, theirs = pytree.tree_structure(got), pytree.tree_structure(right)
    return mine == theirs and all(map(_alike, flat(got), flat(right)))


def _alike(a: Any, b: Any) -> bool:
    if isinstance(b, Tensor):
        return isinstance(a, Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape)
    return type(a) is type(b)


def whole(leaf: Any) -> bool:
    if isinstance(leaf, Tensor):
        return not (leaf.is_floating_point() or leaf.is_complex())
    return isinstance(leaf, (bool, int))


def narrower(leaf: Any, dtype: torch.dtype) -> torch.dtype:
    """Of a number's own type and that of the samples, the one that keeps fewer digits."""
    own = leaf.dtype.to_real() if isinstance(leaf, Tensor) else dtype
    return max(dtype, own, key=lambda kind: ROOM.get(kind, 0.0))


def close(got: Any, right: Any, dtype: torch.dtype, extra: list[Tensor] | None = None) -> bool:
    for place, (mine, theirs) in enumerate(zip(flat(got), flat(right), strict=True)):
        a, b = numbers(mine), numbers(theirs)
        if a.shape != b.shape:
            return False
        room = 0.0 if whole(mine) else ROOM[narrower(mine, dtype)]
        finite = b[b.isfinite()]
        scale = finite.abs().max() if finite.numel() else torch.zeros(())
        near = (a - b).abs() <= room * scale + (0.0 if extra is None else extra[place])
        if not bool((near | (a == b) | (a.isnan() & b.isnan())).all()):
            return False
    return True


def nudged(value: Any, unit: float, seed: int) -> Any:
    """Floating tensors moved by a relative unit, each number by a share that depends on the number alone."""

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        wide = leaf.double()
        share = torch.sin(wide.nan_to_num(0.0, 1.0, 1.0).frac() * 1e4 + torch.sign(wide) * 7 + seed * 1.7)
        return wide * (1 + unit * share)

    return pytree.tree_map(move, value)


def wide(value: Any) -> Any:
    return pytree.tree_map(lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, value)


def judge(f: Callable[..., Any], call: tuple[Any, Any], got: Any, right: Any, dtype: torch.dtype) -> str:
    """'same', 'rounding' where the function's own rounding explains the gap, else what is wrong."""
    if not same_type(got, right):
        return f"another type: {got!r} for {right!r}"
    if close(got, right, dtype):
        return "same"
    unit = max(UNIT[narrower(leaf, dtype)] for leaf in (*flat(right), None))
    others = list(_moved(f, call, dtype, unit))
    if any(close(got, other, dtype) for other in others):
        return "same" if close(got, others[0], dtype) else "rounding"
    spread = [_spread([flat(other)[place] for other in others], leaf) for place, leaf in enumerate(flat(right))]
    if any(close(got, other, dtype, spread) for other in (right, *others[:1])):
        return "rounding"
    return f"another number: {got!r} for {right!r}"


def _moved(f: Callable[..., Any], call: tuple[Any, Any], dtype: torch.dtype, unit: float) -> Iterator[Any]:
    """The function in float64, then on nudged inputs, in float64 and in its own type."""
    tries = [(wide(call), None)]
    for seed in range(NUDGES):
        tries.append((nudged(call, unit, seed), None))
        if dtype is not torch.float64:
            tries.append((nudged(call, unit, seed), dtype))
    for inputs, narrow in tries:
        args, kwargs = pytree.tree_map(
            lambda t, to=narrow: t.to(to) if to is not None and isinstance(t, Tensor) and t.is_floating_point() else t,
            inputs,
        )
        try:
            yield f(*_own(args), **_own(kwargs))
        except Exception:  # noqa: BLE001 - a nudge may leave the function's domain
            continue


def _own(value: Any) -> Any:
    return pytree.tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, value)


def _spread(values: list[Any], right: Any) -> Tensor:
    """How far the value moves with its inputs: a hundred times the median."""
    centre = numbers(right)
    gaps = [(numbers(v) - centre).abs().nan_to_num(0.0, 0.0, 0.0) for v in values if numbers(v).shape == centre.shape]
    return 100 * torch.stack(gaps).median(0).values if gaps else torch.zeros(())
