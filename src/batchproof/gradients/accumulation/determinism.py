"""Whether a second pass gives what the first gave."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from batchproof.errors import BatchproofError
from batchproof.gradients.accumulation.grad_store import COMPILED, nodes_of

#: The second pass must give what the first gave, but for kernels that round in another way without a graph.
REPEATS = {torch.float64: 1e-9, torch.complex128: 1e-9}
NARROW_REPEATS = 1e-3
HALF_REPEATS = 2e-2


def differs(now: Tensor, then: Tensor) -> Tensor:
    """By what share of its size a tensor differs from what it was; left on its device."""
    now, then = (x.detach() if x.dtype in REPEATS else x.detach().float() for x in (now, then))
    if now.shape != then.shape:
        return torch.full((), float("inf"), device=now.device)
    same = (now == then) | ((now != now) & (then != then))
    finite = torch.where(then.isfinite(), then, torch.zeros_like(then))
    off = torch.where(same, torch.zeros_like(then), now - then)
    error: Tensor = off.norm() / finite.norm().clamp_min(1e-30)
    return error.nan_to_num(float("inf")).double()


def room_for(outputs: Sequence[Tensor]) -> float:
    """By how much outputs may differ from one pass to the other."""
    narrow = {output.dtype for output in outputs}
    for node in nodes_of(outputs):
        hidden = {torch.half} if type(node).__name__ == COMPILED else set()
        narrow |= hidden | {made.dtype for made in node._input_metadata}
    if narrow & {torch.half, torch.bfloat16}:
        return HALF_REPEATS
    return max((REPEATS.get(output.dtype, NARROW_REPEATS) for output in outputs), default=NARROW_REPEATS)


def check_repeats(errors: Sequence[Tensor], room: float) -> None:
    """Raise BatchproofError where the second pass gave other outputs than the first."""
    if errors and not bool(torch.stack(list(errors)).amax() <= room):
        raise BatchproofError(
            "forward gave other outputs in the second pass, which this loss needs: it must give the same for the same "
            "micro-batch (random numbers of torch, numpy and random are replayed, and buffers put back), and "
            "micro_batches must come in the same order: pass a list of them"
        )
