"""The grid: every call in the table, on samples of every dtype, behind first samples of every kind.

What a call gives is held against the samples: what lies along them is weighted by a number of each sample and added
up, so that an exchange of samples shows. A cell is named by its place in `cells()`.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from random import Random
from typing import Any

import torch
from torch import Tensor

from .data import whole_head, wide_head
from .operators import called, calls, outputs, samples
from .program import Written
from .trial import Columns, End, end_of

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.bfloat16,
        torch.int64,
        torch.int8,
        torch.bool,
        torch.complex128,
    )
}
HEADS = ("alike", "zero", "one", "two values", "sorted", "generic")
ROWS, HEAD = 100, 64
#: (partition, way, state): against the function; the same with all samples kept; and in another order.
STREAMS = (("equal", "update", "auto"), ("equal", "update", "rows"), ("ragged", "permuted", "auto"))

HEADING = """\
import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_leaves

i = torch.tensor([0, 2])


def leaves(result):
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def held(value, r, dim):
    value = value if value.is_complex() else value.double()
    value = torch.where(value.isfinite(), value, 0.3)
    if dim == "all":
        return value
    if dim == "some":
        return torch.stack([value.sum(), value.square().sum()])
    return torch.tensordot(r.to(value.dtype), value, ([0], [dim]))


"""


@dataclass(frozen=True)
class Samples:
    """Columns whose first rows are of one kind."""

    shape: str
    kept: torch.dtype
    kind: str
    seed: int
    rows: int = ROWS

    @property
    def dtype(self) -> torch.dtype:
        """How many digits results have: of whole numbers torch makes float32."""
        if self.kept.is_complex:
            return torch.float64
        return self.kept if self.kept.is_floating_point else torch.float32

    def columns(self) -> Columns:
        made = samples(self.shape, self.kept, self.rows, self.seed)
        made["r"] = torch.randn(self.rows, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)
        for name, column in made.items():
            column[:HEAD] = self._head(name, column[:HEAD])
        return made

    def _head(self, name: str, rows: Tensor) -> Tensor:
        if rows.is_complex():
            return torch.complex(wide_head(rows.real, self.kind), wide_head(rows.imag, self.kind))
        if rows.is_floating_point():
            return wide_head(rows.double(), self.kind).to(rows.dtype)
        most = 2 if rows.dtype is torch.bool else 4
        return whole_head(rows.long(), self.kind, most).to(rows.dtype)


@dataclass(frozen=True)
class Cell(Written):
    """One call on samples of one dtype behind first samples of one kind."""

    text: str
    data: Samples
    dims: tuple[int | str, ...]
    seed: int

    def source(self) -> str:
        w = "torch.arange(16, dtype=torch.float64).view(4, 4) / 8 - 1"
        body = [f"w = ({w}).to(s.dtype)", "c = w[1]", f"made = leaves({self.text})"]
        body += [f"return [held(v, r, dim) for v, dim in zip(made, {list(self.dims)!r})]"]
        return f"{HEADING}def f(s, o, k, b, t, r):\n" + "".join(f"    {line}\n" for line in body)

    def call(self, columns: Columns) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(columns[name].clone() for name in "sokbtr"), {}

    def batch_dim(self) -> int:
        return 0

    def script(self) -> str:
        return f"{self.source()}\n# {self.data}\n"


@cache
def cells() -> tuple[tuple[tuple[str, str], str, str], ...]:
    """((shape of a sample, text), dtype, kind of the first samples)."""
    return tuple(product(calls(), DTYPES, HEADS))


def cell(number: int) -> Cell:
    (shape, text), dtype, kind = cells()[number]
    return Cell(text, Samples(shape, DTYPES[dtype], kind, number), along(text, shape, DTYPES[dtype]), number)


@cache
def along(text: str, shape: str, dtype: torch.dtype) -> tuple[int | str, ...]:
    """For each output the dimension that is as long as the samples, 'all' of one shape, or 'some' of them.

    Empty for what is no function of samples of this dtype.
    """
    if outputs(text, shape, dtype) is None:
        return ()
    few, many = (called(text, samples(shape, dtype, rows, 2)) for rows in (9, 14))
    return tuple(_along(a, b) for a, b in zip(few, many, strict=True))


def _along(few: Tensor, many: Tensor) -> int | str:
    if few.shape == many.shape:
        return "all"
    moving = [dim for dim, sizes in enumerate(zip(few.shape, many.shape)) if sizes == (9, 14)]
    others = [a for dim, a in enumerate(few.shape) if dim not in moving] == [
        b for dim, b in enumerate(many.shape) if dim not in moving
    ]
    return moving[0] if len(moving) == 1 and others and few.ndim == many.ndim else "some"


def examined(this: Cell) -> dict[str, Any]:
    """How every stream of a cell ends."""
    ends: list[End] = []
    if this.dims:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ends = [end_of(this, kind, way, Random(this.seed), state) for kind, way, state in STREAMS]
        this.forget()
    found = [
        {"seed": this.seed, **asdict(end), "state": state, "script": this.script()}
        for end, (_, _, state) in zip(ends, STREAMS)
        if end.fault
    ]
    return {"seed": this.seed, "head": this.data.kind, "ends": [asdict(end) for end in ends], "found": found[:1]}
