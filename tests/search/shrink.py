"""Make a failing program as small as it goes: fewer statements, outputs, samples and peculiarities."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from .data import COLUMNS
from .program import Program, Step, trimmed
from .trial import End, quietly

Fails = Callable[[Program], bool]


def shrunk(program: Program, fails: Fails, seconds: float = 20.0) -> Program:
    """The smallest program found that still fails, by trying every smaller neighbour until none does."""
    until = time.monotonic() + seconds
    found = True
    while found and time.monotonic() < until:
        found = False
        for smaller in neighbours(program):
            if time.monotonic() > until:
                break
            if fails(smaller):
                program, found = smaller, True
                break
    return program


def shrunk_by_stream(program: Program, end: End, state: str, seconds: float = 20.0) -> tuple[Program, End]:
    """The same, for a stream that ended in a fault; the simplest way and partition first."""

    def again(smaller: Program, partition: str, way: str) -> End:
        try:
            return quietly(smaller, partition, way, state, program.seed + 2)
        finally:
            smaller.forget()

    for partition, way in (("equal", "update"), ("ones", "update"), (end.partition, "update")):
        if again(program, partition, way).kind == end.kind:
            end = replace(end, partition=partition, way=way)
            break
    smallest = shrunk(program, lambda p: again(p, end.partition, end.way).kind == end.kind, seconds)
    return smallest, again(smallest, end.partition, end.way)


def neighbours(program: Program) -> Iterator[Program]:
    """Programs that are a little smaller, the boldest first."""
    data = program.data
    if program.form != "plain":
        yield replace(program, form="plain")
    for name in program.returns[::-1]:
        if len(program.returns) > 1:
            yield trimmed(replace(program, returns=(name,), shape="one"))
    for step in program.steps[::-1]:  # return what came before
        if step.name not in program.returns and step.kind in ("one", "four"):
            yield trimmed(replace(program, returns=(step.name,), shape="one"))
    for position, step in enumerate(program.steps):
        yield from _without(program, position, step)
    if data.late:
        yield replace(program, data=replace(data, late=""))
    if data.kind != "generic":
        yield replace(program, data=replace(data, kind="generic"))
    if data.kind not in ("generic", "zero"):
        yield replace(program, data=replace(data, kind="zero"))
    if data.dtype is not torch.float64:
        yield replace(program, data=replace(data, dtype=torch.float64))
    if data.rows > 60:
        yield replace(program, data=data.shorter(60))


def _without(program: Program, position: int, step: Step) -> Iterator[Program]:
    """Every other variable of its kind in the place of one that a statement makes."""
    before = [name for name, kind in COLUMNS.items() if kind == step.kind]
    before += [other.name for other in program.steps[:position] if other.kind == step.kind]
    for name in before:
        steps = [*program.steps[:position], *(_renamed(s, step.name, name) for s in program.steps[position + 1 :])]
        returns = tuple(name if r == step.name else r for r in program.returns)
        yield trimmed(replace(program, steps=tuple(steps), returns=returns))


def _renamed(step: Step, old: str, new: str) -> Step:
    if old not in step.reads:
        return step
    lines = tuple(re.sub(rf"\b{old}\b", new, line) for line in step.lines)
    return replace(step, lines=lines, reads=step.reads - {old} | {new})
