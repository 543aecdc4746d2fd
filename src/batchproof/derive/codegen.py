"""How operations are written as Python: torch's operators and methods reach a kernel sooner than its dispatcher.

Sums over samples are taken in float64, two factors as one product, truths as a count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from batchproof.derive.operators import base_name, is_view
from batchproof.derive.program import Program, ProgramValue
from batchproof.derive.recording import WIDE, Free, Op, Ref, Size, equal, leaves

aten = torch.ops.aten

_NAME = re.compile(r"[a-z]\w*")
_LOCAL = re.compile(r"t\d+")

_OPERATORS: dict[Any, str] = {
    aten.add.Tensor: "{0} + {1}",
    aten.sub.Tensor: "{0} - {1}",
    aten.mul.Tensor: "{0} * {1}",
    aten.div.Tensor: "{0} / {1}",
    aten.add.Scalar: "{0} + {1}",
    aten.sub.Scalar: "{0} - {1}",
    aten.mul.Scalar: "{0} * {1}",
    aten.div.Scalar: "{0} / {1}",
    aten.rsub.Scalar: "{1} - {0}",
    aten.neg.default: "-{0}",
    aten.square.default: "{0} * {0}",
    aten.eq.Tensor: "{0} == {1}",
    aten.eq.Scalar: "{0} == {1}",
    aten.ne.Tensor: "{0} != {1}",
    aten.ne.Scalar: "{0} != {1}",
    aten.gt.Tensor: "{0} > {1}",
    aten.gt.Scalar: "{0} > {1}",
    aten.ge.Tensor: "{0} >= {1}",
    aten.ge.Scalar: "{0} >= {1}",
    aten.lt.Tensor: "{0} < {1}",
    aten.lt.Scalar: "{0} < {1}",
    aten.le.Tensor: "{0} <= {1}",
    aten.le.Scalar: "{0} <= {1}",
    aten.mm.default: "{0} @ {1}",
    aten.bitwise_and.Tensor: "{0} & {1}",
    aten.bitwise_or.Tensor: "{0} | {1}",
    aten.bitwise_not.default: "~{0}",
    # functional code has no aliases to keep apart
    aten.clone.default: "{0}",
    aten.detach.default: "{0}.detach()",  # where a gradient ends
    aten.alias.default: "{0}",
    aten.lift_fresh.default: "{0}",
}

#: Methods that take what the operation of the same name takes.
_METHODS = frozenset(
    """abs exp expm1 log log1p log2 log10 sqrt rsqrt reciprocal sigmoid tanh relu sin cos sign floor ceil nan_to_num
