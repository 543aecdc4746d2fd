"""What ``batchproof noise`` measures without a target: a linear regression whose noise scale is known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SAMPLES, INPUTS = 1024, 10
#: How far the weights are from those that made the targets, and the standard deviation of the targets' own noise.
OFF, NOISE = 0.5, 1.0
EXPECTED = (
    "without a target this is a linear regression, targets 0.5 x₁ + noise and weights of zero; for endless samples of "
    "it the noise scale is 51"
)


def regression() -> tuple[torch.nn.Module, Callable[..., Tensor], tuple[Tensor, Tensor]]:
    """A model, its loss and its data: standard normal inputs x, and targets ``0.5 x₁ + noise``.

    >>> from batchproof.gradients.noise.example import noise_scale
    >>> noise_scale(inputs=10, off=0.5, noise=1.0)
    51.0
    """
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(SAMPLES, INPUTS, generator=generator)
    target = OFF * inputs[:, :1] + NOISE * torch.randn(SAMPLES, 1, generator=generator)
    model = torch.nn.Linear(INPUTS, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    return model, torch.nn.functional.mse_loss, (inputs, target)


def noise_scale(inputs: int, off: float, noise: float) -> float:
    """tr(Σ) / |G|² of the mean squared error of a linear regression on standard normal inputs, without bias.

    A sample's gradient is ``2 r x``, its residual ``r = d·x - e``, with d how far the weights are off, ``|d| = off``,
    and e the noise.  So ``G = 2 d``, and with normal fourth moments ``E r² |x|² = (inputs + 2) off² + inputs noise²``.
    """
    return ((inputs + 2) * off**2 + inputs * noise**2) / off**2 - 1
