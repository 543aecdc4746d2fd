"""What a script calls ``backward()`` on, and whether that is a sum over the batch: then larger batches step farther."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

#: Batches of a pass that are looked at.
MOST = 32
SAME = 1e-4


class Roots:
    """The values that gradients were taken of, by the loop that they were taken in."""

    def __init__(self, loop: Callable[[], int | None]) -> None:
        self._loop = loop
        self._values: dict[int, list[Any]] = {}
        self._undo: Callable[[], None] = lambda: None

    def watch(self, autograd: ModuleType) -> None:
        """Begin, once ``torch.autograd`` is there."""
        backward = autograd.backward

        def noting(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            self._note(tensors)
            return backward(tensors, *args, **kwargs)

        noting.__wrapped__ = backward  # type: ignore[attr-defined]
        autograd.backward = noting  # type: ignore[attr-defined]
        self._undo = lambda: setattr(autograd, "backward", backward)

    def stop(self) -> None:
        """Leave torch as it was."""
        self._undo()

    def begins(self, loop: int) -> None:
        """A pass over a loader."""
        self._values.pop(loop, None)

    def of(self, loop: int) -> list[Any]:
        """What gradients were taken of in a loop's last pass."""
        return self._values.get(loop, [])

    def _note(self, tensors: Any) -> None:
        loop = self._loop()
        first = tensors[0] if isinstance(tensors, (list, tuple)) and tensors else tensors
        if loop is None or not hasattr(first, "detach"):
            return
        values = self._values.setdefault(loop, [])
        if len(values) < MOST:
            values.append(first.detach())


def trains_on_sum(
    roots: Sequence[float], added: Sequence[float], counts: Sequence[int | None], is_sum: bool | None
) -> bool | None:
    """Whether the loss that is trained on is a sum, where it is a multiple of what the script adds up.

    Args:
        roots: what gradients were taken of, batch by batch.
        added: what the script added for the same batches.
        counts: how many samples they have.
        is_sum: whether what is added is a sum.

    Returns:
        None where the two have nothing to do with each other.
    """
    shared = min(len(added), MOST)
    if is_sum is None or not shared or len(roots) < shared or (len(added) < MOST and len(roots) != shared):
        return None
    pairs = list(zip(roots, added[:shared], counts[:shared], strict=False))
    if not all(value and math.isfinite(value) and math.isfinite(root) for root, value, _ in pairs):
        return None
    factors = [root / value for root, value, _ in pairs]
    sizes = [size or 1 for _, _, size in pairs]
    if not is_sum and _alike(factors, sizes) and max(sizes) > 1:
        return True  # the mean is reported, and its sum is trained on
    if is_sum and _alike([factor * size for factor, size in zip(factors, sizes, strict=False)], [1.0] * shared):
        return False
    return is_sum if _alike(factors, [factors[0]] * shared) else None


def _alike(ones: Sequence[float], others: Sequence[float]) -> bool:
    return all(math.isclose(one, other, rel_tol=SAME) for one, other in zip(ones, others, strict=False))
