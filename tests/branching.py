"""Random functions that decide by their samples: branches in branches, loops over classes, early returns."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

D = torch.float64
N, FIRST = 160, 40

NUMBERS = """
{v}.mean() | {v}.sum() | {v}.max() | {v}.min() | {v}.std() | {v}.median() | ({v} > {c}).sum() | ({v} > {c}).any()
({v} * {w}).sum() | {v}[{m}].sum() | {v}[{m}].mean() | ({v} - {v}.mean()).square().mean() | {m}.sum()
({v} * {m}).sum() / {m}.sum() | ({v} - {s}).abs().max() | {v}.square().mean().sqrt() | {v}.exp().mean().log()
({v} - {s}).square().sum() | ({v} * ({w} - {s})).sum() | torch.where({m}, {v}, {w}).sum()
""".replace("\n", " | ").split(" | ")[1:-1]
QUESTIONS = """
{s} > {c} | {s} == 0 | {s}.item() > {c} | int({m}.sum()) == 0 | {m}.any() | not {m}.all() | {m}.sum() > 3
bool({s} < {t}) | torch.equal({m}, ~{m}) | {s}.isnan() | ({v} > {c}).sum() > 2 | float({s}) > {c}
""".replace("\n", " | ").split(" | ")[1:-1]
MASKS = "m | (x > 0.5) | (y < 0.2) | (z == 1) | (z == 2) | (x > 3)".split(" | ")
OF_A_CLASS = "x[q].mean() | (x * q).sum() | y[q].std() | q.sum()".split(" | ")
OF_ALL_CLASSES = "1 | (x * q).sum() / len(x) | y[q].sum() / (q.sum() + 1)".split(" | ")
FIRSTS = "as all | zero | one | no mask | all masked | one class | alike | high".split(" | ")


class Source:
    """A function's lines as they are drawn."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.names: list[str] = []
        self.lines = ["def f(x, y, z, m):", "    out = torch.zeros((), dtype=x.dtype)"]
        self.block(0, "    ")
        self.lines.append("    return out")

    def drawn(self, forms: list[str]) -> str:
        pick = self.random.choice
        name = f"({pick(self.names or ['x.mean()'])} * 1.0)"
        column = pick(["x", "y", "z.double()"])
        return pick(forms).format(
            v=column, w=pick("xy"), m=pick(MASKS), c=pick("0 0.3 0.5 1 2".split()), s=name, t=name
        )

    def block(self, depth: int, indent: str) -> None:
        for _ in range(self.random.randint(1, 3)):
            kind = self.random.random()
            if kind < 0.45 or depth > 2:
                self.number(depth, indent)
            elif kind < 0.8:
                self.branch(depth, indent)
            else:
                self.classes(indent)

    def number(self, depth: int, indent: str) -> None:
        name = f"a{len(self.names)}"
        self.lines += [f"{indent}{name} = {self.drawn(NUMBERS)}", f"{indent}out = out + {name} * {self.drawn(['{c}'])}"]
        if depth == 0:
            self.names.append(name)

    def branch(self, depth: int, indent: str) -> None:
        self.lines.append(f"{indent}if {self.drawn(QUESTIONS)}:")
        self.block(depth + 1, indent + "    ")
        if self.random.random() < 0.5:
            self.lines.append(f"{indent}else:")
            self.block(depth + 1, indent + "    ")
        if self.random.random() < 0.15:
            self.lines.append(f"{indent}    return out * 2")

    def classes(self, indent: str) -> None:
        asked = self.random.choice(["q.sum() == 0", "q.any()", "x[q].sum() > 1"])
        then = self.random.choice(["continue", f"out = out + {self.drawn(OF_A_CLASS)}"])
        self.lines += [f"{indent}for k in range(3):", f"{indent}    q = z == k", f"{indent}    if {asked}:"]
        self.lines += [f"{indent}        {then}", f"{indent}    out = out + {self.drawn(OF_ALL_CLASSES)}"]


def function_of(seed: int) -> tuple[Callable[..., Tensor], str]:
    """A function of (x, y, z, m), and its source."""
    source = "\n".join(Source(Random(seed)).lines) + "\n"
    file = f"<branching {seed}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space = {"torch": torch}
    exec(compile(source, file, "exec"), space)
    return space["f"], source  # type: ignore[return-value]


def samples_of(seed: int) -> tuple[Tensor, ...]:
    """Two columns of numbers, classes and a mask, of which the first rows mislead."""
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    x, y = torch.rand(N, generator=generator, dtype=D), torch.randn(N, generator=generator, dtype=D)
    z, m = torch.randint(0, 4, (N,), generator=generator), torch.rand(N, generator=generator) > 0.5
    first = random.choice(FIRSTS)
    if first == "zero":
        x[:FIRST] = y[:FIRST] = 0
    elif first == "one":
        x[:FIRST] = 1
    elif first in ("no mask", "all masked"):
        m[:FIRST] = first == "all masked"
    elif first == "one class":
        z[:FIRST] = random.randint(0, 3)
    elif first == "alike":
        for column in (x, y, z, m):
            column[:FIRST] = column[0].clone()
    elif first == "high":
        x[:FIRST] += 4
    return x, y, z, m