clamp clamp_min clamp_max maximum minimum logical_and logical_or logical_not isnan isinf isfinite argmax argmin amax
amin sum cumsum unsqueeze squeeze expand permute transpose t diagonal select gather index_select index_add scatter_add
bincount count_nonzero bmm mv""".split()
)

_OVER_DIMS = ("sum", "amin", "amax")

#: Of two tensors either may stand first: the value is the same, and so is then its name.
_COMMUTE = frozenset(
    (aten.add.Tensor, aten.mul.Tensor, aten.eq.Tensor, aten.ne.Tensor, aten.bitwise_and.Tensor, aten.bitwise_or.Tensor)
)

#: Operations along one dimension of their input, which is counted from the front.
_ALONG = frozenset("argmax argmin _softmax _log_softmax softmax log_softmax cumsum gather".split())

_RENAMED = {"view": "reshape", "_unsafe_view": "reshape", "_softmax": "softmax", "_log_softmax": "log_softmax"}

_FUNCTIONS = {
    "where": torch.where,
    "zeros_like": torch.zeros_like,
    "ones_like": torch.ones_like,
    "cat": torch.cat,
    "stack": torch.stack,
}

_CASTS = {torch.float64: "double", torch.float32: "float", torch.int64: "long", torch.int32: "int", torch.bool: "bool"}

#: What code written here may name.
SPACE = {
    "dot": torch.dot, "vecdot": torch.linalg.vecdot, "nll_loss": torch.nn.functional.nll_loss,
    **_FUNCTIONS,
}  # fmt: skip

SUMS = (aten.sum.default, aten.sum.dim_IntList)


@dataclass(frozen=True)
class FoldCode:
    """Straight-line Python that folds a batch: ``fold(x, w)``, of its tensors and the captured ones.

    Attributes:
        lines: the assignments, in order.
        leaves: a name for the value of each leaf.
        lengths: an expression for each selection whose length is counted.
        space: the values that the lines name.
    """

    lines: tuple[str, ...]
    leaves: tuple[str, ...]
    lengths: tuple[str, ...]
    space: dict[str, Any]

    @property
    def text(self) -> str:
        """The source of the function."""
        return self._source(", ".join(self.leaves))

    def compile(self, also: Sequence[str] = (), **others: Any) -> Callable[..., Any]:
        """The function: it returns the leaves' values and the lengths. Where others are given, names mean these.

        Args:
            also: the names of values to return as a third list.
            others: by name.
        """
        return self._made(self._source(", ".join(self.leaves), also), {**self.space, **others})

    def positions(self) -> list[tuple[str, int, int]]:
        """Where the largest of each sample's numbers stand: the name of each such value, its input, the dimension."""
        made = dict(line.split(" = ", 1) for line in self.lines)
        found = []
        for name, expression in made.items():
            taken = re.fullmatch(r"(t\d+)\.argmax\((\d+)\)", expression)
            given = taken and re.fullmatch(r"x\[(\d+)\]", made[taken[1]])
            if taken and given and name not in self.leaves:  # what is kept must not be handed out
                found.append((name, int(given[1]), int(taken[2])))
        return found

    def compile_packed(self, packed: dict[int, bool], also: Sequence[str] = ()) -> Callable[..., Any]:
        """The function with some of its leaves as one vector in front of the others.

        Args:
            packed: the places of these leaves, and whether each is a vector; it is a number otherwise.
            also: the names of values to return as a third list.
        """
        named = ((self.leaves[place], vector) for place, vector in packed.items())
        parts = [self._numbers(name) if vector else name for name, vector in named]
        alone = [name for place, name in enumerate(self.leaves) if place not in packed]
        return self._made(self._source(", ".join([f"stack([{', '.join(parts)}])", *alone]), also), self.space)

    def _numbers(self, vector: str) -> str:
        """The numbers that a vector was stacked of."""
        made = (re.fullmatch(rf"{vector} = stack\(\[([^\[\]]*)\]\)", line) for line in self.lines)
        return next((found[1] for found in made if found), f"*{vector}.unbind()")

    def _source(self, values: str, also: Sequence[str] = ()) -> str:
        result = f"return [{values}], [{', '.join(self.lengths)}]" + (f", [{', '.join(also)}]" if also else "")
        return "\n    ".join(["def fold(x, w):", *_released(_used(self.lines, result), result), result])

    @staticmethod
    def _made(text: str, space: dict[str, Any]) -> Callable[..., Any]:
        space = dict(space)
        exec(compile(text, "<batchproof fold>", "exec"), space)
        return space["fold"]  # type: ignore[no-any-return]


def _used(lines: Sequence[str], result: str) -> list[str]:
    """The assignments that the result rests on."""
    used, kept = set(_NAME.findall(result)), []
    for line in reversed(lines):
        name, _, expression = line.partition(" = ")
        if name in used:
            used.update(_NAME.findall(expression))
            kept.append(line)
    return kept[::-1]


def _released(lines: Sequence[str], result: str) -> list[str]:
    """The assignments, each with the names that it is the last to use let go of: what they hold may be large."""
    needed, released = set(_NAME.findall(result)), []
    for line in reversed(lines):
        last = sorted(name for name in set(_NAME.findall(line)) - needed if _LOCAL.fullmatch(name))
        needed.update(last)
        released.append(f"{line}; del {', '.join(last)}" if last else line)
    return released[::-1]


