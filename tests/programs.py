"""Random batch functions, as Python source, and the ragged samples to feed them: see grammar.py for what they say."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from grammar import BLOCKS, COUPLE, FINISH, LOCAL, ORDER, REDUCE, Table

K = 3

SOURCES = {
    "row": "{x} * 1.0",
    "matrix": "torch.stack([{x}, 1 - {x}, {x} * 0.5], 1)",
    "wide": "torch.stack([{x}] * 12, 1)",
    "mask": "{x} > 0",
    "label": "({x} > 0).long()",
    "stat": "{x}.mean()",
    "vector": "torch.stack([{x}.sum(), {x}.abs().sum(), {x}.max()])",
    "number": "n",
}
ENDS = {
    "row": ("{}.mean()", "{}.sum()", "{}.max()", "({} ** 2).mean()"),
    "matrix": ("{}.mean()", "{}.sum(0).max()", "{}.abs().max()"),
    "mask": ("{}.sum()", "{}.to(x.dtype).mean()"),
    "label": ("{}.sum()", "({} == 1).sum()"),
}
CONSTANTS = ("0.5", "2.0", "-0.3", "1e-3", "1.0", "3")


@dataclass
class Piece:
    """One batch: how many samples, and what is peculiar about them."""

    size: int
    scale: float
    offset: float
    mask: float
    labels: int


@dataclass
class Program:
    """`source` defines f over `inputs`; `obvious` says that its constant-size state is plain to see."""

    source: str
    inputs: tuple[str, ...]
    obvious: bool
    pieces: tuple[Piece, ...]
    seed: int
    dtype: torch.dtype

    def function(self) -> Callable[..., Any]:
        name = f"<program {abs(hash(self.source)):x}>"
        linecache.cache[name] = (len(self.source), None, self.source.splitlines(keepends=True), name)
        scope: dict[str, Any] = {}
        exec(compile(self.source, name, "exec"), scope)
        return scope["f"]  # type: ignore[no-any-return]

    def samples(self) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(self.seed)
        batches = [self.batch(piece, generator) for piece in self.pieces]
        return tuple(torch.cat([batch[name] for batch in batches]) for name in self.inputs)

    def batch(self, piece: Piece, generator: torch.Generator) -> dict[str, Tensor]:
        def normal(*shape: int) -> Tensor:
            noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return (noise * piece.scale + piece.offset).to(self.dtype)

        n = piece.size
        return {
            "x": normal(n),
            "y": normal(n),
            "z": normal(n, K),
            "w": normal(n, 12),
            "m": torch.rand(n, generator=generator) < piece.mask,
            "l": torch.randint(0, piece.labels, (n,), generator=generator),
        }

    def script(self) -> str:
        """A file that shows the failure on its own."""
        return "\n".join([
            self.source,
            f"# inputs {self.inputs}, {self.dtype}, seed {self.seed}, obvious: {self.obvious}",
            *(f"# {piece}" for piece in self.pieces),
        ])  # fmt: skip


class Writer:
    """Writes one program, a statement at a time."""

    def __init__(
        self, draw: Callable[[st.SearchStrategy[Any]], Any], inputs: Sequence[str], sizes: Sequence[int]
    ) -> None:
        self.draw = draw
        self.sizes = [str(size) for size in sizes]
        self.lines = ["n = x.shape[0]"]
        self.names: dict[str, list[str]] = {kind: [] for kind in SOURCES}
        self.unused: dict[str, str] = {}
        for name in inputs:
            self.names[{"x": "row", "y": "row", "z": "matrix", "w": "wide", "m": "mask", "l": "label"}[name]].append(
                name
            )

    def name(self, kind: str, taken: Collection[str] = ()) -> str:
        """A variable of this kind, newest first: programs that use what they compute."""
        if not self.names[kind]:
            self.assign(kind, SOURCES[kind].replace("{x}", "x"))
        known = [name for name in self.names[kind] if name not in taken][::-1] or self.names[kind]
        name = str(self.draw(st.sampled_from([known[0]] * len(known) + known[1:])))
        self.unused.pop(name, None)
        return name

    def fill(self, template: str) -> str:
        taken: list[str] = []

        def choose(match: re.Match[str]) -> str:
            what = match.group(1)
            if what == "c":
                return str(self.draw(st.sampled_from(CONSTANTS)))
            if what == "k":
                return str(self.draw(st.integers(0, K - 1)))
            if what == "size":
                return str(self.draw(st.sampled_from(self.sizes)))
            if what != "new":
                taken.append(self.name(what, taken))
            return match.group(0) if what == "new" else taken[-1]

        return re.sub(r"\{(\w+)\}", choose, template)

    def assign(self, kind: str, text: str) -> str:
        new = f"{kind[0]}{sum(map(len, self.names.values()))}_"
        if "{new}" in text:
            self.lines += text.replace("{new}", new).split("\n")
        else:
            self.lines.append(f"{new} = {text}")
        self.names[kind].append(new)
        self.unused[new] = kind
        return new

    def write(self, *tables: Table) -> str:
        kind, templates = self.draw(st.sampled_from([item for table in tables for item in table.items()]))
        return self.assign(kind, self.fill(self.draw(st.sampled_from(templates))))

    def result(self) -> str:
        """All that was computed and not used, in one of the forms that people return."""
        for name, kind in list(self.unused.items()):
            if kind in ENDS:
                self.assign("stat", self.draw(st.sampled_from(ENDS[kind])).format(name))
        ends = [name for name, kind in self.unused.items() if kind in ("stat", "vector", "number")]
        vectors = [name for name in ends if self.unused[name] == "vector"]
        stats = [name for name in ends if name not in vectors] or [self.fill("{stat}")]
        forms = [stats[-1], " + ".join(stats), f"[{', '.join(stats)}]", f"float({' * '.join(stats[-2:])})"]
        if vectors:
            forms = [
                f"({' + '.join(stats)}) * ({' + '.join(vectors)})",
                f"{{'a': {stats[-1]}, 'b': {vectors[-1]}.sum()}}",
            ]
        return str(self.draw(st.sampled_from([", ".join(ends or stats), *forms])))


@st.composite
def pieces(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[Piece, ...]:
    sizes = st.sampled_from([40, 1, 64, 1, 33, 32, 16, 7, 3, 2])
    kinds = st.sampled_from(
        [(1.0, 0.0)] * 4
        + [(1e-4, 0.0), (1e-3, 0.0), (30.0, 0.0), (1e3, 0.0), (0.0, 0.0), (0.0, 0.7), (1.0, 5.0), (1.0, -300.0)]
    )
    masks = st.sampled_from([0.5, 0.5, 0.5, 0.0, 1.0, 0.02])
    one = st.builds(
        lambda size, kind, mask, labels: Piece(size, *kind, mask, labels),
        sizes, kinds, masks, st.sampled_from([K, K, K, 2, 1]),
    )  # fmt: skip
    return tuple(draw(st.lists(one, min_size=3, max_size=6)))


@st.composite
def programs(draw: Callable[[st.SearchStrategy[Any]], Any], obvious: bool = False) -> Program:
    batches = draw(pieces())
    total = sum(piece.size for piece in batches)
    inputs = ("x", *(name for name in "yzwml" if draw(st.booleans())))
    near = {total, total - 1, batches[0].size, batches[0].size + 1, 32, 33, 64, 1}
    writer = Writer(draw, inputs, sorted(near))
    for _ in range(draw(st.integers(0, 3))):
        writer.write(LOCAL)
    if obvious:
        for _ in range(draw(st.integers(1, 3))):
            writer.write(REDUCE)
        for _ in range(draw(st.integers(0, 3))):
            writer.write(FINISH)
    else:
        tables = st.sampled_from(
            [LOCAL, REDUCE, REDUCE, COUPLE, COUPLE, FINISH, BLOCKS] + [ORDER] * draw(st.integers(0, 1))
        )
        for _ in range(draw(st.integers(1, 6))):
            writer.write(draw(tables))
    result = writer.result()
    body = "\n".join(f"    {line}" for line in [*writer.lines, f"return {result}"])
    heading = "import math\n\nimport torch\nimport torch.nn.functional as F\n\n\n"
    source = f"{heading}def f({', '.join(inputs)}):\n{body}\n"
    dtype = draw(st.sampled_from([torch.float64, torch.float64, torch.float32]))
    return Program(source, inputs, obvious, batches, draw(st.integers(0, 2**16)), dtype)


def moved(args: tuple[Tensor, ...], unit: float, seed: int) -> tuple[Tensor, ...]:
    """The samples, each moved by about a unit of rounding: what fn makes of that is rounding too."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for arg in args:
        if arg.is_floating_point():
            noise = torch.rand(arg.shape, generator=generator, dtype=torch.float64) * 2 - 1
            arg = arg.double() * (1 + unit * noise)
        out.append(arg)
    return tuple(out)
