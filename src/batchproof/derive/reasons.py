"""Why samples are kept, and whether keeping less of each is worth it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchproof.derive.centred_sum import CentredSum, Extremes
from batchproof.derive.cut import Frontier, ancestors, sinks
from batchproof.derive.kind import Kind
from batchproof.derive.operators import base_name
from batchproof.derive.program import Program
from batchproof.derive.samples import TensorBatch
from batchproof.ground.place import Statement


def saves(program: Program, rows: Sequence[int], batch: TensorBatch) -> bool:
    """Whether keeping these rows of a program takes a quarter of the memory of the samples, or less."""
    from batchproof.derive.cut import nbytes

    carried = sum(
        t.nbytes // max(t.shape[d], 1) for t, d in zip(batch.tensors, batch.dims, strict=True) if d is not None
    )
    return 4 * sum(nbytes(program.values[index]) for index in rows) <= carried


def reason_for(program: Program, frontier: Frontier, centres: dict[int, CentredSum | Extremes | None]) -> str | None:
    """Why samples are kept: the first operation that mixes them in a way no state of constant size holds."""
    if not any(program.values[index].kind is Kind.ROWS for index in frontier.leaves):
        return None
    kept = set(frontier.leaves)
    for number in sorted(frontier.after):
        op = program.ops[number]
        rows = [i for i in op.inputs if i in kept and program.values[i].kind is Kind.ROWS]
        if rows:
            blocker = _blocker(program, rows, centres)
            return Statement(f"{base_name(blocker)} needs all samples together", f", at {blocker.site}")
    return "a value of single samples is needed at the end"


def _blocker(program: Program, rows: Sequence[int], centres: dict[int, CentredSum | Extremes | None]) -> Any:
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
            lost = value.kind is Kind.SUM and value.given and output in centres and centres[output] is None
            if lost or value.kind is Kind.OPAQUE:
                return op
    return last
