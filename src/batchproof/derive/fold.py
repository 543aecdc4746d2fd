"""Fold code: what `update` runs on a batch, as Python code made from the Program.

Per-sample terms stay in the batch's own dtype (float32 at least), just as the user's function computes them; every sum
over samples is taken in float64, those of whole numbers in their own dtype.  Sums kept at several centres are computed
for all centres at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.func import vmap

from batchproof.derive.centred_sum import CentredSum, Extremes
from batchproof.derive.codegen import SUMS, CodeWriter, FoldCode
from batchproof.derive.kind import MERGEABLE, Kind
from batchproof.derive.program import Program, align
from batchproof.derive.record import record
from batchproof.derive.summand import Centre, Direction, Summand, SummandRows


def fold_code(
    program: Program,
    kept: Sequence[int],
    lengths: Sequence[tuple[int, int]],
    centred: dict[int, CentredSum | Extremes],
    at_once: dict[int, SumsAtOnce],
    dims: Sequence[int | None],
    dtypes: Sequence[torch.dtype],
    widened: bool,
) -> FoldCode:
    """The code of ``fold(inputs, captured)``, which returns the leaves' values and the lengths.

    Args:
        program: classified.
        kept: the leaves.
        lengths: sizes of selections to count.
        centred: for the leaves that are sums around a statistic.
        at_once: these at all centres, as programs.
        dims: the inputs' batch dimensions.
        dtypes: of the inputs.
        widened: whether everything is computed in float64.
    """
    code = CodeWriter(dtypes)
    captured = {index: f"w[{index}]" for index in program.captured}
    written = write_fold(code, program, kept, lengths, centred, at_once, dtypes, widened, captured)
    return FoldCode((f"n = {sample_count(dims)}", *code.lines), written.leaves, written.lengths, code.space)


def sample_count(dims: Sequence[int | None]) -> str:
    """The number of samples of a batch, as it is read off the inputs."""
    position, dim = next((position, dim) for position, dim in enumerate(dims) if dim is not None)
    return f"x[{position}].shape[{dim}]"


@dataclass(frozen=True)
class WrittenFold:
    """What one fold among the lines of a `CodeWriter` is called there.

    Attributes:
        leaves: a name for the value of each leaf.
        lengths: an expression for each selection whose length is counted.
        names: of the program's values that were written.
    """

    leaves: tuple[str, ...]
    lengths: tuple[str, ...]
    names: dict[int, str]


def write_fold(
    code: CodeWriter,
    program: Program,
    kept: Sequence[int],
    lengths: Sequence[tuple[int, int]],
    centred: dict[int, CentredSum | Extremes],
    at_once: dict[int, SumsAtOnce],
    dtypes: Sequence[torch.dtype],
    widened: bool,
    captured: dict[int, str],
) -> WrittenFold:
    """Write the lines of one fold: beside those of others, what is computed already has its name.

    Args:
        code: to write with; the inputs are ``x``, and ``n`` is the number of samples.
        program: classified.
        kept: the leaves.
        lengths: sizes of selections to count.
        centred: for the leaves that are sums around a statistic.
        at_once: these at all centres, as programs.
        dtypes: of the inputs.
        widened: whether everything is computed in float64.
        captured: what the captured tensors are called.
    """
    names: dict[int, str] = {}
    for position, index in enumerate(program.inputs):
        names[index] = _input(code, f"x[{position}]", dtypes[position], widened)
    for index, tensor in program.captured.items():
        names[index] = _input(code, captured[index], tensor.dtype, widened)
    targets = [index for index in kept if index not in centred] + [key[0] for key in lengths]
    for parts in centred.values():
        targets += parts.summand.rows
        targets += [i for op in parts.summand.ops for i in op.inputs if program.values[i].kind is Kind.SHARED]
    order = _order(program, targets)
    last = frozenset(kept) - {index for number in order for index in program.ops[number].inputs}
    for number in order:
        op = program.ops[number]
        outputs = [program.values[output] for output in op.outputs]
        merges = any(v.kind in MERGEABLE and not v.given and v.dtype.is_floating_point for v in outputs)
        code.emit(program, op, names, widened, merges, last)
    for leaf, parts in centred.items():
        if isinstance(parts, Extremes):
            row = code.assign(f"{names[parts.row]}.double()")
            ends = f"-{row}.amin({parts.dim}, True), {row}.amax({parts.dim}, True)"
            names[leaf] = code.assign(f"stack([{ends}])")
            continue
        names[leaf] = _centred(code, at_once[leaf], names, program)
    lengths_of = tuple(f"{names[value]}.shape[{d}]" for value, d in lengths)
    return WrittenFold(tuple(names[index] for index in kept), lengths_of, names)


def _input(code: CodeWriter, text: str, dtype: torch.dtype, widened: bool) -> str:
    if dtype.is_floating_point and widened:
        return code.assign(f"{text}.double()")
    return code.assign(f"{text}.float()" if dtype in (torch.float16, torch.bfloat16) else text)


def _order(program: Program, targets: Sequence[int]) -> list[int]:
    found: set[int] = set()
    todo = list(targets)
    while todo:
        op = program.values[todo.pop()].op
        if op is not None and op not in found:
            found.add(op)
            todo.extend(program.ops[op].inputs)
    return sorted(found)


@dataclass(frozen=True)
class SumsAtOnce:
    """A sum around a statistic at all of its centres, stacked in front, as one program.

    Attributes:
        program: its first inputs are values of the program around it.
        outer: these values.
        constants: by value of the program, what the centres give, and what is taken from outside.
    """

    program: Program
    outer: tuple[int, ...]
    constants: dict[int, torch.Tensor]

    def around(self, parts: CentredSum) -> SumsAtOnce:
        """The sums at other centres, which differ from the first ones in their tensors alone."""
        places = self.program.inputs[len(self.outer) :]
        moved = zip(places, _constants(parts), strict=True)
        return replace(self, constants={**self.constants, **dict(moved)})


def sums_at_once(
    parts: CentredSum, program: Program, samples: Sequence[tuple[dict[int, torch.Tensor], int]]
) -> SumsAtOnce:
    """Record the sums at all centres together.

    Args:
        parts: the sum.
        program: that it is in.
        samples: batches as run.
    """
    piece = parts.summand
    centres = parts.centres
    base = centres[0]
    constants = _constants(parts)
    shared = sorted({leaf for op in piece.ops for leaf in op.inputs if program.values[leaf].kind is Kind.SHARED})
    order = [*piece.rows, *shared]

    def at_all(n: int, lengths: dict[tuple[int, int], int]) -> Callable[..., torch.Tensor]:
        def fn(*tensors: torch.Tensor) -> torch.Tensor:
            env = dict(zip(order, tensors, strict=False))
            rows = SummandRows({i: env[i] for i in piece.rows}, n, lengths)
            fixed = {i: env[i] for i in shared}
            moving = tensors[len(order) :]
            if base.powers:
                return _coefficients(piece, centres, moving, rows, fixed)

            def one(*point: torch.Tensor) -> torch.Tensor:
                at = Centre(
                    dict(zip(piece.stats, point, strict=False)),
                    dict(zip(piece.free, point[len(piece.stats) :], strict=False)),
                )
                return piece.run(at, rows, fixed)

            return vmap(one)(*moving)

        return fn

    runs, sizes = [], []
    for values, n in samples:
        lengths = {key: values[key[0]].shape[key[1]] for key in piece.lengths}
        tensors = [*(values[i] for i in order), *constants]
        runs.append(record(at_all(n, lengths), tensors, pure=True))
        sizes.append(n)
    inner = align(runs, sizes)
    given = {index: runs[0].tensors[index] for index in inner.inputs[len(order) :]}
    return SumsAtOnce(inner, tuple(order), {**given, **inner.captured})


def _constants(parts: CentredSum) -> list[torch.Tensor]:
    """What differs between the centres, or moves from the one."""
    centres, base = parts.centres, parts.centres[0]
    if base.powers:
        return [*base.stats.values(), *(d.step for d in base.directions if d.step is not None)]
    stats = [torch.stack([at.stats[i] for at in centres]) for i in parts.summand.stats]
    return stats + [torch.tensor([at.free[p] for at in centres], dtype=torch.float64) for p in parts.summand.free]


def _centred(code: CodeWriter, sums: SumsAtOnce, names: dict[int, str], program: Program) -> str:
    """Write the sum at every centre, stacked in front."""
    inner = sums.program
    inner_names = {index: code.constant(tensor) for index, tensor in sums.constants.items()}
    for index, outer in zip(inner.inputs, sums.outer, strict=False):
        is_floating = program.values[outer].dtype.is_floating_point
        inner_names[index] = code.assign(f"{names[outer]}.double()") if is_floating else names[outer]
    result = inner.result[0].index
    for number in _order(inner, [result]):
        code.emit(inner, inner.ops[number], inner_names, True, inner.ops[number].func in SUMS)
    return inner_names[result]


def _coefficients(
    piece: Summand,
    centres: Sequence[Centre],
    constants: Sequence[torch.Tensor],
    rows: SummandRows,
    shared: dict[int, torch.Tensor],
) -> torch.Tensor:
    """The kept coefficients of a sum as a polynomial, stacked; its centre and steps come as tensors, to be recorded."""
    given = iter(constants)
    stats = {index: next(given) for index in centres[0].stats}
    steps = [d if d.step is None else Direction(d.index, d.free, next(given)) for d in centres[0].directions]
    found = piece.expand(Centre(stats, centres[0].free, (), tuple(steps)), rows, shared)
    return torch.stack([found.unit(at.powers) for at in centres])
