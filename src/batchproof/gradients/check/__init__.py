"""Is the accumulated gradient that of the whole batch: measure, and name the cause."""

from batchproof.gradients.check.causes import COUNT
from batchproof.gradients.check.check_gradients import Model, check_gradients, conclude, subject_of
from batchproof.gradients.check.determinism import drops, without_dropout
from batchproof.gradients.check.measure import NARROW_TOLERANCE
from batchproof.gradients.check.record import GradientRecorder
from batchproof.gradients.check.result import GradientCheck, MicroBatchWeights, ParameterGradient, WindowGradient

__all__ = [
    "COUNT",
    "NARROW_TOLERANCE",
    "GradientCheck",
    "GradientRecorder",
    "MicroBatchWeights",
    "Model",
    "ParameterGradient",
    "WindowGradient",
    "check_gradients",
    "conclude",
    "drops",
    "subject_of",
    "without_dropout",
]
