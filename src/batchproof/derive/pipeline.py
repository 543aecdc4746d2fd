"""derive: the steps in order. Record, classify, cut, centre, verify; where one fails, the samples are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from batchproof.derive.assemble import assemble
from batchproof.derive.centred_sum import CentredSum, Extremes
from batchproof.derive.classify import Classifier
from batchproof.derive.content import name_values
from batchproof.derive.cut import Frontier, cut, operations_after
from batchproof.derive.decompose import decomposition
from batchproof.derive.diverged import Diverged
from batchproof.derive.evaluate import is_numeric, result_of, small_batches
from batchproof.derive.find_centres import find_centres, find_extremes
from batchproof.derive.kind import ROWLIKE, Kind
from batchproof.derive.loops import Loop, without_loop
from batchproof.derive.operators import base_name
from batchproof.derive.plan import Plan, SamplesPlan, StatePlan
from batchproof.derive.program import Program, ProgramValue, align
from batchproof.derive.purity import OwnError, keep_inputs, plain_call
from batchproof.derive.reasons import reason_for, saves
from batchproof.derive.record import Watch, Way, answers, record
from batchproof.derive.recording import AnotherPath, RandomFunction, Recording, Unrecordable, shown_dtype
from batchproof.derive.samples import FEWEST_LARGE, TensorBatch, few
from batchproof.derive.verify import ROUNDING, Refuted
from batchproof.derive.ways import find_ways
from batchproof.errors import BatchproofError
from batchproof.ground.place import Statement, statement_of
from batchproof.ground.tensors import gap
from batchproof.ground.text import first_line

MOST_ROUNDS = 8
_LAYOUT = frozenset("clone view _unsafe_view reshape alias".split())


def derive(
    fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Sequence[int | None], differentiated: bool = False
) -> Plan:
    """The exact streaming form of a function of tensors.

    Args:
        fn: called as ``fn(*tensors)``; returns tensors or numbers, in any structure.
        tensors: a batch to learn from.
        dims: for each tensor, along which dimension it carries samples; None where all batches share it.
        differentiated: whether the value's derivatives are wanted. Then sums around a statistic are kept at several
            centres, never as power sums, and only the way that these samples take is looked at.

    Returns:
        A plan. Where no state of constant size is found, it keeps samples, and its ``reason`` says why.

    Raises:
        BatchproofError: the function is random, or changes from call to call: no plan can be exact.
    """
    batch = few(TensorBatch(list(tensors), tuple(dims)))
    plain, seen = plain_call(fn, batch)
    if seen.written is not None:
        return keep_inputs(batch, _written(seen))
    trace: list[Program] = []
    try:
        ways = find_ways(fn, batch, shown_dtype(batch.tensors)) if seen.reads and not differentiated else ((),)
        try:
            return _derive(fn, batch, plain, ways, trace, not differentiated)
        except AnotherPath:
            loop = without_loop(fn, batch, shown_dtype(batch.tensors))
            return _derive(loop, batch, plain, ways, trace, not differentiated)
    except RandomFunction as random:
        said = statement_of(random)
        raise BatchproofError(
            Statement(f"the function is random: {said.claim}", f"{said.rest}; no value over batches can be exact")
        ) from None
    except (Unrecordable, Refuted, Diverged) as refusal:
        reason: str = statement_of(refusal)
    except BatchproofError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever keeps torch from recording it, keeping rows is right
        reason = f"it cannot be recorded ({type(error).__name__}: {first_line(error)[:160]})"
    return keep_inputs(batch, reason, trace[-1] if trace else None)


def program_of(fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Sequence[int | None]) -> Program:
    """What a function does, by the way that these samples take.

    Raises:
        Unrecordable, RandomFunction: as `record`.
    """
    batch = few(TensorBatch(list(tensors), tuple(dims)))
    shown = shown_dtype(batch.tensors)
    batches = _batches(batch, torch.Generator().manual_seed(batch.n))
    try:
        return _classified(fn, batches, shown, [()])[0]
    except AnotherPath:
        return _classified(without_loop(fn, batch, shown), batches, shown, [()])[0]


def like(
    plan: StatePlan, fn: Callable[..., Any], tensors: Sequence[torch.Tensor], dims: Sequence[int | None]
) -> StatePlan:
    """The plan for samples of another shape, with the same state as a plan that exists.

    Raises:
        BatchproofError: on such samples the function has another state.
    """
    batch = few(TensorBatch(list(tensors), tuple(dims)))
    shapes = " and ".join(str(tuple(t.shape)) for t in tensors)
    try:
        plain, seen = plain_call(fn, batch)
        if seen.written is not None:
            raise Unrecordable(_written(seen))
        if isinstance(plan.fn, Loop) and not isinstance(fn, Loop):
            fn = without_loop(fn, batch, shown_dtype(batch.tensors))
        return _like(fn, batch, plain, plan)
    except (Unrecordable, Refuted, Diverged, RandomFunction, OwnError) as refusal:
        raise BatchproofError(
            f"a batch of shapes {shapes} does not fit the state of the first ones: {refusal}"
        ) from None


def _written(seen: Watch) -> Statement:
    return Statement("it writes into a tensor that it holds", f", at {seen.written}")


def _derive(
    fn: Callable[..., Any], batch: TensorBatch, plain: Any, ways: Sequence[Way], trace: list[Program], powers: bool
) -> Plan:
    """A plan of any state; the program is left in the trace, also where no plan is found."""
    generator = torch.Generator().manual_seed(batch.n)
    shown = shown_dtype(batch.tensors)
    batches = _batches(batch, generator)
    program, runs = _classified(fn, batches, shown, ways)
    trace.append(program)
    subsets = small_batches(program, runs, batch, generator)
    shared = {value.index: runs[0].tensors[value.index] for value in program.values if value.kind is Kind.SHARED}
    centres: dict[int, CentredSum | Extremes | None] = {}

    def centred(value: ProgramValue) -> int:
        if value.kind not in (Kind.SUM, Kind.MAX):
            return 0
        if value.index not in centres and value.kind is Kind.SUM:
            centres[value.index] = find_centres(program, value.index, subsets, shared, powers)
        elif value.index not in centres:
            centres[value.index] = find_extremes(program, value.index)
        found = centres[value.index]
        return 2 if isinstance(found, Extremes) else len(found.centres) if found else 0

    frontier = cut(program, centred)
    reason = reason_for(program, frontier, centres)
    rows = [index for index in frontier.leaves if program.values[index].kind is Kind.ROWS]
    if rows and not saves(program, rows, batch):
        return keep_inputs(batch, reason or "samples are kept", program)
    plan = assemble(fn, batch, plain, program, runs, batches, frontier, centres, reason, shown)
    return plan if plan.kept else SamplesPlan((), reason, program, plan.verified)  # it looks at no sample


def _like(fn: Callable[..., Any], batch: TensorBatch, plain: Any, model: StatePlan) -> StatePlan:
    """A plan with a model's frontier and centres, on a program that must be the model's in all but sizes."""
    shown = shown_dtype(batch.tensors)
    batches = _batches(batch, torch.Generator().manual_seed(batch.n))
    program, runs = _classified(fn, batches, shown, model.program.ways)
    kept = _counterparts(program, model)
    pairs = zip((program.values[index] for index in kept), _kept(model), strict=True)
    if not all((mine.kind, mine.given) == (old.kind, old.given) for mine, old in pairs):
        raise Unrecordable("the function does other things there")
    frontier = Frontier(kept, model.after if kept == model.kept else operations_after(program, kept))
    plan = assemble(fn, batch, plain, program, runs, batches, frontier, dict(model.centred), model.reason, shown)
    if [(leaf.merge, leaf.shape) for leaf in plan.leaves] != [(leaf.merge, leaf.shape) for leaf in model.leaves]:
        raise Unrecordable("the state has another shape there")
    return plan


def _kept(plan: StatePlan) -> list[ProgramValue]:
    return [plan.program.values[index] for index in plan.kept]


def _counterparts(program: Program, model: StatePlan) -> tuple[int, ...]:
    """The values of a program that are another plan's leaves.

    How a tensor lies in memory hangs on its sizes, and with it whether it is copied to be viewed: such steps are
    passed over.
    """
    old = model.program
    if [op.func for op in program.ops] == [op.func for op in old.ops]:
        return model.kept
    ours, theirs = ([op for op in one.ops if base_name(op) not in _LAYOUT] for one in (program, old))
    if [op.func for op in ours] != [op.func for op in theirs] or model.centred:
        raise Unrecordable("the function does other things there")
    match = dict(zip(old.inputs, program.inputs, strict=True))
    for mine, other in zip(ours, theirs, strict=True):
        match.update(zip(other.outputs, mine.outputs, strict=True))
    if any(index not in match for index in model.kept):
        raise Unrecordable("the function does other things there")
    return tuple(match[index] for index in model.kept)


def _batches(batch: TensorBatch, generator: torch.Generator) -> list[TensorBatch]:
    """Three batches of different sizes, each with every row of the first: a class that is there stays there."""
    n = batch.n
    everything = torch.arange(n)
    sizes = (3, n + 1) if n > FEWEST_LARGE else (1, 2)
    extra = [torch.randint(0, n, (size,), generator=generator) for size in sizes]
    return [batch, *(batch.take(torch.cat([everything, more])) for more in extra)]


def _classified(
    fn: Callable[..., Any], batches: Sequence[TensorBatch], shown: torch.dtype | None, ways: Sequence[Way]
) -> tuple[Program, list[Recording]]:
    """Record and classify, writing out operations that mix samples until none is left that can be."""
    split: frozenset[int] = frozenset()
    plain: Recording | None = None
    batched = {position for position, d in enumerate(batches[0].dims) if d is not None}
    for _ in range(MOST_ROUNDS):
        runs = [
            record(fn, batch.tensors, split, shown, batched=batched, ways=answers(ways, number))
            for number, batch in enumerate(batches)
        ]
        plain = plain or runs[0]
        if not _same_results(plain, runs[0]):
            raise Unrecordable("written out in simpler operations it gives another value")
        program = align(runs, [batch.n for batch in batches])
        program.split, program.ways = split, ways
        name_values(program, runs)
        for position, d in enumerate(batches[0].dims):
            if d is not None:
                program.values[program.inputs[position]].dim = d
        Classifier(program, runs, batched).run()
        more = _splittable(program, split)
        if not more:
            return program, runs
        split |= more
    return program, runs


def _same_results(a: Recording, b: Recording) -> bool:
    if len(a.result) != len(b.result):
        return False
    pairs = [(result_of(a, x), result_of(b, y)) for x, y in zip(a.result, b.result, strict=True)]
    numbers = [(torch.as_tensor(x), torch.as_tensor(y)) for x, y in pairs if is_numeric(x)]
    return all(gap(x, y) <= ROUNDING * 1e2 for x, y in numbers)


def _splittable(program: Program, split: frozenset[int]) -> frozenset[int]:
    """The function's own operations that mix samples and can be written out in simpler ones."""
    found: set[int] = set()
    for op in program.ops:
        if op.step in split or decomposition(op.func) is None:
            continue
        inputs = [program.values[i] for i in op.inputs]
        if any(value.kind is Kind.OPAQUE for value in inputs) or not any(value.kind in ROWLIKE for value in inputs):
            continue
        if any(program.values[output].kind is Kind.OPAQUE for output in op.outputs):
            found.update({op.step}, *(program.doubles.get(output, ()) for output in op.outputs))
    return frozenset(found)
