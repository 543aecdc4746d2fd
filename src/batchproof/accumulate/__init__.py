"""The exact gradient from micro-batches: the loss and its gradient on all of them together."""

from batchproof.accumulate.accumulate import accumulate
from batchproof.accumulate.accumulator import Accumulator
from batchproof.accumulate.scheme import Scheme

__all__ = ["Accumulator", "Scheme", "accumulate"]
