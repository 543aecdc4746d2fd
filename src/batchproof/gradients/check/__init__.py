"""Is the accumulated gradient that of the whole batch: measure, and name the cause."""

from batchproof.gradients.check.causes import COUNT
from batchproof.gradients.check.check_gradients import check_gradients
from batchproof.gradients.check.conclude import conclude
from batchproof.gradients.check.contents import contents
from batchproof.gradients.check.determinism import drops, without_dropout
from batchproof.gradients.check.measure import NARROW_TOLERANCE
from batchproof.gradients.check.record import GradientRecorder
from batchproof.gradients.check.result import GradientCheck, MicroBatchWeights, ParameterGradient, WindowGradient
from batchproof.gradients.check.step import Count, Step, Wrap
from batchproof.gradients.check.subject import Model, subject_of

__all__ = [
    "COUNT",
    "NARROW_TOLERANCE",
    "Count",
    "GradientCheck",
    "GradientRecorder",
    "MicroBatchWeights",
    "Model",
    "ParameterGradient",
    "Step",
    "WindowGradient",
    "Wrap",
    "check_gradients",
    "conclude",
    "contents",
    "drops",
    "subject_of",
    "without_dropout",
]
