"""derive: the steps in order. Record, classify, cut, centre, verify; where one fails, the samples are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from batchproof.derive.align import Program, Value, align
from batchproof.derive.centre import PROBES, Centred, Extremes, find_centres, find_extremes
from batchproof.derive.cut import Frontier, ancestors, cut, sinks
from batchproof.derive.decompose import decomposition
from batchproof.derive.finish import Diverged, State
from batchproof.derive.fold import build, fold_code
from batchproof.derive.kinds import MERGEABLE, ROWLIKE, Classifier, Draw, base_name
from batchproof.derive.plan import Leaf, Plan, Verified, leaf_of
from batchproof.derive.program import (
    RandomFunction,
    Recording,
    Ref,
    Site,
    Size,
    Unrecordable,
    Watch,
    call,
    leaves,
    record,
    shown_dtype,
    widen,
)
from batchproof.derive.samples import Batch, few
from batchproof.derive.verify import ROUNDING, Refuted, gap, verify
from batchproof.errors import BatchproofError

MOST_ROUNDS = 8


def derive(fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Sequence[int | None]) -> Plan:
    """The exact streaming form of a function of tensors.

    Args:
        fn: called as ``fn(*tensors)``; returns tensors or numbers, in any structure.
        tensors: a batch to learn from.
        dims: for each tensor, along which dimension it carries samples; None where all batches share it.

    Returns:
        A plan. Where no state of constant size is found, it keeps samples, and its ``reason`` says why.

    Raises:
        BatchproofError: the function is random, or changes from call to call: no plan can be exact.
    """
    batch = few(Batch(list(tensors), tuple(dims)))
    plain, writes = _plain(fn, batch)
    if writes is not None:
        return keep_inputs(batch, f"it writes into a tensor that it holds, at {writes}")
    trace: list[Program] = []
    try:
        return _derive(fn, batch, plain, trace=trace)
    except RandomFunction as random:
        raise BatchproofError(f"the function is random: {random}; no value over batches can be exact") from None
    except (Unrecordable, Refuted, Diverged) as refusal:
        reason = str(refusal)
    except BatchproofError:
        raise
    except Exception as error:  # noqa: BLE001 - torch cannot record it, whatever its reason: keeping rows is right
        reason = f"it cannot be recorded ({type(error).__name__}: {_first_line(error)})"
    plan = keep_inputs(batch, reason)
    plan.program = trace[-1] if trace else None
    return plan


def like(plan: Plan, fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Sequence[int | None]) -> Plan:
    """The plan for samples of another shape, with the same state as a plan that exists.

    Raises:
        BatchproofError: on such samples the function has another state.
    """
    batch = few(Batch(list(tensors), tuple(dims)))
    shapes = " and ".join(str(tuple(t.shape)) for t in tensors)
    try:
        plain, writes = _plain(fn, batch)
        if writes is not None:
            raise Unrecordable(f"it writes into a tensor that it holds, at {writes}")
        return _derive(fn, batch, plain, plan)
    except (Unrecordable, Refuted, Diverged, RandomFunction) as refusal:
        raise BatchproofError(f"a batch of shapes {shapes} does not fit the state of the first ones: {refusal}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:160]


def _plain(fn: Callable[..., Any], batch: Batch) -> tuple[Any, Site | None]:
    """The function's own result on the batch, called twice: it must be a function. And where it writes into tensors
    that it holds (running statistics), if it does."""
    state = torch.get_rng_state()
    inputs = [t.detach().clone() for t in batch.tensors]
    with torch.enable_grad():
        first = fn(*inputs)
        if not torch.equal(state, torch.get_rng_state()):
            torch.set_rng_state(state)
            raise BatchproofError("the function is random: it draws from torch's generator; no value can be exact")
        inputs = [t.detach().clone() for t in batch.tensors]
        with Watch(inputs) as watch:
            second = fn(*inputs)
    a, b = pytree.tree_leaves(first), pytree.tree_leaves(second)
    if len(a) != len(b) or any(_differs(x, y) for x, y in zip(a, b, strict=False)):
        raise BatchproofError("two calls on the same batch give different values: it is random or keeps a state")
    return pytree.tree_map(lambda x: x.detach() if isinstance(x, torch.Tensor) else x, first), watch.written


def _differs(x: Any, y: Any) -> bool:
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return not gap(x.detach(), y.detach()) <= 1e-6
    if isinstance(x, float) and isinstance(y, float):
        return not (x == y or (x != x and y != y))
    return False


def keep_inputs(batch: Batch, reason: str) -> Plan:
    """The plan that keeps the samples and calls the function on all of them."""
    kept = [
        Leaf("rows", _row_shape(t, d), t.dtype, t.nbytes // max(t.shape[d], 1), 1, Site(), "samples", d)
        for t, d in zip(batch.tensors, batch.dims, strict=True)
        if d is not None
    ]
    return Plan(tuple(kept), reason, None, Verified(0, 0.0))


def _row_shape(t: torch.Tensor, d: int) -> tuple[int, ...]:
    return tuple(size for k, size in enumerate(t.shape) if k != d)


def _derive(
    fn: Callable[..., Any],
    batch: Batch,
    plain: Any,
    model: Plan | None = None,
    trace: list[Program] | None = None,
) -> Plan:
    generator = torch.Generator().manual_seed(batch.n)
    shown = shown_dtype(batch.tensors)
    batches = _batches(batch, generator)
    program, runs = _classified(fn, batches, shown, generator)
    if trace is not None:
        trace.append(program)
    if model is not None:
        return _like(fn, batch, plain, program, runs, batches, model, shown)
    subsets = _subsets(program, runs, batch, generator)
    shared = {value.index: runs[0].tensors[value.index] for value in program.values if value.kind == "shared"}
    centres: dict[int, Centred | Extremes | None] = {}

    def centred(value: Value) -> int:
        if value.kind not in ("sum", "max"):
            return 0
        if value.index not in centres and value.kind == "sum":
            centres[value.index] = find_centres(program, value.index, subsets, shared)
        elif value.index not in centres:
            centres[value.index] = find_extremes(program, value.index)
        found = centres[value.index]
        return 2 if isinstance(found, Extremes) else len(found.centres) if found else 0

    frontier = cut(program, centred)
    reason = _reason(program, frontier, centres)
    rows = [index for index in frontier.leaves if program.values[index].kind == "rows"]
    if rows and not _saves(program, rows, batch):
        plan = keep_inputs(batch, reason or "samples are kept")
        plan.program = program
        return plan
    return _assemble(fn, batch, plain, program, runs, batches, frontier, centres, reason, shown)


def _like(
    fn: Callable[..., Any],
    batch: Batch,
    plain: Any,
    program: Program,
    runs: Sequence[Recording],
    batches: Sequence[Batch],
    model: Plan,
    shown: torch.dtype | None,
) -> Plan:
    """The same frontier and the same centres, on a program that must be the model's in all but sizes."""
    old = model.program
    assert old is not None
    same = [op.func for op in program.ops] == [op.func for op in old.ops] and all(
        (program.values[i].kind, program.values[i].given) == (old.values[i].kind, old.values[i].given)
        for i in model.kept
    )
    if not same:
        raise Unrecordable("the function does other things there")
    frontier = Frontier(model.kept, model.after)
    plan = _assemble(fn, batch, plain, program, runs, batches, frontier, dict(model.centred), model.reason, shown)
    if [(leaf.merge, leaf.shape) for leaf in plan.leaves] != [(leaf.merge, leaf.shape) for leaf in model.leaves]:
        raise Unrecordable("the state has another shape there")
    return plan


