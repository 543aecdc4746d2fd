"""The same programs as losses: `accumulate` on every partition against autograd on all samples."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import batchproof as bp

from .data import partition
from .judge import judge
from .program import Program
from .trial import PARTITIONS, Columns, End, pieces

DRAWN = 3  # weights of every floating column: of the number itself, added to it, and of a number of the row's own

NOTHING = 1e-14  # of the value: a gradient that is off by less is off by rounding


def smooth(program: Program) -> bool:
    """Whether it is a loss: one real number, in samples of a type that has gradients; and called plainly."""
    return program.form == "plain" and program.data.dtype in (torch.float64, torch.float32)


def coarsest(program: Program) -> torch.dtype:
    """The type of the samples, or of what they are cast to: a gradient passes through that type on its way back."""
    casts = {".half()": torch.float16, ".bfloat16()": torch.bfloat16}
    return next((dtype for cast, dtype in casts.items() if cast in program.source()), program.data.dtype)


def forward(weights: Tensor, batch: Columns, names: list[str]) -> dict[str, Tensor]:
    """A model of few weights: its outputs are the samples, and its gradient is a draw of theirs."""
    out = {}
    for place, name in enumerate(names):
        column = batch[name]
        if column.is_floating_point():
            scale, shift, lean = weights[place % len(weights)].to(column.dtype)
            own = batch["own"].to(column.dtype).reshape(-1, *[1] * (column.ndim - 1))
            column = column * (1 + scale) + shift + lean * own
        out[name] = column
    return out


def loss_of(result: Any) -> Tensor | None:
    """What a program returns as one real number with a gradient: the sum of what has one."""
    parts = [t.double().sum() for t in pytree.tree_leaves(result) if isinstance(t, Tensor) and t.is_floating_point()]
    return sum(parts[1:], parts[0]) if parts else None


def gradient_trials(program: Program) -> list[End]:
    """How each partition ends; nothing for a program that is no loss."""
    if not smooth(program):
        return []
    f, names = program.function(), program.inputs()
    columns = program.data.columns()
    columns["own"] = torch.randn(program.data.rows, generator=torch.Generator().manual_seed(program.seed)).double()

    def loss(**outputs: Tensor) -> Tensor:
        result = loss_of(f(**outputs))
        assert result is not None
        return result

    def value_and_gradient(batch: Columns) -> tuple[Tensor, Tensor]:
        weights = torch.zeros(len(names), DRAWN, dtype=torch.float64, requires_grad=True)
        value = loss(**forward(weights, batch, names))
        value.backward()
        return value.detach(), weights.grad

    with torch.enable_grad():
        try:
            right = value_and_gradient({name: column.clone() for name, column in columns.items()})
        except Exception:  # noqa: BLE001 - no gradient, or none that is a number
            return []
    if right[1] is None or not bool(torch.isfinite(right[1]).all()):
        return []
    rng = Random(program.seed + 3)
    ends = [_end(program, columns, kind, rng, right, value_and_gradient, loss) for kind in PARTITIONS]
    program.forget()
    return ends


def _end(program: Program, columns: Columns, kind: str, rng: Random, right: Any, truth: Any, loss: Any) -> End:
    names = program.inputs()
    weights = torch.zeros(len(names), DRAWN, dtype=torch.float64, requires_grad=True)
    batches = pieces(columns, partition(program.data.rows, kind, rng))
    try:
        value = bp.accumulate(loss, lambda batch: forward(weights, batch, names), batches)
    except bp.BatchproofError as error:
        return End("refused", kind, "gradient", str(error))
    except Exception as error:  # noqa: BLE001
        return End("crash", kind, "gradient", f"{type(error).__name__}: {error}")
    got = (value.detach().clone(), weights.grad if weights.grad is not None else torch.zeros_like(weights))

    def again(**batch: Tensor) -> Any:
        with torch.enable_grad():
            return truth(batch)

    verdict = judge(again, ((), columns), got, right, coarsest(program))
    if bool((got[1] - right[1]).abs().max() <= NOTHING * (1 + right[0].abs())) and verdict.startswith("another number"):
        verdict = "rounding"  # terms as large as the value that cancel in the gradient
    if verdict in ("same", "rounding"):
        kept = "rows" if value.scheme.plan is None else "constant"
        return End(kept if verdict == "same" else verdict, kind, "gradient")
    return End("wrong", kind, "gradient", verdict)
