"""Optimizer steps: counted, and where a run was asked to, with another learning rate or without effect.

What gradients are taken of is noted too: of a sum over the batch, larger batches step farther.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from batchproof.scripts.run.loaders import Undo, replaced

#: Others divide by the gradient's own size: to them, a loss that is twice as large is the same loss.
_FOLLOW_SCALE = {"SGD", "ASGD"}


@dataclass
class Optimizers:
    """What the script's optimizers do.

    Attributes:
        factor: what every step's learning rate is multiplied by.
        stepped: called after each step.
        frozen: whether steps are without effect now.
        first_rate: the learning rate of the first step, as the script set it; a schedule's warm-up left out.
        follows_scale: whether the first optimizer's steps are as long as the gradient is.
        scheduled: whether it changed on the way.
    """

    factor: float = 1.0
    may_freeze: bool = False
    stepped: Callable[[], None] = lambda: None
    frozen: bool = False
    first_rate: float | None = None
    follows_scale: bool | None = None
    scheduled: bool = False
    _rates: dict[int, float] = field(default_factory=dict)
    _before: list[Any] = field(default_factory=list)

    def watch(self, optim: ModuleType) -> Undo:
        """Begin, once ``torch.optim.optimizer`` is there."""
        undo = ExitStack()
        undo.callback(optim.register_optimizer_step_pre_hook(self._before_step).remove)
        undo.callback(optim.register_optimizer_step_post_hook(self._after_step).remove)
        if self.may_freeze:
            undo.callback(self._freezable(optim.Optimizer))
        return undo.close

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        groups = optimizer.param_groups
        rate = groups[0].get("lr") if groups else None
        if rate is not None:
            self._note(optimizer, float(rate))
        if self.factor != 1.0:
            self._before = [group.get("lr") for group in groups]
            for group in groups:
                if group.get("lr") is not None:
                    group["lr"] = group["lr"] * self.factor

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self.factor != 1.0:
            for group, rate in zip(optimizer.param_groups, self._before, strict=True):
                if rate is not None:
                    group["lr"] = rate
        self.stepped()

    def _note(self, optimizer: Any, rate: float) -> None:
        if self.first_rate is None:
            self.first_rate = _as_set(optimizer.param_groups[0], rate)
            self.follows_scale = any(kind.__name__ in _FOLLOW_SCALE for kind in type(optimizer).__mro__)
        if self._rates.setdefault(id(optimizer), rate) != rate:
            self.scheduled = True

    def _freezable(self, kind: Any) -> Undo:
        """Let every optimizer that is made from now on ask whether its steps are to have an effect."""
        begin = kind.__init__
        steers = self

        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            begin(optimizer, *args, **kwargs)
            step = type(optimizer).step

            def stepping(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
                if not steers.frozen:
                    return step(optimizer, *args, **kwargs)
                closure = args[0] if args else kwargs.get("closure")
                return closure() if callable(closure) else None

            # a scheduler expects a method here, and wraps it in one of its own
            optimizer.step = types.MethodType(stepping, optimizer)

        return replaced(kind, "__init__", __init__)


def _as_set(group: dict[str, Any], rate: float) -> float:
    """What a group's learning rate was before a schedule warmed up to it, or cooled down from it."""
    known = (group.get("max_lr"), group.get("initial_lr"))
    return next((float(value) for value in known if isinstance(value, (int, float)) and value), rate)


#: Batches of a pass that are looked at.
MOST = 32
SAME = 1e-4


class Roots:
    """The values that gradients were taken of, by the loop that they were taken in."""

    def __init__(self, loop: Callable[[], int | None]) -> None:
        self._loop = loop
        self._values: dict[int, list[Any]] = {}

    def watch(self, autograd: ModuleType) -> Undo:
        """Begin, once ``torch.autograd`` is there."""
        backward = autograd.backward

        def noting(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            self._note(tensors)
            return backward(tensors, *args, **kwargs)

        return replaced(autograd, "backward", noting)

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
