"""Try an operator apart from the user's data: on a batch of made-up samples, and on the pieces of it.

Where an operator only moves elements, every element carries a label of its own, and the labels say where each output
element comes from: a fact of shapes and arguments.  Where no rule covers an operator, generic values decide: distinct,
unsorted, in its domain.  The user's first rows, which may be all alike, decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from batchproof.derive.kind import ROWLIKE, Kind
from batchproof.derive.placement import OPAQUE, Application, Placement
from batchproof.derive.program import ProgramValue
from batchproof.derive.recording import WIDE, Free, Ref, Size, call, leaves
from batchproof.ground.tensors import close

#: The made-up batch and its pieces. Seven is prime, so that no reshape fits by accident; one piece is of one sample.
PIECES = (2, 1, 4)
#: Lengths of selections in the pieces, in turn: another one for each.
_SELECTED = ((3, 1, 2), (1, 4, 2), (2, 3, 5))

#: How the numbers of an attempt are drawn: any, between 0 and 1 (probabilities), positive, beyond any threshold.
_DOMAINS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    lambda noise: noise,
    lambda noise: 0.05 + 0.9 * torch.sigmoid(noise),
    lambda noise: noise.abs() + 0.5,
    lambda noise: 1e9 * noise,
)

TOLERANCE = 1e-9
#: Blocks of samples are looked for up to so many: SSIM joins five pictures of each sample in one convolution.
MOST_BLOCKS = 32

Fill = Callable[[ProgramValue, tuple[int, ...]], torch.Tensor]


class Untriable(Exception):
    """The operator cannot be tried on made-up samples."""


@dataclass
class _Batch:
    """The tensors of a whole batch or of a piece, by value, with the lengths that go with it."""

    tensors: dict[int, torch.Tensor]
    n: int
    lengths: dict[tuple[int, int], int]

    def look(self, leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return self.tensors[leaf.index]
        if isinstance(leaf, Free):
            raise Untriable
        return leaf.at(self.n, self.lengths)


def moved(app: Application) -> list[Placement]:
    """The placements of an operator that only moves elements."""
    kinds = {value.kind for value in app.rowlike}
    kinds = {Kind.ROWS} if kinds <= {Kind.ROWS, Kind.BLOCKS} else kinds
    if len(kinds) > 1:
        return app.all(OPAQUE)
    kind = kinds.pop()
    scrambled = kind in (Kind.BAG, Kind.SET)
    outputs = None
    for selected in (_SELECTED, [tuple(count * ratio for count in PIECES) for ratio in _ratios(app)]):
        with suppress(Exception):  # sizes that depend on the data, say: then nothing is known
            outputs = outputs or _run(app, _labels, scrambled, selected)
    if outputs is None:
        return app.all(OPAQUE)
    return [_moved(kind, scrambled, value, *output) for value, output in zip(app.outputs, outputs, strict=True)]


def _ratios(app: Application) -> list[int]:
    """How many elements of a selection each sample would have, for a selection to take the shape that it is given.

    ``x[~one_hot].view(n, -1)`` selects the same number from each sample. Where a batch does not, the view fails there.
    """
    value = app.outputs[0]
    rows = [size for size in value.shape if isinstance(size, Size) and size.of is None]
    others = [size for size in value.shape if isinstance(size, int)]
    return [rows[0].scale * prod(others)] if len(rows) == 1 and not rows[0].offset else []


def tried(app: Application, seen: Callable[[int], torch.Tensor]) -> list[Placement]:
    """The placements of an operator that no rule covers: rows, if it is so on generic values of every attempt.

    Args:
        app: the operator at its place.
        seen: the recorded tensor of a value; its whole numbers show which are in the operator's domain.
    """
    if not app.rowlike or any(value.kind is not Kind.ROWS for value in app.rowlike):
        return app.all(OPAQUE)
    generator = torch.Generator().manual_seed(7)
    found: list[list[Placement]] = []
    for domain in (*_DOMAINS, *_DOMAINS):

        def fill(value: ProgramValue, shape: tuple[int, ...], domain: Any = domain) -> torch.Tensor:
            return _generic(value, shape, seen(value.index), domain, generator)

        try:
            outputs = _run(app, fill, False, _SELECTED)
        except Exception:  # noqa: BLE001 - outside of the operator's domain: this attempt says nothing
            continue
        if any(not bool(whole.isfinite().any()) for whole, _ in outputs if whole.numel()):
            continue
        found.append([_joined(value, *output) for value, output in zip(app.outputs, outputs, strict=True)])
    if len(found) < 2:
        return app.all(OPAQUE)
    return [column[0] if len(set(column)) == 1 else OPAQUE for column in zip(*found, strict=True)]


def _run(
    app: Application, fill: Fill, scrambled: bool, selected: Sequence[tuple[int, ...]]
) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Each output on the whole batch and on its pieces; selections have these lengths in the pieces, in turn."""
    whole, pieces = _batches(app, fill, scrambled, selected)
    results = [_outputs(app, batch) for batch in (whole, *pieces)]
    return [(column[0], list(column[1:])) for column in zip(*results, strict=True)]


