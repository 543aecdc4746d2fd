"""gradient_noise: how near a mini-batch's gradient comes to the full one, over batch sizes."""

from batchproof.gradients.noise.gradient_noise import gradient_noise
from batchproof.gradients.noise.result import GradientNoise, Method, NoiseRow

__all__ = ["GradientNoise", "Method", "NoiseRow", "gradient_noise"]
