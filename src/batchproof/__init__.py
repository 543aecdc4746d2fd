"""batchproof: batch size should be a memory knob, never a results knob.

The public names are imported when they are first asked for, so that ``import batchproof`` costs nothing and a tool
that only reads source never meets torch.
"""

from __future__ import annotations

from importlib import import_module

from batchproof.errors import BatchproofError
from batchproof.version import VERSION

TYPE_CHECKING = False  # typing's own constant costs more to import than all of this
if TYPE_CHECKING:
    from batchproof import testing
    from batchproof.explanation import Explanation, explain
    from batchproof.gradients.accumulation import Accumulator, accumulate
    from batchproof.gradients.check import GradientCheck, check_gradients
    from batchproof.gradients.noise import GradientNoise, gradient_noise
    from batchproof.gradients.partitions import PartitionCheck, check_partitions, micro_batch_weights
    from batchproof.metric import Aggregation, Exact, ExactMany, PartialState, exact, plan
    from batchproof.scoring import Scores, score
    from batchproof.simulation import Simulation, simulate

__version__ = VERSION
__all__ = [
    "Accumulator", "Aggregation", "BatchproofError", "Exact", "ExactMany", "Explanation", "GradientCheck",
    "GradientNoise", "PartialState", "PartitionCheck", "Scores", "Simulation", "__version__", "accumulate",
    "check_gradients", "check_partitions", "exact", "explain", "gradient_noise", "micro_batch_weights", "plan",
    "score", "simulate", "testing",
]  # fmt: skip

#: The room of each name.
_ROOMS = {
    "Accumulator": "gradients.accumulation",
    "Aggregation": "metric",
    "Exact": "metric",
    "ExactMany": "metric",
    "Explanation": "explanation",
    "GradientCheck": "gradients.check",
    "GradientNoise": "gradients.noise",
    "PartialState": "metric",
    "PartitionCheck": "gradients.partitions",
    "Scores": "scoring",
    "Simulation": "simulation",
    "accumulate": "gradients.accumulation",
    "check_gradients": "gradients.check",
    "check_partitions": "gradients.partitions",
    "exact": "metric",
    "explain": "explanation",
    "gradient_noise": "gradients.noise",
    "micro_batch_weights": "gradients.partitions",
    "plan": "metric",
    "score": "scoring",
    "simulate": "simulation",
}


def __getattr__(name: str) -> object:
    if name == "testing":
        return import_module("batchproof.testing")
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from batchproof.ground.torch_versions import require

    require(f"batchproof.{name}")
    value: object = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
