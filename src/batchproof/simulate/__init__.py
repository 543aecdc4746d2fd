"""simulate: the value on all samples, and the mean of per-batch values, over batch sizes."""

from batchproof.simulate.simulate import simulate
from batchproof.simulate.simulation import Estimate, Row, Simulation

__all__ = ["Estimate", "Row", "Simulation", "simulate"]
