"""Which calls of a script may be made a second time, on other values: those that neither change nor draw anything."""

from __future__ import annotations

import inspect
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from batchproof.scripts.run.trace import is_a, is_tensor

_BUILTINS = {
    "abs", "all", "any", "bool", "dict", "divmod", "enumerate", "float", "int", "isinstance", "len", "list", "map",
    "max", "min", "pow", "range", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip", "getattr",
}  # fmt: skip
_RANDOM = {
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli",
    "multinomial", "poisson", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "gumbel_softmax",
    "feature_dropout", "rrelu", "sample", "rsample",
}  # fmt: skip
_MODULES = (
    "torch",
    "numpy",
    "math",
    "sklearn",
    "scipy",
    "torchmetrics",
    "torchvision",
    "einops",
    "operator",
    "statistics",
)


class Opaque(Exception):
    """A call that must not be made again, with the reason; whether it is one of a model."""

    def __init__(self, reason: str, is_model: bool = False) -> None:
        super().__init__(reason)
        self.is_model = is_model


def may_be_called_again(callee: Any, holder: Any, method: str, arguments: list[Any], through_models: bool) -> bool:
    """Whether the call is one of the script's own functions; False for one of a library.

    Args:
        callee: what is called; None where it is not known.
        holder: for a method, its object.
        method: its name.
        arguments: what it is called with, as far as that is known.
        through_models: whether a model may be called.

    Raises:
        Opaque: it must not be.
    """
    if not through_models and any(is_model(argument) for argument in arguments):
        raise Opaque("it is computed in a function that also calls the model", is_model=True)
    if any(_is_optimizer(argument) for argument in arguments):
        raise Opaque("it is computed in a function that also takes an optimizer step", is_model=True)
    if callee is None:
        raise Opaque("what is called is not known")
    if is_tensor(holder):
        if method in ("backward", "requires_grad_") or (method.endswith("_") and not method.endswith("__")):
            raise Opaque(f"{method} changes its tensor")
        if method in _RANDOM:
            raise Opaque(f"{method} draws random numbers")
        return False
    if is_model(callee):
        if through_models:
            return True
        raise Opaque("the model computes it", is_model=True)
    if _is_module(callee):
        if _keeps_state(callee):
            raise Opaque(f"{type(callee).__name__} keeps a state of its own")
        return True
    return _function(callee, through_models)


def _function(callee: Any, through_models: bool) -> bool:
    name = getattr(callee, "__name__", type(callee).__name__)
    home = _home(callee)
    if name in _RANDOM or home == "random" or ".random" in str(getattr(callee, "__module__", "")):
        raise Opaque(f"{name} draws random numbers")
    if home == "builtins" and not isinstance(callee, (FunctionType, MethodType)):
        if isinstance(callee, type) or name in _BUILTINS or _is_of_plain_value(callee):
            return False
        raise Opaque(f"{name} is not for a second call")
    if home in _MODULES or home == "_operator":
        return False
    if isinstance(callee, (FunctionType, MethodType)) or callable(callee):
        if isinstance(callee, type):
            return True
        if inspect.isgeneratorfunction(callee) or inspect.iscoroutinefunction(callee):
            raise Opaque(f"{name} is a generator")
        _look_into(callee, through_models)
        return True
    raise Opaque(f"{name} is not for a second call")


def _look_into(callee: Any, through_models: bool) -> None:
    """Refuse a function that holds or names a model or an optimizer."""
    from batchproof.ground.isolation import reachable

    for thing in [*reachable(callee), *_named_by(callee)]:
        if _is_optimizer(thing):
            raise Opaque("it is computed in a function that also takes an optimizer step", is_model=True)
        if is_model(thing) and not through_models:
            raise Opaque("it is computed in a function that also calls the model", is_model=True)


def _named_by(callee: Any) -> list[Any]:
    function = getattr(callee, "__func__", callee)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    names = getattr(function, "__globals__", {})
    return [names[name] for name in code.co_names if name in names]


def is_model(thing: Any) -> bool:
    """Whether it is a module with parameters that learn."""
    return _is_module(thing) and any(True for _ in thing.parameters())


def _is_module(thing: Any) -> bool:
    return is_a(thing, "torch.nn", "Module")


def _is_optimizer(thing: Any) -> bool:
    return is_a(thing, "torch.optim", "Optimizer")


def _keeps_state(module: Any) -> bool:
    return callable(getattr(module, "update", None)) and callable(getattr(module, "compute", None))


def _home(callee: Any) -> str:
    """The package that it comes from."""
    owner = getattr(callee, "__self__", None) if isinstance(callee, BuiltinFunctionType) else None
    if isinstance(owner, ModuleType):
        return owner.__name__.partition(".")[0]
    module = getattr(callee, "__module__", None)
    if owner is not None and module is None:
        module = owner.__module__ if isinstance(owner, type) else type(owner).__module__
    return (module or type(callee).__module__ or "").partition(".")[0]


def _is_of_plain_value(callee: Any) -> bool:
    """Whether it is a method of a string, a number or a tuple, or only looks something up."""
    owner = getattr(callee, "__self__", None)
    if isinstance(owner, (dict, list)):
        return callee.__name__ in ("get", "items", "keys", "values", "index", "count", "copy")
    return isinstance(owner, (str, int, float, tuple, bytes))
