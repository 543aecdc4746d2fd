"""The module in which samples meet: the first whose outputs move where no sample of theirs has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from batchproof.accumulate.replay import Replay

#: A module's name and kind, and for each row of its output one number.
Record = tuple[str, Tensor]


def first_that_mixes(
    modules: Sequence[torch.nn.Module], run: Callable[[bool], Any], n: int, changed: Sequence[int], room: float
) -> str:
    """Its name and kind; ``forward`` where it is none of the modules.

    Args:
        modules: to look into.
        run: forward, without and with the change.
        n: samples.
        changed: which of them are changed.
        room: by what share of its size an output may differ.
    """
    try:
        before, after = (_recorded(modules, partial(run, changing), n) for changing in (False, True))
    except Exception:  # noqa: BLE001 - hooks are more than some models take; the refusal stands without a name
        return "forward"
    for (name, a), (other, b) in zip(before, after, strict=False):
        if name != other or a.shape != b.shape:
            break
        moved = ((a - b).abs() > room * a.abs().amax()) | (a.isfinite() != b.isfinite())
        if len(a) == n:
            moved[list(changed)] = False
        if int(moved.sum()) > (0 if len(a) == n else len(changed) * (len(a) // n)):
            return name
    return "forward"


def _recorded(modules: Sequence[torch.nn.Module], run: Callable[[], Any], n: int) -> list[Record]:
    """A number for each row of what each module gave, in the order in which they were done."""
    found: list[Record] = []

    def hook(name: str) -> Callable[..., None]:
        def seen(module: torch.nn.Module, args: Any, output: Any) -> None:
            kind = f"{name} ({type(module).__name__})" if name else type(module).__name__
            tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
            found.extend((kind, rows) for leaf in tensors if (rows := _rows(leaf, n)) is not None)

        return seen

    handles = [part.register_forward_hook(hook(name)) for module in modules for name, part in module.named_modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _rows(output: Tensor, n: int) -> Tensor | None:
    if not output.is_floating_point() or not output.numel():
        return None
    if output.ndim and output.shape[0] % n == 0:
        rows = output.detach().reshape(len(output), -1)
    elif output.ndim > 1 and output.shape[1] == n:
        rows = output.detach().movedim(1, 0).reshape(n, -1)
    else:
        return None
    weights = torch.arange(rows.shape[1], dtype=torch.float64, device=rows.device).add(1).cos()
    return rows.double() @ weights


def first_that_remembers(modules: Sequence[torch.nn.Module], replay: Replay) -> str:
    """The name and kind of the first module that has written a number into a buffer; ``forward`` where it is none."""
    written = [
        slot for slot in replay.slots if slot.changed and _is_other(slot.module._buffers[slot.name], slot.content)
    ]
    names = {part: name for module in modules for name, part in module.named_modules()}
    for slot in written:
        name = names.get(slot.module, "")
        return f"{name} ({type(slot.module).__name__}, its buffer {slot.name!r})".strip()
    return "forward"


def _is_other(now: Tensor | None, then: Tensor | None) -> bool:
    if now is None or then is None:
        return now is not then
    return now.is_floating_point() and (now.shape != then.shape or not torch.equal(now, then))