def _outputs(app: Application, batch: _Batch) -> list[torch.Tensor]:
    with torch.no_grad():
        result = call(app.op.func, app.op.args, app.op.kwargs, batch.look)
    made = [leaf for leaf in leaves(result) if isinstance(leaf, torch.Tensor)]
    if len(made) != len(app.outputs):
        raise Untriable
    return made


def _batches(
    app: Application, fill: Fill, scrambled: bool, selected: Sequence[tuple[int, ...]]
) -> tuple[_Batch, list[_Batch]]:
    sizes = [size for value in app.tensors for size in value.shape if isinstance(size, Size)]
    sizes += [leaf for leaf in leaves((app.op.args, app.op.kwargs)) if isinstance(leaf, Size)]
    keys = list(dict.fromkeys(size.of for size in sizes if size.of is not None))
    picked = {key: selected[number % len(selected)] for number, key in enumerate(keys)}
    whole = _Batch({}, sum(PIECES), {key: sum(parts) for key, parts in picked.items()})
    pieces = [_Batch({}, n, {key: parts[number] for key, parts in picked.items()}) for number, n in enumerate(PIECES)]
    generator = torch.Generator().manual_seed(3)
    for value in {value.index: value for value in app.tensors}.values():
        made = fill(value, _shape(value, whole))
        whole.tensors[value.index] = made
        lengths = [_length(value, piece) for piece in pieces] if value.kind in ROWLIKE else []
        cut = _cut(made, value.dim, value.blocks, lengths) if lengths else [made] * len(pieces)
        for piece, tensor in zip(pieces, cut, strict=True):
            piece.tensors[value.index] = tensor
        if scrambled and value.kind in ROWLIKE:
            whole.tensors[value.index] = _scrambled(made, value.dim, generator)
    return whole, pieces


