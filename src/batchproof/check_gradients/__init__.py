"""Is the accumulated gradient that of the whole batch: measure, and name the cause."""

from batchproof.check_gradients.check import check_gradients
from batchproof.check_gradients.result import GradientCheck, MicroBatchWeights, ParameterGradient, WindowGradient

__all__ = ["GradientCheck", "MicroBatchWeights", "ParameterGradient", "WindowGradient", "check_gradients"]
