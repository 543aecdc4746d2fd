"""Run a recorded program again, as a straight line, on other batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from batchproof.derive.kind import Kind
from batchproof.derive.probes import PROBES
from batchproof.derive.program import Program
from batchproof.derive.record import LARGE, outline
from batchproof.derive.recording import Recording, Ref, Size, call, outputs_of, widen
from batchproof.derive.samples import FEWEST_LARGE, TensorBatch
from batchproof.derive.summand import Summand, conditional_slice


def small_batches(
    program: Program, runs: Sequence[Recording], batch: TensorBatch, generator: torch.Generator
) -> list[tuple[dict[int, torch.Tensor], int]]:
    """Small batches run on their own; the last is the whole batch."""
    if not any(value.kind is Kind.SUM and value.given for value in program.values):
        return []
    wanted = taken_by([conditional_slice(program, v.index) for v in program.values if v.kind is Kind.SUM and v.given])
    subsets = []
    for number in range(PROBES + 1):
        size = min(batch.n, 5 + number % 7 if batch.n > FEWEST_LARGE else 1 + number % 2)
        rows = torch.randperm(batch.n, generator=generator)[:size]
        small = batch.take(rows).mixed(generator) if number < PROBES else batch
        subsets.append((replay(program, runs[0], small, wanted), small.n))
    return subsets


def taken_by(slices: Sequence[Summand]) -> set[int]:
    """The values that conditional sums start from."""
    found: set[int] = set()
    for part in slices:
        found.update(part.rows, part.stats, (index for index, _ in part.lengths))
    return found


def values_of(program: Program, run: Recording, batch: TensorBatch, wanted: set[int]) -> dict[int, torch.Tensor]:
    """The wanted values of a recording, and what else it holds."""
    if any(run.tensors[index].is_meta for index in wanted):
        return replay(program, run, batch, wanted)
    return dict(enumerate(run.tensors))


def replay(program: Program, run: Recording, batch: TensorBatch, wanted: set[int]) -> dict[int, torch.Tensor]:
    """The values of a program on a batch, as a straight line; values that cannot be had are left out.

    Of large ones that are not wanted, only the shape stays once they are used up.
    """
    last = program.last_uses()
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

    for number, op in enumerate(program.ops):
        try:
            result = call(op.func, op.args, op.kwargs, look)
        except Exception:  # noqa: BLE001 - no value on this batch
            continue
        env.update(outputs_of(op, result))
        for index in last.get(number, ()):
            if index in env and index not in wanted and env[index].nbytes >= LARGE and program.values[index].from_data:
                env[index] = outline(env[index])
    return env


def _free_at(program: Program, position: int, n: int) -> Any:
    """A number that the recordings gave, on another number of samples: on the line through them, if they lie on one."""
    seen, sizes = program.free[position], program.sizes
    slope = (seen[-1] - seen[0]) / (sizes[-1] - sizes[0])
    line = [seen[0] + slope * (size - sizes[0]) for size in sizes]
    straight = all(abs(a - b) <= 1e-9 * abs(b) for a, b in zip(line, seen, strict=True))
    return seen[0] + slope * (n - sizes[0]) if straight else seen[0]


def is_numeric(leaf: Any) -> bool:
    """Whether a leaf of a result can be compared with another: a tensor or a number."""
    return isinstance(leaf, (torch.Tensor, bool, int, float, complex))


def result_of(run: Recording, leaf: Any) -> Any:
    """A leaf of a recording's result as a value: a tensor that was recorded, or what Python made."""
    return run.tensors[leaf.index] if isinstance(leaf, Ref) else leaf
