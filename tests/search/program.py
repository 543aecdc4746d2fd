"""A random program: statements that were run as they were written, so that it has a value on all of its samples."""

from __future__ import annotations

import hashlib
import linecache
import re
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from torch import Tensor

from .data import COLUMNS, SAME, Data, draw
from .grammar import MIXING, TABLES

HEADING = """\
import math

import torch
import torch.nn.functional as F


def real(v):
    return v.float() if v.dtype in (torch.float16, torch.bfloat16) else v


"""
LITERALS: dict[str, tuple[str, ...]] = {
    "C": ("0.5", "-1.0", "0.0", "2.0", "1.0", "-0.3", "3.0"),
    "D": ("0", "1", "2", "3"),
    "N": ("1", "2", "3", "8", "16", "32", "33", "40", "64", "100"),
    "Q": ("0.5", "0.25", "0.9"),
    "T": ("True", "False"),
    "M": ("mean", "sum", "none"),
    "S": ("sum", "prod", "mean", "amax", "amin"),
    "I": ("prod", "mean", "amax", "amin"),
}
#: Where a program has no value of a kind yet, one is made from x.
MADE = {
    "mat": "torch.stack([x, 1 - x, x * 0.5, x * x], 1)",
    "cube": "torch.stack([x, -x, x * 0.5, x * x, x + 1, x.abs()], 1).view(n, 2, 3)",
    "label": "(x > 0).long() + (x > 1).long()",
    "small": "(x > 0).to(torch.int8)",
    "flag": "x > 0",
    "comp": "torch.complex(real(x), real(x) + 1)",
    "bag": "x[x > 0]",
    "one": "x.mean()",
    "four": "torch.stack([x.sum(), x.abs().sum(), x.amax(), x.mean()])",
    "num": "n + 1",
}
ENDS = {
    "row": ("{}.sum()", "{}.mean()", "{}.amax()", "({} * torch.arange(n)).sum()", "{}.square().mean()", "{}.std()"),
    "mat": ("{}.mean()", "{}.sum(0)", "{}.amax(0)", "{}.square().sum(1).mean()", "({}[:, 0] * {}[:, 1]).sum()"),
    "cube": ("{}.mean()", "{}.amax((0, 2))", "{}.square().sum()"),
    "bag": ("{}.sum()", "{}.mean()", "{}.square().sum()"),
    "label": ("{}.sum()", "({} == 2).sum()", "torch.bincount({}, minlength=4)", "{}.double().mean()"),
    "small": ("{}.sum()", "{}.max()", "{}.double().mean()", "{}.min()"),
    "flag": ("{}.sum()", "{}.any()", "{}.double().mean()", "{}.all()"),
    "comp": ("{}.sum()", "{}.abs().mean()", "{}.mean()", "{}.real.sum()"),
}
FORMS = ("plain", "plain", "plain", "dict", "tuple", "nested", "keyword", "shared", "last")
_HOLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Step:
    """One statement: the variable that it makes, of which kind, and the variables that it reads."""

    name: str
    kind: str
    lines: tuple[str, ...]
    reads: frozenset[str]


class Written:
    """A function by its source, compiled as one of a module of its own: so it pickles."""

    def source(self) -> str:
        raise NotImplementedError

    def function(self) -> Callable[..., Any]:
        source, name = self.source(), self.module()
        if name not in sys.modules:
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            module = types.ModuleType(name)
            exec(compile(source, name, "exec"), module.__dict__)
            sys.modules[name] = module
        return sys.modules[name].f  # type: ignore[no-any-return]

    def module(self) -> str:
        return f"searched_{hashlib.sha256(self.source().encode()).hexdigest()[:16]}"

    def forget(self) -> None:
        name = self.module()
        sys.modules.pop(name, None)
        linecache.cache.pop(name, None)


