"""Is the accumulated gradient that of the whole batch: measure, and name the cause."""

from batchproof.gradients.check.check_gradients import check_gradients
from batchproof.gradients.check.result import GradientCheck, MicroBatchWeights, ParameterGradient, WindowGradient

__all__ = ["GradientCheck", "MicroBatchWeights", "ParameterGradient", "WindowGradient", "check_gradients"]
