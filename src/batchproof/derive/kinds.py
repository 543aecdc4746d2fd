"""What each value of a Program does when batches are joined.

Every operation runs on a whole batch and on the pieces of it, side by side.  The kinds:

  shared   no sample reaches it
  rows     the pieces' values concatenate
  sum, max, min, any, all    the pieces' values combine so
  stat     a function of such combined values and shared ones
  index    positions in the batch
  bag, set the pieces' values concatenate up to order, or up to order and repetition
  opaque   none of these: it mixes samples

Batch statistics (sums, extrema, stats) are held at the whole's value while the pieces run.  So "rows" and "sum" mean:
given those statistics, which the value lists as ``given``.  That is a fact of the dataflow, never of the values: a mask
that happens to be all ones, or a branch of a ``where`` not yet taken, is conditional all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from batchproof.derive.align import Program
from batchproof.derive.operators import ADDS, ANALYTIC, EXACT_ARITHMETIC, SHAPE_ONLY, VIEWS, base_name, by_place
from batchproof.derive.program import Free, Op, Recording, Ref, Size, call, leaves, outputs_of, replace

MERGEABLE = ("sum", "max", "min", "any", "all")
ROWLIKE = ("rows", "index", "bag", "set", "opaque")

TOLERANCE = 1e-9


@dataclass
class Draw:
    """A batch, its pieces, and the recording whose free numbers and constants go with it."""

    run: int
    whole: list[torch.Tensor]
    pieces: list[list[torch.Tensor]]
    sizes: list[int]  # of the pieces


class Classifier:
    """Runs a Program on draws and writes each value's kind into it."""

    def __init__(self, program: Program, runs: Sequence[Recording], draws: Sequence[Draw], batched: set[int]) -> None:
        self.program = program
        self.runs = runs
        self.draws = draws
        self.convex: set[int] = set()
        self.wholes: list[list[Any]] = []
        self.pieces: list[list[list[Any]]] = []
        size = len(program.values)
        for draw in draws:
            whole: list[Any] = [None] * size
            pieces: list[list[Any]] = [[None] * size for _ in draw.pieces]
            for position, index in enumerate(program.inputs):
                whole[index] = draw.whole[position]
                for piece, tensors in zip(pieces, draw.pieces, strict=False):
                    piece[index] = tensors[position]
            for index in program.captured:
                whole[index] = runs[draw.run].tensors[index]
            self.wholes.append(whole)
            self.pieces.append(pieces)
        for position, index in enumerate(program.inputs):
            value = program.values[index]
            value.from_data = position in batched
            value.kind = "rows" if position in batched else "shared"
            value.dim = value.varying[0] if value.varying else 0
        for index in program.captured:
            program.values[index].kind = "shared" if self._constant(index) else "stat"

    def _constant(self, index: int) -> bool:
        first = self.runs[0].tensors[index]
        return all(_equal(run.tensors[index], first) for run in self.runs)

    def run(self) -> None:
        for number, op in enumerate(self.program.ops):
            self._classify(number, op)

    def _classify(self, number: int, op: Op) -> None:
        values = self.program.values
        inputs = [values[i] for i in op.inputs]
        sized = any(isinstance(leaf, Size) for leaf in leaves((op.args, op.kwargs)))
        free = [leaf for leaf in leaves((op.args, op.kwargs)) if isinstance(leaf, Free)]
        rows = [value for value in inputs if value.kind in ROWLIKE]
        from_data = any(value.from_data for value in inputs)
        name = base_name(op)
        for output in op.outputs:
            values[output].from_data = from_data
        if not rows and not sized:
            plain = all(value.kind == "shared" for value in inputs) and not free
            for draw, whole in enumerate(self.wholes):
                self._run_whole(draw, whole, op)
            for output in op.outputs:
                values[output].kind = "shared" if plain else "stat"
            return
        given: frozenset[Any] = frozenset()
        if name not in SHAPE_ONLY:
            given = frozenset().union(*(value.given for value in rows))
            given |= {v.index for v in inputs if v.kind in ("stat", *MERGEABLE)} | set(free)
        ran = [self._run_all(draw, op) for draw in range(len(self.draws))]
        for position, output in enumerate(op.outputs):
            value = values[output]
            value.given = given
            allowed = self._allowed(op, name, value, rows, given, position)
            if all(ran) and allowed:
                value.kind, value.dim = self._kind(value, allowed)
                if value.kind not in ("opaque", "bag") and not self._holds_generically(op, name, position, value):
                    value.kind = "opaque"

    def _allowed(
        self, op: Op, name: str, value: Any, rows: list[Any], given: frozenset[Any], position: int
    ) -> tuple[str, ...]:
        """The kinds that the operation can give at all, whatever the values happen to be."""
        values = self.program.values
        kinds = {value.kind for value in rows}
        if given and (steps := self._extreme(op, name, value)) is not None:
            return steps
        if any(i in self.convex for i in op.inputs):
            return ()
        if "opaque" in kinds or ("index" in kinds and not self._takes_positions(op, name)):
            return ()
        if op.inputs and values[op.inputs[0]].kind in ROWLIKE and by_place(op, values[op.inputs[0]]):
            return ()
        smooth = value.dtype.is_floating_point or value.dtype.is_complex or (name in VIEWS and name != "_to_copy")
        smooth = smooth or (value.dtype is torch.int64 and name in EXACT_ARITHMETIC and self._all_whole(op))
        if given and not (smooth and self._analytic(op, name)):
            return ()
        if value.varying:
            if kinds == {"bag"} and name.startswith("split") and not given:
                return ("rows", "bag")
            if kinds & {"bag", "set"}:
                return ("bag", "set") if not given else ()
            if given:
                return ("rows",)
            return ("rows", "index", "set") if "unique" in name else ("rows", "index", "bag")
        if given:
            return ("sum",) if name in ADDS and (value.dtype.is_floating_point or value.dtype.is_complex) else ()
        words = f"{op.func} " + " ".join(leaf for leaf in leaves((op.args, op.kwargs)) if isinstance(leaf, str))
        if value.dtype is torch.bool:
            return ("any",) if "any" in name else ("all",) if "all" in name else ()
        if any(word in words for word in ("amax", "max.dim")):
            return ("max",) if position == 0 else ()
        if any(word in words for word in ("amin", "min.dim")):
            return ("min",) if position == 0 else ()
        return ("sum",) if name in ADDS and "set" not in kinds else ()

    def _all_whole(self, op: Op) -> bool:
        return all(self.program.values[i].dtype in (torch.int64, torch.bool) for i in op.inputs)

    def _extreme(self, op: Op, name: str, value: Any) -> tuple[str, ...] | None:
        """The steps of ``max(|x - s|)``: x moved by a statistic, perhaps its size, and the extreme of that.

        Such a function of x is convex, so over a batch it is largest at the batch's smallest or largest x.
        """
        if not op.inputs or not self.program.values[op.inputs[0]].dtype.is_floating_point:
            return None
        moved = self._moved(op.inputs[0])
        if name == "abs" and moved:
            self.convex.add(op.outputs[0])
            return ("rows",)
        if name == "amax" or (name == "max" and value.index == op.outputs[0] and len(op.outputs) == 2):
            return ("max",) if moved or op.inputs[0] in self.convex else None
        return None

    def _moved(self, index: int) -> bool:
        """Whether a value is unconditional rows plus or minus a statistic."""
        number = self.program.values[index].op
        if number is None:
            return False
        op, values = self.program.ops[number], self.program.values
        if base_name(op) not in ("add", "sub") or op.kwargs or len(op.inputs) != 2:
            return False
        kinds = [(values[i].kind, bool(values[i].given)) for i in op.inputs]
        return ("rows", False) in kinds and any(kind in ("stat", *MERGEABLE) for kind, _ in kinds)

    def _takes_positions(self, op: Op, name: str) -> bool:
        """Positions in the batch may pick rows, and nothing else: as numbers they depend on the order."""
        if name in ("index", "gather", "index_select"):
            return self.program.values[op.inputs[0]].kind == "rows"
        return name in VIEWS

    def _analytic(self, op: Op, name: str) -> bool:
        """Whether the statistics that the operation uses enter it analytically."""
        values = self.program.values
        if name not in ANALYTIC or op.kwargs.get("rounding_mode") is not None:
            return False

        def steered(leaf: Any) -> bool:
            return isinstance(leaf, Ref) and (
                bool(values[leaf.index].given) or values[leaf.index].kind in ("stat", *MERGEABLE)
            )

        if name in ("where", "masked_fill", "index", "gather", "index_select"):
            steering = op.args[0] if name == "where" else op.args[1:] if name == "index" else op.args[1:-1]
            if name in ("gather", "index_select"):
                steering = op.args[2]
            if any(steered(leaf) for leaf in leaves(steering)):
                return False
        return all(
            values[leaf.index].dtype.is_floating_point or values[leaf.index].dtype is not torch.bool
            for leaf in leaves((op.args, op.kwargs))
            if steered(leaf)
        )

    def _lookup(self, draw: int, whole: list[Any], piece: list[Any] | None, n: int) -> Any:
        values, free = self.program.values, self.program.free

        def look(leaf: Any) -> Any:
            if isinstance(leaf, Ref):
                local = piece is not None and values[leaf.index].kind in ROWLIKE
                return piece[leaf.index] if local and piece is not None else whole[leaf.index]
            if isinstance(leaf, Free):
                return free[leaf.position][self.draws[draw].run]
            env = whole if piece is None else piece
            length = {} if leaf.of is None else {leaf.of: env[leaf.of[0]].shape[leaf.of[1]]}
            return leaf.at(n, length)

        return look

    def _store(self, env: list[Any], op: Op, result: Any) -> None:
        for output, leaf in outputs_of(op, result).items():
            env[output] = leaf

    def _run_whole(self, draw: int, whole: list[Any], op: Op) -> None:
        look = self._lookup(draw, whole, None, sum(self.draws[draw].sizes))
        self._store(whole, op, call(op.func, op.args, op.kwargs, look))

    def _run_all(self, draw: int, op: Op) -> bool:
        whole = self.wholes[draw]
        try:
            self._run_whole(draw, whole, op)
            for piece, n in zip(self.pieces[draw], self.draws[draw].sizes, strict=False):
                look = self._lookup(draw, whole, piece, n)
                self._store(piece, op, call(op.func, op.args, op.kwargs, look))
        except Exception:  # noqa: BLE001 - it may have no value on a piece (the maximum of nothing)
            return False
        return True

    def _kind(self, value: Any, allowed: tuple[str, ...]) -> tuple[str, int]:
        dims = value.varying or (0,)
        for kind in allowed:
            for dim in dims if kind in ("rows", "index") else (0,):
                if all(
                    combines(kind, dim, whole[value.index], [piece[value.index] for piece in pieces], draw.sizes)
                    for whole, pieces, draw in zip(self.wholes, self.pieces, self.draws, strict=False)
                ):
                    return kind, dim
        return "opaque", 0

    def _holds_generically(self, op: Op, name: str, position: int, value: Any) -> bool:
        """Try the operation alone on shuffled values: a kind must not rest on what this data happens to be."""
        if name in VIEWS or torch.Tag.pointwise in op.func.tags:
            return True
        values = self.program.values
        rows = [i for i in set(op.inputs) if values[i].kind == "rows"]
        if not rows or any(values[i].kind in ("index", "bag", "set") for i in op.inputs):
            return True
        for draw in range(len(self.draws)):
            whole = list(self.wholes[draw])
            pieces = [list(piece) for piece in self.pieces[draw]]
            for i in rows:
                self._shuffle(i, whole, pieces)
            try:
                n = sum(self.draws[draw].sizes)
                self._store(whole, op, call(op.func, op.args, op.kwargs, self._lookup(draw, whole, None, n)))
                for piece, size in zip(pieces, self.draws[draw].sizes, strict=False):
                    look = self._lookup(draw, whole, piece, size)
                    self._store(piece, op, call(op.func, op.args, op.kwargs, look))
            except Exception:  # noqa: BLE001 - outside its domain: this draw says nothing
                continue
            out = op.outputs[position]
            sizes = self.draws[draw].sizes
            if not combines(value.kind, value.dim, whole[out], [piece[out] for piece in pieces], sizes):
                return False
        return True

    def _shuffle(self, i: int, whole: list[Any], pieces: list[list[Any]]) -> None:
        dim = self.program.values[i].dim
        whole[i] = shuffled(whole[i])
        start = 0
        for piece in pieces:
            length = piece[i].shape[dim]
            piece[i] = whole[i].narrow(dim, start, length)
            start += length