def _cut(whole: torch.Tensor, dim: int, blocks: int, lengths: Sequence[int]) -> list[torch.Tensor]:
    """The pieces of a batch whose samples stand in blocks, each piece with its share of every block."""
    if blocks == 1:  # along the first dimension these are views: large samples are not copied
        return [part.contiguous() for part in whole.split_with_sizes(list(lengths), dim)]
    sizes = [length // blocks for length in lengths]
    shares = [block.split_with_sizes(sizes, dim) for block in whole.chunk(blocks, dim)]
    return [torch.cat(share, dim) for share in zip(*shares, strict=True)]


def _shape(value: ProgramValue, batch: _Batch) -> tuple[int, ...]:
    if value.kind not in ROWLIKE and value.varying:
        raise Untriable
    return tuple(size.at(batch.n, batch.lengths) if isinstance(size, Size) else size for size in value.shape)


def _length(value: ProgramValue, batch: _Batch) -> int:
    size = value.shape[value.dim]
    if not isinstance(size, Size) or size.offset:
        raise Untriable
    return size.at(batch.n, batch.lengths)


def _labels(value: ProgramValue, shape: tuple[int, ...]) -> torch.Tensor:
    """A number of its own for every element; halves, so that no constant among the arguments is one of them."""
    count = torch.Size(shape).numel()
    return torch.arange(count, dtype=torch.float64).add_(0.5 + count * value.index).reshape(shape)


def _scrambled(x: torch.Tensor, dim: int, generator: torch.Generator) -> torch.Tensor:
    """Every line along a dimension in another order: what is known of a bag does not depend on it."""
    order = torch.rand(x.shape, generator=generator, dtype=torch.float64).argsort(dim)
    scrambled: torch.Tensor = x.gather(dim, order)
    return scrambled


def _generic(
    value: ProgramValue, shape: tuple[int, ...], seen: torch.Tensor, domain: Any, generator: torch.Generator
) -> torch.Tensor:
    """Values of the recorded dtype, drawn anew."""
    dtype = WIDE.get(value.dtype, value.dtype)
    if dtype is torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if dtype.is_floating_point or dtype.is_complex:
        drawn: torch.Tensor = domain(torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
        return drawn if not dtype.is_complex else torch.complex(drawn.real, 0.3 * drawn.real)
    low, high = (int(seen.min()), int(seen.max())) if seen.numel() else (0, 1)
    drawn = torch.randint(min(low, 0), max(high, 1) + 1, shape, generator=generator)
    return drawn.to(dtype)


def _moved(
    kind: Kind, scrambled: bool, value: ProgramValue, whole: torch.Tensor, pieces: Sequence[torch.Tensor]
) -> Placement:
    for dim in value.varying:
        if not _fit(pieces, dim, whole):
            continue
        parts = whole.split_with_sizes([piece.shape[dim] for piece in pieces], dim)
        if not scrambled and all(map(torch.equal, parts, pieces)):
            return Placement(kind, dim)
        blocks = _blocks(value, dim, whole, pieces) if kind is Kind.ROWS else None
        if blocks is not None:
            return Placement(Kind.BLOCKS, dim, blocks)
        if kind is not Kind.INDEX and torch.equal(
            torch.cat(list(pieces), dim).sort(dim).values, whole.sort(dim).values
        ):
            return Placement(Kind.BAG if kind is Kind.ROWS else kind, dim)
    return OPAQUE


def _blocks(value: ProgramValue, dim: int, whole: torch.Tensor, pieces: Sequence[torch.Tensor]) -> int | None:
    """How many blocks of samples stand one after another along a dimension; None where there are none such."""
    size = value.shape[dim]
    scale = size.scale if isinstance(size, Size) else 1
    for blocks in (count for count in range(2, min(scale, MOST_BLOCKS) + 1) if scale % count == 0):
        shares = zip(*(piece.chunk(blocks, dim) for piece in pieces), strict=True)
        if torch.equal(torch.cat([torch.cat(share, dim) for share in shares], dim), whole):
            return blocks
    return None


def _joined(value: ProgramValue, whole: torch.Tensor, pieces: Sequence[torch.Tensor]) -> Placement:
    for dim in value.varying:
        if _fit(pieces, dim, whole) and _close(torch.cat(list(pieces), dim), whole):
            return Placement(Kind.ROWS, dim)
    return OPAQUE


def _fit(pieces: Sequence[torch.Tensor], dim: int, whole: torch.Tensor) -> bool:
    """Whether pieces joined along a dimension have the whole's shape."""
    rest = [[size for d, size in enumerate(piece.shape) if d != dim] for piece in (*pieces, whole)]
    return all(shape == rest[0] for shape in rest) and sum(piece.shape[dim] for piece in pieces) == whole.shape[dim]


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not (a.dtype.is_floating_point or a.dtype.is_complex):
        return torch.equal(a, b)
    return close(a, b, TOLERANCE, TOLERANCE)
