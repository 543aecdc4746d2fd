"""Random batch functions, as Python source, and the ragged samples to feed them.

A program is a list of assignments.  Every variable has one of six types, and every template says which types it
takes: ``{row}`` one number per sample, ``{matrix}`` three per sample, ``{mask}``, ``{label}`` (0, 1 or 2),
``{stat}`` a tensor of one number, ``{vector}`` of three, ``{number}`` a Python number.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

K = 3

# Arithmetic within one sample: of these alone, sums and extremes have a constant-size state.
LOCAL: dict[str, tuple[str, ...]] = {
    "row": (
        "{row} + {row}", "{row} - {row}", "{row} * {row}", "{row} / ({row}.abs() + 0.5)", "{row} * {c}", "{row} + {c}",
        "{row}.abs()", "{row} ** 2", "torch.sqrt({row}.abs() + 1e-3)", "torch.log1p({row}.abs())", "torch.tanh({row})",
        "torch.sigmoid({row})", "torch.exp(-{row}.abs())", "F.relu({row})", "F.softplus({row})", "F.huber_loss({row}, {row}, reduction='none')",
        "{row}.clamp(-1, {c})", "{row}.clamp_min({c})", "torch.where({mask}, {row}, {row})", "torch.where({mask}, {row}, 0.0)",
        "{row} * {mask}", "{row}.masked_fill({mask}, {c})", "torch.maximum({row}, {row})", "{mask}.to(x.dtype)", "{label}.to(x.dtype)",
        "{matrix}.sum(1)", "{matrix}.mean(-1)", "{matrix}.amax(1)", "{matrix}.norm(dim=1)", "{matrix}.logsumexp(1)", "{matrix}[:, {k}]",
        "{matrix}.gather(1, {label}[:, None]).squeeze(1)", "F.cross_entropy({matrix}, {label}, reduction='none')",
        "({matrix} * {matrix}).sum(-1)", "{matrix}.max(1).values - {matrix}.min(1).values", "{matrix}.std(1)",
        "torch.tensor([0.5, 1.0, 2.0], dtype=x.dtype)[{label}]", "{row}.detach()", "{row}.view(-1, 1).squeeze(-1)",
        "torch.nan_to_num({row})", "torch.sign({row})", "{row} * torch.full_like({row}, {c})",
    ),
    "matrix": (
        "{matrix} + {matrix}", "{matrix} * {row}[:, None]", "{matrix} - {row}.unsqueeze(-1)", "F.one_hot({label}, 3).to(x.dtype)",
        "torch.softmax({matrix}, 1)", "F.log_softmax({matrix}, dim=-1)", "torch.stack([{row}, {row}, {row}], 1)", "{matrix} ** 2",
        "{matrix} - {matrix}.mean(1, keepdim=True)", "{matrix} * {mask}[:, None]", "F.normalize({matrix}, dim=1)",
        "{matrix}.t().contiguous().t()", "{matrix}.sigmoid()", "{matrix}.cumsum(1)", "{matrix}.sort(1).values", "{matrix}.flip(1)",
        "{matrix} @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0], [2.0, 0.0, 1.0]], dtype=x.dtype)",
    ),
    "mask": (
        "{row} > {c}", "{row} <= {row}", "{mask} & {mask}", "{mask} | {mask}", "~{mask}", "{label} == {k}", "{label} != {label}",
        "({matrix} > {c}).any(1)", "{matrix}.argmax(1) == {label}", "{row}.isfinite()",
    ),
    "label": (
        "{matrix}.argmax(1)", "torch.where({mask}, {label}, 0)", "({label} + {k}) % 3", "{mask}.long() + {mask}.long()",
        "torch.bucketize({row}, torch.tensor([-0.5, 0.5], dtype=x.dtype))", "{matrix}.topk(2, 1).indices[:, 1]",
    ),
}  # fmt: skip

# From samples to numbers that add, or combine by an extreme.
REDUCE: dict[str, tuple[str, ...]] = {
    "stat": (
        "{row}.sum()", "{row}.mean()", "torch.mean({row})", "{row}.max()", "{row}.amin(0)", "({row} ** 2).sum()", "{row}.norm()",
        "{row}.var(unbiased=False)", "{row}.std()", "torch.logsumexp({row}, 0)", "{row}[{mask}].sum()", "{mask}.sum()",
        "{mask}.to(x.dtype).mean()", "({row} * {mask}).sum() / {mask}.sum().clamp(min=1)", "{row}.sum() / n", "{mask}.any()", "{mask}.all()",
        "torch.dot({row}, {row})", "F.mse_loss({row}, {row})", "F.l1_loss({row}, {row})", "F.cross_entropy({matrix}, {label})",
        "{matrix}.mean()", "{matrix}.sum()", "{matrix}.max()", "{label}.max()", "{row}[{mask}].mean()", "{row}.sum() / x.numel()",
        "{row}.nansum()", "(({row} - {row}.mean()) * ({row} - {row}.mean())).mean()", "torch.sqrt((({row} - {row}) ** 2).mean())",
    ),
    "vector": (
        "{matrix}.mean(0)", "{matrix}.sum(dim=0)", "{matrix}.amax(0)", "torch.bincount({label}, minlength=3).to(x.dtype)",
        "torch.zeros(3, dtype=x.dtype).index_add(0, {label}, {row})", "torch.zeros(3, dtype=x.dtype).scatter_add(0, {label}, {row})",
        "F.one_hot({label}, 3).to(x.dtype).sum(0)", "{matrix}.t() @ {row}", "F.one_hot({label}, 3).to(x.dtype).T @ {row}", "{matrix}.var(0)",
        "torch.stack([{row}[{label} == k].sum() for k in range(3)])", "torch.stack([({label} == k).sum() for k in range(3)])",
        "({matrix}.T @ {matrix} / n).diagonal()", "({matrix}.T @ {matrix})[{k}]",
    ),
}  # fmt: skip

# Arithmetic after the sums.
FINISH: dict[str, tuple[str, ...]] = {
    "stat": (
        "{stat} + {stat}", "{stat} - {stat}", "{stat} * {stat}", "{stat} / ({stat}.abs() + 1)", "torch.sqrt({stat}.abs() + 1e-6)",
        "torch.log1p({stat}.abs())", "{stat} * {c}", "{vector}.sum()", "{vector}.mean()", "{vector}.max()", "{vector}[{k}]",
        "1 - {stat} / ({stat}.abs() + 1e-3)", "torch.where({stat} > {stat}, {stat}, {stat})", "{stat}.clamp(min={c})", "{stat} / n",
        "({vector} * {vector}).sum()", "torch.maximum({stat}, {stat})", "{stat} / math.sqrt(n)", "{stat} / (n + 1)",
    ),
    "vector": (
        "{vector} + {vector}", "{vector} / ({vector}.abs() + 1)", "{vector} - {vector}.mean()", "{vector} * {stat}",
        "torch.stack([{stat}, {stat}, {stat}])", "{vector}.softmax(0)", "{vector}[{vector}.argsort()]", "{vector}.cumsum(0)",
    ),
}  # fmt: skip

# What a batch does to its own samples: centring, scaling, order, rank, pairs.
COUPLE: dict[str, tuple[str, ...]] = {
    "row": (
        "{row} - {row}.mean()", "{row} - {stat}", "{row} * {stat}", "{row} / ({row}.std() + 0.1)", "{row} - {row}.max()",
        "{row} / ({stat}.abs() + 0.5)", "({row} - {row}.mean()) / ({row}.std() + 1e-2)", "torch.softmax({row}, 0)", "{vector}[{label}]",
        "{row} / ({row}.abs().max() + 1)", "F.cross_entropy({matrix}, {label}, weight={vector}.abs() + 0.1, reduction='none')",
        "torch.where({mask}, {stat}, {row})", "torch.exp({row}.clamp(-5, 5) - {stat}.clamp(-5, 5))", "{matrix} @ {vector}",
    ),
    "matrix": ("{matrix} - {matrix}.mean(0)", "{matrix} / ({matrix}.std(0) + 0.1)", "{matrix} - {vector}", "torch.softmax({matrix}, 0)"),
    "mask": ("{row} > {row}.mean()", "{row} >= {stat}", "{row} == {row}.max()"),
    "stat": ("F.cross_entropy({matrix}, {label}, weight={vector}.abs() + 0.1)", "F.mse_loss({row} - {row}.mean(), {row} - {row}.mean())",
             "{row}.sum() / {number}", "{stat} * {number}", "{stat} + {number}"),
    "number": ("{stat}.item()", "float({stat})", "n // 4 + 1", "min(n, {size})", "max(n - 1, 1)", "math.log(n + 1)", "n * (n - 1) / 2",
               "{mask}.sum().item()", "len({row}[{mask}])", "n ** 0.5", "n % {size}", "int({label}.max())", "n / {size}"),
}  # fmt: skip
ORDER: dict[str, tuple[str, ...]] = {
    "row": ("{row}.cumsum(0)", "{row}.sort().values", "{row}.flip(0)", "{row}.roll(1)", "{row}.argsort().to(x.dtype)", "{row}.cummax(0).values",
            "{row}[torch.arange(n - 1, -1, -1)]", "{row} * torch.arange(n)", "{row}[{row}.argsort()]", "({row}[:, None] - {row}).mean(1)"),
    "stat": ("{row}.median()", "{row}.topk(min(3, n)).values.mean()", "{row}.topk(max(1, n // 4)).values.sum()", "{row}.quantile(0.5)",
             "{row}[0] + {stat}", "{row}[-1]", "{row}[: {size}].sum()", "{row}.argmax()", "torch.unique({label}).numel() * {stat}",
             "{row}.diff().abs().sum()", "({row} / 10).tanh().prod()", "torch.tensor({row}.tolist(), dtype=x.dtype).mean()",
             "({row}[:, None] - {row}).abs().mean()", "{row}[{label}.argmax()]", "{row}[::2].sum()", "sum(v.item() for v in {row}) + {stat}"),
    "mask": ("{row}.argsort().argsort() < n // 2", "torch.arange(n) % 2 == 0"),
}  # fmt: skip
BLOCKS: dict[str, tuple[str, ...]] = {
    "row": (
        "{new} = {row}.clone()\n{new}[{mask}] = {c}",
        "{new} = {row}.clone()\n{new}[{mask}] = {row}[{mask}]",
        "{new} = {row}.clone()\n{new} += {row}\n{new}.clamp_(max={c})",
        "{new} = {row}.clone()\n{new}.view(-1, 1).mul_({c})",
        "{new} = torch.zeros_like({row})\n{new}[{mask}] += 1",
        "if {stat} > {c}:\n    {new} = {row} * 2\nelse:\n    {new} = {row} - {row}",
        "if {mask}.any():\n    {new} = {row} + 1\nelse:\n    {new} = {row}",
        "if n > {size}:\n    {new} = {row} * 0.5\nelse:\n    {new} = {row}",
        "{new} = {row}\n{new}[{mask}] = 0",
        "{new} = {row}.clone()\n{new}[0] = {c}",
    ),
    "matrix": (
        "{new} = {matrix}.clone()\n{new}[:, {k}] = {row}",
        "{new} = {matrix}.clone()\n{new}.t()[{k}] = {row}",
        "{new} = {matrix}.clone()\n{new}[:, {k}].mul_({c})",
        "{new} = {matrix}.clone()\n{new}.masked_fill_({mask}[:, None], {c})",
        "{new} = {matrix}.clone()\n{new} -= {matrix}.mean(0)",
    ),
    "stat": (
        "{new} = {stat}\nif {stat}.item() < {stat}.item():\n    {new} = {stat} + 1",
        "{new} = {row}.mean()\nfor k in range(3):\n    if ({label} == k).any():\n        {new} = {new} + {row}[{label} == k].mean()",
        "{new} = torch.zeros((), dtype=x.dtype)\nfor k in range(3):\n    {new} += ({row} * ({label} == k)).sum()",
        "if not {mask}.all():\n    {new} = {row}[~{mask}].mean()\nelse:\n    {new} = {row}.max()",
        "if n == {size}:\n    {new} = {stat} * 3\nelse:\n    {new} = {stat}",
        "if float({row}.max()) > 1:\n    {new} = {row}.sigmoid().mean()\nelse:\n    {new} = {row}.mean()",
    ),
    "vector": (
        "{new} = torch.zeros(3, dtype=x.dtype)\n{new}.index_add_(0, {label}, {row})",
        "{new} = torch.ones(3, dtype=x.dtype)\n{new}.scatter_add_(0, {label}, {row})\n{new} /= n",
        "{new} = torch.zeros(3, dtype=x.dtype)\n{new}.index_put_(({label},), {row}, accumulate=True)",
        "{new} = torch.zeros(3, dtype=x.dtype)\n{new}[{label}] = {row}",
        "{new} = torch.zeros(3, dtype=x.dtype)\nfor k in range(3):\n    if ({label} == k).any():\n        {new}[k] = {row}[{label} == k].mean()",
    ),
}  # fmt: skip

SOURCES = {
    "row": "{x} * 1.0",
    "matrix": "torch.stack([{x}, 1 - {x}, {x} * 0.5], 1)",
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

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], inputs: Sequence[str], sizes: Sequence[int]) -> None:
        self.draw = draw
        self.sizes = [str(size) for size in sizes]
        self.lines = ["n = x.shape[0]"]
        self.names: dict[str, list[str]] = {kind: [] for kind in SOURCES}
        self.unused: dict[str, str] = {}
        for name in inputs:
            self.names[{"x": "row", "y": "row", "z": "matrix", "m": "mask", "l": "label"}[name]].append(name)

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

    def write(self, *tables: dict[str, tuple[str, ...]]) -> str:
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
            forms = [f"({' + '.join(stats)}) * ({' + '.join(vectors)})", f"{{'a': {stats[-1]}, 'b': {vectors[-1]}.sum()}}"]
        return str(self.draw(st.sampled_from([", ".join(ends or stats), *forms])))


@st.composite
def pieces(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[Piece, ...]:
    sizes = st.sampled_from([40, 1, 64, 1, 33, 32, 16, 7, 3, 2])
    kinds = st.sampled_from([(1.0, 0.0)] * 4 + [(1e-3, 0.0), (30.0, 0.0), (0.0, 0.0), (0.0, 0.7), (1.0, 5.0), (1.0, -300.0)])
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
    inputs = ("x", *(name for name in "yzml" if draw(st.booleans())))
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
        tables = st.sampled_from([LOCAL, REDUCE, REDUCE, COUPLE, COUPLE, FINISH, BLOCKS] + [ORDER] * draw(st.integers(0, 1)))
        for _ in range(draw(st.integers(1, 6))):
            writer.write(draw(tables))
    result = writer.result()
    body = "\n".join(f"    {line}" for line in [*writer.lines, f"return {result}"])
    heading = "import math\n\nimport torch\nimport torch.nn.functional as F\n\n\n"
    source = f"{heading}def f({', '.join(inputs)}):\n{body}\n"
    dtype = draw(st.sampled_from([torch.float64, torch.float64, torch.float32]))
    return Program(source, inputs, obvious, batches, draw(st.integers(0, 2**16)), dtype)