@dataclass(frozen=True)
class Program(Written):
    """Statements and what is returned of them, the samples, and in which form a call passes these."""

    steps: tuple[Step, ...]
    returns: tuple[str, ...]
    shape: str  # of what it returns: one, tuple, list, dict, or a sum of all
    form: str
    data: Data
    seed: int

    def inputs(self) -> list[str]:
        """The columns that it reads; x always, for the number of samples."""
        read = {name for step in self.steps for name in step.reads} | {"x"}
        return [name for name in COLUMNS if name in read]

    def source(self) -> str:
        body = [
            *_unpack(self.form, self.inputs()),
            "n = x.shape[0]",
            *(line for step in self.steps for line in step.lines),
        ]
        text = "\n".join(f"    {line}" for line in [*body, f"return {self.result()}"])
        return f"{HEADING}def f({', '.join(_parameters(self.form, self.inputs()))}):\n{text}\n"

    def result(self) -> str:
        if self.shape == "one" or (self.shape == "sum" and len(self.returns) == 1):
            return self.returns[-1]
        if self.shape == "dict":
            return "{" + ", ".join(f"'{name}': {name}" for name in self.returns) + "}"
        inside = (" + " if self.shape == "sum" else ", ").join(self.returns)
        if self.shape == "list":
            return f"[{inside}]"
        return inside if self.shape == "sum" else f"({inside},)"

    def call(self, columns: dict[str, Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that pass these columns."""
        return _arguments(self.form, {name: columns[name].clone() for name in self.inputs()})

    def batch_dim(self) -> Any:
        if self.form == "shared":
            return (0,) * len(self.inputs()) + (None,)
        if self.form == "last":
            return tuple({"row": 0, "mat": 1, "cube": 2}.get(COLUMNS[name], 0) for name in self.inputs())
        return 0

    def script(self) -> str:
        """The failure as a file to read."""
        return f"{self.source()}\n# form {self.form}, seed {self.seed}, {self.data}\n"


def _parameters(form: str, names: list[str]) -> list[str]:
    return {
        "dict": ["batch"],
        "tuple": ["batch"],
        "nested": ["batch"],
        "keyword": [*names[:1], "*", *names[1:]] if len(names) > 1 else names,
        "shared": [*names, "w"],
    }.get(form, names)


def _unpack(form: str, names: list[str]) -> list[str]:
    if form == "dict":
        return [f"{name} = batch['{name}']" for name in names]
    if form == "tuple":
        return [f"{', '.join(names)}, = batch"]
    if form == "nested":
        return [f"{name} = batch['inside'][{place}]" for place, name in enumerate(names[1:])] + ["x, = batch['x']"]
    if form == "shared":
        return ["x = x * w[0] + w[1]"]
    if form == "last":
        return [f"{name} = {name}.movedim(-1, 0)" for name in names if COLUMNS[name] in ("mat", "cube")]
    return []


def _arguments(form: str, columns: dict[str, Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    values = tuple(columns.values())
    if form == "dict":
        return (columns,), {}
    if form == "tuple":
        return (values,), {}
    if form == "nested":
        return ({"x": (values[0],), "inside": list(values[1:])},), {}
    if form == "keyword":
        return values[:1], dict(list(columns.items())[1:])
    if form == "shared":
        return (*values, torch.tensor([1.0, 0.5], dtype=columns["x"].dtype)), {}
    if form == "last":
        return tuple(v.movedim(0, -1).contiguous() if v.ndim > 1 else v for v in values), {}
    return values, {}


class Writer:
    """Writes one program, a statement at a time, and runs each: one that raises is left out."""

    def __init__(self, rng: Random, data: Data) -> None:
        self.rng = rng
        self.data = data
        self.env: dict[str, Any] = dict(data.columns())
        exec(HEADING, self.env)
        self.env["n"] = data.rows
        self.steps: list[Step] = []
        self.names: dict[str, list[str]] = {"row": ["x"]}
        for name, kind in COLUMNS.items():
            if name != "x" and rng.random() < 0.6:
                self.names.setdefault(kind, []).append(name)
        self.unused: dict[str, str] = {}

    def pick(self, kind: str, taken: list[str]) -> str:
        """A variable of this kind, mostly one that nothing reads yet."""
        known = self.names.get(kind, [])
        if not known:
            self.add(kind, MADE[kind])
            known = self.names[kind]
        fresh = [name for name in known if name not in taken] or known
        unread = [name for name in fresh if name in self.unused]
        return self.rng.choice(unread if unread and self.rng.random() < 0.7 else fresh)

    def fill(self, template: str) -> str:
        taken: list[str] = []

        def choose(hole: re.Match[str]) -> str:
            what = hole.group(1)
            if what == "new":
                return hole.group(0)
            if what in LITERALS:
                return self.rng.choice(LITERALS[what])
            taken.append(self.pick(what, taken))
            return taken[-1]

        return _HOLE.sub(choose, template)

    def add(self, kind: str, text: str) -> bool:
        new = f"{kind[0]}{len(self.steps)}"
        while new in self.env:
            new += "_"
        lines = text.replace("{new}", new).split("\n") if "{new}" in text else [f"{new} = {text}"]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec("\n".join(lines), self.env)
        except Exception:  # noqa: BLE001 - whatever a random statement raises
            return False
        words = set(re.findall(r"[A-Za-z_]\w*", " ".join(lines)))
        known = {step.name for step in self.steps} | set(COLUMNS)
        reads = frozenset((words & known) - {new})
        self.steps.append(Step(new, kind, tuple(lines), reads))
        for name in reads:
            self.unused.pop(name, None)
        self.names.setdefault(kind, []).append(new)
        self.unused[new] = kind
        return True

    def write(self) -> None:
        shares = [share * (3 if self.data.kind in SAME and rules is MIXING else 1) for rules, share in TABLES]
        table = self.rng.choices([rules for rules, _ in TABLES], shares)[0]
        kind = self.rng.choices(list(table), [len(texts) for texts in table.values()])[0]
        self.add(kind, self.fill(self.rng.choice(table[kind])))

    def finish(self) -> tuple[str, ...]:
        """What is returned: all that was computed and not read, reduced to a few numbers."""
        if not self.unused:
            self.add("one", self.pick("row", []) + ".mean()")
        for name, kind in list(self.unused.items()):
            if kind in ENDS:
                self.add("end", self.rng.choice(ENDS[kind]).replace("{}", name))
        ends = [name for name, kind in self.unused.items() if kind in ("one", "four", "num", "end")]
        if not ends:
            self.add("one", "x.sum()")
            ends = [self.steps[-1].name]
        return tuple(ends[-4:])


def write(seed: int) -> Program:
    """The program of a seed."""
    rng = Random(seed)
    data = draw(rng)
    writer = Writer(rng, data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        writer.write()
    returns = writer.finish()
    shape = rng.choice(("one", "tuple", "list", "dict", "sum"))
    if shape == "sum" and not all(isinstance(writer.env[name], (Tensor, int, float)) for name in returns):
        shape = "tuple"
    program = trimmed(Program(tuple(writer.steps), returns, shape, rng.choice(FORMS), data, seed))
    alone = program.form in ("nested", "keyword") and len(program.inputs()) == 1
    return replace(program, form="plain") if alone else program


def trimmed(program: Program) -> Program:
    """Without the statements that nothing rests on."""
    returns = program.returns[-1:] if program.shape == "one" else program.returns
    wanted, kept = set(returns), []
    for step in reversed(program.steps):
        if step.name in wanted:
            kept.append(step)
            wanted |= step.reads
    return replace(program, steps=tuple(kept[::-1]), returns=returns)
