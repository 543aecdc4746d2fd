"""One program on trial: every partition of its samples and every way for a state to travel, against the function."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import batchproof as bp

from .data import partition
from .judge import judge
from .program import Program

PARTITIONS = ("ones", "ragged", "whole", "equal")
WAYS = ("update", "update", "call", "merge", "save", "pickle", "copy", "permuted", "reset", "interrupted")
Columns = dict[str, Tensor]
#: Every end that is no fault.
FINE = ("constant", "rows", "refused", "refused at the end", "rounding", "own error")


@dataclass(frozen=True)
class End:
    """How one stream of one program ended; `what` is empty unless it is a fault."""

    kind: str
    partition: str
    way: str
    what: str = ""

    @property
    def fault(self) -> bool:
        return self.kind not in FINE


def pieces(columns: Columns, sizes: list[int]) -> list[Columns]:
    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [{name: column[a:b] for name, column in columns.items()} for a, b in zip(edges, edges[1:], strict=False)]


def joined(batches: list[Columns]) -> Columns:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def saved(metric: bp.Exact, fresh: Callable[[], bp.Exact]) -> bp.Exact:
    """Through a file, as a checkpoint goes."""
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    again = fresh()
    again.load_state_dict(torch.load(file, weights_only=False))
    return again


class Broken(BaseException):
    """What breaks an update off; no handler takes it for an error of the function."""


def broken_off(update: Callable[[], None], own: str, after: int) -> None:
    """An update that ends at some line of the function, in a module of its own, or of what keeps the state."""
    left, before = after, sys.gettrace()

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal left
        file = frame.f_code.co_filename
        if file != own and "batchproof/metric" not in file:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(before)
                raise Broken
        return trace

    sys.settrace(trace)
    try:
        update()
    finally:
        sys.settrace(before)


def feed(program: Program, batches: list[Columns], way: str, state: str, rng: Random) -> bp.Exact:
    """A metric that has seen the batches, in one of the ways that users have."""
    f = program.function()

    def fresh() -> bp.Exact:
        return bp.exact(f, state=state, batch_dim=program.batch_dim())

    def take(metric: bp.Exact, batch: Columns) -> None:
        args, kwargs = program.call(batch)
        metric.update(*args, **kwargs)

    anew = {
        "save": lambda metric: saved(metric, fresh),
        "pickle": lambda metric: pickle.loads(pickle.dumps(metric)),
        "copy": copy.deepcopy,
    }
    half = len(batches) // 2
    broken = rng.randrange(len(batches)) if way == "interrupted" else -1
    metric = fresh()
    if way == "merge":
        other = fresh()
        for target, some in ((metric, batches[:half]), (other, batches[half:])):
            for batch in some:
                take(target, batch)
        return metric.merge_state(other)
    if way == "reset":
        take(metric, batches[-1])
        metric.reset()
    for number, batch in enumerate(batches):
        if number == half and way in anew:
            metric = anew[way](metric)
        if number == broken:
            seen = metric.n_samples
            with contextlib.suppress(Broken):
                broken_off(lambda: take(metric, batch), program.module(), rng.randrange(400))  # noqa: B023
            if metric.n_samples > seen:
                continue
        if way == "call" and number % 3 == 0:
            args, kwargs = program.call(batch)
            metric(*args, **kwargs)
        else:
            take(metric, batch)
    return metric


def end_of(program: Program, kind: str, way: str, rng: Random, state: str = "auto") -> End:
    """Stream a program's samples and hold the value against the function on all of them."""
    batches = pieces(program.data.columns(), partition(program.data.rows, kind, rng))
    if way == "permuted":
        rng.shuffle(batches)
    f, call = program.function(), program.call(joined(batches))
    try:
        right = f(*_own(call[0]), **_own(call[1]))
    except Exception as error:  # noqa: BLE001 - a value that only another order of rows has
        return End("own error", kind, way, f"{type(error).__name__}: {error}")
    right = pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, right)
    stage = "update"
    try:
        metric = feed(program, batches, way, state, rng)
        stage = "compute"
        got = metric.compute()
        constant = metric.plan.is_constant_size
    except bp.BatchproofError as error:
        reason = str(error).strip()
        if not reason:
            return End("refused without a reason", kind, way)
        return End("refused" if stage == "update" else "refused at the end", kind, way, reason)
    except Exception as error:  # noqa: BLE001 - to be told from a fault of ours
        if stage == "update" and raises(program, batches, error):
            return End("own error", kind, way, f"{type(error).__name__}: {error}")
        return End("crash", kind, way, f"{type(error).__name__}: {error} (in {stage})")
    verdict = judge(f, call, got, right, program.data.dtype)
    if verdict == "same":
        return End("constant" if constant else "rows", kind, way)
    if verdict == "rounding":
        return End("rounding", kind, way)
    return End("wrong", kind, way, verdict if constant else f"{verdict} (rows kept: {metric.plan.reason})")


def raises(program: Program, batches: list[Columns], error: Exception) -> bool:
    """Whether the function itself raises such an error on some batch, or on the samples up to it."""
    f = program.function()
    for number in range(len(batches)):
        for part in (batches[number : number + 1], batches[: number + 1], batches[len(batches) // 2 : number + 1]):
            if not part:
                continue
            args, kwargs = program.call(joined(part))
            try:
                f(*args, **kwargs)
            except Exception as own:  # noqa: BLE001
                if type(own) is type(error):
                    return True
    return False


def _own(value: Any) -> Any:
    return pytree.tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, value)


def plan_of_trials(program: Program) -> list[tuple[str, str, str]]:
    """(partition, way, state) of every stream: four partitions, and once with all samples kept."""
    rng = Random(program.seed + 1)
    streams = [(kind, rng.choice(WAYS), "auto") for kind in PARTITIONS]
    return [*streams, (rng.choice(("ragged", "equal")), rng.choice(("update", "save", "merge")), "rows")]


def quietly(program: Program, kind: str, way: str, state: str, seed: int) -> End:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        end = end_of(program, kind, way, Random(seed), state)
    if state == "rows" and end.kind.startswith("refused"):
        return replace(end, kind="rows refused")
    return end


def trials(program: Program) -> list[End]:
    """How every stream of the program ends."""
    ends = [quietly(program, *stream, program.seed + 2) for stream in plan_of_trials(program)]
    program.forget()
    return ends
