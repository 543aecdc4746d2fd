"""simulate: the value on all samples, and the mean of per-batch values, over batch sizes."""

from batchproof.simulation.result import Estimate, Row, Simulation
from batchproof.simulation.simulate import simulate

__all__ = ["Estimate", "Row", "Simulation", "simulate"]
