"""Losses that an installed model computes itself: by which of torch's loss functions, and of what.

A script that reads ``model(**batch).loss`` has no line that computes it. While such a model is called, calls of torch's
loss functions are noted, and the arithmetic on what they give. What the model hands back of it is put into the trace as
a function of the tensors that the loss functions were called with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from batchproof.scripts.run.trace import parts

#: Torch's losses whose samples are the rows of ``input`` and ``target``.
_LOSSES = (
    "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss", "soft_margin_loss",
)  # fmt: skip
#: Those whose mean is over the targets that are not ignored.
BY_TARGET = ("cross_entropy", "nll_loss")
#: Tensors among their arguments that belong to no sample.
_OF_CLASSES = {("cross_entropy", "weight"), ("nll_loss", "weight"), ("binary_cross_entropy_with_logits", "pos_weight")}
_ARITHMETIC = {
    "add", "radd", "sub", "rsub", "subtract", "mul", "rmul", "multiply", "div", "truediv", "true_divide", "divide",
    "neg", "float", "to", "detach", "clone", "mean", "sum", "squeeze", "sqrt", "exp", "log",
}  # fmt: skip
_IN_PLACE: dict[str, Any] = {
    "add_": torch.add, "__iadd__": torch.add, "sub_": torch.sub, "__isub__": torch.sub, "mul_": torch.mul,
    "__imul__": torch.mul, "div_": torch.div, "__itruediv__": torch.div,
}  # fmt: skip
_DIVISIONS = {"div", "truediv", "true_divide", "divide"}
_CONSTANTS = (bool, int, float, str, torch.dtype, torch.device, type(None))


@dataclass(frozen=True)
class LossOfTensors:
    """A single number as a function of the tensors that loss functions were called with.

    Attributes:
        key: what it computes; two of one key are the same function.
        function: it.
        names: what it is called with.
        held: tensors that it holds, which are the same for every batch.
        options: of one of torch's, all else that it is called with; None for what is computed from several.
    """

    key: tuple[Any, ...]
    function: Callable[..., Any]
    names: tuple[str, ...]
    held: tuple[Any, ...] = ()
    options: dict[str, Any] | None = None

    @property
    def is_by_target(self) -> bool:
        """Whether it is a mean over the targets that are not ignored."""
        return self.key[0] in BY_TARGET

    def __call__(self, *tensors: Any) -> Any:
        return self.function(*tensors)


@dataclass(frozen=True)
class TrackedLoss:
    """A number that came out of loss functions, and the tensors that it is a function of.

    Attributes:
        value: the number.
        loss: the function.
        tensors: what the function was called with.
        per_target: of a sum over targets that was divided by a number of items, what its mean over targets would be,
            and how many targets there are.
    """

    value: Any
    loss: LossOfTensors
    tensors: tuple[Any, ...]
    per_target: tuple[Any, Any] | None = None


class LossCalls(TorchFunctionMode):
    """Notes loss functions and what is made of their values, while it is entered.

    Args:
        sizes: how many samples, rows or tokens a batch has: what a number is divided by that is one of these is no
            constant.
    """

    def __init__(self, sizes: frozenset[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.tracked: dict[int, TrackedLoss] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim == 0:
            try:
                found = self._loss(func, args, kwargs or {}, result)
            except (TypeError, ValueError):  # called in a way of its own
                found = None
            if found is not None:
                self.tracked[id(result)] = found
            elif _changes(getattr(func, "__name__", "")):
                self.tracked.pop(id(result), None)
        return result

    def within(self, value: Any) -> Iterator[TrackedLoss]:
        """Those that a value is or holds."""
        for _, part in parts(value):
            found = self.tracked.get(id(part))
            if found is not None and found.value is part:
                yield found

    def _loss(self, func: Any, args: Any, kwargs: Any, result: Any) -> TrackedLoss | None:
        name = _loss_names().get(func)
        if name is not None:
            return self._called(name, func, args, kwargs, result)
        name = getattr(func, "__name__", "")
        in_place = _IN_PLACE.get(name)
        if in_place is not None:
            if len(args) == 2 and args[1] == 1 and name in ("__imul__", "mul_", "__itruediv__", "div_"):
                return self.tracked.get(id(result))  # for one process
            return self._computed(in_place.__name__, in_place, args, kwargs, result)
        if name.strip("_") not in _ARITHMETIC or any(part is result for part in args):
            return None
        return self._computed(name.strip("_"), func, args, kwargs, result)

    def _called(self, name: str, func: Any, args: Any, kwargs: Any, result: Any) -> TrackedLoss | None:
        """A loss function's own value."""
        given = dict(inspect.signature(func).bind(*args, **kwargs).arguments)
        tensors = given.pop("input"), given.pop("target")
        if any(given.pop(old, None) is not None for old in ("size_average", "reduce")):
            return None
        held = tuple(value for value in given.values() if isinstance(value, torch.Tensor))
        for argument, value in given.items():
            if isinstance(value, torch.Tensor):
                if (name, argument) not in _OF_CLASSES:
                    return None
            elif not isinstance(value, _CONSTANTS):
                return None
        if tensors[0].ndim == 0 or tensors[1].ndim == 0 or len(tensors[0]) != len(tensors[1]):
            return None
        return TrackedLoss(result, _one_loss(name, given, held), tensors)

    def _computed(self, name: str, func: Any, args: Any, kwargs: Any, result: Any) -> TrackedLoss | None:
        """What arithmetic made of such values."""
        parts_of = [self.tracked.get(id(part)) if isinstance(part, torch.Tensor) else None for part in args]
        known = [part for part in parts_of if part is not None]
        if not known or any(isinstance(part, torch.Tensor) for part in kwargs.values()):
            return None
        if name in _DIVISIONS and len(args) == 2 and parts_of[0] is not None and parts_of[1] is None:
            by_items = _per_item(known[0], args[1], result)
            if by_items is not None:
                return by_items
        constants = [part for part, loss in zip(args, parts_of, strict=True) if loss is None]
        if not all(isinstance(part, _CONSTANTS) for part in (*constants, *kwargs.values())):
            return None
        sizes = self.sizes | {size for loss in known for tensor in loss.tensors for size in tensor.shape[:1]}
        if any(_is_size(part, sizes) for part in constants):
            return None
        return _combined(name, func, args, kwargs, parts_of, result)


