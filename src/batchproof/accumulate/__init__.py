"""The exact gradient from micro-batches: the loss and its gradient on all of them together."""

from batchproof.accumulate.accumulate import accumulate
from batchproof.accumulate.accumulator import Accumulator

__all__ = ["Accumulator", "accumulate"]
