"""Which kinds an operator's outputs have, given the kinds of its inputs and the dimensions they lie along.

A kind follows from what an operator is and from its arguments, never from the values that it happened to see: the
same idea as the operator strategies of DTensor, where a placement (shard, replicate, partial) follows from the
placements of the inputs.  The table `RULES` names a rule for each operator; operators that torch tags as pointwise
share one.  Operators that only move elements are not listed case by case: their rule asks which input element each
output element is (`trial.moved`).  What no rule covers is tried on generic values (`trial.tried`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch

from batchproof.derive.kind import ORDERED, ROWLIKE, Kind
from batchproof.derive.operators import is_view
from batchproof.derive.placement import OPAQUE, Application, Placement, sound
from batchproof.derive.program import ProgramValue
from batchproof.derive.recording import Op, Ref, Size, leaves
from batchproof.derive.trial import moved

Rule = Callable[[Application], Sequence[Placement]]


def place(app: Application) -> list[Placement] | None:
    """The placements of an operator's outputs; None where no rule covers the operator.

    Args:
        app: at least one input lies along samples, or a size among the arguments follows their number.
    """
    rule = rule_for(app.op)
    if rule is None:
        return None
    if any(value.kind is Kind.OPAQUE for value in app.tensors):
        return app.all(OPAQUE)
    placed = list(rule(app))
    placed += [OPAQUE] * (len(app.outputs) - len(placed))
    return [sound(placement, value, app.values) for placement, value in zip(placed, app.outputs, strict=False)]


def rule_for(op: Op) -> Rule | None:
    """The rule of an operator, by its name or by torch's tag."""
    space, _, name = str(op.func._schema.name).partition("::")
    rule = RULES.get(name)
    if rule is None and (torch.Tag.pointwise in op.func.tags or (space == "prims" and _pointwise_in_aten(name))):
        return pointwise
    return rule


def _pointwise_in_aten(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )


# ------------------------------------------------------------------ elementwise


def _aligned(app: Application, operands: Sequence[ProgramValue], rank: int) -> Placement | None:
    """Where samples lie in a broadcast result; None where the operands disagree about that."""
    dims = {value.dim + rank - len(value.shape) for value in operands}
    kinds = {(value.kind, value.blocks) for value in operands}
    lengths = {app.known.length(value) for value in operands}
    if len(dims) != 1 or len(kinds) != 1 or len(lengths) != 1 or None in lengths:
        return None
    ((kind, blocks),) = kinds
    return Placement(kind, dims.pop(), blocks)


def pointwise(app: Application) -> Sequence[Placement]:
    """Each output element depends on the input elements at its own place, as broadcast."""
    operands = app.rowlike
    if not operands or any(value.varying for value in app.tensors if value.kind not in ROWLIKE):
        return app.all(OPAQUE)
    placed = _aligned(app, operands, len(app.outputs[0].shape))
    if placed is None or placed.kind is Kind.INDEX:
        return app.all(OPAQUE)
    if placed.kind in (Kind.BAG, Kind.SET):  # in no known order: it may meet nothing but what has the same one
        orders = {app.known.order.get(value.index, value.index) for value in operands}
        if len(orders) > 1:
            return app.all(OPAQUE)
        app.known.order.update(dict.fromkeys(app.op.outputs, orders.pop()))
    return app.all(placed)


def _point_at(app: Application, index: ProgramValue, source: ProgramValue) -> bool:
    """Whether numbers are positions in a tensor's own samples."""
    return index.kind is Kind.INDEX and app.known.spans.get(index.index) == app.known.length(source)


def _span(app: Application, positions: ProgramValue) -> None:
    """The outputs are positions in what the input is one in."""
    app.known.spans.update(dict.fromkeys(app.op.outputs, app.known.spans.get(positions.index)))


def same(app: Application) -> Sequence[Placement]:
    """The values themselves, perhaps in another dtype, or a complex number as two."""
    value = app.first
    whole = not (app.outputs[0].dtype.is_floating_point or app.outputs[0].dtype.is_complex)
    if value.kind is Kind.INDEX and not whole:
        return [OPAQUE]  # positions may pick samples; as numbers they depend on the order
    if value.kind is Kind.INDEX:
        _span(app, value)
    if value.kind in (Kind.BAG, Kind.SET):
        app.known.order[app.op.outputs[0]] = app.known.order.get(value.index, value.index)
    return [Placement(value.kind, value.dim, value.blocks)]


def pointwise_loss(app: Application) -> Sequence[Placement]:
    """A loss of torch's with a ``reduction``: elementwise without one."""
    return pointwise(app) if app.arguments.get("reduction") == 0 else app.all(OPAQUE)