def _combined(
    name: str, func: Any, args: Any, kwargs: Any, losses: list[TrackedLoss | None], result: Any
) -> TrackedLoss:
    """A function of the tensors of several losses."""
    tensors: list[Any] = []
    template: list[tuple[Any, int, int]] = []  # a constant, or a function and which of the tensors it takes
    key: list[Any] = [name, tuple(sorted((word, _key(value)) for word, value in kwargs.items()))]
    names: list[str] = []
    held: list[Any] = []
    for part, loss in zip(args, losses, strict=True):
        if loss is None:
            template.append((part, -1, -1))
            key.append(_key(part))
            continue
        template.append((loss.loss, len(tensors), len(tensors) + len(loss.tensors)))
        tensors += loss.tensors
        names += loss.loss.names
        held += loss.loss.held
        key.append(loss.loss.key)

    def function(*given: Any) -> Any:
        return func(*(part if end < 0 else part(*given[start:end]) for part, start, end in template), **kwargs)

    return TrackedLoss(result, LossOfTensors(tuple(key), function, tuple(names), tuple(held)), tuple(tensors))


def _one_loss(name: str, options: dict[str, Any], held: tuple[Any, ...]) -> LossOfTensors:
    """One of torch's, with all but its samples given."""
    func = getattr(functional, name)
    key = (name, *((argument, _key(value)) for argument, value in sorted(options.items())))
    return LossOfTensors(key, lambda one, other: func(one, other, **options), ("input", "target"), held, options)


def _per_item(loss: TrackedLoss, items: Any, result: Any) -> TrackedLoss | None:
    """A sum that is divided by a number of items: the loss function's own mean, as long as the values say the same."""
    options = loss.loss.options
    if options is None or options.get("reduction") != "sum":
        return None
    name, target = loss.loss.key[0], loss.tensors[1]
    mean = _one_loss(name, {**options, "reduction": "mean"}, loss.loss.held)
    per_target = None
    if name in BY_TARGET and not target.is_floating_point() and options.get("weight") is None:
        count = (target != options.get("ignore_index", -100)).sum()
        per_target = result.detach() * items / count, count
    return TrackedLoss(result, mean, loss.tensors, per_target)


def _changes(name: str) -> bool:
    """Whether a function changes its tensor: ``mul_``, ``__imul__``."""
    return name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))


def _key(value: Any) -> Any:
    return ("tensor", id(value)) if isinstance(value, torch.Tensor) else value


def _is_size(value: Any, sizes: frozenset[int]) -> bool:
    """Whether a number may be how many samples a batch has, or one by that."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value:
        return False
    return any(abs(value) == size or abs(1 / value - size) < 1e-6 * size for size in sizes if size > 1)


@lru_cache(maxsize=1)
def _loss_names() -> Mapping[Any, str]:
    return {getattr(functional, name): name for name in _LOSSES}


def sizes_of(arguments: Any) -> frozenset[int]:
    """How many rows the tensors of a call have."""
    return frozenset(int(part.shape[0]) for _, part in parts(arguments) if isinstance(part, torch.Tensor) and part.ndim)
