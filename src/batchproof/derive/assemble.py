"""From a frontier to a plan that has been tried: fold code, then the user's own data, then its own dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.centre import Centred, Extremes
from batchproof.derive.cut import Frontier, ancestors, sinks
from batchproof.derive.evaluate import result_of, taken_by, values_of
from batchproof.derive.finish import Diverged, Lost, State
from batchproof.derive.fold import build, fold_code
from batchproof.derive.plan import Plan, Verified, leaf_of
from batchproof.derive.program import Program
from batchproof.derive.record import Way, answers, record
from batchproof.derive.recording import Recording, Size, leaves, widen
from batchproof.derive.samples import Inputs
from batchproof.derive.verify import ROUNDING, Refuted, verify
from batchproof.ground.tensors import gap


def assemble(
    fn: Callable[..., Any],
    batch: Inputs,
    plain: Any,
    program: Program,
    runs: Sequence[Recording],
    batches: Sequence[Inputs],
    frontier: Frontier,
    centres: Mapping[int, Centred | Extremes | None],
    reason: str | None,
    shown: torch.dtype | None,
) -> Plan:
    centred = {index: found for index in frontier.leaves if (found := centres.get(index)) is not None}
    lengths = _lengths(program, frontier)
    batched = [(position, d) for position, d in enumerate(batch.dims) if d is not None]
    dtypes = [t.dtype for t in batch.tensors]
    wanted = taken_by([found.slice for found in centred.values()])
    samples = [(values_of(program, run, b, wanted), b.n) for run, b in zip(runs, batches, strict=True)]

    def code(widened: bool) -> tuple[str, dict[str, Any]]:
        return fold_code(program, frontier.leaves, lengths, centred, batched, dtypes, widened, samples)

    wide_source, wide_space = code(True)
    plan = Plan(
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
        constants={v.index: runs[0].tensors[v.index] for v in program.values if v.kind == "shared"},
        source=wide_source,
        space=wide_space,
        wide=(wide_source, wide_space),
    )
    fold = build(wide_source, dict(wide_space))
    partitions, worst = 0, 0.0
    shown_by_own_data = True
    for number, told in ((0, runs[0]), (len(runs) - 1, runs[-1])):
        wide = Inputs([widen(t.detach()) for t in batches[number].tensors], batch.dims)
        run = _own_run(fn, program, told, wide, shown)
        captured = {index: told.tensors[index] for index in program.captured}
        tried = verify(plan, fold, captured, wide, number)
        state, counted = fold(wide.tensors, captured)
        lost: Diverged | None = None
        if run is not told:
            _try_ways(plan, State(state, counted, wide.n), wide, answers(program.ways, number), told)
        try:
            result = plan.finish(State(state, counted, wide.n), wide.tensors, wide.dims, wide.n)
            error = _result_gap(result, run, run.result)
        except Diverged as refusal:  # the samples are all alike, say
            lost, error = refusal, float("inf")
        if not error <= 1e3 * ROUNDING:
            if not isinstance(lost, Lost) and not _undetermined(fn, wide, run, plan, shown):
                raise lost or Refuted(f"the merged state gives another value than the function (by {error:.1e})")
            shown_by_own_data = False
        partitions, worst = partitions + tried.partitions, max(worst, tried.error, error if error <= 1 else 0.0)
    if not shown_by_own_data:
        _verify_generically(fn, fold, batches[-1], plan, shown)
    plan.verified = Verified(partitions, worst)
    narrow_source, narrow_space = code(False)
    first = Inputs([widen(t.detach()) for t in batch.tensors], batch.dims)

    known = plain, _own_run(fn, program, runs[0], first, shown)

    def sensitivity(rounding: float) -> float:
        return _sensitivity(fn, first, known[1], plan, shown, rounding)

    if not shown_by_own_data or _serves(plan, build(narrow_source, dict(narrow_space)), batch, known, sensitivity):
        plan.source, plan.space = narrow_source, narrow_space
    elif not _serves(plan, fold, batch, known, sensitivity):
        raise Refuted("its value on the batch is not that of the same operations in float64: rounding decides it")
    return plan


def _own_run(
    fn: Callable[..., Any], program: Program, told: Recording, batch: Inputs, shown: torch.dtype | None
) -> Recording:
    """The function by the way that the samples take, where it was told others."""
    return record(fn, batch.tensors, shown=shown) if any(program.ways) else told


def _try_ways(plan: Plan, state: State, batch: Inputs, ways: Sequence[Way], run: Recording) -> None:
    """Lead the merged state down each way, and hold it against the function on the samples themselves."""
    for way, end in zip(ways, (run.result, *run.others), strict=True):
        try:
            result, _ = plan.finished(state, batch.tensors, batch.dims, batch.n, way)
        except Lost:  # these samples do not belong there
            continue
        error = _result_gap(result, run, end)
        if not error <= 1e3 * ROUNDING:
            raise Refuted(
                f"on a way that it may take the merged state gives another value than the function (by {error:.1e})"
            )


def _undetermined(fn: Callable[..., Any], batch: Inputs, run: Recording, plan: Plan, shown: torch.dtype | None) -> bool:
    """Whether rounding decides the function's value on this data, which then shows nothing."""
    numbers = [torch.as_tensor(x).double() for x in (result_of(run, leaf) for leaf in run.result) if _is_numeric(x)]
    if any(not bool(torch.isfinite(x).all()) for x in numbers):
        return True
    return not _sensitivity(fn, batch, run, plan, shown, 1e-14) <= 1e-3


