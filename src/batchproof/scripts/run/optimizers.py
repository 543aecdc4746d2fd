"""Optimizer steps: counted, and where a run was asked to, with another learning rate or without effect."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

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
    _undo: list[Callable[[], None]] = field(default_factory=list)

    def watch(self, optim: ModuleType) -> None:
        """Begin, once ``torch.optim.optimizer`` is there."""
        handles = [
            optim.register_optimizer_step_pre_hook(self._before_step),
            optim.register_optimizer_step_post_hook(self._after_step),
        ]
        self._undo += [handle.remove for handle in handles]
        if self.may_freeze:
            self._freezable(optim.Optimizer)

    def stop(self) -> None:
        """Leave torch as it was."""
        while self._undo:
            self._undo.pop()()

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

    def _freezable(self, kind: Any) -> None:
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

        kind.__init__ = __init__
        self._undo.append(lambda: setattr(kind, "__init__", begin))


def _as_set(group: dict[str, Any], rate: float) -> float:
    """What a group's learning rate was before a schedule warmed up to it, or cooled down from it."""
    known = (group.get("max_lr"), group.get("initial_lr"))
    return next((float(value) for value in known if isinstance(value, (int, float)) and value), rate)
