"""Hold what was learned of a loss's gradient against the gradient that the loss gives itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from batchproof.gradients.accumulation.analysis import Cut, LossAnalysis
from batchproof.gradients.accumulation.outputs import loss_of, variables, with_gradient
from batchproof.gradients.accumulation.samples import pieces_of
from batchproof.ground.batch import Batch, signature
from batchproof.ground.isolation import quiet
from batchproof.ground.tensors import gap

#: Two gradients agree where they differ by the rounding of float64; or of the narrower type that the loss works in.
ROUNDING = 1e-8
NARROW_ROUNDING = 1e-4
HALF_ROUNDING = 2e-2


class Unfit(Exception):
    """No gradient can be had from the plan; the message says why, and the outputs are kept."""


def compare(analysis: LossAnalysis, training_rows: Batch) -> None:
    """Hold the gradient of the pieces against the one that the loss gives itself.

    They differ where the loss computes a part without a graph (`no_grad`), with a backward of its own, or through a
    hook: the recorded operations know nothing of that.

    Raises:
        Unfit: they differ.
    """
    if any(tensor.requires_grad for tensor, _ in analysis.sources):
        raise Unfit("a parameter of its own enters a sum around a batch statistic")
    wide = Batch(training_rows.layout, [_widened(leaf) for leaf in training_rows.leaves], training_rows.n)
    folds = dict(analysis.folds)
    analysis.folds[signature(wide)] = folds[signature(training_rows)]  # the very same code
    try:
        error = _gradient_gap(analysis, wide)
        room = NARROW_ROUNDING if analysis.plan.computes_narrow else ROUNDING
    except Exception:  # noqa: BLE001 - its own parameters are float32, say, and cannot meet float64
        error = _gradient_gap(analysis, training_rows)
        room = HALF_ROUNDING if _is_half(training_rows) else NARROW_ROUNDING
    finally:
        analysis.folds = folds
    if not error <= room:
        raise Unfit(
            f"its own gradient is another one than that of its operations (by {error:.0e}): it computes a part "
            "without a graph, or with a backward of its own"
        )


def _gradient_gap(analysis: LossAnalysis, training_rows: Batch) -> float:
    params = list(analysis.own())
    expected = _own_gradient(analysis, training_rows, params)
    found = _from_pieces(analysis, training_rows, params)
    return max(gap(mine, theirs) for mine, theirs in zip(found, expected, strict=True))


def _own_gradient(analysis: LossAnalysis, training_rows: Batch, params: Sequence[Tensor]) -> Sequence[Tensor]:
    """The gradient by the outputs and by the loss's own parameters, as the loss gives it."""
    call = with_gradient(training_rows, analysis.flags)
    with torch.enable_grad(), quiet(analysis.stream.fn):
        loss = loss_of(analysis.stream.fn, call)
    return torch.autograd.grad(loss, [*variables(call), *params], materialize_grads=True)


def _from_pieces(analysis: LossAnalysis, training_rows: Batch, params: Sequence[Tensor]) -> list[Tensor]:
    """The same, as `accumulate` comes to it."""
    own = analysis.own()
    total = analysis.empty()
    pieces = [with_gradient(piece, analysis.flags) for piece in pieces_of(training_rows)]
    with torch.no_grad():
        for piece in pieces:
            total.add(analysis.fold(piece, {}))
    found = analysis.slope(total.state, total)
    cut = Cut(analysis.plan, found.leaves, [0] * len(found.leaves))
    for piece in pieces:
        with torch.enable_grad():
            part = analysis.fold(piece, own)
        analysis.pull(part, cut.next(part))
        del part  # and its graph
    through = {tensor: variable.grad for tensor, variable in own.items() if variable.grad is not None}
    direct = found.direct
    zero = [torch.zeros_like(param) for param in params]
    own_grads = [through.get(p, z) + direct.get(p, z) for p, z in zip(params, zero, strict=True)]
    return [*_joined(pieces), *own_grads]


def _joined(pieces: Sequence[Batch]) -> list[Tensor]:
    """The gradients of each output's pieces, put together."""
    gathered = []
    for place, dim in enumerate(pieces[0].layout.dims):
        parts = [piece.leaves[place] for piece in pieces]
        if isinstance(parts[0], Tensor) and parts[0].requires_grad:
            grads = [torch.zeros_like(part) if part.grad is None else part.grad for part in parts]
            gathered.append(torch.stack(grads).sum(0) if dim is None else torch.cat(grads, dim))
    return gathered


def _widened(leaf: Any) -> Any:
    return leaf.detach().double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _is_half(call: Batch) -> bool:
    return any(leaf.dtype in (torch.float16, torch.bfloat16) for leaf in call.leaves if isinstance(leaf, Tensor))