def _sensitivity(
    fn: Callable[..., Any], batch: Inputs, run: Recording, plan: Plan, shown: torch.dtype | None, rounding: float
) -> float:
    """How much the function's value moves, relatively, when its inputs are rounded."""
    assert plan.program is not None
    generator = torch.Generator().manual_seed(0)
    nudged = [
        t * (1 + rounding * torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device))
        if t.dtype is torch.float64
        else t
        for t in batch.tensors
    ]
    try:
        again = record(fn, nudged, shown=shown)
    except Exception:  # noqa: BLE001 - rounding takes it out of the function's domain: it says nothing
        return 0.0
    pairs = [(result_of(again, a), result_of(run, b)) for a, b in zip(again.result, run.result, strict=True)]
    return max((gap(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs if _is_numeric(b)), default=0.0)


def _is_numeric(x: Any) -> bool:
    return isinstance(x, (torch.Tensor, int, float))


def _verify_generically(
    fn: Callable[..., Any], fold: Any, batch: Inputs, plan: Plan, shown: torch.dtype | None
) -> None:
    """Try the plan on rows that were moved apart, where the user's own are too much alike to show anything."""
    assert plan.program is not None
    generator = torch.Generator().manual_seed(1)
    moved = []
    for t, d in zip(batch.tensors, batch.dims, strict=True):
        wide = widen(t.detach())
        if d is not None and wide.dtype is torch.float64:
            noise = torch.rand(wide.shape, generator=generator, dtype=torch.float64).to(wide.device)
            wide = wide + noise * (0.1 * wide.abs() + (wide == 0))
        moved.append(wide)
    apart = Inputs(moved, batch.dims)
    run = record(fn, apart.tensors, shown=shown)
    captured = {index: widen(tensor.detach()) for index, tensor in plan.program.captured.items()}
    verify(plan, fold, captured, apart, 2)
    state, counted = fold(apart.tensors, captured)
    result = plan.finish(State(state, counted, apart.n), apart.tensors, apart.dims, apart.n)
    error = _result_gap(result, run, run.result)
    if not error <= 1e3 * ROUNDING:
        raise Refuted(f"the merged state gives another value than the function (by {error:.1e})")


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
            if own and value.kind in ("rows", "index", "bag"):
                found.append((value.index, d))
    return tuple(found)


def _result_gap(result: Any, run: Recording, end: list[Any]) -> float:
    worst = 0.0
    for mine, theirs in zip(pytree.tree_leaves(result), end, strict=True):
        expected = result_of(run, theirs)
        if isinstance(expected, (torch.Tensor, int, float)):
            worst = max(worst, gap(torch.as_tensor(mine), torch.as_tensor(expected)))
    return worst


def _dtypes(arguments: Iterable[Any]) -> list[torch.dtype]:
    return [leaf for leaf in arguments if isinstance(leaf, torch.dtype)]


#: From here on a function's value in its own dtype is decided by rounding, and shows little.
DECIDED = 0.02
SINGLE, HALF = 6e-8, 4e-3


def _serves(
    plan: Plan, fold: Any, batch: Inputs, known: tuple[Any, Recording], sensitivity: Callable[[float], float]
) -> bool:
    """Whether a fold runs in the batch's own dtype, and leads to the function's own value, up to rounding.

    Where rounding decides that value (float32 far from zero), it must lead to that of the same operations in float64.

    Args:
        plan: with that fold.
        fold: to try.
        batch: to try it on.
        known: the function's own value on it, and its run in float64.
        sensitivity: how much the value moves when inputs are rounded.
    """
    plain, wide = known
    assert plan.program is not None
    casts = (leaf for op in plan.program.ops for leaf in leaves((op.args, op.kwargs)))
    half = not {torch.float16, torch.bfloat16}.isdisjoint([*(t.dtype for t in batch.tensors), *_dtypes(casts)])
    try:
        state, lengths = fold(batch.tensors, plan.program.captured)
        result = plan.finish(State(state, lengths, batch.n), batch.tensors, batch.dims, batch.n)
    except Exception:  # noqa: BLE001 - mixed dtypes that only the wide fold puts together
        return False
    pairs = zip(pytree.tree_leaves(result), pytree.tree_leaves(plain), strict=True)
    error = max((gap(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs if _is_numeric(b)), default=0.0)
    if error <= (2e-2 if half else 1e-4):
        return True
    moves = sensitivity(HALF if half else SINGLE)
    return error <= 20 * min(moves, DECIDED) or (
        moves > DECIDED and not half and _result_gap(result, wide, wide.result) <= 1e-6
    )