_GENERATOR = torch.Generator()


def shuffled(x: torch.Tensor) -> torch.Tensor:
    """The same values at other places; where they are all alike, others near them."""
    if x.numel() < 2:
        return x
    if x.dtype.is_floating_point:
        x = torch.where(torch.isfinite(x), x, torch.rand(x.shape, generator=_GENERATOR, dtype=x.dtype).to(x.device))
    order = torch.randperm(x.numel(), generator=_GENERATOR).to(x.device)
    mixed = x.reshape(-1)[order].reshape(x.shape)
    if not bool((mixed == mixed.reshape(-1)[0]).all()):
        return mixed
    noise = torch.rand(x.shape, generator=_GENERATOR, dtype=torch.float64).to(x.device)
    if x.dtype is torch.bool:
        return noise < 0.5
    if x.dtype.is_floating_point:
        return mixed + noise.to(x.dtype) * (mixed.abs() * 0.1 + (mixed == 0))
    if x.dtype.is_complex:
        return mixed
    return torch.where((noise < 0.5) & (mixed == 0), mixed + 1, mixed)


def combines(kind: str, dim: int, whole: torch.Tensor, pieces: list[torch.Tensor], sizes: Sequence[int]) -> bool:
    """Whether the pieces' values give the whole's in the way that a kind says."""
    if kind in ("rows", "index", "bag", "set"):
        if any(piece.ndim != whole.ndim or whole.ndim == 0 for piece in pieces):
            return False
        if kind in ("rows", "index"):
            if any(_rest(piece, dim) != _rest(whole, dim) for piece in pieces):
                return False
            if kind == "index":
                lengths = [piece.shape[dim] for piece in pieces]
                return whole.dtype is torch.int64 and any(
                    torch.equal(_offset(pieces, dim, starts), whole) for starts in (sizes, lengths)
                )
            return close(torch.cat(pieces, dim), whole, pieces)
        joined, flat = torch.cat([piece.reshape(-1) for piece in pieces]), whole.reshape(-1)
        if whole.dtype.is_complex or not whole.dtype.is_floating_point:
            joined, flat = joined.real.double(), flat.real.double()
        if kind == "set":
            return close(torch.unique(joined), torch.unique(flat), pieces)
        if joined.shape != flat.shape or not close(joined.sum(), flat.sum(), pieces):  # the quick look first
            return False
        return close(joined.sort().values, flat.sort().values, pieces)
    if any(piece.shape != whole.shape for piece in pieces):
        return False
    stacked = torch.stack(pieces)
    if kind == "sum":
        return close(stacked.sum(0).to(whole.dtype), whole, pieces)
    if kind in ("max", "min"):
        return close(stacked.amax(0) if kind == "max" else stacked.amin(0), whole, pieces)
    if kind == "any":
        return close(stacked.any(0), whole, pieces)
    return close(stacked.all(0), whole, pieces)