def loss_of_each(app: Application) -> Sequence[Placement]:
    """A loss of one number for each sample, classes along dimension 1; without a reduction."""
    weight = app.value("weight")
    rows = all(value.kind is Kind.ROWS and value.dim == 0 for value in app.rowlike)
    each = app.arguments.get("reduction") == 0 and rows and len(app.first.shape) > 1
    return app.all(Placement(Kind.ROWS, 0) if each and (weight is None or weight.kind not in ROWLIKE) else OPAQUE)


# ------------------------------------------------------------------ moving elements

_OPEN = 2**63 - 1  # the open end of a slice


def movement(app: Application) -> Sequence[Placement]:
    """Each output element is an input element, or a constant: where it comes from is a matter of shapes alone."""
    if app.rowlike and app.first.kind is Kind.INDEX:
        _span(app, app.first)
    if any(_by_number(app, value) for value in app.rowlike):
        return app.all(OPAQUE)
    return moved(app)


def _by_number(app: Application, value: ProgramValue) -> bool:
    """Whether a fixed number of samples is cut off: with few of them that may be all, with more it is not."""
    name, rank = str(app.op.func._schema.name).partition("::")[2], len(value.shape)
    if name in ("tril", "triu"):
        return value.dim >= rank - 2
    dim = app.arguments.get("dim", 0)
    if not isinstance(dim, int) or dim % rank != value.dim:
        return False
    if name == "slice":
        start, end, step = (app.arguments.get(key) for key in ("start", "end", "step"))
        return start not in (None, 0) or end not in (None, _OPEN) or step not in (None, 1)
    if "split" in name or name in ("chunk", "unsafe_chunk"):
        sizes = list(leaves(app.op.args[1:2]))
        return not (sizes and all(isinstance(size, Size) for size in sizes))
    return False


def strided(app: Application) -> Sequence[Placement]:
    """``as_strided`` of a tensor without gaps: a view, or windows inside of each sample; else a matter of memory."""
    moves = _in_rows(app.first) and (is_view(app.op) or _within_samples(app))
    return movement(app) if moves else app.all(OPAQUE)


def _within_samples(app: Application) -> bool:
    """Whether strides step from sample to sample along one dimension, and never leave a sample along the others."""
    value, (sizes, strides, *offset) = app.first, app.op.args[1:]
    room = prod(size for size in value.shape[1:] if isinstance(size, int))
    along = [d for d, size in enumerate(sizes) if isinstance(size, Size)]
    start = offset[0] or 0 if offset else 0
    numbers = [*strides, *(size for d, size in enumerate(sizes) if d not in along), start]
    if value.varying != (0,) or len(along) != 1 or not all(isinstance(number, int) for number in numbers):
        return False
    d = along[0]
    reach = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True) if isinstance(size, int))
    return bool(sizes[d] == value.shape[0] and strides[d] == room and 0 <= start <= start + reach < room)


