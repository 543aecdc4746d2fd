"""From a frontier to a plan that has been tried: fold code, then the user's own data, then its own dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.centred_sum import CentredSum, Extremes
from batchproof.derive.cut import Frontier, ancestors, sinks
from batchproof.derive.diverged import DigitsLost, Diverged
from batchproof.derive.evaluate import is_numeric, result_of, taken_by, values_of
from batchproof.derive.finish import State
from batchproof.derive.fold import sums_at_once
from batchproof.derive.kind import COUNTED, Kind
from batchproof.derive.plan import StatePlan, Verified, leaf_of
from batchproof.derive.program import Program
from batchproof.derive.record import Way, answers, record
from batchproof.derive.recording import Recording, Size, leaves, widen
from batchproof.derive.samples import TensorBatch
from batchproof.derive.verify import ROUNDING, Fold, Refuted, verify
from batchproof.ground.tensors import gap


def assemble(
    fn: Callable[..., Any],
    batch: TensorBatch,
    plain: Any,
    program: Program,
    runs: Sequence[Recording],
    batches: Sequence[TensorBatch],
    frontier: Frontier,
    centres: Mapping[int, CentredSum | Extremes | None],
    reason: str | None,
    shown: torch.dtype | None,
) -> StatePlan:
    """The plan that keeps a frontier, once it was tried.

    Raises:
        Refuted: it does not give the function's value.
        Diverged: the function does something else on the merged state.
    """
    centred = {index: found for index in frontier.leaves if (found := centres.get(index)) is not None}
    lengths = _lengths(program, frontier)
    wanted = taken_by([found.summand for found in centred.values()])
    samples = [(values_of(program, run, b, wanted), b.n) for run, b in zip(runs, batches, strict=True)]

    at_once = {
        index: sums_at_once(found, program, samples)
        for index, found in centred.items()
        if isinstance(found, CentredSum)
    }

    plan = StatePlan(
        leaves=tuple(leaf_of(program, index, centred, batch) for index in frontier.leaves),
        reason=reason,
        program=program,
        verified=Verified(0, 0.0),
        fn=fn,
        kept=frontier.leaves,
        lengths=lengths,
        after=frontier.after,
        centred=centred,
        shown=shown,
        dtypes=tuple(_type_of(leaf) for leaf in pytree.tree_leaves(plain)),
        folds=frozenset(ancestors(program, frontier.leaves)),
        at_once=at_once,
        dims=batch.dims,
        inputs=tuple(t.dtype for t in batch.tensors),
        constants={v.index: runs[0].tensors[v.index] for v in program.values if v.kind is Kind.SHARED},
        narrow=False,
    )
    plan.verified, shown_by_own_data = _try_on_data(plan, runs, batches)
    if not shown_by_own_data:
        _try_apart(plan, batches[-1])
    own = plain, _own_run(plan, runs[0], wide_inputs(batch))
    narrow = replace(plan, narrow=True)
    if not shown_by_own_data or _serves(narrow, batch, own):
        return narrow
    if not _serves(plan, batch, own):
        raise Refuted("its value on the batch is not that of the same operations in float64: rounding decides it")
    return plan


def wide_inputs(batch: TensorBatch) -> TensorBatch:
    """A batch with floating types at their widest."""
    return TensorBatch([widen(t.detach()) for t in batch.tensors], batch.dims)


def _try_on_data(plan: StatePlan, runs: Sequence[Recording], batches: Sequence[TensorBatch]) -> tuple[Verified, bool]:
    """Hold the plan against the function on the smallest batch and the largest; and whether that shows anything.

    Raises:
        Refuted: it gives another value.
    """
    fold: Fold = plan.wide.compile()
    partitions, worst, shows = 0, 0.0, True
    for number, told in ((0, runs[0]), (len(runs) - 1, runs[-1])):
        batch = wide_inputs(batches[number])
        run = _own_run(plan, told, batch)
        captured = {index: told.tensors[index] for index in plan.captured}
        tried = verify(plan, fold, captured, batch, number)
        state = State(*fold(batch.tensors, captured), batch.n)
        if run is not told:
            _try_ways(plan, state, batch, answers(plan.program.ways, number), told)
        lost: Diverged | None = None
        try:
            error = _result_gap(plan.finish(state, batch.tensors, batch.dims, batch.n), run, run.result)
        except Diverged as refusal:  # the samples are all alike, say
            lost, error = refusal, float("inf")
        if not error <= 1e3 * ROUNDING:
            if not isinstance(lost, DigitsLost) and not _undetermined(plan, batch, run):
                raise lost or _another_value(error)
            shows = False
        partitions, worst = partitions + tried.partitions, max(worst, tried.error, error if error <= 1 else 0.0)
    return Verified(partitions, worst), shows


def _another_value(error: float, where: str = "") -> Refuted:
    return Refuted(f"{where}the merged state gives another value than the function (by {error:.1e})")


def _own_run(plan: StatePlan, told: Recording, batch: TensorBatch) -> Recording:
    """The function by the way that the samples take, where it was told others."""
    return record(plan.fn, batch.tensors, shown=plan.shown) if any(plan.program.ways) else told


def _try_ways(plan: StatePlan, state: State, batch: TensorBatch, ways: Sequence[Way], run: Recording) -> None:
    """Lead the merged state down each way, and hold it against the function on the samples themselves."""
    for way, end in zip(ways, (run.result, *run.others), strict=True):
        try:
            result, _ = plan.finished(state, batch.tensors, batch.dims, batch.n, way)
        except DigitsLost:  # these samples do not belong there
            continue
        error = _result_gap(result, run, end)
        if not error <= 1e3 * ROUNDING:
            raise _another_value(error, "on a way that it may take ")


def _undetermined(plan: StatePlan, batch: TensorBatch, run: Recording) -> bool:
    """Whether rounding decides the function's value on this data, which then shows nothing."""
    numbers = [torch.as_tensor(x).double() for x in (result_of(run, leaf) for leaf in run.result) if is_numeric(x)]
    if any(not bool(torch.isfinite(x).all()) for x in numbers):
        return True
    return not _sensitivity(plan, batch, run, 1e-14) <= 1e-3


