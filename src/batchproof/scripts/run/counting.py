"""How many samples a batch has: told by the first tensor that the loop took from its loader."""

from __future__ import annotations

import sys
from typing import Any

from batchproof.scripts.run.trace import parts


def samples_of(target: Any, along: int = 0) -> int | None:
    """How many samples a batch has: the length of its first tensor."""
    torch = sys.modules.get("torch")
    found = None if torch is None else _first_batch(target, torch.Tensor)
    return None if found is None or found.ndim <= along else int(found.shape[along])


def dimension_of(target: Any, size: Any) -> int:
    """Along which dimension of a loader's tensors samples lie: the second, where only that is as long as a batch."""
    torch = sys.modules.get("torch")
    found = None if torch is None or type(size) is not int else _first_batch(target, torch.Tensor)
    return int(found is not None and found.ndim > 1 and found.shape[0] != size and found.shape[1] == size)


def _first_batch(target: Any, tensor: Any) -> Any:
    """The first tensor that is no single number."""
    if isinstance(target, tensor):
        return target if target.ndim else None
    if isinstance(target, (tuple, list)):
        for part in target:
            found = _first_batch(part, tensor)
            if found is not None:
                return found
        return None
    if target is None or isinstance(target, (int, float, str)):
        return None
    for path, part in parts(target):
        if path and isinstance(part, tensor) and part.ndim > 0:
            return part
    return None