class CodeWriter:
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
        total = self._counted(program, op, names) or spell_sum(
            program, op, names, self.assign, merges, bool(last.intersection(op.outputs)), widened
        )
        if total is not None:
            names[op.outputs[0]] = self.assign(total)
            return
        args = _from_the_front(program, op)
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
        if isinstance(op.result, Ref):
            if self._fixed(op, names):
                names[op.outputs[0]] = self.evaluated(expression)
                return
            names[op.outputs[0]] = self.assign(expression)
            return
        result = self.assign(expression)
        for position, leaf in enumerate(op.result):
            if isinstance(leaf, Ref):
                names[leaf.index] = self.assign(f"{result}[{position}]")

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
        short = spell(op, rendered, keywords, self.space)
        if short is not None:
            return short
        parts = [*rendered, *(f"{key}={value}" for key, value in keywords.items())]
        blank = ".zero_()" if "empty" in op.name else ""  # as it was while recording
        return f"{self.constant(op.func)}({', '.join(parts)}){blank}"

    def _fixed(self, op: Op, names: dict[int, str]) -> bool:
        """Whether an operation gives the same in every fold."""
        moving = any(isinstance(leaf, (Size, Free)) for leaf in leaves((op.args, op.kwargs)))
        return not moving and all(isinstance(self.space.get(names[i]), torch.Tensor) for i in op.inputs)


def _from_the_front(program: Program, op: Op) -> list[Any]:
    """The arguments, the dimension that an operation works along counted from the front: -1 and 1 may be one."""
    args = list(op.args)
    place = next((i for i, arg in enumerate(op.func._schema.arguments) if arg.name == "dim"), None)
    if base_name(op) in _ALONG and place is not None and place < len(args) and type(args[place]) is int:
        rank = len(program.values[op.inputs[0]].shape)
        args[place] %= max(rank, 1)
    return args


def _made_narrow(program: Program, op: Op) -> bool:
    """Whether torch gives the result its default type: it is made of whole numbers and Python numbers at most."""
    values = program.values
    whole = not any(_floats(values[index].dtype) for index in op.inputs)
    named = any(isinstance(leaf, torch.dtype) for leaf in leaves((op.args, op.kwargs)))
    return whole and not named and len(op.outputs) == 1 and values[op.outputs[0]].dtype is torch.float64


