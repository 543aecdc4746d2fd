"""batchproof: batch size should be a memory knob, never a results knob.

The public names are imported when they are first asked for, so that ``import batchproof`` costs nothing and a tool
that only reads source never meets torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from batchproof.errors import BatchproofError
from batchproof.version import VERSION

TYPE_CHECKING = False  # typing's own constant costs more to import than all of this
if TYPE_CHECKING:
    from batchproof import testing
    from batchproof.accumulate import Accumulator, accumulate
    from batchproof.check_gradients import GradientCheck, check_gradients
    from batchproof.explain import Explanation, explain
    from batchproof.gradient_noise import GradientNoise, gradient_noise
    from batchproof.metric.exact import Exact, exact
    from batchproof.simulate import Simulation, simulate

__version__ = VERSION
__all__ = [
    "Accumulator", "BatchproofError", "Exact", "Explanation", "GradientCheck", "GradientNoise", "Simulation",
    "__version__", "accumulate", "check_gradients", "exact", "explain", "gradient_noise", "simulate", "testing",
]  # fmt: skip

_HOME = {
    "Accumulator": "accumulate", "Exact": "metric.exact", "Explanation": "explain", "GradientCheck": "check_gradients",
    "GradientNoise": "gradient_noise", "Simulation": "simulate", "accumulate": "accumulate",
    "check_gradients": "check_gradients", "exact": "metric.exact", "explain": "explain", "gradient_noise": "gradient_noise",
    "simulate": "simulate", "testing": "testing",
}  # fmt: skip


class _Package(ModuleType):
    # `exact`, `explain` and others are functions that live in modules of the same name. The import of such a module
    # ends by setting it as this package's attribute, where it would hide the function.
    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name, value)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOME[name]}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from batchproof.errors import TorchMissing

        raise TorchMissing(
            f"batchproof.{name} needs torch, and this Python has none ({sys.executable}).\n"
            "Install it with: pip install torch    (other builds: https://pytorch.org/get-started/locally)",
            name="torch",
        ) from error
    value: object = module if name == "testing" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
