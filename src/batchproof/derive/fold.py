"""Fold code: what `update` runs on a batch, as Python source made from the Program.

Per-sample terms stay in the batch's own dtype (float32 at least), just as the user's function computes them; every sum
over samples is taken in float64, those of whole numbers in their own dtype.  Sums kept at several centres are computed
for all centres at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.func import vmap

from batchproof.derive.centred_sum import Centred, Extremes
from batchproof.derive.kind import MERGEABLE, Kind
from batchproof.derive.operators import base_name
from batchproof.derive.program import Program, align
from batchproof.derive.record import record
from batchproof.derive.recording import WIDE, Free, Op, Ref, Size, equal, leaves
from batchproof.derive.slice import Centre, Direction, Rows, Slice
from batchproof.derive.spelling import SPACE, spelled
from batchproof.derive.sums import SUMS, summed

aten = torch.ops.aten

_NAME = re.compile(r"[a-z]\w*")
_LOCAL = re.compile(r"t\d+")


@dataclass(frozen=True)
class FoldCode:
    """Python source of a function named ``fold``, and the values that it names."""

    text: str
    space: dict[str, Any]

    def compile(self, **others: Any) -> Callable[..., Any]:
        """The function; where others are given, they are meant by their names."""
        space = {**self.space, **others}
        exec(compile(self.text, "<batchproof fold>", "exec"), space)
        return space["fold"]  # type: ignore[no-any-return]


class Source:
    """Writes straight-line Python for parts of Programs, each distinct expression once."""

    def __init__(self, dtypes: Sequence[torch.dtype] = ()) -> None:
        # half-precision batches are computed in float32; a float32 function's own casts to half stay
        self.raised = {dtype: torch.float32 for dtype in dtypes if dtype in (torch.float16, torch.bfloat16)}
        self.lines: list[str] = []
        self.space: dict[str, Any] = dict(SPACE)
        self.known: dict[str, str] = {}

    def constant(self, value: Any) -> str:
        for name, other in self.space.items():
            if other is value:
                return name
            # sums around one statistic have equal centres: what is added to samples is then computed once
            if isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor) and equal(other, value):
                return name
        name = f"c{len(self.space)}"
        self.space[name] = value
        return name

    def assign(self, expression: str) -> str:
        """A name for an expression."""
        if expression.isidentifier():
            return expression
        if expression not in self.known:
            self.known[expression] = f"t{len(self.known)}"
            self.lines.append(f"{self.known[expression]} = {expression}")
        return self.known[expression]

    def evaluated(self, expression: str) -> str:
        """A name for an expression of constants, evaluated now."""
        if expression not in self.known:
            with torch.inference_mode(False), torch.no_grad():
                self.known[expression] = self.constant(eval(expression, dict(self.space)))
        return self.known[expression]

    def render(self, leaf: Any, names: dict[int, str], widened: bool) -> str:
        if isinstance(leaf, Ref):
            return names[leaf.index]
        if isinstance(leaf, Size):
            base = "n" if leaf.of is None else f"{names[leaf.of[0]]}.shape[{leaf.of[1]}]"
            scaled = base if leaf.scale == 1 else f"{leaf.scale}*{base}"
            return scaled if leaf.offset == 0 else f"({scaled} + {leaf.offset})"
        if isinstance(leaf, (tuple, list)):
            parts = ", ".join(self.render(part, names, widened) for part in leaf)
            return f"[{parts}]"
        if leaf is None or isinstance(leaf, (bool, int, str)) or (isinstance(leaf, float) and math.isfinite(leaf)):
            return repr(leaf)
        if isinstance(leaf, torch.dtype):
            leaf = WIDE.get(leaf, leaf) if widened else self.raised.get(leaf, leaf)
        return self.constant(leaf)

    def emit(
        self,
        program: Program,
        op: Op,
        names: dict[int, str],
        widened: bool,
        merges: bool = False,
        last: frozenset[int] = frozenset(),
    ) -> None:
        """Write one operation.

        Args:
            program: that it is in.
            op: the operation.
            names: of the values so far.
            widened: everything is float64.
            merges: it sums over samples, so it works in float64.
            last: the values that nothing is computed from.
        """
        values = program.values
        total = self._counted(program, op, names) or summed(
            program, op, names, self.assign, merges, bool(last.intersection(op.outputs)), widened
        )
        if total is not None:
            names[op.outputs[0]] = self.assign(total)
            return
        args = list(op.args)
        wide: dict[int, str] = dict(names)
        bins = base_name(op) == "histc"  # its edges are the function's own, in its own precision
        if merges and not bins:
            for index in set(op.inputs):
                if values[index].dtype.is_floating_point:
                    wide[index] = self.assign(f"{names[index]}.double()")
        rendered = [self.render(arg, wide, widened or merges) for arg in args]
        keywords = {
            key: self.render(leaf, wide, widened or merges)
            for key, leaf in op.kwargs.items()
            if leaf is not None and key not in ("pin_memory", "memory_format", "layout")
        }
        expression = self._expression(op, rendered, keywords)
        if (bins and merges) or (widened and _made_narrow(program, op)):
            expression = f"({expression}).double()"
        if len(op.outputs) == 1 and not _returns_list(op):
            if self._fixed(op, names):
                names[op.outputs[0]] = self.evaluated(expression)
                return
            names[op.outputs[0]] = self.assign(expression)
            return
        result = self.assign(expression)
        for position, output in enumerate(op.outputs):
            names[output] = self.assign(f"{result}[{position}]")

    def _counted(self, program: Program, op: Op, names: dict[int, str]) -> str | None:
        """The sum of as many ones as a value has elements."""
        if op.func not in SUMS or op.kwargs or len(op.args) > 2:
            return None
        maker, shape = program.values[op.args[0].index].op, program.values[op.args[0].index].shape
        while maker is not None and program.ops[maker].func is aten.detach.default:
            maker = program.values[program.ops[maker].inputs[0]].op
        if maker is None or program.ops[maker].func is not aten.ones_like.default or len(shape) != 1:
            return None
        like = program.ops[maker].inputs[0]
        if program.values[like].op is not None:  # its factor has as many elements, and is there anyway
            inputs = program.ops[program.values[like].op].inputs
            like = next((i for i in inputs if program.values[i].shape == shape), like)
        return f"{names[like]}.new_full((), {names[like]}.numel())"

    def _expression(self, op: Op, rendered: list[str], keywords: dict[str, str]) -> str:
        short = spelled(op, rendered, keywords, self.space)
        if short is not None:
            return short
        parts = [*rendered, *(f"{key}={value}" for key, value in keywords.items())]
        blank = ".zero_()" if "empty" in op.name else ""  # as it was while recording
        return f"{self.constant(op.func)}({', '.join(parts)}){blank}"

    def _fixed(self, op: Op, names: dict[int, str]) -> bool:
        """Whether an operation gives the same in every fold."""
        moving = any(isinstance(leaf, (Size, Free)) for leaf in leaves((op.args, op.kwargs)))
        return not moving and all(isinstance(self.space.get(names[i]), torch.Tensor) for i in op.inputs)


def _returns_list(op: Op) -> bool:
    returns = op.func._schema.returns
    return len(returns) == 1 and "List" in str(returns[0].type)


def fold_code(
    program: Program,
    kept: Sequence[int],
    lengths: Sequence[tuple[int, int]],
    centred: dict[int, Centred | Extremes],
    batched: Sequence[tuple[int, int]],
    dtypes: Sequence[torch.dtype],
    widened: bool,
    samples: Sequence[tuple[dict[int, torch.Tensor], int]],
) -> FoldCode:
    """The code of ``fold(inputs, captured)``, which returns the leaves' values and the lengths.

    Args:
        program: classified.
        kept: the leaves.
        lengths: sizes of selections to count.
        centred: for the leaves that are sums around a statistic.
        batched: (position among the inputs, batch dim) of the inputs that carry samples.
        dtypes: of the inputs.
        widened: whether everything is computed in float64.
        samples: batches as run, for recording the sums at all centres at once.
    """
    source = Source(dtypes)
    names: dict[int, str] = {}
    for position, index in enumerate(program.inputs):
        names[index] = _input(source, f"x[{position}]", dtypes[position], widened)
    for index, tensor in program.captured.items():
        names[index] = _input(source, f"w[{index}]", tensor.dtype, widened)
    targets = [index for index in kept if index not in centred] + [key[0] for key in lengths]
    for parts in centred.values():
        targets += parts.slice.rows
        targets += [i for op in parts.slice.ops for i in op.inputs if program.values[i].kind is Kind.SHARED]
    order = _order(program, targets)
    last = frozenset(kept) - {index for number in order for index in program.ops[number].inputs}
    for number in order:
        op = program.ops[number]
        outputs = [program.values[output] for output in op.outputs]
        merges = any(v.kind in MERGEABLE and not v.given and v.dtype.is_floating_point for v in outputs)
        source.emit(program, op, names, widened, merges, last)
    for leaf, parts in centred.items():
        if isinstance(parts, Extremes):
            row = source.assign(f"{names[parts.row]}.double()")
            ends = f"-{row}.amin({parts.dim}, True), {row}.amax({parts.dim}, True)"
            names[leaf] = source.assign(f"stack([{ends}])")
            continue
        names[leaf] = _centred(source, parts, names, program, samples)
    position, dim = batched[0]
    returned = ", ".join(names[index] for index in kept)
    counted = ", ".join(f"{names[value]}.shape[{d}]" for value, d in lengths)
    lines = [f"n = x[{position}].shape[{dim}]", *source.lines]
    result = f"return [{returned}], [{counted}]"
    text = "\n    ".join(["def fold(x, w):", *_released(_used(lines, result), result), result])
    return FoldCode(text, source.space)


def _used(lines: Sequence[str], result: str) -> list[str]:
    """The assignments that the result rests on."""
    used, kept = set(_NAME.findall(result)), []
    for line in reversed(lines):
        name, _, expression = line.partition(" = ")
        if name in used:
            used.update(_NAME.findall(expression))
            kept.append(line)
    return kept[::-1]


def _made_narrow(program: Program, op: Op) -> bool:
    """Whether torch gives the result its default type: it is made of whole numbers, and of a Python number at most."""
    values = program.values
    whole = bool(op.inputs) and not any(_floats(values[index].dtype) for index in op.inputs)
    named = any(isinstance(leaf, torch.dtype) for leaf in leaves((op.args, op.kwargs)))
    return whole and not named and len(op.outputs) == 1 and values[op.outputs[0]].dtype is torch.float64


def _floats(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def _released(lines: Sequence[str], result: str) -> list[str]:
    """The assignments, each with the names that it is the last to use let go of: what they hold may be large."""
    needed, released = set(_NAME.findall(result)), []
    for line in reversed(lines):
        last = sorted(name for name in set(_NAME.findall(line)) - needed if _LOCAL.fullmatch(name))
        needed.update(last)
        released.append(f"{line}; del {', '.join(last)}" if last else line)
    return released[::-1]


def _input(source: Source, text: str, dtype: torch.dtype, widened: bool) -> str:
    if dtype.is_floating_point and widened:
        return source.assign(f"{text}.double()")
    return source.assign(f"{text}.float()" if dtype in (torch.float16, torch.bfloat16) else text)


def _order(program: Program, targets: Sequence[int]) -> list[int]:
    found: set[int] = set()
    todo = list(targets)
    while todo:
        op = program.values[todo.pop()].op
        if op is not None and op not in found:
            found.add(op)
            todo.extend(program.ops[op].inputs)
    return sorted(found)


def _centred(
    source: Source,
    parts: Centred,
    names: dict[int, str],
    program: Program,
    samples: Sequence[tuple[dict[int, torch.Tensor], int]],
) -> str:
    """The sum at every centre, stacked in front."""
    piece = parts.slice
    centres = parts.centres
    base = centres[0]
    if base.powers:
        constants = [*base.stats.values(), *(d.step for d in base.directions if d.step is not None)]
    else:
        constants = [torch.stack([at.stats[i] for at in centres]) for i in piece.stats]
        constants += [torch.tensor([at.free[p] for at in centres], dtype=torch.float64) for p in piece.free]
    shared = sorted({leaf for op in piece.ops for leaf in op.inputs if program.values[leaf].kind is Kind.SHARED})
    order = [*piece.rows, *shared]

    def at_all(n: int, lengths: dict[tuple[int, int], int]) -> Callable[..., torch.Tensor]:
        def fn(*tensors: torch.Tensor) -> torch.Tensor:
            env = dict(zip(order, tensors, strict=False))
            rows = Rows({i: env[i] for i in piece.rows}, n, lengths)
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
    inner_names: dict[int, str] = {}
    for position, index in enumerate(inner.inputs):
        if position < len(order):
            outer = order[position]
            name = names[outer]
            if program.values[outer].dtype.is_floating_point:
                name = source.assign(f"{name}.double()")
            inner_names[index] = name
        else:
            inner_names[index] = source.constant(runs[0].tensors[index])
    for index, tensor in inner.captured.items():
        inner_names[index] = source.constant(tensor)
    result = inner.result[0].index
    for number in _order(inner, [result]):
        source.emit(inner, inner.ops[number], inner_names, True, inner.ops[number].func in SUMS)
    return inner_names[result]


def _coefficients(
    piece: Slice,
    centres: Sequence[Centre],
    constants: Sequence[torch.Tensor],
    rows: Rows,
    shared: dict[int, torch.Tensor],
) -> torch.Tensor:
    """The kept coefficients of a sum as a polynomial, stacked; its centre and steps come as tensors, to be recorded."""
    given = iter(constants)
    stats = {index: next(given) for index in centres[0].stats}
    steps = [d if d.step is None else Direction(d.index, d.free, next(given)) for d in centres[0].directions]
    found = piece.expand(Centre(stats, centres[0].free, (), tuple(steps)), rows, shared)
    return torch.stack([found.unit(at.powers) for at in centres])
