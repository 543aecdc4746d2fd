"""Samples whose first rows mislead: the columns that programs read, and what is peculiar about their heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

#: Each column's kind in the grammar, and the shape of one sample.
COLUMNS = {"x": "row", "y": "row", "z": "mat", "u": "cube", "l": "label", "h": "small", "f": "flag", "c": "comp"}
SHAPES = {"row": (), "mat": (4,), "cube": (2, 3), "label": (), "small": (), "flag": (), "comp": ()}

#: Heads whose rows are all the same: on them what mixes rows looks as if it did not.
SAME = ("zero", "one", "alike", "repeated")
HEADS = (
    *SAME, *SAME, "generic", "generic", "two values", "sorted", "reversed", "ordered", "row by row", "pairs",
     "whole", "positive", "tiny", "1e6", "1e30", "last apart",
)  # fmt: skip
LATE = ("", "", "", "", "nan", "inf", "-inf", "class", "huge", "drift")
HEAD_ROWS = (64, 64, 64, 70, 40, 32, 33, 8, 2, 1)
FLOATS = (torch.float64,) * 5 + (torch.float32,) * 3 + (torch.float16, torch.bfloat16)
NARROW = (torch.int8, torch.uint8, torch.int16, torch.int32)


@dataclass(frozen=True)
class Data:
    """How samples are drawn: so many rows, the first `head` of them peculiar, and what comes only later."""

    rows: int
    head: int
    kind: str
    where: str  # the columns that have such a head
    late: str
    dtype: torch.dtype
    narrow: torch.dtype
    seed: int

    def columns(self) -> dict[str, Tensor]:
        made = {}
        for position, (name, kind) in enumerate(COLUMNS.items()):
            generator = torch.Generator().manual_seed(self.seed * 31 + position)
            made[name] = self._column(name, kind, generator)
        return made

    def _column(self, name: str, kind: str, generator: torch.Generator) -> Tensor:
        shape = (self.rows, *SHAPES[kind])
        first = min(self.head, self.rows)
        peculiar = name in self.where
        if kind == "comp":
            real, imaginary = (self._floats(shape, first, peculiar, generator) for _ in range(2))
            wide = self.dtype is torch.float64
            return torch.complex(real, imaginary).to(torch.complex128 if wide else torch.complex64)
        if kind in ("row", "mat", "cube"):
            return self._floats(shape, first, peculiar, generator).to(self.dtype)
        most = {"label": 4, "small": 100 if self.seed % 2 else 6, "flag": 2}[kind]
        values = torch.randint(0, most, shape, generator=generator)
        if peculiar:
            values[:first] = whole_head(values[:first], self.kind, most)
        if self.late == "class" and kind == "label":
            values[:first] %= 3
        return values.to({"label": torch.int64, "small": self.narrow, "flag": torch.bool}[kind])

    def _floats(self, shape: tuple[int, ...], first: int, peculiar: bool, generator: torch.Generator) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if peculiar:
            values[:first] = wide_head(values[:first], self.kind)
        if first < self.rows and self.late in ("nan", "inf", "-inf", "huge"):
            place = first + int(torch.randint(0, self.rows - first, (), generator=generator))
            values[place] = float(self.late) if self.late != "huge" else 1e4
        if self.late == "drift":
            values += torch.linspace(0, 5, self.rows, dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 1))
        return values

    def shorter(self, rows: int) -> Data:
        return replace(self, rows=rows, head=min(self.head, rows))


def wide_head(rows: Tensor, kind: str) -> Tensor:
    simple = {"zero": rows * 0, "one": rows * 0 + 1, "alike": rows * 0 + 0.7, "tiny": rows * 1e-6}
    if kind in simple:
        return simple[kind]
    if kind in ("1e6", "1e30"):
        return rows * float(kind)
    if kind == "two values":
        return (rows > 0).double()
    if kind == "sorted":
        return rows.sort(0).values
    if kind == "reversed":
        return rows.sort(0, descending=True).values
    if kind == "ordered":
        return torch.arange(len(rows), dtype=torch.float64).reshape(-1, *[1] * (rows.ndim - 1)).expand_as(rows)
    if kind == "row by row":
        return rows.reshape(-1).sort().values.reshape(rows.shape)
    if kind == "repeated":
        return rows[:1].expand_as(rows)
    if kind == "pairs":
        return rows[: (len(rows) + 1) // 2].repeat_interleave(2, 0)[: len(rows)]
    if kind == "whole":
        return (rows * 2).round()
    if kind == "positive":
        return rows.abs()
    return torch.cat([rows[:1].expand_as(rows[1:]), rows[-1:]]) if kind == "last apart" else rows


def whole_head(rows: Tensor, kind: str, most: int) -> Tensor:
    if kind in ("generic", "tiny", "1e6", "1e30", "whole", "positive"):
        return rows
    if kind == "one":
        return rows * 0 + 1
    if kind == "alike":
        return rows * 0 + most - 1
    if kind == "zero":
        return rows * 0
    return wide_head(rows.double(), kind).long() % most


def draw(rng: Random) -> Data:
    rows = rng.choice((60, 80, 96, 120, 150, 200))
    where = rng.choice(("xyzulhfc", "xyzulhfc", "xyzulhfc", "xyzu", "l", "lhf", "xz", "y"))
    head = rng.choice((*HEAD_ROWS, rows))
    late = rng.choice(LATE)
    return Data(rows, head, rng.choice(HEADS), where, late, rng.choice(FLOATS), rng.choice(NARROW), rng.getrandbits(30))


def partition(rows: int, kind: str, rng: Random) -> list[int]:
    """Sizes of the batches: one by one, equal, the whole, or ragged."""
    if kind == "ones":
        return [1] * rows
    if kind == "whole":
        return [rows]
    if kind == "equal":
        size = rng.choice((7, 16, 32, 40, 64))
        return [min(size, rows - start) for start in range(0, rows, size)]
    sizes: list[int] = []
    while sum(sizes) < rows:
        sizes.append(min(rng.choice((1, 1, 2, 5, 17, 33, 64)), rows - sum(sizes)))
    return sizes
