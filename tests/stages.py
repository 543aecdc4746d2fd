"""The stages of `derive` on one function, each on top of the one before: for tests that look at one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from batchproof.derive.centred_sum import CentredSum
from batchproof.derive.classify import Classifier
from batchproof.derive.content import name_values
from batchproof.derive.cut import Frontier, cut
from batchproof.derive.evaluate import small_batches
from batchproof.derive.find_centres import find_centres
from batchproof.derive.kind import Kind
from batchproof.derive.operators import base_name
from batchproof.derive.program import Program, ProgramValue, align
from batchproof.derive.record import record
from batchproof.derive.recording import Recording
from batchproof.derive.samples import TensorBatch

SIZES = (4, 5, 7)


def normal(n: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def recorded(fn: Callable[..., Any], sizes: Sequence[int] = SIZES) -> list[Recording]:
    """A function of one tensor, recorded on batches of several sizes."""
    return [record(fn, [normal(n)], batched={0}) for n in sizes]


def aligned(fn: Callable[..., Any], sizes: Sequence[int] = SIZES) -> Program:
    """Its recordings as one program."""
    return align(recorded(fn, sizes), sizes)


def classified(fn: Callable[..., Any], sizes: Sequence[int] = SIZES) -> Program:
    """Its program, with a kind for every value."""
    runs = recorded(fn, sizes)
    program = align(runs, sizes)
    name_values(program, runs)
    Classifier(program, runs, {0}).run()
    return program


def frontier_of(fn: Callable[..., Any], centres: int = 0) -> tuple[Frontier, Program]:
    """Where its program is cut, if a sum around a statistic can be kept at so many centres."""
    program = classified(fn)
    return cut(program, lambda value: centres), program


def made_by(program: Program, name: str) -> ProgramValue:
    """The value that the last operation of a name made."""
    return next(program.values[op.outputs[0]] for op in reversed(program.ops) if base_name(op) == name)


def names_of(ops: Sequence[Any]) -> list[str]:
    return [base_name(op) for op in ops]


def centred_sum(fn: Callable[..., Any], powers: bool = True) -> CentredSum | None:
    """How its last sum around a statistic is kept: by power sums where they will do, or at several centres."""
    sizes = (40, 43, 80)
    runs, program = recorded(fn, sizes), classified(fn, sizes)
    leaf = [value.index for value in program.values if value.kind is Kind.SUM and value.given][-1]
    subsets = small_batches(program, runs, TensorBatch([normal(40)], (0,)), torch.Generator().manual_seed(0))
    return find_centres(program, leaf, subsets, {}, powers)
