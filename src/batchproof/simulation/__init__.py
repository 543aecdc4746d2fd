"""simulate: the value on all samples, and the mean of per-batch values, over batch sizes."""

from batchproof.report.estimates import Estimate
from batchproof.simulation.result import Simulation, SimulationRow
from batchproof.simulation.simulate import simulate

__all__ = ["Estimate", "Simulation", "SimulationRow", "simulate"]
