"""What a plan and its function say of the same samples, where they contradict each other.

The samples are cut at random, the pieces folded and merged, and the result is held against the function called on all
of them, both in float64. Only a clear contradiction counts: a function that takes another way on so few samples, has
no finite value on them, or moves by more when its inputs are rounded, shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.evaluate import is_numeric, result_of
from batchproof.derive.finish import State
from batchproof.derive.plan import StatePlan, in_groups
from batchproof.derive.record import record
from batchproof.derive.recording import Recording, widen
from batchproof.derive.samples import TensorBatch, ragged
from batchproof.ground.tensors import gap

#: Relative differences up to this are rounding.
ROOM = 1e-6
#: A difference counts where it is so many times what rounding the inputs to this does.
NUDGE, TIMES = 1e-12, 20
#: Ways of rounding that are tried: a threshold that is met exactly goes either way.
NUDGES = 4


def find_contradiction(plan: StatePlan, batch: TensorBatch, generator: torch.Generator) -> tuple[float, float] | None:
    """The first number in which a plan contradicts its function on a batch, from both; None where there is none."""
    batch = TensorBatch([widen(t.detach()) for t in batch.tensors], batch.dims)
    batch = batch.take(torch.randperm(batch.n, generator=generator))
    if plan.group > 1:  # any samples make groups: function and plan are given the same ones
        batch = batch.take(torch.arange(batch.n // plan.group * plan.group))
        batch = TensorBatch(in_groups(batch.tensors, batch.dims, plan.group), batch.dims)
        plan = plan.by_groups()
    try:
        run = _recorded(plan, batch)
        result = _merged(plan, batch, generator)
        pairs = list(_numbers(result, run))
    except Exception:  # noqa: BLE001 - no value on these few samples: they show nothing
        return None
    gaps = [gap(mine, theirs) for mine, theirs in pairs]
    if max(gaps, default=0.0) <= ROOM:
        return None
    rounding = _rounding(plan, batch, run, generator)
    for (mine, theirs), error, moves in zip(pairs, gaps, rounding, strict=True):
        if error > max(ROOM, TIMES * moves):
            place = int((mine - theirs).abs().argmax())
            return float(mine[place]), float(theirs[place])
    return None


def _recorded(plan: StatePlan, batch: TensorBatch) -> Recording:
    """The function on the samples, in float64."""
    return record(plan.fn, batch.tensors, shown=plan.shown)


def _merged(plan: StatePlan, batch: TensorBatch, generator: torch.Generator) -> Any:
    """The samples by the plan, in pieces of random sizes."""
    fold = plan.wide.compile()
    captured = {index: widen(tensor.detach()) for index, tensor in plan.captured.items()}
    sizes = [1] * min(4, batch.n // 2)
    sizes += ragged(batch.n - len(sizes), generator)
    parts = [fold(piece.tensors, captured) for piece in batch.split(sizes)]
    leaves = plan.merge([values for values, _ in parts])
    lengths = [sum(column) for column in zip(*(counted for _, counted in parts), strict=True)]
    return plan.finish(State(leaves, lengths, batch.n), batch.tensors, batch.dims, batch.n)


def _numbers(result: Any, run: Recording) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What both give, side by side, where the function's value is finite."""
    for mine, leaf in zip(pytree.tree_leaves(result), run.result, strict=True):
        theirs = result_of(run, leaf)
        if not is_numeric(theirs):
            continue
        a, b = _real(torch.as_tensor(mine)), _real(torch.as_tensor(theirs))
        known = torch.isfinite(b) if a.shape == b.shape else slice(0)
        yield a[known], b[known]


def _real(number: torch.Tensor) -> torch.Tensor:
    number = number.detach()
    return (torch.view_as_real(number.resolve_conj()) if number.is_complex() else number).double().reshape(-1)


def _rounding(plan: StatePlan, batch: TensorBatch, run: Recording, generator: torch.Generator) -> list[float]:
    """How far each number moves when the inputs are rounded."""
    worst: list[float] = []
    for _ in range(NUDGES):
        nudged = [_nudged(t, generator) for t in batch.tensors]
        try:
            again = _recorded(plan, TensorBatch(nudged, batch.dims))
        except Exception:  # noqa: BLE001 - rounding takes it out of the function's domain
            return [float("inf")] * len(run.result)
        results = [result_of(again, leaf) for leaf in again.result]
        moves = [gap(a, b) for a, b in _numbers(results, run)]
        worst = [max(pair) for pair in zip(worst, moves, strict=True)] if worst else moves
    return worst


def _nudged(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
        return tensor
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
    return tensor * (1 + NUDGE * noise)