def _in_rows(value: ProgramValue) -> bool:
    """Whether a tensor lies in memory row after row without gaps, as those do that `movement` tries."""
    step = 1
    for size, stride in zip(reversed(value.sizes), reversed(value.strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def by_place(app: Application) -> Sequence[Placement]:
    """It depends on where samples lie in memory, or among themselves."""
    return app.all(OPAQUE)


def constant(app: Application) -> Sequence[Placement]:
    """A tensor of one number: as many rows of it as there are samples."""
    varying = app.outputs[0].varying
    return [Placement(Kind.ROWS, varying[0]) if len(varying) == 1 else OPAQUE]


def positions(app: Application) -> Sequence[Placement]:
    """``arange``: the positions 0, 1, 2, … of the samples, or an order of something else."""
    start, step, end = (app.arguments.get(name) for name in ("start", "step", "end"))
    value = app.outputs[0]
    if start not in (None, 0) or step not in (None, 1) or not isinstance(end, Size) or value.dtype is not torch.int64:
        return [OPAQUE]
    app.known.spans[value.index] = app.known.length(value)
    return [Placement(Kind.INDEX, 0)]


# ------------------------------------------------------------------ along dimensions


def _left(value: ProgramValue, dims: Sequence[int], rank: int) -> int:
    """Where the samples' dimension is after others were reduced."""
    return value.dim if rank == len(value.shape) else value.dim - sum(d < value.dim for d in dims)


def _kept(value: ProgramValue, dim: int) -> Placement:
    """The placement of what is made of each sample on its own."""
    return Placement(value.kind, dim, value.blocks)


def _along(app: Application, joined: Sequence[Kind]) -> Sequence[Placement]:
    """An operator along dimensions: on each sample alone; or over samples, which gives outputs of kinds ``joined``."""
    value = app.first
    if value.kind not in (*ORDERED, Kind.BAG, Kind.SET) or len(app.rowlike) > 1:
        return app.all(OPAQUE)
    dims = app.dims(len(value.shape))
    if value.dim in dims:
        return [Placement(kind) for kind in joined]
    if value.kind not in ORDERED:
        return app.all(OPAQUE)
    return [_kept(value, _left(value, dims, len(output.shape))) for output in app.outputs]


def add(app: Application) -> Sequence[Placement]:
    """A sum over dimensions."""
    return _along(app, [Kind.OPAQUE if app.first.kind is Kind.SET else Kind.SUM])


def largest(app: Application) -> Sequence[Placement]:
    """A maximum over dimensions; where it stands depends on the order."""
    return _along(app, [Kind.MAX])


def smallest(app: Application) -> Sequence[Placement]:
    """A minimum over dimensions."""
    return _along(app, [Kind.MIN])


def either(app: Application) -> Sequence[Placement]:
    """Whether any is true."""
    return _along(app, [Kind.ANY])


def every(app: Application) -> Sequence[Placement]:
    """Whether all are true."""
    return _along(app, [Kind.ALL])


def within(app: Application) -> Sequence[Placement]:
    """Along dimensions, in a way that no merge is known for: right within a sample, opaque over samples."""
    return _along(app, [])


def order(app: Application) -> Sequence[Placement]:
    """A sort: over samples, the same values in another order, and positions that depend on all of them."""
    value = app.first
    if value.dim in app.dims(len(value.shape)) and value.kind in (*ORDERED, Kind.BAG):
        return [Placement(Kind.BAG, value.dim)]
    return _along(app, [])


def distinct(app: Application) -> Sequence[Placement]:
    """The distinct values of all elements; how often each occurs, and where, is another matter."""
    return [Placement(Kind.SET, 0) if app.first.kind in (*ORDERED, Kind.BAG, Kind.SET) else OPAQUE]


def histogram(app: Application) -> Sequence[Placement]:
    """Counts in bins whose edges are given; without edges they are the data's own."""
    value = app.first
    given = app.arguments.get("min") != app.arguments.get("max")
    return [Placement(Kind.SUM) if given and value.kind in (*ORDERED, Kind.BAG) else OPAQUE]


def count_each(app: Application) -> Sequence[Placement]:
    """``bincount``: a sum where ``minlength`` fixes its length; otherwise the largest number seen does."""
    weights = app.value("weights")
    rows = app.first.kind in (*ORDERED, Kind.BAG)
    rows = rows and (weights is None or _aligned(app, [app.first, weights], 1) is not None)
    rows = rows and (weights is None or app.first.kind in ORDERED)
    length = app.outputs[0].shape[0]
    return [Placement(Kind.SUM) if rows and length == app.arguments.get("minlength") else OPAQUE]


# ------------------------------------------------------------------ products


def _product(*subscripts: str) -> Rule:
    """A product as in einsum, one text for each factor and the last for the result; over samples it adds."""
    *inner, result = subscripts

    def rule(app: Application) -> Sequence[Placement]:
        factors = [value for value in app.tensors if len(value.shape) > 0][-len(inner) :]
        added = app.value("self") if len(app.tensors) > len(inner) else None
        if len(factors) != len(inner):
            return app.all(OPAQUE)
        return app.all(_multiplied(app, factors, inner, result, added))

    return rule


def _multiplied(
    app: Application, factors: Sequence[ProgramValue], inner: Sequence[str], result: str, added: ProgramValue | None
) -> Placement:
    if any(value.kind not in ORDERED for value in app.rowlike):
        return OPAQUE
    moving = [(text, value) for text, value in zip(inner, factors, strict=True) if value.kind in ROWLIKE]
    along = {text[value.dim] for text, value in moving}
    if len(along) != 1 or len({(v.kind, v.blocks, app.known.length(v)) for _, v in moving}) != 1:
        return OPAQUE  # pairs of samples; or only what is added lies along them
    letter = along.pop()
    if any(letter in text and value.kind not in ROWLIKE for text, value in zip(inner, factors, strict=True)):
        return OPAQUE
    if letter in result:
        placed = _kept(moving[0][1], result.index(letter))
        if added is None or added.kind not in ROWLIKE:
            return placed
        return placed if _aligned(app, [added], len(result)) == placed else OPAQUE
    return Placement(Kind.SUM) if added is None else OPAQUE


def matmul(app: Application) -> Sequence[Placement]:
    """A product of matrices, with batches of them in front, or of vectors."""
    left, right = (app.values[leaf.index] for leaf in app.op.args[:2])
    batch = "abcdefgh"[: max(len(left.shape), len(right.shape), 2) - 2]
    first = (batch + "ik")[-len(left.shape) :] if len(left.shape) > 1 else "k"
    second = (batch + "kj")[-len(right.shape) :] if len(right.shape) > 1 else "k"
    result = batch + "".join(letter for letter in "ij" if letter in first + second)
    return app.all(_multiplied(app, [left, right], [first, second], result, None))


def convolution(app: Application) -> Sequence[Placement]:
    """A convolution of batched inputs: samples along dimension 0, weights that all share."""
    value = app.first
    weight = app.value("weight")
    batched = weight is not None and len(value.shape) == len(weight.shape)
    alone = batched and len(app.rowlike) == 1 and value.kind in ORDERED and value.dim == 0
    return app.all(_kept(value, 0) if alone else OPAQUE)


def lookup(app: Application) -> Sequence[Placement]:
    """``embedding``: rows of a shared table."""
    table, index = app.value("weight"), app.value("indices")
    if table is None or index is None or table.kind in ROWLIKE or index.kind not in (*ORDERED, Kind.BAG):
        return app.all(OPAQUE)
    return app.all(_kept(index, index.dim))


def _last(count: int) -> Rule:
    """An operator on the last dimensions of each sample."""

    def rule(app: Application) -> Sequence[Placement]:
        alike = {(v.kind, v.dim, v.blocks, len(v.shape), app.known.length(v)) for v in app.rowlike}
        value = app.rowlike[0] if len(alike) == 1 else None
        alone = value is not None and value.kind in ORDERED and value.dim < len(value.shape) - count
        return app.all(_kept(value, value.dim) if alone and value is not None else OPAQUE)

    return rule


def matrices(app: Application) -> Sequence[Placement]:
    """Linear algebra on the last two dimensions of each sample, batches of matrices in front, as broadcast."""
    inner = {value.index: _inner(app, name, value) for name, value in app.named}
    operands = app.rowlike
    if any(value.varying for value in app.tensors if value.kind not in ROWLIKE):
        return app.all(OPAQUE)
    if any(value.kind not in ORDERED or value.dim >= len(value.shape) - inner[value.index] for value in operands):
        return app.all(_columns(app, operands))
    from_right = {value.dim - len(value.shape) + inner[value.index] for value in operands}
    alike = {(value.kind, value.blocks, app.known.length(value)) for value in operands}
    if len(from_right) != 1 or len(alike) != 1:
        return app.all(OPAQUE)
    rank = max(len(value.shape) - inner[value.index] for value in app.tensors)
    return app.all(_kept(operands[0], from_right.pop() + rank))


def _inner(app: Application, name: str, value: ProgramValue) -> int:
    """How many of the last dimensions of an argument belong to one problem: two of a matrix, one of a vector."""
    matrix = app.value("self") if name == "b" else None
    if name in ("pivots", "LU_pivots"):
        return 1
    return 1 if matrix is not None and value.shape == matrix.shape[:-1] else 2


def _columns(app: Application, operands: Sequence[ProgramValue]) -> Placement:
    """Equations of one matrix that all share, with a column of the right side for each sample."""
    right = app.value("B") or (app.value("self") if app.value("A", "input2") else None)
    alone = len(operands) == 1 and operands[0] is right and right.kind in ORDERED and len(right.shape) >= 2
    if not alone or right is None or app.arguments.get("left", True) is not True:
        return OPAQUE
    return _kept(right, right.dim) if right.dim == len(right.shape) - 1 else OPAQUE


def renormed(app: Application) -> Sequence[Placement]:
    """``renorm``: each slice along a dimension by its own norm, which is a sample's own where samples lie along it."""
    value, dim = app.first, app.arguments.get("dim")
    alone = isinstance(dim, int) and value.kind in ORDERED and value.dim == dim % len(value.shape)
    return [_kept(value, value.dim) if alone else OPAQUE]


def _batched(rank: int | None = None) -> Rule:
    """An operator on samples that lie along dimension 0, of inputs with a rank or more."""

    def rule(app: Application) -> Sequence[Placement]:
        value = app.first
        alone = len(app.rowlike) == 1 and value.kind in ORDERED and value.dim == 0
        alone = alone and (rank is None or len(value.shape) == rank)
        return app.all(_kept(value, 0) if alone else OPAQUE)

    return rule


def layer_norm(app: Application) -> Sequence[Placement]:
    """Normalised over the last dimensions of each sample."""
    value = app.first
    inside = len(app.arguments["normalized_shape"])
    alone = len(app.rowlike) == 1 and value.kind in ORDERED and value.dim < len(value.shape) - inside
    return app.all(_kept(value, value.dim) if alone else OPAQUE)


# ------------------------------------------------------------------ picking and putting


def mask_of(app: Application) -> int | None:
    """The mask that decides how many elements an operator selects."""
    given = app.arguments.get("mask") if "masked_select" in str(app.op.func) else None
    if isinstance(given, Ref):
        return given.index
    if str(app.op.func._schema.name) != "aten::index":
        return None
    indices = [value for value in app.listed("indices") if value is not None]
    return indices[0].index if len(indices) == 1 and _is_mask(indices[0]) else None


def _is_mask(value: ProgramValue) -> bool:
    return value.dtype in (torch.bool, torch.uint8)


@dataclass(frozen=True)
class Indexing:
    """The indices of ``x[…]``: where each stands, and where their common dimensions go in the result."""

    entries: tuple[tuple[int, ProgramValue], ...]  # the first dimension that an index covers, and the index
    covered: frozenset[int]
    rank: int  # of the indices as broadcast
    start: int  # of their dimensions in the result

    @classmethod
    def of(cls, indices: Sequence[ProgramValue | None]) -> Indexing:
        entries: list[tuple[int, ProgramValue]] = []
        covered: list[int] = []
        position = 0
        for index in indices:
            width = len(index.shape) if index is not None and _is_mask(index) else 1
            if index is not None:
                entries.append((position, index))
                covered += range(position, position + width)
            position += width
        together = covered == list(range(covered[0], covered[0] + len(covered))) if covered else True
        masks = any(_is_mask(index) for _, index in entries)
        rank = 1 if masks else max((len(index.shape) for _, index in entries), default=0)
        return cls(tuple(entries), frozenset(covered), rank, covered[0] if covered and together else 0)

    @property
    def mask(self) -> tuple[int, ProgramValue] | None:
        """The mask, where it is the only index."""
        return self.entries[0] if len(self.entries) == 1 and _is_mask(self.entries[0][1]) else None

    @property
    def mixed(self) -> bool:
        """Whether a mask stands beside other indices."""
        return len(self.entries) > 1 and any(_is_mask(index) for _, index in self.entries)

    def beside(self, dim: int) -> int:
        """Where a dimension that is not indexed goes in the result."""
        left = dim - sum(place < dim for place in self.covered)
        return left + (self.rank if left >= self.start else 0)

    def rank_of(self, source: ProgramValue) -> int:
        """The number of dimensions of the result."""
        return len(source.shape) - len(self.covered) + self.rank


def _first_of(mask: ProgramValue) -> bool:
    """Whether a mask's samples come first, so that what it selects stays in their order."""
    return all(size == 1 for size in mask.shape[: mask.dim])


def _selected(indexing: Indexing, source: ProgramValue) -> Placement:
    """``x[mask]``."""
    assert indexing.mask is not None
    start, mask = indexing.mask
    if mask.kind not in ROWLIKE and source.kind in (Kind.ROWS, Kind.INDEX):
        inside = start <= source.dim < start + len(mask.shape)
        return OPAQUE if inside else Placement(source.kind, indexing.beside(source.dim))
    if mask.kind is Kind.ROWS and source.kind in (Kind.ROWS, Kind.INDEX) and source.dim == start + mask.dim:
        if _first_of(mask):
            return Placement(source.kind, start)
        return Placement(Kind.BAG, start) if source.kind is Kind.ROWS else OPAQUE
    return OPAQUE


def _picked(app: Application, indexing: Indexing, source: ProgramValue) -> Placement:
    """``x[i, j]`` with whole numbers."""
    moving = [index for _, index in indexing.entries if index.kind in ROWLIKE]
    if source.kind not in ROWLIKE:  # a table that all share
        placed = _aligned(app, moving, indexing.rank)
        if placed is None or not (placed.kind in ORDERED or (placed.kind is Kind.BAG and len(moving) == 1)):
            return OPAQUE
        return Placement(placed.kind, indexing.start + placed.dim, placed.blocks)
    if source.kind not in (*ORDERED, Kind.INDEX):
        return OPAQUE
    chosen = [index for start, index in indexing.entries if start == source.dim]
    if not chosen:  # the same places of every sample
        return OPAQUE if moving else _kept(source, indexing.beside(source.dim))
    others = [index for index in moving if index is not chosen[0]]
    if (
        not _point_at(app, chosen[0], source)
        or source.kind is Kind.BLOCKS
        or any(index.kind is not Kind.ROWS for index in others)
    ):
        return OPAQUE
    dims = {index.dim + indexing.rank - len(index.shape) for index in moving}
    lengths = {app.known.length(index) for index in moving}
    if len(dims) != 1 or len(lengths) != 1:
        return OPAQUE
    return Placement(source.kind, indexing.start + dims.pop())  # places of its own in each sample


def pick(app: Application) -> Sequence[Placement]:
    """``x[…]`` with tensors as indices."""
    source = app.value("self")
    indexing = Indexing.of(app.listed("indices"))
    if source is None or indexing.mixed or not indexing.entries:
        return [OPAQUE]
    if source.kind is Kind.INDEX:
        _span(app, source)
    return [_selected(indexing, source) if indexing.mask else _picked(app, indexing, source)]


def put(app: Application) -> Sequence[Placement]:
    """``x[…] = y``: into each sample, or, adding, into a tensor of zeros that all share."""
    target, source = app.value("self"), app.value("values")
    indexing = Indexing.of(app.listed("indices"))
    if target is None or indexing.mixed or not indexing.entries:
        return [OPAQUE]
    if target.kind not in ROWLIKE:
        return [_put_into_zeros(app, indexing, target, source)]
    if target.kind is not Kind.ROWS:
        return [OPAQUE]
    read = _selected(indexing, target) if indexing.mask else _picked(app, indexing, target)
    if read.kind is not Kind.ROWS:  # a mask that mixes the samples' order still takes one number for all
        ours = indexing.mask is not None and read.kind is Kind.BAG and source is not None and _one(source)
        return [Placement(Kind.ROWS, target.dim) if ours else OPAQUE]
    if source is None or source.kind not in ROWLIKE:
        fits = source is None or not source.varying
        return [Placement(Kind.ROWS, target.dim) if fits else OPAQUE]
    fits = source.kind is Kind.ROWS and source.dim + indexing.rank_of(target) - len(source.shape) == read.dim
    return [Placement(Kind.ROWS, target.dim) if fits else OPAQUE]


def _one(value: ProgramValue) -> bool:
    return value.kind not in ROWLIKE and all(size == 1 for size in value.shape)


def _put_into_zeros(
    app: Application, indexing: Indexing, target: ProgramValue, source: ProgramValue | None
) -> Placement:
    moving = [index for _, index in indexing.entries if index.kind in ROWLIKE]
    along = _aligned(app, moving, indexing.rank) if moving and not indexing.mask else None
    if not app.arguments.get("accumulate") or target.index not in app.known.zeros or along is None:
        return OPAQUE
    if along.kind not in ORDERED:
        return OPAQUE
    if source is None or source.kind not in ROWLIKE:
        return Placement(Kind.SUM)
    placed = _aligned(app, [source], indexing.rank_of(target))
    return Placement(Kind.SUM) if placed == Placement(along.kind, indexing.start + along.dim, along.blocks) else OPAQUE


def gather(app: Application) -> Sequence[Placement]:
    """Elements picked along a dimension, each sample its own."""
    source, index = app.value("self"), app.value("index")
    assert source is not None
    assert index is not None
    (dim,) = app.dims(max(len(source.shape), 1))
    if source.kind not in ROWLIKE:
        return [Placement(Kind.ROWS, index.dim) if index.kind is Kind.ROWS else OPAQUE]
    if source.kind not in (Kind.ROWS, Kind.INDEX):
        return [OPAQUE]
    if source.dim == dim:  # samples picked by their positions
        return [Placement(source.kind, index.dim) if _point_at(app, index, source) else OPAQUE]
    ours = index.kind is Kind.ROWS and index.dim == source.dim
    return [Placement(source.kind, source.dim) if ours else OPAQUE]


def select_rows(app: Application) -> Sequence[Placement]:
    """``index_select``: along one dimension, the same places for all that lies beside it."""
    source, index = app.value("self"), app.value("index")
    assert source is not None
    assert index is not None
    (dim,) = app.dims(max(len(source.shape), 1))
    if source.kind not in ROWLIKE:
        return [Placement(index.kind, dim) if index.kind in (Kind.ROWS, Kind.BAG) else OPAQUE]
    if source.kind not in (Kind.ROWS, Kind.INDEX):
        return [OPAQUE]
    if source.dim == dim:
        return [Placement(source.kind, dim) if _point_at(app, index, source) else OPAQUE]
    return [Placement(source.kind, source.dim) if index.kind not in ROWLIKE else OPAQUE]


def take(app: Application) -> Sequence[Placement]:
    """Elements of a shared table by number."""
    source, index = app.value("self"), app.value("index")
    shared = source is not None and source.kind not in ROWLIKE and index is not None and index.kind is Kind.ROWS
    return [Placement(Kind.ROWS, index.dim) if shared and index is not None else OPAQUE]


def select_where(app: Application) -> Sequence[Placement]:
    """``masked_select``: the elements where a mask is true, one after another."""
    source, mask = app.value("self"), app.value("mask")
    assert source is not None
    assert mask is not None
    if len(app.rowlike) == 2 and {v.kind for v in app.rowlike} == {Kind.ROWS}:
        rank = max(len(source.shape), len(mask.shape))
        placed = _aligned(app, [source, mask], rank)
        if placed is not None:
            return [Placement(Kind.ROWS if placed.dim == 0 else Kind.BAG, 0)]
    return [OPAQUE]


def places(app: Application) -> Sequence[Placement]:
    """``nonzero``: the positions of samples; with more dimensions, a mixture of positions and places."""
    value = app.first
    app.known.spans.update(dict.fromkeys(app.op.outputs, app.known.length(value)))
    return [Placement(Kind.INDEX, 0) if value.kind is Kind.ROWS and len(value.shape) == 1 else OPAQUE]


def _adds(app: Application) -> bool:
    name = str(app.op.func._schema.name)
    reduce = app.arguments.get("reduce")
    return "add" in name or reduce in ("sum", "add")


def scatter(app: Application) -> Sequence[Placement]:
    """Elements put along a dimension: within each sample, or, adding, into zeros that all share.

    A maximum that counts what was there before is the same however often that is counted.
    """
    target, index, source = app.value("self"), app.value("index"), app.value("src")
    assert target is not None
    assert index is not None
    (dim,) = app.dims(max(len(target.shape), 1))
    sources = [value for value in (index, source) if value is not None]
    if any(value.kind is not Kind.ROWS for value in sources if value.kind in ROWLIKE):
        return [OPAQUE]
    if target.kind in ROWLIKE:
        ours = target.kind is Kind.ROWS and target.dim != dim
        ours = ours and all(v.kind is Kind.ROWS and v.dim == target.dim for v in sources)
        return [Placement(Kind.ROWS, target.dim) if ours else OPAQUE]
    if index.kind is not Kind.ROWS or (source is not None and (source.kind, source.dim) != (Kind.ROWS, index.dim)):
        return [OPAQUE]
    if _adds(app):
        zero = target.index in app.known.zeros
        return [Placement(Kind.SUM) if zero else OPAQUE]
    reduce, counts_itself = app.arguments.get("reduce"), app.arguments.get("include_self", False)
    if reduce in ("amax", "amin") and counts_itself:
        return [Placement(Kind.MAX if reduce == "amax" else Kind.MIN)]
    return [OPAQUE]


def add_at(app: Application) -> Sequence[Placement]:
    """``index_add``, ``index_copy``, ``index_fill``: whole slices put along a dimension."""
    target, index, source = app.value("self"), app.value("index"), app.value("source", "value")
    assert target is not None
    assert index is not None
    (dim,) = app.dims(max(len(target.shape), 1))
    if target.kind in ROWLIKE:
        ours = target.kind is Kind.ROWS and target.dim != dim and index.kind not in ROWLIKE
        ours = ours and (
            source is None or source.kind not in ROWLIKE or (source.kind, source.dim) == (Kind.ROWS, target.dim)
        )
        return [Placement(Kind.ROWS, target.dim) if ours else OPAQUE]
    adds = "index_add" in str(app.op.func._schema.name) and target.index in app.known.zeros
    ours = index.kind is Kind.ROWS and source is not None and (source.kind, source.dim) == (Kind.ROWS, dim)
    return [Placement(Kind.SUM) if adds and ours else OPAQUE]


def among(app: Application) -> Sequence[Placement]:
    """Whether, or where, an element stands among others that all share: ``isin``, ``bucketize``, ``searchsorted``."""
    element = app.value("elements", "self")
    others = app.value("test_elements", "boundaries", "sorted_sequence")
    if element is None or element.kind not in (Kind.ROWS, Kind.BAG):
        return [OPAQUE]
    if others is None or others.kind not in ROWLIKE:
        one_row = others is None or len(others.shape) <= 1 or app.value("sorted_sequence") is None
        return [Placement(element.kind, element.dim) if one_row else OPAQUE]
    ours = app.value("sorted_sequence") is not None and others.kind is element.kind is Kind.ROWS
    ours = ours and others.dim == element.dim and element.dim < len(others.shape) - 1
    return [Placement(Kind.ROWS, element.dim) if ours else OPAQUE]


# ------------------------------------------------------------------ the table

_MOVEMENTS = """view _unsafe_view reshape _reshape_alias unsqueeze squeeze permute transpose t expand select slice
narrow diagonal unbind split split_with_sizes unsafe_split chunk tensor_split cat stack flip roll rot90
unfold repeat tile movedim swapaxes swapdims mT mH numpy_T adjoint constant_pad_nd tril triu diag_embed
select_scatter slice_scatter diagonal_scatter pixel_shuffle pixel_unshuffle channel_shuffle
reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
broadcast_in_dim rev collapse collapse_view split_dim expand_copy permute_copy view_copy unsqueeze_copy
squeeze_copy select_copy slice_copy transpose_copy t_copy diag linalg_diagonal"""

_CONSTANTS = """zeros ones full empty new_zeros new_ones new_full new_empty zeros_like ones_like full_like empty_like
empty_strided new_empty_strided zero scalar_tensor"""

_SAME = """clone detach alias lift lift_fresh lift_fresh_copy contiguous _to_copy to convert_element_type view_of
resolve_conj view_as_real view_as_complex real imag"""

_POINTWISE = """copy fill where masked_fill _conj conj_physical polar complex log_sigmoid_forward
clamp clamp_min clamp_max nan_to_num addcmul addcdiv lerp rrelu_with_noise _prelu_kernel frexp native_dropout
xlogy special_xlog1py _conj_physical resolve_neg _neg_view hardtanh"""

_WITHIN = """prod argmax argmin cumsum cumprod cummax cummin logcumsumexp _logcumsumexp median nanmedian mode kthvalue
topk _softmax _log_softmax softmax log_softmax logsumexp var std var_mean std_mean mean nanmean nansum norm
linalg_vector_norm count_nonzero aminmax _fft_r2c _fft_c2c _fft_c2r glu _safe_softmax argsort nanquantile
quantile"""

_MATRICES = """linalg_inv_ex linalg_det _linalg_det linalg_cholesky_ex linalg_qr linalg_eigh _linalg_eigh
linalg_eigvalsh linalg_eig linalg_eigvals _linalg_eigvals linalg_svd _linalg_svd _linalg_slogdet
linalg_lu linalg_lu_factor_ex linalg_lu_solve lu_unpack linalg_ldl_factor_ex linalg_ldl_solve linalg_lstsq
linalg_matrix_exp linalg_pinv linalg_solve_triangular cholesky_solve cholesky_inverse triangular_solve"""

#: How many of the last dimensions an operator works on.
_LAST = {
    1: "avg_pool1d max_pool1d adaptive_avg_pool1d adaptive_max_pool1d upsample_nearest1d upsample_linear1d",
    2: """avg_pool2d max_pool2d_with_indices adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d
upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa""",
    3: """avg_pool3d max_pool3d_with_indices adaptive_avg_pool3d _adaptive_avg_pool3d upsample_nearest3d
upsample_trilinear3d""",
}

RULES: dict[str, Rule] = {
    **dict.fromkeys(_MOVEMENTS.split(), movement),
    **dict.fromkeys(_CONSTANTS.split(), constant),
    **dict.fromkeys(_SAME.split(), same),
    **dict.fromkeys(_POINTWISE.split(), pointwise),
    **dict.fromkeys(_WITHIN.split(), within),
    **{name: _last(count) for count, names in _LAST.items() for name in names.split()},
    **dict.fromkeys(_MATRICES.split(), matrices),
    "as_strided": strided,
    "renorm": renormed,
    **dict.fromkeys("trace eye linspace logspace masked_scatter put index_reduce".split(), by_place),
    **dict.fromkeys(
        "mse_loss smooth_l1_loss huber_loss soft_margin_loss binary_cross_entropy l1_loss kl_div".split(),
        pointwise_loss,
    ),
    **dict.fromkeys(
        """nll_loss nll_loss_nd nll_loss_forward nll_loss2d_forward multi_margin_loss
multilabel_margin_loss_forward cross_entropy_loss""".split(),
        loss_of_each,
    ),
    "arange": positions,
    "sum": add,
    "amax": largest,
    "max": largest,
    "amin": smallest,
    "min": smallest,
    "any": either,
    "_is_any_true": either,
    "all": every,
    "_is_all_true": every,
    "sort": order,
    "msort": order,
    "_unique2": distinct,
    "_unique": distinct,
    "unique_dim": by_place,
    "unique_consecutive": by_place,
    "histc": histogram,
    "bincount": count_each,
    "mm": _product("ik", "kj", "ij"),
    "addmm": _product("ik", "kj", "ij"),
    "bmm": _product("bik", "bkj", "bij"),
    "baddbmm": _product("bik", "bkj", "bij"),
    "mv": _product("ik", "k", "i"),
    "addmv": _product("ik", "k", "i"),
    "dot": _product("k", "k", ""),
    "vdot": _product("k", "k", ""),
    "matmul": matmul,
    "convolution": convolution,
    "_convolution": convolution,
    "mkldnn_convolution": convolution,
    "embedding": lookup,
    "native_layer_norm": layer_norm,
    "native_group_norm": _batched(),
    "_native_batch_norm_legit_no_training": _batched(),
    "im2col": _batched(4),
    "col2im": _batched(3),
    "index": pick,
    "_unsafe_index": pick,
    "index_put": put,
    "_unsafe_index_put": put,
    "gather": gather,
    "index_select": select_rows,
    "take": take,
    "masked_select": select_where,
    "nonzero": places,
    "scatter": scatter,
    "scatter_add": scatter,
    "scatter_reduce": scatter,
    "index_add": add_at,
    "index_copy": add_at,
    "index_fill": add_at,
    "isin": among,
    "bucketize": among,
    "searchsorted": among,
}


def arguments_follow(op: Op) -> bool:
    """Whether a size among an operator's arguments follows the number of samples."""
    return any(isinstance(leaf, Size) for leaf in leaves((op.args, op.kwargs)))
