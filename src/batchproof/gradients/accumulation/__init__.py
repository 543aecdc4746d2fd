"""The exact gradient from micro-batches: the loss and its gradient on all of them together."""

from batchproof.gradients.accumulation.accumulate import accumulate
from batchproof.gradients.accumulation.accumulator import Accumulator
from batchproof.gradients.accumulation.scheme import Scheme

__all__ = ["Accumulator", "Scheme", "accumulate"]