def _rest(x: torch.Tensor, dim: int) -> tuple[int, ...]:
    return tuple(size for d, size in enumerate(x.shape) if d != dim)


def _offset(pieces: list[torch.Tensor], dim: int, sizes: Sequence[int]) -> torch.Tensor:
    """Positions within pieces, as positions within the whole."""
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return torch.cat([piece + start for piece, start in zip(pieces, starts, strict=False)], dim)


def close(a: torch.Tensor, b: torch.Tensor, scale_of: Sequence[torch.Tensor]) -> bool:
    """Equal at rounding level, measured by the largest finite number involved."""
    if a.shape != b.shape:
        return False
    if a.numel() == 0:
        return True
    if not (a.dtype.is_floating_point or a.dtype.is_complex):
        return bool(torch.equal(a, b))
    same = (a == b) | (torch.isnan(a) & torch.isnan(b))
    if bool(same.all()):
        return True
    finite = torch.isfinite(a) & torch.isfinite(b)
    if not bool((same | finite).all()):
        return False
    scale = max([float(_largest(x)) for x in (b, *scale_of)] or [0.0])
    gap = (a - b).abs().masked_fill(~finite, 0).max()
    return float(gap) <= TOLERANCE * scale


def _largest(x: torch.Tensor) -> float:
    x = x.abs() if x.dtype is not torch.bool else x.double()
    return float(torch.where(torch.isfinite(x), x, torch.zeros_like(x)).max()) if x.numel() else 0.0


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and close(a, b, [])


__all__ = ["ANALYTIC", "MERGEABLE", "ROWLIKE", "Classifier", "Draw", "base_name", "close", "combines", "replace"]