def _batches(batch: Batch, generator: torch.Generator) -> list[Batch]:
    """Three batches of different sizes, each with every row of the first: a class that is there stays there."""
    n = batch.n
    everything = torch.arange(n)
    extra = [torch.randint(0, n, (size,), generator=generator) for size in (3, n + 1)]
    return [batch, *(batch.take(torch.cat([everything, more])) for more in extra)]


def _classified(
    fn: Callable[..., Any], batches: Sequence[Batch], shown: torch.dtype | None, generator: torch.Generator
) -> tuple[Program, list[Recording]]:
    """Record and classify, writing out operations that mix samples until none is left that can be."""
    split: frozenset[int] = frozenset()
    plain: Recording | None = None
    batched = {position for position, d in enumerate(batches[0].dims) if d is not None}
    for _ in range(MOST_ROUNDS):
        runs = [record(fn, batch.tensors, split, shown) for batch in batches]
        plain = plain or runs[0]
        if not _same_result(plain, runs[0]):
            raise Unrecordable("written out in simpler operations it gives another value")
        program = align(runs, [batch.n for batch in batches])
        program.split = split
        for position, d in enumerate(batches[0].dims):
            if d is not None:
                program.values[program.inputs[position]].dim = d
        classifier = Classifier(program, runs, _draws(batches, generator), batched)
        classifier.run()
        more = _splittable(program, split)
        if not more:
            return program, runs
        split |= more
    return program, runs