def _floats(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def spell(op: Op, rendered: Sequence[str], keywords: dict[str, str], space: dict[str, Any]) -> str | None:
    """The operation on arguments that are written out already; None where only the dispatcher knows it."""
    name = str(op.func._schema.name).split("::")[-1]
    if op.args and isinstance(op.args[0], (int, float)):  # a number in the place of a tensor, as vmap passes it
        return None
    operator = _OPERATORS.get(op.func)
    if op.func in _COMMUTE and len(rendered) == 2:
        rendered = sorted(rendered, key=lambda text: (not text.isidentifier(), len(text), text))
    if operator is not None:
        return operator.format(*rendered) if not keywords and len(rendered) == 1 + ("{1}" in operator) else None
    if op.func is aten.pow.Tensor_Scalar and rendered[1] in ("2", "2.0"):
        return f"{rendered[0]} * {rendered[0]}"
    if name == "_to_copy":
        return f"{rendered[0]}.{_cast(keywords['dtype'], space)}" if set(keywords) == {"dtype"} else None
    if op.func is aten.copy.default:  # which has no derivative
        return f"{rendered[1]}.to({rendered[0]}.dtype).expand_as({rendered[0]})"
    if name == "as_strided":  # here the layout may be another than it was
        windows = f"{rendered[0]}.contiguous().as_strided({', '.join(rendered[1:])})"
        return f"{rendered[0]}.reshape({rendered[1]})" if is_view(op) else windows
    if name in ("_softmax", "_log_softmax"):
        rendered = rendered[:2]  # the rest is for half precision on a GPU
    if name == "nll_loss_nd" and rendered[3:4] == ["0"]:
        ignored = f", ignore_index={rendered[4]}" if len(rendered) > 4 else ""
        return f"nll_loss({', '.join(rendered[:3])}{ignored}, reduction='none')"
    dims = [_one_dim(rendered[1]), *rendered[2:]] if name in _OVER_DIMS and len(rendered) > 1 else rendered[1:]
    rest = ", ".join([*dims, *(f"{key}={value}" for key, value in keywords.items())])
    if name in _METHODS or name in _RENAMED:
        return f"{rendered[0]}.{_RENAMED.get(name, name)}({rest})"
    if name in _FUNCTIONS:
        return f"{name}({rendered[0]}{', ' if rest else ''}{rest})"
    return None


def _one_dim(text: str) -> str:
    """A list of one dimension as that dimension, which is read faster."""
    return text[1:-1] if text.startswith("[") and len(text) > 2 and "," not in text else text


def _cast(dtype: str, space: dict[str, Any]) -> str:
    method = _CASTS.get(space[dtype])
    return f"{method}()" if method else f"to({dtype})"


def spell_sum(
    program: Program,
    op: Op,
    names: dict[int, str],
    assign: Callable[[str], str],
    merges: bool,
    last: bool,
    widened: bool,
) -> str | None:
    """A sum as Python; None where it is no sum, or nothing is gained.

    Args:
        program: that the operation is in.
        op: any operation.
        names: of the values so far.
        assign: gives a name to an expression.
        merges: it sums over samples, so in float64; else it stays in its own dtype.
        last: the sum is kept and not computed with, so a count may stay a whole number.
        widened: everything is float64 already.
    """
    if op.func not in SUMS:
        return None
    values = program.values
    source, result = values[op.args[0].index], values[op.outputs[0]].dtype
    rank = len(source.shape)
    dims, keep = (*op.args[1:], None, False)[:2] if len(op.args) < 3 else op.args[1:3]
    everything = not keep and (not dims or len(dims) == rank)
    over = "" if everything else ", ".join([str(dims[0] if len(dims) == 1 else dims), *(["True"] if keep else [])])
    truths = _truths(program, source)
    if truths is not None or not source.dtype.is_floating_point:
        name = names[source.index if truths is None else truths]
        if merges and result.is_floating_point and truths is None and source.dtype is torch.int64:
            return f"{name}.double().sum({over})"  # as a whole number it might wrap around
        whole = f"{name}.count_nonzero()" if everything and truths is not None else f"{name}.sum({over})"
        if result.is_floating_point and merges:
            return whole if last else f"{whole}.double()"
        return whole if result is torch.int64 else None
    if not result.is_floating_point:
        return None
    factors = _factors(program, source)
    if not merges and (op.kwargs or everything or factors is None):
        return None

    def wide(index: int) -> str:
        return assign(f"{names[index]}.double()") if merges and not widened else names[index]

    if factors is None:
        return f"{wide(source.index)}.sum({over})"
    left, right = (wide(index) for index in factors)
    if everything and rank != 1:
        left, right = assign(f"{left}.reshape(-1)"), assign(f"{right}.reshape(-1)")
    if everything:
        return f"dot({left}, {right})"
    if len(dims) == 1 and not keep:
        along = "" if dims[0] in (-1, rank - 1) else f", dim={dims[0]}"
        return f"vecdot({left}, {right}{along})"
    return f"{wide(source.index)}.sum({over})" if merges else None


def _maker(program: Program, value: ProgramValue) -> Op | None:
    return None if value.op is None else program.ops[value.op]


def _truths(program: Program, value: ProgramValue) -> int | None:
    """The truths that a value is, or was cast from."""
    if value.dtype is torch.bool:
        return value.index
    made = _maker(program, value)
    if made is None or made.func is not aten._to_copy.default or not made.inputs:
        return None
    return made.inputs[0] if program.values[made.inputs[0]].dtype is torch.bool else None


def _factors(program: Program, value: ProgramValue) -> tuple[int, int] | None:
    """Two floating values of one shape whose product a value is."""
    made = _maker(program, value)
    if made is None:
        return None
    if made.func is aten.square.default or (made.func is aten.pow.Tensor_Scalar and made.args[1] == 2):
        return made.inputs[0], made.inputs[0]
    if made.func is not aten.mul.Tensor or not all(isinstance(arg, Ref) for arg in made.args):
        return None
    left, right = (program.values[arg.index] for arg in made.args)
    alike = left.shape == right.shape and left.dtype.is_floating_point and right.dtype.is_floating_point
    return (left.index, right.index) if alike else None
