"""The plan, tried once more at the end: on a few samples of the whole stream, not only on its first ones.

The samples are cut at random, the pieces folded and merged, and the result is held against the function called on all
of them, both in float64. Only a clear contradiction counts: a function that takes another way on so few samples, has
no finite value on them, or moves by more when its inputs are rounded, shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive import Recording, State, StatePlan, TensorBatch, merge, ragged, record, result_of, widen
from batchproof.errors import BatchproofError
from batchproof.ground.batch import by_shape, join, signature, tensors_of
from batchproof.ground.isolation import quiet
from batchproof.ground.tensors import gap
from batchproof.metric.fast_path import Variant, no_autocast
from batchproof.metric.padding import leaks
from batchproof.metric.reservoir import Sample

#: Relative differences up to this are rounding.
ROOM = 1e-6
#: A difference counts where it is so many times what rounding the inputs to this does.
NUDGE, TIMES = 1e-12, 20
#: Ways of rounding that are tried: a threshold that is met exactly goes either way.
NUDGES = 4


class Contradicted(BatchproofError):
    """On samples that came later the plan gives another value than the function."""


def recheck(fn: Callable[..., Any], variants: dict[Any, Variant], sample: Sample) -> None:
    """Hold plans against the function they were derived from.

    Args:
        fn: the function.
        variants: its plans, by the shape of samples.
        sample: of the stream.

    Raises:
        Contradicted: they give different values.
    """
    groups = by_shape(sample.rows)
    if not groups or len(groups[0]) < 2:
        return
    padded = leaks(fn, sample.rows)
    if padded is not None:
        raise Contradicted(
            "batches came padded to different lengths, and padding enters the value: on some samples it is "
            f"{padded[0]:.6g}, and {padded[1]:.6g} with less padding; pad all to one length, or mask what was added"
        )
    call = join(groups[0])
    variant = variants.get(signature(call))
    if variant is None or not call.all_tensors():
        return
    tensors, dims = tensors_of(call)
    generator = torch.Generator().manual_seed(sample.n)
    batch = TensorBatch([widen(t.detach()) for t in tensors], dims).take(torch.randperm(call.n, generator=generator))
    with torch.inference_mode(False), torch.no_grad(), quiet(fn), no_autocast(tensors[0]):
        found = _difference(variant.plan, batch, generator)
    if found is not None:
        raise Contradicted(
            f"the state derived from the first samples does not give the function's value on later ones: on {call.n} "
            f"samples drawn from all {sample.n} it gives {found[0]:.6g}, the function {found[1]:.6g}; use state='rows' "
            "to keep the samples"
        )


def _difference(plan: StatePlan, batch: TensorBatch, generator: torch.Generator) -> tuple[float, float] | None:
    """The first number in which the plan contradicts the function, from both; None where there is none."""
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
    leaves = merge(plan, [values for values, _ in parts])
    lengths = [sum(column) for column in zip(*(counted for _, counted in parts), strict=True)]
    return plan.finish(State(leaves, lengths, batch.n), batch.tensors, batch.dims, batch.n)


def _numbers(result: Any, run: Recording) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What both give, side by side, where the function's value is finite."""
    for mine, leaf in zip(pytree.tree_leaves(result), run.result, strict=True):
        theirs = result_of(run, leaf)
        if not isinstance(theirs, (torch.Tensor, bool, int, float, complex)):
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