def _same_result(a: Recording, b: Recording) -> bool:
    if len(a.result) != len(b.result):
        return False
    pairs = [(_result(a, x), _result(b, y)) for x, y in zip(a.result, b.result, strict=True)]
    numbers = [(torch.as_tensor(x), torch.as_tensor(y)) for x, y in pairs if isinstance(x, (torch.Tensor, int, float))]
    return all(gap(x, y) <= ROUNDING * 1e2 for x, y in numbers)


def _result(run: Recording, leaf: Any) -> Any:
    return run.tensors[leaf.index] if isinstance(leaf, Ref) else leaf


def _draws(batches: Sequence[Batch], generator: torch.Generator) -> list[Draw]:
    first, last = batches[0], batches[-1]
    n = first.n
    sizes = [1, max(1, n // 3)]
    sizes = [*sizes, n - sum(sizes)] if n - sum(sizes) > 0 else [1, n - 1]
    mixed = last.mixed(generator)
    halves = [max(1, n - 2), mixed.n - max(1, n - 2)]
    return [_draw(0, first, sizes), _draw(len(batches) - 1, mixed, halves)]


def _draw(run: int, batch: Batch, sizes: list[int]) -> Draw:
    wide = Batch([widen(t.detach()) for t in batch.tensors], batch.dims)
    return Draw(run, wide.tensors, [piece.tensors for piece in wide.split(sizes)], sizes)


def _splittable(program: Program, split: frozenset[int]) -> frozenset[int]:
    """The function's own operations that mix samples and can be written out in simpler ones."""
    found = set()
    for op in program.ops:
        if op.step in split or decomposition(op.func) is None:
            continue
        inputs = [program.values[i] for i in op.inputs]
        if any(value.kind == "opaque" for value in inputs) or not any(value.kind in ROWLIKE for value in inputs):
            continue
        if any(program.values[output].kind == "opaque" for output in op.outputs):
            found.add(op.step)
    return frozenset(found)


def _subsets(
    program: Program, runs: Sequence[Recording], batch: Batch, generator: torch.Generator
) -> list[tuple[dict[int, torch.Tensor], int]]:
    """Small batches run on their own; the last is the whole batch."""
    if not any(value.kind == "sum" and value.given for value in program.values):
        return []
    subsets = []
    for number in range(PROBES + 1):
        size = min(batch.n, 5 + number % 7)
        rows = torch.randperm(batch.n, generator=generator)[:size]
        small = batch.take(rows).mixed(generator) if number < PROBES else batch
        subsets.append((replay(program, runs[0], small), small.n))
    return subsets


def replay(program: Program, run: Recording, batch: Batch) -> dict[int, torch.Tensor]:
    """Every value of a program on a batch, as a straight line; values that cannot be had are left out."""
    env: dict[int, torch.Tensor] = {index: run.tensors[index] for index in program.captured}
    env.update({index: widen(t.detach()) for index, t in zip(program.inputs, batch.tensors, strict=True)})
    n = batch.n

    def look(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return env[leaf.index]
        if isinstance(leaf, Size):
            lengths = {} if leaf.of is None else {leaf.of: env[leaf.of[0]].shape[leaf.of[1]]}
            return leaf.at(n, lengths)
        return _free_at(program, leaf.position, n)

    for op in program.ops:
        try:
            result = call(op.func, op.args, op.kwargs, look)
        except Exception:  # noqa: BLE001, S112 - no value on this batch
            continue
        for output, leaf in zip(op.outputs, (x for x in leaves(result) if isinstance(x, torch.Tensor)), strict=False):
            env[output] = leaf
    return env


def _free_at(program: Program, position: int, n: int) -> Any:
    """A number that the recordings gave, on another number of samples: on the line through them, if they lie on one."""
    seen, sizes = program.free[position], program.sizes
    slope = (seen[-1] - seen[0]) / (sizes[-1] - sizes[0])
    line = [seen[0] + slope * (size - sizes[0]) for size in sizes]
    straight = all(abs(a - b) <= 1e-9 * abs(b) for a, b in zip(line, seen, strict=True))
    return seen[0] + slope * (n - sizes[0]) if straight else seen[0]


def _saves(program: Program, rows: Sequence[int], batch: Batch) -> bool:
    from batchproof.derive.cut import nbytes

    carried = sum(
        t.nbytes // max(t.shape[d], 1) for t, d in zip(batch.tensors, batch.dims, strict=True) if d is not None
    )
    return 4 * sum(nbytes(program.values[index]) for index in rows) <= carried


def _reason(program: Program, frontier: Frontier, centres: dict[int, Centred | Extremes | None]) -> str | None:
    """Why samples are kept: the first operation that mixes them in a way no state of constant size holds."""
    if not any(program.values[index].kind == "rows" for index in frontier.leaves):
        return None
    kept = set(frontier.leaves)
    for number in sorted(frontier.after):
        op = program.ops[number]
        rows = [i for i in op.inputs if i in kept and program.values[i].kind == "rows"]
        if rows:
            blocker = _blocker(program, rows, centres)
            return f"{base_name(blocker)} needs all samples together, at {blocker.site}"
    return "a value of single samples is needed at the end"


def _blocker(program: Program, rows: Sequence[int], centres: dict[int, Centred | Extremes | None]) -> Any:
    """The first operation that mixes the rows in a way that no state of constant size holds."""
    live = ancestors(program, sinks(program))
    reached = set(rows)
    last = None
    for op in program.ops:
        if not reached.intersection(op.inputs):
            continue
        reached.update(op.outputs)
        if not live.intersection(op.outputs):
            continue
        last = op
        for output in op.outputs:
            value = program.values[output]
            lost = value.kind == "sum" and value.given and output in centres and centres[output] is None
            if lost or value.kind == "opaque":
                return op
    return last


def _assemble(
    fn: Callable[..., Any],
    batch: Batch,
    plain: Any,
    program: Program,
    runs: Sequence[Recording],
    batches: Sequence[Batch],
    frontier: Frontier,
    centres: Mapping[int, Centred | Extremes | None],
    reason: str | None,
    shown: torch.dtype | None,
) -> Plan:
    centred = {index: found for index in frontier.leaves if (found := centres.get(index)) is not None}
    lengths = _lengths(program, frontier)
    batched = [(position, d) for position, d in enumerate(batch.dims) if d is not None]
    dtypes = [t.dtype for t in batch.tensors]
    samples = [(_env(program, run), b.n) for run, b in zip(runs, batches, strict=True)]

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
    )
    fold = build(wide_source, dict(wide_space))
    partitions, worst = 0, 0.0
    shown_by_own_data = True
    for number, run in ((0, runs[0]), (len(runs) - 1, runs[-1])):
        wide = Batch([widen(t.detach()) for t in batches[number].tensors], batch.dims)
        captured = {index: run.tensors[index] for index in program.captured}
        tried = verify(plan, fold, captured, wide, number)
        state, counted = fold(wide.tensors, captured)
        result = plan.finish(State(state, counted, wide.n), wide.tensors, wide.dims, wide.n)
        error = _result_gap(result, run)
        if not error <= 1e3 * ROUNDING:
            if not _undetermined(fn, wide, run, plan, shown):
                raise Refuted(f"the merged state gives another value than the function (relative difference {error:.1e})")
            shown_by_own_data = False
        partitions, worst = partitions + tried.partitions, max(worst, tried.error, error if error <= 1 else 0.0)
    if not shown_by_own_data:
        _verify_generically(fn, fold, batches[-1], plan, shown)
    plan.verified = Verified(partitions, worst)
    narrow_source, narrow_space = code(False)
    if _serves(plan, build(narrow_source, dict(narrow_space)), fold, batch, plain, shown_by_own_data):
        plan.source, plan.space = narrow_source, narrow_space
    elif not _serves(plan, fold, fold, batch, plain, shown_by_own_data):
        raise Refuted("its value on the batch is not that of the same operations in float64: rounding decides it")
    return plan


def _undetermined(
    fn: Callable[..., Any], batch: Batch, run: Recording, plan: Plan, shown: torch.dtype | None
) -> bool:
    """Whether rounding decides the function's value on this data (a correlation of constants), which then shows nothing."""
    assert plan.program is not None
    numbers = [torch.as_tensor(x).double() for x in (_result(run, leaf) for leaf in run.result) if _is_numeric(x)]
    if any(not bool(torch.isfinite(x).all()) for x in numbers):
        return True
    generator = torch.Generator().manual_seed(0)
    nudged = [
        t * (1 + 1e-14 * torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device))
        if t.dtype is torch.float64
        else t
        for t in batch.tensors
    ]
    again = record(fn, nudged, plan.program.split, shown)
    return not all(
        gap(torch.as_tensor(_result(again, a)), torch.as_tensor(_result(run, b))) <= 1e-3
        for a, b in zip(again.result, run.result, strict=True)
        if _is_numeric(_result(run, b))
    )


def _is_numeric(x: Any) -> bool:
    return isinstance(x, (torch.Tensor, int, float))


def _verify_generically(fn: Callable[..., Any], fold: Any, batch: Batch, plan: Plan, shown: torch.dtype | None) -> None:
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
    apart = Batch(moved, batch.dims)
    run = record(fn, apart.tensors, plan.program.split, shown)
    captured = {index: run.tensors[index] for index in plan.program.captured}
    verify(plan, fold, captured, apart, 2)
    state, counted = fold(apart.tensors, captured)
    result = plan.finish(State(state, counted, apart.n), apart.tensors, apart.dims, apart.n)
    error = _result_gap(result, run)
    if not error <= 1e3 * ROUNDING:
        raise Refuted(f"the merged state gives another value than the function (relative difference {error:.1e})")


def _env(program: Program, run: Recording) -> dict[int, torch.Tensor]:
    return dict(enumerate(run.tensors))


def _type_of(leaf: Any) -> Any:
    return leaf.dtype if isinstance(leaf, torch.Tensor) else type(leaf)


def _lengths(program: Program, frontier: Frontier) -> tuple[tuple[int, int], ...]:
    """Selections whose total length finish needs for its stand-ins."""
    live = ancestors(program, sinks(program))
    found = []
    for value in program.values:
        if value.op is None or value.op in frontier.after or value.index not in live:
            continue
        for d, size in enumerate(value.shape):
            own = isinstance(size, Size) and size.of == (value.index, d)
            if own and value.kind in ("rows", "index", "bag"):
                found.append((value.index, d))
    return tuple(found)


def _result_gap(result: Any, run: Recording) -> float:
    worst = 0.0
    for mine, theirs in zip(pytree.tree_leaves(result), run.result, strict=True):
        expected = _result(run, theirs)
        if isinstance(expected, (torch.Tensor, int, float)):
            worst = max(worst, gap(torch.as_tensor(mine), torch.as_tensor(expected)))
    return worst


def _serves(plan: Plan, fold: Any, wide: Any, batch: Batch, plain: Any, shown_by_own_data: bool) -> bool:
    """Whether a fold runs in the batch's own dtype, and leads to the function's own value or to the wide fold's state."""
    assert plan.program is not None
    captured = plan.program.captured
    half = any(t.dtype in (torch.float16, torch.bfloat16) for t in batch.tensors)
    room = 2e-2 if half else 1e-3
    try:
        mine, lengths = fold(batch.tensors, captured)
        result = plan.finish(State(mine, lengths, batch.n), batch.tensors, batch.dims, batch.n)
        theirs, _ = wide(batch.tensors, captured)
    except Exception:  # noqa: BLE001 - mixed dtypes that only the wide fold puts together
        return False
    if fold is not wide and all(gap(a, b) <= room for a, b in zip(mine, theirs, strict=True)):
        return True
    if not shown_by_own_data:
        return fold is not wide
    pairs = zip(pytree.tree_leaves(result), pytree.tree_leaves(plain), strict=True)
    numbers = [(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs if isinstance(b, (torch.Tensor, int, float))]
    return all(gap(a, b) <= room for a, b in numbers)


__all__ = ["MERGEABLE", "derive", "keep_inputs"]