def _sensitivity(plan: StatePlan, batch: TensorBatch, run: Recording, rounding: float) -> float:
    """How much the function's value moves, relatively, when its inputs are rounded."""
    generator = torch.Generator().manual_seed(0)
    nudged = [
        t * (1 + rounding * torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device))
        if t.dtype is torch.float64
        else t
        for t in batch.tensors
    ]
    try:
        again = record(plan.fn, nudged, shown=plan.shown)
    except Exception:  # noqa: BLE001 - rounding takes it out of the function's domain: it says nothing
        return 0.0
    pairs = [(result_of(again, a), result_of(run, b)) for a, b in zip(again.result, run.result, strict=True)]
    return max((gap(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs if is_numeric(b)), default=0.0)


def _try_apart(plan: StatePlan, batch: TensorBatch) -> None:
    """Try the plan on rows that were moved apart, where the user's own are too much alike to show anything."""
    generator = torch.Generator().manual_seed(1)
    moved = []
    for t, d in zip(batch.tensors, batch.dims, strict=True):
        wide = widen(t.detach())
        if d is not None and wide.dtype is torch.float64:
            noise = torch.rand(wide.shape, generator=generator, dtype=torch.float64).to(wide.device)
            wide = wide + noise * (0.1 * wide.abs() + (wide == 0))
        moved.append(wide)
    apart = TensorBatch(moved, batch.dims)
    run = record(plan.fn, apart.tensors, shown=plan.shown)
    captured = {index: widen(tensor.detach()) for index, tensor in plan.captured.items()}
    fold: Fold = plan.wide.compile()
    verify(plan, fold, captured, apart, 2)
    state = State(*fold(apart.tensors, captured), apart.n)
    error = _result_gap(plan.finish(state, apart.tensors, apart.dims, apart.n), run, run.result)
    if not error <= 1e3 * ROUNDING:
        raise _another_value(error)


def _type_of(leaf: Any) -> Any:
    return leaf.dtype if isinstance(leaf, torch.Tensor) else type(leaf)


def _lengths(program: Program, frontier: Frontier) -> tuple[tuple[int, int], ...]:
    """Selections whose total length finish needs for its stand-ins: those that matter, or that Python measured."""
    live = ancestors(program, sinks(program))
    live |= {
        size.of[0]
        for index in program.asked
        for size in program.values[index].shape
        if isinstance(size, Size) and size.of is not None
    }
    found = []
    for value in program.values:
        if value.op is None or value.op in frontier.after or value.index not in live:
            continue
        for d, size in enumerate(value.shape):
            own = isinstance(size, Size) and size.of == (value.index, d)
            if own and value.kind in COUNTED:
                found.append((value.index, d))
    return tuple(found)


def _result_gap(result: Any, run: Recording, end: list[Any]) -> float:
    worst = 0.0
    for mine, theirs in zip(pytree.tree_leaves(result), end, strict=True):
        expected = result_of(run, theirs)
        if is_numeric(expected):
            worst = max(worst, gap(torch.as_tensor(mine), torch.as_tensor(expected)))
    return worst


def _dtypes(arguments: Iterable[Any]) -> list[torch.dtype]:
    return [leaf for leaf in arguments if isinstance(leaf, torch.dtype)]


#: From here on a function's value in its own dtype is decided by rounding, and shows little.
DECIDED = 0.02
SINGLE, HALF = 6e-8, 4e-3


def _serves(plan: StatePlan, batch: TensorBatch, own: tuple[Any, Recording]) -> bool:
    """Whether a plan's fold runs in the batch's own dtype, and leads to the function's own value, up to rounding.

    Where rounding decides that value (float32 far from zero), it must lead to that of the same operations in float64.

    Args:
        plan: whose fold it is.
        batch: to try it on.
        own: the function's own value on the batch, and its run in float64.
    """
    plain, run = own
    casts = (leaf for op in plan.program.ops for leaf in leaves((op.args, op.kwargs)))
    half = not {torch.float16, torch.bfloat16}.isdisjoint([*(t.dtype for t in batch.tensors), *_dtypes(casts)])
    half = half or plan.program.rounds
    fold: Fold = plan.fold.compile()
    try:
        state = State(*fold(batch.tensors, plan.captured), batch.n)
        result = plan.finish(state, batch.tensors, batch.dims, batch.n)
    except Exception:  # noqa: BLE001 - mixed dtypes that only the wide fold puts together
        return False
    pairs = zip(pytree.tree_leaves(result), pytree.tree_leaves(plain), strict=True)
    error = max((gap(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs if is_numeric(b)), default=0.0)
    if error <= (2e-2 if half else 1e-4):
        return True
    moves = _sensitivity(plan, wide_inputs(batch), run, HALF if half else SINGLE)
    return error <= 20 * min(moves, DECIDED) or (
        moves > DECIDED and not half and _result_gap(result, run, run.result) <= 1e-6
    )
